"""Protects the notebooks: they run from a clone on what is shipped, draw what they promise, and are committed clean."""

import base64
import json
import re
import sys
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "samples" / "nucleus"
# Both ways to start Jupyter in a clone: in the notebook's folder, whose nucleus.py could shadow the package, and above.
RUNS = {
    "inspect_nucleus_data.ipynb": NOTEBOOKS,
    "inspect_nucleus_model.ipynb": ROOT,
    "inspect_unet.ipynb": NOTEBOOKS,
    "segment_and_measure.ipynb": NOTEBOOKS,
}
# Notebooks that show every step of a network have more to draw than one for users.
LEAST_FIGURES = {"segment_and_measure.ipynb": 4}


def read(name):
    return nbformat.read(NOTEBOOKS / name, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def figures(cell):
    """The pictures below a cell, uint8 [H, W, 3]."""
    outputs = [output.get("data", {}).get("image/png") for output in cell.outputs]
    encoded = [np.frombuffer(base64.b64decode(png), np.uint8) for png in outputs if png]
    return [cv2.imdecode(data, cv2.IMREAD_COLOR) for data in encoded]


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Name of a kernel that runs in this interpreter, whatever kernels the user has installed."""
    folder = tmp_path / "kernels" / "same-interpreter"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "same", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("NUCLEUS_DATASET", raising=False)
    return folder.name


@pytest.mark.parametrize("name", RUNS)
def test_notebook_runs_and_draws(name, kernel):
    notebook = read(name)
    resources = {"metadata": {"path": str(RUNS[name])}}
    NotebookClient(notebook, timeout=600, kernel_name=kernel, resources=resources).execute()
    drawing = [cell for cell in code_cells(notebook) if "figure" in cell.metadata.get("tags", ())]
    assert len(drawing) >= LEAST_FIGURES.get(name, 10)
    for cell in drawing:
        drawn = figures(cell)
        assert drawn, f"no figure below the cell that starts with {cell.source[:60]!r}"
        for figure in drawn:
            assert min(figure.shape[:2]) > 150
            ink = np.mean(np.any(figure < 250, axis=2))
            assert ink > 0.01, f"an empty figure below the cell that starts with {cell.source[:60]!r}"


@pytest.mark.parametrize("name", RUNS)
def test_notebook_is_committed_clean(name):
    path = NOTEBOOKS / name
    notebook = read(name)
    nbformat.validate(notebook)
    assert path.stat().st_size < 200_000
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(notebook))
    assert not re.findall(r"(?<![\w.}>])/(?:home|root|Users|work|tmp|mnt|content)/", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RUNS)
def test_every_figure_is_explained(name):
    cells = read(name).cells
    for index, cell in enumerate(cells):
        if "figure" in cell.metadata.get("tags", ()):
            # A table may stand between the words and the figure.
            words = next(
                before for before in reversed(cells[max(index - 2, 0) : index]) if before.cell_type == "markdown"
            )
            assert len(words.source) > 100
