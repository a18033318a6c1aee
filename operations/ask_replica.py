"""Print, as JSON, a replica's commit, its model and one estimate. Runs inside the replica, from standard input.

Arguments: the replica's port, and the Service's host and port for the estimate.
"""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROUTE = "/api/v0.1/time_to_dispatch"
SERVICE_SECONDS = 15


def main(port: str, service: str) -> None:
    """Ask this replica for its state, and the Service for an estimate, as the backend does."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=10) as answer:
        body = json.load(answer)["paths"][ROUTE]["post"]["requestBody"]["content"]["application/json"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
        state = json.load(answer)
    request = urllib.request.Request(
        f"http://{service}{ROUTE}",
        data=json.dumps(body["example"]).encode(),
        headers={"Content-Type": "application/json"},
    )
    estimate = ask(request)
    head = subprocess.run(
        ["git", "-C", "/stage/bodywork_project", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    print(
        json.dumps(
            {
                "commit": head.stdout.strip(),
                "status": state["status"],
                "model_version": state["model_version"],
                "order": body["example"],
                "estimate": estimate,
            }
        )
    )


def ask(request: urllib.request.Request) -> object:
    """Ask the Service, and try again while a new Service is not known to every node."""
    deadline = time.monotonic() + SERVICE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


if __name__ == "__main__":
    main(*sys.argv[1:])
