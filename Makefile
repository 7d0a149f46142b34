# Set-up, demo, tests. Needs nothing but Python 3.11 or newer; everything is installed into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
CORE_VENV ?= .venv-core
# Another torch than that of constraints.txt; CORE_TORCH=torch takes the newest there is.
CORE_TORCH ?= torch==2.13.0
CORE_TESTS := tests/audio tests/test_checkpoint.py tests/test_separator.py tests/test_library.py tests/test_fuzz.py \
	tests/test_music.py tests/signal/test_bands.py tests/signal/test_chunking.py tests/signal/test_stft.py \
	tests/signal/test_wiener.py
EXAMPLES := examples/instrumental.ogg examples/singing.opus

.PHONY: help demo test test-core lint bench clean
help:
	@echo "make demo    separate the examples, two songs and a noisy recording, into demo-output/"
	@echo "make test    lint, type-check and run the tests"
	@echo "make test-core  the tests of separation, with another torch and nothing of the train extra"
	@echo "make lint    ruff and mypy only"
	@echo "make bench   speed and memory of separation, beside open-unmix, HDemucs and demucs"
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
	$(BIN)/sepvae separate -m speech examples/noisy-speech.opus -o demo-output --existing overwrite
	@echo "The stems of both songs, and the noisy recording taken apart, are in $(CURDIR)/demo-output"

lint: $(VENV)/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest

# Its environment ignores constraints.txt on purpose: the core promises to work with any torch from 2.4 on.
$(CORE_VENV)/.ready: pyproject.toml
	@$(PYTHON) -m venv $(CORE_VENV)
	@$(CORE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade '$(CORE_TORCH)' -e . \
		'pytest>=8.2' 'pytest-timeout>=2.3' 'hypothesis>=6.100'
	@touch $@

test-core: $(CORE_VENV)/.ready
	@$(CORE_VENV)/bin/python -c "import torch; print('torch', torch.__version__)"
	@! $(CORE_VENV)/bin/python -c "import importlib.util as u, sys; sys.exit(not any(map(u.find_spec, \
		('torchaudio', 'librosa', 'lightning', 'hydra'))))" || { echo "an extra is installed here" >&2; exit 1; }
	$(CORE_VENV)/bin/python -m pytest $(CORE_TESTS)

bench: $(VENV)/.ready-bench
	$(BIN)/python benchmarks/separate.py

clean:
	rm -rf demo-output build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
