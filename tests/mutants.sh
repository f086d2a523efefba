#!/bin/sh
# Changes the code in one place at a time (a mutant) and runs the tests, of which one should fail: mutants.sh [PATTERN...]
# A pattern (grep -E) selects mutants by their names, such as src/tally/ or 'in RateLimit'; .cargo/mutants.toml says which
# code has mutants at all. Prints those that no test noticed, and fails if there are any.
#
# MUTANTS=200 takes a random sample of so many, and MUTANTS_SEED repeats one. All of them take days.
#
# Each mutant is tried with the tests that are over within seconds, then those that were not noticed with all tests.
# Needs cargo-mutants (cargo install cargo-mutants --locked). The working tree is copied, not changed; results are in
# target/mutants.out.
set -eu

cargo=${CARGO:-cargo}
seed=${MUTANTS_SEED:-$(date +%s)}
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
if ! $cargo mutants --version >/dev/null 2>&1; then
    echo "cargo-mutants is missing; install it: cargo install cargo-mutants --locked" >&2
    exit 1
fi
# Kept, so that dependencies are built once. Not the usual folder, because their flags differ.
export CARGO_TARGET_DIR="$root/target/mutants-build"
export RUST_TEST_THREADS="${TEST_THREADS:-16}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$root/target"

[ $# -gt 0 ] || set -- .
for pattern; do printf '%s\n' "$pattern"; done >"$work/patterns"
$cargo mutants --list | grep -E -f "$work/patterns" | sort >"$work/all"
awk -v seed="$seed" 'BEGIN { srand(seed) } { printf "%.9f %s\n", rand(), $0 }' "$work/all" | sort |
    head -n "${MUTANTS:-1000000}" | cut -d ' ' -f 2- >"$work/sample"
echo "$(wc -l <"$work/sample") of $(wc -l <"$work/all") mutants, MUTANTS_SEED=$seed"

# Tests that wait for a deadline of the server, or put load on it.
slow="deadlines:: shutdown:: hostile:: starvation:: signals:: disk_faults:: power_loss:: torture:: crash:: shop:: no_room::
    full_disk:: slow_subscriber:: resume_load:: fanout_load:: paced_load:: history:: read_after_write:: moving:: events_end::
    chaos:: data_check:: displaced:: log_size:: unread:: resume_far:: terminal:: standard_streams:: backup::
    the_session_of_a_removed_token endless_frames a_flood_of"
# Writes the configuration for a run of the binaries that cover this code, without the tests that are named. All binaries
# are built, with the echo that the tests of sessions drive.
configure_without() {
    cat .cargo/mutants.toml
    # A name has its place in the file, so as a pattern it matches one mutant. Mutants that delete a field of a struct, eight
    # in all, are tried every time: cargo-mutants does not select them.
    echo "examine_re = ["
    sed -e 's/[][\\.*+?(){}|^$]/\\&/g' -e "s/.*/'''^&\$''',/" "$work/sample"
    echo ']'
    echo 'additional_cargo_test_args = ["--lib"'
    for binary in sources api http websocket feeds durability process tools; do echo ", '--test=$binary'"; done
    echo ', "--"'
    for name; do echo ", '--skip=$name'"; done
    echo ']'
}
mutants() {
    $cargo mutants --config "$work/config" --output target --colors never "$@"
}

configure_without $slow >"$work/config"
# Exit codes 2 and 3: mutants were not noticed, or ended with a timeout.
mutants --timeout-multiplier 3 --minimum-test-timeout 60 || [ $? -eq 2 ] || [ $? -eq 3 ]
if [ -s target/mutants.out/missed.txt ]; then
    echo "Those that were not noticed, with all tests:"
    configure_without >"$work/config"
    mutants --iterate --baseline skip --timeout 900
fi
