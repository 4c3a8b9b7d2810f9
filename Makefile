# Two commands do everything on a fresh machine: `make demo` and `make test`. Both install into .venv first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PROTOS := $(shell find protos -name '*.proto')

.PHONY: demo test test-faults test-compose bench ablations install lint format types check clean

demo: install  ## The main job on real data: fetch, train, release, serve, recommend. Under 8 minutes on 2 cores.
	$(BIN)/python -m examples.movielens

test: install lint types  ## Lint, types and the whole test suite.
	$(BIN)/pytest

test-compose: install  ## The containers: builds the images and tests the stack. Needs an engine, or root on Debian.
	tests/compose/with_engine.sh $(BIN)/pytest --timeout=1500 --maxfail=2 --capture=no tests/compose

test-faults: install  ## Faults under load: kills, stops, bad networks, swaps, overload. `ARGS="--load-seconds 60"` for longer.
	$(BIN)/pytest tests/faults --timeout 1800 $(ARGS)

bench: install  ## Winnow against its limits and the naive chain, in one run of about 12 minutes: benchmarks/RESULTS.md.
	$(BIN)/python -m benchmarks

ablations: install  ## What each option is worth: docs/ablations.md. Hours on 2 cores; resumes. `ARGS="movielens --epochs 5"`.
	$(BIN)/python -m ablations $(ARGS)

install: $(INSTALLED)  ## Everything into .venv, versions as pinned in constraints.txt.

$(INSTALLED): pyproject.toml setup.py constraints.txt $(PROTOS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--editable '.[dev]'
	touch $@

lint: install  ## Formatting, lint, the architecture's contracts, the protos.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint protos

types: install  ## Strict mypy.
	$(BIN)/mypy

format: install  ## Rewrite formatting and what ruff can mend.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint types  ## What pre-commit runs.

clean:  ## Remove what was installed and trained, not the data.
	rm -rf $(VENV) build dist *.egg-info releases runs winnow/v1
