"""make status: each replica's commit, model and the model's age; the last weekly runs and the next one."""

import sys
from contextlib import suppress
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
    kubectl,
    read_project,
)
from pipeline.keys import parse_version


def main() -> int:
    """Print the status; return 0 if the service exists, and 1 otherwise."""
    return exit_code(_status)


def _status() -> None:
    project = read_project()
    context = check_context(required=False)
    deployment = get(f"deployment/{project.service}", project.name) if check_namespace(project.name) else None
    if deployment is None:
        raise OperationError(f"there is no deployment {project.service} in namespace {project.name} of {context}")
    status, template = deployment["status"], deployment["spec"]["template"]["metadata"].get("labels", {})
    print(
        f"{project.service} in {context}: {status.get('readyReplicas', 0)} of {deployment['spec']['replicas']} replicas"
        f" ready, {status.get('updatedReplicas', 0)} up to date, tag {template.get('git-branch', 'none')}"
    )
    now = datetime.now(UTC)
    for pod in sorted(service.pods(project)):
        try:
            replica = service.ask(project, pod)
        except OperationError as error:
            print(f"  {pod}  does not answer: {error}")
            continue
        print(f"  {replica.pod}  {replica.commit[:7]}  {replica.model_version}  {_age(replica.model_version, now)}")
    for job in _weekly_jobs()[-5:]:
        name = job["metadata"]["name"]
        print(f"  run {name}  {job['metadata']['creationTimestamp']}  {_outcome(job)}  {_last_line(name)}")
    for schedule in items("cronjobs", CONTROLLER_NAMESPACE):
        spec = schedule["spec"]
        moment = next(CronSim(spec["schedule"], now.astimezone(ZoneInfo(spec.get("timeZone", "UTC")))))
        paused = ", suspended" if spec.get("suspend") else ""
        print(f"  next {schedule['metadata']['name']}  {moment.isoformat()}{paused}")


def _weekly_jobs() -> list[dict[str, Any]]:
    return sorted(items("jobs", CONTROLLER_NAMESPACE), key=lambda job: str(job["metadata"]["creationTimestamp"]))


def _outcome(job: dict[str, Any]) -> str:
    if job["status"].get("succeeded"):
        return "succeeded"
    return "failed" if job["status"].get("failed") else "running"


def _last_line(job: str) -> str:
    """Return the last line of a run's log, for instance that there was nothing to do; "" once its pod is gone."""
    with suppress(OperationError):
        lines = kubectl("logs", "-n", CONTROLLER_NAMESPACE, f"job/{job}", "--tail=1").split(" - ", 3)
        return lines[-1].strip()
    return ""


def _age(version: str, now: datetime) -> str:
    trained = parse_version(version)
    return f"{(now - trained).total_seconds() / 86_400:.1f} days old" if trained else "of unknown age"


if __name__ == "__main__":
    sys.exit(main())
