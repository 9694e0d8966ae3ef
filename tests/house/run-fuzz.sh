#!/bin/sh
# run-fuzz.sh BUILD_DIR SECONDS JOBS: runs every fuzz target for SECONDS, JOBS at a time. Finds grow
# the corpus in BUILD_DIR/corpus; the seeds in tests/fuzz/corpus stay as they are. A crashing input
# is left in BUILD_DIR/crashes with the target's log.
set -eu

build=$1
seconds=$2
jobs=$3

one() { # one TARGET
    name=${1##*/fuzz_}
    log=$build/crashes/$name.log
    mkdir -p "$build/corpus/$name"
    seeds=tests/fuzz/corpus/$name
    [ -d "$seeds" ] || seeds=
    # shellcheck disable=SC2086 # no seeds, no word
    if "$1" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 \
        -artifact_prefix="$build/crashes/$name-" "$build/corpus/$name" $seeds >"$log" 2>&1; then
        runs=$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$log")
        echo "ok $name: ${runs:-0} runs in ${seconds} s"
    else
        tail -n 40 "$log"
        echo "not ok $name: see $log"
    fi
}

case $seconds in
'' | *[!0-9]*) echo "FUZZ_SECONDS must be a whole number, not '$seconds'" >&2 && exit 2 ;;
esac
mkdir -p "$build/crashes"

if [ "${4-}" ]; then
    one "$4"
    exit
fi
targets=$(find "$build" -maxdepth 1 -name 'fuzz_*' -type f -perm -u+x | sort)
if [ -z "$targets" ]; then
    echo "0 passed, 1 failed (no fuzz target was built)"
    exit 1
fi
results=$build/crashes/results
echo "$targets" | xargs -P "$jobs" -I '{}' sh "$0" "$build" "$seconds" 1 '{}' | tee "$results"
passed=$(grep -c '^ok ' "$results" || true)
failed=$(grep -c '^not ok ' "$results" || true)
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" = "$(echo "$targets" | wc -l)" ]
