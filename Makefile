# `make` lists the targets.

PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m

.DEFAULT_GOAL := help
.PHONY: help setup train test check tensorboard sweep classifier bench speedrun notebooks clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(BIN)/.ready ## make the virtual environment .venv with everything in it

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(RUN) pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

train: setup ## train a GAN on MNIST; ARGS="key=value ..." changes the run
	$(RUN) gan_lightning.train $(ARGS)

test: setup ## run the tests but for the slow ones, and report their coverage
	$(RUN) pytest -m "not slow" --cov --cov-report=term-missing:skip-covered

check: setup ## lint, check formatting and types
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

tensorboard: setup ## open TensorBoard on all runs
	$(RUN) tensorboard.main --logdir outputs

sweep: setup ## sweep the learning rate, and summarise the runs; ARGS="key=value ..." changes them
	$(RUN) gan_lightning.train -m optimizer.lr=1e-4,2e-4,4e-4 $(ARGS)

classifier: setup ## train the classifier that FID and its kin look through; ARGS="out=FILE ..." changes it
	$(RUN) gan_lightning.classifier $(ARGS)

bench: setup ## time training, data, sampling, scoring and start-up, beside other ways
	$(RUN) benchmarks

speedrun: setup ## time five seeds to the paper's log-likelihood; ARGS="key=value ..." changes the recipe
	$(RUN) benchmarks.speedrun $(ARGS)

notebooks: setup ## run the notebooks
	$(RUN) pytest tests/test_notebooks.py

clean: ## remove the environment, all runs and what tools leave behind
	rm -rf .venv outputs build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
