#!/bin/sh
# lint.sh BUILD_DIR JOBS: everything that reads the sources instead of running them. BUILD_DIR is a
# configured build, for its compile commands. All steps run; exit 1 if any complained.
set -u

build=$1
jobs=$2
failed=0

step() { # step NAME COMMAND…
    echo "lint: $1"
    shift
    "$@" || failed=1
}

c_files() { git ls-files -- 'core/*.[ch]' 'tests/*.[ch]' 2>/dev/null || find core tests -name '*.[ch]'; }
format() { c_files | xargs clang-format --dry-run -Werror; }

# Only files that the build compiles have a compile command.
tidy() {
    sources=$(c_files | grep '^core/.*\.c$')
    echo "$sources" | xargs -P "$jobs" -n 4 clang-tidy --quiet -p "$build" 2>"$build/tidy.err"
}
lua() {
    files=$(find lua examples tests plugins -name node_modules -prune -o -name '*.lua' -print 2>/dev/null)
    [ -z "$files" ] || echo "$files" | xargs luacheck --quiet --no-color
}

step 'formatting (clang-format)' format
step 'room includes' sh tests/house/includes.sh
step 'Lua (luacheck)' lua
step 'C (clang-tidy)' tidy
[ "$failed" = 0 ] && echo 'lint: clean'
exit $failed
