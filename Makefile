# Needs make and Python 3.11 or newer with venv; nothing else. `make help` lists the targets.
# Everything is installed into .venv from the hashed locks, wheels only.
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --require-hashes --only-binary :all:
INSTALL_PROJECT := $(PIP) install --quiet --no-deps --no-build-isolation --editable .
# A version manager may answer to a name and still have no such Python: each candidate is run.
CANDIDATES := python3 python3.13 python3.12 python3.11 python
PYTHON ?=
OPA ?= $(firstword $(wildcard $(CURDIR)/.tools/bin/opa) $(shell command -v opa 2>/dev/null))
BENCHES := query publish search negotiate guard isolation
DEMO_ARGS ?=
TEST_ARGS ?=
BASE ?=
FUZZ_SECONDS ?= 60

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- environment -----------------------------------------------------------------------------

$(VENV)/.created:
	@set -e; found=""; \
	for candidate in $(or $(PYTHON),$(CANDIDATES)); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    found="$$candidate"; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "No Python 3.11 or newer found (tried: $(or $(PYTHON),$(CANDIDATES)))." \
	       "Install one, or name it: make PYTHON=/path/to/python3 …" >&2; exit 1; \
	fi; \
	echo "Creating $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv $(VENV)
	@touch $@

# The run lock is a subset of the development lock, so the latter stands for both.
$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/.created
	@echo "Installing what Luoshu needs to run into $(VENV)"
	@$(INSTALL) --requirement requirements.lock
	@$(INSTALL_PROJECT)
	@touch $@

$(VENV)/.dev: requirements-dev.lock requirements.lock pyproject.toml | $(VENV)/.created
	@echo "Installing what Luoshu and its tests need into $(VENV)"
	@$(INSTALL) --requirement requirements-dev.lock
	@$(INSTALL_PROJECT)
	@touch $(VENV)/.run $@

# --- the two commands ------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.run ## five nodes on loopback, the main job end to end on real data
	@$(BIN)/luoshu demo $(DEMO_ARGS)

.PHONY: test
test: $(VENV)/.dev ## every test that needs no root, Docker, Go or OPA
	@$(BIN)/python -m pytest -m "not system and not slow" $(TEST_ARGS)

# --- more tests ------------------------------------------------------------------------------

.PHONY: test-system
test-system: $(VENV)/.dev ## tests of whole spaces, and that need git, root, Docker or OPA
	@OPA="$(OPA)" $(BIN)/python -m pytest -m "system and not slow" $(TEST_ARGS)

.PHONY: test-slow
test-slow: $(VENV)/.dev ## exhaustive tests, on demand
	@OPA="$(OPA)" $(BIN)/python -m pytest -m slow --timeout 0 $(TEST_ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.dev ## fuzz what reads workers' answers, guided by coverage (FUZZ_SECONDS=60; x86-64)
	@$(PIP) install --quiet --require-hashes --only-binary :all: --upgrade --target .tools/fuzz \
	  --requirement requirements-fuzz.lock
	@mkdir -p .tools/fuzz-corpus
	@PYTHONPATH=.tools/fuzz:tests/support $(BIN)/python tests/fuzz/answers.py -max_total_time=$(FUZZ_SECONDS) \
	  -artifact_prefix=.tools/ .tools/fuzz-corpus tests/fuzz/corpus

.PHONY: sandbox-image
sandbox-image: $(VENV)/.dev ## the image of workers under Docker (BASE=debootstrap: no registry)
	@.ci/image $(BASE)

.PHONY: docs
docs: $(VENV)/.dev ## README and docs: commands parse, links resolve, both languages agree
	@$(BIN)/python -m pytest tests/e2e/test_docs.py $(TEST_ARGS)

# --- static checks ---------------------------------------------------------------------------

.PHONY: lint
lint: $(VENV)/.dev ## ruff, buf lint, bash -n
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/buf lint proto
	@for script in .ci/*; do bash -n "$$script" || exit 1; done

.PHONY: type
type: $(VENV)/.dev ## mypy, strict, on everything that ships and what builds it
	@$(BIN)/mypy
	@$(BIN)/mypy --allow-untyped-defs --allow-untyped-calls policies/build.py

.PHONY: arch
arch: $(VENV)/.dev ## import-linter: floors, and what may import what
	@$(BIN)/lint-imports --no-logo

.PHONY: proto
proto: $(VENV)/.dev ## generate the stubs under proto/gen
	@PATH="$(CURDIR)/$(BIN):$$PATH" .ci/proto generate

.PHONY: proto-check
proto-check: $(VENV)/.dev ## stubs are up to date, and no commit broke the wire format
	@PATH="$(CURDIR)/$(BIN):$$PATH" .ci/proto check
	@PATH="$(CURDIR)/$(BIN):$$PATH" .ci/proto breaking

.PHONY: policy-wasm
policy-wasm: $(VENV)/.dev ## build the shipped policy with OPA
	@$(BIN)/python policies/build.py

.PHONY: policy-wasm-check
policy-wasm-check: $(VENV)/.dev ## the shipped policy is what OPA builds (in CI, OPA must be there)
	@if [ -n "$(OPA)$(CI)" ]; then \
	  $(BIN)/python policies/build.py --check; \
	else \
	  echo "OPA isn't installed: the shipped policy was not compared (.ci/run installs OPA)"; \
	fi

# --- numbers ---------------------------------------------------------------------------------

.PHONY: bench
bench: $(VENV)/.dev ## every benchmark in full, beside its baseline
	@set -e; for name in $(BENCHES); do $(BIN)/luoshu bench $$name; done

.PHONY: bench-smoke
bench-smoke: $(VENV)/.dev
	@set -e; for name in $(BENCHES); do $(BIN)/luoshu bench $$name --quick --json; done

# --- all of it -------------------------------------------------------------------------------

.PHONY: check
check: lint type arch proto-check policy-wasm-check test test-system demo bench-smoke ## what CI runs

.PHONY: lock
lock: ## resolve both locks again (UPGRADE=1: to the newest versions)
	@PATH="$(CURDIR)/$(BIN):$$PATH" .ci/lock $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## remove the environment and every cache
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
