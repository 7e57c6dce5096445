# `make` lists the targets.

PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m

# The package with an extra; bytecode on all cores, where pip would take one. Some packages hold files for a newer Python.
define install
$(RUN) pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable ".[$(1)]"
$(RUN) compileall -qq -j 0 .venv/lib || true
touch $@
endef

.DEFAULT_GOAL := help
.PHONY: help setup train test check tensorboard sweep classifier bench speedrun notebooks clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(BIN)/.dev ## make the virtual environment .venv with everything in it

$(BIN)/.train: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(call install,export)

$(BIN)/.dev: $(BIN)/.train
	$(call install,dev)

train: $(BIN)/.train ## train a GAN on MNIST; ARGS="key=value ..." changes the run
	$(RUN) gan_lightning.train $(ARGS)

test: setup ## run the tests but for the slow ones, and report their coverage
	OMP_NUM_THREADS=1 $(RUN) pytest -m "not slow" -n auto --maxprocesses 4 --dist worksteal --cov --cov-report=term-missing:skip-covered

check: setup ## lint, check formatting and types
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

tensorboard: $(BIN)/.train ## open TensorBoard on all runs
	$(RUN) tensorboard.main --logdir outputs

sweep: $(BIN)/.train ## sweep the learning rate, and summarise the runs; ARGS="key=value ..." changes them
	$(RUN) gan_lightning.train -m optimizer.lr=5e-4,1e-3,2e-3 $(ARGS)

classifier: $(BIN)/.train ## train the classifier that FID and its kin look through; ARGS="out=FILE ..." changes it
	$(RUN) gan_lightning.classifier $(ARGS)

bench: setup ## time training, data, sampling, scoring and start-up, beside other ways
	$(RUN) benchmarks

speedrun: $(BIN)/.train ## time five seeds to the paper's log-likelihood; ARGS="key=value ..." changes the recipe
	$(RUN) benchmarks.speedrun $(ARGS)

notebooks: setup ## run the notebooks
	$(RUN) pytest tests/test_notebooks.py

clean: ## remove the environment, all runs and what tools leave behind
	rm -rf .venv outputs build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
