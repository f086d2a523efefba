# shellcheck shell=bash
# A Debian that systemd runs as process 1 in namespaces of its own, sourced by the scripts beside it. Their first argument
# is a package, which must be for this processor.
#
# ROOT is the folder of a Debian with systemd, as debootstrap makes it, or else this machine's own system; it stays as it
# is, below an overlay that is thrown away. The network of the namespaces has only a loopback, so that the ports of the
# machine do not matter.
#
# Needs root, and Debian's curl, iproute2, systemd and util-linux.
set -euo pipefail

skip() { # WHY [fault]: under CI a tool that is missing is a fault
    if [ "${CI:-}" = true ] && [ "${2:-}" = fault ]; then
        echo "FAILED: $1" >&2
        exit 1
    fi
    echo "skipped: $1" >&2
    exit 0
}

if [ "${1:-}" != --inside ]; then
    for tool in dpkg-deb curl ip pivot_root unshare nsenter /lib/systemd/systemd; do
        command -v "$tool" >/dev/null || skip "$tool is missing" fault
    done
    [ "$(dpkg-deb --field "$1" Architecture)" = "$(dpkg --print-architecture)" ] ||
        skip "the package is for another processor"
    unshare --mount --pid --ipc --uts --net --cgroup --fork --mount-proc true 2>/dev/null ||
        skip "this user may not make namespaces"
    # What is mounted from here on goes with this process.
    exec unshare --mount --propagation private "$0" --inside "$@"
fi
shift

work=$(mktemp -d)
mount -t tmpfs tmpfs "$work"
process=
began=$SECONDS

step() {
    echo "$((SECONDS - began)) s: $*"
}

fail() {
    echo "FAILED: $*" >&2
    if [ -n "$process" ]; then
        cat "$work/output" >&2 || true
        inside journalctl --no-pager --lines 40 --unit ordercast.service >&2 || true
    fi
    exit 1
}

# Ends what runs in the namespaces, and with it their mounts.
end() {
    touch "$work/stop"
    [ -z "$process" ] || kill -KILL "$process" 2>/dev/null || true
    umount --lazy "$work" 2>/dev/null || true
    rmdir "$work" 2>/dev/null || true
}
trap end EXIT
trap 'fail "line $LINENO"' ERR

# SECONDS COMMAND...: waits until the command succeeds.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "this did not succeed in time: $*"
        sleep 0.1
    done
}

inside() {
    nsenter --target "$process" --mount --pid --ipc --uts --net --cgroup -- "$@"
}

# As process 1 sees the machine: its own processes, devices, control groups, and a loopback.
become_process_1() {
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs tmpfs "$root/run"
    mount -t tmpfs tmpfs "$root/tmp"
    mount -t tmpfs tmpfs "$root/dev"
    mkdir "$root/dev/shm" "$root/dev/pts"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    for device in full null random tty urandom zero; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    ip link set lo up
    # Not only chroot, in which no service could have a user namespace.
    cd "$root"
    pivot_root . .
    umount --lazy .
    exec env --ignore-environment container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --unit=multi-user.target --show-status=0 --log-target=journal
}

boot() {
    export root
    export -f become_process_1
    unshare --mount --pid --ipc --uts --net --cgroup --fork --kill-child bash -euc become_process_1 >"$work/boot" 2>&1 &
    local unshare=$!
    process() { process=$(pgrep --parent "$unshare"); }
    within 10 process
    booted() { inside systemctl is-system-running --wait 2>/dev/null | grep --quiet -E 'running|degraded'; }
    within 60 booted
}

halt() {
    inside systemctl poweroff 2>/dev/null
    over() { ! kill -0 "$process" 2>/dev/null; }
    within 30 over
    process=
}

# PATH [OPTION...]: a request to the service, whose answer is printed.
ask() {
    local path=$1
    shift
    nsenter --target "$process" --net curl --silent --show-error --fail --max-time 10 "$@" "http://127.0.0.1:3000$path"
}

root=$work/root
mkdir "$root" "$work/upper" "$work/overlay"
mount -t overlay -o "lowerdir=$(realpath "${ROOT:-/}"),upperdir=$work/upper,workdir=$work/overlay" overlay "$root"
# Without services of the machine itself, its ban on starting any, and its index of all manual pages.
rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/rc?.d "$root/etc/fstab" "$root/usr/sbin/policy-rc.d" \
    "$root/var/lib/man-db/auto-update"
[ ! -e "$root/var/lib/ordercast" ] || skip "there is a folder /var/lib/ordercast already" fault
