#!/bin/bash
# Goes the path of docs/operations.md: runs its commands as they are written, in their order, on the machine of
# machine.sh, and looks after each step at what the step promises: tests/packages/path.sh PACKAGE
. "$(dirname "$0")/machine.sh"

page=$(realpath "$(dirname "$0")/../../docs/operations.md")
version=$(dpkg-deb --field "$1" Version)
architecture=$(dpkg --print-architecture)
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cp "$1" "$root/root/ordercast_${version}_$architecture.deb"
# The commands are those of a user with sudo. Where it is missing, root is that user.
[ -x "$root/usr/bin/sudo" ] || {
    mkdir -p "$root/usr/local/bin"
    cat >"$root/usr/local/bin/sudo" <<'END'
#!/bin/sh
case $1 in
-u) user=$2 && shift 2 && exec runuser -u "$user" -- "$@" ;;
*) exec "$@" ;;
esac
END
    chmod 755 "$root/usr/local/bin/sudo"
}

expect() { # VALUE WANTED WHAT
    [ "$1" = "$2" ] || fail "$3: $1, and not $2"
}

status() { # PATH [OPTION...]
    local at=$1
    shift
    nsenter --target "$process" --net curl --silent --output /dev/null --write-out '%{http_code}' --max-time 10 "$@" \
        "http://127.0.0.1:3000$at"
}

ready() {
    within 10 ask /readyz --output /dev/null
}

total() { # ID: the total of a product of the catalogue
    ask /orders/bread | tr '{' '\n' | sed -n "s/^\"id\":\"$1\",\"total\":\([0-9]*\).*/\1/p"
}

order() { # ID AMOUNT
    inside ordercast post --token-file /etc/ordercast/tokens "$1" "$2" >"$work/output" 2>&1 || fail "no order is taken"
}

backups() {
    inside find /var/backups/ordercast -name 'orders-*.db' | wc --lines
}

after_1() {
    ready
    expect "$(status / --header "Host: localhost:5050")" 200 "the board"
}

after_2() {
    ready
    expect "$(ask /orders/bread | tr -cd '{' | wc --chars)" 2 "products of the new catalogue"
    expect "$(status /orders/electronics)" 404 "the sample"
}

after_3() {
    ready
    local order=(--header "Content-Type: application/json" --data '{"amount":1}')
    expect "$(status /orders/B2 "${order[@]}")" 401 "an order without a code"
    local code
    code=$(inside cat /etc/ordercast/tokens)
    expect "$(status /orders/B2 "${order[@]}" --header "Authorization: Bearer $code")" 200 "an order with a code"
    local close=(--header "Content-Type: application/json" --data '{"number":1}')
    expect "$(status /periods "${close[@]}" --header "Authorization: Bearer $code")" 403 "a close with a till's code"
    code=$(inside cat /etc/ordercast/admin-tokens)
    expect "$(status /periods "${close[@]}" --header "Authorization: Bearer $code")" 200 "a close with a manager's"
}

after_4() {
    expect "$(total B1)" 1 "the order"
    inside ss --tcp --listening --numeric | grep --quiet --fixed-strings 0.0.0.0:3000 || fail "it is not open"
    ! inside journalctl --unit ordercast.service | grep --quiet "everybody who can reach" || fail "it has no codes"
}

after_6() {
    grep --quiet "B1 " "$work/blocks/6.1.out" || fail "the report has no order of B1"
    inside grep --quiet ",B1," /root/hours.csv || fail "the report for a spreadsheet has no order of B1"
}

after_7() {
    expect "$(inside systemctl is-enabled ordercast-backup.timer)" enabled "the timer"
    expect "$(backups)" 1 "backups"
    # It is not in the backup that is restored next.
    order B1 5
    expect "$(total B1)" 6 "the total"
}

after_8() {
    ready
    expect "$(total B1)" 1 "the total of the backup"
    order B1 1
    local before
    before=$(inside find /var/lib -maxdepth 1 -name 'ordercast-*')
    inside ordercast export --data "$before" | grep --quiet '"amount":5' || fail "the data before the restore is gone"
}

after_9() {
    ready
    expect "$(backups)" 2 "backups"
    expect "$(total B1)" 2 "the total after the upgrade"
    order B1 1
}

after_10() {
    ready
    order B1 1
    expect "$(total B1)" 4 "the total after compacting"
}

after_11() {
    ready
    order B1 1
    expect "$(total B1)" 5 "the total after the repair"
    expect "$(inside stat --format='%U %G' /var/lib/ordercast)" "ordercast ordercast" "the folder's owner"
}

# Each block of commands in a file: the number of its step, and its own number there.
mkdir "$work/blocks"
awk -v folder="$work/blocks" '
    /^## / { step = $2 + 0; block = 0 }
    /^```sh$/ { block += 1; file = folder "/" step "." block; next }
    /^```$/ { file = "" }
    file != "" { print > file }
' "$page"
[ ! -e "$work/blocks/0.1" ] || fail "commands stand outside the steps"

boot
step "systemd runs"
for number in $(seq 11); do
    count=0
    for block in $(find "$work/blocks" -name "$number.*" | sort -V); do
        # The names of packages are those of this version and this processor.
        sed "s/_amd64\.deb/_$architecture.deb/" "$block" >"$root/root/block"
        inside env --ignore-environment --chdir=/root HOME=/root PATH="$path" bash -euo pipefail block \
            </dev/null >"$work/output" 2>&1 || fail "step $number of docs/operations.md: $(cat "$block")"
        cp "$work/output" "$block.out"
        count=$((count + 1))
    done
    if [ "$(type -t "after_$number")" = function ]; then
        [ "$count" -gt 0 ] || fail "step $number has no commands"
        "after_$number"
    else
        [ "$count" = 0 ] || fail "nothing looks at step $number"
    fi
    step "step $number: $(grep "^## $number " "$page" | cut -d " " -f 3-), $count blocks of commands"
done
! inside systemctl --failed --quiet --plain --no-legend | grep ordercast || fail "a unit has failed"
halt
