# Everything runs in a private .venv, made on first use and remade when pyproject.toml changes.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TORCH  ?=
TORCH_VENV := .venv-torch$(if $(TORCH),-$(TORCH))
TORCH_OVERRIDES := tests/torch/overrides$(if $(TORCH),-$(TORCH)).txt
ARGS   ?=
# Two processes with a test file each: most tests wait for a server. One given from outside is there only once.
TWO    := $(if $(TOPOSTRATA_TEST_NEO4J),,--numprocesses 2 --dist loadfile --no-loadscope-reorder)

.DEFAULT_GOAL := help
.PHONY: help demo test test-torch quick soak bounds lies lint types wheel check clean

help:
	@echo "make demo    train small sparse networks, archive them, show the story (ARGS=--no-serve ends)"
	@echo "make test    all tests, with a real embedded engine, but for those that need torch"
	@echo "make test-torch  the tests that need torch, in an environment of their own (4 GB; TORCH=2.4: the oldest)"
	@echo "make quick   the tests that take no engine"
	@echo "make soak    the whole campaigns of faults on training jobs and servers, whose tables it writes into docs/reliability.md"
	@echo "make bounds  the tests of the compiled kernels, every index of them checked"
	@echo "make lies    800 files whose numbers lie, by every door; make test reads a tenth of them"
	@echo "make wheel   build the wheel, and try each extra alone in a fresh environment"
	@echo "make check   what CI runs: test, test-torch, bounds, lint, types, wheel"

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "topostrata needs Python 3.11 or later, found " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable ".[demo]" --group dev
	@touch $@

demo: $(READY)
	$(BIN)/topostrata demo $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(TWO) $(ARGS)

$(TORCH_VENV)/.ready: $(READY) pyproject.toml $(TORCH_OVERRIDES)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(TORCH_VENV)
	$(BIN)/uv pip install --quiet --python $(TORCH_VENV)/bin/python --overrides $(TORCH_OVERRIDES) --editable ".[demo]" --group torch
	@touch $@

test-torch: $(TORCH_VENV)/.ready
	OMP_NUM_THREADS=1 $(TORCH_VENV)/bin/python -m pytest $(TWO) tests/torch $(ARGS)

quick: $(READY)
	$(BIN)/python -m pytest tests/unit tests/oracle -m "not slow" $(ARGS)

soak: $(READY)
	TOPOSTRATA_TEST_SOAK=1 TOPOSTRATA_TEST_CHAOS_TO=docs/reliability.md TOPOSTRATA_TEST_FAULTS_TO=docs/reliability.md \
	  $(BIN)/python -m pytest tests/integration/test_hook_chaos.py tests/integration/test_neo4j_faults.py $(ARGS)

bounds: $(READY)
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR="$(CURDIR)/.bounds" $(BIN)/python -m pytest $(TWO) tests/unit/distance tests/oracle $(ARGS)

lies: $(READY)
	LIES=100 $(BIN)/python -m pytest tests/unit/ingest/test_well_formed_lies.py $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

wheel: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" tests/check_wheel.sh

check: test test-torch bounds lint types wheel

clean:
	rm -rf $(VENV) .venv-torch* .bounds build dist demo-out *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
