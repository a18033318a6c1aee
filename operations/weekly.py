"""The weekly run, which the CronJobs start in the stage image: deploy the deployed tag again if there is a new week.

A week is new until a model of it was promoted and rolled out. A rejected week fails every run until it is corrected.
Without a new week, the run leaves the service alone: Saturday's second chance restarts no replica and undoes no manual
roll-back. A deployment counts as done when the service answers with the new champion, not when Bodywork says so.
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

ANSWERS = 10  # through the Service, on new connections, so that every replica is likely to answer
ANSWER_SECONDS = 5
ROLLED_OUT_SECONDS = 120

_ASK_KUBERNETES = Path(__file__).with_name("ask_kubernetes.py")

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Deploy if there is a new week; return 0 if the service is as it should be, and 1 otherwise."""
    url, tag = arguments
    configure_logger()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # process 1 ignores SIGTERM by default
    project = read_project()
    try:
        store = ObjectStore.connect(project.bucket)
        datasets = latest_dataset(store.keys(DATASETS), datetime.now(UTC))
        for dataset in datasets.dated_ahead:
            log.warning("Ignored %s: its date is more than one hour ahead of now.", dataset.key)
        newest = datasets.newest
        reason = why_not(store, newest, lambda: served(project)) if newest else "there is no dataset"
    except TimeToDispatchError as error:
        log.error("Nothing was deployed: %s", error)
        return 1
    if reason:
        log.info("Nothing to do: %s.", reason)
        return 0
    assert newest is not None
    log.info("Found a new week, %s. Deploying %s.", newest.key, tag)
    return _run_bodywork(url, tag) or _check(project, store, newest, tag)


def why_not(store: ObjectStore, newest: DatasetKey, served: Callable[[], set[str]]) -> str | None:
    """Return why the newest week needs no deployment; None if it needs one. `served` returns the versions that answer.

    Raises TrainingRejected if the gates rejected the week: each run fails until the week is corrected.
    """
    registry, etag = ChampionRegistry(store), store.get(newest.key).etag
    accepted = registry.models.trained_on(newest, etag)
    if not accepted:
        if rejected := registry.models.rejected_on(newest, etag):
            raise TrainingRejected(
                f"{newest.key} was rejected, see {REJECTED}{rejected[-1]}/: correct it and upload it again"
            )
        return None
    pointer = registry.read_champion()
    if pointer and pointer.champion.version in accepted:
        version = pointer.champion.version
        return f"the model of {newest.key}, {version}, is served already" if served() == {version} else None
    taken_out = registry.taken_out(newest, etag, pointer)
    return f"the model of {newest.key}, {taken_out}, was taken out by hand" if taken_out else None


def served(project: Project) -> set[str]:
    """Return the versions that answer through the Service; "nothing" stands for a missing answer."""
    return {_ask(f"{project.service}.{project.name}") for _ in range(ANSWERS)}


def _ask(host: str) -> str:
    with closing(http.client.HTTPConnection(host, service.PORT, timeout=ANSWER_SECONDS)) as connection:
        try:
            connection.request("GET", "/livez")
            return str(json.load(connection.getresponse())["model_version"])
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return "nothing"


def _run_bodywork(url: str, tag: str) -> int:
    """Deploy; pass SIGTERM on to Bodywork, which then deletes its training."""
    process = subprocess.Popen(["bodywork", "create", "deployment", url, f"--branch={tag}"])
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)


def _check(project: Project, store: ObjectStore, newest: DatasetKey, tag: str) -> int:
    """Wait until the service runs the deployed tag and answers with a champion that was trained on the week."""
    try:
        registry = ChampionRegistry(store)
        pointer, accepted = registry.read_champion(), registry.models.trained_on(newest, store.get(newest.key).etag)
    except TimeToDispatchError as error:
        log.error("Cannot read which model is the champion: %s", error)
        return 1
    if pointer is None or pointer.champion.version not in accepted:
        log.error("Bodywork ended with exit code 0, but promoted no model of %s: see its log above.", newest.key)
        return 1
    expected = pointer.champion.version
    deadline = time.monotonic() + ROLLED_OUT_SECONDS
    while fault := find_fault(project, tag, expected):
        if time.monotonic() > deadline:
            log.error("Not deployed after %d s: %s.", ROLLED_OUT_SECONDS, fault)
            return 1
        time.sleep(1)
    log.info("Deployed: the service answers with %s.", expected)
    return 0


def find_fault(project: Project, tag: str, version: str) -> str | None:
    """Return what is still missing after a deployment; None if nothing is."""
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
    """Read the Deployment with Bodywork's Kubernetes client; the image has no kubectl."""
    command: list[str | Path] = [bodywork_python(), _ASK_KUBERNETES, project.name, project.service]
    found = json.loads(run(command, "Kubernetes"))["items"]
    if not found:
        raise OperationError(f"there is no deployment {project.service} in namespace {project.name}")
    deployment: dict[str, Any] = found[0]
    return deployment


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
