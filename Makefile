# Isochrone. `make` alone lists what can be made.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
LOCKS  := deploy/locks
UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate

# Most tests wait more than they work. The tests of a file stay together, for they may share what takes long to start.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install up compose-up compose-down test test-faults soak test-real check check-deploy bench bench-accuracy \
	bench-herd fmt lock clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-15s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## install everything into .venv (locked, with hashes)

$(STAMP): $(LOCKS)/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Isochrone needs Python 3.11 or later; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCKS)/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

up: $(STAMP) ## run everything on this machine: Postgres, collector, agent, three simulated endpoints
	@exec $(BIN)/isochrone-collector up $(ARGS)

compose-up: ## run the whole stack in containers: Postgres, collector, two agents, Prometheus, Alertmanager, Grafana
	@$(PYTHON) deploy/compose/stack.py up

compose-down: ## stop the containers; the data stay (ARGS=--volumes: they go)
	@$(PYTHON) deploy/compose/stack.py down $(ARGS)

test: $(STAMP) ## prove it: unit, contract, integration, migration and system tests
	$(PYTEST) $(ARGS)

# Some faults need a disk or a network of their own: without root they are skipped, and say so.
test-faults: $(STAMP) ## everything of tests/faults, planted bugs, and over three minutes of random faults (half an hour)
	ISOCHRONE_CHAOS_SECONDS=$${ISOCHRONE_CHAOS_SECONDS:-200} $(PYTEST) -m "not real and not bench" \
		tests/faults tests/system/test_chaos.py tests/system/test_mutants.py tests/system/test_scale_out.py $(ARGS)

soak: $(STAMP) ## half an hour of random faults: nothing lost, nothing grown (ISOCHRONE_SOAK_MINUTES)
	ISOCHRONE_SOAK_MINUTES=$${ISOCHRONE_SOAK_MINUTES:-30} $(BIN)/python -m pytest -s -m slow_fault \
		tests/faults/test_soak.py $(ARGS)

test-real: $(STAMP) ## measure a real model server and a real gateway (builds both the first time)
	$(BIN)/python -m tests.real.run $(ARGS)

check: $(STAMP) check-deploy ## format, lint, types, layers, dead dependencies, spelling, files of deploy/
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/codespell

check-deploy: $(STAMP) ## the Dockerfile, the compose file, rules and routes of alerts, each by the program that reads it
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python deploy/check.py

bench: $(STAMP) ## measure speed and size, each against its limit or a peer
	$(BIN)/python -m tests.bench.run $(ARGS)

bench-accuracy: $(STAMP) ## hold the agent's times against the packets', beside httpx, aiohttp and the OpenAI SDK (root)
	@$(BIN)/python -m tests.bench.accuracy.run $(ARGS)

bench-herd: $(STAMP) ## let 10,000 agents come back at once after five minutes without their collector
	@$(BIN)/python -m tests.bench.herd $(ARGS)

fmt: $(STAMP) ## put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(STAMP) ## renew deploy/locks from pyproject.toml (ARGS=--upgrade to take newer releases)
	$(UV_COMPILE) --group build -o $(LOCKS)/build.txt $(ARGS)
	$(UV_COMPILE) pyproject.toml --extra agent -o $(LOCKS)/agent.txt $(ARGS)
	$(UV_COMPILE) pyproject.toml --extra collector -o $(LOCKS)/collector.txt $(ARGS)
	$(UV_COMPILE) pyproject.toml --all-extras --group dev -o $(LOCKS)/dev.txt $(ARGS)

clean: ## remove the environment and caches (data of `make up` stays)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
