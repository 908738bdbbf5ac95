"""The notebooks of the documentation run as they stand, on the phantom."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs/notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def kernel():
    """One for all notebooks, so that torch is loaded once; each begins without any names."""
    import asyncio

    held = AsyncKernelManager()
    yield held
    if held.has_kernel:
        asyncio.run(held.shutdown_kernel(now=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebooks")


def run(path, kernel, folder):
    """A notebook with its outputs."""
    book = nbformat.read(path, as_version=4)
    book.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    metadata = {"metadata": {"path": str(folder)}}
    NotebookClient(book, km=kernel, timeout=600, resources=metadata).execute()
    return book


def outputs(book):
    """Everything that cells gave, as text and kinds."""
    held = [o for cell in book.cells if cell.cell_type == "code" for o in cell.outputs]
    text = "\n".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in held)
    return text, {kind for o in held for kind in o.get("data", {})}


# What reading_a_run reads is tested in tests/api/test_open_run.py, of a run that other tests share;
# what labels_to_masks does is the first example of docs/python.md, which tests/test_docs.py runs.
# CI runs them all.
SLOW = {"reading_a_run", "labels_to_masks"}
RUN = [
    pytest.param(p, marks=pytest.mark.slow if p.stem in SLOW else pytest.mark.thorough)
    for p in NOTEBOOKS
]


@pytest.mark.parametrize("path", RUN, ids=lambda p: p.stem)
def test_a_notebook_runs(path, kernel, folder):
    text, kinds = outputs(run(path, kernel, folder))
    assert {"text/html", "image/png"} & kinds
    assert "Traceback" not in text
    if path.stem == "explain":
        dice = re.search(r"mean Dice of 24 images: (\d\.\d+)", text)
        auc = re.search(r"AUC of the score for lesions: (\d\.\d+)", text)
        assert float(dice[1]) > 0.15  # as its text says: the heat lies on lesions,
        assert 0.4 < float(auc[1]) < 0.6  # and the network does not know them
    if path.stem == "labels_to_masks":
        assert "True" in text.splitlines()[-1]  # the same masks after loading


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_kept_small_and_without_outputs(path):
    assert path.stat().st_size < 20_000
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
