#!/bin/sh
# Installs the official Gherkin parser and the compatibility kit, and compares ours with them.
set -eu
cd "$(dirname "$0")/../../.."
cargo xtask peers
exec cargo test -p kezhan-gherkin --test official -- --nocapture
