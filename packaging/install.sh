#!/bin/sh
# packaging/install.sh install|uninstall, with PREFIX (/usr/local) and DESTDIR: `make install` and `make uninstall`.
set -eu

prefix=${PREFIX:-/usr/local}
tree=${DESTDIR:-}$prefix
default=${DESTDIR:-}/etc/default/ordercast
list=$tree/share/doc/ordercast/FILES
cd "$(dirname "$0")/.."
case $prefix in
/*) ;;
*)
    echo "PREFIX must be an absolute path, not $prefix" >&2
    exit 2
    ;;
esac

case ${1:-} in
install)
    stage=$(mktemp -d)
    trap 'rm -rf "$stage"' EXIT
    packaging/stage.sh "$stage" "$prefix" "${BINARY:-${CARGO_TARGET_DIR:-target}/release/ordercast}"
    # Each file gets its name when it is complete, so that a running server keeps its own binary.
    while read -r path; do
        mkdir -p "$(dirname "$tree/$path")"
        cp "$stage$prefix/$path" "$tree/$path.new"
        mv "$tree/$path.new" "$tree/$path"
    done <"$stage$prefix/share/doc/ordercast/FILES"
    if [ ! -e "$default" ]; then
        mkdir -p "$(dirname "$default")"
        cp packaging/default "$default"
        chmod 644 "$default"
    fi
    [ -n "${DESTDIR:-}" ] || echo "start it as a service: systemd-sysusers && systemctl daemon-reload &&
    systemctl enable ordercast && systemctl restart ordercast"
    ;;
uninstall)
    if [ ! -f "$list" ]; then
        echo "nothing was installed below $tree: $list is missing" >&2
        exit 1
    fi
    for unit in ordercast.socket ordercast-backup.timer ordercast.service; do
        if [ -z "${DESTDIR:-}" ] && { systemctl --quiet is-active "$unit" || systemctl --quiet is-enabled "$unit"; } 2>/dev/null
        then
            systemctl disable --now "$unit"
        fi
    done
    paths=$(cat "$list")
    echo "$paths" | while read -r path; do
        case /$path/ in
        */../*) continue ;;
        esac
        rm -f "$tree/$path"
    done
    rmdir --ignore-fail-on-non-empty "$tree/share/doc/ordercast/docs" "$tree/share/doc/ordercast"
    echo "kept: $default, and the orders in /var/lib/ordercast"
    ;;
*)
    echo "usage: packaging/install.sh install|uninstall" >&2
    exit 2
    ;;
esac
