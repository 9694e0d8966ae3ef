#!/bin/sh
# tests/conformance/run.sh [--selftest] [BINARY] [NUMBER|FROM-TO …]: checks our own Jetstream server.
# tests/conformance/run.sh URL [NUMBER|FROM-TO …]: checks any other, at ws://… or wss://….
#
# One line per check, then "N passed, M failed". A foreign server needs nothing but Node 22.19 or
# newer; our own run uses the peers of tests/e2e, and installs them first (../e2e/node.sh).
# --selftest proves that the suite notices what is wrong. Environment: see README.md.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

# give_up REASON: without Node the whole run is one skip, or one failure when required.
give_up() {
    if [ "${MOONJET_REQUIRE_E2E:-}" = 1 ]; then
        echo "not ok 0 - conformance: $1"
        echo "0 passed, 1 failed"
        exit 1
    fi
    echo "ok 0 - conformance # SKIP $1"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}

# The program runs elsewhere (node.sh sits beside the peers), so a file is named from the root.
if [ -n "${DICTIONARY:-}" ]; then
    [ -r "$DICTIONARY" ] || { echo "no dictionary at $DICTIONARY" >&2; exit 2; }
    DICTIONARY=$(cd "$(dirname "$DICTIONARY")" && pwd)/$(basename "$DICTIONARY")
    export DICTIONARY
fi

only_node=1 # the other peers are the end-to-end tests'

case ${1:-} in
ws://* | wss://* | http://* | https://*)
    node=$(command -v node || true)
    if [ -z "$node" ] || ! "$node" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 22 || (a === 22 && b >= 19) ? 0 : 1)'; then
        cd "$here/../e2e"
        . ./node.sh
    fi
    exec "$node" "$here/main.mjs" "$@"
    ;;
esac

program=main.mjs
[ "${1:-}" = --selftest ] && program=selftest.mjs && shift
binary=
if [ $# -gt 0 ] && [ -x "$1" ] && [ ! -d "$1" ]; then
    binary=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
    shift
else
    for preset in release dev; do
        if [ -x "$root/build/$preset/moonjet" ]; then
            binary=$root/build/$preset/moonjet
            break
        fi
    done
fi
if [ -z "$binary" ]; then
    echo "no binary: build it first (make), or name one: $0 BINARY" >&2
    exit 2
fi
cd "$here/../e2e"
. ./node.sh
MOONJET_E2E_BINARY=$binary exec "$node" "$here/$program" "$@"
