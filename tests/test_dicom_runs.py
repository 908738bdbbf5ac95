"""Runs on DICOM from end to end: what is made lies on the series, and tells nobody who it is of."""

from __future__ import annotations

import csv
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813  (its usual name)

from tests import dicom_files as made
from tests.dicom_files import TELLING, save, save_series, slices, voxels
from tests.tiny import weakseg, write_config, write_manifest
from weakseg.data.cases import Case
from weakseg.data.formats.dicom.segmentation import write_segmentation
from weakseg.data.formats.reading import read_frame
from weakseg.data.formats.writing import write_mask
from weakseg.data.slices import slice_image
from weakseg.errors import DataError
from weakseg.predicting.slices import slices_of

PICTURES = """
name: pictures
data: {{manifest: {manifest}, image_size: 32}}
classifier: {{arch: squeezenet1_1, epochs: 1, batch_size: 8, seeds: [0]}}
heatmap: {{layer: features.7}}
scores: {{bootstrap: 100, floors: false}}
report: {{gallery: 1}}
"""
SERIES = """
name: series
data: {{manifest: {manifest}}}
classifier: {{seeds: [0]}}
scores: {{bootstrap: 100}}
report: {{gallery: 1}}
segmenters:
  dm: {{arch: deepmedic, epochs: 1, steps: 2, batch_size: 2, tile: 12}}
"""
OBLIQUE = (0.96, 0.28, 0, -0.168, 0.576, 0.8)


def body(seed: int, lesion: bool) -> np.ndarray:
    """(slices, rows, columns) noise, with a bright ball where there is a lesion."""
    z, y, x = np.indices((9, 20, 18))
    ball = ((z - 4) * 2) ** 2 + (y - 9) ** 2 + (x - 8) ** 2 < 20
    noise = np.random.default_rng(seed).integers(0, 300, ball.shape)
    return (noise + 900 * (ball & lesion)).astype(np.int16)


def telling_in(folder: Path, but: str = "\0") -> list[tuple[str, str]]:
    """What of a folder's files tells who, packed or not; files that end so are left out."""
    found = []
    for file in (f for f in folder.rglob("*") if f.is_file() and not f.name.endswith(but)):
        content = file.read_bytes()
        if file.name.endswith(".gz"):
            content += nib.load(file).to_bytes()
        name = str(file.relative_to(folder))
        found += [(name, w) for w in TELLING if w.encode() in content or w in name]
    return found


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> Path:
    """A run on series, whose folders have harmless names."""
    folder = tmp_path_factory.mktemp("series")
    rows = []
    for k, split in enumerate(("train", "train", "val", "test")):
        values = body(k, True)
        series = slices(values, series=k, orientation=OBLIQUE, step=1.6)
        save_series(folder / "data" / f"s{k}", series, "{:03}")
        mask = folder / "data" / f"s{k}_mask.nii.gz"
        write_mask(mask, (values > 800).transpose(2, 1, 0), folder / "data" / f"s{k}")
        rows.append((f"s{k}", "tumor", mask.name, f"P{k}", split))
    header = ("image", "label", "mask", "patient", "split")
    manifest = write_manifest(folder / "data" / "labels.csv", rows, header)
    config = write_config(folder, manifest, SERIES)
    assert weakseg("compare", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    return folder


def test_a_run_on_series_tells_nobody_who_they_are_of(volumes):
    assert (volumes / "run" / "report" / "index.html").exists()
    assert len(list(volumes.glob("run/masks/dm/seed-0/*.nii.gz"))) == 1
    assert telling_in(volumes / "run") == []


@pytest.fixture(scope="module")
def predicted(volumes, tmp_path_factory) -> tuple[Path, Path, str]:
    """Masks of a series in a folder that is called as an archive calls it, and what was said."""
    root = tmp_path_factory.mktemp("predict")
    series = root / f"{made.NAME}_{made.PATIENT}" / f"{made.ROOT}.2.8"
    save_series(series, slices(body(8, True), series=8, orientation=OBLIQUE, step=1.6), "{:03}")
    patch = pytest.MonkeyPatch()
    patch.setenv("WEAKSEG_DICOM_KEY", str(root / "key"))
    out = root / "out"
    arguments = ("predict", volumes / "run", root, "--out", out, "--dicom-seg", "--heatmaps")
    assert weakseg(*arguments, "--device", "cpu") == 0
    patch.undo()
    return series, out, ""


def test_a_prediction_tells_nobody_who_it_is_of_but_for_the_segmentation(predicted, volumes, capfd):
    _, out, _ = predicted
    names = {f.name for f in out.rglob("*.*")}
    assert {"predictions.csv", "lesions.csv"} < names
    assert len(names) == 4  # the heatmap has its mask's name
    assert telling_in(out, but=".seg.dcm") == []
    row = pd.read_csv(out / "predictions.csv").iloc[0]
    assert row["lesion_ml"] >= 0
    assert (out / row["mask"]).exists()
    assert Path(row["file"]).name + ".nii.gz" == row["mask"]


def test_masks_and_heatmaps_lie_on_the_series_as_simpleitk_reads_it(predicted):
    series, out, _ = predicted
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series)))
    image = reader.Execute()
    for file in (*out.glob("*.nii.gz"), *out.glob("heatmaps/*.nii.gz")):
        mask = sitk.ReadImage(str(file))
        assert mask.GetSize() == image.GetSize()
        for corner in np.ndindex(2, 2, 2):
            index = [int(c * (n - 1)) for c, n in zip(corner, image.GetSize(), strict=True)]
            np.testing.assert_allclose(
                mask.TransformIndexToPhysicalPoint(index),
                image.TransformIndexToPhysicalPoint(index),
                atol=1e-3,
            )


def in_patient(seg: hd.seg.Segmentation) -> dict[tuple[float, ...], np.ndarray]:
    """Position of each frame of a segmentation → its marks."""
    planes = {}
    for frame, marks in zip(
        seg.PerFrameFunctionalGroupsSequence, np.atleast_3d(seg.pixel_array), strict=True
    ):
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        planes[tuple(round(float(v), 3) for v in position)] = marks
    return planes


def test_the_segmentation_lies_on_its_series_as_highdicom_reads_it(predicted):
    series, out, _ = predicted
    (file,) = out.glob("*.seg.dcm")
    seg = hd.seg.segread(file)
    mask = nib.load(next(out.glob("*.nii.gz"))).get_fdata() > 0
    files = [pydicom.dcmread(f) for f in series.iterdir()]
    assert seg.SeriesInstanceUID != files[0].SeriesInstanceUID
    assert seg.StudyInstanceUID == files[0].StudyInstanceUID
    assert seg.FrameOfReferenceUID == files[0].FrameOfReferenceUID
    volume = seg.get_volume(combine_segments=True) if mask.any() else None
    if volume is not None:
        marked = np.argwhere(volume.array)
        place = volume.map_indices_to_reference(marked)
        affine = np.diag([-1, -1, 1, 1]) @ read_frame(series).affine
        own = np.argwhere(mask)
        expected = own @ affine[:3, :3].T + affine[:3, 3]
        order = [np.lexsort(np.round(p, 2).T) for p in (place, expected)]
        np.testing.assert_allclose(place[order[0]], expected[order[1]], atol=1e-3)


@pytest.mark.parametrize("kind", ["series", "enhanced", "empty"])
def test_segmentations_mark_what_the_mask_marks_slice_by_slice(tmp_path, kind):
    if kind == "enhanced":
        data = made.enhanced(voxels(7))
        data.ContentQualification = "RESEARCH"
        image = save(tmp_path / "frames.dcm", data)
    else:
        image = save_series(tmp_path / "s", slices(voxels(7), orientation=OBLIQUE), "{}")
    frame = read_frame(image)
    mask = np.zeros(frame.shape, bool)
    if kind != "empty":
        mask[2:6, 3:9, 1:4] = True
        mask[7, 10, 5] = True  # without any symmetry
    write_segmentation(tmp_path / "a.seg.dcm", mask, image, "test")
    seg = hd.seg.segread(tmp_path / "a.seg.dcm")
    planes = in_patient(seg)
    affine = np.diag([-1, -1, 1, 1]) @ frame.affine
    for k in range(frame.shape[2]):
        position = tuple((affine @ [0, 0, k, 1])[:3].round(3).tolist())
        np.testing.assert_array_equal(planes.pop(position).astype(bool), mask[:, :, k].T)
    assert planes == {}
    itk = sitk.ReadImage(str(tmp_path / "a.seg.dcm"))
    marked = np.argwhere(sitk.GetArrayFromImage(itk).T > 0)
    points = [itk.TransformIndexToPhysicalPoint(index.tolist()) for index in marked]
    np.testing.assert_array_equal(len(points), mask.sum())
    expected = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    if kind != "empty":
        found = np.array(points)
        order = [np.lexsort(p.round(2).T) for p in (found, expected)]
        np.testing.assert_allclose(found[order[0]], expected[order[1]], atol=1e-3)


def test_the_same_mask_is_the_same_object(tmp_path):
    image = save_series(tmp_path / "s", slices(voxels(7)))
    uids = []
    for value in (True, True, False):
        mask = np.zeros(read_frame(image).shape, bool)
        mask[3, 4, 5] = value
        write_segmentation(tmp_path / "a.seg.dcm", mask, image, "test")
        uids.append(pydicom.dcmread(tmp_path / "a.seg.dcm").SOPInstanceUID)
    assert uids[0] == uids[1] != uids[2]


def test_a_slice_that_is_not_there_is_named_and_not_whose_it_is(tmp_path):
    folder = save_series(tmp_path / "Zimmermannova Ottilie" / "T1", slices(voxels()))
    volume = Case("one", folder, "")
    asked = (
        lambda: slice_image(folder, 9, "auto"),
        lambda: slices_of(volume, {folder.resolve(): [9]}),
    )
    for ask in asked:
        with pytest.raises(DataError, match="no such slice") as e:
            ask()
        assert "T1" in str(e.value)
        assert not [w for w in TELLING if w in str(e.value)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A run on single slices of DICOM."""
    folder = tmp_path_factory.mktemp("slices")
    rows = []
    for k in range(12):
        lesion = k % 2 == 0
        data = slices(body(k, lesion), series=k)[4]
        data.WindowCenter, data.WindowWidth = 600, 1300
        save(folder / "data" / f"i{k}.dcm", data)
        mask = (body(k, lesion)[4] > 800).astype(bool)
        write_mask(folder / "data" / f"m{k}.png", mask)
        label = "tumor" if lesion else "normal"
        rows.append((f"i{k}.dcm", label, f"m{k}.png", f"P{k}"))
    manifest = write_manifest(folder / "data" / "labels.csv", rows)
    config = write_config(folder, manifest, PICTURES)
    assert weakseg("compare", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    return folder


@pytest.mark.slow
def test_a_run_on_slices_tells_nobody_who_they_are_of(pictures):
    assert len(list(pictures.glob("run/masks/**/*.png"))) > 0
    assert telling_in(pictures / "run") == []


@pytest.mark.slow
def test_new_slices_get_masks_and_segmentations_and_reports_are_left_out(
    pictures, tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv("WEAKSEG_DICOM_KEY", str(tmp_path / "key"))
    new = tmp_path / "new"
    save(new / f"{made.ROOT}.4.1", slices(body(20, True))[4])
    save(new / "plain.dcm", slices(body(21, True))[4])
    save(new / "report", made.header(made.SR))
    arguments = ("predict", pictures / "run", new, "--out", tmp_path / "out", "--overlays")
    assert weakseg(*arguments, "--dicom-seg", "--device", "cpu") == 0
    said = capfd.readouterr().err
    assert "1 that hold no image: a structured report" in said
    assert "the paths of 1 of 2 inputs tell who a patient is" in said
    assert not [w for w in TELLING if w in said]
    assert telling_in(tmp_path / "out", but=".seg.dcm") == []
    with (tmp_path / "out" / "predictions.csv").open() as f:
        names = [r["mask"] for r in csv.DictReader(f)]
    assert len(names) == 2
    assert "plain.png" in names
    assert len(hd.seg.segread(tmp_path / "out" / "plain.seg.dcm").pixel_array.shape) == 2


def test_manifests_whose_paths_tell_who_are_refused_without_telling(tmp_path, capsys):
    rows = []
    for k in range(4):
        name = f"{made.NAME}-{k}" if k == 1 else f"i{k}.dcm"
        save(tmp_path / name, slices(body(k, True), series=k)[4])
        rows.append((name, "tumor", "", made.PATIENT if k == 2 else f"P{k}"))
    manifest = write_manifest(tmp_path / "labels.csv", rows)
    assert weakseg("validate", manifest) == 2
    said = "".join(capsys.readouterr())
    assert "names-patient: 2 errors" in said
    assert "the column 'patient' holds" in said
    assert "weakseg import dicom" in said
    assert not [w for w in TELLING if w in said]


def test_changed_files_of_a_series_are_noticed(volumes, tmp_path):
    from weakseg.data.fingerprint import data_fingerprint

    series = save_series(tmp_path / "s", slices(voxels()))
    manifest = write_manifest(tmp_path / "labels.csv", [("s", "a", "", "P")])
    first = data_fingerprint(manifest)
    file = series / "03.dcm"
    file.rename(series / "moved.dcm")
    assert data_fingerprint(manifest) == first
    content = bytearray((series / "moved.dcm").read_bytes())
    content[-1] ^= 1
    (series / "moved.dcm").write_bytes(content)
    assert data_fingerprint(manifest) != first


def test_segmentations_are_refused_beside_other_formats(volumes, tmp_path, capsys):
    image = next(volumes.glob("data/*_mask.nii.gz"))
    arguments = ("predict", volumes / "run", image, "--out", tmp_path / "o", "--dicom-seg")
    assert weakseg(*arguments) == 2
    assert "other formats" in capsys.readouterr().err
