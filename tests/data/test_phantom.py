"""The phantom's folder: whole or not there, and honest about being simulated."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from weakseg.config import PhantomConfig
from weakseg.data import phantom
from weakseg.data.phantom import write_phantom
from weakseg.data.phantom_slices import GENERATOR, PhantomSlice, marker_box, phantom_slices
from weakseg.errors import DataError

SMALL = PhantomConfig(patients=6, slices_per_patient=4, size=64, seed=3)


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_folder_holds_what_was_drawn(tmp_path: Path) -> None:
    table = write_phantom(tmp_path / "deep" / "phantom", SMALL)
    folder = table.parent
    assert folder == tmp_path / "deep" / "phantom"
    rows = _rows(folder)
    drawn = list(phantom_slices(6, 4, 64, 3))
    assert len(rows) == len(drawn) == 24
    assert list(rows[0]) == ["image", "mask", "label", "patient"]
    for row, s in zip(rows, drawn, strict=True):
        assert (row["label"], row["patient"]) == (s.label, s.patient)
        image = np.asarray(Image.open(folder / row["image"]))
        mask = np.asarray(Image.open(folder / row["mask"]))
        np.testing.assert_array_equal(image, s.image)
        np.testing.assert_array_equal(mask, np.where(s.mask, 255, 0))
        assert mask.dtype == np.uint8
    assert "SIMULATED" in (folder / "README.txt").read_text()
    assert json.loads((folder / "phantom.json").read_text()) == {
        "generator": GENERATOR,
        **SMALL.model_dump(exclude={"volumes", "slab"}),  # as before there were any
    }
    assert [p.name for p in folder.parent.iterdir()] == ["phantom"]


def test_the_same_phantom_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_phantom(tmp_path / "phantom", SMALL)
    monkeypatch.setattr(phantom, "phantom_slices", lambda *_, **__: pytest.fail("drawn again"))
    assert write_phantom(tmp_path / "phantom", SMALL) == table


@pytest.mark.parametrize("key", ["shortcut", "pairs"])
def test_a_phantom_of_an_earlier_version_is_another_recipe(tmp_path: Path, key: str) -> None:
    folder = write_phantom(tmp_path / "phantom", SMALL).parent
    file = folder / "phantom.json"
    recipe = json.loads(file.read_text())
    assert recipe.pop(key) is False
    file.write_text(json.dumps(recipe))
    write_phantom(folder, SMALL)
    assert key in json.loads(file.read_text())


def test_a_shortcut_is_written_and_told(tmp_path: Path) -> None:
    folder = write_phantom(tmp_path / "phantom", SMALL).parent
    assert "square" not in (folder / "README.txt").read_text()
    write_phantom(folder, SMALL.model_copy(update={"shortcut": True}))
    assert "white square in the top left corner" in (folder / "README.txt").read_text()
    assert json.loads((folder / "phantom.json").read_text())["shortcut"] is True
    for row in _rows(folder):
        corner = np.asarray(Image.open(folder / row["image"]))[marker_box(SMALL.size)]
        assert (corner == 255).all() == (row["label"] == "tumor")


def test_twins_have_their_own_names_and_their_patient(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"pairs": True})
    folder = write_phantom(tmp_path / "phantom", config).parent
    assert "drawn again without its lesion" in (folder / "README.txt").read_text()
    rows = _rows(folder)
    assert len({row["image"] for row in rows}) == len(rows) == len(list(folder.glob("masks/*")))
    for lesion, twin in zip(rows[::2], rows[1::2], strict=True):
        assert twin["image"] == lesion["image"].replace(".png", "_twin.png")
        assert twin["mask"] == lesion["mask"].replace(".png", "_twin.png")
        assert (lesion["label"], twin["label"]) == ("tumor", "normal")
        assert twin["patient"] == lesion["patient"]
        assert Image.open(folder / lesion["mask"]).getextrema() == (0, 255)
        assert Image.open(folder / twin["mask"]).getextrema() == (0, 0)


def test_a_damaged_phantom_is_mended(tmp_path: Path) -> None:
    folder = write_phantom(tmp_path / "phantom", SMALL).parent
    lost = folder / "masks" / "P002_03.png"
    before = lost.read_bytes()
    lost.unlink()
    write_phantom(folder, SMALL)
    assert lost.read_bytes() == before


def test_another_phantom_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = write_phantom(tmp_path / "phantom", SMALL).parent
    other = SMALL.model_copy(update={"size": 80})
    write_phantom(folder, other)
    assert Image.open(folder / "images" / "P001_01.png").size == (64, 80)
    assert len(list((folder / "images").iterdir())) == 24


def test_a_new_generator_version_draws_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_phantom(tmp_path / "phantom", SMALL).parent
    monkeypatch.setattr(phantom, "GENERATOR", GENERATOR + 1)
    write_phantom(folder, SMALL)
    written = json.loads((folder / "phantom.json").read_text())["generator"]
    assert written == GENERATOR + 1


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="something else is there"):
        write_phantom(tmp_path / "mine", SMALL)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="a file"):
        write_phantom(tmp_path / "file", SMALL)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert write_phantom(tmp_path / "empty", SMALL).is_file()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> list[PhantomSlice]:
        raise OSError("disk full")

    monkeypatch.setattr(phantom, "phantom_slices", broken)
    with pytest.raises(OSError, match="disk full"):
        write_phantom(tmp_path / "phantom", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_phantom_that_appears_meanwhile_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "phantom"
    rename = Path.rename

    def late(source: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        write_phantom(folder, SMALL)
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", late)
    table = write_phantom(folder, SMALL)
    assert table.is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["phantom"]


def test_a_phantom_that_another_command_finished_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "phantom"
    write_files = phantom._write_files
    theirs = []

    def slow(*what: Any) -> None:
        monkeypatch.setattr(phantom, "_write_files", write_files)
        write_phantom(folder, SMALL)
        theirs.append(folder.stat().st_ino)
        write_files(*what)

    monkeypatch.setattr(phantom, "_write_files", slow)
    assert write_phantom(folder, SMALL).is_file()
    assert folder.stat().st_ino == theirs[0]
    assert [p.name for p in tmp_path.iterdir()] == ["phantom"]
