#!/bin/bash
# fuzz.sh [PACKAGE…] runs every fuzz target of the module, or of these packages, for FUZZTIME (3s): its seeds, then what
# the fuzzer makes of them. Two are built or run at a time. Each package is built once for all of its targets. Inputs are not
# made small for long: that can take all of the time.
set -euo pipefail
cd "$(dirname "$0")/.."

export FUZZTIME=${FUZZTIME:-3s}
FUZZ_DIR=$(mktemp -d) FUZZ_CACHE=$(go env GOCACHE)/fuzz
export FUZZ_DIR FUZZ_CACHE
trap 'rm -rf "$FUZZ_DIR"' EXIT

# package, its directory, the name of its binary, target
targets=$(go list -f '{{.ImportPath}} {{.Dir}}' "${@:-./...}" | while read -r package dir; do
    grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go 2>/dev/null | sed "s|^func |$package $dir ${package//\//-}.test |" || true
done)
[[ -n $targets ]] || { echo 'no fuzz target found' >&2; exit 1; }
binaries=$(cut -d' ' -f1,3 <<<"$targets" | sort -u)
build='go test -c -vet=off -ldflags "-s -w" -fuzz . -o "$FUZZ_DIR/$2" "$1"'
head -n 1 <<<"$binaries" | xargs -L 1 bash -c "$build" build # alone: it compiles what all need
tail -n +2 <<<"$binaries" | xargs -r -P 2 -L 1 bash -c "$build" build
echo "$targets" | xargs -P 2 -L 1 bash -c '
    cd "$2"
    if out=$("$FUZZ_DIR/$3" -test.run "^$" -test.fuzz "^$4\$" -test.fuzztime "$FUZZTIME" -test.fuzzminimizetime 1s -test.parallel 1 \
        -test.fuzzcachedir "$FUZZ_CACHE/$1" 2>&1); then
        echo "$4: $(grep "^fuzz: elapsed" <<<"$out" | tail -n 1)"
    elif [[ $(grep -A1 "^--- FAIL" <<<"$out") == *"context deadline exceeded" && $out != *"Failing input"* ]]; then
        # the time was up just while an input ran: no failure of the target (golang.org/issue/75804)
        echo "$4: $(grep "^fuzz: elapsed" <<<"$out" | tail -n 1)"
    else
        echo "$4 of $1 failed:"; echo "$out"; exit 255
    fi' fuzz
