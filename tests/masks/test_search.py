"""Parameters of rules that are searched on validation masks."""

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakseg.config import parse_config
from weakseg.errors import ConfigError
from weakseg.masks.rules import Evidence, configured_rule, rule_from_json, segment
from weakseg.masks.rules.geodesic import GeodesicRule
from weakseg.masks.rules.global_thresholds import FixedRule, QuantileRule
from weakseg.masks.rules.search import SearchedRule
from weakseg.masks.rules.superpixel import SuperpixelRule
from weakseg.masks.rules.two_tone import TwoToneRule, two_tone_mask
from weakseg.scores import dice


def disc(seed):
    """A bright disc on noise, a wide warm spot around it, and the disc."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    cy, cx = rng.integers(10, 22, 2)
    far = np.hypot(y - cy, x - cx)
    truth = far < 5
    image = rng.integers(0, 60, (32, 32)) + 120 * truth
    return np.exp(-((far / 8) ** 2)), image.astype(np.uint8), truth


TRIPLES = [disc(s) for s in range(4)]


def forbidden():
    raise AssertionError("looked at what it has no business with")


def fit(rule, triples=TRIPLES, seed=0):
    evidence = Evidence(
        train=forbidden,
        val=lambda: [(h, t) for h, _, t in triples],
        test=forbidden,
        val_images=lambda: triples,
        seed=seed,
    )
    return rule.fit(evidence)


def test_the_best_of_all_combinations_is_taken_and_all_are_told():
    warms, blurs = [0.2, 0.5, 0.9], [0.0, 0.03]
    fitted = fit(TwoToneRule(search={"warm": warms, "blur": blurs}))
    by_hand = {
        (w, b): np.mean([dice(two_tone_mask(h, i, warm=w, blur=b), t) for h, i, t in TRIPLES])
        for w, b in product(warms, blurs)
    }
    told = fitted.to_json()["search"]["candidates"]
    assert [(c["warm"], c["blur"]) for c in told] == list(by_hand)
    np.testing.assert_allclose([c["dice"] for c in told], list(by_hand.values()), atol=1e-6)
    best = max(by_hand, key=by_hand.get)
    assert (fitted.rule.warm, fitted.rule.blur) == best
    assert fitted.rule.search is None
    assert fitted.masks_seen == 4
    assert f"warm {best[0]:g}, blur {best[1]:g}" in fitted.chosen_on
    assert "validation" in fitted.chosen_on
    assert "6" in fitted.chosen_on


def test_a_search_is_a_set_threshold_where_the_rule_has_one():
    fitted = fit(FixedRule(search={"at": [0.9, 0.68, 0.1]}))
    # exp(-(5/8)²) = 0.677: the disc is what is hotter.
    assert fitted.rule.at == fitted.threshold == 0.68
    for heat, image, truth in TRIPLES:
        np.testing.assert_array_equal(segment(fitted, heat, image), truth)


def test_of_equally_good_ones_the_first_is_taken():
    flat = [(np.ones((8, 8)), np.zeros((8, 8), np.uint8), np.eye(8, dtype=bool))]
    fitted = fit(FixedRule(search={"at": [0.7, 0.3, 0.5]}), flat)
    assert fitted.rule.at == 0.7
    assert {c["dice"] for c in fitted.search["candidates"]} == {0.0}


def test_masks_are_limited_as_for_the_rule_validation():
    rule = FixedRule(search={"at": [0.3, 0.7]}, max_masks=1)
    assert fit(rule).masks_seen == 1
    # Masks of which the first two want a low threshold and the others a high one.
    mixed = [(h, i, h > (0.3 if k < 2 else 0.7)) for k, (h, i, _) in enumerate(TRIPLES)]
    found = {fit(rule, mixed, seed).rule.at for seed in range(12)}
    assert found == {0.3, 0.7}


def test_without_a_mask_it_is_left_out_with_its_reason():
    with pytest.raises(LookupError, match="no lesion image of the validation split has a mask"):
        fit(TwoToneRule(search={"warm": [0.2]}), [])


def test_what_threshold_json_holds_gives_the_same_masks():
    rule = SuperpixelRule(search={"at": [0.3, 0.7], "count": [20, 60]}, max_masks=3)
    fitted = fit(rule)
    entry = json.loads(json.dumps(fitted.to_json()))
    again = rule_from_json(entry)
    assert again.to_json() == entry
    assert configured_rule(entry) == rule.model_dump(mode="json")
    assert entry["rule"] == fitted.rule.model_dump(mode="json")
    heat, image, _ = TRIPLES[0]
    np.testing.assert_array_equal(segment(again, heat, image), segment(fitted, heat, image))


def test_combinations_that_exclude_each_other_are_left_out():
    rule = GeodesicRule(search={"low": [0.2, 0.6], "high": [0.5, 0.8]})
    assert [c for c, _ in rule.candidates()] == [
        {"low": 0.2, "high": 0.5},
        {"low": 0.2, "high": 0.8},
        {"low": 0.6, "high": 0.8},
    ]


@given(
    qs=st.lists(st.floats(0.05, 0.95), min_size=1, max_size=5, unique=True), seed=st.integers(0, 9)
)
def test_no_candidate_is_better_than_the_chosen_one(qs, seed):
    triples = [disc(seed), disc(seed + 1)]
    fitted = fit(QuantileRule(search={"q": qs}), triples)
    reached = np.mean([dice(segment(fitted, h, i), t) for h, i, t in triples])
    for q in qs:
        alone = QuantileRule(q=q).fit(Evidence(train=forbidden, val=forbidden, test=forbidden))
        assert reached >= np.mean([dice(segment(alone, h, i), t) for h, i, t in triples]) - 1e-12


def parsed(rule):
    return parse_config({"masks": {"rules": [rule]}})


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"rule": "two-tone", "search": {"wram": [0.3]}}, ["wram", "did you mean 'warm'"]),
        ({"rule": "two-tone", "search": {"warm": [0.3, 1.5]}}, ["warm", "less than 1", "1.5"]),
        ({"rule": "two-tone", "search": {"warm": []}}, ["warm", "one value or more"]),
        ({"rule": "two-tone", "search": {"warm": [0.3, 0.3]}}, ["warm", "each once"]),
        ({"rule": "two-tone", "search": {"warm": 0.3}}, ["search.warm", "list"]),
        ({"rule": "two-tone", "search": {"warm": [True]}}, ["warm", "True"]),
        ({"rule": "two-tone", "search": {"warm": ["hot"]}}, ["warm", "'hot'"]),
        ({"rule": "two-tone", "search": {}}, ["name a parameter", "warm, blur"]),
        ({"rule": "superpixel", "search": {"count": [20.5]}}, ["count", "20.5"]),
        ({"rule": "random-walker", "search": {"beta": [float("inf")]}}, ["beta", "inf"]),
        ({"rule": "area-prior", "search": {"masks_seen": [3]}}, ["masks_seen", "area"]),
        ({"rule": "fixed", "search": {"rule": ["otsu"]}}, ["no such parameter"]),
        ({"rule": "otsu", "search": {"at": [0.3]}}, ["unknown key", "search"]),
        ({"rule": "two-tone", "max_masks": 3}, ["max_masks", "search"]),
        ({"rule": "two-tone", "search": {"warm": [0.3]}, "max_masks": 0}, ["max_masks"]),
        (
            {"rule": "geodesic", "search": {"low": [0.8], "high": [0.3]}},
            ["search", "low must be below high"],
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_by_its_key(rule, words):
    with pytest.raises(ConfigError) as e:
        parsed(rule)
    assert "masks.rules.0" in str(e.value)
    assert all(w in str(e.value) for w in words), str(e.value)


def test_a_search_survives_being_written():
    rule = {"rule": "superpixel", "search": {"count": [20, 60], "at": [0.3]}, "max_masks": 5}
    config = parsed(rule)
    again = parse_config(config.model_dump(mode="json"))
    assert again == config
    assert again.masks.rules[0].search == rule["search"]


def test_rules_without_a_search_are_written_without_a_word_of_it():
    config = parse_config({})
    for rule in config.masks.rules:
        if isinstance(rule, SearchedRule):
            assert not {"search", "max_masks"} & rule.model_dump(mode="json").keys()
