# `make demo` and `make test` are all a newcomer types; both make .venv where there is none.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin

.PHONY: help setup demo test test-slow lint format bench clean

help:
	@echo "make demo       generate sounds, go the whole way with them, and draw new ones, into runs/demo"
	@echo "make test       all tests, a few minutes"
	@echo "make test-slow  longer proofs"
	@echo "make lint       style and types, as CI checks them"
	@echo "make bench AUDIO=FOLDER   the benchmarks on your sounds; results go to benchmarks/results"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "melray needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d: use make PYTHON=python3.13" % v)'
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --upgrade pip
	# torch first and by its exact version: with no torch there, other packages would bring whatever is newest.
	$(RUN)/python -m pip install --quiet $$(grep '^torch==' constraints.txt)
	$(RUN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(RUN)/melray demo

test: $(READY)
	$(RUN)/python -m pytest -m "not slow" --ignore tests/integration -n 2 --dist loadfile
	$(RUN)/python -m pytest -m "not slow" tests/integration

test-slow: $(READY)
	$(RUN)/python -m pytest -m slow

lint: $(READY)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

format: $(READY)
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

bench: $(READY)
	$(RUN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(RUN)/python -m benchmarks $(AUDIO)

clean:
	rm -rf $(VENV) runs
