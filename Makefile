# Everything from two commands: `make train` and `make test` do their own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# Two test processes with one torch thread each: more threads than cores slow everything down.
WORKERS ?= 2

# How many damaged inputs "make fuzz" tries: fuzz, or ci for fewer, the same ones every time.
HYPOTHESIS_PROFILE ?= fuzz
# Where "make gpu-tests" runs: cuda asks for a GPU; on a cpu all but one of the tests run as well.
TRM_TEST_DEVICE ?= cpu

# The page of "make demo", with all that it needs: any static host can serve its folder.
PLAY := trm/play/index.html

.PHONY: help install train test slow gpu-tests tables docs demo torture fuzz check format clean
.DEFAULT_GOAL := help

help:  ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY)  ## Make .venv and install the tested versions into it

train: $(READY)  ## Train the default model, 4x4 Sudoku, about a minute on two idle cores (ARGS="key=value ...")
	$(BIN)/python -m trm.train $(ARGS)

test: $(READY)  ## Run the tests (ARGS="-k name" picks some)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

slow: $(READY)  ## Run the tests that take minutes, "make torture" apart
	$(BIN)/python -m pytest -m slow --ignore tests/test_torture.py $(ARGS)

gpu-tests: $(READY)  ## Run what is meant for a GPU on a CPU (TRM_TEST_DEVICE=cuda: on a GPU)
	TRM_TEST_DEVICE=$(TRM_TEST_DEVICE) $(BIN)/python -m pytest -n $(WORKERS) -m gpu $(ARGS)

tables: $(READY)  ## Render the paper's tables and the plots from the result files
	$(BIN)/python -m experiments.render
	$(BIN)/python -m experiments.efficiency --render
	$(BIN)/python -m experiments.laptop

docs: $(READY)  ## Build the site, docs/_build/html/index.html; a broken link is an error
	$(BIN)/python -m sphinx -q -W --keep-going -d docs/_build/doctrees docs docs/_build/html

demo: $(PLAY)  ## Watch the shipped models think, in a browser (needs npm; ARGS="--port 8080")
	$(BIN)/python -m trm.serve $(ARGS)

torture: $(READY)  ## Kill a training run twenty times and compare it bit by bit: two to four minutes
	$(BIN)/python -m pytest -m slow -s tests/test_torture.py $(ARGS)

fuzz: $(READY)  ## Give every reader about 17,000 damaged inputs: about seven minutes
	HYPOTHESIS_PROFILE=$(HYPOTHESIS_PROFILE) $(BIN)/python -m pytest -n $(WORKERS) tests/test_fuzz.py $(ARGS)

check: $(READY)  ## Check style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)  ## Bring the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove .venv, caches and the site; runs in logs/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist docs/_build docs/generated trm/play docs/play/node_modules

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else f"error: Python {v[0]}.{v[1]} is too old, 3.11 is needed; choose another with make PYTHON=python3.11")'
	@echo "Making $(VENV) and installing the tested versions of torch, lightning and others (1 to 3 minutes) ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(READY)

$(PLAY): $(READY) docs/play/node_modules $(wildcard docs/play/*.*) $(wildcard trm/export/*.py trm/pretrained/*/model.safetensors)
	@echo "Exporting the shipped models and making the examples (about a minute) ..."
	$(BIN)/python docs/play/build.py

docs/play/node_modules: docs/play/package-lock.json
	@command -v npm >/dev/null || { echo "error: npm is needed to fetch ONNX Runtime for browsers; install Node.js 20 or later" >&2; exit 1; }
	npm ci --prefix docs/play --ignore-scripts --no-audit --no-fund
	@touch $@
