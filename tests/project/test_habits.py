"""The habits that tools keep: formatting, hooks, line ends, owners and updates of dependencies."""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def python_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split() if (ROOT / name).exists()]
    assert len(files) > 90
    return files


def hooks() -> list[dict[str, str]]:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local"  # a hook that is cloned would bring another version of the tool
    found: list[dict[str, str]] = local["hooks"]
    return found


def test_no_line_is_kept_from_the_formatter() -> None:
    mark = "fmt" + ": "
    assert not [path for path in python_files() if mark in path.read_text()]


def test_the_hooks_are_valid_and_run_the_tools_of_the_static_analysis() -> None:
    subprocess.run([BIN / "pre-commit", "validate-config", ROOT / ".pre-commit-config.yaml"], check=True)
    analysis = {
        line.split(": ")[1].split()[0]
        for line in (ROOT / "tox.ini").read_text().splitlines()
        if line.startswith("    static_code_analysis: ") and "types and style" not in line
    }
    assert {hook["entry"].split()[0] for hook in hooks()} == {f".venv/bin/{tool}" for tool in analysis}
    assert all((BIN / tool).exists() for tool in analysis)


def test_a_clone_made_with_windows_settings_has_no_carriage_return(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    settings = ["-c", "core.autocrlf=true", "-c", "core.eol=crlf", "-c", "advice.detachedHead=false"]
    subprocess.run(["git", *settings, "clone", "--quiet", ROOT, clone], check=True)
    scripts = [clone / name for name in ("deploy/bodywork", ".ci/run", "Makefile", "requirements_pipe.txt")]
    assert not [path for path in scripts if b"\r" in path.read_bytes()]


def test_every_path_in_codeowners_exists() -> None:
    lines = [
        line.split() for line in (ROOT / ".github/CODEOWNERS").read_text().splitlines() if line[:1] not in ("", "#")
    ]
    assert lines[0][0] == "*"
    assert len(lines) > 1
    assert all((ROOT / path.lstrip("/")).is_dir() for path, *_ in lines[1:])


def test_renovate_is_valid_and_raises_the_pins_of_every_named_file_but_of_no_compiled_one() -> None:
    config = ROOT / "renovate.json"
    subprocess.run([BIN / "check-jsonschema", "--builtin-schema", "vendor.renovate", config], check=True)
    (pattern,) = json.loads(config.read_text())["pip_requirements"]["managerFilePatterns"]
    matches = re.compile(pattern.strip("/")).search
    named = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("requirements/*.in")}
    assert named
    assert all(matches(name) for name in named)
    assert not [path for path in ROOT.glob("**/requirements*.txt") if matches(path.relative_to(ROOT).as_posix())]
