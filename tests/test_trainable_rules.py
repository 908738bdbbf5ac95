"""Rules that learn from training heatmaps, from manifest to new images, by the command line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.tiny import (
    cases,
    only_test_masks,
    pixels,
    tree,
    tumours,
    weakseg,
    write_config,
    write_set,
)
from weakseg.config import parse_config
from weakseg.masks.rules import Evidence
from weakseg.methods import find
from weakseg.methods.classifiers import read_predictions
from weakseg.methods.spoken import why_left_out
from weakseg.methods.trainable import hypercolumn
from weakseg.methods.trainable.base import Context
from weakseg.models.classifiers import ClassifierSpec, build_classifier
from weakseg.runs import read_json, write_json
from weakseg.scores import youden_threshold
from weakseg.scores.stored import read_summary

pytestmark = pytest.mark.thorough

CONFIG = """
name: trained
data: {{manifest: {manifest}, image_size: 64, split: {{val: 0.1, test: 0.3}}}}
classifier: {{arch: squeezenet1_1, epochs: 1, batch_size: 8, seeds: [0, 1]}}
heatmap: {{layer: fused, method: layercam}}
heatmaps:
  all: {{layer: fused, method: layercam, ensemble: true, rules: [{{rule: hypercolumn, low: 0.5}}]}}
masks:
  gate: none
  rules:
    - fixed
    - {{rule: affinity, epochs: 2, steps: 16, low: 0.5}}
    - {{rule: hypercolumn, count: 60, warm: 0, low: 0.5}}
    - {{rule: random-forest, trees: 5, depth: 4, low: 0.5, at: 0.3}}
scores: {{bootstrap: 100, floors: false}}
report: {{gallery: 1}}
segmenters:
  pupil:
    {{arch: "encoder-unet:squeezenet1_1", masks: layercam-affinity, epochs: 1, steps: 2,
      batch_size: 4, average: none, seeds: [0]}}
"""
METHODS = (
    "layercam-affinity",
    "layercam-hypercolumn",
    "layercam-random-forest",
    "all-hypercolumn",
)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """All stages but the report; tests read the run and leave it as it is."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder, write_set(folder / "data", patients=10), CONFIG)
    make(config, folder / "run")
    return folder, config


def make(config, run):
    for stage in ("train-classifier", "heatmap-segment", "train-segmenter"):
        assert weakseg(stage, config, "--run-dir", run, "--device", "cpu") == 0


@pytest.fixture
def copy(job, tmp_path):
    """A copy of its run, to be changed."""
    return Path(shutil.copytree(job[0] / "run", tmp_path / "run"))


def trained(run):
    return {
        str(p.relative_to(run)): p.read_bytes()
        for p in sorted((run / "masks").rglob("*.safetensors"))
    }


def test_what_was_learnt_lies_beside_the_masks_and_saw_none(job):
    run = job[0] / "run"
    seeds = {m: (0,) if m.startswith("all") else (0, 1) for m in METHODS}
    assert set(trained(run)) == {
        f"masks/{m}/seed-{s}.safetensors" for m in METHODS for s in seeds[m]
    }
    summary = read_summary(run).set_index("method")
    for method in METHODS:
        for seed in seeds[method]:
            entry = read_json(run / f"masks/{method}/threshold.json")[f"seed-{seed}"]
            assert entry["masks_seen"] == 0
            assert entry["chosen_on"] == "heatmaps of training images, no masks"
            assert entry["trained"]["file"] == f"seed-{seed}.safetensors"
            made = list((run / f"masks/{method}/seed-{seed}").glob("*.png"))
            assert len(made) == len(cases(run, "test"))
        assert summary.loc[method, "masks_seen"] == 0
        assert summary.loc[method, "dice"] > 0
    arrays = load_file(run / "masks/layercam-hypercolumn/seed-0.safetensors")
    # SqueezeNet's four depths, and the brightness.
    assert arrays["coefficients"].shape == (128 + 256 + 384 + 512 + 1,)
    assert (arrays["scale"] > 0).all()


def test_a_new_image_is_segmented_as_the_test_image_was(job, tmp_path):
    folder, _ = job
    run = folder / "run"
    names = cases(run, "test")
    images = [folder / f"data/images/{n}.png" for n in names]
    for method, seed in [*((m, 0) for m in METHODS), ("layercam-affinity", 1)]:
        out = tmp_path / f"{method}-{seed}"
        which = () if method.startswith("all") else ("--seed", seed)
        assert weakseg("predict", run, *images, "--method", method, *which, "--out", out) == 0
        made = {n: pixels(out / f"{n}.png") for n in names}
        for name, mask in made.items():
            own = run / f"masks/{method}/seed-{seed}/{name}.png"
            np.testing.assert_array_equal(mask, pixels(own))
        assert any(m.any() for m in made.values())


def test_without_any_training_or_validation_mask_it_learns_the_same(job, tmp_path):
    folder, _ = job
    bare = only_test_masks(folder / "data", folder / "run", tmp_path / "bare.csv")
    config = write_config(tmp_path, bare, CONFIG)
    run = tmp_path / "run"
    make(config, run)
    assert trained(run) == trained(folder / "run")
    for method in METHODS:
        for path in (folder / f"run/masks/{method}").rglob("*.png"):
            other = run / path.relative_to(folder / "run")
            assert other.read_bytes() == path.read_bytes()
    targets = {p.name: p.read_bytes() for p in (run / "targets/pupil/seed-0").glob("*.png")}
    assert targets
    assert all(
        (folder / "run/targets/pupil/seed-0" / n).read_bytes() == b for n, b in targets.items()
    )


def test_a_pupil_is_trained_on_its_masks(job):
    held = read_json(job[0] / "run/segmenter/pupil/seed-0/settings.json")
    assert held["masks_of"] == "layercam-affinity"
    assert held["targets"] > 0
    assert read_summary(job[0] / "run").set_index("method").loc["pupil", "masks_seen"] == 0


def test_nothing_is_learnt_again_unless_something_has_changed(job, copy, capsys):
    _, config = job
    before = tree(copy / "masks")
    assert weakseg("heatmap-segment", config, "--run-dir", copy) == 0
    assert "learnt" not in capsys.readouterr().err
    assert tree(copy / "masks") == before
    old = trained(copy)
    change = ("--set", "masks.rules=[{rule: affinity, epochs: 1, steps: 16, low: 0.5}, fixed]")
    drop = ("--set", "segmenters={}", "--set", "heatmap.flips=true", "--set", "heatmaps={}")
    assert weakseg("heatmap-segment", config, "--run-dir", copy, *change, *drop) == 0
    new = trained(copy)
    assert len(new) == 2
    assert all(new[n] != old[n] for n in new)


FIXED = ("--set", "masks.rules=[fixed]", "--set", "segmenters={}")


def segment(job, run, *changes):
    assert weakseg("heatmap-segment", job[1], "--run-dir", run, *changes) == 0


def test_another_seed_draws_and_learns_anew(job, copy):
    only = ("--set", "masks.rules=[{rule: affinity, epochs: 1, steps: 16, low: 0.5}]")
    only = (*only, "--set", "heatmaps={}", "--set", "segmenters={}")
    segment(job, copy, *only)
    first = trained(copy)
    segment(job, copy, *only, "--set", "seed=5")
    assert trained(copy).keys() == first.keys()
    assert trained(copy) != first


TAUGHT = (
    "masks.rules=[{rule: hypercolumn, teacher: masks, crf: 2, count: 60, warm: 0, low: 0.2}, "
    "{rule: random-forest, teacher: masks, trees: 5, depth: 4}]"
)


@pytest.mark.thorough
def test_rules_may_be_taught_by_masks_which_they_count(job, copy, capsys, random_field):
    segment(job, copy, "--set", TAUGHT, "--set", "heatmaps={}", "--set", "segmenters={}")
    assert "learnt from the training masks" in capsys.readouterr().err
    train = set(tumours(copy, "train"))
    image = job[0] / f"data/images/{cases(copy, 'test')[0]}.png"
    for method in ("layercam-hypercolumn", "layercam-random-forest"):
        entry = read_json(copy / f"masks/{method}/threshold.json")["seed-0"]
        assert set(entry["seen"]) == train
        assert entry["masks_seen"] == len(train)
        assert (entry["chosen_on"], entry["rule"]["teacher"]) == (
            "masks of training images",
            "masks",
        )
        assert read_summary(copy).set_index("method").loc[method, "masks_seen"] == len(train)
        out = copy.parent / method
        assert weakseg("predict", copy, image, "--method", method, "--seed", 0, "--out", out) == 0
        own = copy / f"masks/{method}/seed-0/{image.name}"
        np.testing.assert_array_equal(pixels(out / image.name), pixels(own))


def test_what_is_not_asked_for_leaves_the_record_as_it_was():
    rule = parse_config({"masks": {"rules": ["hypercolumn"]}}).masks.rules[0]
    assert not {"teacher", "crf"} & set(rule.model_dump())
    taught = rule.model_copy(update={"teacher": "masks"})
    assert taught.model_dump()["teacher"] == "masks"
    with pytest.raises(LookupError, match="training split has a mask"):
        taught.fit(Evidence(train=tuple, val=tuple, test=tuple, trainer=lambda r: None))


def test_another_seed_leaves_rules_that_draw_nothing_up_to_date(job, copy, capsys):
    segment(job, copy, *FIXED, "--set", "heatmaps={}")
    capsys.readouterr()
    segment(job, copy, *FIXED, "--set", "heatmaps={}", "--set", "seed=5")
    assert "masks of heatmaps: up to date" in capsys.readouterr().err


def test_the_gate_on_a_heatmap_of_all_is_chosen_on_the_mean_of_all(job, copy):
    every = "heatmaps={all: {layer: fused, method: layercam, ensemble: true, rules: [fixed]}}"
    segment(job, copy, *FIXED, "--set", every, "--set", "masks.gate=validation")
    tables = [read_predictions(copy / f"classifier/squeezenet1_1/seed-{s}") for s in (0, 1)]
    said = [t["lesion_probability"] for t in tables]
    val = (tables[0]["split"] == "val").to_numpy()
    truth = (tables[0]["label"] == "tumor").to_numpy()[val]

    def best(probability):
        return youden_threshold(truth, probability.to_numpy()[val])

    gates = {
        method: read_json(copy / "masks" / method / "threshold.json")
        for method in ("all-fixed", "layercam-fixed")
    }
    assert gates["all-fixed"]["seed-0"]["gate"] == best(((said[0] + said[1]) / 2).round(6))
    for seed in (0, 1):
        assert gates["layercam-fixed"][f"seed-{seed}"]["gate"] == best(said[seed].round(6))


def test_a_further_heatmap_that_becomes_the_first_is_made_of_every_image(job, copy):
    further = "heatmaps={xgradcam: {layer: fused, method: xgradcam, rules: [fixed]}}"
    segment(job, copy, *FIXED, "--set", further)
    folder = copy / "heatmaps/squeezenet1_1/seed-0/xgradcam"
    few = len(list(folder.glob("*.npz")))
    segment(job, copy, *FIXED, "--set", "heatmaps={}", "--set", "heatmap.method=xgradcam")
    assert few < len(list(folder.glob("*.npz"))) == 30


@pytest.mark.parametrize("harm", ["missing", "other", "foreign"])
@pytest.mark.parametrize("method", ["layercam-affinity", "layercam-hypercolumn"])
def test_a_file_that_is_gone_or_another_is_no_traceback(job, copy, tmp_path, capsys, harm, method):
    path = copy / f"masks/{method}/seed-0.safetensors"
    if harm == "missing":
        path.unlink()
    elif harm == "other":
        path.write_bytes((copy / f"masks/{method}/seed-1.safetensors").read_bytes())
    else:
        path.write_bytes(b"no tensors")
    image = job[0] / "data/images/p00_0.png"
    out = tmp_path / "out"
    assert weakseg("predict", copy, image, "--method", method, "--seed", 0, "--out", out) == 2
    said = capsys.readouterr().err
    assert "What the rule was trained to is" in said
    assert "heatmap-segment" in said
    assert "Traceback" not in said


def test_heatmaps_that_are_sure_of_nothing_leave_the_rule_out(job, copy, capsys):
    _, config = job
    rules = "[fixed, {rule: affinity, high: 0.999, low: 0.0001}, {rule: hypercolumn, high: 0.999}]"
    drop = ("--set", "segmenters={}", "--set", "heatmaps={}", "--set", f"masks.rules={rules}")
    assert weakseg("heatmap-segment", config, "--run-dir", copy, *drop) == 0
    said = capsys.readouterr().err
    assert "affinity: left out, the training heatmaps are sure of only" in said
    assert "hypercolumn: left out, the training heatmaps are sure of" in said
    assert not trained(copy)
    assert set(read_summary(copy)["method"]) == {"layercam-fixed"}
    left_out = read_json(copy / "run.json")["stages"]["segment"]["left_out"]
    assert set(left_out) == {"layercam-affinity", "layercam-hypercolumn"}
    # Every seed came to its own number of confident pairs.
    assert left_out["layercam-affinity"].count("(seed ") == 2
    # The network that should learn from it is told why, not to run the same stage again.
    assert weakseg("train-segmenter", config, "--run-dir", copy, *drop[2:]) == 2
    said = capsys.readouterr().err
    assert "layercam-affinity could make no masks of seed 0" in said
    assert left_out["layercam-affinity"] in said
    assert "name another method" in said
    assert "heatmap-segment" not in said


def test_the_layers_of_a_network_are_looked_for_once(monkeypatch):
    # Of this network they are found by running it.
    model = build_classifier(ClassifierSpec("mobilenet_v3_small", ("a", "b"), 1)).eval()
    found, calls = hypercolumn.find_layers, []

    def counted(*args):
        calls.append(args)
        return found(*args)

    monkeypatch.setattr(hypercolumn, "find_layers", counted)
    config = parse_config({"data": {"image_size": 64}})
    features = hypercolumn._features(Context(config, lambda: model))
    image = np.random.default_rng(0).random((40, 30))
    np.testing.assert_array_equal(features(image), features(image))
    assert len(calls) == 1


def test_a_seed_that_lost_a_rule_is_not_taken_unasked(job, copy, tmp_path, capsys, monkeypatch):
    path = copy / "masks/layercam-affinity/threshold.json"
    entries = read_json(path)
    # As the stage leaves it where a rule could not be fitted; that nobody changed it is not asked.
    monkeypatch.setattr(find, "require_whole", lambda *_: None)
    image = job[0] / "data/images/p00_0.png"
    command = ("predict", copy, image, "--method", "layercam-affinity", "--out", tmp_path / "out")
    for lost, kept in ((0, 1), (1, 0)):
        write_json(path, {f"seed-{kept}": entries[f"seed-{kept}"]})
        assert weakseg(*command) == 0
        assert f", seed {kept}\n" in capsys.readouterr().err
        assert weakseg(*command, "--seed", lost) == 2
        assert f"it has masks of the seeds {kept}\n" in capsys.readouterr().err


def test_seeds_are_named_where_not_all_lost_a_method_alike():
    lost = {
        "a-otsu": {0: "x", 1: "x", 2: "x"},
        "b-otsu": {2: "x"},
        "a-fixed": {0: "x", 1: "y", 2: "x"},
    }
    assert why_left_out(lost, {"a-otsu": 3, "b-otsu": 3, "a-fixed": 3}) == {
        "a-otsu": "x",
        "b-otsu": "x (seed 2)",
        "a-fixed": "x (seeds 0, 2); y (seed 1)",
    }
    assert why_left_out({"all-otsu": {0: "x"}}, {"all-otsu": 1}) == {"all-otsu": "x"}


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("{rule: affinity, low: 0.7}", "low must be below high"),
        ("{rule: affinity, radius: 1}", "radius"),
        ("{rule: affinity, stepps: 3}", "did you mean 'steps'"),
        ("{rule: hypercolumn, warm: 1}", "warm"),
        ("{rule: hypercolumn, low: 0.6, high: 0.6}", "low must be below high"),
        ("hypercolum", "did you mean 'hypercolumn'"),
    ],
)
def test_bad_settings_are_refused(job, tmp_path, capsys, rule, words):
    change = ("--set", f"masks.rules=[{rule}]", "--set", "segmenters={}")
    assert weakseg("compare", job[1], "--run-dir", tmp_path / "r", *change) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
