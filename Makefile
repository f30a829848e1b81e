# Two commands matter: `make demo` and `make test`. Everything needs only Python 3.11+, make and the package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COLLECTIONS ?= ../shared/collections

.PHONY: setup demo test check bench bench-judging bench-training docs clean

setup: $(VENV)/.complete

$(VENV)/.complete: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

demo: setup  ## from documents to a reranker and a report
	$(BIN)/zelo demo

test: setup
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

check: setup  ## style, types, generated docs
	$(BIN)/ruff format --check src tests benchmarks experiments examples
	$(BIN)/ruff check src tests benchmarks experiments examples
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check

docs: setup  ## rewrite the generated pages
	$(BIN)/python docs/generate.py

bench: setup  ## figures and ratios; needs the collections of README
	$(BIN)/python benchmarks/fit.py
	$(BIN)/python benchmarks/designs.py
	$(BIN)/python benchmarks/client.py
	$(BIN)/python benchmarks/judging.py --judgments 20000 --resume 100000
	$(BIN)/python benchmarks/first_stage.py --collections $(COLLECTIONS)

bench-training: setup  ## training beside sentence-transformers, whose trainer needs packages that nothing else does
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/training-requirements.txt
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/training.py --gpu --rows 8192

bench-judging: .venv-bench/.complete  ## CPU of judgments beside the openai SDK and litellm, memory, resume; about 5 minutes
	.venv-bench/bin/python benchmarks/client.py
	.venv-bench/bin/python benchmarks/judging.py

.venv-bench/.complete: requirements-bench.lock pyproject.toml
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.lock
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean:
	rm -rf $(VENV) .venv-bench workspaces .mypy_cache .ruff_cache .pytest_cache .hypothesis
