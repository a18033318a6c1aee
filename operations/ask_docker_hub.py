"""Print "yes" or "no": does Docker Hub know this image? Run by Bodywork's Python, with the image as argument.

It asks through Bodywork's own code, since Bodywork refuses to deploy an image that its own question does not find.
"""

import sys
from typing import Any

from bodywork import workflow_execution

_send = workflow_execution.requests.Session.get


def main(image: str) -> None:
    """Ask Docker Hub; exit with its status code if it answers neither yes (200) nor no (404)."""
    answers = []

    def get(*arguments: Any) -> Any:
        answers.append(_send(*arguments))
        return answers[-1]

    workflow_execution.requests.Session.get = get
    name, tag = workflow_execution.parse_dockerhub_image_string(image)
    exists = workflow_execution.image_exists_on_dockerhub(name, tag)
    if not exists and answers[-1].status_code != 404:
        sys.exit(f"the answer has status {answers[-1].status_code}")
    print("yes" if exists else "no")


if __name__ == "__main__":
    main(*sys.argv[1:])
