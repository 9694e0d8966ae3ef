#!/bin/sh
# run.sh MOONJET SCRIPT [SOURCE]: a whole Moonjet in one terminal, until Ctrl-C. Starts a simulated
# network (or takes the firehose at SOURCE), routes it through SCRIPT, and prints the events that a
# Jetstream subscriber gets. `make run` calls it. Ports are chosen by the system; the logs of both
# servers are in build/run.
set -eu

moonjet=$1
script=$2
source=${3-}
logs=build/run
mkdir -p "$logs"
for log in network router; do : >"$logs/$log.log"; done

network=
router=
reader=
stop() {
    trap - EXIT INT TERM HUP
    for pid in $reader $router $network; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}
trap stop EXIT
trap 'stop; echo; echo "stopped."; exit 0' INT TERM HUP

# announced LOG PID TEXT: the first URL behind TEXT that a server writes to its log.
announced() {
    tries=0
    while :; do
        url=$(sed -n "s|^$3 \([^ ]*\).*|\1|p" "$1" | head -n 1)
        [ -z "$url" ] || break
        tries=$((tries + 1))
        if [ "$tries" -gt 100 ] || ! kill -0 "$2" 2>/dev/null; then
            cat "$1" >&2
            echo "run: no server came up" >&2
            exit 1
        fi
        sleep 0.1
    done
}

# setsid keeps Ctrl-C from the servers: the reader stops first, then they do, in order.
if [ -z "$source" ]; then
    setsid "$moonjet" simulate --listen 127.0.0.1:0 --accounts 50 --rate 50 --seed 1 \
        2>"$logs/network.log" >/dev/null &
    network=$!
    announced "$logs/network.log" "$network" 'listening on'
    source=$url
    echo "network     $source (simulated; its log is $logs/network.log)"
else
    echo "network     $source"
fi
setsid "$moonjet" run "$script" --source "$source" --listen 127.0.0.1:0 \
    --metrics-listen 127.0.0.1:0 2>"$logs/router.log" >/dev/null &
router=$!
announced "$logs/router.log" "$router" 'metrics on'
echo "router      $script (its log is $logs/router.log; metrics: $url)"
announced "$logs/router.log" "$router" 'listening on'
echo "main        $url (everything, unless the script says otherwise)"
# What the script drew is more to look at than what it left alone.
drawn=$(sed -n 's|^stream \([^ ]*\)|\1|p' "$logs/router.log" | head -n 1)
url=${drawn:-$url}
echo "subscriber  $url; Ctrl-C stops everything"
echo

"$moonjet" tail "$url" --pretty &
reader=$!
# A waiting shell answers signals at once; one with a child in the foreground would not.
status=0
wait "$reader" || status=$?
[ -f "$logs/router.log" ] && tail -n 5 "$logs/router.log" >&2
exit "$status"
