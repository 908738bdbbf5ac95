"""A run whose heatmaps an engine has made: its record, its masks, and new images."""

import json
import shutil

import numpy as np

from tests.tiny import pixels, read_rows, weakseg


def test_masks_are_those_of_torch_and_the_record_names_the_engine(runs):
    stages = json.loads((runs / "ort/run.json").read_text())["stages"]
    (heat,) = [s for name, s in stages.items() if name.startswith("heatmaps/")]
    assert heat["engine"] == "onnxruntime"
    hot = 0
    for path in sorted((runs / "torch/masks").glob("gradcam-*/**/*.png")):
        a, b = (
            pixels(path) > 0,
            pixels(runs / "ort/masks" / path.relative_to(runs / "torch/masks")) > 0,
        )
        assert 2 * (a & b).sum() >= 0.999 * (a.sum() + b.sum())
        hot += int(a.sum())
    assert hot > 0
    for method in ("fixed", "otsu"):
        path = f"masks/gradcam-{method}/threshold.json"
        assert json.loads((runs / "ort" / path).read_text())["seed-0"]["engine"] == "onnxruntime"
        assert "engine" not in json.loads((runs / "torch" / path).read_text())["seed-0"]


def test_a_change_of_the_engine_makes_heatmaps_again(runs, capsys):
    config, copy = runs / "tiny.yaml", runs / "again"
    shutil.copytree(runs / "ort", copy)
    args = ("heatmap-segment", config, "--device", "cpu", "--run-dir", copy)
    assert weakseg(*args, "--set", "engine=onnxruntime") == 0
    assert "heatmaps gradcam, seed 0: up to date" in capsys.readouterr().err
    assert weakseg(*args) == 0
    assert "heatmaps gradcam, seed 0: up to date" not in capsys.readouterr().err


def test_predict_takes_the_engine_of_the_run_or_another(runs, tmp_path):
    test = [r for r in read_rows(runs / "ort/splits.csv") if r["split"] == "test"]
    images = [r["image"] for r in test]
    for engine in ((), ("--engine", "torch")):
        out = tmp_path / "-".join(("out", *engine))
        args = ("--method", "otsu", "--out", out)
        assert weakseg("predict", runs / "ort", *images, *args, *engine) == 0
        for r in test:
            a = pixels(out / f"{r['case']}.png") > 0
            b = pixels(runs / f"ort/masks/gradcam-otsu/seed-0/{r['case']}.png") > 0
            if engine:
                assert 2 * (a & b).sum() >= 0.999 * (a.sum() + b.sum())
            else:
                np.testing.assert_array_equal(a, b)


def test_a_method_that_needs_torch_leaves_earlier_heatmaps_alone(runs, capsys):
    args = ("heatmap-segment", runs / "tiny.yaml", "--device", "cpu", "--run-dir", runs / "ort")
    changes = ("--set", "engine=openvino", "--set", "heatmap.method=eigencam")
    assert weakseg(*args, *changes) == 2
    assert "eigencam needs torch" in capsys.readouterr().err
    assert list((runs / "ort/heatmaps").rglob("*.npz"))
