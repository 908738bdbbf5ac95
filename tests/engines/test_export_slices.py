"""Exports of runs on slices of volumes: masks in the volumes' own space, as the run makes them."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tests.test_slices import AFFINE, voxels, write_volumes
from tests.tiny import weakseg, write_config
from weakseg.config import parse_config
from weakseg.data.cases import Case
from weakseg.exporting.exported import ExportedMethod
from weakseg.methods.evidence import Evidence
from weakseg.methods.network_mask import of_evidence

CONFIG = """
name: slices
data: {{manifest: {manifest}, image_size: 64, neighbours: true, window: [115, 230]}}
classifier: {{arch: squeezenet1_1, epochs: 2, batch_size: 8, lr: 0.003}}
heatmap: {{layer: features.7}}
masks: {{gate: 0.01, rules: [otsu]}}
volumes: {{smooth: 1, min_slices: 2}}
segmenters:
  net: {{arch: unet, image_size: 32, epochs: 2, steps: 8, batch_size: 4, lr: 0.003, gate: 0.3,
        threshold: 0.5, min_peak: 0.6, min_area: 0.002, neighbours: 0.4}}
scores: {{bootstrap: 100}}
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    config = write_config(folder, write_volumes(folder / "data"), CONFIG)
    common = ("--device", "cpu", "--run-dir", folder / "run")
    for stage in ("train-classifier", "heatmap-segment", "train-segmenter"):
        assert weakseg(stage, config, *common) == 0
    for method in ("gradcam-otsu", "net"):
        args = ("--method", method, "--out", folder / method)
        assert weakseg("export", folder / "run", *args) == 0
    return folder


def dice(a, b):
    return 1.0 if not (a | b).any() else 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["gradcam-otsu", "net"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_export_makes_the_masks_of_the_run_in_the_volumes_own_space(
    job, tmp_path, method, engine
):
    pytest.importorskip(engine)
    volumes = [job / f"data/v{p}.nii.gz" for p in (4, 5, 6)]
    args = (*volumes, "--heatmaps", "--out")
    own = ("--engine", engine)
    assert weakseg("predict", job / "run", *args, tmp_path / "run", "--method", method) == 0
    assert weakseg("predict", job / method, *args, tmp_path / "export", *own) == 0
    marked = 0
    for p in (4, 5, 6):
        made = nib.load(tmp_path / f"export/v{p}.nii.gz")
        assert made.shape == (40, 48, 5)
        np.testing.assert_allclose(made.affine, AFFINE, atol=1e-5)
        ours, theirs = (voxels(tmp_path / f"{n}/v{p}.nii.gz") > 0 for n in ("export", "run"))
        assert dice(ours, theirs) >= 0.999
        marked += int(theirs.sum())
        maps = [voxels(tmp_path / f"{n}/heatmaps/v{p}.nii.gz") for n in ("export", "run")]
        assert np.abs(maps[0] - maps[1]).max() <= 1e-3 * max(1, maps[1].max())
    assert marked > 0
    tables = [pd.read_csv(tmp_path / f"{n}/slices.csv") for n in ("export", "run")]
    assert list(tables[0]["slice"]) == [0, 1, 2, 3, 4] * 3
    assert list(tables[0]["gated"]) == list(tables[1]["gated"])
    np.testing.assert_allclose(
        tables[0]["lesion_probability"], tables[1]["lesion_probability"], atol=1e-4
    )


@pytest.mark.thorough
def test_the_description_says_how_a_volume_is_seen(job, capsys):
    about = json.loads((job / "net/model.json").read_text())
    assert about["takes"] == "slices"
    assert about["volumes"] == {"smooth": 1, "min_voxels": 1, "min_slices": 2, "largest": 0}
    assert about["input"]["window"] == [115, 230]
    assert about["input"]["neighbours"] is True
    assert "third" in about["input"]["slices"]["axis"]
    assert "before" in about["input"]["slices"]["channels"]
    assert about["threshold"]["inference"]["neighbours"] == 0.4
    assert "weakseg predict does as the run" in about["alone"]
    assert sorted(p.name for p in (job / "net").iterdir()) == [
        "images.json", "model.json", "model.onnx",
    ]  # fmt: skip
    out = job / "image"
    assert weakseg("predict", job / "net", job / "data/labels.csv", "--out", out) == 0
    assert len(pd.read_csv(out / "slices.csv")) == 28  # those that the manifest names
    with (job / "a.png").open("wb") as f:
        f.write(b"no volume")
    assert weakseg("predict", job / "net", job / "a.png", "--out", job / "none") == 2
    assert "volume" in capsys.readouterr().err


ABOUT = {
    "method": "net",
    "kind": "supervised",
    "input": {"size": 32, "channels": 1},
    "inputs": {"images": "", "box": ""},
    "outputs": {"mask": "", "map": "", "probability": ""},
    "threshold": {
        "chosen_on": "nothing",
        "masks_seen": 0,
        "threshold": 0.5,
        "inference": {"min_peak": 0.8, "neighbours": 0.4},
        "beside": {"min_peak": 0.6, "gate": 0.3},
    },
    "gate": 0.5,
    "labels": [],
    "takes": "slices",
}


def test_slices_are_judged_with_those_beside_them_as_by_the_run(tmp_path):
    import nibabel

    values = np.zeros((32, 32, 4), np.int16)
    heights = np.array([0.55, 0.9, 0.7, 0.7])
    values[8:16, 8:16] = heights * 1000
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "v.nii.gz")
    words = [0.45, 0.6, 0.1, 0.1]
    asked = []

    def session(arrays):
        (image, _), at = arrays, len(asked)
        asked.append(at)
        map_ = np.where(image[0, 0] > 0, np.float32(heights[at]), np.float32(0.1))
        return [(map_ > 0.5).astype(np.uint8), map_, np.float32(words[at])]

    config = parse_config({"data": {"image_size": 32}})
    method = ExportedMethod("net", (0,), config, ABOUT, session, "onnxruntime")
    assert method.looks_beside
    assert method.sliced
    cases = [
        Case(f"s{z}", tmp_path / "v.nii.gz", "", slice=z, volume="v") for z in range(len(words))
    ]
    made = list(method.predict_each(cases))
    assert asked == [0, 1, 2, 3]
    cuts = {**ABOUT["threshold"], "gate": 0.5}
    shown = [values[:, :, z].T > 0 for z in range(4)]
    maps = zip(heights, shown, strict=True)
    own = [np.where(m, np.float32(h), np.float32(0.1)) for h, m in maps]
    for z, (before, behind) in enumerate(((1, 1), (0, 2), (1, 3), (2, 2))):
        mean = 0.6 * own[z] + 0.4 * (own[before] + own[behind]) / 2
        beside = tuple({before, behind})
        expected = of_evidence(
            cuts, Evidence(z, own[z], mean, beside, 0.4), words.__getitem__, np.zeros
        )
        np.testing.assert_array_equal(made[z].mask, expected.mask)
        assert made[z].gated == expected.gated
    assert [p.mask.any() for p in made] == [True, True, False, False]
    assert [p.gated for p in made] == [False, False, True, True]
