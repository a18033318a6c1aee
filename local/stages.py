"""Run bodywork.yaml's DAG on this machine, and start each stage as Bodywork does.

Bodywork runs `python MODULE ARGS` with the `python` on PATH, the module's folder as working directory, and the root of
the repository as PYTHONPATH. A batch stage has a time limit and a number of retries.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Stage:
    """A stage of bodywork.yaml; `batch` or `service` is its section of that name."""

    name: str
    root: Path
    module: Path
    args: list[str]
    batch: dict[str, Any] | None
    service: dict[str, Any] | None


def read_dag(root: Path = ROOT) -> list[list[Stage]]:
    """Return the steps of a repository's DAG, each a list of stages that may run at the same time."""
    config = yaml.safe_load((root / "bodywork.yaml").read_text())
    return [
        [_read_stage(root, name.strip(), config["stages"]) for name in step.split(",")]
        for step in config["pipeline"]["DAG"].split(">>")
    ]


def start(stage: Stage, environment: dict[str, str], more_args: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    """Start a stage in its own session, so that Ctrl-C in the terminal does not reach it.

    `environment` is added to this process's; `more_args` come after those of bodywork.yaml.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return subprocess.Popen(
        ["python", stage.module.name, *stage.args, *more_args],
        cwd=stage.module.parent,
        env={**os.environ, **environment, "PYTHONPATH": str(stage.root), "PATH": path},
        start_new_session=True,
    )


def run_batch(stage: Stage, environment: dict[str, str]) -> int:
    """Run a batch stage with its time limit and retries; return the last exit code, or 124 for a time-out."""
    assert stage.batch is not None
    code = 1
    for _ in range(1 + stage.batch["retries"]):
        with start(stage, environment) as process:
            try:
                code = process.wait(stage.batch["max_completion_time_seconds"])
            except subprocess.TimeoutExpired:
                code = 124
            finally:
                process.kill()
        if code == 0:
            break
    return code


def _read_stage(root: Path, name: str, stages: dict[str, Any]) -> Stage:
    if name not in stages:
        raise ValueError(f"bodywork.yaml: the DAG names the stage {name!r}, which is not among {sorted(stages)}")
    stage = stages[name]
    return Stage(
        name,
        root,
        module=root / stage["executable_module_path"],
        args=stage.get("args", []),
        batch=stage.get("batch"),
        service=stage.get("service"),
    )
