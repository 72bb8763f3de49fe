#!/bin/sh
# The way of README.md from an empty folder to green tests, in Rust, Go and Python: generate, see each test red at its
# first missing step, write the steps and the business, see green. FOLDER is made, and must not exist yet; it must not
# lie in another package, whose workspace `cargo init` would change.
#   from-empty.sh FOLDER
# KEZHAN names the kezhan program, PYTHON a Python that has pytest.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
: "${KEZHAN:=kezhan}" "${PYTHON:=python3}"
KEZHAN=$(command -v "$KEZHAN") || { echo "from-empty.sh: kezhan is not found; name it with KEZHAN" >&2; exit 2; }
KEZHAN=$(realpath "$KEZHAN")
case $PYTHON in */*) PYTHON=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON") ;; esac
mkdir "$1"
cd "$1"
if cargo locate-project >/dev/null 2>&1; then
    echo "from-empty.sh: $PWD lies in a package of Rust; name a folder elsewhere" >&2
    rmdir "$PWD"
    exit 2
fi
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}" RUST_BACKTRACE=0

top=$PWD

say() { printf '\n$ %s\n' "$*"; }

# Runs a command in a folder; what it writes is in the file `said`.
tests() {
    folder=$1
    shift
    if [ "$folder" = . ]; then say "$@"; else say "cd $folder && $*"; fi
    (cd "$folder" && "$@") >"$top/said" 2>&1
}

# Tests that must fail at their first missing step, in English and in Chinese.
red() {
    if tests "$@"; then cat said; echo "expected red, saw green" >&2; exit 1; fi
    grep -F 'is not written yet' said | sed 's/^.*the step "/the step "/' | sort -u
    for step in 'Given the card is valid' '假如卡片有效'; do
        grep -qF "$step" said || { cat said; echo "no test is red at \"$step\"" >&2; exit 1; }
    done
}

green() {
    tests "$@" || { cat said; exit 1; }
    grep -E '^(test result|ok|[0-9]+ passed)' said
}

say "cp -r features ."
cp -r "$here/features" .

say cargo init --lib --name atm
cargo init --quiet --vcs none --lib --name atm
say kezhan bdd generate --lang rust features
"$KEZHAN" bdd generate --lang rust features
red . cargo test --test features
echo '(writing src/bank.rs and tests/steps)'
cp "$here/src/bank.rs" src/
echo 'pub mod bank;' >src/lib.rs
cp "$here"/tests/steps/*.rs tests/steps/
green . cargo test --test features

if command -v go >/dev/null; then
    say kezhan bdd generate --lang go --out go features
    "$KEZHAN" bdd generate --lang go --out go features
    cp "$here/go/go.mod" go/
    red go go test ./...
    echo '(writing go/atm.go and go/*_steps_test.go)'
    cp "$here"/go/atm.go "$here"/go/*_steps_test.go go/
    green go go test ./...
else
    echo "SKIPPED: go is not installed"
fi

if "$PYTHON" -c 'import pytest' 2>/dev/null; then
    say kezhan bdd generate --lang python --out python features
    "$KEZHAN" bdd generate --lang python --out python features
    red python "$PYTHON" -m pytest -q -p no:cacheprovider
    echo '(writing python/atm.py and python/steps_*.py)'
    cp "$here"/python/atm.py "$here"/python/steps_*.py python/
    green python "$PYTHON" -m pytest -q -p no:cacheprovider
else
    echo "SKIPPED: $PYTHON has no pytest"
fi

# What was generated on this way is what the example holds.
for file in tests/features.rs tests/generated/*.rs go/*_generated_test.go python/generated_*.py python/test_*.py; do
    [ ! -f "$file" ] || cmp "$file" "$here/$file"
done
