# Every target works on a machine with Rust and its linker; what else a target needs, `make deps` installs.

CARGO ?= cargo

.PHONY: run echo build test test-postgres check audit power torture nodes-torture wall idle soak mutants fuzz contract \
	bench bench-board bench-edges bench-growth bench-nodes bench-peers bench-scale capacity \
	pictures deps install uninstall dist dist-deps dist-test packages-test clean

# Starts the server: the board is at http://localhost:5050, orders go to http://localhost:3000.
# Flags go in ARGS: make run ARGS="--listen 0.0.0.0:8080 --data /srv/orders"
run:
	$(CARGO) run --release -- $(ARGS)

# The connections and sessions without the orders, for conformance suites: whatever is sent comes back.
echo:
	$(CARGO) run --release --example echo -- $(ARGS)

build:
	$(CARGO) build --release

# Many tests wait for a deadline of the server, so that more of them run at a time than there are cores. One that fails
# does not hide the results of those behind it.
TEST_THREADS ?= 16
test:
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --quiet --no-fail-fast

# The same with PostgreSQL: tests of nodes, then some of a server on a data folder once more on nodes, such as those of the
# interface, or NODE_TESTS.
NODE_TESTS ?=
test-postgres:
	RUST_TEST_THREADS=$(TEST_THREADS) $(CARGO) test --quiet --features postgres --no-fail-fast --test postgres
	RUST_TEST_THREADS=$(TEST_THREADS) tests/postgres/suite.sh $(NODE_TESTS)

# Formatting, lints and documentation, all with warnings denied; lints of everything with PostgreSQL, and of the program also
# as it is built without that and as the bare server.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet -- --deny warnings
	$(CARGO) clippy --no-default-features --quiet -- --deny warnings
	$(CARGO) clippy --all-targets --features postgres --quiet -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --features postgres --no-deps --document-private-items --quiet

# Dependencies: versions, licences and sources (deny.toml), and known vulnerabilities, which are skipped where their database
# cannot be fetched. Needs cargo-deny.
audit:
	@$(CARGO) deny --version >/dev/null 2>&1 || \
		{ echo "cargo-deny is missing; install it: cargo install cargo-deny --locked" >&2; exit 1; }
	$(CARGO) deny check bans licenses sources
	@if $(CARGO) deny fetch db; then $(CARGO) deny check advisories; \
		else echo "advisories were SKIPPED: their database cannot be fetched"; fi

# Power cuts, simulated under SQLite: RUNS images of what a disk may hold after one, each opened by the server. Every
# test run opens some.
RUNS ?= 1000
power:
	ORDERCAST_POWER_RUNS=$(RUNS) $(CARGO) test --quiet --test durability power_loss:: -- --nocapture

# ROUNDS of kill -9 under posters that repeat until they are answered, then CHAOS_SECONDS of kills, stops, full disks and a
# moved data file. Every test run does some.
ROUNDS ?= 200
CHAOS_SECONDS ?= 60
torture:
	ORDERCAST_TORTURE_ROUNDS=$(ROUNDS) $(CARGO) test --quiet --test durability torture:: -- --nocapture
	ORDERCAST_CHAOS_SECONDS=$(CHAOS_SECONDS) $(CARGO) test --quiet --test durability chaos:: -- --nocapture

# ROUNDS of kills, hangs and cut connections of three nodes and their database, and takeovers by a synchronous standby,
# under the same posters; then HISTORIES of clients of three nodes that fail. Needs PostgreSQL; every test run with the
# feature does some.
HISTORIES ?= 20
nodes-torture:
	ORDERCAST_NODE_ROUNDS=$(ROUNDS) $(CARGO) test --quiet --features postgres --test postgres chaos:: -- --nocapture
	ORDERCAST_NODE_HISTORIES=$(HISTORIES) $(CARGO) test --quiet --features postgres --test postgres histories:: -- --nocapture

# The board on a wall for MINUTES, with 50 orders a second, three restarts and an upgrade. Every test run does 25 s of it.
MINUTES ?= 30
wall:
	ORDERCAST_WALL_MINUTES=$(MINUTES) $(CARGO) test --quiet --test browser wall_days:: -- --nocapture

# Everything at once against the release binary for MINUTES, at SHARE of the peak rate: sums, slopes of memory and latency,
# and a plot, in SOAK_DIR. SERVER is another binary, such as the static one of a release. Every test run does some seconds.
SHARE ?= 0.5
SERVER ?=
SOAK_DIR ?= $(CURDIR)/target/soak
soak:
	ORDERCAST_SOAK_MINUTES="$(MINUTES)" ORDERCAST_SOAK_SHARE="$(SHARE)" ORDERCAST_SOAK_DIR="$(SOAK_DIR)" \
		ORDERCAST_TEST_BINARY="$(SERVER)" $(CARGO) test --release --quiet --test soak every_order -- --nocapture

# How often an idle server (SERVER as above) wakes up in MINUTES, without and with an open board. Every test run watches one
# for 12 s.
idle:
	ORDERCAST_IDLE_MINUTES=$(MINUTES) ORDERCAST_TEST_BINARY="$(SERVER)" $(CARGO) test --quiet --test process idle:: -- --nocapture

# Changes the code in one place at a time and runs the tests: a random sample of MUTANTS changes, each of which a test should
# notice; tests/mutants.sh says what it needs.
MUTANTS ?= 200
mutants:
	CARGO="$(CARGO)" MUTANTS="$(MUTANTS)" tests/mutants.sh

# Each fuzz target for FUZZ_SECONDS (60); fuzz/run.sh says what it needs.
FUZZ_SECONDS ?= 60
fuzz:
	CARGO="$(CARGO)" FUZZ_SECONDS="$(FUZZ_SECONDS)" fuzz/run.sh

# schemathesis compares the OpenAPI document with a server that the test starts on a free port: EXAMPLES requests of each kind
# for each operation, and the links from answer to request. Every test run sends some.
EXAMPLES ?= 100
CONTRACT = target/contract/installed
contract: $(CONTRACT)
	ORDERCAST_CONTRACT_EXAMPLES=$(EXAMPLES) $(CARGO) test --quiet --test interfaces contract:: -- --nocapture

# schemathesis in an environment of its own. The versions and hashes of it and of what it needs are in the file.
$(CONTRACT): tests/interfaces/requirements.txt
	python3 -m venv --clear target/contract
	target/contract/bin/pip install --quiet --disable-pip-version-check --no-compile --only-binary :all: --require-hashes --requirement $<
	touch $@

# The most resident KB that an idle subscriber may take: 1.5 with glibc among 5,000, more among fewer because of the threads
# that wait for a connection, and room for noise. One that keeps a thread takes 10, and fails.
MAX_RESIDENT_KB = 4.0

# The load generator against this build alone, and the bytes that an order costs on the disk. `bench-board`: the board in a
# browser (needs chromium). `bench-peers`: the load generator beside other servers (needs node, npm, nginx with nchan).
bench:
	$(CARGO) bench --bench load -- memory --subscribers 2000 --max-resident $(MAX_RESIDENT_KB)
	$(CARGO) bench --bench load
	$(CARGO) bench --bench disk

# docs/growth.svg, about six minutes; and ten million orders with a million keys, about four.
bench-growth:
	$(CARGO) bench --bench load -- growth --rounds 3 --svg docs/growth.svg
bench-scale:
	$(CARGO) bench --bench load -- scale --orders 10000000 --kept-keys 1000000

# Several nodes on one PostgreSQL, beside one server on SQLite and beside pgbench.
bench-nodes:
	$(CARGO) bench --features postgres --bench nodes

# One server with its subscribers beside an edge of it with the same, about six minutes; the rows that the plan in
# docs/scaling.md is computed from, and those that it is compared with. Sixteen edges show what each costs the server.
EDGES = $(CARGO) bench --bench load -- --rounds 3 --server
bench-edges:
	$(EDGES) ordercast --server edge limits deliver --subscribers 100,1000 --rates 200
	$(EDGES) edge deliver --subscribers 10000 --rates 10,200
	$(EDGES) edge deliver --subscribers 10,100,2000 --rates 2000
	$(EDGES) edge --edges 16 deliver --subscribers 10 --rates 2000
	$(EDGES) ordercast --server edge memory connects --subscribers 5000
	$(EDGES) edge deliver --subscribers 2000 --rates 100
	$(EDGES) edge deliver --subscribers 500 --rates 400
	$(EDGES) edge paced --rates 2000
	$(EDGES) edge paced --rates 2000 --every 1000

# The plan of docs/scaling.md, from figures that bench-edges and bench-nodes have measured (benches/capacity).
capacity:
	$(CARGO) bench --quiet --bench capacity

bench-board:
	$(CARGO) bench --bench board

bench-peers:
	benches/peers/run.sh --markdown target/peers.md

# Every view of the board into target/pictures, those that the documents show into docs/screenshots with 256 colours,
# and the animation of the README. Needs what `make deps` installs, and Debian's pngquant, python3 and webp.
PICTURES = light dark phone tablet wall-1920 till waiting-phone managing report token
pictures: build
	mkdir -p target/pictures
	ORDERCAST_SCREENSHOTS="$(CURDIR)/target/pictures" $(CARGO) test --quiet --test browser views::
	for name in $(PICTURES); do \
		pngquant --force --strip --output docs/screenshots/$$name.png -- target/pictures/$$name.png || exit 1; \
	done
	docs/animation/make.py

# What only tests and `bench-peers` need. Debian packages: the browser that tests drive, proxies, Prometheus, a peer, shells and
# formatters for the completions and the man page, a compiler and Python for the examples, systemd for its units and sockets,
# PostgreSQL, of which tests start clusters of their own, and npm where there is none.
# From npm: axe-core, which tests run in the board; its version and hash are in the folder's package-lock.json. From PyPI:
# schemathesis, see `contract`.
AXE_FOLDER = tests/browser/accessibility
APT_INSTALL = DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends
deps:
	apt-get update --quiet=2
	$(APT_INSTALL) caddy chromium chromium-driver curl fish gcc haproxy iproute2 libc6-dev libnginx-mod-nchan man-db mandoc \
		nginx openssl postgresql prometheus python3 python3-venv systemd tmux zsh
	command -v npm >/dev/null || $(APT_INSTALL) npm
	cd $(AXE_FOLDER) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	$(MAKE) $(CONTRACT)

# What `make build` built, with manual page, completions and units, below PREFIX; DESTDIR stands in front of all paths.
# `uninstall` removes these files, and keeps the configuration and the orders.
PREFIX ?= /usr/local
DESTDIR ?=
install uninstall:
	PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" packaging/install.sh $@

# A release for three architectures into target/dist; TARGETS="…" builds some of them. What a target needs, `make
# dist-deps` installs on Debian; a target without it is skipped with a message.
TARGETS ?= x86_64-unknown-linux-musl aarch64-unknown-linux-musl armv7-unknown-linux-gnueabihf
dist:
	CARGO="$(CARGO)" packaging/dist.sh $(TARGETS)

dist-deps:
	apt-get update --quiet=2
	$(APT_INSTALL) binutils curl debootstrap gcc gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf iproute2 \
		libc6-dev-armhf-cross python3 qemu-user-static systemd
	packaging/musl.sh amd64 arm64
	for target in $(TARGETS); do rustup target add $$target || echo "$$target cannot be had"; done

# Tries what `make dist` made: each binary alone in its root, the package in a new Debian, and a second build elsewhere,
# which must have the same bytes. Needs root, and what `make dist-deps` installs.
DEBIAN_ROOT = target/debian
dist-test:
	tests/packages/binaries.sh
	test -d $(DEBIAN_ROOT) || { debootstrap --variant=minbase --include=procps,systemd bookworm $(DEBIAN_ROOT).new && \
		mv $(DEBIAN_ROOT).new $(DEBIAN_ROOT); }
	ROOT=$(DEBIAN_ROOT) ARCHIVE=$$(echo target/dist/ordercast-*-x86_64-*.tar.gz) \
		tests/packages/install.sh target/dist/ordercast_*_amd64.deb
	tests/packages/same_bytes.sh $(TARGETS)

# The same with the binary that the tests run, in this system below an overlay, so that it takes less than a minute.
packages-test:
	$(CARGO) test --quiet --no-run --test sources
	CARGO="$(CARGO)" tests/packages/run.sh

clean:
	$(CARGO) clean
