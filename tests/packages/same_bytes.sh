#!/bin/sh
# Builds what `make dist` made once more, from a copy of the sources in another folder and with another folder of
# cargo's, and compares all files: tests/packages/same_bytes.sh [TARGET...] (those that the first build made)
set -eu

cd "$(dirname "$0")/../.."
first=$PWD/target/dist
[ -f "$first/SHA256SUMS" ] || { echo "there is no $first/SHA256SUMS: run \`make dist\` first" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
copy=$work/a-folder-of-another-name/sources
mkdir -p "$copy/target" "$work/cargo/registry"
git ls-files -z | xargs --null cp --parents --target-directory="$copy"
cp -R target/dist-deps "$copy/target/dist-deps"
home=${CARGO_HOME:-$HOME/.cargo}
cp -R "$home/registry/cache" "$home/registry/index" "$work/cargo/registry"
for file in config.toml config; do
    [ ! -f "$home/$file" ] || cp "$home/$file" "$work/cargo"
done
SOURCE_DATE_EPOCH=$(packaging/epoch.sh)
export SOURCE_DATE_EPOCH
# Another umask, zone and language too.
(umask 077 && cd "$copy" && TZ=Asia/Tokyo LC_ALL=C CARGO_HOME=$work/cargo packaging/dist.sh "$@" >/dev/null)
cd "$copy/target/dist"
if [ $# -gt 0 ]; then
    sha256sum --check --ignore-missing "$first/SHA256SUMS"
else
    cmp SHA256SUMS "$first/SHA256SUMS"
    sha256sum --check "$first/SHA256SUMS"
fi
