"""Heatmaps blended into training images: how, whose, and what stands on them."""

from dataclasses import replace
from shutil import copytree

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import tumours, weakseg, write_config, write_set
from weakseg.config import (
    AugmentConfig,
    SegmenterConfig,
    config_of_run,
    dump_config,
    load_config,
    parse_config,
)
from weakseg.current import why_stale
from weakseg.data.arrays import batches_ahead
from weakseg.data.augment import blended
from weakseg.errors import ConfigError, RunError
from weakseg.methods.classifiers import classifier_key, is_trained
from weakseg.methods.find import kind_of
from weakseg.methods.fingerprints import segmenter_fingerprint
from weakseg.methods.other_runs import heat_stage, lender_of_heat
from weakseg.methods.segmenter_checks import segmenter_is_current
from weakseg.methods.segmenters import segmenter_key
from weakseg.methods.training_heats import heats_of, training_heats
from weakseg.runs import read_json, write_json
from weakseg.stages.prepare import prepared_run
from weakseg.training.classify import ClassifierTask
from weakseg.training.loop import seed_epoch
from weakseg.training.recipes import resolve

CONFIG = """
name: heats
data: {{manifest: {manifest}, image_size: 32, split: {{val: 0.1, test: 0.3}}}}
classifier: {{arch: squeezenet1_1, epochs: 1, batch_size: 8, seeds: [0]}}
heatmap: {{layer: features.7}}
masks: {{rules: [fixed], gate: none}}
scores: {{bootstrap: 100, floors: false}}
segmenters:
  plain: &net {{arch: fuzzy-neuro, epochs: 1, steps: 2, batch_size: 4, average: none,
               validation_cases: 0}}
  own: {{<<: *net, augment: heatmap}}
  another: {{<<: *net, augment: heatmap-of-another}}
"""


def test_heat_is_laid_over_an_image_in_white():
    torch.manual_seed(0)
    images, heat = 0.5 * torch.rand(40, 2, 3, 4), torch.zeros(40, 1, 3, 4)
    heat[:, :, 1, 2], heat[:, :, 0, 0] = 1.0, 0.5
    out = blended(images, heat, 0.6)
    cold = heat.expand(-1, 2, -1, -1) == 0
    assert torch.equal(out[cold], images[cold])
    share = (out - images) / (1 - images)
    torch.testing.assert_close(share[:, 0, 1, 2], share[:, 1, 1, 2])
    torch.testing.assert_close(share[:, 0, 1, 2], 2 * share[:, 0, 0, 0])
    assert 0 <= share[:, 0, 1, 2].min() < 0.1
    assert 0.5 < share[:, 0, 1, 2].max() <= 0.6


def test_names_stand_for_heat_and_settings_without_it_are_dumped_as_ever():
    own = SegmenterConfig(augment="heatmap").augment
    another = SegmenterConfig(augment="heatmap-of-another").augment
    assert (own.heat, own.heat_of) == (0.5, "own")
    assert (another.heat, another.heat_of) == (0.5, "another")
    assert "heat_of" not in own.model_dump()
    assert not {"heat", "heat_of"} & set(SegmenterConfig(augment={}).augment.model_dump())
    with pytest.raises(ConfigError, match="zscore"):
        resolve(SegmenterConfig(augment="heatmap", normalise="zscore"), 2)
    with pytest.raises(ConfigError, match="whole volumes"):
        resolve(SegmenterConfig(augment={"heat": 0.1, "rotate": 0, "zoom": 0, "shift": 0}), 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An experiment and its run, with a classifier's heatmaps."""
    folder = tmp_path_factory.mktemp("heats")
    config = write_config(folder, write_set(folder / "data", patients=6), CONFIG)
    run = folder / "run"
    for command in ("train-classifier", "heatmap-segment"):
        assert weakseg(command, config, "--run-dir", run, "--device", "cpu") == 0
    return config, run


@pytest.mark.thorough
def test_networks_learn_from_images_with_heat_and_stand_on_the_heatmaps(made):
    config, run = made
    assert weakseg("train-segmenter", config, "--run-dir", run, "--device", "cpu") == 0
    states = {
        n: load_file(run / f"segmenter/{n}/seed-0/best.safetensors")
        for n in ("plain", "own", "another")
    }
    name = "head.weight"
    for a, b in (("plain", "own"), ("own", "another"), ("plain", "another")):
        assert not torch.equal(states[a][name], states[b][name])
    loaded = load_config(config, ["device=cpu"])
    with prepared_run(loaded, run) as prepared:
        cases = prepared.cases.cases
        settings = resolve(loaded.segmenter("own"), 2)
        own = training_heats(prepared, settings, 0, 32)
        other = resolve(loaded.segmenter("another"), 2)
        lent = training_heats(prepared, other, 0, 32)
        of = {i: own(i) for i, c in enumerate(cases) if c.split == "train"}
        hot = [h for h in of.values() if h.any()]
        assert len(hot) >= len(tumours(run, "train")) // 2
        assert all(h.shape == (32, 32) and h.min() == 0 and h.max() <= 1 for h in hot)
        assert all(not h[:, :2].any() for h in hot)  # beside an image of 48 x 40
        # Each heatmap is lent once, to another image of its split.
        borrowed = [
            next(j for j, h in of.items() if np.array_equal(h, lent(i)) and h.any())
            for i in of
            if lent(i).any()
        ]
        assert len(set(borrowed)) == len(borrowed)
        assert not any(np.array_equal(lent(i), own(i)) for i in of if own(i).any())
        assert segmenter_is_current(prepared, "own", 0)
        # Other heatmaps, other networks; those without heat stay.
        other = load_config(config, ["device=cpu", "heatmap.layer=features.4"])
        changed = replace(prepared, config=other)
        for net, same in (("plain", True), ("own", False), ("another", False)):
            assert (segmenter_key(prepared, net, 0) == segmenter_key(changed, net, 0)) == same
        with pytest.raises(RunError, match=r"not there(.|\n)*heatmap-segment"):
            training_heats(changed, settings, 0, 32)
        no_classifier = load_config(config, ["device=cpu", "classifier.epochs=2"])
        changed = replace(prepared, config=no_classifier)
        assert not segmenter_is_current(changed, "own", 0)
        assert segmenter_is_current(changed, "plain", 0)
    stage, record = heat_stage(loaded, 0), read_json(run / "run.json")["stages"]
    assert stage in str(record["segmenter/own/0"])
    assert stage not in str(record["segmenter/plain/0"])
    assert stage in record["masks/own"]["inputs"]
    assert not record["masks/plain"]["inputs"]
    # Masks of networks with heat are none of other heatmaps, also where none is made yet.
    for net, same in (("plain", True), ("own", False)):
        assert (segmenter_fingerprint(loaded, net) == segmenter_fingerprint(other, net)) == same
    assert stage in kind_of(loaded, "own").stands_on(loaded, "own", 0)
    assert stage not in kind_of(loaded, "plain").stands_on(loaded, "plain", 0)


def lent(run, *more):
    heat = (f"classifier.heat_from={run}", "classifier.augment={heat: 0.7, rotate: 0}")
    return ["device=cpu", "seed=0", *heat, *more]


def test_a_classifier_learns_from_images_with_the_heat_of_another_run(made, tmp_path):
    config, run = made
    sets = [w for s in lent(run) for w in ("--set", s)]
    fresh = tmp_path / "fresh"
    assert weakseg("train-classifier", config, "--run-dir", fresh, *sets) == 0
    stage = "classifier/squeezenet1_1/0"
    first = read_json(fresh / "run.json")["stages"][stage]
    with prepared_run(load_config(config, lent(run)), fresh) as prepared:
        lender = lender_of_heat(prepared)
        assert lender.run.folder == run
        heat = heats_of(lender, prepared.config.classifier.augment, 0, 32)
        assert why_stale(prepared.run, stage, classifier_key(prepared, 0)) is None
        # Heat of other settings, and none: another network.
        for sets in ([], lent(run, "classifier.augment.heat_of=another")):
            asked = replace(prepared, config=load_config(config, ["device=cpu", *sets]))
            assert classifier_key(asked, 0) != first["key"]
        # Wherever the lender is now, but for other heatmaps in it.
        assert counts_as_trained(prepared, config, run, tmp_path) == [True, True, True, False]
        # What is trained on: the image, and where it is hot more white.
        plain = dict.fromkeys(("rotate", "zoom", "shift", "brightness", "contrast"), 0.0)
        for most in (0.0, 0.7):
            changes = AugmentConfig(**plain, flip=False, heat=most)
            asked = prepared.config.classifier.model_copy(update={"augment": changes})
            train, val = (prepared.cases.indices(s) for s in ("train", "val"))
            task = ClassifierTask(
                asked, prepared.cases.labels, prepared.images, train, val, 0, "cpu", heats=heat
            )
            order = torch.randperm(len(train), generator=seed_epoch(0, 1))[: task.batch]
            images, _ = next(iter(task.batches(1)))
            own = next(batches_ahead(prepared.images, [np.asarray(train)[order]], "cpu"))
            share = ((images - own) / (1 - own)).nan_to_num().amax(1)
            hot = torch.from_numpy(np.stack([heat(train[i]) for i in order]))
            each = (share.flatten(1) * hot.flatten(1)).sum(1) / (hot.flatten(1) ** 2).sum(1)
            each = each.nan_to_num()[:, None, None]
            torch.testing.assert_close(share, each * hot, atol=1e-4, rtol=0)
            assert (each.max() > 0.35) == (most > 0)
            assert each.max() <= most + 1e-4


def counts_as_trained(prepared, config, run, folder):
    """With a lender that has gone, was moved, has lost its heatmaps, and has made others."""
    gone = replace(prepared, config=load_config(config, lent(folder / "gone")))
    lender = folder / "moved"
    copytree(run, lender)
    asked = replace(prepared, config=load_config(config, lent(lender)))
    answers = [is_trained(gone, 0), is_trained(asked, 0)]
    record, stage = read_json(lender / "run.json"), heat_stage(config_of_run(lender), 0)
    entry = record["stages"].pop(stage)
    for stages in (record["stages"], {**record["stages"], stage: entry | {"key": "other"}}):
        write_json(lender / "run.json", record | {"stages": stages})
        answers.append(is_trained(asked, 0))
    return answers


def test_a_lender_is_found_from_everywhere(tmp_path, monkeypatch):
    (tmp_path / "beside").mkdir()
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text("classifier: {augment: heatmap, heat_from: beside}\n")
    assert load_config(experiment).classifier.heat_from == str(tmp_path / "beside")
    monkeypatch.chdir(tmp_path)
    loaded = load_config(experiment, ["classifier.heat_from=runs/first"])
    assert loaded.classifier.heat_from == str(tmp_path / "runs/first")
    experiment.write_text(dump_config(loaded))
    monkeypatch.chdir(tmp_path / "beside")
    assert load_config(experiment) == loaded


@pytest.mark.parametrize("part", ["classifier", "segmenters.net"])
def test_heat_of_another_without_heat_is_refused(part):
    tree = {"augment": {"heat_of": "another"}}
    whole = {"segmenters": {"net": tree}} if part == "segmenters.net" else {part: tree}
    with pytest.raises(ConfigError, match=f"{part}.augment.*heat_of: another is for heat above 0"):
        parse_config(whole)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["classifier.augment=heatmap"], "heat_from"),
        (["classifier.heat_from=runs/x"], "is for augment: heatmap"),
        (lent("runs/x", "classifier.arch=mil:squeezenet1_1"), "classifiers of images"),
    ],
)
def test_heat_without_a_lender_and_of_volumes_is_refused(made, sets, words):
    with pytest.raises(ConfigError, match=words):
        load_config(made[0], sets)


@pytest.mark.parametrize(
    ("lender", "more", "words"),
    [
        ("itself", [], "are to be its own"),
        ("nowhere", [], "no such run folder"),
        ("run", ["data.split.seed=3"], "of other splits"),
    ],
)
def test_what_cannot_lend_its_heat_says_so(made, tmp_path, capsys, lender, more, words):
    config, run = made
    own = tmp_path / "own"
    folder = {"itself": own, "run": run}.get(lender, tmp_path / "x")
    if lender == "itself":
        copytree(run, own)
    sets = [w for s in lent(folder, *more) for w in ("--set", s)]
    assert weakseg("train-classifier", config, "--run-dir", own, *sets) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_filtered_retraining_of_a_classifier_with_heat_is_refused(made, tmp_path, capsys):
    config, run = made
    sets = [w for s in lent(run) for w in ("--set", s)]
    assert weakseg("retrain-filtered", config, "--run-dir", tmp_path / "new", *sets) == 2
    assert "trained on plain images" in " ".join(capsys.readouterr().err.split())
