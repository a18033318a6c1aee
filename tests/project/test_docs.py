"""The documentation: links lead somewhere, commands exist, and its tables agree with the code."""

import ast
import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from pipeline.manifest import Metrics
from pipeline.registry.models import LoadedModel
from pipeline.serving.metrics import ServiceMetrics

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / ".github/pull_request_template.md"])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OURS = "pipeline|local|operations|e2e|tests|benchmarks"
FOLDERS = rf"{OURS}|deploy|requirements|notebooks|docs|\.circleci|\.github"
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.M | re.S)


@cache
def text_of(page: Path) -> str:
    return page.read_text()


def code_in(text: str) -> str:
    """The code of a page, one piece on each line: code blocks without their outputs, and inline code."""
    blocks = [block for language, block in FENCE.findall(text) if language in ("sh", "yaml")]
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", FENCE.sub("", text))])


def links_in(text: str) -> list[str]:
    """The links of a page that are not addresses on the web."""
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    return [link for link in LINK.findall(prose) if not re.match(r"https?://|mailto:", link)]


def commands_in(text: str) -> set[str]:
    """The targets of make in a page's code."""
    return set(re.findall(r"(?<![\w-])make ([a-z.][a-z0-9/.-]*)", code_in(text)))


def modules_in(text: str) -> set[str]:
    """The modules that a page's code runs, without the standard library's venv."""
    return set(re.findall(r"python3? -m ([a-z0-9_.]+)", code_in(text))) - {"venv"}


def paths_in(text: str) -> set[str]:
    """The files and folders of the repository in a page's code; a path with a variable or a wildcard is left out."""
    return set(re.findall(rf"(?<![\w./-])(?:file://)?((?:{FOLDERS})/[\w./-]*)(?![\w./$*<-])", code_in(text)))


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives to a page's headings; a repeated one gets a number."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(page)), re.M):
        found.append(re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-"))
    return {f"{slug}-{number}" if (number := found[:place].count(slug)) else slug for place, slug in enumerate(found)}


def table(page: str, heading: str | None = None) -> list[list[str]]:
    """The cells of every table row of a page, or of one of its sections."""
    text = text_of(ROOT / page)
    if heading:
        text = text[text.index(f"\n## {heading}\n") :].partition("\n## ")[2].partition("\n## ")[0]
    rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in text.splitlines() if line.startswith("|")]
    assert rows
    return [[cell.strip() for cell in row] for row in rows]


def first_codes(rows: list[list[str]]) -> list[str]:
    """The code in the first cell of each row."""
    return [cells[0].strip("`") for cells in rows if cells[0].startswith("`") and cells[0].endswith("`")]


def test_there_is_documentation_of_every_kind() -> None:
    folders = {name.split("/")[1] for name in NAMES if name.count("/") == 2 and name.startswith("docs/")}
    assert folders == {"how-to", "reference", "explanation", "decisions"}
    assert len(PAGES) > 40


def test_the_readme_is_one_page() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) <= 120


def test_no_page_has_a_placeholder_that_was_not_filled_in() -> None:
    assert not [name for name in NAMES if re.search(r"\{[A-Z_]+\}", text_of(ROOT / name))]


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(name: str) -> None:
    page = ROOT / name
    for link in links_in(text_of(page)):
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if fragment:
            assert fragment in anchors(target), link


def test_every_page_is_in_the_index_and_every_decision_in_theirs() -> None:
    linked = set()
    for index in (ROOT / "docs/README.md", ROOT / "docs/decisions/README.md"):
        links = [link.partition("#")[0] for link in links_in(text_of(index))]
        linked |= {(index.parent / link).resolve().relative_to(ROOT).as_posix() for link in links if link}
    pages = {name for name in NAMES if name.startswith("docs/")} - {"docs/README.md"}
    assert len(pages) > 35
    assert not pages - linked


def test_the_pages_have_links_commands_modules_and_files_to_check() -> None:
    text = "\n".join(text_of(page) for page in PAGES)
    assert len(links_in(text)) > 100
    assert {"run", "test", "deploy", "rollback", "status", "image", ".venv/installed"} <= commands_in(text)
    assert {"pipeline.registry", "pipeline.train_model", "local.generate_orders"} <= modules_in(text)
    assert len(paths_in(text)) > 50


@pytest.mark.parametrize("name", NAMES)
def test_every_command_exists(name: str) -> None:
    targets = set(re.findall(r"^([.a-z0-9/-]+):", text_of(ROOT / "Makefile"), re.M))
    assert commands_in(text_of(ROOT / name)) <= targets
    for module in modules_in(text_of(ROOT / name)):
        assert re.match(rf"(?:{OURS})\.", module), module
        assert find_spec(module), module


def test_the_main_commands_are_documented() -> None:
    readme = text_of(ROOT / "README.md")
    assert "\nmake run\n" in readme
    assert "\nmake test\n" in readme


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("CHANGELOG")])
def test_every_file_that_a_page_names_exists(name: str) -> None:
    assert not [path for path in paths_in(text_of(ROOT / name)) if not (ROOT / path).exists()]


def strings_of_the_code() -> str:
    """Every string of the code, one in a line; in f-strings, a NUL stands for each expression."""

    def constant(node: ast.expr) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(constant(part) for part in node.values)
        if isinstance(node, ast.Constant):
            return str(node.value)
        return "\0"

    found = []
    for folder in ("pipeline", "local", "operations"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                    found.append(re.sub(r"%(\.\d)?[sdf]", "\0", constant(node)).replace("\n", " "))
    assert len(found) > 1_000
    return "\n".join(found)


def test_every_error_in_the_reference_is_a_message_of_the_code() -> None:
    messages = first_codes(table("docs/reference/errors.md"))
    assert len(messages) > 40
    strings = strings_of_the_code()
    for message in messages:
        parts = [re.escape(part) for part in message.split("...") if part.strip()]
        assert parts, message
        assert re.search(r"[^\n]*".join(parts), strings), message


def test_every_metric_of_the_service_is_in_the_reference_and_no_other(champion: LoadedModel) -> None:
    known = Metrics(rmse=1.0, mae=0.75, r2=0.9)
    manifest = champion.manifest.model_copy(update={"production_error": known, "holdout_error": known})
    types = re.findall(r"^# TYPE (\S+) (\S+)", ServiceMetrics(manifest).render().decode(), re.M)
    served = {(name, kind) for name, kind in types if not name.endswith("_created")}
    rows = table("docs/reference/metrics-and-alerts.md", "Metrics")[2:]
    assert {(cells[0].strip("`"), cells[1]) for cells in rows} == served


def test_every_alert_is_in_the_reference_with_its_severity_and_no_other() -> None:
    (group,) = yaml.safe_load(text_of(ROOT / "deploy/monitoring/rules.yaml"))["groups"]
    rules = {(rule["alert"], rule["labels"]["severity"]) for rule in group["rules"]}
    rows = table("docs/reference/metrics-and-alerts.md", "Alerts")[2:]
    assert {(cells[0].strip("`"), cells[2]) for cells in rows} == rules


def test_every_alert_says_what_users_notice_and_links_its_steps() -> None:
    (group,) = yaml.safe_load(text_of(ROOT / "deploy/monitoring/rules.yaml"))["groups"]
    for rule in group["rules"]:
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        path, _, fragment = rule["annotations"]["runbook_url"].partition("#")
        assert path.endswith("/docs/how-to/on-call.md")
        assert fragment == rule["alert"].lower()
        assert fragment in anchors(ROOT / "docs/how-to/on-call.md")


def test_the_steps_of_every_alert_are_numbered() -> None:
    (group,) = yaml.safe_load(text_of(ROOT / "deploy/monitoring/rules.yaml"))["groups"]
    alerts = text_of(ROOT / "docs/how-to/on-call.md").partition("\n## Alerts\n")[2]
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", alerts, re.M | re.S))
    assert set(sections) == {rule["alert"] for rule in group["rules"]}
    assert not [title for title, steps in sections.items() if not re.search(r"^1\. .*^2\. ", steps, re.M | re.S)]


def test_master_requires_every_check_that_runs_on_a_branch() -> None:
    (workflow,) = [
        part["jobs"] for part in yaml.safe_load(text_of(ROOT / ".circleci/config.yml"))["workflows"].values()
    ]
    checks = set()
    for job in workflow:
        ((name, settings),) = job.items() if isinstance(job, dict) else [(job, {})]
        if "filters" not in settings:
            parameters = settings.get("matrix", {}).get("parameters", {})
            checks |= {f"{name}-{python}" for python in parameters["python"]} if parameters else {name}
    page = text_of(ROOT / "docs/how-to/protect-master.md")
    assert len(checks) > 2
    assert set(re.findall(r"^- `ci/circleci: (\S+)`$", page, re.M)) == checks
    assert set(re.findall(r'^ *"ci/circleci: (\S+)"', page, re.M)) == checks


@pytest.mark.parametrize("stage", ["train_model", "serve_model"])
def test_every_argument_of_a_stage_is_in_the_reference(stage: str) -> None:
    command = [sys.executable, "-m", f"pipeline.{stage}", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    arguments = set(re.findall(r"^  (--[a-z-]+)", shown, re.M))
    assert "--log-format" in arguments
    documented = {code.split()[0] for code in first_codes(table("docs/reference/configuration.md", "Stages"))}
    assert arguments <= documented


def test_every_decision_is_in_the_index_and_has_its_parts() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert len(pages) > 15
    assert [page.name[:4] for page in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    for page in pages:
        assert page.name in text_of(ROOT / "docs/decisions/README.md")
        assert re.findall(r"^## (.+)$", text_of(page), re.M) == [
            "Context",
            "Alternatives",
            "Decision",
            "Consequences",
        ]
        assert re.search(r"^Date: 20\d\d-\d\d-\d\d\. Status: ", text_of(page), re.M)
