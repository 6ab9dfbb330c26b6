# What the README tells people to run; each target is complete from a fresh clone.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: setup demo compare train test slow chaos check bench lock

setup: $(STAMP)

$(STAMP): requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "expected Python 3.11 to 3.13: make PYTHON=...")'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the lock into $(VENV): a few minutes, the first time"
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	touch $@

demo: setup
	$(VENV)/bin/python jobs/train.py jobs/presets/demo.toml
	$(VENV)/bin/python jobs/evaluate.py voice_classifier_knowledge.pth --dataset.split test
	$(VENV)/bin/python jobs/predict.py voice_classifier_knowledge.pth --dataset.name sample --dataset.split test \
		--processing.max-samples 3

compare: setup
	$(VENV)/bin/python jobs/compare.py jobs/presets/grid.toml

train: setup
	$(VENV)/bin/python jobs/train.py $(ARGS)

# Two processes, of which one has a Ray: conftest.py says which tests stay together.
PYTEST := $(VENV)/bin/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

test: setup
	$(PYTEST)

# Whole commands, submitted jobs, several nodes, compiled encoders, large comparisons.
slow: setup
	$(PYTEST) -m "slow and not chaos"

# Actors, nodes, drivers and whole groups of processes, ended at moments drawn by so many seeds.
SEEDS ?= 5
chaos: setup
	CHAOS_SEEDS=$(SEEDS) $(VENV)/bin/python -m pytest -m chaos

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(PYTEST)

# Two hours on two cores. On a GPU: benchmarks/gpu.py.
bench: setup
	$(VENV)/bin/python benchmarks/embedding.py
	$(VENV)/bin/python benchmarks/growth.py
	$(VENV)/bin/python benchmarks/scale.py
	$(VENV)/bin/python benchmarks/whole_job.py

# Resolve the ranges of pyproject.toml anew; name versions to hold back in LOCK_ARGS.
lock: setup
	$(VENV)/bin/python -m pip install --quiet uv
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-annotate \
		--no-emit-index-url --custom-compile-command "make lock" $(LOCK_ARGS) pyproject.toml -o requirements.lock
