#!/bin/sh
# includes.sh [DIR]: checks who may include whom in DIR/core (default: here). Rooms depend downwards
# only, LuaJIT is seen by script alone, libwebsockets by source and server alone, and nobody above
# base includes another room's .c. Prints file:line and the rule for each breach; exit 1 on any.
set -eu

cd "${1:-.}"
find core -name '*.[ch]' | sort | xargs awk '
    BEGIN {
        # Each room may include the rooms listed with it, and itself.
        below["base"] = ""
        below["atproto"] = below["state"] = "base"
        below["event"] = below["atproto"] " atproto"
        below["journal"] = below["event"] " event state"
        below["match"] = below["event"] " event state"
        below["flow"] = below["match"] " match journal"
        below["script"] = below["flow"] " flow"
        below["source"] = below["server"] = below["deliver"] = below["script"] " script"
        below["cli"] = below["script"] " script source server deliver"
        for (room in below) {
            may[room, room] = 1
            n = split(below[room], rooms, " ")
            for (i = 1; i <= n; i++)
                may[room, rooms[i]] = 1
        }
        # Headers of libraries that belong to certain rooms.
        owner["lua.h"] = owner["lauxlib.h"] = owner["lualib.h"] = owner["luajit.h"] = "script"
        owner["libwebsockets.h"] = "source server"
        owner["curl/curl.h"] = owner["ares.h"] = "deliver"
        owner["lmdb.h"] = "state"
    }
    function breach(rule) {
        printf "%s:%d: %s\n", FILENAME, FNR, rule
        bad = 1
    }
    FNR == 1 {
        split(FILENAME, path, "/")
        room = path[2]
        if (!(room in below) && FILENAME != "core/moonjet.h")
            breach("core/" room " is no room that this check knows")
    }
    /^[ \t]*#[ \t]*include/ {
        if (match($0, /[<"][^>"]*[>"]/) == 0)
            next
        name = substr($0, RSTART + 1, RLENGTH - 2)
        if (name in owner && index(" " owner[name] " ", " " room " ") == 0)
            breach("only " owner[name] " may include " name)
        if (substr($0, RSTART, 1) == "<")
            next
        if (split(name, part, "/") < 2)
            next
        if (part[1] == "..")
            breach("include \"ROOM/FILE.h\" from core, not " name)
        else if (part[1] in below && !((room, part[1]) in may))
            breach(room " may not include " part[1] " (" name ")")
        if (part[1] in below && part[1] != room && name ~ /\.c$/)
            breach(room " includes the source file " name)
    }
    END { exit bad }'
