#!/bin/sh
# deb.sh JOBS: builds the Debian package into build/, and prints its name. Manual pages are made
# from each command's --help, the changelog from the commit that is packaged.
set -eu
export LC_ALL=C.UTF-8

sh cmake/build.sh deb "$1" moonjet
build=build/deb
out=$build/package
log=build/deb-package.log
: >"$log"

version=$(sed -n 's/^project(moonjet VERSION \([0-9.]*\) .*/\1/p' CMakeLists.txt)
contact=$(sed -n 's/^CPACK_PACKAGE_CONTACT //p; s/^set(CPACK_PACKAGE_CONTACT "\(.*\)")$/\1/p' \
    $build/CPackConfig.cmake)
commit=$(git rev-parse --short HEAD 2>/dev/null || echo 'no commit')
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH

rm -rf "$out/man1"
mkdir -p "$out/man1"
page() { # page COMMAND NAME SUMMARY
    # What help2man makes of two words in the name does not parse as one.
    help2man --no-info --locale=C.UTF-8 --version-string="$version" --name="$3" \
        --manual=Moonjet --source="moonjet $version" "$1" | sed "s/^$1 \\\\- /$2 \\\\- /" |
        gzip -9n >"$out/man1/$2.1.gz"
}
PATH=$PWD/$build:$PATH
page moonjet moonjet 'Lua-scriptable event router for the AT Protocol'
moonjet --help | sed -n 's/^  \([a-z]*\)  *\(.*[^.]\)\.\{0,1\}$/\1 \2/p' | while read -r name summary; do
    page "moonjet $name" "moonjet-$name" "$summary"
done

gzip -9n >"$out/changelog.gz" <<END
moonjet ($version) unstable; urgency=medium

  * Built from $commit.

 -- $contact  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END

# The modes of directories come from the umask. `make deb-test` takes whatever package is there.
umask 022
rm -f build/moonjet_*.deb
cpack --config $build/CPackConfig.cmake >>"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    echo "cpack failed; the whole log is $log" >&2
    exit 1
}
sed -n 's|^CPack: - package: \(.*\) generated\.$|\1|p' "$log" | sed "s|^$PWD/||"
