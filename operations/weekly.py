"""What the CronJobs run, in the stage image: the deployed tag again, if there is a week that waits for it.

A run that finds no such week leaves the service alone: a second chance on Saturday neither rolls replicas for nothing
nor takes back what somebody rolled back on Friday night. A week waits until a training of it was rejected, which fails
each run until it is mended, or was promoted and rolled out. And what Bodywork says it deployed is believed when the
service answers with it.
"""

import http.client
import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from operations import service
from operations.cluster import OperationError, Project, bodywork_python, read_project, run
from pipeline.errors import TimeToDispatchError, TrainingRejected
from pipeline.keys import DATASETS, REJECTED, DatasetKey, latest_dataset
from pipeline.registry.champion import ChampionRegistry
from pipeline.registry.object_store import ObjectStore
from pipeline.utils import configure_logger

ANSWERS = 10  # through the Service, each on a connection of its own, so that every replica is likely to be asked
ANSWER_SECONDS = 5
ROLLED_OUT_SECONDS = 120

_LIST_DEPLOYMENT = """
import sys
from kubernetes import client, config
config.load_incluster_config()
namespace, name = sys.argv[1:]
chosen = {"field_selector": f"metadata.name={name}", "_preload_content": False}
print(client.AppsV1Api().list_namespaced_deployment(namespace, **chosen).data.decode())
"""

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Deploy if a week waits for it; 0 if the service is as it should be, 1 if not, or if S3 does not tell."""
    url, tag = arguments
    configure_logger()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # process 1 is not ended by default
    project = read_project()
    try:
        store = ObjectStore.connect(project.bucket)
        datasets = latest_dataset(store.keys(DATASETS), datetime.now(UTC))
        for dataset in datasets.dated_ahead:
            log.warning("Left out: %s is dated ahead.", dataset.key)
        newest = datasets.newest
        reason = why_not(store, newest, lambda: served(project)) if newest else "there is no dataset"
    except TimeToDispatchError as error:
        log.error("Nothing was deployed: %s", error)
        return 1
    if reason:
        log.info("Nothing to do: %s.", reason)
        return 0
    assert newest is not None
    log.info("%s waits. Deploying %s.", newest.key, tag)
    return _run_bodywork(url, tag) or _check(project, store, newest, tag)


def why_not(store: ObjectStore, newest: DatasetKey, served: Callable[[], set[str]]) -> str | None:
    """Why the newest week does not wait for a run; None if it does. `served` asks which models answer.

    TrainingRejected if the gates refused it: such a run fails, as the one before it did, until the week is mended.
    """
    registry, etag = ChampionRegistry(store), store.get(newest.key).etag
    accepted = registry.models.trained_on(newest, etag)
    if not accepted:
        if rejected := registry.models.rejected_on(newest, etag):
            raise TrainingRejected(f"{newest.key} was rejected, see {REJECTED}{rejected[-1]}/")
        return None
    pointer = registry.read_champion()
    if pointer and pointer.champion.version in accepted:
        version = pointer.champion.version
        return f"{newest.key} was trained on, {version} is served" if served() == {version} else None
    taken_out = registry.taken_out(newest, etag, pointer)
    return f"{newest.key} was trained on, and {taken_out} was taken out by hand" if taken_out else None


def served(project: Project) -> set[str]:
    """Which versions answer through the Service; "nothing", too, for each time that it does not."""
    return {_ask(f"{project.service}.{project.name}") for _ in range(ANSWERS)}


def _ask(host: str) -> str:
    with closing(http.client.HTTPConnection(host, service.PORT, timeout=ANSWER_SECONDS)) as connection:
        try:
            connection.request("GET", "/livez")
            return str(json.load(connection.getresponse())["model_version"])
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return "nothing"


def _run_bodywork(url: str, tag: str) -> int:
    """Deploy; a SIGTERM is Bodywork's, which then takes its training back."""
    process = subprocess.Popen(["bodywork", "create", "deployment", url, f"--branch={tag}"])
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def _check(project: Project, store: ObjectStore, newest: DatasetKey, tag: str) -> int:
    """Wait until the service is what was deployed, and answers with a champion that was trained on the week."""
    try:
        registry = ChampionRegistry(store)
        pointer, accepted = registry.read_champion(), registry.models.trained_on(newest, store.get(newest.key).etag)
    except TimeToDispatchError as error:
        log.error("Which model is the champion is not known: %s", error)
        return 1
    if pointer is None or pointer.champion.version not in accepted:
        log.error("Not deployed, whatever Bodywork says: no model of %s was promoted.", newest.key)
        return 1
    expected = pointer.champion.version
    deadline = time.monotonic() + ROLLED_OUT_SECONDS
    while fault := find_fault(project, tag, expected):
        if time.monotonic() > deadline:
            log.error("Not deployed: %s.", fault)
            return 1
        time.sleep(1)
    log.info("Deployed: the service answers with %s.", expected)
    return 0


def find_fault(project: Project, tag: str, version: str) -> str | None:
    """What is not yet as it must be after a deployment; None if all is."""
    try:
        deployment = _read_deployment(project)
        service.check_deployment(project, deployment, service.cluster_folder(), tag)
    except OperationError as error:
        return str(error)
    if not service.is_rolled_out(deployment):
        return f"{project.service} is not rolled out: {json.dumps(deployment['status'])}"
    answers = served(project)
    return None if answers == {version} else f"the service answers with {', '.join(sorted(answers))}, not {version}"


def _read_deployment(project: Project) -> dict[str, Any]:
    """The Deployment, by Bodywork's client of Kubernetes: there is no kubectl in the image."""
    command: list[str | Path] = [bodywork_python(), "-c", _LIST_DEPLOYMENT, project.name, project.service]
    found = json.loads(run(command, "Kubernetes"))["items"]
    if not found:
        raise OperationError(f"there is no deployment {project.service} in namespace {project.name}")
    deployment: dict[str, Any] = found[0]
    return deployment


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
