#!/bin/bash
# fuzz.sh runs every fuzz target of the module for FUZZTIME, two at a time. Inputs are not made small for long: that
# can take all of the time.
set -euo pipefail

export FUZZTIME=${FUZZTIME:-20s}
targets=$(go list ./... | while read -r package; do
    go test -list '^Fuzz' "$package" | grep '^Fuzz' | sed "s|^|$package |" || true
done)
[[ -n $targets ]] || { echo 'no fuzz target found' >&2; exit 1; }
echo "$targets" | xargs -P 2 -L 1 bash -c '
    if out=$(go test -run "^$" -fuzz "^$2\$" -fuzztime "$FUZZTIME" -fuzzminimizetime 1s -parallel 1 "$1" 2>&1); then
        echo "$2: $(tail -n 3 <<<"$out" | head -n 1)"
    elif [[ $(grep -A1 "^--- FAIL" <<<"$out") == *"context deadline exceeded" && $out != *"Failing input"* ]]; then
        # the time was up just while an input ran: no failure of the target (golang.org/issue/75804)
        echo "$2: $(grep "elapsed" <<<"$out" | tail -n 1)"
    else
        echo "$2 of $1 failed:"; echo "$out"; exit 255
    fi' fuzz
