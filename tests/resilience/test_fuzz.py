"""Requests made up from the service's own description: every answer is one that the description knows."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Service

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cases", [50, pytest.param(10_000, marks=pytest.mark.fuzz)])
def test_no_request_finds_an_answer_that_the_description_does_not_know(
    service: Service, cases: int, tmp_path: Path
) -> None:
    command = [
        str(SCHEMATHESIS),
        "run",
        f"http://127.0.0.1:{service.port}/openapi.json",
        "--checks=all",
        f"--max-examples={cases}",
        "--seed=1",
        "--generation-database=none",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    print(done.stdout)  # by `make fuzz`: how many cases it were
