"""Columns under other names, and what a path that leads nowhere may have meant."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.helpers import good_rows, noise, save, save_volume, write_rows
from weakseg.config import DataConfig
from weakseg.data.check import check_manifest
from weakseg.data.columns import BESIDE_IMAGE, plain_name
from weakseg.data.manifest import read_manifest
from weakseg.data.near_files import near_cell
from weakseg.data.table import Table, read_table
from weakseg.errors import DataError

DATA = DataConfig()


def renamed(folder: Path, *header: str) -> Path:
    rows = good_rows(folder)
    rows[0] = list(header)
    return write_rows(folder, rows)


def test_a_column_under_another_name_is_read_and_said(tmp_path):
    path = renamed(tmp_path, "Image Index", "Finding Labels", "mask_path", "Patient ID")
    problems = check_manifest(path, DATA)
    assert [(p.kind, p.severity) for p in problems] == [("column-name", "warning")] * 4
    assert problems[3].message == "the column 'Patient ID' is read as 'patient'"
    assert "rename it to 'patient'" in problems[3].fix
    found = read_manifest(path, DATA)
    assert found.patients_known
    assert [c.patient for c in found.cases] == [f"p{i // 2}" for i in range(8)]
    assert found.cases[0].mask == tmp_path / "masks/s0.png"


def test_patients_under_another_name_are_not_lost(tmp_path):
    """Else groups of look-alikes would stand for them."""
    path = renamed(tmp_path, "image", "label", "mask", "Patient_ID")
    assert read_table(path).has_patients


@pytest.mark.parametrize(
    ("words", "read"),
    [(["train", "VAL", "Test", "train"], True), (["1", "2", "3", "1"], False),
     (["a", "train", "val", "test"], False)],
)  # fmt: skip
def test_a_column_of_splits_has_to_hold_splits(tmp_path, words, read):
    rows = good_rows(tmp_path)
    rows[0].append("subset")
    for i, row in enumerate(rows[1:]):
        row.append(words[i // 2])
    table = read_table(write_rows(tmp_path, rows))
    assert table.has_splits == read
    assert (("subset", "split") in table.taken) == read


def test_names_that_predict_does_not_need_do_not_stop_it(tmp_path):
    path = write_rows(tmp_path, [["file", "class", "diagnosis"], ["a.png", "x", "y"]])
    assert read_table(path, required=("image",), aside=BESIDE_IMAGE).rows[0].image == "a.png"
    with pytest.raises(DataError, match="no column 'label', and 2 that may be it"):
        read_table(path)


def test_rows_count_behind_a_line_that_names_the_delimiter(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("sep=;\nimage;label\na.png;tumor\n\nb.png;normal\n")
    assert [r.line for r in read_table(path).rows] == [3, 5]


@given(st.sampled_from(["Image Index", "patient_id", "Finding Labels"]),
       st.lists(st.sampled_from(" _-.#"), max_size=3))  # fmt: skip
def test_case_and_signs_do_not_count_in_names_of_columns(name, signs):
    assert plain_name("".join(signs).join(name.upper())) == plain_name(name)


def test_paths_of_windows_are_read_where_they_lead_to_a_file(tmp_path):
    for name in ("img/a.png", "img/m.png", "b\\c.png"):
        save(tmp_path / name, noise(1))
    rows = [["img\\a.png", "x", "img\\m.png; no.png"], ["b\\c.png", "x", ""], ["d\\e.png", "y", ""]]
    path = write_rows(tmp_path, [["image", "label", "mask"], *rows])
    table = read_table(path)
    assert [r.image for r in table.rows] == ["img/a.png", "b\\c.png", "d\\e.png"]
    assert table.rows[0].mask == "img/m.png; no.png"
    [said] = [p for p in check_manifest(path, DATA) if p.kind == "path-signs"]
    assert said.severity == "warning"
    assert said.message == "1 row with \\ between folders, which is read as /"


# Paths that lead nowhere

COMPOSED, DECOMPOSED = (unicodedata.normalize(f, "Größe é.png") for f in ("NFC", "NFD"))


@pytest.fixture
def files(tmp_path):
    for name in ("img/a_01.png", "img/b.JPG", "img/c.tif", f"img/{DECOMPOSED}", "Deep/Er/x.png"):
        save(tmp_path / name, noise(1)) if name.endswith(".png") else _touch(tmp_path / name)
    for name in ("img/two.png", "img/two.jpg", "img/v.nii.gz"):
        _touch(tmp_path / name)
    (tmp_path / "lists").mkdir()
    return tmp_path


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("cell", "proposed", "why"),
    [
        ("img/a_01", "'img/a_01.png'", "ending"),
        ("img/a_01.PNG", "'img/a_01.png'", "capital and small"),
        ("img/A_01.png", "'img/a_01.png'", "capital and small"),
        ("IMG/a_01.png", "'img/a_01.png'", "capital and small"),
        ("deep/er/X.PNG", "'Deep/Er/x.png'", "capital and small"),
        ("img/b.jpeg", "'img/b.JPG'", "another ending"),
        ("img/c.png", "'img/c.tif'", "another ending"),
        ("img/v", "'img/v.nii.gz'", "ending"),
        ("img/v.nii", "'img/v.nii.gz'", "another ending"),
        (f"img/{COMPOSED}", repr(f"img/{DECOMPOSED}"), "accents"),
        (f"img/{COMPOSED.upper()}", repr(f"img/{DECOMPOSED}"), "capital and small"),
        ("img\\a_01.png", "'img/a_01.png'", "write / instead of \\"),
        ("C:\\data\\img\\a_01.png", "'img/a_01.png'", "relative to the manifest's folder"),
        ("D:/x/y/img/a_01.png", "'img/a_01.png'", "relative to the manifest's folder"),
        ("C:\\data\\img\\A_01.PNG", "'img/a_01.png'", "capital and small"),
        ("\\\\server\\share\\img\\b.JPG", "'img/b.JPG'", "relative"),
        ("/home/else/img/a_01.png", "'img/a_01.png'", "relative"),
        ("data/img/a_01.png", "'img/a_01.png'", "relative"),
        ("'img/a_01.png'", "'img/a_01.png'", "without the signs"),
        ("img/two", "'img/two.jpg' or 'img/two.png'", "ending"),
        ("other/a_01.png", "'img/a_01.png'", "did you mean"),
        ("a_01.png", "'img/a_01.png'", "did you mean"),
        ("img/aa_01.png", "'img/a_01.png'", "similar name"),
    ],
)
def test_what_was_meant_is_proposed(files, cell, proposed, why):
    found = near_cell(cell, Table(files / "labels.csv", ()))
    assert found is not None
    assert proposed in found
    assert why in found


def test_a_list_in_a_folder_of_its_own(files):
    table = Table(files / "lists/labels.csv", ())
    assert "'../img/a_01.png'" in near_cell("img/a_01.png", table)
    assert "'../img/a_01.png'" in near_cell("img/a_01", table)


@pytest.mark.parametrize("cell", ["img/a_02.png", "zzz.png", "img/", "..", "x" * 400, "\\", "a\nb"])
def test_other_numbers_and_nonsense_propose_nothing(files, cell):
    assert near_cell(cell, Table(files / "labels.csv", ())) is None


def test_the_check_proposes_names_for_images_and_for_each_file_of_a_mask(tmp_path):
    rows = good_rows(tmp_path)
    rows[1][0], rows[1][2] = "images/s0", "masks/s0.png;masks\\s0.PNG"
    rows[3][2], rows[5][2] = "nan", "None"
    found = check_manifest(write_rows(tmp_path, rows), DATA)
    assert [(p.kind, p.row, p.file) for p in found] == [
        ("image-missing", 2, "images/s0"),
        ("mask-missing", 2, "masks\\s0.PNG"),
        ("mask-missing", 4, "nan"),
        ("mask-missing", 6, "None"),
    ]
    assert found[0].fix.startswith("write 'images/s0.png'")
    assert found[1].fix.startswith("write 'masks/s0.png'")
    assert "leave the cell blank" in found[2].fix


def test_a_link_that_leads_nowhere_is_named_as_one(tmp_path):
    rows = good_rows(tmp_path)
    (tmp_path / "images/s0.png").unlink()
    (tmp_path / "images/s0.png").symlink_to("gone/away.png")
    (problem,) = check_manifest(write_rows(tmp_path, rows), DATA)
    assert problem.kind == "image-missing"
    assert "a link to gone/away.png" in problem.fix


def test_names_are_proposed_for_volumes(tmp_path):
    import numpy as np

    rows = [["image", "label", "mask"]]
    for k in range(6):
        values = np.random.default_rng(k).normal(size=(9, 9, 9)).astype(np.float32)
        save_volume(tmp_path / f"v{k}.nii.gz", values)
        lesion = np.pad((values > 1)[1:-1, 1:-1, 1:-1], 1)
        save_volume(tmp_path / f"m{k}.nii.gz", lesion.astype(np.uint8))
        rows.append([f"v{k}.nii.gz", "tumor", f"m{k}.nii.gz"])
    rows[1][2] = "M0.nii.gz"
    (problem,) = check_manifest(write_rows(tmp_path, rows), DATA)
    assert problem.fix.startswith("write 'm0.nii.gz'")
