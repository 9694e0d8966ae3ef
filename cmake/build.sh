#!/bin/sh
# build.sh [--configure] PRESET JOBS [TARGET]: configures (where needed) and builds a preset, or one
# target of it, with one line per stage and the whole log on failure. Warnings are always shown.
set -eu

only_configure=
[ "$1" = --configure ] && only_configure=1 && shift
preset=$1
jobs=$2
dir=build/$preset
mkdir -p build

fail() {
    cat "$1" >&2
    echo "$2 failed" >&2
    exit 1
}

if [ ! -f "$dir/build.ninja" ] || [ CMakePresets.json -nt "$dir/build.ninja" ]; then
    echo "configure $preset"
    # stderr stays on the terminal: it tells what the LuaJIT step fetches and compiles.
    cmake --preset "$preset" >"build/$preset-configure.log" ||
        fail "build/$preset-configure.log" "configuring $preset"
    touch "$dir/build.ninja"
fi
[ -z "$only_configure" ] || exit 0

echo "build $preset"
cmake --build --preset "$preset" -j "$jobs" ${3:+--target "$3"} >"build/$preset-build.log" 2>&1 ||
    fail "build/$preset-build.log" "building $preset"
grep -A 3 -E 'warning:|CMake Warning' "build/$preset-build.log" >&2 || true
