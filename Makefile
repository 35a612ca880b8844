# Almanac. Start with `make demo`.
PYTHON ?= python3
KEEP ?= yes
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-bench
LOWEST := .venv-lowest
NEWEST := .venv-newest
# What shows that Almanac works with other versions: DAGs parsed and run, Spark jobs, engines, deliveries, the command line.
VERSION_TESTS := tests/airflow/test_dag_runs.py tests/airflow/test_build_dags.py tests/airflow/test_dag_files.py \
	tests/jobs/test_run.py tests/deliveries/test_postgres.py tests/model/test_engines.py tests/store/test_objects.py \
	tests/cli/test_doctor.py tests/databases/test_types.py
BENCH ?=
SEED ?= $(shell date +%s)
EXAMPLES ?= 200
STATE := .almanac
UV := uv==0.13.9
# Arguments: the Python of a venv, what to install. uv takes half of pip's time. It does not read pip's configuration: where
# packages come from an index that only pip knows, pip installs them.
install = { $(1) -m pip install -q --disable-pip-version-check $(UV) && \
	$(1) -m uv pip install -q --compile-bytecode --python $(1) $(2); } || \
	{ echo "uv could not install them, now with pip ..."; $(1) -m pip install -q --disable-pip-version-check $(2); }
.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-lowest test-newest fuzz figures bench-scoring bench-features bench-retrain bench-sources check docs lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/demo.stamp  ## the demo on real data, with the Airflow UI; KEEP=no exits when it is done
	@$(BIN)/python -m demo --folder $(STATE) --keep $(KEEP)

test: $(VENV)/dev.stamp  ## all tests, in two processes, files with long tests first
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/dev.stamp  ## the tests that need neither Spark nor a scheduler, about a minute
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not spark and not airflow and not slow and not figure"

test-lowest: $(LOWEST)/lowest.stamp  ## some tests with the oldest versions of Airflow, Spark and all else that pyproject.toml allows
	PATH="$(CURDIR)/$(LOWEST)/bin:$$PATH" $(LOWEST)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(VERSION_TESTS)

test-newest:  ## the same with the newest, installed anew each time; PYTHON=python3.13 tries another Python
	rm -rf $(NEWEST)
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install -q --disable-pip-version-check -e '.[spark,local,postgres,signing,lineage,iceberg]' -r requirements-lowest.in
	PATH="$(CURDIR)/$(NEWEST)/bin:$$PATH" $(NEWEST)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(VERSION_TESTS)

fuzz: $(VENV)/dev.stamp  ## property tests with new examples, some minutes; SEED=... repeats a run, EXAMPLES=1000 tries more
	@echo "make fuzz SEED=$(SEED) EXAMPLES=$(EXAMPLES)"
	FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -m hypothesis --hypothesis-profile=fuzz --hypothesis-seed=$(SEED)

figures: $(VENV)/dev.stamp  ## measure the published figures: ROC AUC of the first example, provenance among 10,000 receipts
	$(BIN)/python -m pytest -m figure -s

bench-scoring: $(VENV)/demo.stamp $(PEERS)/bench.stamp  ## benchmark batch scoring against its peers, most of an hour; BENCH="--rows 1000000 --rounds 3"
	$(BIN)/python -m benchmarks.scoring --folder $(STATE)/bench $(BENCH)
	$(PEERS)/bin/python -m benchmarks.picture scoring

bench-features: $(VENV)/demo.stamp $(PEERS)/bench.stamp  ## benchmark feature building against DuckDB, Polars and Spark SQL; BENCH="--times 2"
	$(BIN)/python -m benchmarks.features --folder $(STATE)/bench $(BENCH)
	$(PEERS)/bin/python -m benchmarks.picture features

bench-retrain: $(VENV)/demo.stamp $(PEERS)/bench.stamp  ## benchmark a retrain and a score through Airflow against a script, an hour; BENCH="--times 1 --rounds 1"
	$(BIN)/python -m benchmarks.retrain --folder $(STATE)/bench $(BENCH)
	$(PEERS)/bin/python -m benchmarks.picture retrain

bench-sources: $(VENV)/dev.stamp  ## benchmark features of each source format against plain Parquet, half an hour; BENCH="--rounds 2"
	$(BIN)/python -m benchmarks.sources $(BENCH)

check: $(VENV)/dev.stamp docs  ## ruff, mypy, import rules and links in the docs; warns of files over 350 lines
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@long=$$(git ls-files '*.py' | xargs wc -l | awk '$$2 != "total" && $$1 > 350'); \
		if [ -n "$$long" ]; then echo "warning: files over 350 lines; check whether one has two subjects:"; echo "$$long"; fi

docs: $(VENV)/dev.stamp  ## build the documentation site in site/; fails on a broken link
	@# No --quiet: with it mkdocs does not count warnings, so --strict has no effect.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock: $(VENV)/dev.stamp  ## pin requirements*.in again, for every supported Python
	$(BIN)/pip install -q $(UV)
	for name in requirements requirements-demo requirements-dev requirements-bench; do \
		$(BIN)/uv pip compile --universal --python-version 3.11 --no-header -q $$name.in -o $$name.txt || exit 1; done
	$(BIN)/uv pip compile --universal --python-version 3.11 --no-header -q --resolution lowest-direct --all-extras \
		pyproject.toml requirements-lowest.in -o requirements-lowest.txt

clean:  ## stop what a demo left running and delete its state
	@if [ -d $(STATE) ] && [ -x $(BIN)/python ]; then \
		$(BIN)/python -c "from pathlib import Path; from almanac.local.processes import stop_leftovers; \
[stop_leftovers(Path('$(STATE)') / part) for part in ('airflow', 'store')]" || \
		{ echo "A demo is running in $(STATE). Stop it with Ctrl-C, then run make clean again."; exit 1; }; fi
	rm -rf $(STATE)

$(VENV)/demo.stamp: requirements.txt requirements-demo.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
'Python: expected 3.11 or newer, got ' + sys.version.split()[0] + '. Name another one: make demo PYTHON=python3.12')"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned requirements into $(VENV), about two minutes ..."
	@$(call install,$(BIN)/python,-r requirements.txt -r requirements-demo.txt)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp requirements-dev.txt
	@$(call install,$(BIN)/python,-r requirements-dev.txt)
	@touch $@

$(PEERS)/bench.stamp: requirements-bench.txt
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@echo "Installing the benchmark peers into $(PEERS), some minutes ..."
	@$(PEERS)/bin/python -m pip --version > /dev/null 2>&1 || $(PEERS)/bin/python -m ensurepip -q
	@$(call install,$(PEERS)/bin/python,-r requirements-bench.txt)
	@touch $@

$(LOWEST)/lowest.stamp: requirements-lowest.txt pyproject.toml
	@test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	@echo "Installing the oldest versions into $(LOWEST), about two minutes ..."
	@$(LOWEST)/bin/python -m pip --version > /dev/null 2>&1 || $(LOWEST)/bin/python -m ensurepip -q
	@$(call install,$(LOWEST)/bin/python,-r requirements-lowest.txt)
	@$(LOWEST)/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
