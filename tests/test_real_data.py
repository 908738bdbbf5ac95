"""The main job on real images, where they are; and a training that is really killed."""

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.tiny import read_rows, weakseg, write_config, write_manifest, write_set
from weakseg.runs import read_json

LGG = """
name: lgg
data: {{manifest: {manifest}, image_size: 128}}
classifier: {{arch: squeezenet1_1, weights: {weights}, epochs: 5}}
scores: {{bootstrap: 200}}
report: {{gallery: 1}}
"""


@pytest.mark.slow
def test_glioma_slices_from_labels_to_report(shared, tmp_path):
    source = shared / "data/lgg_flair_dev"
    rows = read_rows(source / "labels.csv")
    patients = sorted({r["patient"] for r in rows})[:30]
    chosen = [
        (source / r["image"], r["label"], source / r["mask"], r["patient"])
        for r in rows
        if r["patient"] in patients
    ]
    manifest = write_manifest(tmp_path / "labels.csv", chosen)
    weights = shared / "weights/squeezenet1_1/squeezenet1_1.safetensors"
    config = tmp_path / "lgg.yaml"
    config.write_text(LGG.format(manifest=manifest, weights=weights))
    run = tmp_path / "run"
    assert weakseg("compare", config, "--run-dir", run) == 0
    scores = read_json(run / "classifier/squeezenet1_1/seed-0/scores.json")
    assert scores["test"]["auc_lesion"]["value"] > 0.8
    report = (run / "report/index.html").read_text()
    assert "imulated" not in report.split("<body")[1][:3000]
    inputs = [c[0] for c in chosen[:6]]
    assert weakseg("predict", run, *inputs, "--out", tmp_path / "out") == 0
    for path in inputs:
        with Image.open(path) as image, Image.open(tmp_path / "out" / path.name) as mask:
            assert mask.size == image.size


@pytest.mark.slow
def test_ultrasound_with_three_classes(shared, tmp_path):
    source = shared / "data/busi_dev"
    rows = read_rows(source / "labels.csv")
    chosen = [
        (source / r["image"], r["label"], source / r["mask"], r["patient"]) for r in rows[::4]
    ]
    manifest = write_manifest(tmp_path / "labels.csv", chosen)
    config = write_config(tmp_path, manifest)
    run = tmp_path / "run"
    short = ["--set", "classifier.epochs=1", "--set", "classifier.seeds=[0]"]
    short += ["--set", "classifier.arch=resnet18"]
    assert weakseg("compare", config, "--run-dir", run, *short) == 0
    table = list(csv.DictReader((run / "scores/per_case.csv").open()))
    sizes = {r["case"]: None for r in table}
    assert len(sizes) > 10
    for name in sizes:
        mask = np.asarray(Image.open(run / f"masks/gradcam-otsu/seed-0/{name}.png"))
        image = Image.open(source / "images" / f"{name}.png")
        assert mask.shape == image.size[::-1]
    assert "auc_macro" in read_json(run / "classifier/resnet18/seed-0/scores.json")["test"]


@pytest.mark.slow
def test_a_process_killed_without_warning_ends_where_an_unbroken_one_does(tmp_path):
    manifest = write_set(tmp_path / "data")
    config = write_config(tmp_path, manifest)
    run, whole = tmp_path / "run", tmp_path / "whole"
    args = ["--set", "classifier.epochs=40", "--set", "classifier.seeds=[0]"]
    args += ["--set", "classifier.arch=resnet18"]
    command = [sys.executable, "-m", "weakseg", "train-classifier", str(config), *args]
    process = subprocess.Popen(
        [*command, "--run-dir", str(run)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    metrics = run / "classifier/resnet18/seed-0/metrics.csv"
    limit = time.monotonic() + 200
    while not (metrics.exists() and len(metrics.read_text().splitlines()) > 5):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < limit
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (run / "classifier/resnet18/seed-0/resume.pt").exists()
    for folder in (run, whole):
        done = subprocess.run(
            [*command, "--run-dir", str(folder)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert done.returncode == 0
    for name in ("metrics.csv", "predictions.csv", "scores.json"):
        a, b = (f / "classifier/resnet18/seed-0" / name for f in (run, whole))
        assert a.read_text() == b.read_text(), name
