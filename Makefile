# wheelfarm: `make run` does the main job, `make test` proves it. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
STAMP := $(VENV)/.installed
SERVICES := $(VENV)/.services
PEERS := $(VENV)/peers/.installed
BIN := $(abspath $(VENV))/bin
# A caller's own settings of Python must not reach into the farm's environment.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE

.PHONY: help setup run test test-slow corpus chaos chaos-long check format lock clean fuzz bench-verify \
	bench-farm bench-serve

# How many damaged files of each format `make fuzz` tries.
N ?= 100000
# How many kills `make chaos-long` does, and over how many jobs they are spread.
KILLS ?= 1000
JOBS ?= 1200

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## install wheelfarm and what it needs into .venv

$(STAMP): pyproject.toml constraints.txt deploy/prerequisites.sh
	@bash deploy/prerequisites.sh "$(PYTHON)"
	"$(PYTHON)" -m venv "$(VENV)"
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt --editable '.[cross,farm,objects,oidc,test]'
	@touch $@

# The programs of the servers that tests start and stop: PostgreSQL, Redis and nginx.
$(SERVICES): deploy/prerequisites.sh $(STAMP)
	@bash deploy/prerequisites.sh "$(PYTHON)" test
	@touch $@

run: $(STAMP) ## build real sdists for three targets, then install them with pip and uv
	@"$(BIN)/python" docs/tour/tour.py

test: $(STAMP) $(SERVICES) ## run the tests
	"$(BIN)/python" -m pytest --numprocesses 2 --dist loadgroup

test-slow: $(STAMP) $(SERVICES) ## run the tests that take long
	"$(BIN)/python" -m pytest --numprocesses 2 --dist loadgroup -m slow

corpus: $(STAMP) ## hold the verifier to 200 MB of real wheels, fetched once into a cache
	"$(BIN)/python" -m pytest --numprocesses 2 --dist loadgroup -m corpus tests/corpus

chaos: $(STAMP) $(SERVICES) ## kill, pause and restart the parts of a farm for some minutes
	"$(BIN)/python" -m pytest -m chaos -s tests/chaos tests/store/test_trampled.py \
	    tests/store/test_migrations.py

chaos-long: $(STAMP) $(SERVICES) ## the same for KILLS=1000 kills, recorded in docs/chaos.md
	"$(BIN)/python" -m tests.chaos.run --jobs $(JOBS) --kills $(KILLS) --record docs/chaos.md

fuzz: $(STAMP) ## judge N damaged files of each format (N=100000); WITH=atheris for libFuzzer
ifeq ($(WITH),atheris)
	"$(BIN)/python" -m pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	for format in zip mach-o fat elf pe; do \
	    "$(BIN)/python" -m tests.builder.robustness.coverage_guided $$format -runs=$(N); done
else
	"$(BIN)/python" -m tests.builder.robustness.long_run --count $(N)
endif

bench-verify: $(STAMP) ## measure verify beside plain unpacking, auditwheel and delocate
	"$(BIN)/python" -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	"$(BIN)/python" benchmarks/verify.py

bench-farm: $(STAMP) $(SERVICES) ## measure what the farm itself costs
	PYTHONPATH=. "$(BIN)/python" benchmarks/farm.py

# Servers of others, in an environment of their own: they pin what ours has, too.
$(PEERS): benchmarks/peers.txt deploy/prerequisites.sh $(STAMP)
	@bash deploy/prerequisites.sh "$(PYTHON)" bench
	"$(PYTHON)" -m venv "$(VENV)/peers"
	"$(VENV)/peers/bin/python" -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	@touch $@

bench-serve: $(STAMP) $(PEERS) ## measure serving beside devpi, pypiserver and nginx
	PYTHONPATH=. "$(BIN)/python" benchmarks/serve.py --programs "$(BIN)/../peers/bin"

check: $(STAMP) ## lint, format, types, import arrows
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"
	"$(BIN)/lint-imports"

format: $(STAMP) ## format the code
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .

lock: $(STAMP) ## renew constraints.txt from pyproject.toml
	"$(BIN)/uv" pip compile --quiet --universal --python-version 3.11 --all-extras \
	    --no-header --no-annotate --no-emit-index-url --upgrade \
	    --output-file constraints.txt pyproject.toml

clean: ## remove .venv, the tour's store and all caches
	rm -rf "$(VENV)" .wheelfarm .mypy_cache .pytest_cache .ruff_cache .hypothesis
