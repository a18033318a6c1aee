"""The stage image. Its tag is a digest of its inputs, so that the same inputs are never built twice.

python -m operations.image       build and push the image that bodywork.yaml names, unless it exists
python -m operations.image tag   print the tag for the present inputs
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

_ASK_DOCKER_HUB = Path(__file__).with_name("ask_docker_hub.py")


def derive_tag(root: Path = ROOT) -> str:
    """Return the tag of an image with these inputs."""
    digest = hashlib.sha256()
    for name in INPUTS:
        content = hashlib.sha256((root / name).read_bytes()).hexdigest()
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()[:12]


def check_tag(image: str) -> None:
    """Raise OperationError if bodywork.yaml names another tag than the one of the inputs."""
    name, _, tag = image.partition(":")
    expected = derive_tag()
    if tag != expected:
        raise OperationError(
            f"bodywork.yaml names the image {image}, but its inputs give {name}:{expected}: change bodywork.yaml"
        )


def is_on_hub(image: str) -> bool:
    """Whether Docker Hub has the image; OperationError if it does not say, for instance because of its rate limit."""
    return run([bodywork_python(), _ASK_DOCKER_HUB, image], "Docker Hub").split()[-1] == "yes"


def main() -> int:
    """Build and push the image, or print its tag; return 0 if the image exists afterwards."""
    if sys.argv[1:] == ["tag"]:
        print(derive_tag())
        return 0
    return exit_code(_build)


def _build() -> None:
    image = read_project().image
    check_tag(image)
    if is_on_hub(image):
        step(f"{image} exists already: nothing to build")
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
        raise OperationError(
            f"{image} was built, but it is not on Docker Hub, where Bodywork looks for it: push it there"
        )
    step(f"built and pushed {image}")


if __name__ == "__main__":
    sys.exit(main())
