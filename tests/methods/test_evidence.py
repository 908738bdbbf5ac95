"""What neighbouring slices say for a part of a mask."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from weakseg.config import SegmenterConfig, parse_config
from weakseg.data.cases import Case, Labels
from weakseg.data.series import neighbours
from weakseg.errors import DataError
from weakseg.methods.evidence import Evidence, with_neighbours
from weakseg.methods.network import NetworkMethod, beside_each
from weakseg.methods.network_choices import choose_screen
from weakseg.methods.network_mask import network_mask
from weakseg.predicting.beside import begun
from weakseg.predicting.inputs import together
from weakseg.predicting.predict import _rows


def flat(value, size=(2, 2)):
    return np.full(size, value, dtype=np.float32)


def test_the_evidence_is_the_weighted_mean_with_the_neighbours():
    maps = [flat(v) for v in (0.2, 0.8, 0.6, 0.4)]
    beside = {0: (1,), 1: (0, 2), 2: (1,), 3: ()}
    said = list(with_neighbours(enumerate(maps), beside, 0.4))
    assert [e.index for e in said] == [0, 1, 2, 3]
    assert [e.probability[0, 0] for e in said] == pytest.approx([0.2, 0.8, 0.6, 0.4])
    assert [e.neighbours for e in said] == [(1,), (0, 2), (1,), ()]
    found = [None if e.mean is None else e.mean[0, 0] for e in said]
    # 0.6 · 0.2 + 0.4 · 0.8; 0.6 · 0.8 + 0.4 · (0.2 + 0.6) / 2; 0.6 · 0.6 + 0.4 · 0.8
    assert found[:3] == pytest.approx([0.44, 0.64, 0.68])
    assert found[3] is None


def test_neighbours_of_another_size_and_such_as_never_came_say_nothing():
    maps = [(0, flat(0.2)), (1, flat(0.8, (3, 2)))]
    said = list(with_neighbours(maps, {0: (1, 7), 1: (0,), 7: (0,)}, 0.5))
    assert [(e.index, e.mean, e.neighbours) for e in said] == [(0, None, ()), (1, None, ())]


def test_the_word_of_classifiers_is_a_mean_with_the_neighbours_as_well():
    maps = [flat(v) for v in (0.2, 0.8, 0.6)]
    said = list(with_neighbours(enumerate(maps), {0: (1,), 1: (0, 2), 2: (1,)}, 0.4))
    words = [e.word((0.9, 0.1, 0.5).__getitem__) for e in said]
    # 0.6 · 0.9 + 0.4 · 0.1; 0.6 · 0.1 + 0.4 · 0.7; 0.6 · 0.5 + 0.4 · 0.1
    assert words == pytest.approx([0.58, 0.34, 0.34])
    assert [e.word(lambda i: None) for e in said] == [None] * 3
    alone = Evidence(0, maps[0])
    assert alone.word((0.9, 0.1).__getitem__) == 0.9


@given(st.permutations(range(6)), st.floats(0, 0.99))
def test_whatever_the_order_each_comes_once_with_the_same_evidence(order, share):
    beside = {0: (1,), 1: (0, 2), 2: (1,), 3: (4,), 4: (3,), 5: ()}
    values = [0.1, 0.9, 0.3, 0.5, 0.7, 0.2]
    said = with_neighbours(((i, flat(values[i])) for i in order), beside, share)
    found = {e.index: (e.probability[0, 0], e.mean) for e in said}
    assert sorted(found) == list(range(6))
    for i, (own, e) in found.items():
        assert own == pytest.approx(values[i])
        if not beside[i]:
            assert e is None
            continue
        mean = np.mean([values[j] for j in beside[i]])
        assert e[0, 0] == pytest.approx((1 - share) * values[i] + share * mean, abs=1e-6)


def test_in_order_no_more_than_three_maps_wait():
    made = []

    def maps():
        for i in range(50):
            made.append(i)
            yield i, flat(i / 50)

    beside = {i: tuple(j for j in (i - 1, i + 1) if 0 <= j < 50) for i in range(50)}
    for one in with_neighbours(maps(), beside, 0.4):
        assert len(made) - one.index <= 2


THRESHOLD = {"threshold": 0.5, "gate": 0.6, "inference": {"min_peak": 0.9, "neighbours": 0.5}}


def test_a_mask_keeps_its_outline_and_its_parts_need_a_peak_of_the_evidence():
    p = np.array([[0.8, 0.7, 0.0, 0.95]], dtype=np.float32)
    assert network_mask(p, THRESHOLD).tolist() == [[False, False, False, True]]
    evidence = np.array([[0.95, 0.2, 0.9, 0.6]], dtype=np.float32)
    assert network_mask(p, THRESHOLD, evidence).tolist() == [[True, True, False, False]]
    own = {**THRESHOLD, "beside": {"min_peak": 0.55, "gate": 0.1}}
    assert network_mask(p, own, evidence).tolist() == [[True, True, False, True]]
    assert network_mask(p, own).tolist() == [[False, False, False, True]]


NAMES = ("a_1", "a_2", "a_3", "b_5")
CASES = [
    Case(n, Path(f"/data/{n}.png"), "tumor" if n in ("a_2", "a_3") else "normal", patient=n[0])
    for n in NAMES
]
PEAKS = (0.8, 0.7, 0.9, 0.6)
"""The highest probability of each."""


class Networks:
    """Says of every case what `PEAKS` has of it."""

    device = "cpu"
    models = ()
    settings = {"image_size": 32, "dims": 2}  # noqa: RUF012

    def probabilities(self, data, indices, settings):
        for i in indices:
            p = PEAKS[NAMES.index(data.cases[i].id)]
            yield i, np.array([[p, 0.0]], dtype=np.float32)


def method(threshold):
    settings = SegmenterConfig(arch="unet", precision="32-true")
    config = parse_config({"data": {"manifest": "labels.csv"}})
    return NetworkMethod(
        "net", (0,), config, Networks(), settings, {"kind": "weak"} | threshold, lambda c: 0.5
    )


def marked(of, indices):
    data = SimpleNamespace(cases=CASES)
    return [p.mask.any() for _, p in of.over(data, indices)]


def test_a_network_looks_at_the_neighbours_among_the_cases_it_is_given():
    # Evidence: a_1 0.5 · 0.8 + 0.5 · 0.7 = 0.75, a_2 0.775, a_3 0.8; b_5 stands alone.
    cuts = {"inference": {"min_peak": 0.6, "neighbours": 0.5}, "gate": 0.0, "threshold": 0.5}
    both = method(cuts | {"beside": {"min_peak": 0.77, "gate": 0.0}})
    assert both.looks_beside
    assert marked(both, range(4)) == [False, True, True, True]
    assert marked(both, [0, 3]) == [True, True]  # without its neighbour
    assert marked(method(cuts | {"gate": 0.6}), range(4)) == [False] * 4
    # The gate of those with neighbours is a cut of its own.
    gates = method(cuts | {"gate": 0.6, "beside": {"min_peak": 0.0, "gate": 0.4}})
    assert marked(gates, range(4)) == [True, True, True, False]
    # And the word that it is held against is a mean with the neighbours: a_1 0.5 · 0.2 + 0.5 · 1.0.
    words = {"a_1": 0.2, "a_2": 1.0, "a_3": 0.0, "b_5": 0.2}
    spoken = replace(gates, gate=lambda c: words[c.id])
    assert marked(spoken, range(4)) == [True, True, True, False]
    assert [p.probability for _, p in spoken.over(SimpleNamespace(cases=CASES), range(4))] == [
        *(0.2, 1.0, 0.0, 0.2)
    ]
    bare = both.unscreened()
    assert not bare.looks_beside
    assert marked(bare, range(4)) == [True] * 4


def test_a_gate_alone_is_held_against_the_mean_with_the_neighbours():
    bare = method({"inference": {"neighbours": 0.5}, "gate": 0.4, "threshold": 0.5})
    words = {"a_1": 0.2, "a_2": 1.0, "a_3": 0.0, "b_5": 0.2}
    heard = replace(bare, gate=lambda c: words[c.id])
    assert heard.looks_beside
    assert marked(heard, range(4)) == [True, True, True, False]
    assert not method(
        {"inference": {"neighbours": 0.5}, "gate": 0.0, "threshold": 0.5}
    ).looks_beside


def test_between_two_answers_nothing_is_left_in_the_network_s_precision(monkeypatch):
    cuts = {"inference": {"min_peak": 0.6, "neighbours": 0.5}, "gate": 0.0, "threshold": 0.5}
    of = method(cuts)
    of = replace(of, settings=of.settings.model_copy(update={"precision": "bf16-mixed"}))
    asked = []
    said = Networks.probabilities

    def probabilities(self, data, indices, settings):
        asked.append((len(indices), torch.is_autocast_enabled("cpu")))
        return said(self, data, indices, settings)

    monkeypatch.setattr(Networks, "probabilities", probabilities)
    monkeypatch.setattr(NetworkMethod, "at_once", 2)
    for _ in of.over(SimpleNamespace(cases=CASES), range(4)):
        assert not torch.is_autocast_enabled("cpu")
    assert asked == [(2, True), (2, True)]


def test_cuts_of_those_with_neighbours_and_of_those_without_are_chosen_apart():
    prepared = SimpleNamespace(
        cases=SimpleNamespace(cases=CASES, labels=Labels(("normal",), ("tumor",)))
    )
    settings = SegmenterConfig(false_alarms=0.0, neighbours=0.5)
    threshold = {"threshold": 0.5, "inference": {"neighbours": 0.5}}
    data = SimpleNamespace(cases=CASES)
    said = Networks().probabilities(data, range(4), settings)
    found = choose_screen(
        prepared,
        settings,
        threshold,
        beside_each(said, CASES, range(4), threshold["inference"]),
        None,
    )
    # Alone: healthy 0.8 and 0.6, lesions 0.7 and 0.9; one lesion can be kept: between 0.8 and 0.9.
    assert 0.8 < found["inference"]["min_peak"] <= 0.9
    # Beside each other: healthy 0.75 and 0.6 (alone), lesions 0.775 and 0.8: both can be kept.
    assert 0.75 < found["beside"]["min_peak"] <= 0.775
    assert "gate" not in found
    assert found["on_labels"] == {"found": 2, "lesions": 2, "marked": 0, "healthy": 2}


@pytest.mark.parametrize("confidence", [None, 0.6])
def test_both_pairs_of_cuts_together_keep_to_the_share(confidence):
    """Each lets 10 % of all healthy images be marked, and counts for half of them."""
    said = [
        *[("normal", 0.9, None)] * 2,
        *[("normal", 0.6, None)] * 18,
        *[("normal", 0.55, 0.95)] * 4,
        *[("normal", 0.55, 0.56)] * 16,
        *[("tumor", 0.95, None)] * 10,
        *[("tumor", 0.85, None)] * 10,
        *[("tumor", 0.8, 0.97)] * 10,
        *[("tumor", 0.8, 0.94)] * 10,
    ]
    cases = [Case(f"{k}", Path(f"{k}.png"), s[0], patient=f"{k}") for k, s in enumerate(said)]
    evidence = [
        Evidence(k, np.full((4, 4), own), None if mean is None else np.full((4, 4), mean))
        for k, (_, own, mean) in enumerate(said)
    ]
    prepared = SimpleNamespace(
        cases=SimpleNamespace(cases=cases, labels=Labels(("normal",), ("tumor",)))
    )
    settings = SegmenterConfig(false_alarms=0.1, neighbours=0.4, false_alarm_confidence=confidence)
    threshold = {"threshold": 0.5, "inference": {"neighbours": 0.4}}
    found = choose_screen(prepared, settings, threshold, iter(evidence), None)["on_labels"]
    assert found == {"found": 30, "lesions": 40, "marked": 2, "healthy": 40}


def test_without_neighbours_there_is_one_pair_of_cuts():
    prepared = SimpleNamespace(
        cases=SimpleNamespace(cases=CASES, labels=Labels(("normal",), ("tumor",)))
    )
    settings = SegmenterConfig(false_alarms=0.0)
    said = Networks().probabilities(SimpleNamespace(cases=CASES), range(4), settings)
    threshold = {"threshold": 0.5, "inference": {}}
    found = choose_screen(
        prepared, settings, threshold, beside_each(said, CASES, range(4), {}), None
    )
    assert "beside" not in found
    # Each by itself: one lesion is above every healthy image.
    assert found["on_labels"] == {"found": 1, "lesions": 2, "marked": 0, "healthy": 2}


def test_what_is_held_to_the_share_may_be_its_bound_over_patients():
    """Of two healthy images one may be marked at a share of 1/2; where both are of one patient,
    nothing tells what others would be, so that none may."""
    prepared = SimpleNamespace(
        cases=SimpleNamespace(cases=CASES, labels=Labels(("normal",), ("tumor",)))
    )
    threshold, peaks = {"threshold": 0.5, "inference": {}}, []
    for how in ({}, {"false_alarm_confidence": 0.9}):
        settings = SegmenterConfig(false_alarms=0.5, **how)
        said = Networks().probabilities(SimpleNamespace(cases=CASES), range(4), settings)
        val = beside_each(said, CASES, range(4), {})
        found = choose_screen(prepared, settings, threshold, val, None)
        peaks.append(found["inference"]["min_peak"])
    assert 0.6 < peaks[0] <= 0.7
    assert 0.8 < peaks[1] <= 0.9
    with pytest.raises(ValidationError, match="is of false_alarms, which is not set"):
        SegmenterConfig(false_alarm_confidence=0.9)


def test_a_series_is_predicted_at_once_and_the_others_as_ever(monkeypatch):
    monkeypatch.setattr(
        "weakseg.predicting.inputs.read_frame", lambda _: SimpleNamespace(shape=(4, 4))
    )
    cases = [*CASES, Case("c_9", Path("/data/c_9.png"), "")]
    cases = [cases[k] for k in (3, 1, 4, 2, 0)]
    found = [[c.id for c in some] for some in together(cases, 2, whole_series=True)]
    assert found == [["a_1", "a_2", "a_3"], ["b_5", "c_9"]]
    assert [len(some) for some in together(cases, 2)] == [2, 2, 1]
    assert neighbours(cases)[0] == ()


def test_one_broken_slice_leaves_the_others_each_other():
    def one(cases):
        if any(c.id == "a_2" for c in cases):
            raise DataError("broken", where="a_2")
        rows = [{"file": c.id, "with": len(cases)} for c in cases]
        return iter([partial(dict, row) for row in rows])

    undone = []
    for company, expected in ((True, [2, 2]), (False, [1, 1])):
        rows = _rows(begun(one, CASES[:3]), one, CASES[:3], True, undone.append, company)
        assert [r["file"] for r in rows] == ["a_1", "a_3"]
        assert [r["with"] for r in rows] == expected
    assert {c.id for c in undone} == {"a_2"}
