"""The gate: what it is, whose word it is, and what its masks depend on. Nothing is trained."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from skimage.io import imsave
from torch import nn

from weakseg.config import parse_config
from weakseg.data.cases import Case, CaseSet, Labels
from weakseg.errors import RunError, UserError
from weakseg.layout import BEST, PREDICTIONS, seed_folder
from weakseg.methods import gate as gates
from weakseg.methods.gate import (
    Gate,
    check_gate,
    chosen_gate,
    find_gate,
    gate_key,
    gate_weights,
    mean_predictions,
    mean_probability,
)
from weakseg.methods.prepared import Prepared
from weakseg.runs import Run, file_hash, write_bytes, write_text
from weakseg.spreadsheets import csv_text
from weakseg.stored import DELETE

LABELS = Labels(("normal",), ("cyst", "tumor"))
ROWS = [
    # case, split, label, probability by seeds 0 and 1
    ("a", "train", "normal", 0.9, 0.8),
    ("b", "train", "tumor", 0.1, 0.2),
    ("c", "val", "normal", 0.2, 0.4),
    ("d", "val", "tumor", 0.6, 0.5),
    ("e", "val", "cyst", 0.3, 0.9),
    ("f", "test", "normal", 0.95, 0.1),
    ("g", "test", "cyst", 0.05, 0.6),
]
"""Cuts that fit training or test images are others than those that fit validation."""

CONFIG = {
    "classifier": {"arch": "resnet18", "seeds": [0, 1]},
    "masks": {"gate": "validation"},
    "segmenters": {
        "run": {"arch": "unet", "seeds": [0, 1, 7], "gate": "run"},
        "own": {"arch": "unet", "seeds": [1], "gate": 0.4},
        "mean": {"arch": "unet", "seeds": [7, 8], "gate": "run", "ensemble": True},
        "free": {"arch": "unet", "seeds": [0], "gate": "none"},
    },
}


def table(seed=0, rows=ROWS):
    columns = ["case", "split", "label", 0, 1]
    held = pd.DataFrame(rows, columns=columns).rename(columns={seed: "lesion_probability"})
    return held.drop(columns=1 - seed).assign(patient="p", predicted="normal")


def write(folder, held):
    write_text(folder / PREDICTIONS, csv_text(held))
    return folder


@pytest.fixture
def run(tmp_path):
    """A run's folder with what its two classifiers say, and files in the place of weights."""
    for seed in (0, 1):
        folder = seed_folder(tmp_path, "resnet18", seed)
        held = table(seed)
        write(folder, held if seed == 0 else held[::-1])
        write_bytes(folder / BEST, f"weights {seed}".encode())
    return tmp_path


def prepared(run, kind="png", **changes):
    """The run's experiment, of images or of volumes."""
    cases = CaseSet((Case("a", Path(f"a.{kind}"), "normal"),), LABELS, "labels.csv")
    return Prepared(parse_config({**CONFIG, **changes}), Run(run), cases, 1, "data", "images", None)


# The probability


class Weighted(nn.Module):
    """Logits are the image's mean, once for each class, times a weight."""

    def __init__(self, channels, *weights):
        super().__init__()
        self.spec = SimpleNamespace(channels=channels)
        self.register_buffer("mean", torch.zeros(1))
        self.weights = torch.tensor(weights)

    def forward(self, images):
        assert images.shape == (1, self.spec.channels, 64, 64)
        return images.mean((1, 2, 3))[:, None] * self.weights


@pytest.mark.parametrize("channels", [1, 3])
def test_new_images_are_given_the_mean_of_all_lesions_probabilities(tmp_path, channels):
    image = np.zeros((64, 64), np.uint8)
    image[:, :32] = 255  # of a mean of one half
    imsave(tmp_path / "n.png", image, check_contrast=False)
    case = Case("n", tmp_path / "n.png", "normal")
    config = parse_config({"data": {"image_size": 64}})

    def said(*weights):
        models = tuple(Weighted(channels, *w) for w in weights)
        return gates.ClassifierGate(models, LABELS, config)(case)

    # Logits of half the weights, which are odds 2 to 3 to 5, and 1 to 1 to 2.
    one, other = 2 * np.log([2, 3, 5]), 2 * np.log([1, 1, 2])
    assert said(one) == pytest.approx(0.8, abs=2e-6)
    assert said(one, other) == pytest.approx((0.8 + 0.75) / 2, abs=2e-6)
    with pytest.raises(RunError, match="no probability") as e:
        said(one, [np.nan] * 3)
    assert e.value.where == case.shown


def test_a_gate_is_a_number_none_or_the_best_cut_on_validation_labels():
    assert chosen_gate("none", table(), LABELS.lesion) == 0
    assert chosen_gate(0.25, table(), LABELS.lesion) == 0.25
    # Of validation images 0.2 is healthy, 0.3 and 0.6 are lesions: any cut in (0.2, 0.3].
    assert chosen_gate("validation", table(), LABELS.lesion) == pytest.approx(0.25)
    # With cysts healthy the cut lies between 0.3 and 0.6.
    assert chosen_gate("validation", table(), ("tumor",)) == pytest.approx(0.45)


@pytest.mark.parametrize("lesion", [(), ("normal", "tumor", "cyst")])
def test_a_gate_cannot_be_chosen_where_validation_images_are_of_one_kind(lesion):
    with pytest.raises(UserError) as e:
        chosen_gate("validation", table(), lesion)
    assert e.value.where == "masks.gate: validation"
    assert e.value.found == "only one kind of image in the validation split"
    assert "0.5" in e.value.fix


def test_probabilities_are_averaged_as_the_tables_hold_them():
    """Rounded to six digits before the mean and after it."""
    said = mean_probability([[0.1234564, 0.2], [0.1234565999, 0.6]])
    np.testing.assert_array_equal(said, np.round([(0.123456 + 0.123457) / 2, 0.4], 6))
    assert mean_probability([0.12345649, 0.12345649, 0.1234571]) == 0.123456
    # In double precision, whatever the network's: as a float32 0.3 is 0.300000012.
    assert float(mean_probability([np.float32(0.3), np.float32(0.3)])) == 0.3
    # Six digits of each: a third one would let 0.3333335 through.
    assert mean_probability([0.3333333, 0.3333333]) == 0.333333


def test_means_are_of_cases_by_name_in_the_first_table_s_order(run):
    folders = [seed_folder(run, "resnet18", s) for s in (0, 1)]
    found = mean_predictions(folders)
    assert found["case"].tolist() == list("abcdefg")
    assert found["lesion_probability"].tolist() == pytest.approx(
        [0.85, 0.15, 0.3, 0.55, 0.6, 0.525, 0.325]
    )
    assert found["split"].tolist() == [r[1] for r in ROWS]
    alone = mean_predictions(folders[1:])
    assert alone["case"].tolist() == list("gfedcba")
    assert alone["lesion_probability"].tolist() == [r[4] for r in ROWS[::-1]]


@pytest.mark.parametrize(
    ("broken", "at"),
    [
        (table(1)[:-1], 1),  # a case less
        (table(1).replace({"case": {"a": "z"}}), 1),  # another one
        (table(1).assign(lesion_probability=[None, *[0.5] * 6]), 1),
        (table(0).assign(lesion_probability=[*[0.5] * 6, None]), 0),
    ],
)
def test_tables_of_other_cases_or_with_gaps_are_damaged(tmp_path, broken, at):
    tables = [table(0), table(1)]
    tables[at] = broken
    folders = [write(tmp_path / str(s), t) for s, t in enumerate(tables)]
    with pytest.raises(RunError) as e:
        mean_predictions(folders)
    assert e.value.where == str(folders[at] / PREDICTIONS)
    assert e.value.found == f"not a probability of each case of {folders[0] / PREDICTIONS}"
    assert e.value.fix == DELETE


# Of a segmenter


@pytest.mark.parametrize(
    ("name", "networks", "by"),
    [("run", [0], (0,)), ("run", [1], (1,)), ("run", [7], (0, 1)), ("mean", [7, 8], (0, 1))],
)
def test_the_gate_of_the_run_is_chosen_on_what_its_own_classifiers_say(run, name, networks, by):
    found = find_gate(prepared(run), name, networks)
    assert found.by == by
    # Healthy c below both lesions: half-way to the lower of d and e.
    wanted = {(0,): (0.2 + 0.3) / 2, (1,): (0.4 + 0.5) / 2, (0, 1): (0.3 + 0.55) / 2}
    assert found.value == pytest.approx(wanted[by])
    said = {r[0]: float(np.mean([r[3 + s] for s in by])) for r in ROWS}
    assert found.probabilities == pytest.approx(said)
    assert all(type(p) is float for p in found.probabilities.values())


def test_a_gate_of_its_own_and_none(run):
    own = find_gate(prepared(run), "own", [1])
    assert (own.value, own.by, own.probabilities["e"]) == (0.4, (1,), 0.9)
    assert find_gate(prepared(run), "free", [0]) is None
    assert find_gate(prepared(run, masks={"gate": "none"}), "run", [0]) is None


def test_a_gate_knows_cases_by_their_name():
    gate = Gate(0.5, (0,), {"a": 0.25, "7": 0.75})
    assert [gate.of(Case(c, None, "")) for c in ("a", "7")] == [0.25, 0.75]


def test_cases_that_look_like_numbers_are_told_by_name(tmp_path):
    rows = [(str(10 + i), *r[1:]) for i, r in enumerate(ROWS)]
    for seed in (0, 1):
        write(seed_folder(tmp_path, "resnet18", seed), table(seed, rows))
    found = find_gate(prepared(tmp_path), "run", [7])
    assert list(found.probabilities) == [str(10 + i) for i in range(7)]


# What its masks depend on


def test_the_weights_of_every_classifier_that_is_asked_count(run):
    files = {s: file_hash(seed_folder(run, "resnet18", s) / BEST) for s in (0, 1)}
    assert gate_weights(prepared(run), "run") == {"0": files[0], "1": files[1]}
    assert gate_weights(prepared(run), "own") == {"1": files[1]}
    assert gate_weights(prepared(run), "mean") == {"0": files[0], "1": files[1]}
    assert gate_weights(prepared(run), "free") == {}
    assert gate_key(prepared(run), "free") == []


def test_the_key_names_the_gate_its_classifiers_and_their_weights(run, monkeypatch):
    monkeypatch.setattr(gates, "classifier_key", lambda p, s: f"{p.key} {s}")
    here = prepared(run)
    weights = gate_weights(here, "run")
    assert gate_key(here, "run") == ["validation", ["data 0", "data 1"], weights]
    assert gate_key(here, "own") == [0.4, ["data 1"], {"1": weights["1"]}]
    write_bytes(seed_folder(run, "resnet18", 0) / BEST, b"others")
    assert gate_key(here, "run") != ["validation", ["data 0", "data 1"], weights]


# Before any training


@pytest.fixture
def trained(monkeypatch):
    """The seeds whose classifiers are there; asked for in this order."""
    held, asked = {0, 1}, []
    monkeypatch.setattr(gates, "is_trained", lambda p, s: asked.append((p.key, s)) or s in held)
    return held, asked


def test_every_classifier_that_is_asked_must_be_trained(run, trained):
    held, asked = trained
    check_gate(prepared(run), "run")
    assert asked == [("data", 0), ("data", 1)]
    held.remove(1)
    for name in ("run", "own", "mean"):
        with pytest.raises(RunError, match=f"gate of {name} needs.* for seed 1") as e:
            check_gate(prepared(run), name)
        assert e.value.where == f"segmenters.{name}.gate"
        assert "weakseg train-classifier CONFIG" in e.value.fix
    held.clear()
    with pytest.raises(RunError, match="for seed 0"):
        check_gate(prepared(run), "run")
    asked.clear()
    check_gate(prepared(run), "free")
    check_gate(prepared(run, masks={"gate": "none"}), "run")
    assert not asked


def test_volumes_have_no_gate(run, trained):
    del trained
    check_gate(prepared(run, kind="nii.gz"), "free")
    for changes in ({}, {"masks": {"gate": "none"}}):
        with pytest.raises(UserError, match="there is none of volumes") as e:
            check_gate(prepared(run, kind="nii.gz", **changes), "run")
        assert e.value.where == "segmenters.run.gate"
        assert "take it out" in e.value.fix


def test_a_cut_that_cannot_be_chosen_is_refused_before_training(run, trained):
    """Of the second classifier alone the validation images are all lesions."""
    del trained
    held = table(1)
    held.loc[held["case"] == "c", "label"] = "cyst"
    write(seed_folder(run, "resnet18", 1), held)
    assert find_gate(prepared(run), "run", [0]).value == pytest.approx(0.25)
    with pytest.raises(UserError, match="cannot be chosen"):
        check_gate(prepared(run), "run")
    check_gate(prepared(run), "own")
