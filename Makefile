# setup: the environment · repro: data through model to submission · test: the suite · check: lint, types, contracts
PYTHON ?= python3.11
BIN := .venv/bin
# DVC runs stages by `python -m …`: the environment's own Python comes first on the path.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: setup repro test check bench

setup: $(BIN)/.ready

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch "$@"

repro: setup
	$(RUN) dvc repro

test: setup
	$(RUN) python -m pytest --numprocesses 2 --dist loadfile

check: setup
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(RUN) lint-imports

bench: setup
	$(RUN) python benchmarks/pipeline.py
