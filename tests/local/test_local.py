"""The local run: the same stages, started the same way, as on a cluster."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from local import run, stages
from local.generate_orders import NOISE_HOURS, PRODUCTS, generate_week, to_csv
from local.s3_server import GRPC_OFFSET, SECRET_KEY, S3ServerError, s3_server
from pipeline.training.data_contract import HOURS, ORDERS, PRODUCT, parse_orders
from tests.conftest import free_port, free_ports, is_free

BODYWORK = stages.ROOT / ".venv-bodywork/bin/bodywork"
moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))

# Writes down all that a program can see of how it was started.
WITNESS = """
import json, os, sys
seen = {"arguments": sys.argv, "folder": os.getcwd(), "path": os.environ["PYTHONPATH"], "interpreter": sys.executable,
        "commit": os.environ.get("GIT_COMMIT_HASH")}
print("WITNESS " + json.dumps(seen), flush=True)
"""

WITNESS_CONFIG = """
version: "1.1"
pipeline: {name: witness, docker_image: witness/witness:1, DAG: witness, usage_stats: false}
stages:
  witness:
    executable_module_path: pipeline/witness.py
    args: ["bucket", "--flag=a b"]
    cpu_request: 0.1
    memory_request_mb: 10
    batch: {max_completion_time_seconds: 60, retries: 0}
logging: {log_level: INFO}
"""


def test_a_stage_is_started_as_bodywork_starts_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    repository = tmp_path / "repository"
    (repository / "pipeline").mkdir(parents=True)
    (repository / "pipeline/witness.py").write_text(WITNESS)
    (repository / "bodywork.yaml").write_text(WITNESS_CONFIG)
    git = ["git", "-C", str(repository), "-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "Witness"]):
        subprocess.run([*git, *command], check=True)

    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    started_by_bodywork = subprocess.run(
        [BODYWORK, "stage", f"file://{repository}", "witness", "--branch=main"],
        cwd=tmp_path,
        env={**os.environ, "GIT_COMMIT_HASH": "abc1234", "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    clone = tmp_path / "bodywork_project"

    ((stage,),) = stages.read_dag(clone)
    assert stages.start(stage, {"GIT_COMMIT_HASH": "abc1234"}).wait() == 0
    assert witnessed(capfd.readouterr().out) == witnessed(started_by_bodywork)


def witnessed(output: str) -> dict[str, object]:
    (line,) = [line for line in output.splitlines() if line.startswith("WITNESS ")]
    seen: dict[str, object] = json.loads(line.removeprefix("WITNESS "))
    return seen


def test_the_dag_is_read_from_bodywork_yaml() -> None:
    assert [[stage.name for stage in step] for step in stages.read_dag()] == [["train_model"], ["serve_model"]]


def write_batch_stage(folder: Path, retries: int, seconds: int, code: str) -> stages.Stage:
    (folder / "bodywork.yaml").write_text(
        WITNESS_CONFIG.replace("retries: 0", f"retries: {retries}").replace("seconds: 60", f"seconds: {seconds}")
    )
    (folder / "pipeline").mkdir()
    (folder / "pipeline/witness.py").write_text(code)
    ((stage,),) = stages.read_dag(folder)
    return stage


def test_a_batch_stage_that_fails_is_tried_again_as_often_as_bodywork_yaml_says(tmp_path: Path) -> None:
    code = "open('tries', 'a').write('x'); raise SystemExit(3)"
    stage = write_batch_stage(tmp_path, retries=2, seconds=60, code=code)
    assert stages.run_batch(stage, {}) == 3
    assert (tmp_path / "pipeline/tries").read_text() == "xxx"


def test_a_batch_stage_that_succeeds_is_not_run_again(tmp_path: Path) -> None:
    stage = write_batch_stage(tmp_path, retries=2, seconds=60, code="open('tries', 'a').write('x')")
    assert stages.run_batch(stage, {}) == 0
    assert (tmp_path / "pipeline/tries").read_text() == "x"


def test_a_batch_stage_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    stage = write_batch_stage(tmp_path, retries=0, seconds=2, code=code)
    assert stages.run_batch(stage, {}) == 124
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pipeline/pid").read_text()), 0)


def test_a_dag_that_names_an_unknown_stage_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "bodywork.yaml").write_text(WITNESS_CONFIG.replace("DAG: witness", "DAG: witness >> jury"))
    with pytest.raises(ValueError, match="the DAG names the stage 'jury', which is not among \\['witness'\\]"):
        stages.read_dag(tmp_path)


def test_bodywork_itself_finds_nothing_wrong_with_bodywork_yaml() -> None:
    command = [str(BODYWORK), "validate", "--file", "bodywork.yaml", "--check-files"]
    checked = subprocess.run(command, cwd=stages.ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@given(now=moments, there=st.lists(moments))
def test_the_next_week_is_newer_than_all_there_and_not_in_the_future(now: datetime, there: list[datetime]) -> None:
    past = [moment for moment in there if moment < now.replace(microsecond=0)]
    following = run.next_timestamp(past, now)
    assert now - timedelta(days=7) <= following <= now
    assert all(moment < following for moment in past)


def test_the_first_week_is_dated_last_friday_at_23() -> None:
    friday = datetime(2026, 11, 20, 23, tzinfo=UTC)
    assert run.next_timestamp([], datetime(2026, 11, 27, 22, 59, tzinfo=UTC)) == friday
    assert run.next_timestamp([], datetime(2026, 11, 20, 23, 0, tzinfo=UTC)) == friday
    assert run.next_timestamp([friday], datetime(2026, 11, 24, 9, 30, 15, 7, tzinfo=UTC)) == datetime(
        2026, 11, 24, 9, 30, 15, tzinfo=UTC
    )


def test_a_generated_week_is_a_week_of_orders_of_about_the_size_that_was_asked_for() -> None:
    orders = parse_orders(to_csv(generate_week(seed=5, rows=1_000)), "generated")
    assert 850 < len(orders) < 1_150
    assert orders[PRODUCT].cat.categories.tolist() == [product.code for product in PRODUCTS]
    assert orders[HOURS].min() == 0


def test_the_same_seed_generates_the_same_week_and_another_seed_another() -> None:
    assert to_csv(generate_week(seed=5)) == to_csv(generate_week(seed=5)) != to_csv(generate_week(seed=6))


@pytest.mark.parametrize("drift", [0.0, 0.5])
def test_generated_hours_are_base_and_slope_and_noise_with_the_drift_that_was_asked_for(drift: float) -> None:
    orders = generate_week(seed=5, rows=50_000, drift=drift)
    product = PRODUCTS[4]  # whose hours never reach the floor of zero
    of_it = orders[orders[PRODUCT] == product.code]
    noise = of_it[HOURS] - (product.base + product.slope * of_it[ORDERS]) * (1 + drift)
    assert noise.mean() == pytest.approx(0, abs=0.05)
    assert noise.std() == pytest.approx(NOISE_HOURS, rel=0.05)


@pytest.mark.seaweedfs
def test_an_s3_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    ports = free_ports()
    taken = socket.create_server(("127.0.0.1", ports.filer))
    with taken, pytest.raises(S3ServerError, match=f"port {ports.filer}, which the S3 server needs: Address"):
        with s3_server(tmp_path, "bucket", ports):
            raise AssertionError("it started on a port in use")


@pytest.mark.seaweedfs
def test_the_s3_server_tells_nobody_that_it_runs(seaweedfs_environment: dict[str, str]) -> None:
    port = seaweedfs_environment["AWS_ENDPOINT_URL"].rpartition(":")[2]
    command: list[bytes] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it may end meanwhile
            arguments = path.read_bytes().split(b"\0")
            command = arguments if f"-s3.port={port}".encode() in arguments else command
    assert b"-master.telemetry=false" in command


@pytest.mark.seaweedfs
def test_an_s3_server_that_does_not_start_is_named_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/filerldb2").write_text("in the way of the filer's database")
    with pytest.raises(S3ServerError, match="SeaweedFS did not start, see .*seaweedfs.log"):
        with s3_server(tmp_path / "data", "bucket", free_ports()):
            raise AssertionError("it started without its database")


# What an engineer's shell may have, each of which led the stages to another S3, or to none.
LEADS_ASTRAY = {
    "AWS_PROFILE": "none-of-this-name",
    "AWS_SESSION_TOKEN": "of-another-account",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_RETRY_MODE": "bogus",
    "AWS_MAX_ATTEMPTS": "many",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
}

# The local run as `make run` starts it, but for its ports and its folder.
RUN = """
import sys
from dataclasses import replace
from pathlib import Path
from local import run, stages
from local.s3_server import Ports

folder, port, *ports = sys.argv[1:]
(train,), (serve,) = stages.read_dag()
serve = replace(serve, service={**serve.service, "port": int(port)}, args=[*serve.args, f"--port={port}"])
sys.exit(run.run_until_stopped([[train], [serve]], Path(folder), Ports(*map(int, ports)), weeks=1, drift=0.0))
"""


@dataclass
class LocalRun:
    """A local run that has come to its end, by itself or by a signal once its service answered."""

    code: int
    output: str
    answer: dict[str, object] | None


def local_run(folder: Path, sig: signal.Signals, environment: dict[str, str] | None = None) -> LocalRun:
    port, ports = free_port(), free_ports()
    arguments = [str(folder), str(port), *map(str, vars(ports).values())]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments],
        cwd=stages.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, **(environment or {})},
    )
    assert process.stdout is not None
    lines = []
    answer = None
    for line in process.stdout:
        lines.append(line)
        if line.startswith("or look at"):
            answer = ask(port)
            assert listening_elsewhere([port, *vars(ports).values()]) == []
            process.send_signal(sig)
    process.stdout.close()
    assert [number for number in (port, *vars(ports).values()) if not is_free(number)] == []
    return LocalRun(process.wait(), "".join(lines), answer)


def listening_elsewhere(ports: list[int]) -> list[str]:
    """The addresses, as Linux spells them, on which any of these ports or its second one listens but loopback."""
    wanted = {f"{port:04X}" for port in ports} | {f"{port + GRPC_OFFSET:04X}" for port in ports}
    sockets = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    listening = [line.split()[1].split(":") for line in sockets.splitlines() if line.split()[3] == "0A"]
    assert {port for _, port in listening} & wanted
    return [address for address, port in listening if port in wanted and address != "0100007F"]


def ask(port: int) -> dict[str, object]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v0.1/time_to_dispatch",
        data=b'{"product_code": "SKU001", "orders_placed": 112}',
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def test_a_run_that_cannot_start_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def problem() -> str:
        before = {sig: signal.getsignal(sig) for sig in run.SIGNALS}
        assert run.run_until_stopped(dag, tmp_path, free_ports(), weeks=1, drift=0.0) == 1
        for sig, handler in before.items():
            signal.signal(sig, handler)
        said = capsys.readouterr()
        assert said.out == ""
        return said.err

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (train,), (serve,) = stages.read_dag()
        dag = [[train], [replace(serve, service={**(serve.service or {}), "port": port})]]
        expected = f"ERROR: cannot open port {port} on 127.0.0.1, which serve_model needs: Address already in use"
        assert problem().startswith(expected)
    monkeypatch.setattr(run, "MIN_FREE_BYTES", 10**18)  # which no disk has
    assert re.fullmatch(
        r"ERROR: only \d+\.\d GB of disk is free \(at least 1000000000 GB needed\): free some space\n", problem()
    )


@pytest.mark.parametrize(
    ("python", "problem"),
    [
        (
            "no-such-python",
            "ERROR: no-such-python is not installed; choose another one by make PYTHON=python3.13 ...\n",
        ),
        (
            "./old-python",
            "ERROR: ./old-python is Python 3.10.9, but 3.11 to 3.13 is needed; "
            "choose another one by make PYTHON=python3.13 ...\n",
        ),
    ],
)
def test_a_missing_or_wrong_python_is_one_clear_line(python: str, problem: str, tmp_path: Path) -> None:
    for name in ("Makefile", "requirements_cicd.txt", "requirements/uv.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(stages.ROOT / name, tmp_path / name)
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\n[ $1 = --version ] && echo Python 3.10.9 || exit 1\n")
    old.chmod(0o755)
    command = ["make", "run", f"PYTHON={python}"]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith(problem)


@pytest.mark.seaweedfs
def test_a_run_ends_with_an_answering_service_and_the_next_one_promotes_over_it(tmp_path: Path) -> None:
    first = local_run(tmp_path, signal.SIGINT, LEADS_ASTRAY)
    second = local_run(tmp_path, signal.SIGTERM)
    assert (first.code, second.code) == (0, 0)
    assert first.answer is not None
    assert second.answer is not None
    assert first.answer["model_version"] != second.answer["model_version"]
    assert f"Promoted {second.answer['model_version']} instead of {first.answer['model_version']}." in second.output
    logs = "".join(path.read_text(errors="replace") for path in tmp_path.glob("*.log"))
    assert "mini" in logs
    for output in (first.output, second.output, logs):
        assert SECRET_KEY not in output
