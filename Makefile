# The hub's two commands are `make run` and `make test`; both do all the set-up. The rest is for developers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONDONTWRITEBYTECODE ?= 1

.PHONY: run test check soak bench format clean setup setup-dev

run: setup ## the whole hub in the foreground, with the sample county on first start
	@$(BIN)/hub run --sample

setup: $(VENV)/.run-ready ## virtual environment, locked dependencies, front-end assets
	@$(BIN)/python -m hub.web.build
	@$(BIN)/python -m compileall -q -x node_modules hub workers storage # else every process of every start compiles them

setup-dev: $(VENV)/.dev-ready
	@$(BIN)/python -m hub.web.build

$(VENV)/.run-ready: .locks/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "The hub needs Python 3.11 or newer; this is %d.%d. Say: make PYTHON=python3.12 …" % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -e $(VENV)/.dev-ready || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .locks/run.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.dev-ready: .locks/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "The hub needs Python 3.11 or newer; this is %d.%d. Say: make PYTHON=python3.12 …" % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .locks/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@ $(VENV)/.run-ready

TESTS ?= not soak
test: setup-dev ## the whole suite; what cannot run here is skipped by name
	@$(BIN)/pytest -n 2 --dist loadgroup -m "$(TESTS)"

check: setup-dev ## lint, types, import contract, quick tests
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m hub.web.build --lint
	@$(BIN)/pytest -q -n 2 --dist loadgroup -m "not soak and not slow and not browser and not stranger"

SOAK_RUNS ?= 200
soak: setup-dev ## kill -9 at random moments; nothing acknowledged may be lost
	@SOAK_RUNS=$(SOAK_RUNS) $(BIN)/pytest -q -m soak --timeout 7200 tests/e2e/test_soak.py

bench: setup-dev ## the imaging core beside Orthanc; see docs/benchmarks.md
	@$(BIN)/python -m tests.benchmarks

format: setup-dev
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lock: ## renew .locks (needs uv)
	uv pip compile pyproject.toml --extra build --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o .locks/run.txt
	uv pip compile pyproject.toml --extra build --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q -o .locks/dev.txt

clean:
	rm -rf $(VENV) var hub/web/node_modules hub/web/dist
