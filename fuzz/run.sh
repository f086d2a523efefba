#!/bin/sh
# Fuzzes all targets, or those named, for FUZZ_SECONDS (60) each, one after another: run.sh [TARGET...]
# Prints executions and coverage. A fault ends the run; its input is in artifacts/.
#
# Needs cargo-fuzz (cargo install cargo-fuzz --locked) and a C++ compiler for libFuzzer. The stable Rust compiler will do:
# RUSTC_BOOTSTRAP=1 enables its flag for AddressSanitizer, which checks the `unsafe` code of the dependencies. Where the
# compiler comes without the sanitizer's runtime, set FUZZ_SANITIZER=none.
#
# New inputs are kept in corpus/, which is not in the repository. To keep a case, copy it to seeds/TARGET under a name that
# describes it: every `cargo test` then runs it.
set -eu

cargo=${CARGO:-cargo}
seconds=${FUZZ_SECONDS:-60}
sanitizer=${FUZZ_SANITIZER:-address}
fuzz=$(cd "$(dirname "$0")" && pwd)
cd "$(dirname "$fuzz")"

if ! $cargo fuzz --version >/dev/null 2>&1; then
    echo "cargo-fuzz is missing; install it: cargo install cargo-fuzz --locked" >&2
    exit 1
fi
if ! command -v c++ >/dev/null; then
    echo "a C++ compiler is missing, libFuzzer is built with it; install it, such as: apt-get install g++" >&2
    exit 1
fi
[ "$sanitizer" = none ] || export RUSTC_BOOTSTRAP=1
[ $# -gt 0 ] || set -- request command catalog command_line

$cargo fuzz build --sanitizer "$sanitizer"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for target; do
    mkdir -p "$fuzz/corpus/$target"
    # 4096 bytes are enough for a head above its limit, and for a product with the longest texts.
    if ! $cargo fuzz run --sanitizer "$sanitizer" "$target" "$fuzz/corpus/$target" "$fuzz/seeds/$target" -- \
        -dict="$fuzz/dictionaries/$target.dict" -max_total_time="$seconds" -max_len=4096 -timeout=10 \
        -print_final_stats=1 >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        echo "$target: a fault was found; its input is in $fuzz/artifacts/$target" >&2
        exit 1
    fi
    # The last status line has the coverage: #219 DONE cov: 812 ft: 2415 corp: 90/9Kb ...
    reached=$(grep -E '^#[0-9]+.*DONE' "$log" | tail -n 1 | sed -n 's/.*cov: \([0-9]*\) ft: \([0-9]*\) corp: \([0-9]*\).*/\1 edges, \2 features, \3 inputs kept/p')
    number=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "$target: $number executions in $seconds s without a fault; $reached"
done
