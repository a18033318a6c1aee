"""What the scenarios act on: a private repository, a bucket, the make commands, the load, and the table of results."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3

from e2e.git_server import GitServer
from e2e.load import CLIENTS
from local.generate_orders import generate_week, to_csv
from operations.cluster import CONTROLLER_NAMESPACE, ROOT, get, items, kubectl, read_project, run
from operations.service import ready_pods
from pipeline.keys import dataset_key
from pipeline.registry.champion import ChampionRegistry
from pipeline.registry.object_store import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NODE_PORT = 30080
LOG = ROOT / ".e2e.log"  # the output of the make commands
SETTINGS = (
    "KUBECONFIG",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "E2E_GIT_LISTEN",
    "E2E_GIT_URL",
)
COMMAND_SECONDS = 420


class ExpectationFailed(Exception):
    """A scenario found something else than it expected."""


def expect(condition: bool, found: str) -> None:
    """Raise ExpectationFailed with what was found if the condition does not hold."""
    if not condition:
        raise ExpectationFailed(found)


@dataclass
class CommandResult:
    """A make command that has ended."""

    code: int
    output: str
    seconds: float

    @property
    def error(self) -> str:
        """Its ERROR line."""
        lines = [line for line in self.output.splitlines() if line.startswith("ERROR: ")]
        return lines[-1] if lines else f"exit code {self.code} without an ERROR line: {self.output.strip()[-300:]}"


@dataclass(frozen=True)
class Row:
    """The result of a scenario: its row in the table."""

    name: str
    passed: bool
    seconds: float
    figures: str


@dataclass
class Environment:
    """The cluster and everything around it; `rows` has the result of each scenario."""

    folder: Path
    token: str = field(default_factory=lambda: f"token-{secrets.token_hex(16)}")
    rows: list[Row] = field(default_factory=list)
    git_server: GitServer | None = None
    weeks: int = 0

    def __post_init__(self) -> None:
        self.project = read_project()
        self.context = kubectl("config", "current-context").strip()
        self.repository = self.folder / "repository.git"
        self.clone = self.folder / "clone"
        self.log = LOG.open("w")
        self.client: S3Client = boto3.client("s3")
        self.store = ObjectStore.connect(self.project.bucket)

    @property
    def url(self) -> str:
        """The address of the service, seen from here."""
        return f"http://{os.environ.get('E2E_NODE', '127.0.0.1')}:{NODE_PORT}"

    @property
    def git_url(self) -> str:
        """The address from which pods clone."""
        return os.environ["E2E_GIT_URL"]

    def git(self, *arguments: str) -> str:
        """Run git in the clone that is deployed."""
        return run(["git", *arguments], f"git {arguments[0]}", cwd=self.clone).strip()

    def make_repository(self) -> None:
        """Make a private repository of the project's last commit, set up for an S3 outside AWS."""
        run(["git", "clone", "--quiet", "--bare", str(ROOT), str(self.repository)], "git clone")
        run(["git", "clone", "--quiet", str(self.repository), str(self.clone)], "git clone")
        self.git("config", "user.name", "End to end")
        self.git("config", "user.email", "e2e@example.com")
        self.commit("Name the S3 of this cluster", "bodywork.yaml", "# outside AWS: ", "")

    def commit(self, message: str, path: str | None = None, old: str = "", new: str = "") -> str:
        """Replace a text in one file, if given, then commit and push; return the commit."""
        if path:
            file = self.clone / path
            text = file.read_text()
            assert old in text, f"{path} has no {old!r}"
            file.write_text(text.replace(old, new))
        self.git("commit", "--quiet", "--all", "--allow-empty", "--message", message)
        self.git("push", "--quiet", "origin", "HEAD")
        return self.git("rev-parse", "HEAD")

    def back_to(self, commit: str) -> None:
        """Undo everything since a commit, as git revert does."""
        self.git("checkout", "--quiet", commit, "--", ".")
        self.commit("Take it back")

    def upload_week(self, *, noise: bool = False, age_days: float = 0.25) -> str:
        """Upload a week, newer than all others of its age, and return its key; the gates reject a week of noise."""
        self.weeks += 1
        orders = generate_week(seed=self.weeks)
        if noise:
            orders["hours_to_dispatch"] = orders["hours_to_dispatch"].sample(frac=1, random_state=1).to_numpy()
        key = dataset_key(datetime.now(UTC) - timedelta(days=age_days) + timedelta(seconds=self.weeks))
        self.client.put_object(Bucket=self.project.bucket, Key=key, Body=to_csv(orders))
        return key

    def make(self, command: str, until: str | None = None, **settings: str) -> CommandResult:
        """Run a make command in the clone, with this checkout's environments; send SIGTERM once it prints `until`."""
        environment = {
            **os.environ,
            "CONTEXT": self.context,
            "GIT_URL": self.git_url,
            "GIT_TOKEN": self.token,
            "BODYWORK_PYTHON": str(ROOT / ".venv-bodywork/bin/python"),
            **settings,
        }
        old = [item for name in (".venv/installed", ".venv-bodywork/installed") for item in ("-o", name)]
        start, said = time.monotonic(), ""
        with subprocess.Popen(
            ["make", command, *old, f"BIN={Path(sys.executable).parent}"],
            cwd=self.clone,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            limit = threading.Timer(COMMAND_SECONDS, process.terminate)
            limit.start()
            for line in process.stdout:
                said += line
                if until and until in line:
                    process.terminate()
            limit.cancel()
        seconds = time.monotonic() - start
        print(f"--- make {command}: {process.returncode} after {seconds:.1f} s\n{said}", file=self.log, flush=True)
        return CommandResult(process.returncode, said, seconds)

    def deploy(self) -> CommandResult:
        """Run make deploy, which must succeed."""
        done = self.make("deploy")
        expect(done.code == 0, done.error)
        return done

    def refused(self, command: str, *words: str, **settings: str) -> CommandResult:
        """Run a make command that must fail, with one ERROR line that has these words, and without changing a pod."""
        before = self.pods()
        done = self.make(command, **settings)
        lines = [line for line in done.output.splitlines() if line.startswith("ERROR: ")]
        expect(done.code != 0, f"make {command} ended with exit code 0")
        expect(len(lines) == 1, f"make {command}: {len(lines)} ERROR lines")
        expect("Traceback" not in done.output.partition("Bodywork: https")[0], f"make {command}: a traceback")
        expect(all(word in lines[0] for word in words), f"{lines[0]!r} does not have {words}")
        expect(self.pods() == before, f"make {command}: the pods changed")
        return done

    def champion(self) -> str:
        """Return the champion's version."""
        pointer = ChampionRegistry(self.store).read_champion()
        expect(pointer is not None, "there is no champion")
        assert pointer is not None
        return pointer.champion.version

    def pods(self) -> list[str]:
        """Return the names of the ready replicas, with the number of their restarts."""
        if get(f"namespace/{self.project.name}", "default") is None:
            return []
        pods = items("pods", self.project.name, "-l", f"stage={self.project.service}")
        ready = set(ready_pods(self.project))
        return sorted(
            f"{pod['metadata']['name']} {pod['status']['containerStatuses'][0]['restartCount']}"
            for pod in pods
            if pod["metadata"]["name"] in ready
        )

    def secret(self, namespace: str, name: str, **values: str) -> None:
        """Create or replace a Secret."""
        given = "".join(f"{key}={value}\n" for key, value in values.items())
        manifest = kubectl(
            "create",
            "secret",
            "generic",
            name,
            "-n",
            namespace,
            "--dry-run=client",
            "-o",
            "yaml",
            "--from-env-file=/dev/stdin",
            stdin=given,
        )
        kubectl("apply", "-f", "-", stdin=manifest)

    def s3_secret(self, **changed: str) -> None:
        """Create the Secret with the S3 settings, with the given changes."""
        names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        values = {name: os.environ[name] for name in names} | {"AWS_DEFAULT_REGION": "us-east-1"} | changed
        for namespace in (self.project.name, CONTROLLER_NAMESPACE):
            self.secret(namespace, "s3", **values)

    @contextmanager
    def scenario(self, name: str) -> Iterator[list[str]]:
        """Run a scenario and add its row; the yielded list takes its figures. A failure does not end the run."""
        print(f"==> {name}", flush=True)
        figures: list[str] = []
        start = time.monotonic()
        try:
            yield figures
            passed = True
        except Exception as error:  # noqa: B902 - any failure is a row of the table, and the next scenario runs
            passed = False
            figures.append(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        seconds = time.monotonic() - start
        self.rows.append(Row(name, passed, seconds, "; ".join(figures)))
        print(f"    {'ok' if passed else 'FAILED'} in {seconds:.1f} s: {'; '.join(figures)}", flush=True)


class Load:
    """The load generator, in a process of its own."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "e2e.load", url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def stop(self) -> dict[str, Any]:
        """Stop it, and return what it counted."""
        self._process.send_signal(signal.SIGTERM)
        text, _ = self._process.communicate(timeout=30)
        seen: dict[str, Any] = json.loads(text)
        return seen


@contextmanager
def under_load(
    environment: Environment, figures: list[str], versions: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Load the service during the block: no request may fail, and only these versions, or the champion, may answer."""
    load = Load(environment.url)
    seen: dict[str, Any] = {}
    try:
        time.sleep(1)
        yield seen
        time.sleep(1)
    finally:
        seen.update(load.stop())
        figures.append(f"{seen['requests']:,} requests, {seen['failed']} failed, the slowest {seen['slowest']:.2f} s")
    silent = CLIENTS.keys() - seen["answers_by_kind"].keys()
    expect(not silent, f"no answer to the clients {sorted(silent)}")
    expect(seen["failed"] == 0, f"{seen['failed']} failed, the first: {seen['failures'][:1]}")
    allowed = set(versions) if versions is not None else {environment.champion()}
    expect(set(seen["versions"]) <= allowed, f"answered by {sorted(seen['versions'])}, expected {sorted(allowed)}")


def seconds_of(text: str) -> float:
    """Return the number of seconds in the last line of `make rollback`."""
    found = re.search(r"(\d+) s after the start", text)
    expect(found is not None, "make rollback does not say how long it took")
    assert found is not None
    return float(found[1])
