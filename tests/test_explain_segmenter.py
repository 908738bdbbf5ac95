"""``weakseg explain-segmenter`` at work on a run."""

import json
import shutil
from unittest.mock import Mock, patch

import numpy as np
import pytest
import torch

from tests.layout_of_run import files_of
from tests.tiny import cases, read_rows, weakseg, write_config, write_set
from weakseg.config import config_of_run
from weakseg.heatmaps.preserved import CONTROLS
from weakseg.heatmaps.segmentation import ATTRIBUTIONS
from weakseg.methods.attribution import _marked
from weakseg.report.read import _attribution, read_runs

pytestmark = pytest.mark.thorough

CONFIG = """
name: tiny
data: {{manifest: {manifest}, image_size: 32, split: {{val: 0.08, test: 0.25}}}}
scores: {{bootstrap: 100, floors: false}}
report: {{gallery: 0}}
segmenters:
  net: {{arch: attention-unet-small, epochs: 1, steps: 1, batch_size: 2, average: none,
        validation_cases: 0, threshold: 0.2, seeds: [3]}}
  empty: {{arch: attention-unet-small, epochs: 1, steps: 1, batch_size: 2, average: none,
          validation_cases: 0, threshold: 0.999, seeds: [3]}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained")
    config = write_config(folder, write_set(folder / "data", slices=2), CONFIG)
    assert weakseg("train-segmenter", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    out = ("--out", folder / "maps")
    assert weakseg("explain-segmenter", folder / "run", "--method", "net", *out) == 0
    return folder / "run"


def test_every_attribution_has_its_row_of_every_test_image(run):
    rows = read_rows(run / "attribution/net.csv")
    test = cases(run, "test")
    names = [*ATTRIBUTIONS, *CONTROLS]
    assert {(r["case"], r["attribution"]) for r in rows} == {(c, n) for c in test for n in names}
    assert {r["seed"] for r in rows} == {"3"}
    about = json.loads((run / "attribution/net.json").read_text())
    assert about["images"] == len(test)
    assert about["networks"] == {"3": 0.2}
    assert len(about["layers"]["3"]) >= 3
    for name in names:
        for column in ("image_preserved", "prediction_preserved", "quarter_preserved"):
            values = [float(r[column]) for r in rows if r["attribution"] == name]
            assert all(0 <= v <= 1 for v in values)
            mean = about["attributions"][name][column]
            assert mean["value"] == pytest.approx(np.mean(values), abs=1e-5)
            assert mean["low"] <= mean["value"] <= mean["high"]
    stages = json.loads((run / "run.json").read_text())["stages"]
    assert stages["attribution/net"]["data"] == stages["masks/net"]["data"]
    assert "attribution/net.csv" in files_of(run)


def test_maps_are_written_beside_where_they_are_asked_for(run):
    folder = run.parent / "maps/seed-3"
    assert {p.stem for p in folder.glob("*.npz")} == set(cases(run, "test"))
    maps = np.load(next(folder.glob("*.npz")))
    assert set(maps) == set(ATTRIBUTIONS)
    assert {maps[n].shape for n in maps} == {(48, 40)}


def test_the_report_has_its_section_and_a_second_call_makes_nothing(run, tmp_path, capsys):
    assert weakseg("report", run, "--out", tmp_path / "out") == 0
    page = (tmp_path / "out/index.html").read_text()
    assert "What the masks of networks stand on" in page
    assert "Kernel-Weighted Contribution" in page
    table = read_rows(tmp_path / "out/tables/attribution.csv")
    about = json.loads((run / "attribution/net.json").read_text())
    assert [r["attribution"] for r in table] == list(about["attributions"])
    capsys.readouterr()
    assert weakseg("explain-segmenter", run, "--method", "net") == 0
    assert "attribution of net: up to date" in capsys.readouterr().err


def test_an_attribution_of_other_masks_than_the_run_has_is_no_part_of_a_report(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    assert list(read_runs([copy])[0].attribution) == ["net"]
    record = json.loads((copy / "run.json").read_text())
    record["stages"]["masks/net"]["outputs"]["hash"] = "another"
    (copy / "run.json").write_text(json.dumps(record))
    assert _attribution(copy, config_of_run(copy)) == {}


@pytest.mark.parametrize("harm", ["gone", "edited"])
def test_a_damaged_attribution_is_refused_with_what_makes_it_anew(run, tmp_path, harm, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    path = copy / "attribution/net.csv"
    path.unlink() if harm == "gone" else path.write_text(path.read_text() + "\n")
    assert weakseg("report", copy, "--out", tmp_path / "out") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "--method net --force" in said
    assert weakseg("explain-segmenter", copy, "--method", "net", "--images", 1, "--force") == 0
    assert list(read_runs([copy])[0].attribution) == ["net"]


def test_marks_are_those_of_recalibrated_probabilities():
    class Net(torch.nn.Module):
        margin = (0, 0)

    p = torch.tensor([[0.3, 0.6, 0.95]])
    logits = torch.stack([torch.zeros_like(p), torch.logit(p)])[None]
    image = torch.zeros(1, 1, 1, 3)
    for priors, marked in (
        (None, [0, 1, 1]),
        ((0.5, 0.1), [0, 0, 1]),  # odds of 1.5 and 19, over 9
        ((0.0, 0.1), [0, 1, 1]),  # nothing to undo
    ):
        with patch("weakseg.methods.attribution.whole_logits", lambda *_: logits):
            mask = _marked(Net(), image[:, :, 0, 0], 0.5, priors, image)
        assert mask[0].int().tolist() == marked


@pytest.mark.parametrize(
    ("method", "images", "words"),
    [
        ("nett", 0, "did you mean 'net'"),
        ("gradcam-otsu", 0, "gradcam-otsu is no segmentation network"),
        ("empty", 0, "marks nothing in any test image"),
        ("empty", 1, "test images that were looked at"),
    ],
)
def test_what_cannot_be_explained_is_said(run, method, images, words, capsys):
    assert weakseg("explain-segmenter", run, "--method", method, "--images", images) == 2
    assert words in capsys.readouterr().err
    assert not (run / f"attribution/{method}.csv").exists()


def test_a_call_that_finds_nothing_leaves_the_earlier_result(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    with patch("weakseg.stages.explain_segmenter.explain_network", return_value=Mock(rows=[])):
        assert weakseg("explain-segmenter", copy, "--method", "net", "--images", 1) == 2
    assert "marks nothing" in capsys.readouterr().err
    assert list(read_runs([copy])[0].attribution) == ["net"]
    assert weakseg("explain-segmenter", copy, "--method", "net") == 0
    assert "up to date" in capsys.readouterr().err


def test_masks_of_other_settings_are_not_explained(run, tmp_path, capsys):
    copy = shutil.copytree(run, tmp_path / "run")
    path = copy / "config.yaml"
    text = path.read_text()
    assert text.count("threshold: 0.2\n") == 1
    path.write_text(text.replace("threshold: 0.2\n", "threshold: 0.3\n"))
    assert weakseg("explain-segmenter", copy, "--method", "net") == 2
    assert "no masks of net with these settings" in capsys.readouterr().err
