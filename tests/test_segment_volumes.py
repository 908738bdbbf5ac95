"""Segmenters on NIfTI volumes, through the command line."""

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tests.layout_of_run import files_of, named_files
from tests.tiny import read_rows, tree, weakseg, write_config, write_manifest
from weakseg.heatmaps.preserved import CONTROLS
from weakseg.heatmaps.segmentation import ATTRIBUTIONS
from weakseg.methods.attribution import COLUMNS
from weakseg.scores import score_case
from weakseg.scores.stored import read_per_case

CONFIG = """
name: volumes
data: {{manifest: {manifest}}}
classifier: {{seeds: [0]}}
scores: {{bootstrap: 100}}
report: {{gallery: 1}}
segmenters:
  dm: {{arch: deepmedic, epochs: 1, steps: 3, batch_size: 2, tile: 12}}
  unet: {{arch: unet, epochs: 1, steps: 2, patch: 16, tile: 16}}
"""
SPACING = (1.0, 1.5, 4.0)


def write_volumes(folder, n=6):
    """Two modalities of noise with a bright ellipsoid, oblique, with a brain mask."""
    rng = np.random.default_rng(3)
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(SPACING)
    affine[:3, 3] = (-20, 30, 5)
    rows = []
    for i in range(n):
        shape = (22 + i % 2, 20, 12)
        x, y, z = np.indices(shape)
        brain = ((x - 11) / 10) ** 2 + ((y - 10) / 9) ** 2 + ((z - 6) / 6) ** 2 < 1
        centre = rng.integers(8, 13, 2)
        lesion = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (2 * (z - 6)) ** 2 < 16
        names = []
        for k in range(2):
            values = np.where(brain, rng.normal(100, 10, shape) + 80 * lesion, 0)
            names.append(_save(folder / f"v{i}_m{k}.nii.gz", values.astype(np.int16), affine))
        names.append(_save(folder / f"v{i}_roi.nii.gz", brain.astype(np.uint8), affine))
        names.append(_save(folder / f"v{i}_seg.nii.gz", lesion.astype(np.uint8), affine))
        split = ("train", "train", "train", "val", "test", "test")[i]
        rows.append((*names, "tumor", f"P{i}", split))
    header = ("image", "image2", "roi", "mask", "label", "patient", "split")
    return write_manifest(folder / "labels.csv", rows, header)


def _save(path, values, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)
    return path.name


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    config = write_config(folder, write_volumes(folder / "data"), CONFIG)
    assert weakseg("compare", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    return folder, config


def test_masks_lie_in_the_original_space(job):
    folder, _ = job
    for name in ("dm", "unet"):
        found = sorted((folder / f"run/masks/{name}/seed-0").glob("*.nii.gz"))
        assert [p.name for p in found] == ["v4_m0.nii.gz", "v5_m0.nii.gz"]
        for path in found:
            mask, image = nib.load(path), nib.load(folder / "data" / path.name)
            assert mask.shape == image.shape
            np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)
            assert mask.get_data_dtype() == np.uint8
            roi = nib.load(folder / "data" / path.name.replace("_m0", "_roi")).get_fdata() > 0
            assert not (mask.get_fdata()[~roi] > 0).any()


def test_distances_are_in_mm(job):
    folder, _ = job
    table = read_per_case(folder / "run")
    row = table[(table["method"] == "unet") & (table["case"] == "v4_m0")].iloc[0]
    mask = nib.load(folder / "run/masks/unet/seed-0/v4_m0.nii.gz").get_fdata() > 0
    truth = nib.load(folder / "data/v4_seg.nii.gz").get_fdata() > 0
    assert row["hd95"] == pytest.approx(score_case(mask, truth, spacing=SPACING)["hd95"], rel=1e-4)
    assert "Distances are in mm" in (folder / "run/report/index.html").read_text()


def test_the_report_shows_volumes(job):
    page = (job[0] / "run/report/index.html").read_text()
    assert "dm) reaches a Dice" in page
    assert "data:image/jpeg" in page
    assert "No picture" not in page
    assert "Classifier</h2>" not in page


def test_new_volumes_are_segmented_on_their_grid(job, tmp_path):
    folder, _ = job
    manifest = folder / "data/labels.csv"
    out = tmp_path / "out"
    assert weakseg("predict", folder / "run", manifest, "--out", out, "--heatmaps") == 0
    made = nib.load(folder / "run/masks/dm/seed-0/v4_m0.nii.gz")
    again = nib.load(out / "v4_m0.nii.gz")
    np.testing.assert_array_equal(again.get_fdata(), made.get_fdata())
    np.testing.assert_allclose(again.affine, made.affine, atol=1e-5)
    probability = nib.load(out / "heatmaps/v4_m0.nii.gz").get_fdata()
    assert 0 <= probability.min() <= probability.max() <= 1
    rows = pd.read_csv(out / "predictions.csv")
    voxel = np.prod(SPACING) / 1000
    assert rows["lesion_ml"].iloc[4] == pytest.approx(again.get_fdata().sum() * voxel, abs=1e-3)


def test_a_volume_without_its_second_modality_is_refused(job, tmp_path, capsys):
    folder, _ = job
    image = folder / "data/v4_m0.nii.gz"
    assert weakseg("predict", folder / "run", image, "--out", tmp_path / "out") == 2
    assert "volumes of 2 channels" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train-classifier", "heatmap-segment"])
def test_volumes_have_no_classifier(job, tmp_path, capsys, command):
    assert weakseg(command, job[1], "--run-dir", tmp_path / "run") == 2
    assert "train-segmenter" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("segmenters.dm.arch=fcn8s", "does not segment volumes"),
        ("segmenters.dm.arch=encoder-unet", "does not segment volumes"),
        ("segmenters.unet.normalise=unit", "no common range"),
        ("segmenters.unet.patch=whole", "make no batch"),
        ("segmenters.unet.augment={rotate: 10}", "not rotated"),
    ],
)
def test_settings_that_volumes_do_not_have_are_refused(job, tmp_path, capsys, change, words):
    run = tmp_path / "run"
    assert weakseg("train-segmenter", job[1], "--run-dir", run, "--set", change) == 2
    assert words in capsys.readouterr().err
    assert not run.exists() or not tree(run)


def test_a_volume_without_its_region_is_refused(job, tmp_path, capsys):
    folder, _ = job
    rows = [(f"v{i}_m0.nii.gz", f"v{i}_m1.nii.gz") for i in (4, 5)]
    manifest = write_manifest(folder / "data/bare.csv", rows, ("image", "image2"))
    assert weakseg("predict", folder / "run", manifest, "--out", tmp_path / "out") == 2
    assert "region of interest" in capsys.readouterr().err


@pytest.mark.thorough
def test_without_test_masks_there_is_a_report_that_says_so(job, tmp_path):
    folder, _ = job
    splits = ("train", "train", "train", "val", "test", "test")
    rows = []
    for i, split in enumerate(splits):
        images = [f"v{i}_{name}.nii.gz" for name in ("m0", "m1", "roi")]
        mask = "" if split == "test" else f"v{i}_seg.nii.gz"
        rows.append((*images, mask, "tumor", f"P{i}", split))
    header = ("image", "image2", "roi", "mask", "label", "patient", "split")
    manifest = write_manifest(folder / "data/unmasked.csv", rows, header)
    config = write_config(tmp_path, manifest, CONFIG)
    only = ("--set", "segmenters={dm: {arch: deepmedic, epochs: 1, steps: 1, batch_size: 2}}")
    assert weakseg("compare", config, "--run-dir", tmp_path / "run", *only) == 0
    page = (tmp_path / "run/report/index.html").read_text()
    assert "Nothing could be scored" in page
    assert len(list((tmp_path / "run/masks/dm/seed-0").glob("*.nii.gz"))) == 2


def test_no_file_of_the_run_is_without_a_name_in_the_layout(job):
    assert files_of(job[0] / "run") == named_files(job[0] / "run")


@pytest.mark.thorough
@pytest.mark.parametrize("name", [pytest.param("dm", marks=pytest.mark.slow), "unet"])
def test_what_masks_of_volumes_stand_on_is_told_of_the_box_that_holds_most(job, name, tmp_path):
    copy = shutil.copytree(job[0] / "run", tmp_path / "run")
    chosen = json.loads((copy / f"masks/{name}/threshold.json").read_text())
    assert weakseg("explain-segmenter", copy, "--method", name, "--out", tmp_path / "maps") == 0
    rows = read_rows(copy / f"attribution/{name}.csv")
    assert {r["attribution"] for r in rows} == {*ATTRIBUTIONS, *CONTROLS}
    values = np.array([[float(r[c]) for c in COLUMNS] for r in rows])
    assert ((values >= 0) & (values <= 1)).all()
    side = {"dm": 12, "unet": 16}[name]
    written = {p.name for p in (tmp_path / "maps/seed-0").iterdir()}
    assert written == {f"{r['case']}_{a}.nii.gz" for r in rows for a in ATTRIBUTIONS}
    for case in {r["case"] for r in rows}:
        image = nib.load(job[0] / "data" / f"{case}.nii.gz")
        found = nib.load(tmp_path / f"maps/seed-0/{case}_layercam.nii.gz")
        assert found.shape == image.shape
        np.testing.assert_allclose(found.affine, image.affine, atol=1e-5)
        heat = found.get_fdata()
        assert heat.max() == pytest.approx(1)
        assert all(np.ptp(a) < side for a in np.nonzero(heat))
    page = tmp_path / "page"
    assert weakseg("report", copy, "--out", page) == 0
    assert "What the masks of networks stand on" in (page / "index.html").read_text()
    assert chosen["seed-0"]["inference"]["tile"] == side
