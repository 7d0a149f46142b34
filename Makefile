# Set-up, demo, tests. Needs nothing but Python 3.11 or newer; everything is installed into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
EXAMPLES := examples/instrumental.ogg examples/singing.opus

.PHONY: help demo test lint bench clean
help:
	@echo "make demo    separate the two example songs into demo-output/"
	@echo "make test    lint, type-check and run the tests"
	@echo "make lint    ruff and mypy only"
	@echo "make bench   speed and memory of separation, beside open-unmix and HDemucs"
	@echo "make clean   remove caches and demo-output/ (the environment $(VENV) stays)"

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sepvae needs Python 3.11 or newer")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "no virtual environment could be made (on Debian: apt-get install python3-venv)" >&2; exit 1; }

# Each stamp says that the environment has what that target needs; a change of the requirements makes them stale.
$(VENV)/.ready-core: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	@echo "installing sepvae into $(VENV) (torch is large: this can take a few minutes)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.ready-test: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	@echo "installing sepvae with its train and dev extras into $(VENV) (torch is large: this can take a few minutes)"
	@$(PIP) -e '.[train,dev]'
	@touch $(VENV)/.ready-core $@

$(VENV)/.ready-bench: $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	@$(PIP) -e '.[bench]'
	@touch $(VENV)/.ready-core $@

demo: $(VENV)/.ready-core
	$(BIN)/sepvae separate $(EXAMPLES) -o demo-output --existing overwrite
	@echo "The stems of both songs are in $(CURDIR)/demo-output"

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest

bench: $(VENV)/.ready-bench
	$(BIN)/python benchmarks/separate.py

clean:
	rm -rf demo-output build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
