#!/bin/sh
# What CI can try of the packages in less than a minute: the binary that the tests run, without its symbols, is
# packaged, installed, upgraded and purged, and goes through `make install` and `make uninstall`.
set -eu

cd "$(dirname "$0")/../.."
if ! command -v dpkg-deb >/dev/null; then
    [ "${CI:-}" != true ] || { echo "dpkg-deb is missing" >&2; exit 1; }
    echo "skipped: dpkg-deb is missing" >&2
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
strip -o "$work/ordercast" "${CARGO_TARGET_DIR:-target}/debug/ordercast"
tests/packages/tree.sh "$work/ordercast"
packaging/stage.sh "$work/tree" /usr "$work/ordercast"
architecture=$(dpkg --print-architecture)
for name in once twice; do
    COMPRESSION=gzip packaging/deb.sh "$work/tree" "$architecture" "$(packaging/version.sh)" "$work/$name.deb"
done
cmp "$work/once.deb" "$work/twice.deb"
tests/packages/install.sh "$work/once.deb"
tests/packages/path.sh "$work/once.deb"
