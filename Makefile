# Two commands do everything on a fresh machine: `make demo` and `make test`. Both install into .venv first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Tests mostly wait for processes to start. Those of one file stay together: they share them.
TEST_PROCESSES ?= 2
PROTOS := $(shell find protos -name '*.proto')

.PHONY: demo demo-loop test test-slow test-engines test-native test-native-faults test-faults test-compose bench ablations install docs lint format types check clean

demo: install  ## Everything on real data: fetch, train, release, serve, recommend. Under 8 minutes on 2 cores.
	$(BIN)/python -m examples.movielens

demo-loop: install  ## MovieLens-1M replayed: serve, log, retrain, swap; quality over time as a plot. Under 10 minutes.
	$(BIN)/python -m examples.loop

test: install lint types  ## Lint, types and all quick tests; prints the slowest ones.
	$(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --durations=15

test-slow: install  ## Tests that take minutes: every benchmark on tiny catalogues.
	$(BIN)/pytest -m slow

test-engines: install  ## Tests with real servers of others (Envoy, Milvus, object storage), which come with `make install`, and several training processes.
	$(BIN)/pytest -m engines

# Training is no matter of the transport, and the benchmark chooses its transports itself.
NOT_NATIVE := end_to_end/test_benchmarks end_to_end/test_impressions end_to_end/test_movielens \
	end_to_end/test_watch_features faults/test_corrupted_releases

test-native: install  ## The service and end-to-end tests on the native transport.
	$(BIN)/pytest --transport native tests/service tests/end_to_end $(NOT_NATIVE:%=--ignore=tests/%.py)

test-native-faults: install  ## The fault suite on the native transport. `ARGS` as for test-faults.
	$(BIN)/pytest --transport native tests/faults --timeout 1800 $(NOT_NATIVE:%=--ignore=tests/%.py) $(ARGS)

test-compose: install  ## Builds the images and tests the stack. Needs a container engine, or root on Debian.
	tests/compose/with_engine.sh $(BIN)/pytest --timeout=1500 --maxfail=2 --capture=no tests/compose

test-faults: install  ## Faults under load: kills, stops, bad networks, swaps, overload. Longer: `ARGS="--load-seconds 60"`.
	$(BIN)/pytest tests/faults --timeout 1800 $(ARGS)

bench: install  ## Benchmarks, about 15 minutes; writes benchmarks/RESULTS.md.
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.capacity --report-only  # the cost model of winnow plan follows

ablations: install  ## Writes docs/ablations.md. Hours on 2 cores; continues where it stopped. `ARGS="movielens --epochs 5"`.
	$(BIN)/python -m ablations $(ARGS)

install: $(INSTALLED)  ## Install everything into .venv, with the versions pinned in constraints.txt.

$(INSTALLED): pyproject.toml setup.py constraints.txt $(PROTOS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--editable '.[dev]'
	touch $@

docs: install  ## The documentation as a site, in `site`. Works without the network.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

lint: install  ## Formatting, lint, import contracts, protos, Kubernetes manifests, links of the documentation.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint protos
	$(BIN)/python deploy/kubernetes/validate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet  # every link and anchor leads somewhere

types: install  ## Strict mypy.
	$(BIN)/mypy

format: install  ## Format the code and fix what ruff can fix.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint types  ## What pre-commit runs.

clean:  ## Remove installed and trained files, but not the data.
	rm -rf $(VENV) build dist *.egg-info releases runs winnow/v1
