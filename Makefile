# Every target makes its own environment first, so each works on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-slow test-lowest check docs bench clean
.DELETE_ON_ERROR:

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

quickstart: $(VENV)/installed  ## the whole method on scikit-learn's digits, some five minutes on two cores
	$(BIN)/igpt quickstart --out runs/quickstart

test: $(VENV)/installed  ## the suite CI runs
	$(BIN)/pytest -n auto

test-slow: $(VENV)/installed  ## the slow tests too
	$(BIN)/pytest -n auto -m 'not gpu'

# the core, and all that speaks with the libraries whose bounds these are
LOWEST := tests/pixels tests/model tests/objectives tests/training tests/data/test_prepare.py \
	tests/data/test_store.py tests/data/test_tables.py tests/evaluation/test_features.py \
	tests/evaluation/test_few_labels.py tests/evaluation/test_similar.py \
	tests/evaluation/test_likelihood.py tests/evaluation/test_logistic.py \
	tests/evaluation/test_probe.py tests/formats/test_hub.py tests/formats/test_load.py \
	tests/formats/test_tensorflow.py tests/report/test_card.py tests/report/test_page.py \
	tests/runs/test_palette_file.py tests/runs/test_pictures.py tests/runs/test_pretrain.py \
	tests/runs/test_written_features.py tests/test_builtin.py tests/test_cli.py \
	tests/test_doctor.py tests/test_files.py tests/test_values.py

$(VENV)-lowest/installed: pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/pip install --quiet -c constraints-lowest.txt -e . \
		beartype httpx pytest pytest-timeout pytest-xdist
	touch $@

test-lowest: $(VENV)-lowest/installed  ## with the oldest versions of all that igpt needs
	$(VENV)-lowest/bin/pytest -n auto -o addopts= -o filterwarnings=default -m 'not slow and not gpu' $(LOWEST)

# Without a cache: ruff's does not see that a folder has become a package.
check: $(VENV)/installed  ## lint, format, types, layers
	$(BIN)/ruff check --no-cache .
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
	rm -rf $(VENV) $(VENV)-lowest
