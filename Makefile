# `make` lists the targets.

PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m

# Not ?=, since some shells export HOST as the machine's name.
HOST := localhost

# Installs the package with an extra, and compiles bytecode on all cores; some packages ship files for a newer Python only.
define install
$(RUN) pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable ".[$(1)]"
$(RUN) compileall -qq -j 0 .venv/lib || true
touch $@
endef

.DEFAULT_GOAL := help
.PHONY: help setup train test coverage check audit tensorboard sweep classifier bench speedrun zoo notebooks docs clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(BIN)/.dev ## create the virtual environment .venv with all dependencies

$(BIN)/.train: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(call install,export)

$(BIN)/.sweep: $(BIN)/.train
	$(call install,sweep)

$(BIN)/.dev: $(BIN)/.train
	$(call install,dev)

$(BIN)/.docs: $(BIN)/.train
	$(call install,docs)

$(BIN)/.audit: $(BIN)/.train
	$(call install,audit)

train: $(BIN)/.train ## train a GAN on MNIST; ARGS="key=value ..." changes the run
	$(RUN) gan_lightning.train $(ARGS)

test: setup ## run all tests except the slow ones
	OMP_NUM_THREADS=1 $(RUN) pytest -m "not slow" -n auto --maxprocesses 4 --dist worksteal $(ARGS)

coverage: ## run the same tests, which takes twice as long, and report coverage
	$(MAKE) test ARGS="--cov --cov-report=term-missing:skip-covered"

check: setup ## lint, and check formatting and types
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

# Without --strict, a version that cannot be looked up is skipped.
audit: $(BIN)/.audit ## look up known vulnerabilities of the versions in constraints.txt
	$(RUN) pip_audit --requirement constraints.txt --no-deps --disable-pip --strict

tensorboard: $(BIN)/.train ## start TensorBoard on all runs, for this machine only; HOST=0.0.0.0 opens it to the network
	$(RUN) tensorboard.main --logdir outputs --host $(HOST)

sweep: $(BIN)/.sweep ## sweep the learning rate and the seed, and summarize the runs; ARGS="key=value ..." changes them
	$(RUN) gan_lightning.train -m sweep=lr $(ARGS)

classifier: $(BIN)/.train ## train the classifier whose features the metrics compare; ARGS="out=FILE ..." changes it
	$(RUN) gan_lightning.train_classifier $(ARGS)

bench: setup ## measure the speed of training, data, sampling, evaluation and start-up
	$(RUN) benchmarks

speedrun: $(BIN)/.train ## measure the time to the paper's log-likelihood, five seeds; ARGS="key=value ..." changes it
	$(RUN) benchmarks.speedrun $(ARGS)

zoo: setup ## train every experiment (hours), and write docs/zoo.md; ARGS="--only NAME ..." selects some
	$(RUN) benchmarks.zoo $(ARGS)

notebooks: setup ## run the notebooks, whole
	$(RUN) pytest tests/test_notebooks.py

docs: $(BIN)/.docs ## build the documentation site: docs/_build/index.html
	$(RUN) gan_lightning.export checkpoint=mnist out=docs/digits.html
	$(RUN) sphinx -aE -W --keep-going -q docs docs/_build

clean: ## remove the environment, all runs and temporary files
	rm -rf .venv outputs build dist docs/_build docs/reference docs/digits.html .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
