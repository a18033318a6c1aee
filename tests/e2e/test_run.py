"""The runner of `make e2e`, without a cluster."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e import run
from e2e.environment import SETTINGS, Environment, ExpectationFailed, Row, expect
from e2e.scenarios import deployment

ROOT = Path(__file__).parents[2]


class WithoutCluster(Environment):
    """The results of scenarios, without a cluster."""

    def __init__(self) -> None:
        self.rows = []


@pytest.fixture
def environment() -> WithoutCluster:
    return WithoutCluster()


@contextmanager
def first_deployment(environment: Environment, fails: bool) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:

        def deploy(environment: Environment) -> None:
            with environment.scenario("first"):
                expect(not fails, "it failed")

        patch.setattr(deployment, "first_deployment", deploy)
        yield


def passing(environment: Environment) -> None:
    with environment.scenario("passes") as figures:
        figures += ["5 requests", "0 failed"]


def failing(environment: Environment) -> None:
    with environment.scenario("fails"):
        raise ExpectationFailed("two\nlines")


def test_a_failed_scenario_is_a_row_and_the_next_one_runs(environment: WithoutCluster) -> None:
    with first_deployment(environment, fails=False):
        run.run(environment, [failing, passing])
    assert [(row.name, row.passed, row.figures) for row in environment.rows] == [
        ("first", True, ""),
        ("fails", False, "ExpectationFailed: two lines"),
        ("passes", True, "5 requests; 0 failed"),
    ]


def test_no_scenario_runs_after_a_failed_first_deployment(environment: WithoutCluster) -> None:
    with first_deployment(environment, fails=True):
        run.run(environment, [passing])
    assert [row.name for row in environment.rows] == ["first"]


def test_the_table_has_a_line_for_each_row_with_its_result() -> None:
    header, ok, failed = run.table([Row("one", True, 1.0, "a"), Row("the second", False, 20.5, "b")]).splitlines()
    assert header.split() == ["scenario", "result", "seconds", "figures"]
    assert ok.split() == ["one", "ok", "1.0", "a"]
    assert failed.split() == ["the", "second", "FAILED", "20.5", "b"]


def test_every_scenario_has_its_own_name_and_a_description() -> None:
    names = [scenario.__name__ for scenario in run.SCENARIOS]
    assert len(set(names)) == len(names) > 10
    assert all(scenario.__doc__ for scenario in run.SCENARIOS)


def test_every_file_of_scenarios_is_run() -> None:
    files = {path.stem for path in (ROOT / "e2e/scenarios").glob("*.py")} - {"__init__"}
    assert files == {scenario.__module__.rpartition(".")[2] for scenario in run.SCENARIOS}


def test_an_unknown_scenario_is_one_clear_line() -> None:
    command = [sys.executable, "-m", "e2e.run", "roll_out"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown scenario roll_out (expected roll_outs, " in done.stderr.splitlines()[-1]


def test_a_missing_setting_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert run.main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ERROR: KUBECONFIG, AWS_ENDPOINT_URL")
