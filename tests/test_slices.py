"""Volumes whose slices are labelled, through the command line: from labels to a report."""

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from tests.data.helpers import save_volume
from tests.layout_of_run import files_of, named_files
from tests.tiny import tree, weakseg, write_config, write_manifest
from weakseg.config import VolumesConfig, curve_fingerprint, load_config, parse_config
from weakseg.data.cases import Case
from weakseg.masks.clean_up import keep_parts, vote_along
from weakseg.methods.base import Prediction
from weakseg.methods.clean_up import clean_slices
from weakseg.methods.find import kind_of
from weakseg.methods.mask_curve import point_key
from weakseg.runs import read_json
from weakseg.scores import score_case, summarise
from weakseg.scores.stored import read_per_case, read_rows

pytestmark = pytest.mark.thorough

CONFIG = """
name: slices
recipe: best-weak
data: {{manifest: {manifest}, image_size: 64, neighbours: true, window: [115, 230]}}
classifier: {{arch: squeezenet1_1, epochs: 3, batch_size: 8, lr: 0.003}}
heatmap: {{layer: features.7}}
masks: {{gate: 0.01, rules: [otsu, oracle-image]}}
volumes: {{smooth: 1, min_slices: 2}}
consensus:
  both: {{methods: [gradcam-otsu, weak], vote: any}}
segmenters:
  weak: {{arch: "encoder-unet:squeezenet1_1", masks: gradcam-otsu, image_size: 32, epochs: 1,
         steps: 1, batch_size: 2}}
  best-weak: {{image_size: 32, epochs: 1, steps: 1, batch_size: 2, average: none, threshold: 0.5}}
  net: {{arch: "encoder-unet:squeezenet1_1", image_size: 32, epochs: 1, steps: 1, batch_size: 2,
        gate: run}}
equivalence: {{segmenter: net, patients: [1], draws: 1}}
filtered:
  {{filters: [hard], controls: [], curve: {{percent: [30], rankings: [heat]}}, epochs: 1,
    faithfulness: {{images: 2, percent: [20], steps: 2}}}}
scores: {{bootstrap: 100}}
report: {{gallery: 1}}
"""
AFFINE = np.array([[0, -1.5, 0, 10], [1.0, 0, 0, -20], [0, 0, 4.0, 3], [0, 0, 0, 1]])
SPLITS = ("train", "train", "train", "train", "val", "test", "test")


def write_volumes(folder):
    """Noise with a bright ellipsoid on slices 1 to 3 of 5; slice 4 is not listed."""
    rng = np.random.default_rng(7)
    rows = []
    for p, split in enumerate(SPLITS):
        shape = (40, 48, 5)
        x, y, z = np.indices(shape)
        cx, cy = rng.integers(12, 28, 2)
        lesion = (x - cx) ** 2 + (y - cy) ** 2 + (4 * (z - 2)) ** 2 < 40
        values = rng.integers(0, 90, shape) + 140 * lesion
        save_volume(folder / f"v{p}.nii.gz", values.astype(np.int16), AFFINE)
        save_volume(folder / f"m{p}.nii.gz", lesion.astype(np.uint8), AFFINE)
        for k in range(4):
            label = "tumor" if lesion[:, :, k].any() else "normal"
            rows.append((f"v{p}.nii.gz", k, label, f"m{p}.nii.gz", f"P{p}", split))
    header = ("image", "slice", "label", "mask", "patient", "split")
    return write_manifest(folder / "labels.csv", rows, header)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    config = write_config(folder, write_volumes(folder / "data"), CONFIG)
    assert weakseg("compare", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    return folder, config


def voxels(path):
    return np.asanyarray(nib.load(path).dataobj)


def test_masks_are_a_file_a_volume_in_its_own_frame(job):
    folder, _ = job
    for method in ("gradcam-otsu", "gradcam-oracle-image", "weak"):
        found = sorted((folder / f"run/masks/{method}/seed-0").iterdir())
        assert [p.name for p in found] == ["v5.nii.gz", "v6.nii.gz"]
        for path in found:
            made = nib.load(path)
            assert made.shape == (40, 48, 5)
            np.testing.assert_allclose(made.affine, AFFINE, atol=1e-5)
            assert not voxels(path)[:, :, 4].any()  # nobody has asked for it
    targets = sorted((folder / "run/targets/weak/seed-0").iterdir())
    assert [p.name for p in targets] == ["v0.nii.gz", "v1.nii.gz", "v2.nii.gz", "v3.nii.gz"]
    assert set(np.unique(voxels(targets[0]))) <= {0, 128, 255}


def test_slices_and_volumes_are_scored_in_mm(job):
    folder, _ = job
    rows = read_per_case(folder / "run")
    volumes = read_rows(folder / "run/scores/per_volume.csv")
    for method in ("gradcam-otsu", "gradcam-oracle-image", "weak"):
        of = rows[rows["method"] == method]
        assert list(of["case"]) == [f"v{p}_s{k:03d}" for p in (5, 6) for k in range(4)]
        whole = volumes[volumes["method"] == method].set_index("case")
        assert list(whole.index) == ["v5", "v6"]
        assert set(whole["patient"]) == {"P5", "P6"}
        for name in ("v5", "v6"):
            mask = voxels(folder / f"run/masks/{method}/seed-0/{name}.nii.gz") > 0
            truth = voxels(folder / f"data/m{name[1:]}.nii.gz") > 0
            expected = score_case(mask, truth, spacing=(1.0, 1.5, 4.0))
            for score in ("dice", "hd95", "lesion_sensitivity", "false_lesions", "missed"):
                assert whole.loc[name, score] == pytest.approx(
                    expected[score], rel=1e-4, nan_ok=True
                )
            two = score_case(mask[:, :, 2].T, truth[:, :, 2].T, spacing=(1.5, 1.0))
            row = of[of["case"] == f"{name}_s002"].iloc[0]
            for score in ("dice", "hd95", "predicted_pixels"):
                assert row[score] == pytest.approx(two[score], rel=1e-4, nan_ok=True)
    summary = pd.read_csv(folder / "run/scores/volumes.csv")
    expected = summarise(volumes, bootstrap=100, seed=0)
    np.testing.assert_allclose(summary["dice"], expected["dice"], rtol=1e-5)
    assert set(summary["method"]) >= {"weak", "floor-everything"}
    assert read_json(folder / "run/run.json")["data"]["distances"] == "mm"


def test_lesions_of_every_method_are_measured_in_their_volume(job):
    folder, _ = job
    lesions = pd.read_csv(folder / "run/scores/lesions.csv")
    volumes = read_rows(folder / "run/scores/per_volume.csv")
    for method in ("gradcam-otsu", "gradcam-oracle-image", "weak", "both"):
        of = lesions[lesions["method"] == method]
        for name in ("v5", "v6"):
            mask = voxels(folder / f"run/masks/{method}/seed-0/{name}.nii.gz") > 0
            mine = of[of["case"] == name]
            labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
            assert len(mine) == count
            assert set(mine["patient"]) <= {f"P{name[1]}"}
            image = voxels(folder / f"data/{name}.nii.gz")
            for row in mine.to_dict("records"):
                at = [n for n in range(1, count + 1) if (labels == n).sum() == row["pixels"]]
                centres = [AFFINE @ [*np.argwhere(labels == n).mean(axis=0), 1] for n in at]
                gaps = [np.abs(c[:3] - [row["x"], row["y"], row["z"]]).max() for c in centres]
                part = labels == at[int(np.argmin(gaps))]
                assert min(gaps) < 1e-3
                assert row["size"] == pytest.approx(part.sum() * 6)
                assert row["mean_intensity"] == pytest.approx(image[part].mean(), rel=1e-4)
                assert row["key_slice"] == part.sum(axis=(0, 1)).argmax()
            if method in set(volumes["method"]):
                whole = volumes[(volumes["method"] == method) & (volumes["case"] == name)]
                assert mine["pixels"].sum() == whole["predicted_pixels"].iloc[0]
    page = (folder / "run/report/index.html").read_text()
    assert "Lesions, measured" in page
    assert "scores/lesions.csv" in page


def test_everything_else_runs_on_slices(job):
    folder, _ = job
    assert read_json(folder / "run/segmenter/weak/seed-0/settings.json")["window"] == [115, 230]
    assert "window: centre 115, width 230" in (folder / "run/report/index.html").read_text()
    for method in ("best-map-grown", "best-weak", "net"):
        (entry,) = read_json(folder / f"run/masks/{method}/threshold.json").values()
        assert entry["masks_seen"] == (12 if method == "net" else 0)
        made = nib.load(folder / f"run/masks/{method}/seed-0/v6.nii.gz")
        np.testing.assert_allclose(made.affine, AFFINE, atol=1e-5)
    curve = pd.read_csv(folder / "run/scores/equivalence.csv")
    assert list(curve["case"]) == [f"v{p}_s{k:03d}" for p in (5, 6) for k in range(4)]
    assert set(curve["masks"]) == {3}  # of one patient's three slices with a lesion
    filtered = pd.read_csv(folder / "run/scores/filtered.csv")
    assert {"raw", "heat-hard-keep-mean", "heat-top30-remove-mean"} <= set(filtered["condition"])
    rows = read_per_case(folder / "run")
    of_net = rows[rows["method"] == "net"]
    assert of_net["probability"].notna().all()  # which the gate has asked the classifier for
    assert list(of_net["gated"]) == list(of_net["probability"] < 0.01)


def test_the_recipe_s_parts_are_judged_with_the_slices_beside_them(job, tmp_path):
    folder, _ = job
    (entry,) = read_json(folder / "run/masks/best-weak/threshold.json").values()
    assert entry["inference"]["neighbours"] == 0.4
    assert set(entry["beside"]) == {"min_peak", "gate"}
    alone, beside = entry["inference"]["min_peak"], entry["beside"]["min_peak"]
    assert 0 < beside < alone or alone == beside == 0
    manifest = folder / "data/labels.csv"
    command = ("predict", folder / "run", manifest, "--out", tmp_path, "--method", "best-weak")
    for further in (
        ["--shard", "1/2"],
        ["--shard", "2/2"],
        [],
    ):  # whole volumes: no neighbour is lost
        assert weakseg(*command, *further) == 0
    for name in ("v5", "v6"):
        made = voxels(folder / f"run/masks/best-weak/seed-0/{name}.nii.gz")
        np.testing.assert_array_equal(voxels(tmp_path / f"{name}.nii.gz"), made)


def test_masks_are_cleaned_up_in_three_dimensions(job):
    folder, _ = job
    for path in (folder / "run/masks/gradcam-otsu/seed-0").iterdir():
        mask = voxels(path) > 0
        np.testing.assert_array_equal(keep_parts(mask, min_slices=2), mask)


def test_an_agreement_is_cleaned_up_anew_though_its_members_masks_stay_as_they_are(job):
    _, config = job
    kind = kind_of(load_config(config), "both")
    keys = {
        kind.settings(load_config(config, [f"volumes={{smooth: 0, min_slices: {n}}}"]), "both")
        for n in (1, 2, 3)
    }
    assert len(keys) == 3


def test_a_curve_is_made_again_where_it_would_be_another_and_not_for_what_it_ignores(
    monkeypatch,
):
    monkeypatch.setattr("weakseg.training.recipes.package", lambda where: None)  # of an extra

    def keys(changes):
        config = parse_config({"segmenters": {"net": {}}} | changes)
        run = SimpleNamespace(
            config=config,
            key="data",
            cases=SimpleNamespace(dims=2, of=lambda split: []),
            run=SimpleNamespace(record={}),
        )
        return point_key(run, "net", 0, 3, 0), curve_fingerprint(config, "net")

    point, told = keys({})
    assert keys({"volumes": {"smooth": 0}}) == (point, told)
    others = keys({"volumes": {"smooth": 1}})
    assert others[0] != point
    assert others[1] != told
    # Else the report would leave out a curve that no command makes again.
    for idle in ({"false_alarms": 0.1}, {"crf": 3}, {"neighbours": 0.4}, {"scales": [1.0]}):
        assert keys({"segmenters": {"net": idle}}) == (point, told)
    for looked in (
        {"scales": [1.0, 1.5]},
        {"arch": "unetpp", "prune": 2},
        {"flips": "x"},
        {"passes": 3},
    ):
        plain = keys({"segmenters": {"net": {"arch": looked.get("arch", "unet")}}})
        others = keys({"segmenters": {"net": looked}})
        assert others[0] != plain[0]
        assert others[1] != plain[1]


def test_new_volumes_get_the_masks_that_the_run_has(job, tmp_path):
    folder, _ = job
    rows = [(folder / f"data/v{p}.nii.gz", k) for p in (5, 6) for k in range(4)]
    manifest = write_manifest(tmp_path / "new.csv", rows, ("image", "slice"))
    out = tmp_path / "out"
    method = ("--method", "gradcam-otsu", "--heatmaps", "--overlays")
    assert weakseg("predict", folder / "run", manifest, "--out", out, *method) == 0
    for name in ("v5", "v6"):
        made = voxels(folder / f"run/masks/gradcam-otsu/seed-0/{name}.nii.gz")
        np.testing.assert_array_equal(voxels(out / f"{name}.nii.gz"), made)
        heat = nib.load(out / f"heatmaps/{name}.nii.gz")
        np.testing.assert_allclose(heat.affine, AFFINE, atol=1e-5)
        assert heat.shape == (40, 48, 5)
        assert (out / f"overlays/{name}.png").exists()
    whole = pd.read_csv(out / "predictions.csv")
    slices = pd.read_csv(out / "slices.csv")
    assert list(slices["slice"]) == [0, 1, 2, 3] * 2
    for k, name in enumerate(("v5", "v6")):
        mask = voxels(out / f"{name}.nii.gz")
        areas = mask.sum(axis=(0, 1))
        assert whole["lesion_pixels"][k] == areas.sum()
        assert whole["lesion_ml"][k] == pytest.approx(areas.sum() * 6 / 1000, abs=1e-3)
        assert whole["lesion_slices"][k] == (areas > 0).sum()
        assert list(slices["lesion_pixels"][4 * k : 4 * k + 4]) == list(areas[:4])
        p = slices["lesion_probability"][4 * k : 4 * k + 4]
        assert whole["lesion_probability"][k] == p.max()
    lesions = pd.read_csv(out / "lesions.csv")
    for k, name in enumerate(("v5", "v6")):
        of = lesions[lesions["file"] == str(folder / f"data/{name}.nii.gz")]
        mask, image = voxels(out / f"{name}.nii.gz") > 0, voxels(folder / f"data/{name}.nii.gz")
        heat = voxels(out / f"heatmaps/{name}.nii.gz")
        assert of["pixels"].sum() == mask.sum()
        assert of["size"].sum() == pytest.approx(whole["lesion_ml"][k] * 1000, abs=1)
        assert set(of["unit"]) <= {"mm"}
        if len(of) == 1:
            one = of.iloc[0]
            centre = AFFINE @ [*np.argwhere(mask).mean(axis=0), 1]
            assert list(one[["x", "y", "z"]]) == pytest.approx(list(centre[:3]), abs=1e-3)
            assert one["mean_intensity"] == pytest.approx(image[mask].mean(), abs=1e-3)
            assert one["mean_heat"] == pytest.approx(heat[mask].mean(), rel=1e-3, abs=1e-5)
            p = slices["lesion_probability"][4 * k + int(one["key_slice"])]
            assert one["lesion_probability"] == p


def test_a_folder_of_volumes_is_segmented_slice_by_slice(job, tmp_path):
    folder, _ = job
    (tmp_path / "in").mkdir()
    for p in (5, 6):
        (tmp_path / f"in/v{p}.nii.gz").write_bytes((folder / f"data/v{p}.nii.gz").read_bytes())
    out = tmp_path / "out"
    assert (
        weakseg("predict", folder / "run", tmp_path / "in", "--out", out, "--method", "weak") == 0
    )
    assert len(pd.read_csv(out / "slices.csv")) == 10  # no slice is lost
    made = voxels(folder / "run/masks/weak/seed-0/v5.nii.gz")
    np.testing.assert_array_equal(voxels(out / "v5.nii.gz")[:, :, :3], made[:, :, :3])


def test_a_slice_that_a_manifest_names_has_to_be_there(job, tmp_path, capsys):
    folder, _ = job
    rows = [(folder / "data/v5.nii.gz", 9)]
    manifest = write_manifest(tmp_path / "new.csv", rows, ("image", "slice"))
    assert weakseg("predict", folder / "run", manifest, "--out", tmp_path / "out") == 2
    assert "no such slice" in capsys.readouterr().err


def test_nothing_is_made_twice_and_every_file_has_a_name_in_the_layout(job, capsys):
    folder, config = job
    assert files_of(folder / "run") == named_files(folder / "run")
    before = tree(folder / "run/masks") | tree(folder / "run/scores")
    assert weakseg("compare", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    assert tree(folder / "run/masks") | tree(folder / "run/scores") == before


def test_the_page_speaks_of_volumes(job):
    page = (job[0] / "run/report/index.html").read_text()
    assert "Whole volumes" in page
    assert "No picture" not in page
    assert "mm" in page


def test_slices_that_the_gate_has_emptied_vote_and_stay_empty():
    cases = [Case(f"s{z}", None, "", slice=z, volume="v") for z in range(3)]
    mask = np.ones((2, 2), dtype=bool)
    made = [
        Prediction(mask, mask.astype(np.float32)),
        Prediction(~mask, mask.astype(np.float32), gated=True),
        Prediction(mask, mask.astype(np.float32)),
    ]
    found = clean_slices(cases, made, (2, 2, 3), VolumesConfig(smooth=1))
    # With the empty slice between them each of two has half of the votes, and its own word.
    assert [p.mask.all() for p in found] == [True, False, True]
    assert [p.gated for p in found] == [False, True, False]
    voted = vote_along(np.array([[[1, 0, 1]]]), [True] * 3, 1)
    assert voted.tolist() == [[[True, True, True]]]
