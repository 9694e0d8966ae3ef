#!/bin/sh
# deb.sh DIR PACKAGE: a Debian package's life. lintian looks at it; then a bare Debian 12 in DIR gets
# it by apt, boots under systemd-nspawn without network but loopback, and deb_inside.sh there runs the
# service as shipped, sandbox and all, upgrades, removes and purges it. Needs root.
set -eu

dir=$1
package=$2
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
failed=0
# What lintian thinks of names is not worth a failure, an error is. The sanitised address and a
# missing init.d script are on purpose.
lintian --allow-root --fail-on error "$package" || failed=1

. tests/house/bare_root.sh
enter
echo "deb: apt-get install in a bare Debian"
cp "$package" "$root/root/moonjet.deb"
{
    inside apt-get -q update &&
        inside apt-get -q -y --no-install-recommends install systemd-sysv dbus &&
        inside apt-get -q -y --no-install-recommends install /root/moonjet.deb &&
        inside moonjet version
} >"$log/deb-install.log" 2>&1 || {
    tail -n 20 "$log/deb-install.log" >&2
    echo "deb: apt-get install FAILED" >&2
    exit 1
}
unmount

# The container says what it has to say in a file and ends itself; the time is for a stuck one.
echo "deb: booting it"
cp tests/house/deb_inside.sh "$root/root/"
cat >"$root/etc/systemd/system/deb-test.service" <<'END'
[Unit]
After=basic.target
[Service]
Type=oneshot
TimeoutStartSec=150
ExecStart=/bin/sh /root/deb_inside.sh
StandardOutput=file:/root/result
StandardError=file:/root/trace
ExecStopPost=/bin/systemctl poweroff --no-block
END
ln -s /etc/systemd/system/deb-test.service "$root/etc/systemd/system/multi-user.target.wants/"
timeout -k 10 180 systemd-nspawn --quiet --register=no --keep-unit --private-network \
    --resolv-conf=off --console=pipe --boot --directory="$root" </dev/null >"$log/deb-boot.log" 2>&1 ||
    failed=1
cat "$root/root/result" || true
cp "$root/root/trace" "$log/deb-trace.log" 2>/dev/null || true
if ! grep -q '^[0-9]* passed, 0 failed$' "$root/root/result" || [ "$failed" != 0 ]; then
    tail -n 30 "$log/deb-boot.log" "$log/deb-trace.log" >&2
    echo "deb: FAILED" >&2
    exit 1
fi
