"""The data scientist's notebook, executed from top to bottom."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks/time_to_dispatch_model.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call] # nbformat is half typed


def test_the_notebook_runs_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = read()
    client = NotebookClient(notebook, resources={"metadata": {"path": str(NOTEBOOK.parent)}}, kernel_name="python3")
    client.execute()
    outputs = "".join(str(cell.get("outputs")) for cell in notebook.cells)
    assert "over the threshold of 1.05: 0.0% of the weeks of 1,000 orders" in outputs
    results = [
        output["data"].get("text/plain")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "execute_result"
    ]
    assert "'boosted_trees'" in results  # chosen for the curved week
    assert outputs.count("image/png") == 2


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = [cell for cell in read().cells if cell.cell_type == "code"]
    assert cells
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]


def test_the_notebook_runs_on_the_kernel_that_its_requirements_name() -> None:
    named, tested = (
        re.findall(r"^ipykernel==(\S+)", (ROOT / name).read_text(), re.MULTILINE)
        for name in ("notebooks/requirements_nb.txt", "requirements_cicd.txt")
    )
    assert named == tested != []


def test_no_code_imports_a_notebook() -> None:
    for path in [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("local/*.py")]:
        assert not re.search(r"(import|from) +notebooks", path.read_text()), path
