"""The version before this one, out of the repository's own history: its champions must still load after an upgrade."""

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from local import stages

PREVIOUS_VERSION = "b2a4dd723f573765b4f49691e94f2a317cd06078"  # the last commit before 0.1.0


class HistoryMissing(Exception):
    """The clone does not have the commit of the previous version."""


def check_out(repository: Path, folder: Path) -> None:
    """Write the files of the previous version into a folder; HistoryMissing in a shallow clone."""
    command = ["git", "-C", str(repository), "archive", PREVIOUS_VERSION]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise HistoryMissing(f"commit {PREVIOUS_VERSION} is missing in this clone: run git fetch --unshallow")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def run_code(folder: Path, code: str, *arguments: str, environment: Mapping[str, str]) -> str:
    """Run Python code on the previous version's modules and return its output, with the libraries of this version."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the previous version failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def train(folder: Path, bucket: str, environment: Mapping[str, str]) -> None:
    """Run the previous version's train_model, as Bodywork starts it."""
    stage = replace(stages.read_dag(folder)[0][0], args=[bucket])
    if code := stages.run_batch(stage, dict(environment)):
        raise RuntimeError(f"train_model of {PREVIOUS_VERSION} ended with exit code {code}: see its log above")
