"""A classifier made for localisation, by the command line like any other; a whole job, for CI."""

import shutil

import numpy as np
import pytest

from tests.tiny import CONFIG, pixels, read_rows, tree, weakseg, write_config, write_set
from weakseg.heatmaps.store import load_heatmap
from weakseg.methods.classifiers import load_classifier
from weakseg.runs import read_json
from weakseg.training.weights import load_weights

pytestmark = pytest.mark.thorough

CLASSIFIER = {
    "seeds": "[0]",
    "epochs": 1,
    "pool": "lse",
    "stride": 16,
    "exits": "true",
    "suppress": 0.7,
    "erase": 0.2,
    "sizes": "[0.75, 1.5]",
    "equivariance": 0.1,
    "map_entropy": 0.05,
    "map_size": 0.5,
    "map_area": "[0.01, 0.3]",
}
SETTINGS = [part for k, v in CLASSIFIER.items() for part in ("--set", f"classifier.{k}={v}")]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """One whole `compare`, its heatmaps fused; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("localising")
    text = CONFIG.replace("squeezenet1_1", "resnet18") + "heatmap: {{layer: fused}}\n"
    text += "heatmaps: {{full: {{method: fullgrad, rules: [fixed]}},\n"
    text += "  own: {{layer: fused, scales: [0.75, 1.0, 1.5], choose: area, hot_side: 38,\n"
    text += "    auc_drop: 1.0, rules: [fixed, grown]}}}}\n"
    config = write_config(folder, write_set(folder / "data"), text)
    assert weakseg("compare", config, "--run-dir", folder / "run", *SETTINGS) == 0
    return folder, config


def test_the_run_has_its_network_heatmaps_scores_and_report(job):
    run = job[0] / "run"
    best = run / "classifier/resnet18/seed-0/best.safetensors"
    _, meta = load_weights(best)
    assert (meta["pool"], meta["stride"], meta["exits"]) == ("lse", "16", "true")
    model = load_classifier(best.parent)
    assert (model.spec.pool, model.spec.stride, model.spec.exits) == ("lse", 16, True)
    assert (meta["suppress"], model.spec.suppress) == ("0.7", 0.7)
    assert len(model.exits) == 3
    assert len(list((run / "heatmaps/resnet18/seed-0/gradcam").glob("*.npz"))) == 36
    full = list((run / "heatmaps/resnet18/seed-0/full").glob("*.npz"))
    # Of a further heatmap nobody looks at healthy images but those of the test split.
    looked_at = [
        r for r in read_rows(run / "splits.csv") if r["split"] == "test" or r["label"] == "tumor"
    ]
    assert len(full) == len(looked_at)
    assert {load_heatmap(p).layer for p in full} == {"image"}
    scored = {r["method"] for r in read_rows(run / "scores/per_case.csv")}
    assert {"gradcam-fixed", "full-fixed"} <= scored
    assert (run / "report/index.html").stat().st_size > 0
    entry = read_json(run / "run.json")["stages"]["classifier/resnet18/0"]
    assert entry["random_tensors"] == ["all"]


def test_a_second_call_is_up_to_date(job, capsys):
    folder, config = job
    before = tree(folder / "run")
    assert weakseg("compare", config, "--run-dir", folder / "run", *SETTINGS) == 0
    assert "classifier, seed 0: up to date" in capsys.readouterr().err
    after = tree(folder / "run")
    for name in before:
        if name.split("/")[0] in ("classifier", "heatmaps", "masks", "scores"):
            assert after[name] == before[name], name


def test_new_images_are_predicted_as_the_run_did(job, tmp_path):
    folder, out = job[0], tmp_path / "out"
    assert weakseg("predict", folder / "run", folder / "data/images", "--out", out) == 0
    rows = {r["mask"].removesuffix(".png"): r for r in read_rows(out / "predictions.csv")}
    known = read_rows(folder / "run/classifier/resnet18/seed-0/predictions.csv")
    assert len(rows) == len(known) == 36
    probabilities = {r["case"]: float(r["lesion_probability"]) for r in known}
    for name, row in rows.items():
        assert float(row["lesion_probability"]) == pytest.approx(probabilities[name], abs=1e-3)


def test_each_image_is_seen_at_its_own_scale_by_the_stage_and_by_predict_alike(job, tmp_path):
    run = job[0] / "run"
    made = run / "heatmaps/resnet18/seed-0/own"
    told = read_json(made / "scales.json")
    val = [r for r in read_rows(run / "splits.csv") if r["split"] == "val"]
    assert (told["scales"], told["images"]) == ([0.75, 1.0, 1.5], len(val))
    assert set(told["auc"]) == {"0.75", "1", "1.5"}
    heats = {p.stem: load_heatmap(p) for p in made.glob("*.npz")}
    counts = read_json(run / "run.json")["stages"]["heatmaps/resnet18/seed-0/own"]["scales"]
    assert counts == {
        f"{s:g}": sum(h.input_scale == s for h in heats.values()) for s in (0.75, 1.0, 1.5)
    }
    assert sum(n > 0 for n in counts.values()) > 1
    for h in heats.values():  # a finer grid of a larger image
        assert h.raw.shape == {0.75: (12, 12), 1.0: (16, 16), 1.5: (24, 24)}[h.input_scale]
    test = [r for r in read_rows(run / "splits.csv") if r["split"] == "test"]
    args = ("--out", tmp_path, "--method", "own-grown", "--heatmaps")
    assert weakseg("predict", run, *[r["image"] for r in test][::-1], *args) == 0
    for r in test:
        theirs = pixels(run / f"masks/own-grown/seed-0/{r['case']}.png")
        np.testing.assert_array_equal(pixels(tmp_path / f"{r['case']}.png"), theirs)
        ours = load_heatmap(tmp_path / f"heatmaps/{r['case']}.npz")
        assert ours.input_scale == heats[r["case"]].input_scale
        assert ours.probability == heats[r["case"]].probability


@pytest.mark.parametrize("content", [None, "{", '{"scales": []}', '{"scales": [0.001]}'])
def test_predict_refuses_a_run_that_does_not_tell_its_scales(job, tmp_path, capsys, content):
    run = shutil.copytree(job[0] / "run", tmp_path / "run")
    path = run / "heatmaps/resnet18/seed-0/own/scales.json"
    path.unlink() if content is None else path.write_text(content)
    images = job[0] / "data/images"
    assert weakseg("predict", run, images, "--out", tmp_path / "out", "--method", "own-fixed") == 2
    said = capsys.readouterr().err
    assert "scales.json" in said
    assert "heatmap-segment" in said


def test_a_plain_weights_file_says_that_nothing_localises(job):
    folder, config = job
    run = folder / "plain"
    short = ["--set", "classifier.seeds=[0]", "--set", "classifier.epochs=1"]
    short += ["--set", "classifier.arch=squeezenet1_1"]
    assert weakseg("train-classifier", config, "--run-dir", run, *short) == 0
    _, meta = load_weights(run / "classifier/squeezenet1_1/seed-0/best.safetensors")
    assert [meta[k] for k in ("pool", "stride", "exits")] == ["default", "null", "false"]


def test_a_network_that_cannot_be_pooled_is_refused_and_nothing_written(job, tmp_path, capsys):
    change = ["--set", "classifier.arch=mobilenet_v3_small", "--set", "classifier.pool=lse"]
    assert weakseg("compare", job[1], "--run-dir", tmp_path / "run", *change) == 2
    assert "classifier.pool" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
