#!/bin/bash
# e2e.sh [TEST…] runs the tests of this directory, each in a process of its own, four at a time since most of them wait (in a pool
# of pool.sh as many as that says), with a line for each test and subtest as it ends; what a failed test said follows it. TESTs are
# regular expressions of names (default: all).
#
# With DOCKER_BIN the hosts have another Docker than the machine's (test/docker/build.sh makes one). A single subtest:
#   go test -count=1 -run 'TestCaptureCommands/rotation' ./test
set -euo pipefail
cd "$(dirname "$0")"

unset MAKEFLAGS MAKELEVEL # a make that a test runs is no part of one that runs this
as=${DOCKER_BIN:+, with another Docker}${TAPESTRY_AS:+, as a $TAPESTRY_AS}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export dir as IMAGE="$dir/image.tar"
go test -c -vet=off -ldflags '-s -w' -o "$dir/test" .
only=$(IFS='|'; echo "$*")
"$dir/test" -test.list "${only:-.}" | grep '^Test' >"$dir/names" || { echo "no test is called ${only}" >&2; exit 1; }

# What takes longest begins first, or the end would be a wait for it alone.
first='^Test(Swarm|Cluster|CaptureCommands|CaptureTruth|Lifecycle|Options|Managed)'
{ grep -E "$first" "$dir/names" || true; grep -vE "$first" "$dir/names" || true; } >"$dir/order"

run() { # TEST
    # The time limit is for a test that hangs: a slow machine needs a part of it only.
    if ! ./pool.sh "$dir/test" -test.v -test.timeout 30m -test.run "^$1\$" </dev/null 2>&1 | tee "$dir/$1.said" |
        sed -un "/^ *--- \\(PASS\\|FAIL\\|SKIP\\)/s/\$/$as/p"; then
        echo "$1" >>"$dir/failed"
        cat "$dir/$1.said"
    fi
}
export -f run
# Not by SHELLOPTS: ldd, which host.sh needs, is a bash script that breaks under nounset.
xargs -P 4 -I{} bash -c 'set -o pipefail; run "$1"' run {} <"$dir/order"

printf '%d tests in %d min %02d s%s' "$(wc -l <"$dir/names")" $((SECONDS / 60)) $((SECONDS % 60)) "$as"
[[ ! -s $dir/failed ]] || { printf '; failed: %s\n' "$(paste -sd' ' "$dir/failed")"; exit 1; }
printf ', all passed\n'
