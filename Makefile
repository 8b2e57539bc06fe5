# Featureline. `make` lists the targets; each installs what it needs into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
PACKAGES := lineage featurestore ingest training featureline
# Stubs refuse to load under an older grpcio or protobuf than made them: generate with the lowest
# versions that pyproject.toml allows.
PROTO_TOOLS := grpcio-tools==1.74.0 setuptools==80.9.0
SOAK_MINUTES ?= 10
# Files of tests run side by side, on three processes also on two cores, since many tests wait; 0:
# all in one process.
TEST_PROCESSES ?= 3
PROTOS := $(shell find proto -name '*.proto' 2>/dev/null | sort)

.PHONY: help setup setup-dev demo test bench soak proto proto-check format lint types layers docs check clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing Featureline and the demo's packages into $(VENV) (once, a few minutes)"
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing Featureline and the tests' packages into $(VENV) (once, a few minutes)"
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing Featureline and the developers' packages into $(VENV) (once, a few minutes)"
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.test $(VENV)/.demo

setup: $(VENV)/.test  ## Make the virtual environment with what the tests need

setup-dev: $(VENV)/.dev  ## ... and with the linters and type checkers

demo: $(VENV)/.demo  ## Run the main job on real data: flights in, a trained model out
	@exec $(BIN)/featureline demo $(DEMO_ARGS)

test: $(VENV)/.test  ## Run the tests
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile $(PYTEST_ARGS)

bench: $(VENV)/.test  ## Run the benchmarks (ONLY=online|offline|windows|lineage|training|ingest|encryption|redis)
	$(BIN)/python -m tests.benchmarks $(ONLY)

soak: $(VENV)/.test  ## Kill and load a server for SOAK_MINUTES (default 10); prints a table
	$(BIN)/python -m tests.soak --minutes $(SOAK_MINUTES) $(SOAK_ARGS)

proto:  ## Generate the protobuf code
	test -x .venv-proto/bin/python || $(PYTHON) -m venv .venv-proto
	.venv-proto/bin/python -m pip --disable-pip-version-check install --quiet $(PROTO_TOOLS)
	.venv-proto/bin/python -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)

proto-check: proto  ## Check that the committed protobuf code is fresh
	git diff --exit-code -- '*/v1/*_pb2*.py' '*/v1/*_pb2*.pyi'
	test -z "$$(git ls-files --others --exclude-standard -- '*/v1/')"

format: $(VENV)/.dev  ## Format the code
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format

lint: $(VENV)/.dev  ## Check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev  ## Check types
	$(BIN)/mypy

layers: $(VENV)/.dev  ## Check that imports point one way
	$(BIN)/lint-imports

docs: $(VENV)/.test  ## Generate the reference pages of the command line and the algorithms
	$(BIN)/python docs/generate.py

check: lint types layers test  ## What CI runs, but for the protobuf freshness

clean:  ## Remove what was built; the virtual environment stays
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
