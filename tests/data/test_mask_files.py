"""Masks of several files, whose union is the truth wherever it is read; and what paths mean."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from tests.data.helpers import blob, good_rows, noise, save, save_volume, write_rows
from tests.report.fake_run import make_run
from weakseg.config import DataConfig
from weakseg.data.cases import Case, Labels
from weakseg.data.check import check_manifest
from weakseg.data.fingerprint import data_fingerprint
from weakseg.data.images import read_image
from weakseg.data.manifest import read_manifest, read_table
from weakseg.data.truth import read_true_mask
from weakseg.errors import DataError
from weakseg.filtering.sources import TruthMasks
from weakseg.methods.cases import read_truth
from weakseg.report.read import read_runs
from weakseg.report.sections.ablation import _contrasts, lesion_contrast
from weakseg.training.segmentation_cases import SegmentationCases

DATA = DataConfig()
LABELS = Labels(("normal",), ("tumor",))
SHAPE = (16, 20)


def box(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[rows, columns] = True
    return mask


A, B = box(slice(2, 6), slice(3, 9)), box(slice(5, 12), slice(8, 15))


def save_mask(path: Path, mask: np.ndarray) -> Path:
    return save(path, (mask * 255).astype(np.uint8))


def of_two(folder: Path) -> Path:
    """A good set whose first mask is two files."""
    rows = good_rows(folder)
    save_mask(folder / "masks/s0.png", A)
    save_mask(folder / "masks/s0_1.png", B)
    rows[1][2] = "masks/s0.png;masks/s0_1.png"
    return write_rows(folder, rows)


def case_of_two(folder: Path) -> Case:
    return read_manifest(of_two(folder), DATA).cases[0]


def test_a_mask_of_two_files_is_their_union_in_scores_and_in_training(tmp_path):
    case = case_of_two(tmp_path)
    assert case.mask == (tmp_path / "masks/s0.png", tmp_path / "masks/s0_1.png")
    np.testing.assert_array_equal(read_truth(case, SHAPE, False, DATA), A | B)
    seen = SegmentationCases([case], LABELS, DATA, 1, "unit", 20).arrays(0)
    np.testing.assert_array_equal(seen.truth[2:18], A | B)  # 16 rows in a square of 20
    assert seen.truth.sum() == (A | B).sum()


def test_filters_of_true_masks_and_the_report_read_the_union(tmp_path):
    case = case_of_two(tmp_path)
    prepared = namedtuple("P", "config cases")(
        namedtuple("C", "data")(DataConfig(image_size=32)),
        namedtuple("S", "cases labels")((Case(**{**vars(case), "split": "train"}),), LABELS),
    )
    both = truth_of(prepared)
    halves = [truth_of(with_mask(prepared, part)) for part in case.mask]
    np.testing.assert_array_equal(both, halves[0] | halves[1])
    assert halves[0].sum() < both.sum()


def truth_of(prepared):
    return TruthMasks(prepared.cases, prepared.config.data, seed=0).truth(0)


def with_mask(prepared, part):
    (case,) = prepared.cases.cases
    alone = prepared.cases._replace(cases=(Case(**{**vars(case), "mask": part}),))
    return prepared._replace(cases=alone)


def test_the_report_reads_the_union(tmp_path):
    folder = make_run(tmp_path / "run", patients=4, seeds=(0,))
    data = tmp_path / "run-data"
    (run,) = read_runs([folder])
    image, case = run.splits["image"][0], run.splits["case"][0]
    truth = run.cases[case].mask
    more = np.zeros((24, 20), dtype=bool)
    more[1:4, 1:4] = True
    save_mask(data / "second.png", more)
    manifest = data / "labels.csv"
    manifest.write_text(manifest.read_text().replace(str(truth), f"{truth};{data / 'second.png'}"))
    (run,) = read_runs([folder])
    assert run.cases[case].mask == (truth, data / "second.png")
    both = read_true_mask(truth) | more
    expected = lesion_contrast(read_image(Path(image)), both)
    assert _contrasts(run, [case])[case] == pytest.approx(expected)


def test_two_volumes_of_a_mask_are_their_union(tmp_path):
    rng = np.random.default_rng(0)
    inside = [rng.integers(0, 2, (5, 6, 7)).astype(np.uint8) for _ in range(2)]
    parts = [np.pad(values, 2) for values in inside]
    paths = tuple(save_volume(tmp_path / f"m{k}.nii.gz", v) for k, v in enumerate(parts))
    expected = (parts[0] | parts[1]).astype(bool)
    np.testing.assert_array_equal(read_true_mask(paths, image=paths[0]), expected)
    rows = [["image", "label", "mask"]]
    for k in range(6):
        save_volume(tmp_path / f"v{k}.nii.gz", rng.normal(size=(9, 10, 11)).astype(np.float32))
        save_volume(tmp_path / f"own{k}.nii.gz", parts[0])
        rows.append([f"v{k}.nii.gz", "tumor", f"own{k}.nii.gz"])
    rows[1][2] = "m0.nii.gz; m1.nii.gz"
    path = write_rows(tmp_path, rows)
    assert check_manifest(path, DATA) == []
    assert read_manifest(path, DATA).cases[0].mask == paths
    save_volume(tmp_path / "m1.nii.gz", np.zeros((9, 10, 12), dtype=np.uint8))
    (problem,) = check_manifest(path, DATA)
    assert (problem.kind, problem.row, problem.file) == ("mask-size", 2, "m1.nii.gz")


def test_masks_of_different_sizes_are_not_joined(tmp_path):
    paths = (
        save_mask(tmp_path / "a.png", A),
        save(tmp_path / "b.png", np.zeros((9, 20), np.uint8)),
    )
    with pytest.raises(DataError, match="different sizes") as e:
        read_true_mask(paths)
    assert "b.png beside" in e.value.where
    assert e.value.found == "9 × 20 and 16 × 20"


def test_the_rule_counts_in_each_file(tmp_path):
    a = save(tmp_path / "a.png", blob(value=1))
    b = save(tmp_path / "b.png", np.roll(blob(value=2), 4, axis=0))
    np.testing.assert_array_equal(read_true_mask((a, b), [2]), np.roll(blob(), 4, axis=0) > 0)


def test_the_check_looks_into_every_file_of_a_mask(tmp_path):
    path = of_two(tmp_path)
    assert check_manifest(path, DATA) == []
    save(tmp_path / "masks/s0_1.png", blob((20, 16)))
    (problem,) = check_manifest(path, DATA)
    assert (problem.kind, problem.row, problem.file) == ("mask-size", 2, "masks/s0_1.png")
    (tmp_path / "masks/s0_1.png").unlink()
    (problem,) = check_manifest(path, DATA)
    assert (problem.kind, problem.row, problem.file) == ("mask-missing", 2, "masks/s0_1.png")
    save(tmp_path / "masks/s0_1.png", blob(value=0))
    save(tmp_path / "masks/s0.png", blob(value=0))
    (problem,) = check_manifest(path, DATA)
    assert (problem.kind, problem.row) == ("lesion-without-mask", 2)


def test_a_mask_may_be_empty_in_one_of_its_files(tmp_path):
    path = of_two(tmp_path)
    save(tmp_path / "masks/s0_1.png", blob(value=0))
    assert check_manifest(path, DATA) == []


def test_an_image_among_the_files_of_a_mask_is_an_error(tmp_path):
    path = of_two(tmp_path)
    path.write_text(path.read_text().replace("masks/s0_1.png", "images/s2.png"))
    (tmp_path / "masks/s0_1.png").unlink()
    (problem,) = check_manifest(path, DATA)
    assert (problem.kind, problem.row) == ("mask-is-image", 2)


def test_the_fingerprint_sees_every_file_of_a_mask(tmp_path):
    path = of_two(tmp_path)
    before = data_fingerprint(path)
    save_mask(tmp_path / "masks/s0_1.png", A)
    assert data_fingerprint(path) != before


@pytest.mark.parametrize(
    ("cell", "there", "files"),
    [
        ("a.png", ["a.png"], ["a.png"]),
        ("", [], []),
        ("a.png;b.png", ["a.png", "b.png"], ["a.png", "b.png"]),
        (" a.png ; b.png ;", ["a.png", "b.png"], ["a.png", "b.png"]),
        ("a.png;a.png", ["a.png"], ["a.png"]),
        (";", [], []),
        ("a.png;b.png", [], ["a.png", "b.png"]),
        ("a;b.png", ["a;b.png"], ["a;b.png"]),
        ("a;b.png;c.png", ["a;b.png", "c.png"], ["a;b.png", "c.png"]),
        ("c.png;a;b.png", ["a;b.png", "c.png"], ["c.png", "a;b.png"]),
        ("a;b;c.png", ["a;b;c.png", "b", "a"], ["a;b;c.png"]),
        ("a.png;b.png", ["a.png;b.png", "a.png", "b.png"], ["a.png;b.png"]),
    ],
)
def test_a_name_that_holds_the_sign_is_one_file(tmp_path, cell, there, files):
    for name in there:
        (tmp_path / name).write_bytes(b"")
    rows = [["image", "label", "mask"], ["x.png", "tumor", cell]]
    table = read_table(write_rows(tmp_path, rows))
    assert list(table.masks(table.rows[0])) == files
    assert list(table.files(table.rows[0])) == ["x.png", *files]


def test_in_a_table_with_semicolons_the_cell_is_quoted(tmp_path):
    rows = [["image", "label", "mask"], ["x.png", "tumor", "a.png;b.png"]]
    table = read_table(write_rows(tmp_path, rows, delimiter=";"))
    assert table.masks(table.rows[0]) == ("a.png", "b.png")


def test_two_rows_of_an_image_with_two_masks_are_to_be_joined(tmp_path):
    rows = good_rows(tmp_path)
    save_mask(tmp_path / "masks/x.png", B)
    save_mask(tmp_path / "masks/y.png", B)
    rows += [[rows[1][0], "tumor", f"masks/{name}.png", "p0"] for name in "xy"]
    problems = check_manifest(write_rows(tmp_path, rows), DATA)
    assert [(p.kind, p.row) for p in problems] == [("image-twice", 10), ("image-twice", 11)]
    for p in problems:
        assert "join them: `masks/s0.png;masks/x.png;masks/y.png`" in p.fix
    rows[1][2] = "masks/s0.png;masks/x.png;masks/y.png"
    assert check_manifest(write_rows(tmp_path, rows[:9]), DATA) == []


def test_a_copy_of_an_image_with_another_mask_is_to_be_joined(tmp_path):
    rows = good_rows(tmp_path)
    (tmp_path / "images/copy.png").write_bytes((tmp_path / rows[1][0]).read_bytes())
    save_mask(tmp_path / "masks/x.png", B)
    rows.append(["images/copy.png", "tumor", "masks/x.png", "p0"])
    (problem,) = check_manifest(write_rows(tmp_path, rows), DATA)
    assert (problem.kind, problem.severity) == ("duplicate", "warning")
    assert "join them: `masks/s0.png;masks/x.png`" in problem.fix


def test_the_same_image_with_the_same_mask_is_not_to_be_joined(tmp_path):
    rows = good_rows(tmp_path)
    rows.append([rows[1][0], "tumor", f"masks/../{rows[1][2]}", "p0"])
    (problem,) = check_manifest(write_rows(tmp_path, rows), DATA)
    assert (problem.kind, problem.fix) == ("image-twice", "keep one of the two rows")


@pytest.mark.parametrize("name", ["s0_1.png", "s0-2.png", "s0_01.png"])
def test_a_numbered_mask_that_no_row_names_is_told(tmp_path, name):
    rows = good_rows(tmp_path)
    save_mask(tmp_path / "masks" / name, B)
    (problem,) = check_manifest(write_rows(tmp_path, rows), DATA)
    assert (problem.kind, problem.row, problem.severity) == ("mask-left-out", 2, "warning")
    assert f"masks/{name}, which no row names" in problem.message
    assert f"`masks/s0.png;masks/{name}`" in problem.fix
    rows[1][2] = f"masks/s0.png;masks/{name}"
    assert check_manifest(write_rows(tmp_path, rows), DATA) == []


@pytest.mark.parametrize("name", ["s0_1.jpg", "s01.png", "s0_123.png", "s9_1.png", "s0_b.png"])
def test_other_files_beside_a_mask_are_not_told(tmp_path, name):
    rows = good_rows(tmp_path)
    (tmp_path / "masks" / name).write_bytes(b"x")
    assert check_manifest(write_rows(tmp_path, rows), DATA) == []


def test_a_numbered_mask_of_another_row_is_not_told(tmp_path):
    rows = good_rows(tmp_path)
    (tmp_path / "masks/s2.png").rename(tmp_path / "masks/s0_1.png")
    rows[3][2] = "masks/s0_1.png"
    assert check_manifest(write_rows(tmp_path, rows), DATA) == []


# Paths


@pytest.fixture
def linked(tmp_path):
    """A manifest in a folder that is a link; ``..`` is above its target, not above the link."""
    project = tmp_path / "disk/project"
    (project / "lists").mkdir(parents=True)
    (tmp_path / "lists").symlink_to(project / "lists")
    save(project / "img/a.png", noise(1))
    save(tmp_path / "img/a.png", noise(2))
    return tmp_path


def test_dots_behind_a_link_mean_the_folder_above_its_target(linked):
    rows = [["image", "label"], ["../img/a.png", "tumor"]]
    write_rows(linked / "disk/project/lists", rows)
    table = read_table(linked / "lists/labels.csv")
    path = table.resolve("../img/a.png")
    assert path == linked / "disk/project/img/a.png"
    assert path.read_bytes() == (linked / "lists/../img/a.png").read_bytes()
    assert table.real("../img/a.png") == str(path)


@pytest.mark.parametrize(
    "cell", ["lists/../img/a.png", "./lists/.././img//a.png", "disk/../lists/../img/a.png"]
)
def test_dots_in_the_middle_of_a_cell_follow_links_too(linked, cell):
    table = read_table(write_rows(linked, [["image", "label"], [cell, "tumor"]]))
    assert table.resolve(cell) == linked / "disk/project/img/a.png"
    assert table.resolve(str(linked / cell)) == linked / "disk/project/img/a.png"


def test_without_a_link_dots_are_folded_and_names_stay_as_written(linked):
    rows = [["image", "label"], ["../img/a.png", "tumor"]]
    table = read_table(write_rows(linked / "disk/project/lists", rows))
    assert table.resolve("../img/a.png") == linked / "disk/project/img/a.png"
    (linked / "alias").symlink_to(linked / "disk")
    table = read_table(linked / "alias/project/lists/labels.csv")
    assert table.resolve("../img/a.png") == linked / "alias/project/img/a.png"
    assert table.resolve("../no/b.png") == linked / "alias/project/no/b.png"


def test_a_manifest_reached_through_dots_behind_a_link(linked):
    write_rows(linked / "disk/project", [["image", "label"], ["img/a.png", "tumor"]])
    table = read_table(linked / "lists/../labels.csv")
    assert (
        table.resolve("img/a.png").read_bytes() == (linked / "disk/project/img/a.png").read_bytes()
    )
