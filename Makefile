# `make run` and `make test` need nothing but Python 3.11 or later: each makes .venv if it is missing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test test-all test-ray lint bench docs clean

.venv/.installed: pyproject.toml setup.py constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[hub,dev]"
	touch $@

run: .venv/.installed
	$(BIN)/strata compare permfl_balanced fedavg rounds=30

test: .venv/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not exhaustive" --durations=20

test-all: .venv/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The cluster tests on another version of Ray, in an environment of its own: make test-ray RAY=2.52.1
RAY ?= 2.60.0
RAY_VENV := .venv-ray-$(RAY)
CLUSTER_TESTS := tests/engine/runtime tests/cluster/launch

$(RAY_VENV)/.installed: pyproject.toml setup.py constraints.txt
	test -x $(RAY_VENV)/bin/python || $(PYTHON) -m venv $(RAY_VENV)
	grep -v -E '^(ray|gymnasium|ormsgpack)==' constraints.txt > $(RAY_VENV)/constraints.txt  # which Ray pins itself
	$(RAY_VENV)/bin/python -m pip install --quiet --constraint $(RAY_VENV)/constraints.txt --editable ".[dev]" "ray[rllib]==$(RAY)"
	touch $@

test-ray: $(RAY_VENV)/.installed
	$(RAY_VENV)/bin/python -m pytest -W ignore::ResourceWarning -W ignore::pytest.PytestUnraisableExceptionWarning $(CLUSTER_TESTS)  # older versions of Ray leave files open

lint: .venv/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	mkdir -p build/links/strata
	for room in engine algorithms agents envs cluster; do ln -sfn ../../../$$room build/links/strata/$$room; done
	ln -sf ../../../cluster/api/__init__.py ../../../cluster/api/py.typed build/links/strata/
	$(BIN)/mypy

bench: .venv/.installed
	$(BIN)/python -m tests.bench

# The reference of all public names, made of their docstrings.
docs: .venv/.installed
	$(BIN)/python -m tests.reference build/reference

clean:
	rm -rf .venv .venv-ray-* build *.egg-info .mypy_cache .ruff_cache .pytest_cache
