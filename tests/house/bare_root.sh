# bare_root.sh, read by scripts that need a bare Debian 12: `dir` is set and absolute. Makes the image
# $base once; enter() copies it to $root with what reaches the network, inside() runs a command there,
# leave() takes it away. Needs root and debootstrap; takes the mirror from this machine's apt.
release=bookworm
base=$dir/base
root=$dir/root
log=$dir/log
mkdir -p "$log"
[ "$(id -u)" = 0 ] || { echo "${0##*/}: debootstrap and chroot need root" >&2; exit 1; }

# Each mount is undone before anything below $root is removed; a mount that will not go keeps its
# files, since removing through a bound /dev would remove the machine's own.
unmount() {
    for mount in dev/pts dev/shm dev proc; do
        while mountpoint -q "$root/$mount"; do
            umount "$root/$mount" || { echo "bare: $root/$mount is still mounted" >&2; return 1; }
        done
    done
}
leave() {
    unmount && rm -rf --one-file-system "$root"
}
trap leave EXIT
trap 'exit 130' INT TERM HUP

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
    2>/dev/null | head -n 1 || true)
[ -n "$mirror" ] || mirror=$(apt-get update --print-uris | sed -n "s|^'\(.*/\)dists/.*|\1|p" | head -n 1)

if [ ! -f "$base/.complete" ]; then
    echo "bare: debootstrap $release"
    rm -rf --one-file-system "$base"
    debootstrap --variant=minbase "$release" "$base" "$mirror" >"$log/debootstrap.log" 2>&1 || {
        tail -n 20 "$log/debootstrap.log" >&2
        exit 1
    }
    touch "$base/.complete"
fi

# The network and the package mirror as this machine has them: resolver, proxy, certificates, and
# the distribution's own archives (third parties' would need their keys).
enter() {
    leave
    cp -a "$base" "$root"
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    cp -L /etc/hosts "$root/etc/hosts"
    if [ -f /etc/apt/sources.list.d/debian.sources ]; then
        : >"$root/etc/apt/sources.list"
        cp /etc/apt/sources.list.d/debian.sources "$root/etc/apt/sources.list.d/"
    elif [ -s /etc/apt/sources.list ]; then
        cp /etc/apt/sources.list "$root/etc/apt/sources.list"
    fi
    for conf in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
        # A copied hook would call programs that are not there; what reaches the mirror matters.
        if [ -f "$conf" ] && grep -qiE 'Acquire::.*(Proxy|CaInfo|Check-|Retries)' "$conf"; then
            cp "$conf" "$root/etc/apt/apt.conf.d/"
        fi
    done
    mount -t proc proc "$root/proc"
    mount --bind /dev "$root/dev"
    ! mountpoint -q /dev/shm || mount --bind /dev/shm "$root/dev/shm"
}

inside() {
    chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive "$@" </dev/null
}
