# make quickstart | test | lint | mlflow. `setup` is cheap when nothing has changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_ARGS ?=
STUDY ?= studies/quickstart
# One OpenMP thread per run: two one-thread runs use two cores twice as well as one two-thread run.
export OMP_NUM_THREADS := 1
export HF_HUB_OFFLINE := 1

.PHONY: setup quickstart test lint mlflow clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[train,math,track,dev]'
	touch $@

quickstart: setup
	$(BIN)/scaling quickstart

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# The charts of a study: the full MLflow is five times the size of what the mirror needs, so it is installed here only.
mlflow: $(VENV)/.ui
	$(BIN)/scaling sweep mlflow $(STUDY) --serve

$(VENV)/.ui: $(VENV)/.ready
	$(BIN)/pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[ui]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
