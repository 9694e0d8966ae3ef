#!/bin/sh
# setup.sh PACKAGE…: installs those Debian packages that are missing, and says which. Silent, and
# quick enough to run before every make target, when nothing is.
set -eu

missing=
if command -v dpkg-query >/dev/null; then
    for package; do
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
        installed) ;;
        *) missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || exit 0
    if ! command -v apt-get >/dev/null; then
        echo "setup: these packages are missing, and there is no apt-get here:$missing" >&2
        exit 1
    fi
else
    # Without dpkg nobody can tell what is missing: the compiler and pkg-config say it soon enough.
    command -v cmake >/dev/null && command -v ninja >/dev/null && exit 0
    cat >&2 <<END
setup: this is not Debian or one of its children, so nothing was installed. Install what these
Debian packages hold (CMake 3.22 or newer, Ninja, a C11 compiler, pkg-config and the libraries'
headers), then try again:
  $*
END
    exit 1
fi

if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null; then
    as_root=sudo
else
    echo "setup: missing packages, and neither root nor sudo here. As root:" >&2
    echo "  apt-get install$missing" >&2
    exit 1
fi

echo "setup: installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() {
    # shellcheck disable=SC2086 # an empty $as_root is no word
    $as_root env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1 </dev/null && return
    tail -n 30 "$log" >&2
    echo "setup: '$*' failed" >&2
    exit 1
}
run apt-get -q update
# shellcheck disable=SC2086 # a list of words
run apt-get -q -y --no-install-recommends install $missing
