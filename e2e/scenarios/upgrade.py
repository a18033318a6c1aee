"""An upgrade: the champion that the previous version stored is served, and a new model replaces it."""

import os

from e2e.environment import Environment, expect, under_load
from e2e.previous_version import PREVIOUS_VERSION, check_out, train
from operations.cluster import kubectl
from operations.service import ask_replicas, check_replicas, wait_for_rollout


def upgrade(environment: Environment) -> None:
    """Train with the previous version's code, restart the replicas, and deploy over it, under load."""
    project = environment.project
    with environment.scenario("a champion of the previous version is served, and replaced by a deployment") as figures:
        folder = environment.folder / "previous-version"
        check_out(environment.repository, folder)
        versions = [environment.champion()]
        with under_load(environment, figures, versions):
            environment.upload_week()
            train(folder, project.bucket, os.environ)
            versions.append(environment.champion())
            expect(versions[1] != versions[0], "the previous version promoted no model")
            kubectl("rollout", "restart", f"deployment/{project.service}", "-n", project.name)
            wait_for_rollout(project)
            check_replicas(ask_replicas(project), version=versions[1])
            environment.upload_week()
            done = environment.deploy()
            versions.append(environment.champion())
            expect("Gate champion: pass" in done.output, "the new model was not compared with the old champion")
            check_replicas(ask_replicas(project), version=versions[2])
        figures.append(f"{versions[1]} of {PREVIOUS_VERSION}, then {versions[2]}")
