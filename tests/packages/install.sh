#!/bin/bash
# Installs a Debian package, upgrades it under load and purges it, on a Debian that systemd runs as process 1 in
# namespaces of its own: tests/packages/install.sh PACKAGE [PACKAGE-BEFORE]
#
# PACKAGE-BEFORE is the package of an earlier version; without one it is PACKAGE under a lower number. ROOT is the
# folder of a Debian with systemd, as debootstrap makes it, or else this machine's own system; it stays as it is, below
# an overlay that is thrown away. ARCHIVE is the archive of the same version, which is tried last. The network of the
# namespaces has only a loopback, so that the ports of the machine do not matter.
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

new=$(realpath "$1")
before=${2:+$(realpath "$2")}
work=$(mktemp -d)
mount -t tmpfs tmpfs "$work"
process=
prefix=/usr
began=$SECONDS

step() {
    echo "$((SECONDS - began)) s: $*"
}

fail() {
    echo "FAILED: $*" >&2
    if [ -n "$process" ]; then
        cat "$work/dpkg" >&2
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

total() {
    ask /orders/electronics | tr '{' '\n' | sed -n 's/^"id":"A1","total":\([0-9]*\).*/\1/p'
}

show() { # PROPERTY: what systemd says about the service
    inside systemctl show --property "$1" --value ordercast.service
}

# Posts orders until there is a file `stop`. Each is repeated under its key until it is answered, and then noted. Runs
# in the network of the service, which outlasts it.
poster() { # NAME
    n=0
    until [ -e "$work/stop" ]; do
        n=$((n + 1))
        until [ "$(curl --silent --max-time 10 --header "Content-Type: application/json" \
            --data "{\"amount\":1,\"key\":\"$1-$n\"}" http://127.0.0.1:3000/orders/A1)" = '{"ok":true}' ]; do
            sleep 0.05
        done
        echo "$1-$n" >>"$work/answered"
    done
}

answered() {
    wc --lines <"$work/answered"
}

# NUMBER: whether so many orders were answered.
have() {
    [ "$(answered)" -ge "$1" ]
}

# Whether any process has the installed file, also after that was deleted.
runs() {
    inside find /proc -maxdepth 2 -name exe -lname "$prefix/bin/ordercast*" 2>/dev/null | grep --quiet .
}

# The service runs from the installed file, and never had to be restarted after a failure.
check_service() {
    [ "$(inside systemctl is-active ordercast.service)" = active ] || fail "the service is not active"
    [ "$(inside systemctl is-enabled ordercast.service)" = enabled ] || fail "the service is not enabled"
    [ "$(show NRestarts)" = 0 ] || fail "the service failed and was started again"
    runs || fail "no server runs"
    local pid
    pid=$(show MainPID)
    [ "$(inside readlink "/proc/$pid/exe")" = "$prefix/bin/ordercast" ] || fail "another binary runs"
    [ "$(inside stat --format=%U "/proc/$pid")" = ordercast ] || fail "the service runs as another user"
}

install_package() { # FILE: without a terminal, so that a question would be an error
    cp "$1" "$root/tmp-package.deb"
    inside dpkg --install /tmp-package.deb </dev/null >"$work/dpkg" 2>&1 || fail "dpkg: $(cat "$work/dpkg")"
}

if [ -z "$before" ]; then
    before=$work/before.deb
    dpkg-deb --raw-extract "$new" "$work/package"
    sed -i 's/^Version: .*/Version: 0.0.1/' "$work/package/DEBIAN/control"
    dpkg-deb --root-owner-group -Znone --build "$work/package" "$before" >/dev/null
fi
root=$work/root
mkdir "$root" "$work/upper" "$work/overlay"
mount -t overlay -o "lowerdir=$(realpath "${ROOT:-/}"),upperdir=$work/upper,workdir=$work/overlay" overlay "$root"
# Without services of the machine itself, its ban on starting any, and its index of all manual pages.
rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/rc?.d "$root/etc/fstab" "$root/usr/sbin/policy-rc.d" \
    "$root/var/lib/man-db/auto-update"
[ ! -e "$root/var/lib/ordercast" ] || skip "there is a folder /var/lib/ordercast already" fault

boot
step "systemd runs"

install_package "$before"
check_service
# Manual pages are not installed everywhere. systemd before version 254 does not know two keys, as the unit says.
inside systemd-analyze verify --man=no ordercast.service >"$work/verify" 2>&1 ||
    fail "systemd-analyze: $(cat "$work/verify")"
! grep -v -E "Unknown key '(RestartSteps|RestartMaxDelaySec)'" "$work/verify" >&2 || fail "the unit is not sound"
start=$(total)
answer=$(ask /orders/A1 --header "Content-Type: application/json" --data '{"amount":1,"key":"first"}')
[ "$answer" = '{"ok":true}' ] || fail "an order is answered $answer"
echo first >"$work/answered"
mode=$(inside stat --format='%U %a' /var/lib/ordercast)
case $mode in
"ordercast 7"?0) ;;
*) fail "the data folder is $mode" ;;
esac
exposure=$(inside systemd-analyze security --no-pager ordercast.service 2>/dev/null |
    sed -n 's/.*Overall exposure level[^:]*: \([0-9.]*\).*/\1/p')
step "installed, the unit verified (exposure $exposure), an order taken"

echo "ORDERCAST_KEEP_KEYS=25" >>"$root/etc/default/ordercast"
inside systemctl restart ordercast.service
pid=$(show MainPID)
inside grep --quiet --text ORDERCAST_KEEP_KEYS=25 "/proc/$pid/environ" || fail "/etc/default/ordercast is not read"

export work
export -f poster
posters=()
for name in a b c d; do
    nsenter --target "$process" --net timeout 300 bash -c "poster $name" &
    posters+=($!)
done
within 60 have 50
install_package "$new"
upgraded=$(answered)
within 60 have $((upgraded + 50))
touch "$work/stop"
for poster in "${posters[@]}"; do
    wait "$poster" || fail "a poster failed"
done
check_service
[ "$(show MainPID)" != "$pid" ] || fail "the service was not restarted"
inside grep --quiet ORDERCAST_KEEP_KEYS=25 /etc/default/ordercast || fail "the upgrade changed the configuration"
[ "$(total)" = $((start + $(answered))) ] || fail "$start + $(answered) answered orders, but the total is $(total)"
inside /usr/bin/ordercast export --data /var/lib/ordercast | sed 's/.*"key":"\([^"]*\)".*/\1/' | sort >"$work/log"
sort "$work/answered" | cmp - "$work/log" || fail "the log has other orders than were answered"
! inside journalctl --unit ordercast.service | grep --quiet "no mark of a stop in order" || fail "a server was killed"
step "upgraded under load, $(answered) orders answered and counted once, $upgraded of them before the upgrade's end"

halt
boot
within 10 ask /readyz --output /dev/null
check_service
[ "$(total)" = $((start + $(answered))) ] || fail "after a start of the machine the total is $(total)"
step "started with the machine"

inside dpkg --remove ordercast </dev/null >"$work/dpkg" 2>&1 || fail "dpkg: $(cat "$work/dpkg")"
! runs || fail "the server runs after the package was removed"
[ -f "$root/etc/default/ordercast" ] || fail "removing the package deleted its configuration"
inside dpkg --purge ordercast </dev/null >"$work/dpkg" 2>&1 || fail "dpkg: $(cat "$work/dpkg")"
for left in /etc/default/ordercast /usr/bin/ordercast /usr/lib/systemd/system/ordercast.service \
    /etc/systemd/system/ordercast.service /etc/systemd/system/multi-user.target.wants/ordercast.service \
    /usr/share/doc/ordercast /var/lib/systemd/deb-systemd-helper-enabled/ordercast.service.dsh-also; do
    [ ! -e "$root$left" ] && [ ! -L "$root$left" ] || fail "$left is left after the purge"
done
[ -s "$root/var/lib/ordercast/ordercast.sqlite3" ] || fail "the purge deleted the orders"
install_package "$new"
check_service
[ "$(total)" = $((start + $(answered))) ] || fail "after the purge the total is $(total)"
step "purged without a question, the orders kept and served by the next installation"
inside dpkg --purge ordercast </dev/null >"$work/dpkg" 2>&1

# The commands of docs/operations.md, on the orders that the package left.
if [ -n "${ARCHIVE:-}" ]; then
    prefix=/usr/local
    cp "$ARCHIVE" "$root/archive.tar.gz"
    for _ in installed upgraded; do
        inside tar -xzf /archive.tar.gz --strip-components=1 --no-same-owner -C "$prefix"
        inside cp -n "$prefix/share/doc/ordercast/ordercast.default" /etc/default/ordercast
        inside systemd-sysusers
        inside systemctl daemon-reload
        inside systemctl --quiet enable ordercast
        inside systemctl restart ordercast
        within 10 ask /readyz --output /dev/null
        check_service
        [ "$(total)" = $((start + $(answered))) ] || fail "the archive's server has the total $(total)"
    done
    inside systemctl --quiet disable --now ordercast
    inside sh -c "cd $prefix && xargs --arg-file=share/doc/ordercast/FILES rm"
    left=$(inside find "$prefix" -name '*ordercast*' -type f)
    [ -z "$left" ] || fail "the archive's removal leaves $left"
    step "the archive unpacked, upgraded and removed"
fi
halt
