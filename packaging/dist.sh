#!/bin/sh
# Makes a release in target/dist: for each target a static binary, as an archive to unpack below a prefix and as a
# Debian package, with its SBOM; the folder that packaging/Dockerfile builds from; and SHA256SUMS:
# packaging/dist.sh [TARGET...]
# A target that this machine cannot build is skipped with a message. Fails if there is none.
set -eu

cd "$(dirname "$0")/.."
umask 022
[ $# -gt 0 ] || set -- x86_64-unknown-linux-musl aarch64-unknown-linux-musl armv7-unknown-linux-gnueabihf
SOURCE_DATE_EPOCH=$(packaging/epoch.sh)
export SOURCE_DATE_EPOCH
version=$(packaging/version.sh)
dist=$PWD/target/dist
rm -rf "$dist"
mkdir -p "$dist"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# All binaries first: any one that runs here prints the manual page and the completions for all.
built='' runs=''
for target; do
    code=0
    binary=$(packaging/build.sh "$target") || code=$?
    [ "$code" -ne 3 ] || continue
    [ "$code" -eq 0 ] || exit "$code"
    built="$built $target"
    mkdir "$work/$target"
    cp "$binary" "$work/$target/ordercast"
    [ -n "$runs" ] || ! "$binary" --version >/dev/null 2>&1 || runs=$work/$target/ordercast
done
[ -n "$built" ] || { echo "no target can be built on this machine" >&2; exit 1; }
if [ -z "$runs" ]; then
    ${CARGO:-cargo} build --release --locked >&2
    runs=${CARGO_TARGET_DIR:-target}/release/ordercast
fi

for target in $built; do
    case $target in
    x86_64-*) compiler=x86_64-linux-gnu-gcc debian=amd64 container=amd64 ;;
    aarch64-*) compiler=aarch64-linux-gnu-gcc debian=arm64 container=arm64 ;;
    armv7-*) compiler=arm-linux-gnueabihf-gcc debian=armhf container=arm ;;
    esac
    name=ordercast-$version-$target
    binary=$work/$target/ordercast
    packaging/dependencies.py "$target" "$compiler" "$work/$target/notices"
    cp "$work/$target/notices/sbom.cdx.json" "$dist/$name.cdx.json"

    packaging/stage.sh "$work/$target/archive" /usr/local "$binary" "$runs" "$work/$target/notices"
    mv "$work/$target/archive/usr/local" "$work/$target/$name"
    # Without entries for folders, whose modes and links below /usr/local are the machine's.
    (cd "$work/$target" && find "$name" -type f -print0 | LC_ALL=C sort --zero-terminated |
        tar --create --format=ustar --null --files-from=- --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 \
            --numeric-owner --mode=u+rwX,go+rX,go-w) | gzip -9n >"$dist/$name.tar.gz"

    packaging/stage.sh "$work/$target/debian" /usr "$binary" "$runs" "$work/$target/notices"
    # In Debian's order of versions `~` stands before the release, as `-` does in SemVer's.
    packaging/deb.sh "$work/$target/debian" "$debian" "$(echo "$version" | tr - '~')" \
        "$dist/ordercast_${version}_$debian.deb"

    mkdir -p "$dist/container/$container/licences" "$dist/container/$container/data"
    cp "$binary" "$dist/container/$container"
    cp LICENSE-* "$work/$target/notices/DEPENDENCIES.txt" "$work/$target/notices/rust-standard-library.html" \
        "$dist/container/$container/licences"
done

cd "$dist"
sha256sum -- *.cdx.json *.deb *.tar.gz >SHA256SUMS
ls -l
