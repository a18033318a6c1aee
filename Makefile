# The verbs, the same on a laptop and in CI. `make` alone lists them.
PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
UV := UV_PYTHON_DOWNLOADS=never $(BIN)/uv --no-progress
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

unexport PYTHONDONTWRITEBYTECODE # each process would compile all that it imports again: 7 s instead of 2.5

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: .venv/installed ## Train on a generated week on a local S3 and serve on 127.0.0.1:8000 (ARGS="--weeks 12 --drift 0.01")
	@$(BIN)/python -m local.run $(ARGS)

.PHONY: test
test: .venv/installed .venv-bodywork/installed ## Run the static analysis and all tests
	@$(BIN)/tox run

.PHONY: bench
bench: .venv/installed ## Measure the budgets on this machine, which should be quiet (ARGS="--soak 60")
	@$(BIN)/python -m benchmarks.run $(ARGS)

.PHONY: faults
faults: .venv/installed ## Try every fault of S3 at every call, and a hundred moments to be killed at (slow)
	@$(BIN)/pytest -n auto -m slow

.PHONY: analysis
analysis: .venv/installed ## The static analysis alone, as CI runs it
	@$(BIN)/tox run -e py-static_code_analysis

.PHONY: unit
unit: .venv/installed .venv-bodywork/installed ## The tests alone, as CI runs them
	@$(BIN)/tox run -e py-unit_and_functional_tests

.PHONY: fuzz
fuzz: .venv/installed ## Send 10,000 requests that are made up from the service's OpenAPI description (slow)
	@$(BIN)/pytest -s -m fuzz

.PHONY: mutants
mutants: .venv/installed ## Say which faults in the gates, the data contract and the registry no test would notice (slow)
	@$(BIN)/mutmut run
	@! $(BIN)/mutmut results | grep . || { echo "ERROR: no test notices these: mutmut show NAME" >&2; exit 1; }

.PHONY: image
image: .venv/installed .venv-bodywork/installed ## Build and push the stage image, unless it is there (IMAGE_BUILDER=command, called with folder and tag)
	@$(BIN)/python -m operations.image

.PHONY: deploy
deploy: .venv/installed .venv-bodywork/installed ## Deploy the commit that is checked out, and verify it (CONTEXT=kubectl's context)
	@$(BIN)/python -m operations.deploy

.PHONY: rollback
rollback: .venv/installed ## Serve the previous model again, in every replica (CONTEXT=kubectl's context)
	@$(BIN)/python -m operations.rollback

.PHONY: status
status: .venv/installed ## Show each replica's commit and model, the last weekly runs and the next
	@$(BIN)/python -m operations.status

.PHONY: e2e
e2e: .venv/installed .venv-bodywork/installed ## Prove all of it on the cluster of KUBECONFIG, which must be fresh; e2e/__init__.py has the settings
	@$(BIN)/python -m e2e.run

.PHONY: monitoring-test
monitoring-test: ## Test the alert rules by promtool (Debian: apt install prometheus)
	@command -v promtool >/dev/null || { echo "ERROR: there is no promtool (Debian: apt install prometheus)" >&2; exit 1; }
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
clean: ## Remove what the other verbs made, the local S3's data included
	rm -rf mutants .e2e.log .venv .venv-bodywork .tox .s3data .mypy_cache .pytest_cache .hypothesis

.venv/installed: requirements_cicd.txt requirements/uv.txt
	@command -v $(PYTHON) >/dev/null || { echo "ERROR: there is no $(PYTHON); name one by make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "ERROR: $(PYTHON) is $$($(PYTHON) --version), 3.11 to 3.13 is needed; name one by make PYTHON=..." >&2; exit 1; }
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
