# Every target makes its own environment first, so each works on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-slow check docs bench clean
.DELETE_ON_ERROR:

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

quickstart: $(VENV)/installed  ## the whole method on scikit-learn's digits, some six minutes on two cores
	$(BIN)/igpt quickstart --out runs/quickstart

test: $(VENV)/installed  ## the suite CI runs
	$(BIN)/pytest -n auto

test-slow: $(VENV)/installed  ## the slow tests too
	$(BIN)/pytest -n auto -m 'not gpu'

check: $(VENV)/installed  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,docs]'
	touch $@

docs: $(VENV)/installed-docs  ## the documentation as a site, in site/; a dead link is an error
	$(BIN)/python scripts/build_site.py

$(VENV)/installed-bench: $(VENV)/installed
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,bench]'
	touch $@

bench: $(VENV)/installed-bench  ## every benchmark (BENCH="--rounds 3 --data CIFAR10") and benchmarks/RESULTS.md
	for benchmark in benchmarks/bench_*.py; do $(BIN)/python $$benchmark $(BENCH) || exit 1; done
	$(BIN)/python benchmarks/results.py

clean:
	rm -rf $(VENV)
