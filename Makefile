# Two commands need nothing but Python 3.11 and the package registries: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
STAMP := $(VENV)/.installed
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Two test processes are what two cores carry; a bigger machine may say JOBS=8.
JOBS ?= 2
TESTS ?= tests

.PHONY: help setup demo test lint format bench bench-anomalies bench-gpu fuzz faults ui lock clean

help:  ## Show what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Install the locked environment into .venv

# Bytecode is compiled once here: where Python may not write it (read-only, PYTHONDONTWRITEBYTECODE), every start would
# compile Prefect and the others anew, which takes longer than a rerun.
# uv is the fast way; pip installs exactly the same locked, hashed set when uv cannot (a proxy it does not know, say).
$(STAMP): $(LOCK) requirements-bootstrap.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "faceline needs Python 3.11, $(PYTHON) is $$("$(PYTHON)" --version 2>&1); set PYTHON=/path/to/python3.11" >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	index="$${UV_DEFAULT_INDEX:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null || echo "$${PIP_INDEX_URL:-}")}"; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --require-hashes -r $(LOCK) \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q faceline tasks flows
	@touch $@

demo: $(STAMP)  ## Make footage with known moments, analyse it, and count how many were found
	$(BIN)/python -m flows.demo

test: $(STAMP)  ## Run all tests (those on real clips need ../shared/data or FACELINE_TESTDATA)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS)

lint: $(STAMP)  ## Style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## Put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## Speed, faces found, memory, growth, overhead, exactness, beside the straightforward script (ARGS="--help")
	$(BIN)/python -m benchmarks.speed.run $(ARGS)

bench-anomalies: $(STAMP)  ## faceline and other methods on footage with known events (ARGS="--help" says what there is to choose)
	$(BIN)/python -m benchmarks.anomalies.run $(ARGS)

bench-gpu: $(STAMP)  ## The networks on the GPU against the CPU, then a whole run on either; exit code 2 where there is none
	$(BIN)/python -m benchmarks.gpu $(if $(FOOTAGE),--footage "$(FOOTAGE)") $(ARGS)

fuzz: $(STAMP)  ## Mutated videos, configurations and manifests through everything that reads them (ARGS="--help")
	$(BIN)/python -m benchmarks.fuzz.run --jobs $(JOBS) $(ARGS)

faults: $(STAMP)  ## Kills, a full disk, damage, footage that changes, runs at once; the run after each (ARGS="--help")
	$(BIN)/python -m benchmarks.faults.run $(ARGS)

ui: $(STAMP)  ## Start a Prefect server with its UI; runs report to it when PREFECT_API_URL names it
	@echo "In another shell: export PREFECT_API_URL=http://127.0.0.1:4200/api, then run faceline"
	PREFECT_SERVER_ANALYTICS_ENABLED=false $(BIN)/prefect server start --host 127.0.0.1 --port 4200

lock: $(STAMP)  ## Resolve the dependencies anew into requirements.lock
	$(BIN)/uv pip compile pyproject.toml --group dev --generate-hashes --no-annotate --no-header --python-version 3.11 --quiet -o $(LOCK)

clean:  ## Remove the environment and everything that was computed here
	rm -rf $(VENV) demo results .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find artifacts -mindepth 1 -not -name README.md -delete
