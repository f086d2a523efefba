#!/bin/sh
# `make install` and `make uninstall` with a binary into a folder of their own: tests/packages/tree.sh BINARY
set -eu

BINARY=$(realpath "$1")
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

DESTDIR=$work/root PREFIX=/opt/shop
export BINARY DESTDIR PREFIX
make --silent install
tree=$DESTDIR$PREFIX
cmp "$BINARY" "$tree/bin/ordercast"
[ -x "$tree/bin/ordercast" ] || fail "the binary cannot be executed"
grep --quiet "^ExecStart=$PREFIX/bin/ordercast" "$tree/lib/systemd/system/ordercast.service" ||
    fail "the unit's path is wrong"
! grep --recursive /usr/bin/ordercast "$tree/lib" || fail "a unit has another path"
for path in share/man/man1/ordercast.1 share/bash-completion/completions/ordercast \
    share/zsh/site-functions/_ordercast share/fish/vendor_completions.d/ordercast.fish; do
    [ -s "$tree/$path" ] || fail "$path is missing"
done
bash -n "$tree/share/bash-completion/completions/ordercast"

# What the administrator wrote stays; what others put there too.
echo ORDERCAST_KEEP_KEYS=48 >"$DESTDIR/etc/default/ordercast"
echo other >"$tree/bin/other"
make --silent install
grep --quiet KEEP_KEYS=48 "$DESTDIR/etc/default/ordercast" || fail "the second installation changed the configuration"
make --silent uninstall
left=$(cd "$DESTDIR" && find . -type f | sort | tr '\n' ' ')
[ "$left" = "./etc/default/ordercast .$PREFIX/bin/other " ] || fail "this is left: $left"
! make --silent uninstall 2>"$work/error" || fail "there was nothing to uninstall"
grep --quiet "nothing was installed" "$work/error" || fail "$(cat "$work/error")"
echo "installed below a prefix and uninstalled"
