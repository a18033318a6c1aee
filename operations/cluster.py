"""Run kubectl, git and Bodywork, and turn each failure into one line."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CONTROLLER_NAMESPACE = "bodywork-deployment-jobs"  # fixed in Bodywork's code
CALL_SECONDS = 60  # Bodywork alone takes 30 s to start on a busy machine


class OperationError(Exception):
    """The operation cannot go on; the message is the one line that is printed."""


@dataclass(frozen=True)
class Project:
    """The settings of bodywork.yaml that the operations need."""

    name: str
    image: str
    batch_stage: str
    service_stage: str
    bucket: str
    replicas: int
    secrets: dict[str, set[str]]

    @property
    def service(self) -> str:
        """The service's name on Kubernetes."""
        return self.service_stage.replace("_", "-")

    @property
    def batch_job(self) -> str:
        """The batch stage's name on Kubernetes."""
        return self.batch_stage.replace("_", "-")


def read_project(root: Path = ROOT) -> Project:
    """Read bodywork.yaml, which Bodywork has validated."""
    config = yaml.safe_load((root / "bodywork.yaml").read_text())
    stages = config["stages"]
    (batch,) = (name for name, stage in stages.items() if "batch" in stage)
    (service,) = (name for name, stage in stages.items() if "service" in stage)
    secrets: dict[str, set[str]] = {}
    for stage in stages.values():
        for variable, secret in stage.get("secrets", {}).items():
            secrets.setdefault(secret, set()).add(variable)
    return Project(
        name=config["pipeline"]["name"],
        image=config["pipeline"]["docker_image"],
        batch_stage=batch,
        service_stage=service,
        bucket=stages[batch]["args"][0],
        replicas=stages[service]["service"]["replicas"],
        secrets=secrets,
    )


def run(
    command: Sequence[str | Path], what: str, *, stdin: str | None = None, seconds: float = CALL_SECONDS, **more: Any
) -> str:
    """Run a command and return its output; OperationError with its last line if it fails."""
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False, **more
        )
    except FileNotFoundError as error:
        raise OperationError(f"{what}: the command {command[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise OperationError(f"{what}: no answer in {seconds:g} s") from error
    if done.returncode:
        said = (line.strip() for line in (done.stderr or done.stdout).splitlines())
        lines = [line for line in said if line and not line.startswith("command terminated")]  # kubectl exec's last
        raise OperationError(f"{what}: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return str(done.stdout)


def kubectl(*arguments: str, stdin: str | None = None, seconds: float = CALL_SECONDS) -> str:
    """Run kubectl in the current context."""
    return run(["kubectl", *arguments], f"kubectl {' '.join(arguments[:4])}", stdin=stdin, seconds=seconds)


def get(kind: str, namespace: str, *arguments: str) -> Any:
    """Return an object, or a list of objects, as kubectl reads it; None if it does not exist."""
    text = kubectl("get", kind, "-n", namespace, "-o", "json", "--ignore-not-found", *arguments)
    return json.loads(text) if text.strip() else None


def items(kind: str, namespace: str, *arguments: str) -> list[dict[str, Any]]:
    """Return the objects of a kind; kubectl prints nothing if there are none."""
    found: list[dict[str, Any]] = (get(kind, namespace, *arguments) or {"items": []})["items"]
    return found


def check_context(required: bool) -> str:
    """Return the current context; OperationError if CONTEXT names another one, or is required and not set.

    If CONTEXT is required, all later commands go to this cluster, even if another terminal changes the current context.
    """
    current = kubectl("config", "current-context").strip()
    wanted = os.environ.get("CONTEXT")
    if not wanted and required:
        raise OperationError(f"CONTEXT is not set: name the cluster, for instance the current one: CONTEXT={current}")
    if wanted and wanted != current:
        raise OperationError(
            f"the current context is {current}, but CONTEXT says {wanted}: kubectl config use-context {wanted}"
        )
    if required:
        folder = Path(tempfile.mkdtemp(prefix="kubeconfig-"))  # mkdtemp makes it private
        atexit.register(shutil.rmtree, folder)
        config = kubectl("config", "view", "--minify", "--flatten", "--raw", f"--context={current}")
        (folder / "config").write_text(config)
        os.environ["KUBECONFIG"] = str(folder / "config")
    return current


def check_namespace(name: str) -> bool:
    """Whether the namespace exists; OperationError if the cluster does not answer or is deleting it."""
    namespace = get(f"namespace/{name}", "default")
    if namespace is None:
        return False
    if namespace["status"]["phase"] != "Active":
        raise OperationError(f"namespace {name} is {namespace['status']['phase']}: wait until it is gone or active")
    return True


def check_rights(namespace: str, wanted: Mapping[str, str]) -> None:
    """Raise OperationError with every wanted right that the current user lacks; "" stands for the whole cluster."""
    if refused := refused_rights(namespace, wanted):
        where = f"namespace {namespace}" if namespace else "the whole cluster"
        raise OperationError(
            f"your account may not {', '.join(refused)} in {where}: ask the platform team for these rights"
        )


def refused_rights(namespace: str, wanted: Mapping[str, str], *arguments: str) -> list[str]:
    """Return the wanted rights that the current user, or the user in kubectl's arguments, does not have.

    `wanted` maps resources to verbs, such as {"deployments.apps": "get list", "pods/log": "get"}.
    """
    asked = [(verb, resource) for resource, verbs in wanted.items() for verb in verbs.split()]
    reviews = [_review(namespace, verb, resource) for verb, resource in asked]
    printed, text = 'jsonpath={.status.allowed}{"\\n"}', "\n---\n".join(map(json.dumps, reviews))
    answers = kubectl("create", "-f", "-", "--validate=false", "-o", printed, *arguments, stdin=text).split()
    return [f"{verb} {resource}" for (verb, resource), may in zip(asked, answers, strict=True) if may != "true"]


def _review(namespace: str, verb: str, resource: str) -> dict[str, Any]:
    """Return the object that asks Kubernetes whether the current user may do this."""
    name, _, part = resource.partition("/")
    kind, _, group = name.partition(".")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": kind, "subresource": part}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }


def bodywork(*arguments: str) -> list[str | Path]:
    """Return the command for Bodywork with this project's fixes, in Bodywork's own environment."""
    return [bodywork_python(), ROOT / "deploy/bodywork", *arguments]


def bodywork_python() -> Path:
    """Return the Python of Bodywork's own environment."""
    return Path(os.environ.get("BODYWORK_PYTHON", ROOT / ".venv-bodywork/bin/python")).absolute()


def warnings_since(namespace: str, moment: str) -> list[str]:
    """Return Kubernetes's warnings in a namespace since `moment` (RFC 3339, UTC), newest last, without duplicates."""
    with suppress(OperationError):
        chosen = "type=Warning,involvedObject.kind!=PodDisruptionBudget"  # these come with every roll-out
        events = items("events", namespace, "--field-selector", chosen)
        recent = [event for event in events if (event.get("lastTimestamp") or moment) >= moment]
        recent.sort(key=lambda event: event.get("lastTimestamp") or moment)
        return list(dict.fromkeys(f"{event['reason']}: {' '.join(event['message'].split())}" for event in recent))
    return []


def step(text: str) -> None:
    """Print what is done now."""
    print(f"==> {text}", flush=True)


def exit_code(operation: Callable[[], None]) -> int:
    """Run an operation; return 0, or 1 after one line on standard error if it failed or was interrupted."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        operation()
        sys.stdout.flush()
    except BrokenPipeError:  # a reader such as `head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OperationError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise an error like any other, so that a started roll-out is undone; ignore further signals until then."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise OperationError(f"interrupted by {signal.Signals(number).name}")
