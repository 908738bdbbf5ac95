"""Every kind of bad input: its row, its file and the way out are named, all in one pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.data.helpers import blob, good_rows, noise, present, save, write_rows
from weakseg.config import DataConfig, SplitConfig
from weakseg.data.cases import Labels
from weakseg.data.check import (
    Problem,
    check_manifest,
    format_problems,
    look_into,
    problems_json,
)
from weakseg.data.counted import counted
from weakseg.data.fingerprint import data_fingerprint
from weakseg.data.table import read_table
from weakseg.importing.validate import validate_manifest

DATA = DataConfig()
Rows = list[list[str]]


def check(folder: Path, rows: Rows, data: DataConfig = DATA) -> list[Problem]:
    return check_manifest(write_rows(folder, rows), data)


def test_a_good_set_has_no_problems(tmp_path):
    assert check(tmp_path, good_rows(tmp_path)) == []


def put(row: int, column: int, text: str) -> Callable[[Path, Rows], None]:
    def change(folder: Path, rows: Rows) -> None:
        rows[row - 1][column] = text

    return change


def image(row: int, array: np.ndarray) -> Callable[[Path, Rows], None]:
    return lambda folder, rows: void(save(folder / rows[row - 1][0], array))


def mask(row: int, array: np.ndarray, suffix: str = "") -> Callable[[Path, Rows], None]:
    def change(folder: Path, rows: Rows) -> None:
        rows[row - 1][2] += suffix
        save(folder / rows[row - 1][2], array)

    return change


def content(row: int, column: int, data: bytes) -> Callable[[Path, Rows], None]:
    return lambda folder, rows: void((folder / rows[row - 1][column]).write_bytes(data))


def copy(source: int, to: int) -> Callable[[Path, Rows], None]:
    return lambda folder, rows: void(
        (folder / rows[to - 1][0]).write_bytes((folder / rows[source - 1][0]).read_bytes())
    )


def void(_: object) -> None:
    return None


def unlink(row: int, column: int) -> Callable[[Path, Rows], None]:
    return lambda folder, rows: (folder / rows[row - 1][column]).unlink()


def splits(*names: str) -> Callable[[Path, Rows], None]:
    """A split a patient, in order; four patients."""

    def change(folder: Path, rows: Rows) -> None:
        rows[0].append("split")
        for i, row in enumerate(rows[1:]):
            row.append(names[i // 2])

    return change


def both(*changes: Callable[[Path, Rows], None]) -> Callable[[Path, Rows], None]:
    def change(folder: Path, rows: Rows) -> None:
        for c in changes:
            c(folder, rows)

    return change


def relabel(names: dict[str, str]) -> Callable[[Path, Rows], None]:
    def change(folder: Path, rows: Rows) -> None:
        for row in rows[1:]:
            row[1] = names[row[1]]

    return change


def drop_patients(folder: Path, rows: Rows) -> None:
    for r in rows:
        del r[3]


def stack(folder: Path, rows: Rows) -> None:
    tifffile.imwrite(folder / "stack.tif", noise(0, (7, 16, 20)), photometric="minisblack")
    rows[3][0] = "stack.tif"


def not_a_number(folder: Path, rows: Rows) -> None:
    array = noise(0).astype(np.float32)
    array[2, 3] = np.nan
    tifffile.imwrite(folder / "nan.tif", array)
    rows[3][0] = "nan.tif"


def of_wide_range(folder: Path, rows: Rows) -> None:
    tifffile.imwrite(folder / "wide.tif", noise(0).astype(np.float32))
    rows[3][0] = "wide.tif"


GRADIENT = np.add.outer(np.arange(16) * 8, np.arange(20) * 2).astype(np.uint8)
TRAIN_VAL_TEST = splits("train", "val", "test", "train")

# name: change, configuration, kind, row, file, part of the message, part of the way out, severity
BAD: dict[str, tuple[Callable[[Path, Rows], None], dict, str, int | None, str, str, str]] = {
    "image missing": (unlink(4, 0), {}, "image-missing", 4, "s2.png", "does not exist", "images"),
    "image in another folder": (
        put(4, 0, "other/s2.png"), {}, "image-missing", 4, "other/s2.png", "not exist", "other",
    ),
    "name too long": (
        put(4, 0, "x" * 400), {}, "image-unreadable", 4, "xxx", "is too long", "name",
    ),
    "image is a folder": (
        put(4, 0, "images"), {}, "image-unreadable", 4, "images", "folder", "file",
    ),
    "image empty": (content(4, 0, b""), {}, "image-unreadable", 4, "s2.png", "empty", "copy"),
    "image no image": (
        content(4, 0, b"hello"), {}, "image-unreadable", 4, "s2.png", "not a PNG", "save it as PNG",
    ),
    "image truncated": (
        content(4, 0, b"\x89PNG\r\n\x1a\n12"), {}, "image-unreadable", 4, "s2.png", "damaged",
        "copy",
    ),
    "stack": (stack, {}, "image-unreadable", 4, "stack.tif", "7 pages", "split the stack"),
    "nan": (not_a_number, {}, "image-unreadable", 4, "nan.tif", "NaN", "replace them"),
    "float range": (
        of_wide_range, {"intensity": "dtype"}, "image-range", 4, "wide.tif", "floats", "percentile",
    ),
    "image blank": (put(4, 0, ""), {}, "image-blank", 4, "", "no image", "delete the row"),
    "image tiny": (
        both(image(4, noise(0, (7, 20))), mask(4, blob((7, 20)))),
        {}, "image-small", 4, "s2.png", "7 × 20", "delete the row",
    ),
    "image twice": (
        put(4, 0, "images/s0.png"), {}, "image-twice", 4, "s0.png", "row 2", "keep one",
    ),
    "image twice by another spelling": (
        put(4, 0, "masks/../images/s0.png"), {}, "image-twice", 4, "s0.png", "row 2", "keep one",
    ),
    "image twice with two labels": (
        put(5, 0, "images/s0.png"), {}, "image-twice", 5, "s0.png",
        "row 2 already, with the label 'tumor' and not 'normal'", "keep one",
    ),
    "copy of another label": (
        copy(2, 5), {}, "duplicate-label", 5, "s3.png", "images/s0.png in row 2", "wrong label",
    ),
    "copy of another patient": (
        copy(2, 6), {}, "duplicate-patient", 6, "s4.png", "'p2' and there 'p0'",
        "correct the patient",
    ),
    "mask missing": (unlink(4, 2), {}, "mask-missing", 4, "masks/s2.png", "not exist", "masks"),
    "mask empty file": (
        content(4, 2, b""), {}, "mask-unreadable", 4, "masks/s2.png", "empty", "copy",
    ),
    "mask size": (
        mask(4, blob((20, 16))), {}, "mask-size", 4, "masks/s2.png",
        "20 × 16 pixels, its image 16 × 20", "own pixel grid",
    ),
    "mask is image": (
        put(4, 2, "images/s2.png"), {}, "mask-is-image", 4, "images/s2.png", "file of an image",
        "blank",
    ),
    "lesion without mask": (
        mask(4, blob(value=0)), {}, "lesion-without-mask", 4, "masks/s2.png", "value 0", "correct",
    ),
    "no listed value occurs": (
        mask(4, blob(value=2)), {"mask_rule": [255]}, "lesion-without-mask", 4, "masks/s2.png",
        "values 0, 2, and data.mask_rule is [255]", "mask_rule",
    ),
    "half of 0 and 1": (
        mask(4, blob(value=1)), {"mask_rule": "half"}, "lesion-without-mask", 4, "masks/s2.png",
        "values 0, 1", "mask_rule",
    ),
    "colour mask and listed values": (
        mask(4, np.stack([blob(), blob() // 2, blob()], axis=-1)), {"mask_rule": [255]},
        "mask-unreadable", 4, "masks/s2.png", "colour image", "nonzero",
    ),
    "healthy with mask": (
        mask(3, blob()), {}, "healthy-with-mask", 3, "masks/s1.png", "marks 20 pixels", "correct",
    ),
    "label blank": (put(4, 1, ""), {}, "label-blank", 4, "s2.png", "blank", "write a label"),
    "label case": (
        put(4, 1, "Tumor"), {}, "label-spelling", 4, "s2.png", "'Tumor' differs from 'tumor'",
        "'tumor'",
    ),
    "label unknown": (
        put(4, 1, "cyst"), {"healthy_labels": ["normal"], "lesion_labels": ["tumor"]},
        "label-unknown", 4, "s2.png", "'cyst' is in neither", "choose one of",
    ),
    "label roles": (
        relabel({"normal": "a", "tumor": "b"}),
        {}, "label-roles", None, "", "'a', 'b'", "data.healthy_labels",
    ),
    "one label": (
        relabel({"normal": "tumor", "tumor": "tumor"}),
        {}, "label-roles", None, "", "only one label", "add images",
    ),
    "patient blank": (put(4, 3, ""), {}, "patient-blank", 4, "s2.png", "blank", "name the patient"),
    "too many fields": (
        lambda folder, rows: rows[3].append("x"), {}, "fields", 4, "s2.png",
        "5 fields, the header 4", '"',
    ),
    "too few fields": (
        lambda folder, rows: rows[3].pop(), {}, "fields", 4, "s2.png", "3 fields, the header 4",
        "add",
    ),
    "few patients of a class": (
        lambda folder, rows: rows.__setitem__(slice(None), [rows[0], *rows[1:4], rows[4], rows[6]]),
        {}, "class-few-patients", None, "", "'tumor' has 2 patients", "merge",
    ),
    "split unknown": (
        both(TRAIN_VAL_TEST, put(4, 4, "valdi")), {}, "split-unknown", 4, "s2.png", "'valdi'",
        "val",
    ),
    "split partly blank": (
        both(TRAIN_VAL_TEST, put(4, 4, "")), {}, "split-blank", 4, "s2.png", "blank",
        "train, val, test",
    ),
    "patient in two splits": (
        both(TRAIN_VAL_TEST, put(3, 4, "test")), {}, "patient-in-two-splits", None, "",
        "'p0' is in train (row 2), test (row 3)", "one split",
    ),
    "split empty": (
        splits("train", "train", "val", "val"), {}, "split-empty", None, "", "'test'", "give test",
    ),
    "split lacks a class": (
        both(TRAIN_VAL_TEST, put(4, 1, "normal"), put(4, 2, "")), {}, "split-lacks-class", None, "",
        "'val' has no image of 'tumor'", "move a patient",
    ),
    "copy in another split": (
        both(TRAIN_VAL_TEST, drop_patients, copy(2, 6)), {}, "duplicate-split", 6, "s4.png",
        "'test' and there 'train'", "one split",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_an_error_with_row_file_and_remedy(tmp_path, name):
    change, config, kind, row, file, says, fix = BAD[name]
    rows = good_rows(tmp_path)
    change(tmp_path, rows)
    problems = check(tmp_path, rows, DataConfig(**config))
    mine = [p for p in problems if p.kind == kind and p.row == row]
    assert len(mine) == 1, problems
    assert mine[0].severity == "error"
    assert file in (mine[0].file or "")
    assert says in mine[0].message
    assert fix in mine[0].fix
    assert all(p.fix and p.message for p in problems)
    text = format_problems(problems)
    assert says in text
    assert fix in text


WARN: dict[str, tuple[Callable[[Path, Rows], None], dict, str, int | None, str, str]] = {
    "constant image": (
        image(4, np.full((16, 20), 9, np.uint8)), {}, "image-constant", 4, "[9]", "look",
    ),
    "soft mask": (mask(4, GRADIENT), {}, "mask-soft", 4, "soft edges", "mask_rule: half"),
    "jpeg mask": (mask(4, GRADIENT, ".jpg"), {}, "mask-soft", 4, "JPEG", "mask_rule: half"),
    "mask full": (
        mask(4, np.full((16, 20), 255, np.uint8)), {}, "mask-full", 4, "100 %", "inverted",
    ),
    "copy of the same patient": (
        both(copy(2, 4), put(4, 3, "p0")), {}, "duplicate", 4, "images/s0.png in row 2", "delete",
    ),
    "near copies in two splits": (
        both(
            TRAIN_VAL_TEST, drop_patients,
            lambda folder, rows: void(save(folder / "images/s4.png", noise(0)[:, ::-1])),
        ),
        {}, "near-duplicates-in-two-splits", None, "train (row 2), test (row 6)", "patient",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WARN)
def test_what_may_be_meant_is_a_warning(tmp_path, name):
    change, config, kind, row, says, fix = WARN[name]
    rows = good_rows(tmp_path)
    change(tmp_path, rows)
    problems = check(tmp_path, rows, DataConfig(**config))
    mine = [p for p in problems if p.kind == kind and p.row == row]
    assert len(mine) == 1, problems
    assert mine[0].severity == "warning"
    assert says in mine[0].message
    assert fix in mine[0].fix
    assert not [p for p in problems if p.severity == "error"]


@pytest.mark.parametrize("text", [None, "", "image,label\n", "foo,bar\n1,2\n"])
def test_a_manifest_that_cannot_be_read_is_one_problem(tmp_path, text):
    path = tmp_path / "labels.csv"
    if text is not None:
        path.write_text(text)
    (problem,) = check_manifest(path, DATA)
    assert (problem.kind, problem.row, problem.severity) == ("manifest", None, "error")
    assert str(path) in problem.message
    assert problem.fix


def test_soft_masks_are_fine_under_half(tmp_path):
    rows = good_rows(tmp_path)
    mask(4, GRADIENT)(tmp_path, rows)
    assert check(tmp_path, rows, DataConfig(mask_rule="half")) == []


def test_masks_patients_and_absolute_paths_are_as_free_as_promised(tmp_path):
    rows = good_rows(tmp_path)
    rows[1][0] = str(tmp_path / rows[1][0])
    rows[2][2] = ""
    folder = tmp_path / "tables"
    folder.mkdir()
    for r in rows[2:]:
        r[0] = f"../{r[0]}"
        r[2] = f"../{r[2]}" if r[2] else ""
    rows[1][2] = f"../{rows[1][2]}"
    assert check(folder, rows) == []
    drop_patients(folder, rows)
    assert check(folder, rows) == []


def test_black_slices_of_many_patients_are_no_duplicates(tmp_path):
    rows = good_rows(tmp_path)
    for row in (3, 5):
        image(row, np.zeros((16, 20), np.uint8))(tmp_path, rows)
    assert [p.kind for p in check(tmp_path, rows)] == ["image-constant"] * 2


def test_all_problems_come_at_once_and_sorted(tmp_path):
    rows = good_rows(tmp_path)
    for change in (put(9, 1, ""), unlink(4, 0), mask(6, blob((9, 9))), put(3, 3, "")):
        change(tmp_path, rows)
    seen: list[tuple[int, int]] = []
    problems = check_manifest(
        write_rows(tmp_path, rows), DATA, progress=lambda i, n: seen.append((i, n))
    )
    assert [(p.row, p.kind) for p in problems] == [
        (3, "patient-blank"),
        (4, "image-missing"),
        (6, "mask-size"),
        (9, "label-blank"),
    ]
    assert seen == [(8, 8)]


def test_a_misspelt_split_is_not_also_told_as_an_empty_split(tmp_path):
    rows = good_rows(tmp_path)
    splits("train", "valdi", "test", "train")(tmp_path, rows)
    assert [(p.row, p.kind) for p in check(tmp_path, rows)] == [
        (4, "split-unknown"),
        (5, "split-unknown"),
    ]


def test_reports():
    problems = [
        Problem("b", 3, "x.png", "is wrong", "mend it", "warning"),
        Problem("a", 17, "images/x.png", "too big", "shrink it"),
        Problem("a", None, None, "whole", "redo"),
    ]
    assert format_problems(problems).splitlines() == [
        "a: 2 errors",
        "  row 17  images/x.png  too big → shrink it",
        "  whole → redo",
        "b: 1 warning",
        "  row 3  x.png  is wrong → mend it",
    ]
    loaded = json.loads(json.dumps(problems_json(problems)))
    assert [Problem(**p) for p in loaded] == problems
    assert format_problems([]) == ""


def test_the_fingerprint_sees_every_file_and_how_it_is_read(tmp_path):
    rows = good_rows(tmp_path)
    path = write_rows(tmp_path, rows)
    prints = [data_fingerprint(path, DATA)]
    assert data_fingerprint(path, DATA) == prints[0]
    assert len(prints[0]) == 32
    prints.append(data_fingerprint(path, DataConfig(mask_rule="half")))
    image(4, noise(99))(tmp_path, rows)
    prints.append(data_fingerprint(path, DATA))
    mask(4, blob(value=7))(tmp_path, rows)
    prints.append(data_fingerprint(path, DATA))
    unlink(4, 0)(tmp_path, rows)
    prints.append(data_fingerprint(path, DATA))
    write_rows(tmp_path, rows[:-1])
    prints.append(data_fingerprint(path, DATA))
    assert len(set(prints)) == len(prints)


@pytest.mark.thorough
def test_lgg_is_clean_but_for_black_slices(shared):
    path = present(shared / "data" / "lgg_flair_dev" / "labels.csv")
    problems = check_manifest(path, DATA)
    assert {(p.kind, p.severity) for p in problems} == {("image-constant", "warning")}
    assert len(problems) == 25


def test_busi_is_clean(shared):
    assert check_manifest(present(shared / "data" / "busi_dev" / "labels.csv"), DATA) == []


def lesions(folder: Path, patients: int, values: dict[int, int] | None = None) -> Rows:
    """A tumour with a mask and a normal image a patient; ``values`` are of further lesions."""
    rows = [["image", "label", "mask", "patient"]]
    for i in range(patients):
        drawn = blob()
        if values and i in values:
            drawn[12:14, 2:5] = values[i]
        save(folder / f"i{i}.png", noise(i))
        save(folder / f"h{i}.png", noise(100 + i))
        save(folder / f"m{i}.png", drawn)
        rows += [[f"i{i}.png", "tumor", f"m{i}.png", f"p{i}"], [f"h{i}.png", "normal", "", f"p{i}"]]
    return rows


def test_common_words_for_splits_are_read(tmp_path):
    rows = good_rows(tmp_path)
    splits("Training", "VALID", "Validation", "testing")(tmp_path, rows)
    assert check(tmp_path, rows) == []
    rows[0][-1] = "subset"  # whose cells are looked at, for other sets have the word for others
    assert [p.kind for p in check(tmp_path, rows)] == ["column-name"]


def test_a_lesion_with_the_mask_of_another_patient_is_told(tmp_path):
    rows = lesions(tmp_path, 4)
    rows[3][2] = rows[1][2]
    (told,) = check(tmp_path, rows)
    assert (told.kind, told.row, told.file, told.severity) == ("mask-twice", 4, "m0.png", "warning")
    assert "i0.png in row 2, too, which is of another patient" in told.message
    rows[3][3] = rows[4][3] = rows[1][3]  # two sequences of one slice
    save(tmp_path / "i9.png", noise(9))
    assert "mask-twice" not in {p.kind for p in check(tmp_path, rows)}
    unnamed = [r[:3] for r in rows]
    assert [p.fix for p in check(tmp_path, unnamed) if p.kind == "mask-twice"] == [
        "name the image's own mask; if it is of both, name their patient"
    ]


def test_a_mask_with_values_that_hardly_any_other_has_is_told(tmp_path):
    rows = lesions(tmp_path, 12, {7: 127})
    (told,) = check(tmp_path, rows)
    assert (told.kind, told.file, told.severity) == ("mask-values", "m7.png", "warning")
    assert "as this one (127), 1 of 12 masks" in told.message
    assert "[255]" in told.fix
    assert check(tmp_path, rows, DataConfig(mask_rule=[255])) == []


def test_classes_that_many_masks_have_are_not_told(tmp_path):
    assert check(tmp_path, lesions(tmp_path, 12, dict.fromkeys(range(4), 127))) == []


def test_too_few_tested_patients_are_told_before_anything_is_trained(tmp_path, capsys):
    few = look_into(write_rows(tmp_path, lesions(tmp_path, 12)), DATA)
    assert (few.problems, few.lesion_patients) == ([], 2)
    assert "are of 2 patients, fewer than 5: there will be no interval that" in few.few_tested
    more = DataConfig(split=SplitConfig(test=0.42))
    assert look_into(tmp_path / "labels.csv", more).few_tested is None
    validate = validate_manifest(tmp_path / "labels.csv")[0].splitlines()
    assert validate[0].endswith(": no problems")
    assert validate[1] == (
        "24 images of 12 patients; without a lesion: normal (12); with a lesion: tumor (12); "
        "with a mask: 12"
    )
    assert validate[2].startswith("note: the test images with a lesion are of 2 patients")
    assert "raise data.split.test, or test every patient once" in validate[2]


def test_which_labels_are_taken_for_a_lesion_is_told_where_there_is_no_error(tmp_path):
    rows = [[c if c != "tumor" else "yes" for c in row] for row in good_rows(tmp_path)]
    said, failed = validate_manifest(write_rows(tmp_path, rows))
    assert not failed
    assert "without a lesion: normal (4); with a lesion: yes (4)" in said
    said, failed = validate_manifest(write_rows(tmp_path, rows), ["yes"], ["normal"])
    assert failed
    assert "without a lesion" not in said


@pytest.mark.parametrize(("n", "more"), [(8, ""), (9, ", 1 more label"), (10, ", 2 more labels")])
def test_of_many_labels_some_are_named_and_the_rest_counted(tmp_path, n, more):
    names = [f"l{k}" for k in range(n)]
    (tmp_path / "labels.csv").write_text("image,label\n" + "".join(f"a.png,{k}\n" for k in names))
    said = counted(read_table(tmp_path / "labels.csv"), Labels((), tuple(names)))
    assert "a lesion: none; with a lesion: l0 (1)" in said
    assert f"l7 (1){more}; with a mask: 0" in said


def test_where_no_label_is_written_yet_that_alone_is_told(tmp_path):
    rows = [r if i == 0 else [r[0], "", *r[2:]] for i, r in enumerate(good_rows(tmp_path))]
    assert {p.kind for p in check(tmp_path, rows)} == {"label-blank"}


def test_a_rare_label_that_is_nearly_another_may_be_a_slip(tmp_path):
    rows = lesions(tmp_path, 4)
    rows[3][1] = "tumro"
    (told,) = (p for p in check(tmp_path, rows) if p.kind == "class-few-patients")
    assert "'tumro' has 1 patient;" in told.message
    assert told.fix.startswith("if it is a slip of the pen for 'tumor', write that; else")
