#!/bin/sh
# Installs the peers under target/peers and measures them beside ordercast.
# Needs node and npm, cargo, and Debian's nginx with libnginx-mod-nchan. Arguments go to the load generator.
set -eu

sources=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$sources")")
target=${CARGO_TARGET_DIR:-$root/target}
mkdir -p "$target/peers"

for peer in fastify ws bun; do
    room=$target/peers/$peer
    mkdir -p "$room"
    cp "$sources/$peer/package.json" "$sources/$peer/server.js" "$room/"
    (cd "$room" && npm install --no-package-lock --no-audit --no-fund --loglevel=error)
done
cargo build --release --locked --manifest-path "$sources/axum/Cargo.toml" --target-dir "$target/peers/axum"

cd "$root"
exec cargo bench --bench load -- peers "$@"
