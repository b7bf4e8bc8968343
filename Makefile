# `make run` and `make test` are all that a newcomer needs; both set up what they need.
PYTHON ?= python3
BIN := .venv/bin
SETUP := setup.cfg pyproject.toml constraints.txt
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test evidence bench soak mutants lint docs pictures dist clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 10

run: .venv/.run ## build the default release if there is none, start the service, print a sign-in link
	@exec $(BIN)/reviewapp serve

# Several at once: most tests of the service wait. Each process keeps to the tests of a file as far as that is fair.
# Small models are fitted no faster by several threads, which only wait for each other.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

test: lint ## lint, types and all tests
	@mkdir -p build
	@$(PYTEST) --cov --cov-report=term --cov-report=json:build/coverage.json --junitxml=build/junit.xml

evidence: build/junit.xml ## measure all that the memo states, render it, run its notebook (about 16 minutes)
	@$(BIN)/reviewapp evidence
	@$(BIN)/jupyter nbconvert --log-level=WARN --to notebook --inplace --execute \
	  --ExecutePreprocessor.record_timing=False memo/notebook.ipynb

ROUNDS ?= 3
SECONDS ?= 4
bench: .venv/.dev ## measure how fast it is, as ratios within one run (about 10 minutes; see bench/README.md)
	@$(BIN)/python -m bench --rounds $(ROUNDS) --seconds $(SECONDS)

ROWS ?=
soak: .venv/.dev ## try what holds while things go wrong, into memo/evidence/soak (about an hour; ROWS="1 3": these alone)
	@$(BIN)/python -m soak --output memo/evidence/soak $(ROWS)

MUTANTS ?= 300
SEED ?= 8
mutants: .venv/.mutation ## do the tests notice when the code that trust rests on is changed? a seeded sample (about 20 minutes)
	@$(BIN)/python -m soak.mutants --sample $(MUTANTS) --seed $(SEED)

# The tests whose counts the evidence states; those of evidence, memo and notebook themselves would go in a circle.
build/junit.xml: $(shell find src templates static tests -type f -not -name '*.pyc' -not -path '*.egg-info*') | .venv/.dev
	@mkdir -p build
	@$(PYTEST) -q --junitxml=$@ --ignore-glob='*/test_evidence*.py' \
	  --ignore=tests/test_memo.py --ignore=tests/test_notebook.py

lint: .venv/.dev ## style and types
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet . && $(BIN)/mypy

docs: .venv/.dev ## make docs/settings.md, docs/openapi.json, the settings of deploy/README.md and the README's bench anew
	@$(BIN)/python -m tests.made_files

pictures: .venv/.dev ## take the pictures of the README anew (needs Chromium)
	@$(BIN)/python -m tests.pictures

dist: .venv/.dev ## build the wheel into dist/
	@rm -rf build/lib build/bdist.* dist && $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean: ## remove what can be made again; the instance folder stays
	rm -rf .venv build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "reviewapp needs Python 3.11 or newer, and there is no $(PYTHON)."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "reviewapp needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "The virtual environment could not be made; on Debian and Ubuntu: apt install python3-venv."; exit 1; }

.venv/.run: $(SETUP) | .venv/bin/python
	@echo "Installing what reviewapp needs into .venv …"
	@$(BIN)/python -m pip install --quiet --editable '.[bulk,parquet]' && touch $@

.venv/.dev: $(SETUP) | .venv/bin/python
	@echo "Installing what reviewapp and its tests need into .venv …"
	@$(BIN)/python -m pip install --quiet --editable '.[dev]' && touch $@ .venv/.run

.venv/.mutation: $(SETUP) | .venv/bin/python
	@echo "Installing what makes mutants into .venv …"
	@$(BIN)/python -m pip install --quiet --editable '.[mutation]' && touch $@ .venv/.dev .venv/.run
