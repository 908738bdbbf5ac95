"""Manifests of volumes: read, dealt out, and every kind of bad input named in one pass."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.data.helpers import noise, present, save, save_volume, write_rows
from tests.tiny import weakseg
from weakseg.config import DataConfig, SplitConfig
from weakseg.data.cases import Labels
from weakseg.data.check import Problem, check_manifest
from weakseg.data.fingerprint import data_fingerprint
from weakseg.data.labels import resolve_labels
from weakseg.data.manifest import read_manifest, safe_ids
from weakseg.data.splits import make_splits, read_splits, write_splits
from weakseg.data.volumes import read_volume_mask
from weakseg.errors import DataError

DATA = DataConfig()
SHAPE = (10, 11, 9)
WHERE = np.diag([-1.0, 1.0, 3.0, 1.0])
Rows = list[list[str]]
Change = Callable[[Path, Rows], None]
COLUMNS = ["image", "label", "mask", "patient", "image2", "roi"]


def volume(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def part(value: int = 1, at: int = 3) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[at : at + 3, 3:6, 3:6] = value
    return mask


def good_volumes(folder: Path) -> Rows:
    """Six patients with a tumour each, two modalities and a region; nothing is wrong."""
    rows = [COLUMNS.copy()]
    roi = np.zeros(SHAPE, dtype=np.uint8)
    roi[1:-1, 1:-1, 1:-1] = 1
    for i in range(6):
        names = [f"{d}/v{i}.nii.gz" for d in ("flair", "masks", "t1c", "brains")]
        for name, values in zip(names, (volume(i), part(), volume(100 + i), roi), strict=True):
            save_volume(folder / name, values, WHERE)
        rows.append([names[0], "tumor", names[1], f"p{i}", names[2], names[3]])
    return rows


def check(folder: Path, rows: Rows, data: DataConfig = DATA) -> list[Problem]:
    return check_manifest(write_rows(folder, rows), data)


def without(rows: Rows, *names: str) -> Rows:
    keep = [k for k, name in enumerate(rows[0]) if name not in names]
    return [[r[k] for k in keep] for r in rows]


def test_a_good_set_has_no_problems(tmp_path):
    rows = good_volumes(tmp_path)
    for some in ([], ["roi"], ["image2"], ["image2", "roi"], ["patient"], ["mask"]):
        assert check(tmp_path, without(rows, *some)) == []
    rows[2][2] = ""
    assert check(tmp_path, rows) == []


def test_a_manifest_of_volumes_becomes_cases(tmp_path):
    rows = good_volumes(tmp_path)
    found = read_manifest(write_rows(tmp_path, rows), DATA)
    assert found.dims == 3
    assert found.labels == Labels((), ("tumor",))
    assert found.patients_known
    first = found.cases[0]
    assert first.id == "v0"
    assert first.image == tmp_path / "flair/v0.nii.gz"
    assert first.more == (tmp_path / "t1c/v0.nii.gz",)
    assert first.roi == tmp_path / "brains/v0.nii.gz"
    assert first.dims == 3


def test_two_labels_are_healthy_and_lesion_for_volumes_as_well(tmp_path):
    rows = good_volumes(tmp_path)
    for k in (1, 3, 5):
        rows[k][1:3] = ["normal", ""]
    assert check(tmp_path, rows) == []
    assert read_manifest(tmp_path / "labels.csv", DATA).labels == Labels(("normal",), ("tumor",))


def test_volumes_may_all_hold_lesions():
    assert resolve_labels(["b", "a"], both=False) == Labels((), ("a", "b"))
    assert resolve_labels(["a", "no"], both=False) == Labels(("no",), ("a",))
    assert resolve_labels(["no"], "auto", ["no"], both=False) == Labels((), ("no",))
    for found, says in ((["no", "none"], "Every label is taken for healthy"), ([], "labels none")):
        with pytest.raises(DataError, match="healthy") as e:
            resolve_labels(found, both=False)
        assert says in e.value.render()


def test_patients_of_one_label_are_dealt_out(tmp_path):
    rows = good_volumes(tmp_path)
    for columns in ([], ["patient"]):
        found = read_manifest(write_rows(tmp_path, without(rows, *columns)), DATA)
        assert len({c.patient for c in found.cases}) == 6
        cases = make_splits(found.cases, found.labels, SplitConfig())
        assert Counter(c.split for c in cases) == {"train": 4, "val": 1, "test": 1}
        write_splits(tmp_path / "splits.csv", cases)
        assert read_splits(tmp_path / "splits.csv") == [
            replace(c, mask=None, more=(), roi=None, row=i) for i, c in enumerate(cases, 2)
        ]
    assert not found.patients_known
    with pytest.raises(DataError, match="each volume counts as one patient"):
        make_splits(found.cases[:2], found.labels, SplitConfig())


def test_given_splits_stand(tmp_path):
    rows = good_volumes(tmp_path)
    names = ["split", "train", "train", "val", "val", "test", "test"]
    rows = [[*r, s] for r, s in zip(rows, names, strict=True)]
    assert check(tmp_path, rows) == []
    found = read_manifest(tmp_path / "labels.csv", DATA)
    cases = make_splits(found.cases, found.labels, SplitConfig())
    assert [c.split for c in cases] == names[1:]


def test_ids_lose_both_suffixes():
    assert safe_ids([Path("/d/a.nii.gz"), Path("/d/b.NII.GZ"), Path("/d/c.1.nii")]) == [
        *("a", "b", "c.1"),
    ]
    assert safe_ids([Path("/d/x/a.nii.gz"), Path("/d/y/a.nii.gz")]) == ["x_a", "y_a"]


def test_the_fingerprint_sees_further_modalities_and_regions(tmp_path):
    path = write_rows(tmp_path, good_volumes(tmp_path))
    prints = [data_fingerprint(path, DATA)]
    for name in ("flair", "masks", "t1c", "brains"):
        save_volume(tmp_path / name / "v3.nii.gz", volume(77), WHERE)
        prints.append(data_fingerprint(path, DATA))
    assert len(set(prints)) == 5


# Bad input


def put(row: int, column: str, text: str) -> Change:
    def change(folder: Path, rows: Rows) -> None:
        if column not in rows[0]:
            rows[0].append(column)
            for r in rows[1:]:
                r.append("")
        rows[row - 1][rows[0].index(column)] = text

    return change


def write(row: int, column: str, values: np.ndarray, where: np.ndarray = WHERE) -> Change:
    def change(folder: Path, rows: Rows) -> None:
        save_volume(folder / rows[row - 1][rows[0].index(column)], values, where)

    return change


def content(row: int, column: str, make: Callable[[bytes], bytes]) -> Change:
    def change(folder: Path, rows: Rows) -> None:
        path = folder / rows[row - 1][rows[0].index(column)]
        path.write_bytes(make(path.read_bytes()))

    return change


def copy(source: int, to: int) -> Change:
    def change(folder: Path, rows: Rows) -> None:
        (folder / rows[to - 1][0]).write_bytes((folder / rows[source - 1][0]).read_bytes())

    return change


def both(*changes: Change) -> Change:
    def change(folder: Path, rows: Rows) -> None:
        for c in changes:
            c(folder, rows)

    return change


def each_other_row(where: np.ndarray) -> Change:
    """All files of every other row are written again with another affine."""

    def change(folder: Path, rows: Rows) -> None:
        for row in rows[2::2]:
            for name in (row[0], row[2], row[4], row[5]):
                held = nib.load(folder / name)
                save_volume(folder / name, np.asarray(held.dataobj), where)

    return change


def unlink(row: int, column: str) -> Change:
    return lambda folder, rows: (folder / rows[row - 1][rows[0].index(column)]).unlink()


def flat_image(folder: Path, rows: Rows) -> None:
    save(folder / "slice.png", noise(1))
    rows[3][0] = "slice.png"


def flat_images(folder: Path, rows: Rows) -> None:
    """All rows but one become 2D images, of which some keep cells that are for volumes."""
    for i, row in enumerate(rows[1:]):
        if i != 2:
            row[0] = f"s{i}.png"
            save(folder / row[0], noise(i))
            row[2] = row[4] = row[5] = ""
            row[1] = ("tumor", "normal")[i % 2]
    rows[2][4], rows[4][5] = "t1c/v1.nii.gz", "brains/v1.nii.gz"


def drop(*columns: str) -> Change:
    def change(folder: Path, rows: Rows) -> None:
        rows[:] = without(rows, *columns)

    return change


def every(column: str, text: str) -> Change:
    return lambda folder, rows: [put(k, column, text)(folder, rows) for k in range(2, 8)] and None


def no_values(data: bytes) -> bytes:
    return gzip.compress(gzip.decompress(data)[:1000])


SPLIT = both(
    *(put(k, "split", s) for k, s in enumerate(("train", "train", "val", "val", "test"), 2))
)
OTHER = np.diag([1.0, 1.0, 3.0, 1.0])
NAN = volume(4)
NAN[3, 3, 3] = np.nan
SOFT = np.where(part() > 0, np.abs(volume(5)) / np.abs(volume(5)).max(), 0).astype(np.float32)

# change, configuration, kind, row, file, part of the message, part of the way out, severity
BAD: dict[str, tuple[Change, dict, str, int | None, str, str, str, str]] = {
    "image missing": (
        unlink(4, "image"), {}, "image-missing", 4, "flair/v2.nii.gz", "not exist", "flair",
        "error",
    ),
    "modality missing": (
        unlink(4, "image2"), {}, "image-missing", 4, "t1c/v2.nii.gz", "not exist", "t1c", "error",
    ),
    "roi missing": (
        unlink(4, "roi"), {}, "roi-missing", 4, "brains/v2.nii.gz", "not exist", "brains", "error",
    ),
    "mask missing": (
        unlink(4, "mask"), {}, "mask-missing", 4, "masks/v2.nii.gz", "not exist", "masks", "error",
    ),
    "image truncated": (
        content(4, "image", lambda d: d[:-900]), {}, "image-unreadable", 4, "flair/v2", "gzip",
        "copy", "error",
    ),
    "modality without its end": (
        content(4, "image2", no_values), {}, "image-unreadable", 4, "t1c/v2", "648 bytes", "copy",
        "error",
    ),
    "roi no volume": (
        content(4, "roi", lambda d: b"hello"), {}, "roi-unreadable", 4, "brains/v2", "not a NIfTI",
        "convert", "error",
    ),
    "mask is an LFS pointer": (
        content(4, "mask", lambda d: b"version https://git-lfs.github.com/spec/v1"), {},
        "mask-unreadable", 4, "masks/v2", "Git LFS", "git lfs pull", "error",
    ),
    "image empty": (
        content(4, "image", lambda d: b""), {}, "image-unreadable", 4, "flair/v2", "empty", "copy",
        "error",
    ),
    "nan": (
        write(4, "image2", NAN), {}, "image-unreadable", 4, "t1c/v2", "NaN", "replace", "error",
    ),
    "4D": (
        write(4, "image", volume(1, (*SHAPE, 2))), {}, "image-unreadable", 4, "flair/v2", "4D",
        "image2", "error",
    ),
    "image with few slices": (
        write(4, "image", volume(1, (10, 11, 7))), {}, "image-small", 4, "flair/v2", "10 × 11 × 7",
        "a column slice", "error",
    ),
    "mask of another shape": (
        write(4, "mask", part()[:-1]), {}, "mask-size", 4, "masks/v2",
        "flair/v2.nii.gz: 9 × 11 × 9 voxels, not 10 × 11 × 9", "own voxel grid", "error",
    ),
    "mask turned": (
        write(4, "mask", part(), OTHER), {}, "mask-grid", 4, "masks/v2", "axes towards R",
        "own voxel grid", "error",
    ),
    "modality of another shape": (
        write(4, "image2", volume(9)[1:]), {}, "image-size", 4, "t1c/v2", "9 × 11 × 9", "resample",
        "error",
    ),
    "modality of another spacing": (
        write(4, "image2", volume(9), np.diag([-1.0, 1, 2, 1])), {}, "image-grid", 4, "t1c/v2",
        "spacing of (1, 1, 2) mm, not (1, 1, 3) mm", "resample", "error",
    ),
    "roi shifted": (
        write(4, "roi", part(), WHERE + np.eye(4, k=3)), {}, "roi-grid", 4, "brains/v2",
        "origin of (1, 0, 0) mm", "own voxel grid", "error",
    ),
    "roi empty": (
        write(4, "roi", part(0)), {}, "roi-empty", 4, "brains/v2", "empty", "leave the column out",
        "error",
    ),
    "roi is the mask": (
        put(4, "roi", "masks/v2.nii.gz"), {}, "roi-is-mask", 4, "masks/v2", "file of the mask",
        "organ", "error",
    ),
    "mask outside of the roi": (
        write(4, "roi", part(at=7)), {}, "lesion-outside-roi", 4, "masks/v2",
        "100 % of the mask (27 of 27 voxels) lies outside the region of interest brains/v2.nii.gz",
        "correct", "error",
    ),
    "mask partly outside of the roi": (
        write(4, "roi", part(at=4)), {}, "lesion-outside-roi", 4, "masks/v2",
        "33.3 % of the mask (9 of 27 voxels)", "not sampled", "warning",
    ),
    "mask is a modality": (
        put(4, "mask", "t1c/v3.nii.gz"), {}, "mask-is-image", 4, "t1c/v3", "file of an image",
        "blank", "error",
    ),
    "lesion without mask": (
        write(4, "mask", part(0)), {}, "lesion-without-mask", 4, "masks/v2", "value 0", "correct",
        "error",
    ),
    "no listed value occurs": (
        write(4, "mask", part(4).astype(np.float32)), {"mask_rule": [1, 2]}, "lesion-without-mask",
        4, "masks/v2", "values 0, 4, and data.mask_rule is [1, 2]", "mask_rule", "error",
    ),
    "healthy with mask": (
        put(4, "label", "normal"), {}, "healthy-with-mask", 4, "masks/v2", "marks 27 voxels",
        "correct", "error",
    ),
    "half of floats above 1": (
        write(4, "mask", part(4).astype(np.float32)), {"mask_rule": "half"}, "mask-unreadable", 4,
        "masks/v2", "range is not known", "nonzero", "error",
    ),
    "soft mask": (
        write(4, "mask", SOFT), {}, "mask-soft", 4, "masks/v2", "soft edges", "half",
        "warning",
    ),
    "mask full": (
        write(4, "mask", np.ones(SHAPE, np.uint8)), {}, "mask-full", 4, "masks/v2", "100 %",
        "inverted", "warning",
    ),
    "constant": (
        write(4, "image2", np.full(SHAPE, 7, np.int16)), {}, "image-constant", 4, "t1c/v2",
        "every voxel of the volume is 7", "look", "warning",
    ),
    "image twice": (
        put(4, "image", "flair/v0.nii.gz"), {}, "image-twice", 4, "flair/v0", "row 2", "keep one",
        "error",
    ),
    "modality of another row": (
        put(4, "image2", "t1c/v0.nii.gz"), {}, "image-twice", 4, "t1c/v0", "row 2",
        "other modality", "error",
    ),
    "modality is the image": (
        put(4, "image2", "flair/v2.nii.gz"), {}, "image-twice", 4, "flair/v2", "this row",
        "other modality", "error",
    ),
    "modality is a copy of the image": (
        write(4, "image2", volume(2)), {}, "modality-twice", 4, "t1c/v2", "as flair/v2.nii.gz",
        "other modality", "warning",
    ),
    "copy of another patient": (
        copy(2, 5), {}, "duplicate-patient", 5, "flair/v3",
        "the volume is the same, voxel by voxel, as flair/v0.nii.gz in row 2", "delete", "error",
    ),
    "copy where patients are not known": (
        both(drop("patient"), copy(2, 5)), {}, "duplicate-patient", 5, "flair/v3",
        "a patient of its own", "`patient` column", "error",
    ),
    "copy of the same patient": (
        both(copy(2, 5), put(5, "patient", "p0")), {}, "duplicate", 5, "flair/v3", "row 2",
        "delete", "warning",
    ),
    "2D image among volumes": (
        flat_image, {}, "image-mixed", 4, "slice.png", "2D, while 5 other rows list volumes",
        "two manifests", "error",
    ),
    "volume among 2D images": (
        flat_images, {}, "image-mixed", 4, "flair/v2", "a volume, while 5 other rows list 2D",
        "two manifests", "error",
    ),
    "modality of a 2D image": (
        flat_images, {}, "column-for-volumes", 3, "t1c/v1", "'image2' is for volumes", "blank",
        "error",
    ),
    "roi of a 2D image": (
        flat_images, {}, "column-for-volumes", 5, "brains/v1", "'roi' is for volumes", "blank",
        "error",
    ),
    "gap in the modalities": (
        both(every("image3", ""), put(4, "image3", "t1c/v2.nii.gz"), put(4, "image2", "")), {},
        "modality-gap", 4, "flair/v2", "'image3' is filled, but not 'image2'", "without a gap",
        "error",
    ),
    "fewer modalities": (
        put(4, "image2", ""), {}, "modalities-differ", 4, "flair/v2", "the row fills image, "
        "and most others image, image2", "the same modalities", "error",
    ),
    "roi blank": (
        put(4, "roi", ""), {}, "roi-blank", 4, "flair/v2", "blank", "in every row", "error",
    ),
    "all healthy": (
        both(every("label", "normal"), drop("mask")), {}, "label-roles", None, "",
        "Every label is taken for healthy", "data.healthy_labels", "error",
    ),
    "few patients": (
        both(*(put(k, "patient", f"p{k % 2}") for k in range(2, 8))), {}, "class-few-patients",
        None, "", "'tumor' has 2 patients", "add patients", "error",
    ),
    "few volumes": (
        both(drop("patient"), lambda folder, rows: rows.__delitem__(slice(3, None))), {},
        "class-few-patients", None, "", "'tumor' has 2 volumes", "add patients", "error",
    ),
    "patient in two splits": (
        both(SPLIT, put(7, "split", "test"), put(7, "patient", "p0")), {}, "patient-in-two-splits",
        None, "", "'p0' is in train (row 2), test (row 7)", "one split", "error",
    ),
    "split blank": (SPLIT, {}, "split-blank", 7, "flair/v5", "blank", "train, val", "error"),
    "spacing mixed": (
        each_other_row(np.diag([-1.0, 1.0, 3.2, 1.0])), {}, "spacing-mixed", None, "",
        "3 of 1 × 1 × 3 mm, 3 of 1 × 1 × 3.2 mm; networks see voxels", "resample", "warning",
    ),
    "orientation mixed": (
        each_other_row(np.diag([1.0, 1.0, 3.0, 1.0])), {}, "orientation-mixed", None, "",
        "3 of LAS, 3 of RAS; networks see voxel axes", "one orientation", "warning",
    ),
    "mask without a place": (
        both(write(4, "mask", part(), np.eye(4)), write(6, "mask", part(), np.eye(4))), {},
        "mask-affine", None, "", "2 masks (the first in row 4) have another affine than their "
        "image, but its shape, and are taken to lie on its voxels: 2 tell no place",
        "look at one", "warning",
    ),
    "modality nearly in place": (
        write(4, "image2", volume(9), WHERE + 0.05 * np.eye(4, k=3)), {}, "image-affine", None, "",
        "1 further modalities (the first in row 4)", "look at one", "warning",
    ),
    "roi without a place": (
        write(4, "roi", np.ones(SHAPE, np.uint8), np.eye(4)), {}, "roi-affine", None, "",
        "1 regions of interest", "look at one", "warning",
    ),
    "spacing unknown": (
        both(*(drop(c) for c in ("mask", "roi", "image2")),
             *(write(k, "image", volume(k), np.eye(4)) for k in (3, 5))),
        {}, "spacing-unknown", None, "", "2 of 6 volumes (the first in row 3)", "affine",
        "warning",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_volumes_are_named_with_row_file_and_remedy(tmp_path, name, capsys):
    change, config, kind, row, file, says, fix, severity = BAD[name]
    rows = good_volumes(tmp_path)
    change(tmp_path, rows)
    problems = check(tmp_path, rows, DataConfig(**config))
    mine = [p for p in problems if p.kind == kind and p.row == row]
    assert len(mine) == 1, problems
    assert mine[0].severity == severity
    assert file in (mine[0].file or "")
    assert says in mine[0].message
    assert fix in mine[0].fix
    assert all(p.fix and p.message for p in problems)
    rule = config.get("mask_rule", "nonzero")
    rule = rule if isinstance(rule, str) else ",".join(map(str, rule))
    failed = any(p.severity == "error" for p in problems)
    code = weakseg("validate", tmp_path / "labels.csv", "--mask-rule", rule)
    assert code == (2 if failed else 0)
    out = capsys.readouterr().out
    assert says in out
    assert fix in out
    assert "Traceback" not in out


INVERTED = {
    "0 on 1": (1 - part(), "nonzero", ""),
    "dark on white": (255 - part(255), "nonzero", "dark"),
    "dark on white, read by half": (255 - part(255), "half", "dark"),
    "floats, 0 on 1": (1 - part().astype(np.float32), "nonzero", "dark"),
    "values 1 and 2": (1 + part(), "nonzero", "[2]"),
    "floats 1 and 2": (1 + part().astype(np.float32), "nonzero", "[2]"),
    "wrongly called dark": (part(255), "dark", "nonzero"),
}


@pytest.mark.parametrize("name", INVERTED)
def test_volumes_whose_masks_are_the_other_way_round_are_said_once(tmp_path, name):
    values, rule, way = INVERTED[name]
    rows = without(good_volumes(tmp_path), "roi", "image2")
    for k in range(2, 6):
        write(k, "mask", values)(tmp_path, rows)
    problems = check(tmp_path, rows, DataConfig(mask_rule=rule))
    (inverted,) = [p for p in problems if p.kind == "masks-inverted"]
    assert (inverted.row, inverted.file, inverted.severity) == (2, "masks/v0.nii.gz", "warning")
    counted = {"nonzero": "4 of 6", "half": "4 of 4", "dark": "6 of 6"}[rule]
    assert f"{counted} masks" in inverted.message
    whole = name.startswith(("values", "floats 1"))
    share = "100" if whole else f"{100 * (1 - part().mean()):.0f}"
    assert f"as this one ({share} % of the volume)" in inverted.message
    assert "all six of its borders" in inverted.message
    assert "mask-full" not in {p.kind for p in problems}
    assert "--pictures" in inverted.fix
    if not way:
        assert inverted.fix.endswith("save the masks the other way round")
        return
    assert inverted.fix.endswith(f"set data.mask_rule: {way}")
    meant = json.loads(way) if way.startswith("[") else way
    mask = read_volume_mask(tmp_path / "masks/v0.nii.gz", meant)
    np.testing.assert_array_equal(mask, part() > 0)


def test_volumes_whose_masks_touch_all_six_faces_are_said_though_they_are_small(tmp_path):
    rows = without(good_volumes(tmp_path), "roi")
    cross = np.zeros(SHAPE, dtype=np.uint8)
    cross[5, 5], cross[5, :, 5], cross[:, 5, 5] = 1, 1, 1
    for k in range(2, 8):
        write(k, "mask", cross)(tmp_path, rows)
    (problem,) = check(tmp_path, rows)
    assert (problem.kind, "6 of 6 masks" in problem.message) == ("masks-inverted", True)
    cross[5, 5, 0] = 0  # five faces
    for k in range(2, 8):
        write(k, "mask", cross)(tmp_path, rows)
    assert check(tmp_path, rows) == []


def test_one_volume_the_other_way_round_among_good_ones_is_named_by_its_row(tmp_path):
    rows = without(good_volumes(tmp_path), "roi")
    large = np.zeros(SHAPE, dtype=np.uint8)
    large[2:] = 1  # more than half, but a face is free
    write(5, "mask", large)(tmp_path, rows)
    assert check(tmp_path, rows) == []
    most = np.ones(SHAPE, dtype=np.uint8)
    most[1:-1, 2:6, 2:6] = 0
    write(4, "mask", most)(tmp_path, rows)
    (problem,) = check(tmp_path, rows)
    assert (problem.kind, problem.row, problem.file) == ("mask-full", 4, "masks/v2.nii.gz")
    assert "of the volume, and its border all round" in problem.message


def test_several_files_of_a_volumes_mask_are_judged_together(tmp_path):
    rows = without(good_volumes(tmp_path), "roi")
    halves = [np.zeros(SHAPE, dtype=np.uint8) for _ in range(2)]
    halves[0][:6], halves[1][5:] = 1, 1
    for k in range(2, 8):
        write(k, "mask", halves[0] - part(at=1))(tmp_path, rows)
        save_volume(tmp_path / f"more/v{k}.nii.gz", halves[1], WHERE)
        rows[k - 1][rows[0].index("mask")] += f";more/v{k}.nii.gz"
    (problem,) = check(tmp_path, rows)
    assert (problem.kind, problem.row) == ("masks-inverted", 2)
    assert problem.file == "masks/v0.nii.gz;more/v2.nii.gz"


def test_problems_of_all_files_come_at_once_and_sorted(tmp_path):
    rows = good_volumes(tmp_path)
    for change in (
        unlink(3, "image"),
        unlink(3, "roi"),
        write(5, "mask", part(0)),
        content(4, "image2", lambda d: b""),
        put(7, "patient", ""),
        write(6, "image", volume(50), OTHER),
    ):
        change(tmp_path, rows)
    assert [(p.row, p.kind) for p in check(tmp_path, rows)] == [
        (None, "orientation-mixed"),
        (3, "image-missing"),
        (3, "roi-missing"),
        (4, "image-unreadable"),
        (5, "lesion-without-mask"),
        (6, "image-grid"),
        (6, "roi-grid"),
        (6, "mask-grid"),
        (7, "patient-blank"),
    ]


def test_a_mixture_is_refused_by_reading_too(tmp_path):
    rows = good_volumes(tmp_path)
    flat_image(tmp_path, rows)
    with pytest.raises(DataError, match="row 4: the image is 2D, while 5 other rows list volumes"):
        read_manifest(write_rows(tmp_path, rows), DATA)


def test_a_slice_that_is_a_volume_points_to_manifests_of_volumes(tmp_path):
    rows = [["image", "label"], ["a.png", "tumor"], ["b.png", "normal"]]
    for name in ("a", "b"):
        save_volume(tmp_path / f"{name}.nii", volume(0)).rename(tmp_path / f"{name}.png")
    (problem, _) = [p for p in check(tmp_path, rows) if p.kind == "image-unreadable"]
    assert "NIfTI volume" in problem.message
    assert "manifest of volumes" in problem.fix


# Real data


def test_brats_is_clean_with_two_modalities_and_brains(shared, tmp_path):
    folder = present(shared / "data/brats2013_3d_2mm")
    assert check_manifest(folder / "labels.csv", DATA) == []
    rows = [["image", "image2", "label", "mask", "roi"]]
    for k in range(1, 7):
        name = f"{folder}/{{}}/brats_2013_pat000{k}_1_{{}}.nii.gz"
        files = [name.format("images", m) for m in ("flair", "t1c")]
        rows.append(
            [*files, "tumor", name.format("labels", "seg"), name.format("brainmasks", "brain")]
        )
    problems = check(tmp_path, rows)
    assert {(p.kind, p.severity) for p in problems} <= {("lesion-outside-roi", "warning")}
    found = read_manifest(tmp_path / "labels.csv", DATA)
    splits = Counter(c.split for c in make_splits(found.cases, found.labels, SplitConfig()))
    assert splits == {"train": 4, "val": 1, "test": 1}


@pytest.mark.thorough
def test_glioma_stacks_are_clean_but_for_their_spacing(shared):
    path = present(shared / "data/lgg_flair3d_dev/labels.csv")
    (problem,) = check_manifest(path, DATA)
    assert problem.kind == "spacing-unknown"
    assert "81 of 81" in problem.message
    assert weakseg("validate", path) == 0
