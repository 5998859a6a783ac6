# `make run` and `make test` need nothing but Python 3.11 or later: each makes .venv if it is missing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test test-all lint bench clean

.venv/.installed: pyproject.toml setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[hub,dev]"
	touch $@

run: .venv/.installed
	$(BIN)/strata compare permfl fedavg rounds=30

test: .venv/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not exhaustive"

test-all: .venv/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	mkdir -p build/links/strata
	for room in engine algorithms agents envs cluster; do ln -sfn ../../../$$room build/links/strata/$$room; done
	ln -sf ../../../cluster/api/__init__.py ../../../cluster/api/py.typed build/links/strata/
	$(BIN)/mypy

bench: .venv/.installed
	$(BIN)/python -m tests.bench

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache
