"""Supervised baselines, from manifest to report, through the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.layout_of_run import files_of, named_files
from tests.tiny import read_rows, tree, weakseg, write_config, write_manifest, write_set
from tests.training.test_loop import compile_quickly
from weakseg.config import load_config, parse_config, same_start, starting_weights
from weakseg.errors import count
from weakseg.runs import read_json
from weakseg.scores import dice
from weakseg.scores.stored import read_per_case, read_summary
from weakseg.stages.prepare import prepared_run
from weakseg.stages.train_segmenter import train_segmenters

CONFIG = """
name: tiny
data: {{manifest: {manifest}, image_size: 32, split: {{val: 0.08, test: 0.25}}}}
classifier: {{arch: squeezenet1_1, epochs: 1, batch_size: 8, seeds: [0]}}
heatmap: {{layer: features.7}}
masks: {{rules: [fixed, validation, oracle-image]}}
scores: {{bootstrap: 100}}
report: {{gallery: 1}}
segmenters:
  unet: {{arch: "encoder-unet:squeezenet1_1", epochs: 3, batch_size: 6, seeds: [0, 1]}}
  dm: {{arch: deepmedic, patch: 9, epochs: 2, steps: 3, seeds: [0], threshold: validation}}
equivalence: {{segmenter: unet, patients: [1, 3, 8], draws: 1}}
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """One whole `compare`; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("segmenters")
    manifest = write_set(folder / "data")
    config = write_config(folder, manifest, CONFIG)
    assert weakseg("compare", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    return folder, config


def lesion_masks(run: Path, split: str) -> int:
    return sum(r["split"] == split and r["label"] == "tumor" for r in read_rows(run / "splits.csv"))


def test_supervised_rows_stand_beside_those_of_heatmaps(job):
    run = job[0] / "run"
    table = read_per_case(run)
    assert set(table["method"]) >= {"unet", "dm", "gradcam-fixed", "floor-everything"}
    kinds = table.groupby("method")["kind"].first()
    assert kinds["unet"] == kinds["dm"] == "supervised"
    assert set(table.loc[table["method"] == "unet", "seed"]) == {0, 1}
    test = [r["case"] for r in read_rows(run / "splits.csv") if r["split"] == "test"]
    assert sorted(table.loc[(table["method"] == "unet") & (table["seed"] == 1), "case"]) == test
    assert read_summary(run).set_index("method").loc["unet", "seeds"] == 2


def test_every_mask_that_was_seen_is_counted(job):
    run = job[0] / "run"
    table = read_per_case(run).groupby("method")["masks_seen"].first()
    assert table["unet"] == lesion_masks(run, "train")
    assert table["dm"] == lesion_masks(run, "train") + lesion_masks(run, "val")
    chosen = read_json(run / "masks/dm/threshold.json")["seed-0"]
    assert chosen["chosen_on"] == count(lesion_masks(run, "val"), "validation mask")


def test_masks_have_the_images_own_size_and_the_table_their_dice(job):
    folder, _ = job
    table = read_per_case(folder / "run")
    rows = table[(table["method"] == "dm") & table["has_lesion"]]
    assert len(rows)
    for _, row in rows.iterrows():
        mask = np.asarray(Image.open(folder / f"run/masks/dm/seed-0/{row['case']}.png"))
        truth = np.asarray(Image.open(folder / f"data/masks/{row['case']}.png"))
        assert mask.shape == truth.shape == (48, 40)
        assert row["dice"] == pytest.approx(dice(mask > 0, truth > 0), abs=1e-5)


def test_a_network_learns_what_is_plain_to_see(job):
    """Bright discs on dark noise: three epochs do better than marking everything."""
    summary = read_summary(job[0] / "run").set_index("method")
    metrics = pd.read_csv(job[0] / "run/segmenter/unet/seed-0/metrics.csv")
    assert metrics["train_loss"].iloc[-1] < metrics["train_loss"].iloc[0]
    assert summary.loc["unet", "ap"] > 0.3


def test_the_curve_is_nested_and_ends_with_the_run_s_own_network(job):
    run = job[0] / "run"
    curve = pd.read_csv(run / "scores/equivalence.csv")
    assert sorted(curve["k"].unique()) == [1, 3, 8]
    masks = curve.groupby("k")["masks"].first()
    assert masks.is_monotonic_increasing
    assert masks[8] == lesion_masks(run, "train")
    stages = read_json(run / "run.json")["stages"]
    assert stages["equivalence/unet/0/8"]["same_as"] == "segmenter/unet/0"
    own = read_per_case(run)
    own = own[(own["method"] == "unet") & (own["seed"] == 0)].set_index("case")["dice"]
    last = curve[curve["k"] == 8].set_index("case")["dice"]
    pd.testing.assert_series_equal(last.sort_index(), own.sort_index(), check_names=False)
    assert not list((run / "equivalence").rglob("*.safetensors"))


def test_the_report_answers_the_question(job):
    page = (job[0] / "run/report/index.html").read_text()
    assert "How many masks is a heatmap worth?" in page
    assert "Grad-CAM with a fixed threshold is worth" in page
    assert "Who is better than whom" in page
    tables = job[0] / "run/report/tables"
    pairs = pd.read_csv(tables / "paired_tests.csv")
    assert {"unet", "dm"} <= set(pairs["method"]) | set(pairs["other"])
    assert not any("oracle" in m for m in [*pairs["method"], *pairs["other"]])
    worth = pd.read_csv(tables / "mask_equivalence.csv").set_index("method")
    assert {"gradcam-fixed", "gradcam-validation", "gradcam-oracle-image"} == set(worth.index)
    curve = pd.read_csv(tables / "mask_curve.csv")
    assert list(curve["k"]) == [1, 3, 8]
    trained = pd.read_csv(tables / "segmenters.csv").set_index("name")
    assert trained.loc["dm", "optimizer"] == "rmsprop"
    held = json.loads((job[0] / "run/report/report.json").read_text())
    assert held["tables"]["paired_tests"]


def test_a_second_call_makes_nothing_again(job):
    folder, config = job
    before = tree(folder / "run")
    assert weakseg("compare", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    after = tree(folder / "run")
    kept = [n for n in before if n.split("/")[0] in ("segmenter", "masks", "scores", "equivalence")]
    assert len(kept) > 50
    assert all(before[n] == after[n] for n in kept)


def test_other_heatmaps_leave_the_networks_masks_alone(job, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(job[0] / "run", run)
    before = tree(run / "masks/unet")
    changed = ("--set", "masks.rules=[otsu]")
    assert weakseg("heatmap-segment", job[1], "--run-dir", run, *changed) == 0
    names = {p.name for p in (run / "masks").iterdir() if p.is_dir()}
    assert names == {"gradcam-otsu", "unet", "dm"}
    assert tree(run / "masks/unet") == before
    assert set(read_per_case(run)["method"]) >= {"gradcam-otsu", "unet", "dm"}
    assert "gradcam-fixed" not in set(read_per_case(run)["method"])


def test_new_images_are_segmented_as_the_test_images_were(job, tmp_path):
    folder, _ = job
    images = folder / "data/images"
    assert weakseg(
        *("predict", folder / "run", images, "--out", tmp_path / "out"),
        *("--method", "dm", "--heatmaps", "--overlays"),
    ) == 0  # fmt: skip
    made = folder / "run/masks/dm/seed-0"
    for path in made.glob("*.png"):
        again = np.asarray(Image.open(tmp_path / "out" / path.name))
        np.testing.assert_array_equal(again, np.asarray(Image.open(path)))
    rows = read_rows(tmp_path / "out/predictions.csv")
    assert len(rows) == 36
    assert {"highest_probability", "lesion_pixels"} <= set(rows[0])
    assert len(list((tmp_path / "out/overlays").glob("*.png"))) == 36


SMALL = """
name: small
data: {{manifest: {manifest}, image_size: 32}}
classifier: {{seeds: [0]}}
scores: {{bootstrap: 100, floors: false}}
segmenters:
  net: {{arch: "encoder-unet:squeezenet1_1", epochs: 2, batch_size: 6}}
"""


def trained(folder, manifest, *changes, text=SMALL):
    config = write_config(folder, manifest, text)
    sets = [w for c in changes for w in ("--set", c)]
    run = folder / "run"
    assert weakseg("train-segmenter", config, "--run-dir", run, *sets) == 0
    return run


@pytest.fixture(scope="module")
def small_job(tmp_path_factory):
    """A folder with data and a run by `SMALL`; tests take copies."""
    folder = tmp_path_factory.mktemp("small")
    trained(folder, write_set(folder / "data"))
    return folder


@pytest.fixture
def small(small_job, tmp_path):
    """The manifest and the run of a copy in the test's folder."""
    shutil.copytree(small_job, tmp_path, dirs_exist_ok=True)
    manifest = tmp_path / "data/labels.csv"
    write_config(tmp_path, manifest, SMALL)
    return manifest, tmp_path / "run"


def same_weights(one, other):
    a, b = load_file(one), load_file(other)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.thorough
def test_test_and_validation_masks_change_no_weight(tmp_path):
    """The masks of the other splits are turned inside out; the network must not notice."""
    networks = []
    for name in ("a", "b"):
        folder = tmp_path / name
        manifest = write_set(folder / "data")
        if name == "b":
            for row in read_rows(tmp_path / "a/run/splits.csv"):
                if row["split"] != "train" and row["label"] == "tumor":
                    path = folder / f"data/masks/{row['case']}.png"
                    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
        run = trained(folder, manifest, "segmenters.net.average=none")
        networks.append(run / "segmenter/net/seed-0/best.safetensors")
    assert same_weights(*networks)


@pytest.mark.thorough
def test_a_killed_training_ends_where_an_unbroken_one_does(tmp_path):
    manifest = write_set(tmp_path / "data")
    changes = ("segmenters.net.epochs=3", "segmenters.net.average=ema")
    whole = trained(tmp_path, manifest, *changes)
    config = load_config(tmp_path / "tiny.yaml", changes)

    def killed(epoch):
        if epoch == 2:
            raise KeyboardInterrupt

    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt), prepared_run(config, broken) as prepared:
        train_segmenters(prepared, after_epoch=killed)
    assert (tmp_path / "broken/segmenter/net/seed-0/resume.pt").exists()
    with prepared_run(config, tmp_path / "broken") as prepared:
        train_segmenters(prepared)
    part = "segmenter/net/seed-0/best.safetensors"
    assert same_weights(whole / part, tmp_path / "broken" / part)


def test_training_without_a_classifier_then_with(small, tmp_path):
    _, run = small
    assert set(read_per_case(run)["method"]) == {"net"}
    page = tmp_path / "page"
    assert weakseg("report", run, "--out", page) == 0
    assert "net) reaches a Dice" in (page / "index.html").read_text()


@pytest.mark.thorough
def test_another_setting_keeps_the_earlier_network(small, tmp_path):
    manifest, run = small
    trained(tmp_path, manifest, "segmenters.net.loss=ce")
    assert list((run / "superseded").glob("net-seed-0-*/best.safetensors"))


def test_a_tile_or_threshold_does_not_train_anew(small, tmp_path):
    manifest, run = small
    before = (run / "segmenter/net/seed-0/best.safetensors").stat().st_mtime_ns
    trained(tmp_path, manifest, "segmenters.net.threshold=0.9", "segmenters.net.flips=x")
    assert (run / "segmenter/net/seed-0/best.safetensors").stat().st_mtime_ns == before
    assert read_json(run / "masks/net/threshold.json")["seed-0"]["threshold"] == 0.9


@pytest.mark.thorough
def test_a_compiled_network_is_the_same_and_is_not_trained_anew(small, tmp_path, monkeypatch):
    calls = compile_quickly(monkeypatch)
    manifest, run = small
    best = run / "segmenter/net/seed-0/best.safetensors"
    before = best.stat().st_mtime_ns
    trained(tmp_path, manifest, "segmenters.net.compile=true")
    assert best.stat().st_mtime_ns == before
    assert not calls
    (tmp_path / "compiled").mkdir()
    other = trained(tmp_path / "compiled", manifest, "segmenters.net.compile=true")
    assert calls
    found, expected = (load_file(r / "segmenter/net/seed-0/best.safetensors") for r in (other, run))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor)


SEEN = {("ce", "ema"), ("dice", "swa"), ("dice-ce", "ema"), ("focal", "swa")}
"""Every loss and every average; the other pairs hold nothing that these do not."""
PAIRS = [
    pytest.param(loss, average, marks=[pytest.mark.slow] * ((loss, average) not in SEEN))
    for loss in ("ce", "dice", "dice-ce", "focal")
    for average in ("ema", "swa")
]


@pytest.mark.thorough
@pytest.mark.parametrize(("loss", "average"), PAIRS)
def test_every_loss_and_average_trains(tmp_path, loss, average):
    manifest = write_set(tmp_path / "data", patients=6, slices=2)
    run = trained(
        tmp_path, manifest, f"segmenters.net.loss={loss}", f"segmenters.net.average={average}",
        "segmenters.net.keep=best", "segmenters.net.recalibrate=true",
    )  # fmt: skip
    assert np.isfinite(pd.read_csv(run / "segmenter/net/seed-0/metrics.csv")["train_loss"]).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["segmenters={}"], "names no segmenter"),
        (["segmenters.net.arch=unett"], "no segmentation network 'unett'"),
        (["segmenters.net.arch=fcn8s:resnet19"], "no backbone 'resnet19'"),
        (["segmenters.net.weights=nowhere.safetensors"], "does not exist"),
        (["segmenters.net.loss=hinge"], "segmenters.net.loss"),
        (
            ["segmenters.net.normalise=zscore", "segmenters.net.augment={contrast: 0.1}"],
            "not for z-scored",
        ),
        (
            ["segmenters.net.optimizer=rmsprop", "segmenters.net.weight_decay=0.1"],
            "no decoupled weight decay",
        ),
        (["segmenters.net.epochz=3"], "did you mean 'epochs'"),
        (["segmenters.a/b={}"], "becomes a folder"),
        (["equivalence.segmenter=nett"], "no segmenter 'nett'"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(tmp_path, capsys, changes, words):
    manifest = write_set(tmp_path / "data", patients=6, slices=2)
    config = write_config(tmp_path, manifest, SMALL)
    sets = [w for c in changes for w in ("--set", c)]
    assert weakseg("train-segmenter", config, "--run-dir", tmp_path / "run", *sets) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_an_unknown_name_and_too_many_patients_are_refused(tmp_path, capsys):
    manifest = write_set(tmp_path / "data", patients=6, slices=2)
    config = write_config(tmp_path, manifest, SMALL)
    assert weakseg("train-segmenter", config, "--run-dir", tmp_path / "r", "--only", "x") == 2
    assert "no segmenter 'x'" in capsys.readouterr().err
    many = ("--set", "equivalence.segmenter=net", "--set", "equivalence.patients=[99]")
    many += ("--set", "heatmap.layer=layer3")
    assert weakseg("compare", config, "--run-dir", tmp_path / "r", *many) == 2
    assert "fewer than 99 training patients" in capsys.readouterr().err
    assert not list((tmp_path / "r").rglob("*.safetensors"))


def test_a_set_without_training_masks_is_refused(tmp_path, capsys):
    manifest = write_set(tmp_path / "data", patients=6, slices=2)
    rows = [(r["image"], r["label"], "", r["patient"]) for r in read_rows(manifest)]
    config = write_config(tmp_path, write_manifest(manifest, rows), SMALL)
    assert weakseg("train-segmenter", config, "--run-dir", tmp_path / "r") == 2
    assert "No training image with a lesion has a mask" in capsys.readouterr().err


@pytest.mark.thorough
def test_compare_goes_on_without_masks(tmp_path, capsys):
    manifest = write_set(tmp_path / "data", patients=8, slices=2)
    rows = [(r["image"], r["label"], "", r["patient"]) for r in read_rows(manifest)]
    config = write_config(tmp_path, write_manifest(manifest, rows), SMALL)
    short = (
        "--set",
        "classifier.epochs=1",
        "--set",
        "classifier.arch=squeezenet1_1",
        "--set",
        "heatmap.layer=features.7",
    )
    assert weakseg("compare", config, "--run-dir", tmp_path / "r", *short) == 0
    assert "segmenters: left out" in capsys.readouterr().err
    assert "Nothing could be scored" in (tmp_path / "r/report/index.html").read_text()


@pytest.mark.thorough
@pytest.mark.parametrize(
    "changes",
    [
        ["patch=16", "sampler=uniform"],
        pytest.param(["patch=16", "sampler=grid", "flips=all"], marks=pytest.mark.thorough),
        ["patch=16", "sampler=foreground", "foreground=0.8", "tile=16", "overlap=0.25"],
        pytest.param(
            ["patch=16", "sampler=balanced", "recalibrate=true", "loss=ce"],
            marks=pytest.mark.thorough,
        ),
        pytest.param(["sampler=balanced", "normalise=zscore"], marks=pytest.mark.thorough),
        ["sampler=uniform", "optimizer=rmsprop", "schedule=poly", "l1=1e-6", "l2=1e-4"],
    ],
)
def test_samplers_patches_and_tiles(tmp_path, changes):
    manifest = write_set(tmp_path / "data", patients=6, slices=2)
    run = trained(tmp_path, manifest, *(f"segmenters.net.{c}" for c in changes))
    masks = list((run / "masks/net/seed-0").glob("*.png"))
    assert masks
    assert all(Image.open(m).size == (40, 48) for m in masks)
    held = read_json(run / "segmenter/net/seed-0/settings.json")
    assert 0 < held["true_prior"] < 0.5
    if "sampler=balanced" in changes:
        assert held["sampled_prior"] > held["true_prior"]
    if "sampler=uniform" in changes:
        assert held["sampled_prior"] == pytest.approx(held["true_prior"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch",
    [
        *("unet", "unet-original", "encoder-unet:resnet18", "encoder-unet:densenet121"),
        *("encoder-unet:vgg16", "encoder-unet:mobilenet_v2"),
        *("encoder-unet:tf_efficientnet_lite0", "fcn32s", "fcn16s:resnet18", "fcn8s:mobilenet_v2"),
        *("fcn_resnet50", "deeplabv3_resnet50"),
        *("deepmedic", "deepmedic-release", "deepmedic-latest"),
    ],
)
def test_every_network_trains_and_segments(tmp_path, arch):
    manifest = write_set(tmp_path / "data", patients=6, slices=2)
    run = trained(
        tmp_path, manifest, f"segmenters.net.arch={arch}", "segmenters.net.epochs=1",
        "segmenters.net.batch_size=2", "segmenters.net.steps=2",
    )  # fmt: skip
    assert np.isfinite(pd.read_csv(run / "segmenter/net/seed-0/metrics.csv")["train_loss"]).all()
    assert set(read_per_case(run)["method"]) == {"net"}


@pytest.mark.thorough
def test_a_curve_of_another_network_or_other_splits_is_not_shown(job, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(job[0] / "run", run)
    other = ("--set", "equivalence.segmenter=dm")
    assert weakseg("train-segmenter", job[1], "--run-dir", run, *other) == 0
    assert weakseg("report", run, "--out", tmp_path / "page") == 0
    assert "How many masks is a heatmap worth?" not in (tmp_path / "page/index.html").read_text()


def test_scores_of_other_splits_are_refused(small, tmp_path, capsys):
    _, run = small
    bad = ("--set", "data.split.seed=3", "--set", "segmenters.net.lr=1e30")
    assert weakseg("train-segmenter", tmp_path / "tiny.yaml", "--run-dir", run, *bad) == 2
    assert weakseg("report", run, "--out", tmp_path / "page") == 2
    assert "other data or splits" in capsys.readouterr().err


def test_scores_of_other_settings_are_left_out(job, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(job[0] / "run", run)
    changed = ("--only", "dm", "--set", "segmenters.unet.epochs=7")
    assert weakseg("train-segmenter", job[1], "--run-dir", run, *changed) == 0
    assert "segmenter-unet: left out" in capsys.readouterr().err
    assert {"dm", "gradcam-fixed"} <= set(read_per_case(run)["method"])
    assert "unet" not in set(read_per_case(run)["method"])


@pytest.mark.thorough
def test_scores_and_curves_from_other_starting_weights_are_left_out(job, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(job[0] / "run", run)
    start = run / "classifier/squeezenet1_1/seed-0/best.safetensors"
    change = ("--set", f"segmenters.unet.weights={start}")
    assert weakseg("train-segmenter", job[1], "--run-dir", run, "--only", "dm", *change) == 0
    assert "segmenter-unet: left out" in capsys.readouterr().err
    assert "unet" not in set(read_per_case(run)["method"])
    assert weakseg("report", run, "--out", tmp_path / "page") == 0
    assert "How many masks is a heatmap worth?" not in (tmp_path / "page/index.html").read_text()


def test_starting_weights_are_held_against_each_other_by_their_content(tmp_path):
    def entry(weights, of_classifier="none"):
        tree = {"classifier": {"weights": of_classifier}, "segmenters": {"net": {}}}
        tree["segmenters"]["net"]["weights"] = weights
        config = parse_config(tree)
        return config, {"starting_weights": starting_weights(config, "net")}

    files = [tmp_path / n for n in ("one", "same", "other", "gone")]
    for path, content in zip(files, "112", strict=False):
        path.write_text(content)
    one, same, other, gone = (entry(str(f)) for f in files)
    none, imagenet = entry("none"), entry("imagenet")
    asked, _ = one
    for of, expected in ((one, True), (same, True), (other, False), (none, False)):
        assert same_start(of[1], asked, "net") is expected
    assert not same_start(none[1], imagenet[0], "net")
    assert same_start(imagenet[1], entry("classifier", "imagenet")[0], "net")
    # What earlier versions wrote, and a file that is not there: nothing speaks against it.
    assert same_start({}, asked, "net")
    assert same_start(one[1], gone[0], "net")


def test_predict_keeps_to_how_a_network_was_trained(job, tmp_path):
    run, image = tmp_path / "run", sorted((job[0] / "data/images").glob("*.png"))[0]
    shutil.copytree(job[0] / "run", run)
    changed = ("--only", "dm", "--set", "segmenters.unet.normalise=zscore")
    assert weakseg("train-segmenter", job[1], "--run-dir", run, *changed) == 0
    for folder, out in ((job[0] / "run", "a"), (run, "b")):
        to = tmp_path / out
        assert weakseg("predict", folder, image, "--out", to, "--method", "unet") == 0
    assert (tmp_path / "a/predictions.csv").read_text() == (
        tmp_path / "b/predictions.csv"
    ).read_text()


def test_weights_of_a_whole_segmenter_are_refused(job, tmp_path, capsys):
    manifest = write_set(tmp_path / "data", patients=6, slices=2)
    config = write_config(tmp_path, manifest, SMALL)
    best = job[0] / "run/segmenter/unet/seed-0/best.safetensors"
    change = ("--set", f"segmenters.net.weights={best}")
    assert weakseg("train-segmenter", config, "--run-dir", tmp_path / "r", *change) == 2
    assert "which masks it saw" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("segmenters.floor-mine={}", "is taken"),
        ("segmenters.gradcam-fixed={}", "a heatmap method has that name"),
        ("segmenters.net.tile=true", "must be a number or auto"),
        ("segmenters.net.image_size=1", "from 32 to 2048"),
        ("segmenters.net.batch_size=1", "no batch statistics"),
        ("segmenters.net={arch: unet, weights: imagenet}", "no backbone"),
        ("segmenters.net={keep: best, validation_cases: 0}", "set validation_cases"),
    ],
)
def test_what_could_only_fail_later_is_refused_at_once(tmp_path, capsys, change, words):
    manifest = write_set(tmp_path / "data", patients=6, slices=2)
    config = write_config(tmp_path, manifest, SMALL)
    assert weakseg("compare", config, "--run-dir", tmp_path / "r", "--set", change) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "segmenters" in said
    assert not list(tmp_path.rglob("*.safetensors"))


def test_validation_masks_that_are_not_there_are_missed_before_training(small, tmp_path, capsys):
    manifest, _ = small
    splits = {r["image"].split("/")[-1]: r["split"] for r in read_rows(tmp_path / "run/splits.csv")}
    rows = []
    for r in read_rows(manifest):
        mask = "" if splits[r["image"].split("/")[-1]] == "val" else r["mask"]
        rows.append((r["image"], r["label"], mask, r["patient"]))
    write_manifest(manifest, rows)
    changed = ("--set", "segmenters.net.threshold=validation")
    again = tmp_path / "again"
    assert weakseg("train-segmenter", tmp_path / "tiny.yaml", "--run-dir", again, *changed) == 2
    assert "No validation image with a lesion has a mask" in capsys.readouterr().err
    assert not list(again.rglob("*.safetensors"))


@pytest.mark.thorough
def test_one_augmentation_is_laid_over_the_recipe(tmp_path):
    manifest = write_set(tmp_path / "data", patients=6, slices=2)
    run = trained(
        tmp_path, manifest, "segmenters.net={arch: deepmedic, epochs: 1, steps: 1}",
        "segmenters.net.augment={rotate: 5}",
    )  # fmt: skip
    held = read_json(run / "segmenter/net/seed-0/settings.json")["settings"]["augment"]
    assert (held["rotate"], held["contrast"], held["intensity_shift"]) == (5, 0, 0.05)


@pytest.mark.thorough
def test_no_file_of_the_run_is_without_a_name_in_the_layout(job):
    assert files_of(job[0] / "run") == named_files(job[0] / "run")
