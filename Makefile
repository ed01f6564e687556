# `make` lists the targets. Each sets up what it needs; what is done already takes no time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start the program hundreds of times, which is quicker when it has its bytecode beside it.
unexport PYTHONDONTWRITEBYTECODE
# Tests kill processes, no machine: none of their programs has to wait for the disk. Without eatmydata they all do.
NO_SYNC = $$(command -v eatmydata)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-servers setup-browser demo run test check bench soak image-test lock

help: ## list the targets
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "  %-14s %s\n", $$1, $$2 }'

setup: $(READY) ## make .venv with exactly the packages of requirements.lock, and syncd itself

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c '' 2>/dev/null || { echo "make: there is no $(PYTHON); name a Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: syncd needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1); name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) -V) and the packages of requirements.lock"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

setup-servers: ## install what the tests talk to, as Debian packages (says so first; starts nothing)
	@tests/servers/install

setup-browser: # of Debian, for the tests of the page; where it cannot be had they are skipped
	@tests/servers/install browser || echo "make: no chromium: the tests of the page in a browser are skipped" >&2

demo: setup setup-servers ## back up a POP3 account, break it off, resume, check; move an IMAP account; MAIL=DIR: your own mail; KEEP=1: keeps the page open
	@$(BIN)/python -m tests.demo $(if $(MAIL),--mail "$(MAIL)") $(if $(KEEP),--keep)

run: setup ## run the jobs of a configuration: make run CONFIG=syncd.toml [JOBS="one two"]
	@test -n "$(CONFIG)" || { echo 'make: say which: make run CONFIG=syncd.toml (`.venv/bin/syncd init` writes one)' >&2; exit 2; }
	@$(BIN)/syncd run --config "$(CONFIG)" $(JOBS)

check: setup ## format, lint, types, layers and the fast tests
	@echo "Format:"; $(BIN)/ruff format --check .
	@echo "Lint:"; $(BIN)/ruff check .
	@echo "Types:"; $(BIN)/mypy
	@echo "Layers:"; $(BIN)/lint-imports
	@echo "Fast tests:"; $(BIN)/pytest -q -n 2 --dist worksteal -m "not soak" tests/unit

test: setup setup-servers setup-browser ## every test but the long ones
	@$(NO_SYNC) $(BIN)/pytest -n 4 --dist worksteal -m "not soak and not image" --ignore=tests/bench

soak: setup setup-servers setup-browser ## the long tests: stop at every durable step, and at 500 random instants
	@$(NO_SYNC) $(BIN)/pytest -n 4 -m soak --ignore=tests/bench

image-test: setup ## build the container image without Docker and run it: 2 to 5 minutes, up to 2 GB in /var/tmp meanwhile
	@tests/servers/install image
	@$(BIN)/pytest -n0 -m image tests/image

bench: setup ## measure against mpop, getmail, fetchmail, msmtp, mbsync and OfflineIMAP; BEFORE=PROGRAM: against another syncd, nine pairs
	@tests/servers/install bench
	@$(BIN)/python -m tests.bench $(if $(BEFORE),--before "$(BEFORE)" --pairs 9)
	@$(if $(BEFORE),:,$(BIN)/python -m tests.bench.service)

lock: setup ## pin the dependencies of pyproject.toml anew; UPGRADE=1 takes the newest of each
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --group dev --generate-hashes \
		--no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		$(if $(UPGRADE),--upgrade) pyproject.toml --output-file requirements.lock
	@! grep -n '://' requirements.lock || { echo "make: requirements.lock must not name places" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@$(BIN)/python docker/lock.py
	@echo "requirements.lock has $$(grep -c '==' requirements.lock) packages"
