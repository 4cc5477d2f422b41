# Needs python3 (3.11 or newer, with venv) and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml constraints.txt tools/install.py
CHECKED := hdml indexing cli app tests benchmarks tools

.DEFAULT_GOAL := help
.PHONY: help install dev demo test mutants lint format screenshots bench constraints clean

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*##/\1 ##/p' Makefile | awk -F ' ## *' '{ printf "  make %-12s %s\n", $$1, $$2 }'

install: $(VENV)/installed  ## Install hdml into .venv

dev: $(VENV)/installed-dev  ## Install hdml and what its tests and checks need

# An empty file notes each installation, so that the next one happens only when a source has changed.
$(VENV)/installed: $(SOURCES)
	@$(PYTHON) tools/install.py $(VENV)
	@touch $@

$(VENV)/installed-dev: $(SOURCES)
	@$(PYTHON) tools/install.py $(VENV) --dev
	@touch $(VENV)/installed $@

demo: install  ## Train on the built-in butterflies, index and search them, open the web page
	@$(BIN)/hdml demo

test: dev  ## Run every test, those of the web page in Chromium
	@$(BIN)/python tools/chromium.py
	@$(BIN)/pytest

mutants: dev  ## Break the method one line at a time and see its tests fail
	@$(BIN)/python tools/mutants.py

lint: dev  ## Check style and types
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/ruff format --check $(CHECKED)
	@$(BIN)/mypy

format: dev  ## Put the code into its one format
	@$(BIN)/ruff check --fix $(CHECKED)
	@$(BIN)/ruff format $(CHECKED)

screenshots: dev  ## Take the pictures of the documents anew, of the demo's workspace (make demo first)
	@$(BIN)/python -m tools.screenshots

bench: dev  ## Run the benchmarks, one after the other
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

constraints: dev  ## Take the newest versions into constraints.txt; test before committing it
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --group dev --strip-extras --no-annotate \
		--custom-compile-command "make constraints" --output-file constraints.txt pyproject.toml

clean:  ## Remove .venv, caches, builds and the demo's workspace; ./workspace stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-workspace
	find hdml indexing cli app tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +
