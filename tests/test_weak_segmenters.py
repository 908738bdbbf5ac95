"""Networks trained on masks that heatmaps make, from manifest to report, by the command line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.layout_of_run import files_of, named_files
from tests.marks import thorough_but
from tests.tiny import (
    cases,
    only_test_masks,
    pixels,
    read_rows,
    tree,
    tumours,
    weakseg,
    write_config,
    write_set,
)
from weakseg.data.images import read_image
from weakseg.heatmaps.store import load_heatmap
from weakseg.masks import level
from weakseg.masks.level import level_mask
from weakseg.masks.rules.grown import grown_mask
from weakseg.masks.thresholds import normalise
from weakseg.runs import read_json
from weakseg.scores import dice
from weakseg.scores.stored import read_per_case, read_summary
from weakseg.stages import train_segmenter

CONFIG = """
name: weak
data: {{manifest: {manifest}, image_size: 64, split: {{val: 0.08, test: 0.25}}}}
classifier: {{arch: squeezenet1_1, epochs: 6, batch_size: 8, seeds: [0]}}
masks: {{rules: [fixed, validation, oracle-image], gate: none}}
scores: {{bootstrap: 100, floors: false}}
report: {{gallery: 1}}
segmenters:
  best-weak:
    {{image_size: 64, epochs: 1, steps: 24, batch_size: 4, average: none, threshold: 0.5,
      min_peak: 0.6, ignore: [0.45, 0.6]}}
  after:
    {{arch: "encoder-unet:squeezenet1_1", masks: best-weak, epochs: 1, steps: 6, batch_size: 4,
      average: none}}
"""
RECIPE = ("--set", "recipe=best-weak")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """One whole `compare` with the recipe; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("weak")
    manifest = write_set(folder / "data")
    config = write_config(folder, manifest, CONFIG)
    run = folder / "run"
    assert weakseg("compare", config, "--run-dir", run, "--device", "cpu", *RECIPE) == 0
    return folder, config


@pytest.fixture
def copy(job, tmp_path):
    """A copy of its run, to be changed."""
    return Path(shutil.copytree(job[0] / "run", tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.png"))}
    assert found
    return found


def test_another_gate_of_the_heatmaps_trains_no_network_again(job, copy):
    """Targets are made without it."""
    before = {p: p.stat().st_mtime_ns for p in copy.glob("segmenter/*/*/*.safetensors")}
    assert before
    gate = (*RECIPE, "--set", "masks.gate=0.4", "--run-dir", copy, "--device", "cpu")
    for command in ("heatmap-segment", "train-segmenter"):
        assert weakseg(command, job[1], *gate) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert not list(copy.rglob("superseded"))


# What it writes


def test_it_is_weak_and_has_seen_no_mask(job):
    run = job[0] / "run"
    summary = read_summary(run).set_index("method")
    assert set(summary.index) == {
        *("gradcam-fixed", "gradcam-validation", "gradcam-oracle-image"),
        *("best-map-two-tone", "best-map-grown", "best-weak", "after"),
    }
    assert summary.loc["best-map-two-tone", "kind"] == "heatmap"
    for name, teacher in (("best-weak", "best-map-grown"), ("after", "best-weak")):
        assert summary.loc[name, "kind"] == "weak"
        assert summary.loc[name, "masks_seen"] == 0
        held = read_json(run / f"segmenter/{name}/seed-0/settings.json")
        assert (held["masks_of"], held["masks_of_seed"]) == (teacher, 0)
        assert held["training_masks"] == held["validation_masks"] == 0
        threshold = read_json(run / f"masks/{name}/threshold.json")["seed-0"]
        assert threshold["chosen_on"].endswith(f"trained on masks by {teacher}")
        assert not threshold["upper_bound"]


def test_every_test_image_has_a_mask_and_lesions_are_found(job):
    folder, _ = job
    run = folder / "run"
    for name in ("best-weak", "after"):
        made = {p.stem: pixels(p) for p in (run / "masks" / name / "seed-0").glob("*.png")}
        assert set(made) == set(cases(run, "test"))
        assert all(m.shape == (48, 40) and set(np.unique(m)) <= {0, 255} for m in made.values())
    # Bright discs on dark noise are learned from heatmaps as well.
    assert read_summary(run).set_index("method").loc["best-weak", "dice"] > 0.4


def test_targets_are_of_training_lesions_alone(job):
    run = job[0] / "run"
    lesions = set(tumours(run, "train"))
    for name, values in (("best-weak", {0, 128, 255}), ("after", {0, 255})):
        made = {p.stem: pixels(p) for p in (run / "targets" / name / "seed-0").glob("*")}
        assert made
        assert set(made) <= lesions
        held = read_json(run / f"segmenter/{name}/seed-0/settings.json")
        assert held["targets"] == len(made)
        assert {int(v) for m in made.values() for v in np.unique(m)} == values
        assert all((m == 255).any() and m.shape == (48, 40) for m in made.values())


def test_a_target_is_the_rules_mask_but_where_the_heat_is_undecided(job):
    folder, _ = job
    run = folder / "run"
    for path in (run / "targets/best-weak/seed-0").glob("*.png"):
        heat = load_heatmap(run / f"heatmaps/squeezenet1_1/seed-0/best-map/{path.stem}.npz").full()
        mask = grown_mask(heat, pixels(folder / f"data/images/{path.stem}.png"), rare=0.3)
        share, target = normalise(heat), pixels(path)
        np.testing.assert_array_equal(target == 255, mask & (share >= 0.6))
        np.testing.assert_array_equal(target == 0, ~mask & (share <= 0.45))


def test_the_page_speaks_of_it(job):
    page = (job[0] / "run/report/index.html").read_text()
    assert "(best-weak) trained on the masks of" in page
    assert "best-map" in page


# No true mask has a part in it

WITHOUT = CONFIG + '  drawn: {{arch: "encoder-unet:squeezenet1_1", epochs: 1}}\n'


@pytest.mark.thorough
def test_without_any_training_or_validation_mask_all_is_the_same_to_the_byte(job, tmp_path, capsys):
    folder, _ = job
    bare = only_test_masks(folder / "data", folder / "run", tmp_path / "bare.csv")
    config = write_config(tmp_path, bare, WITHOUT)
    run = tmp_path / "run"
    assert weakseg("compare", config, "--run-dir", run, "--device", "cpu", *RECIPE) == 0
    said = capsys.readouterr().err
    assert "segmenters: left out" in said
    assert "(drawn)" in said
    assert not (run / "masks/drawn").exists()
    assert tumours(run, "train") == tumours(folder / "run", "train")
    for part in ("masks/best-weak", "masks/after", "masks/best-map-two-tone", "targets"):
        assert contents(run / part) == contents(folder / "run" / part)
    for name in ("best-weak", "after"):
        one, other = (
            load_file(r / f"segmenter/{name}/seed-0/best.safetensors")
            for r in (run, folder / "run")
        )
        assert all((one[k] == other[k]).all() for k in one)
    ours, theirs = (read_summary(r).set_index("method") for r in (run, folder / "run"))
    assert "gradcam-validation" not in ours.index
    assert ours.loc["best-weak", "dice"] == theirs.loc["best-weak", "dice"]


@pytest.mark.thorough
def test_masks_that_its_teacher_saw_are_counted(job, copy):
    change = ("--set", "segmenters.after.masks=gradcam-validation")
    assert weakseg("train-segmenter", job[1], "--run-dir", copy, *RECIPE, *change) == 0
    summary = read_summary(copy).set_index("method")
    assert summary.loc["after", "masks_seen"] == len(tumours(copy, "val"))
    assert summary.loc["best-weak", "masks_seen"] == 0


# What is made again


def test_a_second_call_makes_nothing_again(job, capsys):
    folder, config = job
    before = tree(folder / "run")
    assert weakseg("compare", config, "--run-dir", folder / "run", "--device", "cpu", *RECIPE) == 0
    said = capsys.readouterr().err
    for name in ("best-weak", "after"):
        assert f"segmenter {name}, seed 0: up to date" in said
        assert f"masks of {name}: up to date" in said
    after = tree(folder / "run")
    made = ("classifier", "heatmaps", "masks", "segmenter", "targets", "scores")
    kept = [n for n in before if n.split("/")[0] in made]
    assert len(kept) > 50
    assert all(before[n] == after[n] for n in kept)


def weights(run, name):
    return (run / f"segmenter/{name}/seed-0/best.safetensors").stat().st_mtime_ns


WARMER = ("--set", "heatmaps.best-map.rules=[two-tone, {rule: grown, warm: 0.6}]")


@pytest.mark.slow  # another heatmap, below, trains again as well; that warmth counts is seen next
def test_another_warmth_makes_other_masks_and_trains_again(job, copy):
    before = contents(copy / "masks/best-map-grown"), weights(copy, "best-weak")
    assert weakseg("compare", job[1], "--run-dir", copy, *RECIPE, *WARMER) == 0
    entry = read_json(copy / "masks/best-map-grown/threshold.json")["seed-0"]
    assert entry["rule"]["warm"] == 0.6
    assert contents(copy / "masks/best-map-grown") != before[0]
    assert weights(copy, "best-weak") > before[1]
    assert set(read_per_case(copy)["method"]) >= {"gradcam-fixed", "best-weak"}


def test_other_settings_of_the_training_make_no_masks_again(job, copy, tmp_path, monkeypatch):
    made = []
    make = train_segmenter.training_targets
    monkeypatch.setattr(
        train_segmenter, "training_targets", lambda *of: made.append(of[2]) or make(*of)
    )
    again = Path(shutil.copytree(copy, tmp_path / "again"))
    fewer = ("--set", "segmenters.best-weak.steps=2", "--only", "best-weak")
    trained = []
    for run, force in ((copy, ()), (again, ("--force",))):
        assert weakseg("train-segmenter", job[1], "--run-dir", run, *RECIPE, *fewer, *force) == 0
        assert made == ["best-weak"] * len(force)
        trained.append(load_file(run / "segmenter/best-weak/seed-0/best.safetensors"))
    before = load_file(job[0] / "run/segmenter/best-weak/seed-0/best.safetensors")
    kept, anew = trained
    assert all((kept[name] == anew[name]).all() for name in anew)
    assert any((kept[name] != before[name]).any() for name in before)


def test_training_alone_does_not_take_masks_of_another_warmth(job, copy, capsys):
    assert weakseg("train-segmenter", job[1], "--run-dir", copy, *RECIPE, *WARMER) == 2
    assert "heatmap-segment" in capsys.readouterr().err


@pytest.mark.thorough
def test_another_heatmap_trains_again_all_that_follows(job, copy):
    before = weights(copy, "best-weak"), weights(copy, "after")
    change = ("--set", "heatmaps.best-map.layer=features.9")
    for stage in ("heatmap-segment", "train-segmenter"):
        assert weakseg(stage, job[1], "--run-dir", copy, *RECIPE, *change) == 0
    assert weights(copy, "best-weak") > before[0]
    assert weights(copy, "after") > before[1]
    assert set(read_summary(copy)["method"]) >= {"best-map-two-tone", "best-weak", "after"}


def test_training_alone_does_not_take_masks_of_other_heatmaps(job, copy, capsys):
    change = ("--set", "heatmaps.best-map.layer=features.9")
    assert weakseg("train-segmenter", job[1], "--run-dir", copy, *RECIPE, *change) == 2
    said = capsys.readouterr().err
    assert "not those of the run's settings" in said
    assert "heatmap-segment" in said


@pytest.mark.thorough
def test_screening_makes_other_masks_of_the_same_network(job, copy):
    before = weights(copy, "best-weak")
    change = ("--set", "segmenters.best-weak.min_peak=1")
    assert weakseg(
        *("train-segmenter", job[1], "--run-dir", copy, "--only", "best-weak"), *RECIPE, *change
    ) == 0  # fmt: skip
    assert weights(copy, "best-weak") == before
    made = contents(copy / "masks/best-weak").keys()
    assert made == contents(job[0] / "run/masks/best-weak").keys()
    assert not any(pixels(copy / "masks/best-weak" / n).any() for n in made)


@pytest.mark.slow  # of the export
def test_outlines_follow_the_image_in_the_run_in_predict_and_in_an_export(
    job, copy, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(level, "OVERLAP", 0.3)  # masks that so short a training makes are far off
    monkeypatch.setattr(level, "ROUGHER", 100)
    monkeypatch.setattr(level, "_leaks", lambda *_: False)
    folder, config = job
    before = weights(copy, "best-weak")
    images = [folder / f"data/images/{n}.png" for n in cases(copy, "test")]
    held = {p.name: pixels(p) == 255 for p in (copy / "masks/best-weak/seed-0").glob("*.png")}
    change = ("--set", "segmenters.best-weak.outline=level", "--only", "best-weak")
    assert weakseg("train-segmenter", config, "--run-dir", copy, *RECIPE, *change) == 0
    assert weights(copy, "best-weak") == before
    ways = {"run": copy, "model": tmp_path / "model"}
    command = ("export", copy, "--method", "best-weak", "--out", ways["model"])
    assert weakseg(*command) == 0
    assert "gives it that of the image at a grey level" in capsys.readouterr().err
    of = ("--method", "best-weak", "--heatmaps")
    for name, way in ways.items():
        assert weakseg("predict", way, *images, *of, "--out", tmp_path / name) == 0
    others = 0
    for p in images:
        name, told = p.name, tmp_path / f"run/heatmaps/{p.stem}.npz"
        mask = pixels(copy / f"masks/best-weak/seed-0/{name}") == 255
        assert mask.any() == held[name].any()
        np.testing.assert_array_equal(pixels(tmp_path / f"run/{name}") == 255, mask)
        assert dice(pixels(tmp_path / f"model/{name}") == 255, mask) > 0.99
        with np.load(told) as found:
            probability = next(iter(found.values()))
        dropped = (probability >= 0.5) & ~held[name]  # by min_peak
        expected = level_mask(np.where(dropped, 0, probability), read_image(p), held[name])
        assert dice(expected, mask) > 0.99
        others += int((mask != held[name]).any())
    assert others


@pytest.mark.thorough
def test_a_network_corrects_its_masks_and_says_when(job, copy, capsys):
    before = contents(copy / "targets/after")
    sets = ("correct={slope: 0.001, lesion: 0.6, background: 0.6}", "epochs=4", "image_size=32")
    sets += ("steps=12",)
    changes = [w for s in sets for w in ("--set", f"segmenters.after.{s}")]
    command = ("train-segmenter", job[1], "--run-dir", copy, "--only", "after", *RECIPE, *changes)
    assert weakseg(*command) == 0
    assert "labels corrected after epoch 3" in capsys.readouterr().err
    folder = copy / "segmenter/after/seed-0"
    assert read_json(folder / "settings.json")["corrected_after"] == 3
    rows = read_rows(folder / "metrics.csv")
    assert all(0.05 < float(r["own_iou"]) <= 1 for r in rows[2:])
    assert [float(r["corrected"]) > 0 for r in rows] == [False, False, True, False]
    assert contents(copy / "targets/after") == before  # what it was first told
    row = read_summary(copy).set_index("method").loc["after"]
    assert row["masks_seen"] == 0
    assert weakseg(*command) == 0
    assert "segmenter after, seed 0: up to date" in capsys.readouterr().err


# Masks of another run

LENT = """
name: lent
data: {{manifest: {manifest}, image_size: 64, split: {{val: 0.08, test: 0.25}}}}
classifier: {{arch: squeezenet1_1, seeds: [7]}}
scores: {{bootstrap: 100, floors: false}}
segmenters:
  lent: {{arch: "encoder-unet:squeezenet1_1", epochs: 1, steps: 2, batch_size: 4}}
"""


@pytest.mark.thorough
@pytest.mark.parametrize(
    "method", thorough_but(["best-map-grown", "best-weak", "gradcam-fixed"], ["best-weak"])
)
def test_another_run_of_the_same_splits_lends_its_masks(job, tmp_path, method):
    folder, _ = job
    config = write_config(tmp_path, folder / "data/labels.csv", LENT)
    lender = folder / "run"
    change = ("--set", f"segmenters.lent.masks={lender}/{method}")
    before = tree(lender)
    assert weakseg("train-segmenter", config, "--run-dir", tmp_path / "r", *change) == 0
    assert tree(lender) == before
    row = read_summary(tmp_path / "r").set_index("method").loc["lent"]
    assert (row["kind"], row["masks_seen"]) == ("weak", 0)
    held = read_json(tmp_path / "r/segmenter/lent/seed-7/settings.json")
    # It has no network of seed 7: the first is taken.
    assert (held["masks_of"], held["masks_of_seed"]) == (method, 0)
    targets = tmp_path / "r/targets/lent/seed-7"
    if method == "best-weak":
        assert contents(targets) == contents(lender / "targets/after/seed-0")
    if method == "best-map-grown":
        theirs = lender / "targets/best-weak/seed-0"
        for path in theirs.glob("*.png"):
            sure = pixels(path) != 128
            assert (pixels(targets / path.name) == pixels(path))[sure].all()


@pytest.mark.thorough
def test_a_network_stands_though_the_run_that_lent_it_masks_has_gone(job, tmp_path, capsys):
    config = write_config(tmp_path, job[0] / "data/labels.csv", LENT)
    lender = tmp_path / "lender"
    lender.symlink_to(job[0] / "run")
    change = ("--set", f"segmenters.lent.masks={lender}/best-weak")
    words = (config, "--run-dir", tmp_path / "r", *change)
    assert weakseg("train-segmenter", *words) == 0
    before = tree(tmp_path / "r/segmenter") | tree(tmp_path / "r/masks")
    assert weakseg("train-segmenter", *words) == 0
    lender.unlink()
    capsys.readouterr()
    assert weakseg("train-segmenter", *words) == 0
    said = capsys.readouterr().err
    assert f"segmenter lent, seed 7: up to date, though {lender}/best-weak has gone" in said
    assert "masks of lent: up to date" in said
    assert tree(tmp_path / "r/segmenter") | tree(tmp_path / "r/masks") == before
    # What is to be made anew needs it.
    for change in (("--set", "segmenters.lent.epochs=2"), ("--force",)):
        assert weakseg("train-segmenter", *words, *change) == 2
        assert "There is no such run folder" in capsys.readouterr().err
    next((tmp_path / "r/targets/lent/seed-7").glob("*.png")).unlink()
    assert weakseg("train-segmenter", *words) == 2
    assert "There is no such run folder" in capsys.readouterr().err
    assert tree(tmp_path / "r/segmenter") | tree(tmp_path / "r/masks") == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["data.split.seed=3"], ["other data, or of other splits", "same manifest"]),
        (["data.image_size=32"], ["other data, or of other splits"]),
    ],
)
def test_a_run_of_other_splits_or_data_lends_nothing(job, tmp_path, capsys, changes, words):
    folder, _ = job
    config = write_config(tmp_path, folder / "data/labels.csv", LENT)
    changes = [*changes, f"segmenters.lent.masks={folder / 'run'}/best-map-two-tone"]
    sets = [w for c in changes for w in ("--set", c)]
    assert weakseg("train-segmenter", config, "--run-dir", tmp_path / "r", *sets) == 2
    said = capsys.readouterr().err
    assert all(w in said for w in words)
    assert "Traceback" not in said
    assert not list((tmp_path / "r").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ("RUN/best-map-tow-tone", ["no method 'best-map-tow-tone'", "did you mean"]),
        ("RUN/gradcam-oracle-image", ["is an upper bound", "needs none"]),
        ("NOWHERE/gradcam-fixed", ["nowhere"]),
    ],
)
def test_what_another_run_cannot_lend(job, tmp_path, capsys, masks, words):
    folder, _ = job
    config = write_config(tmp_path, folder / "data/labels.csv", LENT)
    masks = masks.replace("RUN", str(folder / "run")).replace("NOWHERE", str(tmp_path / "nowhere"))
    change = ("--set", f"segmenters.lent.masks={masks}")
    assert weakseg("train-segmenter", config, "--run-dir", tmp_path / "r", *change) == 2
    said = capsys.readouterr().err
    assert all(w in said for w in words)
    assert "Traceback" not in said
    assert not list((tmp_path / "r").rglob("*.safetensors"))


# What cannot be


def test_an_upper_bound_is_no_teacher(job, copy, capsys):
    change = ("--set", "segmenters.after.masks=gradcam-oracle-image")
    assert weakseg("train-segmenter", job[1], "--run-dir", copy, *RECIPE, *change) == 2
    assert "'gradcam-oracle-image' is an upper bound" in capsys.readouterr().err


def test_a_teacher_without_masks_yet_names_the_command(job, tmp_path, capsys):
    _, config = job
    assert weakseg("train-segmenter", config, "--run-dir", tmp_path / "r", *RECIPE) == 2
    said = capsys.readouterr().err
    assert "best-map-grown has made no masks of seed 0 yet" in said
    assert "heatmap-segment" in said


@pytest.mark.thorough
def test_a_classifier_that_no_u_net_stands_on_is_told(job, tmp_path, capsys):
    command = ("train-segmenter", job[1], "--run-dir", tmp_path / "r", *RECIPE)
    assert weakseg(*command, "--set", "classifier.arch=mobilenet_v3_small") == 2
    assert "best-weak: there is no U-Net on mobilenet_v3_small" in capsys.readouterr().err


@pytest.mark.thorough
def test_a_teacher_that_finds_nothing_is_refused_and_the_earlier_network_kept(job, copy, capsys):
    before = weights(copy, "best-weak")
    change = ("--set", "segmenters.best-weak.threshold=1.0")
    assert weakseg("train-segmenter", job[1], "--run-dir", copy, *RECIPE, *change) == 2
    said = capsys.readouterr().err
    assert "best-weak finds nothing in any training image" in said
    assert "segmenters.after.masks" in said
    assert weights(copy, "best-weak") == before
    assert list(copy.rglob("after*/**/best.safetensors"))


@pytest.mark.thorough
@pytest.mark.parametrize("change", ["keep=best", "threshold=validation"])
def test_validation_masks_are_counted_where_they_are_asked_for(job, copy, change):
    # Of one step more, so that the network is another one in any case.
    sets = ("--set", f"segmenters.after.{change}", "--set", "segmenters.after.steps=7")
    assert weakseg(
        *("train-segmenter", job[1], "--run-dir", copy, "--only", "after"), *RECIPE, *sets
    ) == 0  # fmt: skip
    seen = read_per_case(copy).groupby("method")["masks_seen"].first()
    assert seen["after"] == len(tumours(copy, "val"))
    assert seen["best-weak"] == 0


@pytest.mark.thorough
def test_they_are_counted_where_looking_changed_no_weight(job, copy, monkeypatch):
    """Of a single epoch the best is the last: keep=best gives the same network."""
    # Files of equal weights differ by the order of their metadata, most of the time.
    monkeypatch.setattr("weakseg.stages.segmenter_masks.file_hash", lambda path: "the same")
    command = ("train-segmenter", job[1], "--run-dir", copy, "--only", "after", *RECIPE)
    assert weakseg(*command) == 0
    assert weakseg(*command, "--set", "segmenters.after.keep=best") == 0
    seen = read_per_case(copy).groupby("method")["masks_seen"].first()
    assert seen.get("after") == len(tumours(copy, "val"))


# New images


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("method", "spoken_of"),
    [("best-weak", True), ("after", False), ("best-map-two-tone", False), ("gradcam-fixed", False)],
)
def test_a_new_image_is_segmented_as_the_test_image_was(job, tmp_path, method, spoken_of):
    folder, _ = job
    run = folder / "run"
    names = cases(run, "test")
    images = [folder / f"data/images/{n}.png" for n in names]
    out = tmp_path / "named"
    assert weakseg("predict", run, *images, "--method", method, "--out", out) == 0
    made = {n: pixels(out / f"{n}.png") for n in names}
    for name, mask in made.items():
        np.testing.assert_array_equal(mask, pixels(run / f"masks/{method}/seed-0/{name}.png"))
    assert any(m.any() for m in made.values())
    if spoken_of:
        assert weakseg("predict", run, images[0], "--out", tmp_path / "unnamed") == 0
        np.testing.assert_array_equal(pixels(tmp_path / "unnamed" / images[0].name), made[names[0]])
        rows = read_rows(tmp_path / "unnamed/predictions.csv")
        assert len(rows) == 1


@pytest.mark.thorough
def test_predict_takes_the_first_method_that_saw_no_mask_of_any_heatmap(
    job, copy, tmp_path, capsys
):
    """As rules are left out one after the other."""
    config = copy / "config.yaml"
    text = config.read_text().replace("recipe: best-weak", "recipe: none")
    config.write_text(text.replace("method: best-weak", "method: null"))
    command = ("predict", copy, job[0] / "data/images/p00_0.png", "--out", tmp_path / "out")
    order = ("gradcam-fixed", "best-map-two-tone", "best-map-grown", "best-weak", "after")
    for method in order:
        assert weakseg(*command) == 0
        assert f"method {method} (" in capsys.readouterr().err
        shutil.rmtree(copy / "masks" / method)
    assert weakseg(*command) == 2
    said = capsys.readouterr().err
    assert "No method of the run gets by without true masks" in said
    assert "name one with --method: gradcam-validation\n" in said


@pytest.mark.thorough
def test_predict_says_which_method_it_takes(job, tmp_path, capsys):
    folder, _ = job
    image = folder / "data/images/p00_0.png"
    assert weakseg("predict", folder / "run", image, "--out", tmp_path / "out") == 0
    assert "method best-weak" in capsys.readouterr().err


def test_no_file_of_the_run_is_without_a_name_in_the_layout(job):
    assert files_of(job[0] / "run") == named_files(job[0] / "run")
