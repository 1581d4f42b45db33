# Everything sets itself up: a virtual environment, an install pinned by constraints.txt, then the job.
PYTHON ?= python3
VENV ?= .venv
FUZZ_RUNS ?= 20000
BIN := $(VENV)/bin
PIP := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet

# Where an environment forbids compiled files, each of the many processes of the tests would compile all sources anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-slow lint docs notebooks fuzz clean

help:
	@echo "make demo       the quickstart: teacher, baseline, student, verdict, report (about three minutes on two quiet cores)"
	@echo "make test       all checks and tests (under ten minutes on two cores)"
	@echo "make test-slow  the longer tests as well"
	@echo "make lint       formatting, types and the direction of imports alone"
	@echo "make docs       the site, in docs/_build/html: warnings are errors"
	@echo "make notebooks  execute the notebooks into docs/notebooks (about ten minutes; ONLY=first-distillation for one)"
	@echo "make fuzz       random and damaged files for every reader (FUZZ_RUNS=20000 inputs each, about half an hour)"
	@echo "make clean      remove the virtual environment and the caches"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip

$(VENV)/.limbeck: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.limbeck
	$(PIP) --group dev
	touch $@

demo: $(VENV)/.limbeck
	$(BIN)/limbeck quickstart --out runs/demo-$$(date +%Y%m%d-%H%M%S)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n auto --dist worksteal -m "not slow"

test-slow: lint
	HYPOTHESIS_PROFILE=explore $(BIN)/pytest -n auto --dist worksteal

docs: $(VENV)/.limbeck
	$(PIP) --group docs
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "The site begins at docs/_build/html/index.html"

notebooks: $(VENV)/.dev
	$(PIP) --group docs
	$(BIN)/python docs/execute_notebooks.py $(ONLY)

fuzz: $(VENV)/.dev
	$(PIP) --group fuzz
	$(BIN)/python fuzz/run.py --runs $(FUZZ_RUNS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
