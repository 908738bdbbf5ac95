"""Slices whose labels stand in a second table."""

import shutil

import numpy as np
import pytest

from tests.data.helpers import save_volume
from tests.tiny import write_manifest
from weakseg.config import DataConfig, load_config
from weakseg.data.check import check_manifest
from weakseg.data.fingerprint import data_fingerprint
from weakseg.data.manifest import read_configured, read_manifest
from weakseg.errors import ConfigError, DataError

DATA = DataConfig(manifest="volumes.csv", slice_labels="labels/slices.csv")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        save_volume(tmp_path / f"{name}.nii.gz", rng.integers(0, 99, (32, 33, 3)).astype(np.int16))
        save_volume(tmp_path / f"{name}-mask.nii.gz", np.ones((32, 33, 3), np.uint8))
    (tmp_path / "labels").mkdir()
    shutil.copy(tmp_path / "a-mask.nii.gz", tmp_path / "labels/own.nii.gz")
    rows = [("a.nii.gz", "P1", "train", "a-mask.nii.gz"), ("b.nii.gz", "P2", "test", "")]
    write_manifest(tmp_path / "volumes.csv", rows, ("image", "patient", "split", "mask"))
    rows = [
        ("../b.nii.gz", "2", "tumor", "own.nii.gz"),
        ("../a.nii.gz", "0", "normal", ""),
        ("../a.nii.gz", "1", "tumor", ""),
    ]
    write_manifest(tmp_path / "labels/slices.csv", rows, ("image", "slice", "label", "mask"))
    return tmp_path


def test_slices_get_patient_split_and_mask_of_their_volume(folder):
    cases = read_manifest(folder / "volumes.csv", DATA).cases
    found = [(c.id, c.label, c.patient, c.split, c.mask, c.row) for c in cases]
    assert found == [
        ("b_s002", "tumor", "P2", "test", folder / "labels/own.nii.gz", 2),
        ("a_s000", "normal", "P1", "train", folder / "a-mask.nii.gz", 3),
        ("a_s001", "tumor", "P1", "train", folder / "a-mask.nii.gz", 4),
    ]
    problems = check_manifest(folder / "volumes.csv", DATA)
    # As of one table: a mask on a slice that is said to be healthy, told of with its row.
    assert [p.row for p in problems if p.kind == "healthy-with-mask"] == [3]


def test_a_changed_label_is_other_data(folder):
    before = data_fingerprint(folder / "volumes.csv", DATA)
    labels = folder / "labels/slices.csv"
    labels.write_text(labels.read_text().replace("a.nii.gz,1,tumor", "a.nii.gz,1,normal"))
    assert data_fingerprint(folder / "volumes.csv", DATA) != before


def test_slices_of_volumes_that_nobody_lists_are_refused(folder):
    labels = folder / "labels/slices.csv"
    labels.write_text(labels.read_text() + "../c.nii.gz,0,tumor,\n")
    with pytest.raises(DataError, match="does not list") as e:
        read_manifest(folder / "volumes.csv", DATA)
    assert e.value.where == str(labels)
    assert "row 5: ../c.nii.gz" in e.value.found


def test_slices_are_labelled_in_one_place(folder):
    other = DATA.model_copy(update={"slice_labels": "slices.csv"})
    with pytest.raises(DataError, match="labelled twice"):
        read_manifest(folder / "labels/slices.csv", other)
    table = folder / "volumes.csv"
    table.write_text(table.read_text() + "a.nii.gz,P9,train,\n")
    with pytest.raises(DataError, match="listed twice"):
        read_manifest(table, DATA)


def test_the_phantom_has_no_second_table(tmp_path):
    (tmp_path / "c.yaml").write_text("data: {slice_labels: slices.csv}")
    with pytest.raises(ConfigError, match="phantom brings its own"):
        load_config(tmp_path / "c.yaml")


@pytest.mark.parametrize("slices", [True, False])
def test_several_columns_of_patients_are_refused_with_slice_labels_too(tmp_path, slices):
    """Two scans of a patient must not fall on two sides."""
    head = ["image", "patient_id", "subject"] + ([] if slices else ["label"])
    rows = [[f"v{k}.nii.gz", "p1", "s1"] + ([] if slices else ["tumor"]) for k in (1, 2)]
    path = tmp_path / "volumes.csv"
    path.write_text("\n".join(",".join(r) for r in [head, *rows]) + "\n")
    (tmp_path / "slices.csv").write_text("image,slice,label\nv1.nii.gz,0,tumor\n")
    data = DATA.model_copy(update={"slice_labels": "slices.csv" if slices else None})
    with pytest.raises(DataError, match="patient") as e:
        read_configured(path, data)
    assert "patient_id" in str(e.value)
    assert "subject" in str(e.value)
