#!/bin/sh
# Puts musl's headers for an architecture into target/dist-deps, from Debian's package musl-dev:
# packaging/musl.sh ARCHITECTURE... (Debian's names)
# The machine's own packages and its list of architectures stay as they are: apt keeps its state below target/.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
for architecture; do
    folder=$root/target/dist-deps/$architecture
    [ ! -f "$folder/done" ] || continue
    state=$folder/apt
    rm -rf "$folder"
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    apt() {
        apt-get --quiet=2 -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" \
            -o APT::Sandbox::User=root -o Dir::State="$state" -o Dir::State::lists="$state/lists" \
            -o Dir::State::status=/dev/null -o Dir::Cache="$state/cache" "$@"
    }
    apt update
    (cd "$folder" && apt download musl-dev)
    dpkg-deb --extract "$folder"/musl-dev_*.deb "$folder"
    rm -rf "$state" "$folder"/musl-dev_*.deb
    touch "$folder/done"
done
