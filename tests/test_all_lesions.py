"""Sets in which every image has a lesion: networks on true masks, and no classifier."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tiny import pixels, read_rows, weakseg, write_config, write_manifest, write_set

CONFIG = """
name: ill
data: {{manifest: {manifest}, image_size: 64, healthy_labels: [], split: {{val: 0.2, test: 0.3}}}}
segmenters:
  unet: {{arch: attention-unet-small, image_size: 32, epochs: 1, steps: 2, batch_size: 4}}
scores: {{bootstrap: 100}}
report: {{gallery: 2}}
"""


@pytest.mark.thorough
def test_a_network_is_trained_scored_and_predicts(tmp_path, capsys):
    manifest = write_set(tmp_path / "set", patients=8)
    rows = [
        (tmp_path / "set" / r["image"], "tumor", tmp_path / "set" / r["mask"], r["patient"])
        for r in read_rows(manifest)
        if r["label"] == "tumor"
    ]
    ill = write_manifest(tmp_path / "ill.csv", rows)
    config, run = write_config(tmp_path, ill, CONFIG), tmp_path / "run"
    assert weakseg("compare", config, "--run-dir", run) == 0
    scores = read_rows(run / "scores/summary.csv")
    assert {r["method"] for r in scores} == {"unet"}
    assert not (run / "classifier").exists()
    page = (run / "report/index.html").read_text()
    assert "U-Net" in page
    assert weakseg("predict", run, rows[0][0], "--out", tmp_path / "masks") == 0
    mask = pixels(tmp_path / "masks" / f"{rows[0][0].stem}.png")
    assert set(np.unique(mask)) <= {0, 255}
    capsys.readouterr()
    assert weakseg("train-classifier", config, "--run-dir", run) == 2
    assert "no image is without a lesion" in capsys.readouterr().err


def test_without_saying_so_a_set_of_lesions_alone_is_refused(tmp_path, capsys):
    manifest = write_set(tmp_path / "set", patients=6)
    rows = [
        (tmp_path / "set" / r["image"], "tumor", "", r["patient"])
        for r in read_rows(manifest)
        if r["label"] == "tumor"
    ]
    ill = write_manifest(tmp_path / "ill.csv", rows)
    text = CONFIG.replace("healthy_labels: [], ", "")
    assert weakseg("compare", write_config(tmp_path, ill, text)) == 2
    assert "only one label" in capsys.readouterr().err
