# Every target works on a machine that has Python 3.11 or later, make, and a package index.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
ARGUMENTS ?=
EXTRAS := dev,antibody,diffusion,diffusers,language,molecules,plots,ray,tensorboard,docs
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

export OMP_NUM_THREADS ?= 1

.PHONY: help venv test lint format types docs demo clean

help:
	@echo "make venv    the environment of a developer, in $(VENV)"
	@echo "make test    the fast tests, on $(JOBS) processes (ARGUMENTS=... is handed to pytest)"
	@echo "make lint    ruff: rules and format (make format: apply both)"
	@echo "make types   pyright"
	@echo "make docs    the site, in site/"
	@echo "make demo    a short run with a report, in demo/"
	@echo "make clean   remove what the other targets made, except $(VENV)"

# Two stamps: what the demonstration needs, and what a developer needs besides. Either is
# made again only when the declared or the pinned dependencies have changed.
$(BIN)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) torch==2.13.0
	$(INSTALL) --editable '.[plots,diffusion,language]'
	@touch $@

$(BIN)/.developer: $(BIN)/.run
	$(INSTALL) --editable '.[$(EXTRAS)]'
	@touch $@

venv: $(BIN)/.developer

test: venv
	$(BIN)/python -m pytest -q -n $(JOBS) $(ARGUMENTS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: venv
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: venv
	test ! -f mkdocs.yml || NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

demo: $(BIN)/.run
	$(BIN)/python -m equipoise demo --out demo

clean:
	rm -rf build dist site demo .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
