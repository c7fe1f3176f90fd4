# All targets create .venv first if it is missing.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin
# Python of `make gpu`; without .venv: make gpu READY= RUN_PYTHON=python3
RUN_PYTHON := $(RUN)/python

.PHONY: help setup demo test test-slow lint format bench gpu docs docs-notebook docs-images clean

help:
	@echo "make setup               create .venv with pinned packages"
	@echo "make demo                run the whole pipeline on synthetic sounds, into runs/demo"
	@echo "make test                tests, a few minutes"
	@echo "make test-slow           slow tests"
	@echo "make lint                check style and types, as CI does"
	@echo "make format              format the code and fix style errors"
	@echo "make bench AUDIO=FOLDER  benchmarks on your audio, into benchmarks/results"
	@echo "make gpu                 all checks and benchmarks on a GPU, under 8 minutes"
	@echo "make docs                regenerate docs/cli.md from --help"
	@echo "make docs-notebook       execute docs/melray.ipynb again"
	@echo "make docs-images         regenerate images of the README (Chromium); one: IMAGES=recording"
	@echo "make clean               delete .venv and runs"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "melray needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d: use make PYTHON=python3.13" % v)'
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --upgrade pip
	# torch first and in its exact release: otherwise other packages would install the newest.
	$(RUN)/python -m pip install --quiet $$(grep '^torch==' constraints.txt)
	$(RUN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(RUN)/melray demo

test: $(READY)
	# Two processes, one of which runs all tests on Ray (tests/helpers/run_order.py).
	# --max-worker-restart 0: pytest-xdist 3.8 waits forever after it has replaced a lost worker (its issue 1323).
	$(RUN)/python -m pytest -m "not slow" -n 2 --dist loadfile --max-worker-restart 0

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

gpu: $(READY)
	$(RUN_PYTHON) -m benchmarks.bench_gpu $(GPU_FLAGS)

docs: $(READY)
	$(RUN)/python -m docs.make_cli_reference

docs-notebook: $(READY)
	$(RUN)/python -m docs.make_notebook

docs-images: $(READY)
	$(RUN)/python -m docs.make_images $(IMAGES)

clean:
	rm -rf $(VENV) runs
