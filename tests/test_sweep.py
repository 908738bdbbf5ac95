"""``heatmap-segment --sweep`` through the command line."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pandas as pd
import pytest

from tests.layout_of_run import files_of, named_files
from tests.tiny import read_rows, weakseg, write_config, write_set
from weakseg.data.images import read_mask
from weakseg.heatmaps.every_layer import SWEPT
from weakseg.heatmaps.store import load_heatmap
from weakseg.masks.set_thresholds import GRID
from weakseg.masks.thresholds import dice_curve, normalise

pytestmark = pytest.mark.thorough

SHORT = ("--set", "classifier.seeds=[0]", "--set", "classifier.epochs=1")
LAYERS = ("features.4", "features.7", "features.10", "features.12")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    config = write_config(folder, write_set(folder / "set"))
    assert weakseg("compare", config, "--run-dir", folder / "run", *SHORT) == 0
    assert weakseg("heatmap-segment", config, "--sweep", "--run-dir", folder / "run", *SHORT) == 0
    return folder, config


def test_every_method_is_tried_at_every_depth_and_threshold(run):
    table = pd.read_csv(run[0] / "run/scores/sweep.csv")
    assert set(table["method"]) == set(SWEPT)
    of_layers = table[table["method"] != "fullgrad"]
    assert set(of_layers["layer"]) == {*LAYERS, "fused"}
    assert len(of_layers) == (len(SWEPT) - 1) * 5 * len(GRID)
    assert list(table[table["method"] == "fullgrad"]["layer"]) == ["image"] * len(GRID)
    assert table["dice"].between(0, 1).all()


def test_its_dice_is_that_of_the_run_s_own_heatmaps_on_validation_masks(run):
    folder = run[0] / "run"
    cases = [
        r for r in read_rows(folder / "splits.csv") if (r["split"], r["label"]) == ("val", "tumor")
    ]
    curves = []
    for row in cases:
        heat = load_heatmap(
            folder / "heatmaps/squeezenet1_1/seed-0/gradcam" / f"{row['case']}.npz"
        ).full()
        truth = read_mask(run[0] / "set/masks" / f"{row['case'].rpartition('/')[2]}.png")
        curves.append(dice_curve(normalise(heat), truth, GRID))
    table = pd.read_csv(folder / "scores/sweep.csv")
    swept = table[(table["method"] == "gradcam") & (table["layer"] == LAYERS[-1])]["dice"]
    # The run's own heatmaps went through half precision on their way to the disk.
    np.testing.assert_allclose(swept, np.mean(curves, axis=0), atol=2e-3)
    assert set(table["masks_seen"]) == {len(cases)}


def test_the_report_draws_it_and_says_what_it_saw(run, capsys):
    folder, config = run
    assert weakseg("compare", config, "--run-dir", folder / "run", *SHORT) == 0
    page = (folder / "run/report/index.html").read_text()
    assert "Which heatmap, at which layer" in page
    assert "validation mask" in page
    assert len(read_rows(folder / "run/report/tables/sweep.csv")) == (len(SWEPT) - 1) * 5 + 1


def test_a_second_sweep_is_up_to_date(run, capsys):
    folder, config = run
    args = ("heatmap-segment", config, "--sweep", "--run-dir", folder / "run", *SHORT)
    assert weakseg(*args) == 0
    assert "sweep: up to date" in capsys.readouterr().err


def test_a_precision_that_is_named_is_swept_anew(run, tmp_path, capsys):
    folder, config = run
    shutil.copytree(folder / "run", tmp_path / "run")
    args = ("heatmap-segment", config, "--sweep", "--run-dir", tmp_path / "run", *SHORT)
    named = ("--set", "heatmap.precision=bf16-mixed")
    assert weakseg(*args, *named) == 0
    assert "sweep: up to date" not in capsys.readouterr().err
    assert weakseg(*args, *named) == 0
    assert "sweep: up to date" in capsys.readouterr().err


def test_the_fused_row_goes_by_the_weights_of_the_experiment(run, tmp_path, capsys):
    folder, config = run
    shutil.copytree(folder / "run", tmp_path / "run")
    args = ("heatmap-segment", config, "--sweep", "--run-dir", tmp_path / "run", *SHORT)
    labels = ("--set", "heatmap.fusion=labels", "--set", "heatmap.layer=fused")
    rows = {}
    for name, more in (
        ("mean", ()),
        ("learnt", labels),
        ("deepest", (*labels, "--set", "heatmap.weights=[0, 0, 0, 1]")),
    ):
        assert weakseg(*args, *more) == 0
        said = capsys.readouterr().err
        assert ("sweep: up to date" in said) == (name == "mean")
        table = pd.read_csv(tmp_path / "run/scores/sweep.csv").set_index(["method", "layer"])
        rows[name] = table.xs("fused", level="layer")["dice"].to_numpy()
    np.testing.assert_allclose(
        rows["deepest"], table.xs(LAYERS[-1], level="layer")["dice"].to_numpy(), atol=0.05
    )
    assert not np.allclose(rows["deepest"], rows["mean"], atol=0.05)


def test_without_validation_masks_it_says_what_to_do(run, tmp_path, capsys):
    manifest = write_set(tmp_path / "set")
    rows = read_rows(manifest)
    with manifest.open("w", newline="") as f:
        writer = csv.DictWriter(f, fieldnames=["image", "label", "patient"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    config = write_config(tmp_path, manifest)
    out = tmp_path / "run"
    assert weakseg("train-classifier", config, "--run-dir", out, *SHORT) == 0
    assert weakseg("heatmap-segment", config, "--sweep", "--run-dir", out, *SHORT) == 2
    assert "column `mask`" in capsys.readouterr().err
    assert not (out / "scores/sweep.csv").exists()


def test_no_file_of_the_run_is_without_a_name_in_the_layout(run):
    assert files_of(run[0] / "run") == named_files(run[0] / "run")
