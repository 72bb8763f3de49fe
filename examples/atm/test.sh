#!/bin/sh
# Runs every test of the example: the generated unit tests in Rust, Go and Python, the plain-language tests of the
# service, and schemathesis. KEZHAN names the kezhan program. What needs a tool that is absent is skipped, with the reason.
set -eu
cd "$(dirname "$0")"
: "${KEZHAN:=kezhan}"

"$KEZHAN" bdd lint --no-steps features
"$KEZHAN" bdd fmt --check features acceptance
for pair in rust:tests go:go python:python; do
    "$KEZHAN" bdd generate --check --lang "${pair%%:*}" --out "${pair#*:}" features >/dev/null ||
        { echo "atm: generated files for ${pair%%:*} are stale" >&2; exit 1; }
done

cargo test --quiet
cargo build --quiet
if command -v go >/dev/null; then (cd go && go vet ./... && go test ./...); else echo "SKIPPED: go is not installed"; fi
if "${PYTHON:-python3}" -c 'import pytest' 2>/dev/null; then
    (cd python && "${PYTHON:-python3}" -m pytest -q -p no:cacheprovider)
else
    echo "SKIPPED: ${PYTHON:-python3} has no pytest"
fi

target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
KEZHAN="$KEZHAN" CARGO_TARGET_DIR="$target" ./from-empty.sh "$elsewhere/atm" >"$target/from-empty.log" 2>&1 ||
    { cat "$target/from-empty.log"; exit 1; }
export ATM_PROGRAM="$target/debug/atm" PYTHON="${PYTHON:-python3}"
tags=
if ! "$PYTHON" -c 'import schemathesis' 2>/dev/null; then
    tags="not @schemathesis"
    echo "SKIPPED: $PYTHON has no schemathesis"
fi
"$KEZHAN" bdd run acceptance --tags "$tags" --failures "$target/failed"
"$target/debug/atm" --openapi >"$target/openapi.json"
"$KEZHAN" bdd openapi features acceptance --bindings bindings.toml --from "$target/openapi.json" --complete >/dev/null
echo "atm: all is well"
