#!/bin/bash
# Installs a Debian package, upgrades it under load and purges it, on a Debian that systemd runs as process 1 in
# namespaces of its own: tests/packages/install.sh PACKAGE [PACKAGE-BEFORE]
#
# PACKAGE-BEFORE is the package of an earlier version; without one it is PACKAGE under a lower number. ARCHIVE is the
# archive of the same version, which is tried last. machine.sh says what the machine is.
. "$(dirname "$0")/machine.sh"

new=$(realpath "$1")
before=${2:+$(realpath "$2")}
prefix=/usr

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
    inside dpkg --install /tmp-package.deb </dev/null >"$work/output" 2>&1 || fail "dpkg: $(cat "$work/output")"
}

if [ -z "$before" ]; then
    before=$work/before.deb
    dpkg-deb --raw-extract "$new" "$work/package"
    sed -i 's/^Version: .*/Version: 0.0.1/' "$work/package/DEBIAN/control"
    dpkg-deb --root-owner-group -Znone --build "$work/package" "$before" >/dev/null
fi
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

inside systemctl --quiet enable --now ordercast-backup.timer
inside dpkg --remove ordercast </dev/null >"$work/output" 2>&1 || fail "dpkg: $(cat "$work/output")"
! runs || fail "the server runs after the package was removed"
[ -f "$root/etc/default/ordercast" ] || fail "removing the package deleted its configuration"
install_package "$new"
check_service
inside systemctl --quiet is-active ordercast-backup.timer || fail "the timer that was enabled does not run"
inside dpkg --remove ordercast </dev/null >"$work/output" 2>&1 || fail "dpkg: $(cat "$work/output")"
inside dpkg --purge ordercast </dev/null >"$work/output" 2>&1 || fail "dpkg: $(cat "$work/output")"
for left in /etc/default/ordercast /usr/bin/ordercast /usr/lib/systemd/system/ordercast.service \
    /etc/systemd/system/ordercast.service /etc/systemd/system/multi-user.target.wants/ordercast.service \
    /etc/systemd/system/timers.target.wants/ordercast-backup.timer /usr/share/doc/ordercast \
    /var/lib/systemd/deb-systemd-helper-enabled/ordercast.service.dsh-also; do
    [ ! -e "$root$left" ] && [ ! -L "$root$left" ] || fail "$left is left after the purge"
done
[ -s "$root/var/lib/ordercast/ordercast.sqlite3" ] || fail "the purge deleted the orders"
install_package "$new"
check_service
[ "$(total)" = $((start + $(answered))) ] || fail "after the purge the total is $(total)"
step "purged without a question, the orders kept and served by the next installation"
inside dpkg --purge ordercast </dev/null >"$work/output" 2>&1

# The commands of docs/service.md, on the orders that the package left.
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
