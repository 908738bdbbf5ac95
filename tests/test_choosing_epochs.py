"""What chooses an epoch: the validation split and nothing else, and ties by its loss."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import brier_score_loss, roc_auc_score

from tests.tiny import read_rows, weakseg, write_config, write_manifest, write_set
from weakseg.config import load_config
from weakseg.layout import BEST, CLASSIFIER_SCORES, LAST, SETTINGS
from weakseg.methods import fitting
from weakseg.methods.segmenters import load_segmenter
from weakseg.runs import read_json
from weakseg.stages import train_segmenter
from weakseg.stages.prepare import prepared_run
from weakseg.stages.train_classifier import train_classifiers
from weakseg.stages.train_segmenter import train_segmenters
from weakseg.training import segment
from weakseg.training.weights import load_weights

pytestmark = pytest.mark.thorough

CONFIG = """
name: tiny
data: {{manifest: {manifest}, image_size: 48}}
classifier: {{arch: squeezenet1_1, epochs: 3, batch_size: 8, seeds: [0]}}
heatmap: {{layer: features.7}}
scores: {{bootstrap: 100}}
segmenters:
  net: {{arch: "encoder-unet:squeezenet1_1", epochs: 3, batch_size: 4, seeds: [0], keep: best}}
"""
SIZES = {"train": 5, "val": 2, "test": 4}
"""Patients of each split: as many images thrice, and 8, 3 and 6 lesions."""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choosing")
    manifest = write_set(folder / "data", patients=sum(SIZES.values()))
    sides = [s for s, n in SIZES.items() for _ in range(n)]
    rows = [(*r.values(), sides[int(r["patient"][1:])]) for r in read_rows(manifest)]
    write_manifest(manifest, rows, ("image", "label", "mask", "patient", "split"))
    return write_config(folder, manifest, CONFIG)


class Seen(Exception):
    pass


def task_given(monkeypatch, module, call):
    """The task that a stage would train on."""
    held = []

    def spy(_model, task, *_a, **_k):
        held.append(task)
        raise Seen

    monkeypatch.setattr(module, "fit", spy)
    with pytest.raises(Seen):
        call()
    return held[0]


def splits_of(prepared, indices):
    return [prepared.cases.cases[i].split for i in indices]


@pytest.mark.parametrize("kind", ["classifier", "segmenter"])
def test_a_network_is_trained_on_training_cases_and_looked_at_on_validation_ones(
    config, tmp_path, monkeypatch, kind
):
    train = {"classifier": train_classifiers, "segmenter": train_segmenters}[kind]
    with prepared_run(load_config(config), tmp_path / "run") as prepared:
        task = task_given(monkeypatch, fitting, lambda: train(prepared))
        assert splits_of(prepared, task.train) == ["train"] * 3 * SIZES["train"]
        assert splits_of(prepared, task.val) == ["val"] * 3 * SIZES["val"]


def test_the_figures_of_every_epoch_are_those_of_the_validation_split(
    config, tmp_path, monkeypatch
):
    """As recomputed, with scikit-learn, from what the best network says of each case.

    The first of the epochs is told to be the best, so that the last one's network is another.
    """
    validate = fitting.ClassifierTask.validate

    def told_best(task, model):
        task.epochs = getattr(task, "epochs", 0) + 1
        return {**validate(task, model), "told": -task.epochs}

    monkeypatch.setattr(fitting.ClassifierTask, "validate", told_best)
    monkeypatch.setattr(fitting, "BY_AUC", "told")
    assert weakseg("train-classifier", config, "--run-dir", tmp_path / "run") == 0
    entry = read_json(tmp_path / "run/run.json")["stages"]["classifier/squeezenet1_1/0"]
    folder = tmp_path / "run/classifier/squeezenet1_1/seed-0"
    metrics = pd.read_csv(folder / "metrics.csv").set_index("epoch")
    assert int(load_weights(folder / BEST)[1]["epoch"]) == entry["best_epoch"]
    told = metrics.loc[entry["best_epoch"]]
    assert entry["best_epoch"] == 1
    assert abs(told["val_loss"] - metrics.loc[3, "val_loss"]) > 1e-4
    table = pd.read_csv(folder / "predictions.csv")
    losses, scores = {}, read_json(folder / CLASSIFIER_SCORES)
    for split, rows in table.groupby("split"):
        given = np.where(rows["label"] == "tumor", rows["p(tumor)"], rows["p(normal)"])
        losses[split] = float(-np.log(given).mean())
        auc = roc_auc_score(rows["label"] == "tumor", rows["p(tumor)"])
        if split != "train":
            held = scores[split]
            assert held["auc_lesion"]["value"] == pytest.approx(auc, abs=1e-5)
            brier = brier_score_loss(rows["label"] == "tumor", rows["p(tumor)"])
            assert held["brier"]["value"] == pytest.approx(brier, abs=1e-5)
        if split == "val":
            assert told["val_auc"] == pytest.approx(auc, abs=1e-5)
    assert told["val_loss"] == pytest.approx(losses["val"], abs=2e-5)
    briers = [scores[s]["brier"]["value"] for s in ("val", "test")]
    assert briers[0] != pytest.approx(briers[1], abs=2e-5)
    assert losses["val"] != pytest.approx(losses["test"], abs=2e-5)


def test_a_segmenter_s_best_epoch_is_that_of_the_validation_cases(config, tmp_path, monkeypatch):
    """Its networks are told what to say: best of validation in epoch 2, of all others in 3."""
    calls = []

    def told(model, data, indices, *_a, **_k):
        calls.append(indices)
        for i in indices:
            truth = data.arrays(i).truth
            marks = (2 if data.cases[i].split == "val" else 3) == len(calls)
            yield i, np.where(truth & marks, 0.9, 0.1).astype(np.float32)

    monkeypatch.setattr(segment, "predict", told)
    config = load_config(config)
    with prepared_run(config, tmp_path / "run") as prepared:
        monkeypatch.setattr(train_segmenter, "segment_by_network", lambda *_: None)
        monkeypatch.setattr(train_segmenter, "collect", lambda *_: None)
        train_segmenters(prepared)
    entry = read_json(tmp_path / "run/run.json")["stages"]["segmenter/net/0"]
    assert len(calls) == 3
    assert entry["kept_epoch"] == 2
    assert entry["kept_because"] == "the highest val_dice (1)"
    folder = tmp_path / "run/segmenter/net/seed-0"
    for told in (entry, read_json(folder / SETTINGS)):
        assert (told["training_masks"], told["validation_masks"]) == (8, 3)
    (best, meta), (last, _) = (load_weights(folder / name) for name in (BEST, LAST))
    assert meta["epoch"] == "2"
    name, tensor = next(iter(load_segmenter(folder).named_parameters()))
    assert torch.equal(tensor, best[name])
    assert not torch.equal(tensor, last[name])


def test_equal_segmenters_are_told_apart_by_their_loss(config, tmp_path, monkeypatch):
    calls = []

    def told(model, data, indices, *_a, **_k):
        calls.append(indices)
        sure = (0.6, 0.9, 0.7)[len(calls) - 1]
        for i in indices:
            yield i, np.where(data.arrays(i).truth, sure, 1 - sure).astype(np.float32)

    monkeypatch.setattr(segment, "predict", told)
    with prepared_run(load_config(config), tmp_path / "run") as prepared:
        monkeypatch.setattr(train_segmenter, "segment_by_network", lambda *_: None)
        monkeypatch.setattr(train_segmenter, "collect", lambda *_: None)
        train_segmenters(prepared)
    entry = read_json(tmp_path / "run/run.json")["stages"]["segmenter/net/0"]
    assert entry["kept_epoch"] == 2
    assert entry["kept_because"].startswith("the lowest val_loss (0.1054) of the 3 epochs")


def test_one_patient_in_validation_is_enough(config, tmp_path):
    folder = config.parent / "data"
    rows = [r for r in read_rows(folder / "labels.csv") if r["patient"] != "P06"]
    one = write_manifest(folder / "one.csv", [list(r.values()) for r in rows], list(rows[0]))
    path = write_config(tmp_path, one, CONFIG)
    assert weakseg("train-classifier", path, "--run-dir", tmp_path / "run") == 0
    metrics = pd.read_csv(tmp_path / "run/classifier/squeezenet1_1/seed-0/metrics.csv")
    assert np.isfinite(metrics.to_numpy()).all()


def test_a_validation_split_of_one_class_is_refused(config, tmp_path, capsys):
    folder = config.parent / "data"
    rows = [
        r for r in read_rows(folder / "labels.csv") if (r["split"], r["label"]) != ("val", "normal")
    ]
    one = write_manifest(folder / "class.csv", [list(r.values()) for r in rows], list(rows[0]))
    path = write_config(tmp_path, one, CONFIG)
    assert weakseg("train-classifier", path, "--run-dir", tmp_path / "run") == 2
    assert "the split 'val' has no image of 'normal'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_classifier_is_validated_on_its_validation_images_alone():
    from tests.training.test_classify import task

    t = task(n=40)
    right = set(t.val.tolist())

    def model(x):
        index = (x.flatten() * 100).round().long()
        lesion = torch.tensor([(int(i) % 3 == 0) == (int(i) in right) for i in index])
        return torch.stack([4.0 - 8.0 * lesion, 8.0 * lesion - 4.0], 1)

    model.eval = lambda: None
    figures = t.validate(model)
    assert figures["val_auc"] == figures["val_accuracy"] == 1
    assert figures["val_loss"] == pytest.approx(float(np.log1p(np.exp(-8))), rel=1e-3)
