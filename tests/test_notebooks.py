import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def pictures(notebook: Any) -> int:
    """Return the number of pictures among a notebook's outputs, none of which may be an error or a warning."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def run(notebook: Any, folder: Path) -> Any:
    return NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()


@every_notebook
def test_a_notebook_runs_for_a_few_steps(path: Path, tmp_path: Path) -> None:
    notebook: Any = nbformat.read(path, as_version=4)
    saved = pictures(notebook)
    for cell in notebook.cells:
        cell.source = re.sub(r"^STEPS = \d+$", "STEPS = 30", cell.source, flags=re.MULTILINE)
    assert pictures(run(notebook, tmp_path)) == saved


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs_as_it_is(path: Path, tmp_path: Path) -> None:
    assert pictures(run(nbformat.read(path, as_version=4), tmp_path)) >= 3


@every_notebook
def test_the_saved_outputs(path: Path) -> None:
    """All cells were run once, in order; nothing of the machine is in them."""
    notebook: Any = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    assert pictures(notebook) >= 3
    assert path.stat().st_size < 600_000
    assert not re.search(r"/(tmp|home|root)/", path.read_text())


@every_notebook
def test_links_between_notebooks(path: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target
