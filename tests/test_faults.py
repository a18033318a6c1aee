"""What the stages do when S3 fails them, or a signal comes."""

import signal
import socket
from dataclasses import replace

import pytest

from local import stages


@pytest.mark.parametrize(
    ("place", "sig", "code", "level", "said"),
    [
        (0, signal.SIGINT, 1, "ERROR", "Nothing was promoted: "),
        (0, signal.SIGTERM, 1, "ERROR", "Nothing was promoted: "),
        (1, signal.SIGTERM, 0, "INFO", "Ended before the port was opened: "),
    ],
)
def test_a_signal_while_s3_is_waited_for_ends_a_stage_with_one_line(
    place: int,
    sig: signal.Signals,
    code: int,
    level: str,
    said: str,
    moto_environment: dict[str, str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent_s3:
        environment = {**moto_environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent_s3.getsockname()[1]}"}
        process = stages.start(replace(stages.read_dag()[place][0], args=["bucket"]), environment)
        connection, _ = silent_s3.accept()
        with connection:
            connection.recv(1)
            process.send_signal(sig)
            assert process.wait(30) == code
    output = capfd.readouterr()
    assert output.err == ""
    last = output.out.splitlines()[-1]
    assert f" - {level} - " in last
    assert f" - {said}reading s3://bucket/models/champion.json: stopped by {sig.name} (tried for " in last
