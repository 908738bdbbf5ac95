"""Which images, masks and classifiers every choice looks at, and that what was seen is counted.

Nothing is trained: heatmaps and predictions are written by hand, each telling its case.
"""

from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tests.tiny import pixels, read_rows, write_config, write_manifest, write_set
from weakseg.config import load_config
from weakseg.data.images import read_image
from weakseg.errors import UserError
from weakseg.heatmaps.store import Heatmap, save_heatmap
from weakseg.layout import PREDICTIONS, heatmap_file, seed_folder, threshold_file
from weakseg.masks.rules import RULES, segment
from weakseg.methods import find
from weakseg.methods.cases import read_truth
from weakseg.methods.evidence import Evidence
from weakseg.methods.find import load_method
from weakseg.methods.gate import find_gate, heatmap_gate
from weakseg.methods.heatmap import HeatmapMethod
from weakseg.methods.heats import StoredHeats
from weakseg.methods.masks_seen import MasksSeen
from weakseg.methods.network import NetworkMethod
from weakseg.methods.network_choices import choose_threshold
from weakseg.methods.network_mask import network_mask
from weakseg.methods.segment_cases import score_predictions
from weakseg.methods.stored_heatmaps import HeatReader
from weakseg.runs import write_json, write_text
from weakseg.scores import dice
from weakseg.spreadsheets import csv_text
from weakseg.stages.prepare import prepared_run

CONFIG = """
name: seen
data: {{manifest: {manifest}, image_size: 48}}
classifier: {{arch: squeezenet1_1, epochs: 1, seeds: [0, 1]}}
heatmaps: {{all: {{method: gradcam, ensemble: true, rules: [fixed]}}}}
masks: {{gate: validation, rules: [validation, fixed, train-quantile, oracle-dataset,
         oracle-image]}}
segmenters:
  one: {{arch: unet, seeds: [0, 1, 7], gate: run}}
  set: {{arch: unet, seeds: [0, 1], gate: 0.4}}
  mean: {{arch: unet, seeds: [0, 1], gate: run, ensemble: true}}
  free: {{arch: unet, seeds: [0], threshold: validation}}
"""
SIDES = ("train",) * 4 + ("val",) * 2 + ("test",) * 3
"""The split of each patient: 6, 3 and 5 lesions, and 6, 3 and 4 healthy images."""
NO_MASK = ("p00_0", "p04_0", "p06_0")
"""Lesions that nobody has segmented: one a split."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seen")
    manifest = write_set(folder / "data", patients=len(SIDES))
    rows = [
        (
            r["image"],
            r["label"],
            "" if r["image"][7:12] in NO_MASK else r["mask"],
            r["patient"],
            SIDES[int(r["patient"][1:])],
        )
        for r in read_rows(manifest)
    ]
    write_manifest(manifest, rows, ("image", "label", "mask", "patient", "split"))
    config = load_config(write_config(folder, manifest, CONFIG))
    with prepared_run(config, folder / "run") as held:
        yield held


def lesions(prepared, split, *, masked=True):
    return [
        c
        for c in prepared.cases.of(split)
        if c.label == "tumor" and not (masked and c.id in NO_MASK)
    ]


def level(case):
    """The heat of a case, nearly the same everywhere: no two cases share one."""
    return 1.0 + int(case.id[1:3]) * 3 + int(case.id[4:])


@pytest.fixture(scope="module")
def reader(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("heat") / "seed-0" / "gradcam"
    for case in prepared.cases.cases:
        raw = level(case) + np.linspace(0, 0.1, 36, dtype=np.float32).reshape(6, 6)
        heat = Heatmap(raw, (48, 40), 48, "l", "gradcam", "lesion", 0.5)
        save_heatmap(heatmap_file(folder, case.id), heat)
    return HeatReader(prepared, folder)


@pytest.fixture(scope="module")
def evidence(reader):
    """What the stage gives a rule to look at."""
    return reader.fit(SimpleNamespace(rule="spy", fit=lambda evidence: evidence), 3)


def test_a_rule_that_is_taught_by_masks_opens_those_of_training_lesions_alone(
    prepared, reader, monkeypatch
):
    opened = []

    def spied(case, shape, healthy, data):
        opened.append(case.id)
        return read_truth(case, shape, healthy, data)

    monkeypatch.setattr("weakseg.methods.stored_heatmaps.read_truth", spied)
    rule = RULES["random-forest"](teacher="masks", trees=2, depth=2)
    fitted = reader.fit(rule, 0)
    wanted = set(ids(lesions(prepared, "train")))
    assert set(opened) == set(reader.seen_by(fitted).cases) == wanted
    assert fitted.masks_seen == len(wanted) == reader.seen_by(fitted).count
    opened.clear()
    with suppress(LookupError):  # of heat that is nearly even nothing may be sure
        reader.fit(RULES["random-forest"](trees=2, depth=2, low=0.97, high=0.98), 0)
    assert not opened


def of_levels(prepared, heats):
    """The cases whose heat some maps show."""
    by_level = {level(c): c.id for c in prepared.cases.cases}
    return [by_level[np.floor(np.max(h))] for h in heats]


def ids(cases):
    return [c.id for c in cases]


# What rules look at


def test_unmasked_heat_is_that_of_training_images_with_a_lesion(prepared, evidence):
    wanted = lesions(prepared, "train", masked=False)
    assert of_levels(prepared, evidence.train()) == ids(wanted)
    assert len(wanted) == 6


@pytest.mark.parametrize(("kind", "split", "count"), [("val", "val", 2), ("test", "test", 4)])
def test_pairs_are_lesions_of_their_split_with_their_own_masks(
    prepared, evidence, kind, split, count
):
    pairs = list(getattr(evidence, kind)())
    cases = lesions(prepared, split)
    assert of_levels(prepared, [h for h, _ in pairs]) == ids(cases)
    assert len(pairs) == count
    for case, (_, truth) in zip(cases, pairs, strict=True):
        np.testing.assert_array_equal(truth, pixels(case.mask) > 0)
        assert truth.any()


def test_a_search_sees_validation_lesions_with_images_and_masks(prepared, evidence):
    triples = list(evidence.val_images())
    cases = lesions(prepared, "val")
    assert of_levels(prepared, [h for h, _, _ in triples]) == ids(cases)
    for case, (_, image, truth) in zip(cases, triples, strict=True):
        np.testing.assert_array_equal(image, read_image(case.image))
        np.testing.assert_array_equal(truth, pixels(case.mask) > 0)


def test_rules_are_trained_on_training_images_with_a_lesion(prepared, reader):
    found = list(reader.training_pairs())
    wanted = ids(lesions(prepared, "train", masked=False))
    assert ids(c for c, _ in found) == of_levels(prepared, [h for _, h in found]) == wanted


def test_what_rules_saw_is_counted(prepared, reader):
    seen = {
        name: reader.fit(RULES[name](), 0).masks_seen
        for name in ("fixed", "train-quantile", "validation", "oracle-dataset", "oracle-image")
    }
    assert seen == {
        "fixed": 0,
        "train-quantile": 0,
        "validation": 2,
        "oracle-dataset": 4,
        "oracle-image": 4,
    }


def test_the_quantile_of_training_heat_is_of_images_with_a_lesion_alone(prepared, reader):
    """Maps of one level each: of six the quantile of 0.5 is the third or the fourth highest."""
    at = sorted(level(c) for c in lesions(prepared, "train", masked=False))
    rule = RULES["train-quantile"](q=0.49)
    assert reader.fit(rule, 0).threshold == pytest.approx(at[2], abs=0.1)
    rule = RULES["train-quantile"](q=0.99)
    assert reader.fit(rule, 0).threshold == pytest.approx(at[-1], abs=0.1)
    assert at[-1] < max(level(c) for c in prepared.cases.of("train"))  # which is healthy


# The gate


def said(case, seed):
    """Probability of a lesion: of validation cases a plain cut, each seed at its own height."""
    low, high = ((0.1, 0.3), (0.3, 0.7))[seed]
    sure = high if case.label == "tumor" else low
    if case.split != "val":  # the other way round, so that a cut chosen here is another
        sure = 1 - sure
    return round(sure + level(case) / 1000, 6)


@pytest.fixture(scope="module")
def classifiers(prepared):
    cases = prepared.cases.cases
    for seed in prepared.config.seeds:
        rows = [
            {
                "case": c.id,
                "patient": c.patient,
                "split": c.split,
                "label": c.label,
                "predicted": c.label,
                "lesion_probability": said(c, seed),
            }
            # Each in an order of its own: cases are told by name.
            for c in (cases if seed == 0 else cases[::-1])
        ]
        folder = seed_folder(prepared.run.folder, "squeezenet1_1", seed)
        write_text(folder / PREDICTIONS, csv_text(pd.DataFrame(rows)))
    return prepared


def cut(prepared, seeds):
    """Half-way between the healthy validation images and the lesions, which lie above all."""
    mean = {c: np.mean([said(c, s) for s in seeds]) for c in prepared.cases.of("val")}
    lowest = min(p for c, p in mean.items() if c.label == "tumor")
    return (lowest + max(p for c, p in mean.items() if c.label == "normal")) / 2


@pytest.mark.parametrize(
    ("name", "networks", "by"),
    [
        ("one", [0], (0,)),
        ("one", [1], (1,)),
        ("one", [7], (0, 1)),
        ("mean", [0, 1], (0, 1)),
        ("set", [1], (1,)),
    ],
)
def test_a_segmenter_is_screened_by_the_mean_of_its_classifiers(classifiers, name, networks, by):
    gate = find_gate(classifiers, name, networks)
    assert gate.by == by
    wanted = 0.4 if name == "set" else cut(classifiers, by)
    assert gate.value == pytest.approx(wanted, abs=1e-6)
    cases = classifiers.cases.cases
    assert gate.probabilities == pytest.approx(
        {c.id: np.mean([said(c, s) for s in by]) for c in cases}, abs=1e-6
    )


def test_no_gate_is_none(classifiers):
    assert find_gate(classifiers, "free", [0]) is None


@pytest.mark.parametrize(("heatmap", "seed", "by"), [("gradcam", 1, [1]), ("all", 0, [0, 1])])
def test_the_gate_on_a_heatmap_is_that_of_the_classifiers_that_make_it(
    classifiers, heatmap, seed, by
):
    found = heatmap_gate(classifiers, heatmap, seed)
    assert found == pytest.approx(cut(classifiers, by), abs=1e-6)


def lesion_indices(prepared, split):
    chosen = ids(lesions(prepared, split))
    return [i for i, c in enumerate(prepared.cases.cases) if c.id in chosen]


def test_a_mask_is_emptied_below_the_gate_and_not_at_it(classifiers):
    i = lesion_indices(classifiers, "test")[0]
    case, probability = classifiers.cases.cases[i], np.full((48, 40), 0.9, np.float32)
    gate = find_gate(classifiers, "set", [0])
    threshold = {"kind": "supervised", "threshold": 0.5, "masks_seen": 0, "gate": gate.value}
    settings = classifiers.config.segmenters["set"]
    for says, gated in ((0.399, True), (0.4, False), (0.7, False)):
        asked = gate.__class__(gate.value, gate.by, {case.id: says})
        method = NetworkMethod(
            "set", (0,), classifiers.config, Untrained(), settings, threshold, asked.of
        )
        evidence = Evidence(i, probability)
        made = [(case, method.of_evidence(evidence, lambda _, at=asked: at.of(case), np.zeros))]
        (scored,) = score_predictions(classifiers, method, made, 0)
        (row,) = scored.rows.cases
        assert (row["gated"], row["probability"]) == (gated, says)
        assert row["predicted_pixels"] == (0 if gated else 48 * 40)


def test_a_heatmap_s_mask_is_emptied_below_the_gate_and_not_at_it(prepared, reader):
    case = lesions(prepared, "test")[0]
    fixed = reader.fit(RULES["fixed"](), 0)
    p = reader.load(case).probability
    for gate, gated in ((p, False), (p + 1e-3, True)):
        heats = StoredHeats(reader)
        method = HeatmapMethod("gradcam-fixed", (0,), prepared.config, fixed, gate, heats)
        made = method.predict(case)
        assert made.gated == gated
        assert made.mask.sum() == (0 if gated else 48 * 40)


# A segmenter's threshold


class Untrained:
    """Networks that saw 5 training masks, and 1 of validation to choose their epoch."""

    models = (None,)
    settings: dict = {"image_size": 48, "dims": 2}  # noqa: RUF012

    weights = ()

    def __init__(self, looked_at="other"):
        self.seen = MasksSeen(frozenset([looked_at]), 5)

    def masks_seen(self, kind):
        return {"training_masks": 5, "validation_masks": 1}[kind]


def test_a_segmenter_s_threshold_is_chosen_on_validation_masks_and_each_is_counted_once(prepared):
    settings = prepared.config.segmenters["free"]
    data = SimpleNamespace(
        cases=prepared.cases.cases,
        truth_is_empty=lambda i: prepared.cases.cases[i].label != "tumor",
    )
    asked = []

    def probabilities(indices):
        for i in indices:
            asked.append(prepared.cases.cases[i].id)
            truth = pixels(prepared.cases.cases[i].mask) > 0
            yield i, np.where(truth, 0.8, 0.3).astype(np.float32)

    networks = Untrained(ids(lesions(prepared, "val"))[0])
    entry = choose_threshold(prepared, settings, networks, data, probabilities)
    assert asked == ids(lesions(prepared, "val"))
    assert (entry["masks_seen"], entry["seen"]) == (5 + 2, sorted(asked))
    assert entry["chosen_on"] == "2 validation masks"
    for i in lesion_indices(prepared, "test"):
        truth = pixels(prepared.cases.cases[i].mask) > 0
        p = np.where(truth, 0.8, 0.3).astype(np.float32)
        assert dice(network_mask(p, entry), truth) == 1
    half = settings.model_copy(update={"threshold": 0.5})
    entry = choose_threshold(prepared, half, networks, data, None)
    assert (entry["masks_seen"], entry["threshold"]) == (5 + 1, 0.5)


# What `predict` takes where no method is named


@pytest.fixture
def choose(prepared, reader, monkeypatch):
    """The method that is taken of a run with masks by some methods."""
    taken = []
    kinds = [replace(k, load=lambda _f, _c, name, *_: taken.append(name)) for k in find.KINDS]
    monkeypatch.setattr(find, "KINDS", tuple(kinds))

    def method_of(entries, named=None):
        folder = prepared.run.folder
        paths = [threshold_file(folder / "masks", name) for name in entries]
        for path, entry in zip(paths, entries.values(), strict=True):
            write_json(path, entry)
        try:
            load_method(folder, named, device="cpu")
        finally:
            for path in paths:
                path.unlink()
        return taken.pop()

    return method_of


def of_rule(reader, name):
    fitted = reader.fit(RULES[name](), 0)
    return {
        f"seed-{s}": fitted.to_json() | {"kind": "heatmap", "split": "test", "gate": 0.0}
        for s in (0, 1)
    }


def of_network(kind, seen):
    entry = {"kind": kind, "rule": "probability", "threshold": 0.5, "scale": "probability"}
    entry |= {"chosen_on": "x", "masks_seen": seen, "gate": 0.0, "split": "test"}
    return {"seed-0": entry | {"upper_bound": False}}


def test_predict_takes_the_first_method_of_the_experiment_that_saw_no_mask(reader, choose):
    heat = {
        f"gradcam-{name}": of_rule(reader, name)
        for name in ("validation", "fixed", "train-quantile", "oracle-image")
    }
    assert choose(heat) == "gradcam-fixed"
    assert choose(heat | {"set": of_network("weak", 0)}) == "gradcam-fixed"
    del heat["gradcam-fixed"]
    assert choose(heat) == "gradcam-train-quantile"
    del heat["gradcam-train-quantile"]
    assert choose(heat | {"set": of_network("weak", 0)}) == "set"
    with pytest.raises(UserError, match="No method of the run gets by without true masks"):
        choose(heat | {"set": of_network("weak", 3)})


def test_a_method_that_is_not_there_is_answered_with_those_that_need_no_true_mask(reader, choose):
    heat = {f"gradcam-{name}": of_rule(reader, name) for name in ("fixed", "oracle-image")}
    with pytest.raises(UserError, match=r"no method 'zz'") as caught:
        choose(heat, "zz")
    assert caught.value.fix == "choose one of: gradcam-fixed"


def test_of_segmenters_alone_predict_takes_one_that_another_method_taught(choose):
    supervised, weak = of_network("supervised", 9), of_network("weak", 2)
    assert choose({"one": supervised, "set": weak}) == "set"
    assert choose({"one": supervised, "set": of_network("supervised", 1)}) == "one"
    assert choose({"one": of_network("supervised", 0), "set": weak}) == "one"


def test_a_rule_that_saw_masks_in_one_seed_alone_has_seen_masks(reader, choose):
    told = of_rule(reader, "fixed")
    told["seed-1"] = told["seed-1"] | {"masks_seen": 2}
    heat = {"gradcam-fixed": told, "gradcam-train-quantile": of_rule(reader, "train-quantile")}
    assert choose(heat) == "gradcam-train-quantile"


def test_an_upper_bound_is_never_taken(reader, choose):
    bound = of_rule(reader, "oracle-image")
    bound = {seed: entry | {"masks_seen": 0} for seed, entry in bound.items()}
    with pytest.raises(UserError, match="No method of the run"):
        choose({"gradcam-oracle-image": bound})


def test_heat_of_a_test_case_is_cut_where_training_heat_says(prepared, reader):
    """One threshold on raw heat: hotter images are marked whole, others are left empty."""
    fitted = reader.fit(RULES["train-quantile"](q=0.49), 0)
    for case in prepared.cases.cases:
        mask = segment(fitted, reader.load(case).full())
        if int(level(case)) != int(fitted.threshold):
            assert mask.all() == mask.any() == (level(case) > fitted.threshold), case.id
