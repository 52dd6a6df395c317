# make demo   the main job on a drive nobody trained on: pictures and figures in out/demo
# make test   lint, types and all tests
# make train  a student from nothing but the town, in out/small.safetensors (two hours on two cores)
# make coverage  all tests, with the lines that none of them reaches
# make audit  known vulnerabilities of what is installed (asks a service on the internet)
# Both set up what they need in $(VENV). Nothing is installed outside it.

PYTHON ?= python3
VENV ?= .venv
DRIVE ?= town:held-out
DEMO_ARGS ?=
PYTEST_ARGS ?=
WORKERS ?= 2
RUN := $(VENV)/.installed-run
TEST := $(VENV)/.installed-test
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo test lint types unit coverage audit train clean

help:
	@sed -n '1,6s/^# //p' Makefile

$(RUN): requirements/run.txt requirements/constraints.txt requirements/setup.sh
	@requirements/setup.sh $(VENV) run
	@touch $@

$(TEST): requirements/run.txt requirements/train.txt requirements/backends.txt requirements/test.txt requirements/constraints.txt requirements/setup.sh
	@requirements/setup.sh $(VENV) test
	@touch $@ $(RUN)

demo: $(RUN)
	@$(VENV)/bin/python -m demo --drive '$(DRIVE)' $(DEMO_ARGS)

test: lint types unit

lint: $(TEST)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(TEST)
	$(VENV)/bin/mypy fsmde_ros training demo

# Files side by side, each process with one thread of torch and in a domain of DDS of its own.
unit: $(TEST)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

coverage: $(TEST)
	$(VENV)/bin/python -m pytest --cov --cov-report=term-missing:skip-covered $(PYTEST_ARGS)

audit: $(TEST)
	@test -x $(VENV)-audit/bin/pip-audit || $(PYTHON) -m venv $(VENV)-audit
	@$(VENV)-audit/bin/python -m pip install -q pip-audit==2.10.1
	$(VENV)-audit/bin/pip-audit --path $$($(VENV)/bin/python -c 'import site; print(site.getsitepackages()[0])')

train: $(TEST)
	$(VENV)/bin/python -m training.distill --config training/configs/town.yaml

clean:
	rm -rf build install log out .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
