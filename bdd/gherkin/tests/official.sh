#!/bin/sh
# Fetches the official Gherkin parser (PyPI) and the compatibility kit (npm) below target/, and compares ours with them.
set -eu
cd "$(dirname "$0")/../../.."
cache=target/gherkin-official
mkdir -p "$cache"
[ -x "$cache/venv/bin/python" ] || python3 -m venv "$cache/venv"
"$cache/venv/bin/pip" install --quiet gherkin-official==42.0.1
if [ ! -d "$cache/package" ]; then
    (cd "$cache" && npm pack --silent @cucumber/compatibility-kit@30.0.0 >/dev/null && tar xzf cucumber-compatibility-kit-*.tgz)
fi
KEZHAN_PYTHON="$PWD/$cache/venv/bin/python" KEZHAN_COMPATIBILITY_KIT="$PWD/$cache/package" \
    cargo test -p kezhan-gherkin --test official -- --nocapture
