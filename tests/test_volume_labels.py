"""Volumes with one label each through the whole main job, from the command line."""

import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tests.layout_of_run import files_of, named_files
from tests.tiny import weakseg, write_config, write_manifest, write_set
from weakseg.heatmaps.store import load_heatmap
from weakseg.layout import INSTANCES, heatmap_file, heatmap_folder, seed_folder
from weakseg.methods.find import load_method
from weakseg.scores import score_case
from weakseg.scores.stored import read_per_case
from weakseg.stored import read_json

pytestmark = pytest.mark.thorough

CONFIG = """
name: volumes
data: {{manifest: {manifest}, image_size: 32}}
classifier: {{arch: {arch}, epochs: 3, batch_size: 4, seeds: [0], lr: 0.001}}
heatmap: {{method: gradcam, layer: {layer}, scale: probability, batch_size: 4}}
masks: {{rules: [fixed, otsu, two-tone, oracle-image], gate: none}}
volumes: {{min_voxels: 2}}
scores: {{bootstrap: 100}}
report: {{gallery: 1}}
"""
SPACING = (1.0, 1.5, 4.0)
SPLITS = ("train",) * 8 + ("val",) * 2 + ("test",) * 4


def write_volumes(folder):
    """Noise of 9 or 8 slices; every second volume has a bright ball. One label and mask each."""
    rng = np.random.default_rng(8)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-20, 30, 5)
    rows = []
    for i, split in enumerate(SPLITS):
        shape = (30, 26, 9 - i % 3 // 2)
        x, y, z = np.indices(shape)
        centre = rng.integers(9, 17, 2)
        tumor = i % 2 == 0
        ball = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (3 * (z - 3)) ** 2 < 36) & tumor
        values = rng.normal(60, 10, shape) + 120 * ball
        names = {}
        for part, kept in (("", values.clip(0, 255)), ("_seg", ball)):
            names[part] = f"v{i:02d}{part}.nii.gz"
            folder.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(kept.astype(np.uint8), affine), folder / names[part])
        rows.append((names[""], "tumor" if tumor else "normal", names["_seg"], f"P{i}", split))
    header = ("image", "label", "mask", "patient", "split")
    return write_manifest(folder / "labels.csv", rows, header)


@pytest.fixture(scope="module", params=["mil:squeezenet1_1", "squeezenet1_1-3d"])
def job(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("volumes")
    manifest = write_volumes(folder / "data")
    text = CONFIG.replace("{arch}", request.param).replace("{layer}", "features.7")
    config = write_config(folder, manifest, text)
    assert weakseg("compare", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    return folder, config, request.param


def test_masks_and_scores_are_of_volumes(job):
    folder, *_ = job
    table = read_per_case(folder / "run")
    of = table[(table["method"] == "gradcam-fixed") & (table["case"] == "v10")].iloc[0]
    mask = nib.load(folder / "run/masks/gradcam-fixed/seed-0/v10.nii.gz")
    image = nib.load(folder / "data/v10.nii.gz")
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-5)
    truth = nib.load(folder / "data/v10_seg.nii.gz").get_fdata() > 0
    wanted = score_case(mask.get_fdata() > 0, truth, spacing=SPACING)
    assert of["dice"] == pytest.approx(wanted["dice"], rel=1e-4)
    if not np.isnan(wanted["hd95"]):
        assert of["hd95"] == pytest.approx(wanted["hd95"], rel=1e-4)
    assert set(table["method"]) >= {"gradcam-two-tone", "gradcam-oracle-image", "floor-ellipse"}


def test_there_is_an_auc_of_volumes(job):
    folder, _, arch = job
    scores = read_json(seed_folder(folder / "run", arch, 0) / "scores.json")
    assert 0 <= scores["test"]["auc_lesion"]["value"] <= 1


def test_heat_lies_on_the_networks_grid_until_it_is_asked_for(job):
    folder, _, arch = job
    stored = heatmap_folder(folder / "run", arch, 0, "gradcam")
    heat = load_heatmap(heatmap_file(stored, "v02"))  # of eight slices, where the network sees nine
    assert heat.raw.ndim == 3
    assert heat.raw.shape[1] < 30
    assert (heat.shape, heat.depth) == ((30, 26, 8), 9)
    full = heat.full()
    assert full.shape == (30, 26, 8)
    planes = np.stack([p.T for p in heat.planes()], axis=2)
    np.testing.assert_array_equal(full, planes)
    if arch.startswith("mil"):
        assert not heat.raw[8].any()


def test_what_slices_say_is_written(job):
    folder, _, arch = job
    path = seed_folder(folder / "run", arch, 0) / INSTANCES
    assert path.exists() == arch.startswith("mil")
    if path.exists():
        table = pd.read_csv(path)
        counts = table.groupby("case")["slice"].count()
        assert counts["v02"] == 8
        assert counts["v00"] == 9
        np.testing.assert_allclose(table.groupby("case")["weight"].sum(), 1, atol=1e-4)


def test_new_volumes_get_the_masks_of_the_run(job, tmp_path):
    folder, *_ = job
    out = tmp_path / "out"
    images = [folder / f"data/v{i:02d}.nii.gz" for i in (10, 11)]
    more = ("--method", "gradcam-fixed", "--heatmaps", "--overlays", "--out", out)
    assert weakseg("predict", folder / "run", *images, *more) == 0
    for name in ("v10", "v11"):
        made = nib.load(folder / f"run/masks/gradcam-fixed/seed-0/{name}.nii.gz").get_fdata()
        np.testing.assert_array_equal(nib.load(out / f"{name}.nii.gz").get_fdata(), made)
    heat = nib.load(out / "heatmaps/v10.nii.gz")
    assert heat.shape == (30, 26, 9)
    rows = pd.read_csv(out / "predictions.csv")
    assert rows["lesion_probability"].between(0, 1).all()
    assert (out / "overlays/v10.png").exists()


def test_a_method_of_volumes_takes_a_path(job):
    folder, *_ = job
    method = load_method(folder / "run", "gradcam-otsu", device="cpu")
    assert method.dims == 3
    assert method.predict(folder / "data/v13.nii.gz").mask.shape == (30, 26, 9)


def test_the_report_speaks_of_volumes(job):
    page = (job[0] / "run/report/index.html").read_text()
    assert "data:image/jpeg" in page
    assert "Classifier</h2>" in page


def test_no_file_of_the_run_is_without_a_name_in_the_layout(job):
    assert files_of(job[0] / "run") == named_files(job[0] / "run")


PHANTOM = """
name: slabs
data:
  manifest: phantom
  image_size: 32
  phantom: {patients: 8, slices_per_patient: 32, volumes: true, slab: 8, size: 64}
classifier: {arch: mil:squeezenet1_1, instances: attention, epochs: 1, batch_size: 4}
heatmap: {layer: features.7}
scores: {bootstrap: 100}
"""


def test_slabs_of_the_phantom_train_a_classifier(tmp_path):
    config = tmp_path / "slabs.yaml"
    config.write_text(PHANTOM)
    run = tmp_path / "runs/slabs"
    assert weakseg("train-classifier", config, "--run-dir", run, "--device", "cpu") == 0
    (table,) = (tmp_path / "runs").glob("*slabs-of-8/labels.csv")
    rows = pd.read_csv(table)
    assert list(rows) == ["image", "mask", "label", "patient"]
    assert len(rows) == 32
    for row in rows.itertuples():
        image, mask = (nib.load(table.parent / f) for f in (row.image, row.mask))
        assert image.shape[2] == 8
        assert (mask.get_fdata().max() > 0) == (row.label == "tumor")
        assert image.affine[2, 3] == pytest.approx(4.375 * int(row.image[-9:-7]))
    table = pd.read_csv(seed_folder(run, "mil:squeezenet1_1", 0) / INSTANCES)
    assert len(table) == 32 * 8
    assert table["weight"].between(0, 1).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("classifier.arch=squeezenet1_1", "mil:squeezenet1_1 or squeezenet1_1-3d"),
        ("classifier.arch=mil:resnet81", "no classifier 'resnet81'"),
        ("classifier.arch=vit_b_16-3d", "cannot be made one of volumes"),
        ("masks.rules=[random-walker]", "takes the heat of images"),
        ("heatmap.choose=area", "at one scale each"),
        ("classifier.exits=true", "exits are for"),
        ("classifier.equivariance=1", "needs a pool|has none"),
        ("data.depth=0", "from 1 to 4096"),
    ],
)
def test_what_volumes_do_not_have_is_refused(tmp_path, capsys, change, words):
    manifest = write_volumes(tmp_path / "data")
    text = CONFIG.replace("{arch}", "mil:squeezenet1_1").replace("{layer}", "features.7")
    config = write_config(tmp_path, manifest, text)
    run = tmp_path / "run"
    assert weakseg("train-classifier", config, "--run-dir", run, "--set", change) == 2
    assert re.search(words, capsys.readouterr().err)


@pytest.mark.parametrize("arch", ["mil:resnet18", "resnet18-3d"])
def test_images_need_a_classifier_of_images(tmp_path, capsys, arch):
    config = write_config(tmp_path, write_set(tmp_path / "data"))
    run = ("--run-dir", tmp_path / "run", "--set", f"classifier.arch={arch}")
    assert weakseg("train-classifier", config, *run) == 2
    assert "these are images" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["scorecam", "occlusion"])
def test_methods_that_cover_places_are_for_images(tmp_path, capsys, method):
    text = CONFIG.replace("{arch}", "resnet18-3d").replace("{layer}", "auto")
    config = write_config(tmp_path, write_volumes(tmp_path / "data"), text)
    run = ("--run-dir", tmp_path / "run", "--set", f"heatmap.method={method}")
    assert weakseg("train-classifier", config, *run) == 2
    assert "does not take volumes" in capsys.readouterr().err
