#!/bin/sh
# The check of includes must find what it is for: each breach is planted in a copy of core.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
failures=0

expect() { # expect FILE LINE MESSAGE: LINE put into FILE makes the check print MESSAGE
    rm -rf "$copy/core"
    cp -R "$root/core" "$copy/core"
    mkdir -p "$copy/$(dirname "$1")"
    echo "$2" >>"$copy/$1"
    if said=$(sh "$here/includes.sh" "$copy"); then
        echo "not found: $2 in $1"
        failures=1
    else
        case $said in
        *"$3"*) ;;
        *) echo "expected '$3', got '$said'" && failures=1 ;;
        esac
    fi
}

if ! sh "$here/includes.sh" "$root"; then
    failures=1
fi
expect core/base/planted.h '#include "atproto/cid.h"' 'base may not include atproto'
expect core/match/planted.c '#include "journal/tail.h"' 'match may not include journal'
expect core/flow/planted.c '  #  include "script/script.h"' 'flow may not include script'
expect core/source/planted.c '#include "server/server.h"' 'source may not include server'
expect core/server/planted.c '#include <lua.h>' 'only script may include lua.h'
expect core/cli/planted.c '#include <libwebsockets.h>' 'only source server may include'
expect core/cli/planted.c '#include "base/bytes.c"' 'cli includes the source file'
expect core/cli/planted.c '#include "../base/bytes.h"' 'from core, not ../base'
expect core/attic/planted.c '' 'core/attic is no room'
exit $failures
