# Every target works on a machine with Rust and its linker; what else a target needs, `make deps` installs.

CARGO ?= cargo

.PHONY: run build test check deps clean

# Starts the server: the board is at http://localhost:5050, orders go to http://localhost:3000.
run:
	$(CARGO) run --release --quiet

build:
	$(CARGO) build --release

test:
	$(CARGO) test --quiet

# Formatting, lints and documentation, all with warnings denied.
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets --quiet -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --no-deps --document-private-items --quiet

# Debian packages that only tests need: the browser that they drive.
deps:
	apt-get update --quiet=2
	DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends \
		chromium chromium-driver curl

clean:
	$(CARGO) clean
