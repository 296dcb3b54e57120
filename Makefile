# Every verb of the project. `make help` lists them; CI runs the same ones.
#
# Nothing needs to be activated: the first verb makes .venv, and stamps in .venv/.stamps make the second run short.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help

VENV   := .venv
BIN    := $(VENV)/bin
STAMPS := $(VENV)/.stamps
LOGS   := target/logs

# The interpreter of the environment also compiles and links the Rust side, so that both halves agree.
export PYO3_PYTHON := $(abspath $(BIN)/python)
export PATH := $(abspath $(BIN)):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

RUST_SOURCES := $(shell find rust -type f -not -path '*/target/*' 2>/dev/null) Cargo.toml Cargo.lock
PYTEST := $(BIN)/python -m pytest
FUZZ_SECONDS := $(or $(SECONDS),60)
FUZZ_DIR := tests/fuzz

.PHONY: help
help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---------------------------------------------------------------------------------------------------------------------
# The environment. One stamp per group of pyproject.toml, so that the demo does not wait for the linters.

$(STAMPS)/venv: tools/doctor.sh
	@python=$$(sh tools/doctor.sh)
	[ -x $(BIN)/python ] || "$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	mkdir -p $(STAMPS)
	touch $@

$(STAMPS)/group-%: pyproject.toml $(STAMPS)/venv
	@echo "installing the Python tools of group '$*'"
	$(BIN)/python -m pip install --quiet --group $*
	touch $@

# An editable install: Python sources are used where they lie, the compiled module is put beside them.
$(STAMPS)/built: $(RUST_SOURCES) pyproject.toml $(STAMPS)/group-build
	@echo "building the data plane (release); the first time takes some minutes"
	PIP_QUIET=1 VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --quiet
	touch $@

.PHONY: build demo
build: $(STAMPS)/built ## release build: leaves a runnable .venv/bin/ztunnel
	@echo "$(BIN)/ztunnel is ready: $$($(BIN)/ztunnel version | head -1)"

demo: $(STAMPS)/built ## two nodes, real traffic, the whole story in a terminal (DEMO=--keep, DEMO=--root)
	@$(BIN)/ztunnel demo $(DEMO)

# ---------------------------------------------------------------------------------------------------------------------
# Tests. Both languages run even if the first one fails; the closing lines count both.

.PHONY: test test-rust test-python test-fallback test-root test-interop test-upstream test-slow test-wheel
test: $(STAMPS)/built $(STAMPS)/group-test ## Rust and Python tests that need no root
	@rc=0
	$(MAKE) test-rust || rc=1
	$(MAKE) test-python || rc=1
	$(BIN)/python tools/summary.py $(LOGS)/rust.log $(LOGS)/python.log || rc=1
	exit $$rc

test-rust: $(STAMPS)/venv ## cargo test of the workspace
	@mkdir -p $(LOGS)
	libpython=$$($(BIN)/python tools/libpython.py)
	without=()
	[ -n "$$libpython" ] || { without=(--exclude bindings)
	    echo "note: this Python has no shared library to link, so crate 'bindings' is left out (python3-dev brings it)"; }
	LD_LIBRARY_PATH="$$libpython$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}" \
	    cargo test --workspace --locked --no-fail-fast "$${without[@]}" 2>&1 | tee $(LOGS)/rust.log

test-python: $(STAMPS)/built $(STAMPS)/group-test ## pytest without the root, interop and slow suites
	@mkdir -p $(LOGS)
	$(PYTEST) -m 'not root and not interop and not slow' $(ARGS) 2>&1 | tee $(LOGS)/python.log

# The data path over the record path that is there to fall back on; `make test-python` has it over our own.
FALLBACK_SUITES := $(addprefix tests/integration/test_, ends.py abnormal_ends.py drain.py refusals.py policy_live.py \
    stalled_receivers.py relay_load.py h2_differential.py hostile_http2.py)
test-fallback: $(STAMPS)/built $(STAMPS)/group-test ## what connections live through, with `tls: {records: rustls}`
	@mkdir -p $(LOGS)
	$(PYTEST) $(FALLBACK_SUITES) --records rustls -m 'not root and not interop and not slow' $(ARGS) 2>&1 | tee $(LOGS)/fallback.log

test-root: $(STAMPS)/built $(STAMPS)/group-test $(STAMPS)/group-interop ## tests in network namespaces; fails, never skips, without root
	@[ "$$(id -u)" = 0 ] || { echo "make test-root needs root: it makes network namespaces and iptables rules" >&2; exit 1; }
	mkdir -p $(LOGS)
	$(PYTEST) -p tools.noskip -m 'root and not slow' $(ARGS) 2>&1 | tee $(LOGS)/root.log

test-interop: $(STAMPS)/built $(STAMPS)/group-test $(STAMPS)/group-interop ## against Envoy, h2spec and OpenSSL; fails if one is missing
	@mkdir -p $(LOGS)
	$(PYTEST) -p tools.noskip -m 'interop and not root' $(ARGS) 2>&1 | tee $(LOGS)/interop.log

test-upstream: $(STAMPS)/built $(STAMPS)/group-test ## beside upstream's ztunnel, as root (UPSTREAM=/path/to/its/program)
	@[ "$$(id -u)" = 0 ] || { echo "make test-upstream needs root: it makes network namespaces and iptables rules" >&2; exit 1; }
	[ -x "$(UPSTREAM)" ] || { echo "make test-upstream needs UPSTREAM=PATH, the program of upstream's ztunnel" >&2; exit 1; }
	mkdir -p $(LOGS)
	$(PYTEST) -p tools.noskip -m upstream "--upstream=$(abspath $(UPSTREAM))" tests/interop $(ARGS) 2>&1 | tee $(LOGS)/upstream.log

test-slow: $(STAMPS)/built $(STAMPS)/group-test ## the suites that take minutes
	@mkdir -p $(LOGS)
	$(PYTEST) -m 'slow and not root' $(ARGS) 2>&1 | tee $(LOGS)/slow.log

test-wheel: $(STAMPS)/built $(STAMPS)/group-test ## build the wheel, install it in a clean environment, carry traffic with it
	@mkdir -p $(LOGS)
	rm -rf target/wheels target/wheel-env
	$(BIN)/maturin build --release --quiet --interpreter $(BIN)/python --out target/wheels
	$(BIN)/python -m venv target/wheel-env
	target/wheel-env/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	target/wheel-env/bin/python -m pip install --quiet --group test target/wheels/*.whl
	PATH="$(abspath target/wheel-env/bin):$$PATH" target/wheel-env/bin/python -m pytest \
	    tests/integration/test_policy_live.py tests/integration/test_drain.py -m 'not root and not interop and not slow' 2>&1 | tee $(LOGS)/wheel.log

# ---------------------------------------------------------------------------------------------------------------------
# Style and rules

.PHONY: fmt lint
fmt: $(STAMPS)/group-lint ## format both languages
	@cargo fmt --all
	[ ! -f $(FUZZ_DIR)/Cargo.toml ] || cargo fmt --manifest-path $(FUZZ_DIR)/Cargo.toml
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lint: $(STAMPS)/built $(STAMPS)/group-test $(STAMPS)/group-lint ## every check that is not a test
	@command -v cargo-deny >/dev/null || { echo "missing: cargo-deny; cargo install --locked cargo-deny" >&2; exit 1; }
	set -x
	cargo fmt --all --check
	[ ! -f $(FUZZ_DIR)/Cargo.toml ] || cargo fmt --manifest-path $(FUZZ_DIR)/Cargo.toml --check
	[ ! -f $(FUZZ_DIR)/Cargo.toml ] || \
	    cargo metadata --manifest-path $(FUZZ_DIR)/Cargo.toml --locked --format-version 1 >/dev/null # its lock file is ours to keep
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	cargo deny --locked --log-level warn check --hide-inclusion-graph bans licenses sources
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/stubtest --concise --mypy-config-file pyproject.toml ztunnel._ztunnel
	$(BIN)/python -m tools.environment_reference --check
	bash tools/rules.sh

# ---------------------------------------------------------------------------------------------------------------------
# Fuzzing, measuring, documentation

.PHONY: fuzz bench bench-smoke bench-macro bench-macro-smoke soak bench-micro gates docs reference
fuzz: $(STAMPS)/venv ## fuzz every target (SECONDS=60 each); new inputs stay in target/fuzz-corpus
	@command -v cargo-fuzz >/dev/null || { echo "missing: cargo-fuzz; cargo install --locked cargo-fuzz" >&2; exit 1; }
	export RUSTC_BOOTSTRAP=1 # the coverage counters are an unstable flag of the stable compiler
	mkdir -p $(LOGS)
	cargo fuzz build --fuzz-dir $(FUZZ_DIR) -s none
	for target in $$(cargo fuzz list --fuzz-dir $(FUZZ_DIR)); do
	    echo "fuzz: $$target, $(FUZZ_SECONDS) s"
	    mkdir -p target/fuzz-corpus/$$target
	    seeds=; [ ! -d $(FUZZ_DIR)/corpus/$$target ] || seeds=$(FUZZ_DIR)/corpus/$$target
	    cargo fuzz run --fuzz-dir $(FUZZ_DIR) -s none $$target target/fuzz-corpus/$$target $$seeds -- \
	        -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -verbosity=0 2>&1 | tee $(LOGS)/fuzz-$$target.log | tail -8
	done

bench: $(STAMPS)/built $(STAMPS)/group-test ## ours beside the pure-Python tunnel; writes bench/results/
	@$(PYTEST) bench --benchmark-enable --timeout=1800 -s $(ARGS)

bench-smoke: $(STAMPS)/built $(STAMPS)/group-test ## the same suite, one tiny round, nothing written
	@mkdir -p $(LOGS)
	BENCH_SMOKE=1 $(PYTEST) bench --benchmark-enable --timeout=300 -s $(ARGS) 2>&1 | tee $(LOGS)/bench.log

# Two stand-ins for the arguments: PEERS="--peer upstream=/path/to/ztunnel --with envoy,haproxy", ARGS="--rows B1,L1".
bench-macro: $(STAMPS)/built $(STAMPS)/group-test $(STAMPS)/group-interop ## ours beside other proxies in two namespaces, as root (PEERS=, ARGS=)
	@$(BIN)/python -m bench.macro --peer ours='$(BIN)/ztunnel proxy ztunnel' --out bench/results $(PEERS) $(ARGS)

bench-macro-smoke: $(STAMPS)/built $(STAMPS)/group-test ## the same with ours alone, every row tiny, nothing kept
	@$(BIN)/python -m bench.macro --peer ours='$(BIN)/ztunnel proxy ztunnel' --rounds 1 --seconds 0.2 --scale 0.05 $(ARGS)

# The seed it prints, given again as ARGS='--seed N', makes the same connections.
soak: $(STAMPS)/built $(STAMPS)/group-test ## two nodes at full load; checksums, counters, memory, descriptors (MINUTES=20)
	@$(BIN)/python -m bench.soak --minutes $(or $(MINUTES),20) $(ARGS)

bench-micro: ## time the parts that do no I/O: decisions, changes of the mesh, the tunnel engine (ARGS='route --min-time 1')
	@cargo bench --package micro --locked -- $(ARGS)

gates: $(STAMPS)/venv ## count system calls, allocations, instructions; fails if one rose by 3 % (UPDATE=1 takes them)
	@$(BIN)/python -m tools.gates $(if $(UPDATE),--update)

reference: $(STAMPS)/built ## write what is generated of docs/; `make lint` checks that it is up to date
	@$(BIN)/python -m tools.environment_reference

docs: $(STAMPS)/venv ## API documentation of the four crates; warnings are errors
	@RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items --locked
	echo "target/doc/mesh/index.html"

# ---------------------------------------------------------------------------------------------------------------------

.PHONY: ci clean
ci: ## what CI runs, on a machine that has the tools (see .ci/run)
	@bash tools/ci.sh

clean: ## remove everything that was built
	rm -rf $(VENV) target python/ztunnel/_ztunnel*.so
