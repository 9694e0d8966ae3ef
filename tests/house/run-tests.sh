#!/bin/sh
# run-tests.sh [--only-e2e] BUILD_DIR JOBS: runs every test of a build and closes with one line,
# "N passed, N failed, N skipped", counting the single cases of cmocka programs. Output of what
# failed, and every SKIP with its reason, is shown above it.
#
# Environment: MOONJET_REQUIRE_SHARED=1 makes missing shared data a failure (the tests themselves
# look at it), MOONJET_REQUIRE_E2E=1 the same for Node; MOONJET_SKIP_E2E=1 leaves the end-to-end
# tests out.
set -eu

only_e2e=
[ "$1" = --only-e2e ] && only_e2e=1 && shift
build=$1
jobs=$2
passed=0
failed=0
skipped=0

if [ -z "$only_e2e" ]; then
    log=$build/Testing/Temporary/LastTest.log
    rm -f "$log"
    status=0
    ctest --test-dir "$build" --output-on-failure -j "$jobs" --timeout 300 || status=$?
    if [ ! -s "$log" ]; then
        echo "no test ran" >&2
        exit 1
    fi
    grep -h '^SKIP' "$log" | sort -u || true
    # One cmocka program counts as its cases, as do specs; any other test, or one that died before
    # the closing lines, counts as one. What a passing case left out and said so counts as skipped, too.
    counts=$(awk '
        /^[0-9]+\/[0-9]+ Test: / { p = f = s = said = 0 }
        /^SKIP/ { said++ }
        /^\[  PASSED  \] [0-9]+ test/ { p += $4 }
        /^\[  FAILED  \] [0-9]+ test/ { f += $4 }
        /^\[  SKIPPED \] [0-9]+ test/ { s += $4 }
        /^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3; s += $5 }
        /^Test (Passed|Failed)\./ && !s { s = said }
        /^Test Passed\./ { passed += p ? p : 1; skipped += s }
        /^Test Failed\./ { passed += p; failed += f ? f : 1; skipped += s }
        /^Test Skipped\./ { skipped++ }
        END { print passed + 0, failed + 0, skipped + 0 }' "$log")
    passed=${counts%% *}
    skipped=${counts##* }
    failed=${counts#* }
    failed=${failed% *}
    # Whatever this script could not count, ctest has the last word.
    [ "$status" = 0 ] || [ "$failed" != 0 ] || failed=1
fi

node_is_good() {
    command -v npm >/dev/null && command -v node >/dev/null &&
        [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 18 ]
}

# suite NAME TITLE COMMAND…: a test program that closes with its counts; they are added to ours.
suite() {
    log=$build/$1.log
    echo "$2"
    shift 2
    rm -f "$log.failed"
    { "$@" 2>&1 || echo $? >"$log.failed"; } | tee "$log"
    closing=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1 | tr -dc '0-9 ' || true)
    [ -n "$closing" ] || closing='0 1 0'
    # shellcheck disable=SC2086 # two or three numbers
    set -- $closing
    suite_failed=$2
    [ ! -f "$log.failed" ] || [ "$suite_failed" != 0 ] || suite_failed=1
    passed=$((passed + $1))
    failed=$((failed + suite_failed))
    skipped=$((skipped + ${3:-0}))
}

if [ -n "${MOONJET_SKIP_E2E-}" ] || [ ! -f tests/e2e/run.sh ]; then
    :
elif node_is_good; then
    suite e2e 'end-to-end tests' sh tests/e2e/run.sh "$build/moonjet"
    suite conformance 'conformance to Jetstream v1' sh tests/conformance/run.sh "$build/moonjet"
    suite selftest 'what the conformance suite notices' sh tests/conformance/run.sh --selftest "$build/moonjet"
elif [ -n "${MOONJET_REQUIRE_E2E-}" ]; then
    echo "end-to-end tests: Node 18 or newer with npm is required and missing" >&2
    failed=$((failed + 1))
else
    echo "SKIP end-to-end tests: no Node 18 or newer with npm here (make setup-e2e brings one)"
    skipped=$((skipped + 1))
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
