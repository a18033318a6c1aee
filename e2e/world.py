"""What the scenarios act on: a private repository, a bucket, the make verbs, the load, and a table of what was seen."""

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
LOG = ROOT / ".e2e.log"  # what the make verbs said
SETTINGS = (
    "KUBECONFIG",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "E2E_GIT_LISTEN",
    "E2E_GIT_URL",
)
VERB_SECONDS = 420


class ExpectationFailed(Exception):
    """What was seen is not what must be."""


def expect(truth: bool, what: str) -> None:
    """ExpectationFailed, with what was seen, if it is not so."""
    if not truth:
        raise ExpectationFailed(what)


@dataclass
class CommandResult:
    """A make verb that ended."""

    code: int
    output: str
    seconds: float

    @property
    def error(self) -> str:
        """Its one line of error."""
        lines = [line for line in self.output.splitlines() if line.startswith("ERROR: ")]
        return lines[-1] if lines else f"exit code {self.code} without an ERROR line: {self.output.strip()[-300:]}"


@dataclass
class Environment:
    """The cluster and everything around it; `table` has a row for each scenario that was run."""

    folder: Path
    token: str = field(default_factory=lambda: f"token-{secrets.token_hex(16)}")
    table: list[tuple[str, bool, float, str]] = field(default_factory=list)
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
        """The service, from here."""
        return f"http://{os.environ.get('E2E_NODE', '127.0.0.1')}:{NODE_PORT}"

    def git(self, *arguments: str) -> str:
        """Run git in the clone that everything is deployed from."""
        return run(["git", *arguments], f"git {arguments[0]}", cwd=self.clone).strip()

    def make_repository(self) -> None:
        """The project's last commit, as a company's private repository that names an S3 outside AWS."""
        run(["git", "clone", "--quiet", "--bare", str(ROOT), str(self.repository)], "git clone")
        run(["git", "clone", "--quiet", str(self.repository), str(self.clone)], "git clone")
        self.git("config", "user.name", "End to end")
        self.git("config", "user.email", "e2e@example.com")
        self.commit("Name the S3 of this cluster", "bodywork.yaml", "# outside AWS: ", "")

    def commit(self, message: str, path: str | None = None, old: str = "", new: str = "") -> str:
        """Commit to the branch, with a replacement in one file if there is one, and push it; the commit."""
        if path:
            file = self.clone / path
            text = file.read_text()
            assert old in text, f"{path} has no {old!r}"
            file.write_text(text.replace(old, new))
        self.git("commit", "--quiet", "--all", "--allow-empty", "--message", message)
        self.git("push", "--quiet", "origin", "HEAD")
        return self.git("rev-parse", "HEAD")

    def back_to(self, commit: str) -> None:
        """Undo on the branch what came after a commit, as git revert does."""
        self.git("checkout", "--quiet", commit, "--", ".")
        self.commit("Take it back")

    def upload_week(self, *, noise: bool = False) -> str:
        """Upload a week newer than all before it; one of noise is not worth a model. Its key."""
        self.weeks += 1
        orders = generate_week(seed=self.weeks)
        if noise:
            orders["hours_to_dispatch"] = orders["hours_to_dispatch"].sample(frac=1, random_state=1).to_numpy()
        key = dataset_key(datetime.now(UTC) - timedelta(hours=6) + timedelta(seconds=self.weeks))
        self.client.put_object(Bucket=self.project.bucket, Key=key, Body=to_csv(orders))
        return key

    def make(self, verb: str, until: str | None = None, **settings: str) -> CommandResult:
        """Run a make verb in the clone, with this checkout's environments; SIGTERM once it says `until`."""
        environment = {
            **os.environ,
            "CONTEXT": self.context,
            "GIT_URL": os.environ["E2E_GIT_URL"],
            "GIT_TOKEN": self.token,
            "BODYWORK_PYTHON": str(ROOT / ".venv-bodywork/bin/python"),
            **settings,
        }
        old = [item for name in (".venv/installed", ".venv-bodywork/installed") for item in ("-o", name)]
        start, said = time.monotonic(), ""
        with subprocess.Popen(
            ["make", verb, *old, f"BIN={Path(sys.executable).parent}"],
            cwd=self.clone,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            limit = threading.Timer(VERB_SECONDS, process.terminate)
            limit.start()
            for line in process.stdout:
                said += line
                if until and until in line:
                    process.terminate()
            limit.cancel()
        seconds = time.monotonic() - start
        print(f"--- make {verb}: {process.returncode} after {seconds:.1f} s\n{said}", file=self.log, flush=True)
        return CommandResult(process.returncode, said, seconds)

    def deploy(self) -> CommandResult:
        """make deploy, which must work."""
        done = self.make("deploy")
        expect(done.code == 0, done.error)
        return done

    def refused(self, verb: str, *words: str, **settings: str) -> CommandResult:
        """A make verb that must fail: one line with these words, and no pod touched."""
        before = self.pods()
        done = self.make(verb, **settings)
        lines = [line for line in done.output.splitlines() if line.startswith("ERROR: ")]
        expect(done.code != 0, f"make {verb} ended with exit code 0")
        expect(len(lines) == 1, f"make {verb}: {len(lines)} ERROR lines")
        expect("Traceback" not in done.output.partition("Bodywork: https")[0], f"make {verb}: a traceback")
        expect(all(word in lines[0] for word in words), f"{lines[0]!r} does not have {words}")
        expect(self.pods() == before, f"make {verb}: the pods changed")
        return done

    def champion(self) -> str:
        """The version that is served, by the registry."""
        pointer = ChampionRegistry(self.store).read_champion()
        expect(pointer is not None, "there is no champion")
        assert pointer is not None
        return pointer.champion.version

    def pods(self) -> list[str]:
        """The names of the ready replicas, and how often each was restarted."""
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
        """Make or replace a Secret."""
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
        """What stages and controller need for S3, with something wrong in it if asked for."""
        names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        values = {name: os.environ[name] for name in names} | {"AWS_DEFAULT_REGION": "us-east-1"} | changed
        for namespace in (self.project.name, CONTROLLER_NAMESPACE):
            self.secret(namespace, "s3", **values)

    @contextmanager
    def scenario(self, name: str) -> Iterator[list[str]]:
        """Run a scenario, and put into the table what it appends to the yielded list; a miss does not end the run."""
        print(f"==> {name}", flush=True)
        figures: list[str] = []
        start = time.monotonic()
        try:
            yield figures
            held = True
        except Exception as error:  # noqa: B902 - whatever it was: a row of the table, and the next scenario
            held = False
            figures.append(f"MISSED: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        seconds = time.monotonic() - start
        self.table.append((name, held, seconds, "; ".join(figures)))
        print(f"    {'ok' if held else 'MISSED'} in {seconds:.1f} s: {'; '.join(figures)}", flush=True)


class Load:
    """The load generator, a process of its own."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "e2e.load", url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def stop(self) -> dict[str, Any]:
        """End it; what it saw."""
        self._process.send_signal(signal.SIGTERM)
        text, _ = self._process.communicate(timeout=30)
        seen: dict[str, Any] = json.loads(text)
        return seen


@contextmanager
def under_load(
    world: Environment, figures: list[str], versions: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Load the service meanwhile: no request may fail, and only these versions answer, or one that is the champion."""
    load = Load(world.url)
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
    allowed = set(versions) if versions is not None else {world.champion()}
    expect(set(seen["versions"]) <= allowed, f"answered by {sorted(seen['versions'])}, expected {sorted(allowed)}")


def seconds_of(text: str) -> float:
    """The number of seconds that the last line of `make rollback` names."""
    found = re.search(r"(\d+) s after the start", text)
    expect(found is not None, "make rollback does not say how long it took")
    assert found is not None
    return float(found[1])
