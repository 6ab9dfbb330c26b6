# What the README tells people to run; each target is complete from a fresh clone.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
GOLEM_RAY := $(VENV)/bin/golem-ray

.PHONY: setup demo compare train test slow chaos check bench docs lock

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "expected Python 3.11 to 3.13: make PYTHON=...")'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the lock into $(VENV): a few minutes, the first time"
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# The harder case runs beside the other, which waits for Ray at first.
demo: setup
	@echo "Spoken digits by synthetic voices: 50 clips to train on, 200 to test on, by voices that neither the"
	@echo "classifier nor the encoder was trained on."
	@echo "$(GOLEM_RAY) train demo"
	@$(GOLEM_RAY) train demo & demo=$$!; \
	harder=$$($(GOLEM_RAY) train requests --evaluation.split none --cluster.address none \
		--paths.save-path requests.pth 2>&1 | grep "Cross-validated\|error:"); \
	wait $$demo && echo && \
	echo "The harder case: fifty requests to a bank, every one in other words, of fourteen kinds (chance is 7.1%)." && \
	echo "$$harder"

compare: setup
	$(GOLEM_RAY) compare grid

train: setup
	$(GOLEM_RAY) train $(ARGS)

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

# The reference of keys and flags, from their docstrings.
docs: setup
	$(VENV)/bin/python tools/reference.py

# Resolve the ranges of pyproject.toml anew; name versions to hold back in LOCK_ARGS.
lock: setup
	$(VENV)/bin/python -m pip install --quiet uv
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-annotate \
		--no-emit-index-url --custom-compile-command "make lock" $(LOCK_ARGS) pyproject.toml -o requirements.lock
