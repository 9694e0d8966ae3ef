#!/bin/sh
# bare.sh DIR TARGET…: what a newcomer meets. Makes a bare Debian 12 in DIR, copies the committed tree
# into it, installs nothing but make, and types `make TARGET`; so a package that the Makefile forgets
# to install is found. Each target gets a root of its own, fresh from the same image, so that each is
# the first command typed. Needs root and debootstrap; takes the mirror from this machine's apt.
#
# `make run` never ends by itself: it passes when events have been printed and Ctrl-C then stops it.
set -eu

dir=$1
shift
[ -d .git ] || [ -f .git ] || { echo "bare: this needs the git checkout" >&2; exit 1; }
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
. tests/house/bare_root.sh

# The committed tree, and make.
checkout() {
    enter
    mkdir "$root/moonjet"
    git archive HEAD | tar -x -C "$root/moonjet"
    inside apt-get -q update >"$log/make.log" 2>&1 &&
        inside apt-get -q -y --no-install-recommends install make >>"$log/make.log" 2>&1 || {
        tail -n 20 "$log/make.log" >&2
        exit 1
    }
}

# Events are the lines after the last one that run.sh itself prints.
events() { sed '1,/Ctrl-C stops everything/d' "$log/run.log" | grep -c . || true; }

# A zombie that this shell has not waited for is not running.
running() { [ "$(awk '{ print $3 }' "/proc/$1/stat" 2>/dev/null || echo Z)" != Z ]; }

try_run() {
    : >"$log/run.log"
    # A group of its own, as a terminal gives to what is typed in it: Ctrl-C goes to all of it. A
    # shell without a terminal starts what is in the background with SIGINT ignored; undone here.
    setsid chroot "$root" /usr/bin/env -i --default-signal=INT HOME=/root LC_ALL=C.UTF-8 \
        PATH=/usr/sbin:/usr/bin:/sbin:/bin make -C /moonjet run >"$log/run.log" 2>&1 </dev/null &
    group=$!
    waited=0
    while [ "$(events)" -lt 5 ]; do
        if [ "$waited" -ge 900 ] || ! running "$group"; then
            echo "bare: make run printed no events"
            kill -s TERM -- "-$group" 2>/dev/null || true
            return 1
        fi
        sleep 1
        waited=$((waited + 1))
    done
    echo "bare: events after $waited s"
    kill -s INT -- "-$group"
    waited=0
    while running "$group"; do
        if [ "$waited" -ge 20 ]; then
            echo "bare: make run did not stop"
            kill -s KILL -- "-$group" 2>/dev/null || true
            return 1
        fi
        sleep 1
        waited=$((waited + 1))
    done
    # The servers have sessions of their own, so they are looked for by where they run.
    for process in /proc/[0-9]*; do
        case $(readlink "$process/exe" 2>/dev/null || true) in
        "$root"/*)
            echo "bare: left running: $(tr '\0' ' ' <"$process/cmdline")"
            kill -KILL "${process#/proc/}"
            return 1
            ;;
        esac
    done
}

passed=0
failed=0
for target; do
    checkout
    echo "bare: make $target"
    begun=$(date +%s)
    ok=1
    case $target in
    run) try_run || ok=0 ;;
    fuzz) inside make -C /moonjet fuzz FUZZ_SECONDS=1 >"$log/fuzz.log" 2>&1 || ok=0 ;;
    *) inside make -C /moonjet "$target" >"$log/$target.log" 2>&1 || ok=0 ;;
    esac
    echo "bare: $(($(date +%s) - begun)) s, ending with:"
    tail -n 5 "$log/$target.log" | sed 's/^/    /'
    if [ "$ok" = 1 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "bare: make $target FAILED; its log is $log/$target.log"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
