"""CircleCI's configuration, by CircleCI's schema and by what the project promises."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from operations.cluster import ROOT

CONFIG = ROOT / ".circleci/config.yml"
CHECK: list[str | Path] = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.circle-ci"]


def jobs() -> dict[str, dict[str, Any]]:
    """What the workflow says of each job."""
    listed = yaml.safe_load(CONFIG.read_text())["workflows"]["test-and-deploy"]["jobs"]
    return {name: said for job in listed for name, said in (job.items() if isinstance(job, dict) else [(job, {})])}


def test_the_configuration_is_valid_by_circlecis_schema() -> None:
    done = subprocess.run([*CHECK, CONFIG], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_misspelt_key_is_found_by_it(tmp_path: Path) -> None:
    wrong = tmp_path / "config.yml"
    wrong.write_text(CONFIG.read_text().replace("    steps:", "    stepz:", 1))
    assert subprocess.run([*CHECK, wrong], capture_output=True, check=False).returncode == 1


def test_the_deployment_requires_every_other_job_and_runs_on_master_only() -> None:
    said = jobs()
    others = set(said) - {"trigger-bodywork-deployment"}
    assert set(said["trigger-bodywork-deployment"]["requires"]) == others
    assert said["build-image"]["requires"] == ["run-static-code-analysis", "run-tests"]
    for name in ("build-image", "trigger-bodywork-deployment"):
        assert said[name]["filters"] == {"branches": {"only": "master"}}
        assert said[name]["context"]
    for name in ("run-static-code-analysis", "run-tests"):
        assert "filters" not in said[name]


def test_two_deployments_wait_for_each_other() -> None:
    assert jobs()["trigger-bodywork-deployment"]["serial-group"]


def test_every_python_that_the_project_runs_on_is_tested() -> None:
    assert jobs()["run-tests"]["matrix"]["parameters"]["python"] == ["3.11", "3.12", "3.13"]
