"""make rollback: make the previous champion the champion again, load it in every replica, and verify it.

Settings from the environment: CONTEXT as for make deploy; REASON, kept in the history; and those of an AWS client that
may write models/champion.json.
"""

import os
import sys
import time

from operations import service
from operations.cluster import (
    OperationError,
    check_context,
    check_namespace,
    check_rights,
    exit_code,
    get,
    kubectl,
    read_project,
    step,
)
from pipeline.errors import PromotionUnknown, TimeToDispatchError, WriteConflict
from pipeline.registry.champion import ROLL_REPLICAS, ChampionRegistry
from pipeline.registry.object_store import ObjectStore
from pipeline.utils import checked_out_commit

RIGHTS = {"deployments.apps": "get list watch patch", "pods": "get list", "pods/exec": "create"}


def main() -> int:
    """Roll back; return 0 if every replica serves the previous champion, and 1 otherwise."""
    return exit_code(_rollback)


def _rollback() -> None:
    start = time.monotonic()
    project = read_project()
    step(f"context {check_context(required=True)}, bucket {project.bucket}")
    is_there = check_namespace(project.name)
    check_rights(project.name, RIGHTS)
    if not is_there or get(f"deployment/{project.service}", project.name) is None:
        raise OperationError(f"there is no deployment {project.service} in namespace {project.name}: make deploy")
    before, after = _move_pointer(project.bucket, os.environ.get("REASON") or "make rollback")
    step(f"champion: {after} instead of {before}")
    try:
        kubectl("rollout", "restart", f"deployment/{project.service}", "-n", project.name)
        service.wait_for_rollout(project)
        replicas = service.ask_replicas(project)
        service.check_replicas(replicas, version=after)
    except OperationError as error:
        raise OperationError(
            f"{after} is the champion, but not every replica serves it: {error}. To continue, run: {ROLL_REPLICAS}; "
            "a second make rollback would cancel the first"
        ) from error
    step(f"{len(replicas)} replicas serve {after}, {time.monotonic() - start:.0f} s after the start")


def _move_pointer(bucket: str, reason: str) -> tuple[str, str]:
    """Make the previous champion the champion again; return the old and the new version."""
    try:
        registry = ChampionRegistry(ObjectStore.connect(bucket))
        moved = registry.roll_back(reason, checked_out_commit())
    except (PromotionUnknown, OperationError) as error:  # S3 did not confirm it, or a signal came
        raise OperationError(
            f"{error}. The champion may have changed. Before you roll back again, which would cancel the first, run: "
            f"python -m pipeline.registry {bucket} list"
        ) from error
    except WriteConflict as error:
        raise OperationError(
            f"{error}: somebody else replaced the champion at the same time: python -m pipeline.registry {bucket} list"
        ) from error
    except TimeToDispatchError as error:
        raise OperationError(f"{error}. The champion has not changed") from error
    assert moved.previous is not None
    return moved.previous, moved.version


if __name__ == "__main__":
    sys.exit(main())
