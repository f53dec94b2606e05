"""The notebooks are run to their end as a user would, on a small study folder or the shipped curves."""

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from synthetic_curves import write_cells, write_run

pytestmark = pytest.mark.page

FIGURES = {"quickstart": 4, "reference_study": 4, "choosing_a_law": 2}
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Three sizes and two seeds, a pair at another reuse and a pair of PAPO."""
    folder = tmp_path_factory.mktemp("study")
    cells = []

    def run(name, **options):
        write_run(folder, name, steps=40, **options)
        cells.append((name, 40))

    for seed in (0, 1):
        for model, size, k in (("us", 5296, 0.05), ("xs", 20832, 0.12), ("s", 55824, 0.3)):
            run(f"{model}{seed}", model=model, size=size, seed=seed, k=k + 0.01 * seed)
        run(f"reuse{seed}", model="xs", size=20832, seed=seed, k=0.1, unique=20)
        papo = {"algorithm": {"type": "papo", "process_weight": 0.6}}
        run(f"papo{seed}", model="s", size=55824, seed=seed, k=0.32, settings=papo)
    write_cells(folder, cells, {"where": "algorithm == grpo and reuse_factor == 1", "steps": "3:"})
    return folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(path, study):
    notebook = nbformat.read(path, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    if path.stem == "quickstart":  # the others run on the shipped curves
        assert first.source.startswith("path = ")
        first.source = f"path = {str(study)!r}"
    NotebookClient(notebook, timeout=240, kernel_name="python3").execute(cwd=str(study))
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("<svg" in output.get("data", {}).get("text/html", "") for output in shown) >= FIGURES[path.stem]
    assert not any(output.output_type == "error" for output in shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_call_analysis_only_and_hold_no_output(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    names = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]
        for cell in code
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names <= {"analysis", "pandas", "numpy"}
