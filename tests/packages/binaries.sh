#!/bin/bash
# Starts the binaries of `make dist` in the folders that packaging/Dockerfile copies, as a container would: with nothing
# else in their root, as its user, and with its environment: tests/packages/binaries.sh
# Each takes an order, is started again and still has it. Those for other processors run under Debian's
# qemu-user-static; one whose emulator is missing is skipped with a message. Needs root and curl.
set -euo pipefail

cd "$(dirname "$0")/../.."
folder=target/dist/container
user=$(sed -n 's/^USER //p' packaging/Dockerfile)
data=$(sed -n 's/^ENV .*ORDERCAST_DATA=\([^ ]*\).*/\1/p' packaging/Dockerfile)
[ -n "$user" ] && [ -n "$data" ]
[ -d "$folder" ] || { echo "there is no $folder: run \`make dist\` first" >&2; exit 1; }
work=$(mktemp -d)
server=
end() {
    [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT

start() { # sets `server` and `url`; --listen instead of the port of the container, which may be in use here
    : >"$work/out"
    # shellcheck disable=SC2086 # no emulator is no argument
    env --ignore-environment ORDERCAST_DATA="$data" ORDERCAST_LISTEN=127.0.0.1:0 \
        "$(command -v chroot)" --userspec="$user" "$root" $emulator /ordercast >"$work/out" 2>"$work/log" &
    server=$!
    local deadline=$((SECONDS + 60))
    until url=$(sed -n 's/^listening on //p' "$work/out") && [ -n "$url" ]; do
        kill -0 "$server" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ] || { cat "$work/log" >&2; exit 1; }
        sleep 0.1
    done
}

stop() {
    kill -TERM "$server"
    local code=0
    wait "$server" || code=$?
    server=
    [ "$code" -eq 0 ] || { echo "the server ended with exit code $code" >&2; exit 1; }
}

total() {
    curl --silent --fail --max-time 30 "$url/orders/electronics" | tr '{' '\n' |
        sed -n 's/^"id":"A1","total":\([0-9]*\).*/\1/p'
}

tried=0
for tree in "$folder"/*; do
    architecture=${tree##*/}
    emulator=
    root=$work/$architecture
    # What the Dockerfile copies, with its owners.
    mkdir "$root"
    grep '^COPY ' packaging/Dockerfile | while read -r _ words; do
        owner=0:0
        for word in $words; do
            case $word in
            --chown=*) owner=${word#--chown=} ;;
            esac
        done
        read -r from to <<<"${words#--chown=* }"
        from=$folder/${from/\$\{TARGETARCH\}/$architecture}
        cp -R "$from" "$root$to"
        chown -R "$owner" "$root$to"
    done
    [ -x "$root/ordercast" ] || { echo "$architecture: no binary" >&2; exit 1; }
    case $architecture in
    amd64) machine=x86_64 ;;
    arm64) machine=aarch64 ;;
    arm) machine=arm ;;
    esac
    if [ "$(uname -m)" != "$machine" ]; then
        emulator=/qemu-$machine-static
        if ! path=$(command -v "qemu-$machine-static"); then
            echo "$architecture is skipped: qemu-$machine-static is missing" >&2
            continue
        fi
        cp "$path" "$root$emulator"
    fi

    start
    before=$(total)
    answer=$(curl --silent --max-time 30 --header "Content-Type: application/json" --data '{"amount":10}' \
        "$url/orders/A1")
    [ "$answer" = '{"ok":true}' ] || { echo "$architecture: an order is answered $answer" >&2; exit 1; }
    resident=
    [ -n "$emulator" ] || resident=", $(sed -n 's/^VmRSS:[ \t]*//p' "/proc/$server/status") resident"
    stop
    start
    after=$(total)
    stop
    [ "$after" = $((before + 10)) ] || { echo "$architecture: after a restart the total is $after" >&2; exit 1; }
    tried=$((tried + 1))
    echo "$architecture takes an order and has it after a restart${emulator:+, under ${emulator#/}}" \
        "($(stat --format=%s "$root/ordercast") bytes$resident)"
done
[ "$tried" -gt 0 ] || { echo "no binary ran" >&2; exit 1; }
