#!/bin/bash
# steps.sh TARGET… makes each target in turn, with a headline before and its time after, and stops at the first that fails.
set -euo pipefail

for step in "$@"; do
    printf '\n=== %s\n' "$step"
    began=$SECONDS
    make --no-print-directory "$step" || { printf '=== %s failed after %d s\n' "$step" $((SECONDS - began)); exit 1; }
    printf '=== %s passed in %d s\n' "$step" $((SECONDS - began))
done
printf '\nAll of it passed in %d min %02d s.\n' $((SECONDS / 60)) $((SECONDS % 60))
