"""The pictures of the gallery: there, small, and of the phantom alone."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

from tests.report.fake_run import make_run
from weakseg.errors import UserError

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def gallery():
    """The module beside the pages, which is in no package."""
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_picture_is_there_small_and_shown(gallery):
    page = (DOCS / "gallery.md").read_text()
    assert {p.stem for p in (DOCS / "gallery").iterdir()} == set(gallery.SHOTS)
    for name in gallery.SHOTS:
        path = DOCS / "gallery" / f"{name}.png"
        assert path.stat().st_size <= gallery.LARGEST
        assert Image.open(path).format == "PNG"
        assert f"](gallery/{name}.png)" in page


def test_runs_of_patients_are_refused(gallery, tmp_path):
    pytest.importorskip("playwright.sync_api")
    with pytest.raises(UserError, match="phantom alone"):
        gallery.take(make_run(tmp_path / "run", simulated=False), tmp_path / "out")
    assert not (tmp_path / "out").exists()
