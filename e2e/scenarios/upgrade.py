"""An upgrade: the champion that the previous version stored is served, and a new model replaces it."""

import json
from typing import Any

from e2e.cluster import job_log, job_outcome
from e2e.environment import Environment, expect, under_load
from e2e.previous_version import PREVIOUS_VERSION
from operations.cluster import kubectl
from operations.service import ask_replicas, check_replicas, wait_for_rollout
from pipeline.keys import DATASETS
from pipeline.registry.models import ModelRegistry

JOB = "previous-version"
SCRIPT = """
git clone --quiet --depth 1 --branch previous-version "$GIT_URL" /tmp/code
cd /tmp/code/pipeline
PYTHONPATH=/tmp/code exec python train_model.py "$BUCKET"
"""


def upgrade(environment: Environment) -> None:
    """Train with the previous version's code, restart the replicas, and deploy over it, under load."""
    project = environment.project
    with environment.scenario("a champion of the previous version is served, and replaced by a deployment") as figures:
        versions = [environment.champion()]
        with under_load(environment, figures, versions):
            for key in list(environment.store.keys(DATASETS)):
                environment.client.delete_object(Bucket=project.bucket, Key=key)
            # The two weeks are seven days apart: a model is not compared with a champion of the same week.
            environment.upload_week(age_days=7)
            _train_with_previous_version(environment)
            versions.append(environment.champion())
            expect(versions[1] != versions[0], "the previous version promoted no model")
            kubectl("rollout", "restart", f"deployment/{project.service}", "-n", project.name)
            wait_for_rollout(project)
            check_replicas(ask_replicas(project), version=versions[1])
            environment.upload_week()
            environment.deploy()
            versions.append(environment.champion())
            compared_with = ModelRegistry(environment.store).read_manifest(versions[2]).hold_out.compared_with
            expect(compared_with == versions[1], f"{versions[2]} was compared with {compared_with}, not {versions[1]}")
            check_replicas(ask_replicas(project), version=versions[2])
        figures.append(f"{versions[1]} of {PREVIOUS_VERSION[:7]}, then {versions[2]}")


def _train_with_previous_version(environment: Environment) -> None:
    """Run the previous version's train_model in the stage image, as Bodywork does: the libraries are the image's."""
    project = environment.project
    environment.git("push", "--quiet", "--force", "origin", f"{PREVIOUS_VERSION}^{{commit}}:refs/tags/previous-version")
    kubectl("create", "-f", "-", stdin=json.dumps(_job(environment)))
    outcome = job_outcome(JOB, project.name)
    expect(outcome == "succeeded", f"the previous version's training {outcome}: {job_log(JOB, namespace=project.name)}")


def _job(environment: Environment) -> dict[str, Any]:
    project = environment.project
    variables = {"GIT_URL": environment.git_url, "BUCKET": project.bucket}
    container = {
        "name": "train-model",
        "image": project.image,
        "command": ["sh", "-ec", SCRIPT],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "envFrom": [{"secretRef": {"name": name}} for name in ("git", "s3")],
    }
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": JOB, "namespace": project.name},
        "spec": {"backoffLimit": 0, "template": template},
    }
