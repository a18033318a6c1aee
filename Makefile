# The commands, the same on a laptop and in CI. `make` alone lists them.
PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
UV := UV_PYTHON_DOWNLOADS=never $(BIN)/uv --no-progress
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

unexport PYTHONDONTWRITEBYTECODE # with it, each process compiles all imports again: 7 s instead of 2.5 s

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: .venv/installed ## Train on a generated week on a local S3 and serve on 127.0.0.1:8000 (ARGS="--weeks 12 --drift 0.01")
	@$(BIN)/python -m local.run $(ARGS)

.PHONY: test
test: .venv/installed .venv-bodywork/installed ## Run the static analysis and all tests
	@$(BIN)/tox run

.PHONY: bench
bench: .venv/installed ## Measure the budgets; needs a quiet machine (ARGS="--soak 60")
	@$(BIN)/python -m benchmarks.run $(ARGS)

.PHONY: faults
faults: .venv/installed ## Break S3 in every way at every call, and kill a training at a hundred moments (slow)
	@$(BIN)/pytest -n auto -m slow

.PHONY: analysis
analysis: .venv/installed ## Run the static analysis alone, as CI does
	@$(BIN)/tox run -e py-static_code_analysis

.PHONY: format
format: .venv/installed ## Format the code and sort its imports
	@$(BIN)/ruff check --quiet --fix . && $(BIN)/ruff format .

.PHONY: unit
unit: .venv/installed .venv-bodywork/installed ## Run the tests alone, as CI does
	@$(BIN)/tox run -e py-unit_and_functional_tests

.PHONY: fuzz
fuzz: .venv/installed ## Send 10,000 requests made up from the service's OpenAPI description (slow)
	@$(BIN)/pytest -s -m fuzz

.PHONY: mutants
mutants: .venv/installed ## List the faults in gates, data contract and registry that no test would find (slow)
	@$(BIN)/mutmut run
	@! $(BIN)/mutmut results | grep . || { echo "ERROR: no test finds the faults above; \`mutmut show NAME\` shows one" >&2; exit 1; }

.PHONY: image
image: .venv/installed .venv-bodywork/installed ## Build and push the stage image, unless it exists (IMAGE_BUILDER=command, called with folder and tag)
	@$(BIN)/python -m operations.image

.PHONY: deploy
deploy: .venv/installed .venv-bodywork/installed ## Deploy the checked-out commit and verify it (CONTEXT=kubectl's context)
	@$(BIN)/python -m operations.deploy

.PHONY: rollback
rollback: .venv/installed ## Serve the previous model again, in every replica (CONTEXT=kubectl's context)
	@$(BIN)/python -m operations.rollback

.PHONY: status
status: .venv/installed ## Show each replica's commit and model, the last weekly runs and the next one
	@$(BIN)/python -m operations.status

.PHONY: e2e
e2e: .venv/installed .venv-bodywork/installed ## Prove every promise on the cluster of KUBECONFIG, which must be fresh; settings: e2e/__init__.py (ARGS=--list)
	@$(BIN)/python -m e2e.run $(ARGS)

.PHONY: monitoring-test
monitoring-test: ## Test the alert rules by promtool (Debian: apt install prometheus)
	@command -v promtool >/dev/null || { echo "ERROR: promtool is not installed (Debian: apt install prometheus)" >&2; exit 1; }
	promtool test rules deploy/monitoring/rules-test.yaml

.PHONY: requirements
requirements: .venv/installed ## Compile requirements/*.in into the pinned files; UPGRADE=--upgrade takes newer versions
	$(COMPILE) $(UPGRADE) -o requirements/uv.txt requirements/uv.in
	$(COMPILE) $(UPGRADE) -o requirements/pip.txt requirements/pip.in
	$(COMPILE) $(UPGRADE) -o requirements_pipe.txt requirements/pipe.in
	$(COMPILE) $(UPGRADE) -c requirements_pipe.txt -o notebooks/requirements_nb.txt requirements/nb.in
	$(COMPILE) $(UPGRADE) -c requirements_pipe.txt -c requirements/uv.txt -o requirements_cicd.txt requirements/cicd.in
	$(COMPILE) $(UPGRADE) --override requirements/bodywork-overrides.txt \
		--build-constraint requirements/bodywork-build-constraints.txt -o requirements_bodywork.txt requirements/bodywork.in

.PHONY: clean
clean: ## Remove what the other commands made, including the data of the local S3
	rm -rf .venv .venv-bodywork .venv-notebook .tox .s3data .e2e.log mutants \
		.mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis .coverage .coverage.*

.venv/installed: requirements_cicd.txt requirements/uv.txt
	@command -v $(PYTHON) >/dev/null || { echo "ERROR: $(PYTHON) is not installed; choose another one by make PYTHON=python3.13 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "ERROR: $(PYTHON) is $$($(PYTHON) --version), but 3.11 to 3.13 is needed; choose another one by make PYTHON=python3.13 ..." >&2; exit 1; }
	@echo "==> setting up .venv with the pinned packages"
	@$(PYTHON) -m venv --clear .venv || { echo "ERROR: $(PYTHON) cannot make a venv (Debian: apt install python3-venv)" >&2; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements_cicd.txt
	@touch $@

.venv-bodywork/installed: .venv/installed requirements_bodywork.txt requirements/bodywork-build-constraints.txt
	@echo "==> setting up .venv-bodywork, Bodywork's own environment"
	@$(UV) venv --quiet --clear --python $(BIN)/python .venv-bodywork
	@$(UV) pip install --quiet --python .venv-bodywork/bin/python --no-deps --require-hashes \
		--build-constraints requirements/bodywork-build-constraints.txt -r requirements_bodywork.txt
	@touch $@
