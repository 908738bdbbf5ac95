"""Parameters of rules that are searched on validation masks."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from weakseg.config import parse_config
from weakseg.errors import ConfigError
from weakseg.masks.rules import Evidence, configured_rule, rule_from_json, search, segment
from weakseg.masks.rules.affinity import AffinityRule
from weakseg.masks.rules.geodesic import GeodesicRule
from weakseg.masks.rules.global_thresholds import AreaPriorRule, FixedRule, OtsuRule, QuantileRule
from weakseg.masks.rules.masks_seen import ValidationRule
from weakseg.masks.rules.random_walker import RandomWalkerRule
from weakseg.masks.rules.search import SearchedRule, chosen_masks
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
        ({"rule": "grown", "search": {"reach": [0.5]}}, ["search", "reach must be below warm"]),
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
    rules = [r for r in parse_config({}).masks.rules if isinstance(r, SearchedRule)]
    assert rules
    for rule in rules:
        assert not {"search", "max_masks"} & rule.model_dump(mode="json").keys()


def told(values, triples=TRIPLES, **settings):
    """What a search of `fixed` finds."""
    return fit(FixedRule(search={"at": values}, **settings), triples)


def test_the_mean_is_over_images_with_a_lesion_and_all_masks_are_counted():
    """Two masks are empty: they are looked at, and have no part in the mean."""
    triples = [*TRIPLES[:2], *((h, i, np.zeros_like(t)) for h, i, t in TRIPLES[2:])]
    fitted = told([0.5, 0.68], triples)
    assert fitted.masks_seen == 4
    assert len(fitted.search["candidates"]) == 2
    for found in fitted.search["candidates"]:
        wanted = np.mean([dice(h / h.max() > found["at"], t) for h, _, t in triples[:2]])
        assert found["dice"] == round(wanted, 6)
    empty = [(h, i, np.zeros_like(t)) for h, i, t in TRIPLES]
    with pytest.raises(LookupError, match="all 4 masks of the validation split that it looked at"):
        told([0.5], empty)


def test_a_limit_takes_the_masks_that_the_seed_says_and_no_others():
    """`numpy.random.default_rng(seed)` orders the pairs; the images come in the same order."""
    mixed = [(h, i, h > at) for (h, i, _), at in zip(TRIPLES, (0.2, 0.4, 0.6, 0.8), strict=True)]
    for seed in range(5):
        chosen = sorted(np.random.default_rng(seed).permutation(4)[:2])
        fitted = fit(FixedRule(search={"at": [0.2, 0.4, 0.6, 0.8]}, max_masks=2), mixed, seed)
        assert fitted.masks_seen == 2
        assert fitted.validation == tuple(chosen)
        assert len(fitted.search["candidates"]) == 4
        for found in fitted.search["candidates"]:
            kept = [mixed[k] for k in chosen]
            wanted = np.mean([dice(h / h.max() > found["at"], t) for h, _, t in kept])
            assert found["dice"] == round(wanted, 6)


def test_a_limit_above_the_number_of_masks_takes_all():
    assert told([0.3, 0.7], max_masks=9).masks_seen == 4
    assert chosen_masks(lambda: TRIPLES, None, 0) is None
    assert chosen_masks(lambda: TRIPLES, 9, 0) == {0, 1, 2, 3}
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(4).tolist()
        assert chosen_masks(lambda: TRIPLES, 3, seed) == set(order[:3])


def test_masks_that_told_the_area_are_counted_as_well():
    rule = AreaPriorRule(masks_seen=7, search={"area": [0.05, 0.1]})
    fitted = fit(rule)
    assert fitted.masks_seen == 7 + 4
    assert fitted.rule.masks_seen == 7


def test_a_search_is_told_in_words():
    fitted = fit(TwoToneRule(search={"warm": [0.25], "blur": [0.01, 0.02]}))
    words = fitted.chosen_on.replace("0.02", "0.01")
    assert words == "masks of the validation split: warm 0.25, blur 0.01, of 2 that were tried"
    assert fitted.search["configured"] == {
        "rule": "two-tone",
        "warm": 0.35,
        "blur": 0.008,
        "search": {"warm": [0.25], "blur": [0.01, 0.02]},
        "max_masks": None,
    }


def test_without_images_there_is_no_search():
    rule = TwoToneRule(search={"warm": [0.2]})
    with pytest.raises(ValueError, match="a search needs the validation images"):
        rule.fit(Evidence(train=tuple, val=lambda: [(1, 1)], test=tuple))


def test_candidates_are_whole_rules_with_the_settings_that_are_not_searched():
    rule = SuperpixelRule(count=55, search={"at": [0.3], "compactness": [1.0, 2.0]}, max_masks=3)
    assert rule.candidates() == [
        ({"at": 0.3, "compactness": c}, SuperpixelRule(count=55, at=0.3, compactness=c))
        for c in (1.0, 2.0)
    ]
    assert SuperpixelRule.parameters() == ["at", "count", "compactness"]
    assert AreaPriorRule.parameters() == ["area"]


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({}, r"name a parameter \(at\) and its values"),
        ({"att": [0.3]}, "att: the rule has no such parameter; did you mean 'at'"),
        ({"zzz": [0.3]}, "zzz: the rule has no such parameter; choose at"),
        ({"at": [0.3, 1.0]}, "at: input should be less than 1, not 1.0"),
        ({"at": [None]}, "at: input should be a valid number, not None"),
        ({"at": [False]}, "at: input should be a valid number, not False"),
        ({"at": []}, "at: name one value or more, each once"),
        ({"at": [0.5, 0.25, 0.5]}, "at: name one value or more, each once"),
    ],
)
def test_what_a_search_may_not_hold(search, words):
    with pytest.raises(ValidationError, match=words):
        FixedRule(search=search)


def test_values_are_read_as_the_parameter_s_own_kind():
    assert SuperpixelRule(search={"count": ["20", 30.0]}).search == {"count": [20, 30]}
    assert FixedRule(search=None).search is None


def test_a_rule_draws_where_it_takes_some_masks_or_is_trained():
    drawing = [
        FixedRule(search={"at": [0.5]}, max_masks=2),
        ValidationRule(max_masks=3),
        AffinityRule(),
    ]
    assert all(r.draws for r in drawing)
    assert not any(r.draws for r in (FixedRule(), ValidationRule(), OtsuRule(), TwoToneRule()))


def test_a_search_is_written_with_its_limit_and_the_rest_without():
    rule = FixedRule(search={"at": [0.3]}, max_masks=2)
    told = {"rule": "fixed", "at": 0.5}
    assert rule.model_dump(mode="json") == told | {"search": {"at": [0.3]}, "max_masks": 2}
    assert FixedRule().model_dump(mode="json") == told


class Looking(FixedRule):
    """Looks at what it is given, and keeps it."""

    def fit_as_set(self, evidence):
        found = [list(evidence.train()), list(evidence.val()), list(evidence.test())]
        return replace(super().fit_as_set(evidence), chosen_on=str(found))


def test_a_candidate_sees_nothing_and_a_rule_without_a_search_all():
    told = []
    evidence = Evidence(
        train=lambda: ["train"],
        val=lambda: [*TRIPLES[:1]],
        test=lambda: ["test"],
        val_images=lambda: TRIPLES[:1],
    )
    monitored = Looking(search={"at": [0.3, 0.5]})
    for _, rule in monitored.candidates():
        assert type(rule) is Looking
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "replace", lambda fitted, **_: told.append(fitted) or fitted)
        monitored.fit(evidence)
    assert [f.chosen_on for f in told] == ["[[], [], []]"]
    alone = Looking().fit(replace(evidence, val=lambda: ["val"]))
    assert alone.chosen_on == "[['train'], ['val'], ['test']]"


def test_what_may_not_be_searched_is_told_with_all_that_may():
    with pytest.raises(ValidationError, match=r"zzz: .*no such parameter; choose warm, blur"):
        TwoToneRule(search={"zzz": [1]})
    with pytest.raises(ValidationError, match="beta: input should be a finite number, not inf"):
        RandomWalkerRule(search={"beta": [1.0, float("inf")]})
    with pytest.raises(ValidationError, match="beta: input should be a finite number, not nan"):
        RandomWalkerRule(search={"beta": [float("nan")]})


def test_low_may_be_above_high_where_the_search_says_otherwise():
    rule = GeodesicRule(low=0.8, search={"high": [0.9, 0.75]})
    assert [c for c, _ in rule.candidates()] == [{"high": 0.9}]
    with pytest.raises(ValidationError, match="low must be below high"):
        GeodesicRule(low=0.8)
