#!/bin/sh
# Makes a Debian package of a tree that packaging/stage.sh made with the prefix /usr:
# packaging/deb.sh TREE ARCHITECTURE VERSION OUTPUT
# DEBFULLNAME and DEBEMAIL name the maintainer. The same tree gives the same bytes, except with another dpkg-deb or
# gzip. COMPRESSION is xz, or gzip for a test that has little time.
set -eu

tree=$(realpath "$1") architecture=$2 version=$3 output=$(realpath --canonicalize-missing "$4")
cd "$(dirname "$0")/.."
umask 022
SOURCE_DATE_EPOCH=$(packaging/epoch.sh)
export SOURCE_DATE_EPOCH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -R "$tree" "$work/root"
root=$work/root

# Where Debian has them.
rm "$root/usr/share/doc/ordercast/FILES" "$root"/usr/share/doc/ordercast/LICENSE-*
mkdir -p "$root/etc/default" "$root/usr/share/zsh" "$root/DEBIAN"
mv "$root/usr/share/doc/ordercast/ordercast.default" "$root/etc/default/ordercast"
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"
gzip -9n "$root"/usr/share/man/man1/*.1
sed -n '5,$p' LICENSE-MIT | sed -e 's/^$/./' -e 's/^/ /' >"$work/mit"
sed -e "/@MIT@/ { r $work/mit" -e 'd }' packaging/debian/copyright >"$root/usr/share/doc/ordercast/copyright"

cd "$root/usr/lib/systemd/system"
# The timer and the socket before the service that they start.
set -- ordercast*.timer ordercast*.socket ordercast*.service
units=
for unit; do
    [ ! -f "$unit" ] || units="$units${units:+ }$unit"
done
cd - >/dev/null
size=$(find "$root/etc" "$root/usr" -type f -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')
fill() {
    sed -e "s|@VERSION@|$version|" -e "s|@ARCHITECTURE@|$architecture|" -e "s|@SIZE@|$size|" -e "s|@UNITS@|$units|" \
        -e "s|@MAINTAINER@|${DEBFULLNAME:-Ordercast maintainers} <${DEBEMAIL:-root@localhost}>|" \
        "packaging/debian/$1" >"$root/DEBIAN/$1"
    chmod "$2" "$root/DEBIAN/$1"
}
fill control 644
for script in postinst prerm postrm; do
    fill "$script" 755
done
echo /etc/default/ordercast >"$root/DEBIAN/conffiles"
(cd "$root" && find usr -type f | LC_ALL=C sort | xargs md5sum) >"$root/DEBIAN/md5sums"
# Modes do not depend on the umask of the checkout. Several threads would split the compressed data otherwise.
chmod -R u+rwX,go+rX,go-w "$root"
dpkg-deb --root-owner-group -Z"${COMPRESSION:-xz}" --threads-max=1 --build "$root" "$output" >/dev/null
