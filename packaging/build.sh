#!/bin/sh
# Builds the release binary of one target, linked statically: packaging/build.sh TARGET
# The last line on standard output is the binary's path. Exit code 3: this machine lacks something that the target
# needs. A message on standard error names it, and `make dist-deps` installs it on Debian.
#
# The same sources, compilers and SOURCE_DATE_EPOCH should give the same bytes, wherever the checkout and the registry of
# cargo lie (tests/packages/same_bytes.sh).
set -eu

target=$1
cargo=${CARGO:-cargo}
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

lacks() {
    echo "$target is skipped: $1" >&2
    exit 3
}

# The GNU triplet names the C compiler, which also links.
case $target in
x86_64-unknown-linux-musl) gnu=x86_64-linux-gnu debian=amd64 ;;
aarch64-unknown-linux-musl) gnu=aarch64-linux-gnu debian=arm64 ;;
armv7-unknown-linux-gnueabihf) gnu=arm-linux-gnueabihf debian=armhf ;;
*)
    echo "packaging/build.sh: no such target: $target" >&2
    exit 2
    ;;
esac
command -v "$gnu-gcc" >/dev/null || lacks "there is no C compiler $gnu-gcc"
libraries=$(rustc --print target-libdir --target "$target")
[ -n "$(find "$libraries" -name 'libstd-*.rlib' 2>/dev/null)" ] ||
    lacks "Rust's standard library for it is missing (rustup target add $target)"

# Paths of this machine, which panic messages would name. Cargo unpacks the crates first, so that their folders exist.
$cargo fetch --locked --target "$target" >&2
remap="$root=/ordercast"
home=${CARGO_HOME:-$HOME/.cargo}
flags="-Ctarget-feature=+crt-static"
c_flags="-ffile-prefix-map=$root=/ordercast"
separator=$(printf '\037')
for sources in "$home"/registry/src/*; do
    flags="$flags${separator}--remap-path-prefix=$sources=/crates"
    c_flags="$c_flags -ffile-prefix-map=$sources=/crates"
done
flags="$flags${separator}--remap-path-prefix=$remap"

# SQLite is compiled against the headers of the C library that Rust links: its own musl, or glibc's static library.
case $target in
*-musl)
    headers=$root/target/dist-deps/$debian/usr/include/${gnu%-gnu}-musl
    [ -f "$headers/stdio.h" ] || lacks "musl's headers are missing (packaging/musl.sh $debian)"
    c_flags="$c_flags -U_FORTIFY_SOURCE -nostdinc -isystem $headers -isystem $("$gnu-gcc" -print-file-name=include)"
    ;;
*)
    [ -f "$("$gnu-gcc" -print-file-name=libc.a)" ] || lacks "the static C library for $gnu is missing"
    # Times after 2038, which Rust's standard library has without flags.
    c_flags="$c_flags -D_FILE_OFFSET_BITS=64 -D_TIME_BITS=64"
    ;;
esac

variable=$(echo "$target" | tr '[:lower:]-' '[:upper:]_')
export "CARGO_TARGET_${variable}_LINKER=$gnu-gcc"
variable=$(echo "$target" | tr - _)
export "CC_$variable=$gnu-gcc" "CFLAGS_$variable=$c_flags"
# Between targets only the encoded form may hold spaces.
export CARGO_ENCODED_RUSTFLAGS="$flags" CARGO_INCREMENTAL=0
: "${SOURCE_DATE_EPOCH:=$(packaging/epoch.sh)}"
export SOURCE_DATE_EPOCH
$cargo build --release --locked --target "$target" --bin ordercast >&2
echo "${CARGO_TARGET_DIR:-$root/target}/$target/release/ordercast"
