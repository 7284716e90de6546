#!/bin/bash
# e2e.sh [TEST…] runs the tests of this directory one after the other, each in a process of its own, with a line for each test
# and subtest as it ends; what a failed test said follows it. TESTs are regular expressions of names (default: all).
#
# With DOCKER_BIN the hosts have another Docker than the machine's (test/docker/build.sh makes one). A single subtest:
#   go test -count=1 -run 'TestCaptureCommands/rotation' ./test
set -euo pipefail
cd "$(dirname "$0")"

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go test -c -o "$dir/test" .
only=$(IFS='|'; echo "$*")
"$dir/test" -test.list "${only:-.}" >"$dir/names"
grep -q '^Test' "$dir/names" || { echo "no test is called ${only}" >&2; exit 1; }

failed=()
while read -r name; do
    # The time limit is for a test that hangs: a slow machine needs a part of it only.
    if ! "$dir/test" -test.v -test.timeout 30m -test.run "^$name\$" </dev/null 2>&1 | tee "$dir/said" |
        sed -un '/^ *--- \(PASS\|FAIL\|SKIP\)/p'; then
        cat "$dir/said"
        failed+=("$name")
    fi
done <"$dir/names"
printf '%d tests in %d min %02d s' "$(wc -l <"$dir/names")" $((SECONDS / 60)) $((SECONDS % 60))
[[ ${#failed[@]} == 0 ]] || { printf '; failed: %s\n' "${failed[*]}"; exit 1; }
printf ', all passed\n'
