#!/usr/bin/env bash
# Runs tests of a server on a data folder once more, on nodes: each server gets a database in a cluster that is started here
# and removed at the end. Arguments choose them, as those of `cargo test`; without any they are those of the interface, and
# those of periods and rates while the server is killed. Needs PostgreSQL (make deps).
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort --version-sort | tail -n 1)
if [ -z "$bin" ]; then
    echo "PostgreSQL is missing; install it: make deps" >&2
    [ "${CI:-}" = true ] && exit 1
    exit 0
fi
folder=$(mktemp --directory)
as_owner=()
if [ "$(id --user)" = 0 ]; then
    chown postgres "$folder"
    as_owner=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
cd_root() { (cd / && "${as_owner[@]}" "$@"); }
stop() {
    cd_root "$bin/pg_ctl" --pgdata="$folder/data" --mode=immediate --silent stop || true
    rm --recursive --force "$folder"
}
trap stop EXIT
# What these tests prove does not depend on the disk, so it is not waited for.
cd_root "$bin/initdb" --pgdata="$folder/data" --username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync \
    >"$folder/initdb.log"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cd_root "$bin/pg_ctl" --pgdata="$folder/data" --log="$folder/data/log" --silent --wait start --options \
    "-p $port -k $folder -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=1000 -c shared_buffers=64MB"
url="postgres://postgres@127.0.0.1:$port"
"$bin/psql" --no-psqlrc --quiet --dbname="$url/postgres" --command="CREATE DATABASE ordercast_template"
# As the tests build it, so that it is built once.
cargo test --quiet --features postgres --no-run --test api
target/debug/ordercast migrate --store "$url/ordercast_template"

# What is about a data folder: its file and its disk, its commands, log lines that name it, and a log that is cut with every
# commit.
skipped=(
    a_catalogue_file_for_a_folder_that_has_the_sample
    a_catalogue_file_gives_titles_to_new_categories
    a_category_with_the_name_of_a_route
    a_client_whose_orders_cannot_be_read_now
    a_close_during_whose_commit_the_file_is_moved
    a_close_that_the_disk_refuses
    a_patch_that_changes_nothing_writes_nothing
    a_product_added_while_a_subscriber_was_away
    a_subscriber_away_for_longer_than_the_log
    at_the_cap_of_keys
    every_change_is_a_line_of_the_history
    rates_after_a_restart_have_as_many_orders
    the_history_keeps_its_last_ten_thousand_lines
)
export ORDERCAST_TEST_STORE="$url/postgres"
run() { cargo test --quiet --features postgres --no-fail-fast "$@" "${skipped[@]/#/--skip=}"; }
if [ $# -gt 0 ]; then
    run "$@" --
else
    # Both, also when a test fails.
    failed=0
    run --test api -- || failed=1
    run --test durability -- periods:: period_feeds:: rates:: || failed=1
    exit $failed
fi
