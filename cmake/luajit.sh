#!/bin/sh
# luajit.sh DIR: builds LuaJIT with hook checks as a static library under DIR and prints the folder
# that then holds include/ and lib/libluajit.a. All talk goes to stderr; exit 1 = it cannot be had.
#
# Why: compiled code normally never looks at hooks, so nothing can stop a runaway script while the
# JIT is on. LUAJIT_ENABLE_CHECKHOOK makes every loop look; no distribution's library has it.
#
# The source is the upstream tarball of Debian's own `luajit` source package, taken from whatever
# mirror this machine's apt uses, pinned by name and SHA-256 below. Debian's patches are left out:
# for these releases they only port to further processors and rename an ABI symbol, neither of which
# a static library on the supported machines needs. On a machine without network, put one of the
# tarballs into DIR beforehand.
set -eu

# Newest first; the first that can be had with this checksum wins. A release leaves the mirrors when
# no Debian release carries it any more, hence more than one. Nothing before mid-2022 may be listed:
# older releases have a loop detection defect with hook checks on.
PINS='
luajit_2.1.0+openresty20251030.orig.tar.xz 04106b57bb3b089ce21ae606163c6fbd260f245580cfeb45484201fd86835190
luajit_2.1.0+openresty20250117.orig.tar.xz 99ad5fdfa85e08a291454f797f625fbb53f4d2129cac063922255a1fe34ccf1c
'
POOL=pool/main/l/luajit
BUILD_FLAGS='-DLUAJIT_ENABLE_CHECKHOOK -fPIC'

dir=$1
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
say() { echo "luajit: $*" >&2; }

# Presets configured at the same time share DIR: the second waits and finds the work done.
if command -v flock >/dev/null; then
    exec 9>"$dir/lock"
    flock 9
fi

matches() { [ -f "$1" ] && echo "$2  $1" | sha256sum --check --status; }

# The archive roots apt is configured with: those it knows to be Debian's, else all of them (before
# the first `apt-get update` apt does not know whose they are).
mirrors() {
    known=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
        2>/dev/null || true)
    [ -n "$known" ] ||
        known=$(apt-get update --print-uris 2>/dev/null | sed -n "s|^'\(.*/\)dists/.*|\1|p" || true)
    echo "$known" | awk 'NF && !seen[$0]++'
}

fetch() { # fetch FILE SHA256
    [ -x /usr/lib/apt/apt-helper ] || return 1
    for mirror in $(mirrors); do
        rm -f "$dir/$1.part"
        /usr/lib/apt/apt-helper -o Acquire::Retries=1 -o Acquire::http::Timeout=30 \
            -o APT::Sandbox::User= download-file "$mirror$POOL/$1" "$dir/$1.part" \
            >>"$dir/fetch.log" 2>&1 || continue
        if matches "$dir/$1.part" "$2"; then
            mv "$dir/$1.part" "$dir/$1"
            return 0
        fi
        say "$1: wrong checksum, not used"
    done
    rm -f "$dir/$1.part"
    return 1
}

build() { # build TARBALL PREFIX
    work=$2.work
    rm -rf "$work" "$2"
    mkdir -p "$work" "$2.new/include" "$2.new/lib"
    tar -xf "$1" -C "$work" --strip-components=1
    # An outer make's flags and job server are not for this one.
    env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -C "$work/src" -j"$(nproc)" libluajit.a \
        BUILDMODE=static LJCORE_O=ljamalg.o CC="${CC:-cc}" XCFLAGS="$BUILD_FLAGS" \
        >"$dir/build.log" 2>&1 || {
        tail -n 20 "$dir/build.log" >&2
        say "does not compile; the whole log is $dir/build.log"
        return 1
    }
    cp "$work/src/libluajit.a" "$2.new/lib/"
    for header in lua.h lauxlib.h lualib.h luaconf.h luajit.h; do
        cp "$work/src/$header" "$2.new/include/"
    done
    rm -rf "$work"
    mv "$2.new" "$2"
}

set -f
IFS='
'
for pin in $PINS; do
    file=${pin%% *}
    sum=${pin##* }
    version=${file#luajit_}
    prefix=$dir/${version%.orig.tar.*}
    if [ ! -f "$prefix/lib/libluajit.a" ]; then
        if ! matches "$dir/$file" "$sum"; then
            say "fetching $file from the distribution's mirror"
            IFS=' 
'
            fetch "$file" "$sum" || { say "$file cannot be fetched ($dir/fetch.log)"; continue; }
        fi
        say "compiling ${version%.orig.tar.*} with hook checks (once)"
        build "$dir/$file" "$prefix" || exit 1
    fi
    echo "$prefix"
    exit 0
done
exit 1
