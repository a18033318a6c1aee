"""The stage image: its tag is derived from what goes in, so that the same input is never built twice.

python -m operations.image       build and push what bodywork.yaml names, unless it is there
python -m operations.image tag   print the tag that the inputs give
"""

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from operations.cluster import ROOT, OperationError, bodywork_python, exit_code, read_project, run, step

INPUTS = (
    "deploy/Dockerfile",
    "deploy/bodywork",
    "deploy/git-credential-token",
    "requirements_pipe.txt",
    "requirements_bodywork.txt",
    "requirements/pip.txt",
    "requirements/bodywork-build-constraints.txt",
)
BUILD_SECONDS = 1800

_IS_ON_HUB = """
import sys
from bodywork import workflow_execution
answers = []
get = workflow_execution.requests.Session.get
workflow_execution.requests.Session.get = lambda *what: answers.append(get(*what)) or answers[-1]
is_there = workflow_execution.image_exists_on_dockerhub(*workflow_execution.parse_dockerhub_image_string(sys.argv[1]))
if not is_there and answers[-1].status_code != 404:
    sys.exit(f"the answer has status {answers[-1].status_code}")
print("yes" if is_there else "no")
"""


def derive_tag(root: Path = ROOT) -> str:
    """The tag of an image with these inputs."""
    digest = hashlib.sha256()
    for name in INPUTS:
        content = hashlib.sha256((root / name).read_bytes()).hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()[:12]


def check_tag(image: str) -> None:
    """An OperationError if bodywork.yaml names another tag than the inputs give."""
    name, _, tag = image.partition(":")
    expected = derive_tag()
    if tag != expected:
        raise OperationError(f"bodywork.yaml names {image}, its inputs give {name}:{expected}: put that there")


def is_on_hub(image: str) -> bool:
    """Is the image on Docker Hub? Asked by Bodywork's own code, which refuses to deploy if it is not.

    An OperationError if Docker Hub says neither: it may be asked too often.
    """
    return run([bodywork_python(), "-c", _IS_ON_HUB, image], "Docker Hub").split()[-1] == "yes"


def main() -> int:
    """Build and push, or print the tag; 0 if the image is there afterwards."""
    if sys.argv[1:] == ["tag"]:
        print(derive_tag())
        return 0
    return exit_code(_build)


def _build() -> None:
    image = read_project().image
    check_tag(image)
    if is_on_hub(image):
        step(f"{image} is there, nothing to build")
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in INPUTS:
            copy = Path(folder, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy)
        shutil.copy(ROOT / INPUTS[0], Path(folder, "Dockerfile"))
        builder = os.environ.get("IMAGE_BUILDER")
        step(f"building {image} with {builder or 'docker'}")
        if builder:
            run([builder, folder, image], f"{builder} {image}", seconds=BUILD_SECONDS)
        else:
            run(["docker", "build", "--tag", image, folder], f"docker build {image}", seconds=BUILD_SECONDS)
            run(["docker", "push", image], f"docker push {image}", seconds=BUILD_SECONDS)
    if not is_on_hub(image):
        raise OperationError(f"{image} was built, but Docker Hub does not know it, and Bodywork asks there")


if __name__ == "__main__":
    sys.exit(main())
