# Start with `make run` and `make test`. Each target installs what it needs first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
LOCK := .venv/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps

.PHONY: run demo test coverage check format acceptance conformance e2e screenshots bench chaos \
  lock clean

run: .venv/run
	@$(BIN)/python -m app

demo: .venv/run
	@$(BIN)/python -m app.demo

test: .venv/dev
	@$(BIN)/python -m pytest

# Every branch of app/resilience, covered by its own tests.
coverage: .venv/dev
	@$(BIN)/python -m coverage run -m pytest --quiet tests/resilience
	@$(BIN)/python -m coverage report

check: .venv/dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry .

format: .venv/dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# Against real third parties: hadolint, json-server, TypeScript, schemathesis.
acceptance: .venv/acceptance
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/python -m pytest acceptance --ignore=acceptance/browser

# Clients by every generator, compiled and called, into docs/conformance.md; also needs Go and Maven.
conformance: .venv/acceptance
	@$(BIN)/python -m conformance

# The page and the API docs in Debian's chromium.
e2e: .venv/acceptance
	@$(BIN)/python -m pytest acceptance/browser

# Takes the README's pictures again.
screenshots: .venv/acceptance
	@$(BIN)/python -m acceptance.browser.screenshots

# Faults and overload over real sockets; each scenario prints its figure.
chaos: .venv/dev
	@$(BIN)/python -m chaos $(ARGS)

bench: .venv/dev
	@$(BIN)/python -m benchmarks $(ARGS)

# The lock files have versions and hashes, and no index URL: each machine uses its own.
lock: .venv/bin/python
	@$(PYTHON) -m venv .venv/lock && .venv/lock/bin/python -m pip install --quiet uv
	@$(LOCK) pyproject.toml --output-file requirements/run.txt
	@$(LOCK) pyproject.toml --group dev --constraint requirements/run.txt \
	  --output-file requirements/dev.txt
	@$(LOCK) pyproject.toml --group dev --group acceptance --constraint requirements/dev.txt \
	  --output-file requirements/acceptance.txt

.venv/bin/python:
	@echo "Making a virtual environment in .venv ..."
	@$(PYTHON) -m venv .venv

.venv/run: requirements/run.txt | .venv/bin/python
	@echo "Installing what the service needs into .venv, which takes a moment the first time ..."
	@$(INSTALL) -r requirements/run.txt && touch $@

.venv/dev: requirements/dev.txt | .venv/bin/python
	@echo "Installing what tests and checks need into .venv ..."
	@$(INSTALL) -r requirements/dev.txt && touch $@ .venv/run

.venv/acceptance: requirements/acceptance.txt .venv/dev
	@echo "Installing what the acceptance checks need into .venv ..."
	@$(INSTALL) -r requirements/acceptance.txt && touch $@

clean:
	rm -rf .coverage .venv .mypy_cache .ruff_cache .pytest_cache acceptance/node_modules \
	  conformance/build conformance/node_modules \
	  examples/typescript/node_modules examples/typescript/build examples/typescript/schema.d.ts
