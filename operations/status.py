"""make status: per replica the commit, the model's version and its age; the weekly runs, the last ones and the next."""

import sys
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim

from operations import service
from operations.cluster import (
    CONTROLLER_NAMESPACE,
    OperationError,
    check_context,
    check_namespace,
    exit_code,
    get,
    items,
    read_project,
)
from pipeline.names import parse_version


def main() -> int:
    """Look; 0 if there is a service to tell of, 1 if not."""
    return exit_code(_status)


def _status() -> None:
    project = read_project()
    context = check_context(required=False)
    deployment = get(f"deployment/{project.service}", project.name) if check_namespace(project.name) else None
    if deployment is None:
        raise OperationError(f"there is no deployment {project.service} in namespace {project.name} of {context}")
    status = deployment["status"]
    print(
        f"{project.service} in {context}: {status.get('readyReplicas', 0)} of {deployment['spec']['replicas']} replicas"
        f" ready, {status.get('updatedReplicas', 0)} up to date, tag {deployment['metadata']['labels']['git-branch']}"
    )
    now = datetime.now(UTC)
    for replica in service.ask_replicas(project):
        print(f"  {replica.pod}  {replica.commit[:7]}  {replica.model_version}  {_age(replica.model_version, now)}")
    for job in _weekly_jobs()[-5:]:
        print(f"  run {job['metadata']['name']}  {job['metadata']['creationTimestamp']}  {_outcome(job)}")
    for schedule in items("cronjobs", CONTROLLER_NAMESPACE):
        spec = schedule["spec"]
        moment = next(CronSim(spec["schedule"], now.astimezone(ZoneInfo(spec["timeZone"]))))
        paused = ", suspended" if spec.get("suspend") else ""
        print(f"  next {schedule['metadata']['name']}  {moment.isoformat()}{paused}")


def _weekly_jobs() -> list[dict[str, Any]]:
    return sorted(items("jobs", CONTROLLER_NAMESPACE), key=lambda job: str(job["metadata"]["creationTimestamp"]))


def _outcome(job: dict[str, Any]) -> str:
    if job["status"].get("active"):
        return "runs"
    return "succeeded" if job["status"].get("succeeded") else "failed"


def _age(version: str, now: datetime) -> str:
    trained = parse_version(version)
    return f"{(now - trained).total_seconds() / 86_400:.1f} days old" if trained else "of unknown age"


if __name__ == "__main__":
    sys.exit(main())
