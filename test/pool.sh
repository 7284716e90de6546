#!/bin/bash
# pool.sh JOBS COMMAND… runs a command in which at most so many tests run at a time, however many of its processes start tests.
# pool.sh COMMAND… runs one of these tests when its turn comes, and at once if there is no pool.
#
# As in make's jobserver, the pool is a pipe with a byte for each job that may start.
set -euo pipefail

if [[ ! $1 =~ ^[0-9]+$ ]]; then
    [[ ! ${POOL:-} ]] || read -rN1 <>"$POOL"
    status=0
    "$@" || status=$?
    [[ ! ${POOL:-} ]] || printf . >"$POOL"
    exit $status
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export POOL=$dir/pool
mkfifo "$POOL"
exec {pool}<>"$POOL" # as long as somebody has it open its bytes are kept
printf "%$1s" '' >&"$pool"
"${@:2}"
