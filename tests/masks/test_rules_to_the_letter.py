"""Rules take their own settings, and keep to the limits that they state: strictly above, in (0, 1).

Each was once changed by a hair without any other test noticing.
"""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from weakseg.config import MasksConfig
from weakseg.masks import floors
from weakseg.masks.region import body_region
from weakseg.masks.rules import (
    RULES,
    Evidence,
    FittedRule,
    TrainedState,
    affinity,
    box_prompt,
    chan_vese,
    configured_rule,
    crf,
    default_rules,
    geodesic,
    global_thresholds,
    grown,
    hypercolumn,
    random_forest,
    random_walker,
    region_growing,
    rule_from_json,
    segment,
    snake,
    superpixel,
    two_tone,
    watershed,
)
from weakseg.masks.rules.affinity import BACKGROUND, LESION, OPEN, confident, count_pairs
from weakseg.masks.rules.hypercolumn import Vote, hypercolumn_mask, sure_superpixels, vote_of
from weakseg.masks.rules.masks_seen import ORACLE_LABEL
from weakseg.masks.rules.registry import rules_by_name
from weakseg.masks.set_thresholds import best_threshold
from weakseg.masks.superpixels import part_means
from weakseg.masks.thresholds import normalise

HEAT = np.arange(48.0).reshape(6, 8)
IMAGE = np.arange(48.0).reshape(6, 8)[::-1]
COLUMNS = np.ones((2, 2, 3), np.float32)
VOTE = {
    "mean": np.full(4, 1.0),
    "scale": np.full(4, 2.0),
    "coefficients": np.full(4, 3.0),
    "intercept": np.full((), 4.0),
}

UNUSUAL = {
    "grown": (grown, {"warm": 0.51, "reach": 0.31, "most": 2.1, "blur": 0.011, "rare": 0.9}),
    "geodesic": (geodesic, {"high": 0.81, "low": 0.21, "edge": 7.0}),
    "random-walker": (random_walker, {"high": 0.81, "low": 0.21, "beta": 51.0}),
    "superpixel": (superpixel, {"at": 0.41, "count": 33, "compactness": 0.21}),
    "two-tone": (two_tone, {"warm": 0.51, "blur": 0.021}),
    "region-growing": (
        region_growing,
        {"high": 0.81, "low": 0.21, "tolerance": 0.21, "blur": 0.011},
    ),
    "watershed": (watershed, {"high": 0.81, "low": 0.21, "blur": 0.011}),
    "chan-vese": (chan_vese, {"high": 0.81, "low": 0.21, "steps": 7, "smoothing": 2}),
    "snake": (
        snake,
        {"high": 0.81, "low": 0.21, "steps": 7, "smoothing": 2, "blur": 0.011},
    ),
    "crf": (crf, {"at": 0.41, "steps": 3}),
    "box-prompt": (box_prompt, {"warm": 0.51, "blur": 0.021, "box": 1.5, "parts": "each"}),
    "hypercolumn": (
        hypercolumn,
        {"warm": 0.41, "at": 0.61, "count": 33, "compactness": 0.21, "crf": 2},
    ),
    "random-forest": (random_forest, {"warm": 0.41, "at": 0.61}),
    "affinity": (affinity, {"radius": 3, "beta": 4.0, "steps": 7, "at": 0.41}),
}


def state():
    """A trained state whose features are those of `IMAGE` alone."""

    def features(image):
        assert image is IMAGE
        return COLUMNS

    return TrainedState(VOTE, features)


@pytest.mark.parametrize("name", UNUSUAL)
def test_every_setting_of_a_rule_reaches_its_mask(monkeypatch, name):
    module, settings = UNUSUAL[name]
    calls = []
    monkeypatch.setattr(
        module, f"{name.replace('-', '_')}_mask", lambda *a, **k: calls.append((a, k)) or "mask"
    )
    monkeypatch.setattr(random_forest, "forest_of", lambda arrays: ("forest", arrays))
    rule = RULES[name](**settings)
    assert all(rule.__class__.model_fields[k].default != v for k, v in settings.items())
    made = rule.mask(FittedRule(rule, None, "raw", "", 0, trained=state()), HEAT, IMAGE, None)
    assert made == "mask"
    ((given, named),) = calls
    assert named == settings
    assert given[0] is HEAT
    assert given[1] is (COLUMNS if name == "affinity" else IMAGE)
    if name in ("hypercolumn", "random-forest"):
        assert given[2] is COLUMNS
    if name == "random-forest":
        assert given[3] == ("forest", VOTE)
    if name == "hypercolumn":
        for part, value in VOTE.items():
            np.testing.assert_array_equal(getattr(given[3], part), value)


def test_no_rule_with_a_mask_of_its_own_is_forgotten():
    own = {n for n, r in RULES.items() if n.replace("-", "_") in r.__module__.rpartition(".")[2]}
    assert own == set(UNUSUAL)


def test_a_trained_rule_hands_itself_over_and_says_what_taught_it():
    rule, asked = RULES["affinity"](radius=3), []
    fitted = rule.fit(
        Evidence(train=tuple, val=tuple, test=tuple, trainer=lambda r: asked.append(r) or state())
    )
    assert asked == [rule]
    assert fitted.rule is rule
    assert (fitted.threshold, fitted.scale) == (None, "raw")
    assert fitted.chosen_on == "heatmaps of training images, no masks"


def told(rule, pairs, seed=0):
    return rule.fit(
        Evidence(
            train=lambda: [h for h, _ in pairs], val=lambda: pairs, test=lambda: pairs, seed=seed
        )
    )


def pair(k):
    """A map whose best threshold is just below k tenths, and its mask."""
    heat = np.round(np.linspace(0, 1, 11), 2)[None] * np.ones((3, 1))
    return heat, heat >= k / 10 - 1e-9


def test_what_a_choice_saw_is_said_in_words():
    pairs = [pair(4), pair(8)]
    said = {n: told(RULES[n](), pairs) for n in RULES if n in ("fixed", "otsu", *SETS)}
    assert {n: (f.scale, f.chosen_on) for n, f in said.items()} == {
        "fixed": ("image", "nothing: set beforehand"),
        "otsu": ("raw", "each heatmap by itself"),
        "train-quantile": ("raw", "raw heat of training images, no masks"),
        "validation": ("image", "masks of the validation split"),
        "oracle-dataset": ("image", ORACLE_LABEL),
        "oracle-image": ("image", ORACLE_LABEL),
    }


SETS = ("train-quantile", "validation", "oracle-dataset", "oracle-image")


def test_which_masks_are_used_is_the_experiment_s_seed_s_to_say():
    """Of nine masks one: which, `numpy.random.default_rng(seed)` says, every time."""
    pairs = [pair(k) for k in range(1, 10)]
    at = [best_threshold([normalise(h)], [t])[0] for h, t in pairs]
    assert len(set(at)) == 9
    for seed in range(4):
        first = int(np.random.default_rng(seed).permutation(9)[0])
        assert told(RULES["validation"](max_masks=1), pairs, seed).threshold == at[first]


@pytest.mark.parametrize("low_high", [(0.0, 0.5), (0.5, 0.5), (0.6, 0.5), (0.5, 1.0)])
def test_low_and_high_exclude_their_limits(low_high):
    low, high = low_high
    parts = np.arange(48).reshape(6, 8)
    for call in (
        lambda: confident(HEAT, (6, 8), high=high, low=low),
        lambda: sure_superpixels(HEAT, parts, high=high, low=low),
        lambda: geodesic.geodesic_mask(HEAT, IMAGE, high=high, low=low),
        lambda: random_walker.random_walker_mask(HEAT, IMAGE, high=high, low=low),
    ):
        with pytest.raises(ValueError, match=f"must hold, got low {low} and high {high}$"):
            call()


def test_a_rule_s_low_must_be_below_its_high():
    seeded = ("region-growing", "watershed", "chan-vese", "snake")
    for name in ("geodesic", "random-walker", "affinity", "hypercolumn", *seeded):
        with pytest.raises(ValidationError, match="low must be below high"):
            RULES[name](low=0.5, high=0.5)
        assert RULES[name](low=0.49, high=0.5).low == 0.49


@pytest.mark.parametrize("at", [0.0, 1.0])
def test_shares_exclude_0_and_1(at):
    for call in (
        lambda: superpixel.superpixel_mask(HEAT, IMAGE, at=at),
        lambda: crf.crf_mask(HEAT, IMAGE, at=at),
        lambda: two_tone.two_tone_mask(HEAT, IMAGE, warm=at),
        lambda: affinity.affinity_mask(HEAT, COLUMNS, at=at),
        lambda: hypercolumn_mask(HEAT, IMAGE, COLUMNS, vote_of(VOTE), at=at),
    ):
        with pytest.raises(ValueError, match=r"^(at|warm) must be in \(0, 1\), got"):
            call()


def test_limits_of_other_parameters():
    with pytest.raises(ValueError, match="warm"):
        hypercolumn_mask(HEAT, IMAGE, COLUMNS, vote_of(VOTE), warm=1.0)
    with pytest.raises(ValueError, match="reach < warm"):
        grown.grown_mask(HEAT, IMAGE, reach=0.35, warm=0.35)
    with pytest.raises(ValueError, match="most must be at least 1"):
        grown.grown_mask(HEAT, IMAGE, most=0.99)
    with pytest.raises(ValueError, match="count must be at least 2"):
        superpixel.superpixel_mask(HEAT, IMAGE, count=1)
    with pytest.raises(ValueError, match="compactness must be positive"):
        superpixel.superpixel_mask(HEAT, IMAGE, compactness=0)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        crf.crf_mask(HEAT, IMAGE, steps=0)
    with pytest.raises(ValueError, match="share must be"):
        floors.centred_ellipse((4, 4), np.pi / 4 + 1e-9)
    assert floors.centred_ellipse((4, 4), np.pi / 4).sum() == 12


FOREST = random_forest.Forest(
    roots=np.array([0]),
    feature=np.array([0]),
    threshold=np.array([0.0]),
    left=np.array([0]),
    right=np.array([0]),
    lesion=np.array([0.9]),
)
"""One leaf, which calls all lesion."""


def test_a_flat_heatmap_gives_an_empty_mask_of_bools():
    flat = np.zeros((6, 8))
    for made in (
        superpixel.superpixel_mask(flat, IMAGE),
        two_tone.two_tone_mask(flat, IMAGE),
        grown.grown_mask(flat, IMAGE),
        affinity.affinity_mask(flat, COLUMNS),
        hypercolumn_mask(flat, IMAGE, COLUMNS, vote_of(VOTE)),
        random_forest.random_forest_mask(flat, IMAGE, COLUMNS, FOREST),
        random_forest.random_forest_mask(flat, IMAGE, COLUMNS, FOREST, warm=0),
    ):
        assert made.dtype == bool
        assert made.shape == (6, 8)
        assert not made.any()
    some = sure_superpixels(flat, np.arange(48).reshape(6, 8), high=0.6, low=0.2)
    assert [s.size for s in some] == [0, 0]
    assert all(np.issubdtype(s.dtype, np.integer) for s in some)


def test_what_lies_on_a_limit_is_not_sure():
    heat = np.array([[0.0, 0.25, 0.5, 1.0]])
    found = confident(heat, heat.shape, high=0.5, low=0.25)
    assert found.dtype == np.uint8
    assert found.tolist() == [[BACKGROUND, OPEN, OPEN, LESION]]
    lesion, background = sure_superpixels(heat, np.arange(4)[None], high=0.5, low=0.25)
    assert (lesion.tolist(), background.tolist()) == ([3], [0])


def test_superpixels_on_a_limit_are_not_voted_lesion(monkeypatch):
    parts = np.repeat(np.arange(4), 2)[None] * np.ones((2, 1), int)
    monkeypatch.setattr(hypercolumn, "coarse_superpixels", lambda *_, **__: parts)
    monkeypatch.setattr(hypercolumn, "superpixel_features", lambda *_: np.arange(4))
    heat = np.array([0.25, 0.5, 0.75, 1.0])[parts]
    voted = SimpleNamespace(probability=lambda f: np.array([0.9, 0.9, 0.5, 0.6])[f])
    image = heat

    def marked(**settings):
        made = hypercolumn_mask(heat, image, COLUMNS, voted, **settings)
        return [k for k in range(4) if made[parts == k].all()]

    assert marked(warm=0.5, at=0.5) == [3]
    assert marked(warm=0.49, at=0.5) == [1, 3]
    assert marked(warm=0.0, at=0.5) == [0, 1, 3]
    assert marked(warm=0.5, at=0.4) == [2, 3]
    heat = np.array([0.0, 0.5, 0.75, 1.0])[parts]
    assert marked(warm=0.0, at=0.5) == [0, 1, 3]


def test_superpixels_are_asked_for_as_configured(monkeypatch):
    asked = []
    monkeypatch.setattr(
        hypercolumn,
        "coarse_superpixels",
        lambda image, **k: asked.append(k) or np.eye(6, 8, dtype=int),
    )
    hypercolumn_mask(HEAT, IMAGE, COLUMNS, vote_of(VOTE), count=31, compactness=0.7)
    assert asked == [{"count": 31, "compactness": 0.7}]


def test_a_vote_is_stored_in_double_precision():
    made = vote_of({k: np.asarray(v, np.float32) for k, v in VOTE.items()})
    assert isinstance(made, Vote)
    assert {v.dtype for v in made.arrays().values()} == {np.dtype(np.float64)}


def test_pairs_are_counted_one_by_one():
    rng = np.random.default_rng(2)
    labels = rng.choice([BACKGROUND, LESION, OPEN], (5, 6)).astype(np.uint8)
    wanted = dict.fromkeys(("lesion", "background", "different"), 0)
    places = list(np.ndindex(labels.shape))
    for p, q in itertools.combinations(places, 2):
        if (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2 < 9:
            kinds = {int(labels[p]), int(labels[q])}
            if kinds == {LESION}:
                wanted["lesion"] += 1
            elif kinds == {BACKGROUND}:
                wanted["background"] += 1
            elif kinds == {LESION, BACKGROUND}:
                wanted["different"] += 1
    assert min(wanted.values()) > 0
    assert count_pairs(labels, 3) == wanted


def test_floors_by_hand():
    everything = floors.FLOORS["floor-everything"](np.zeros((4, 6, 3)))
    assert everything.dtype == bool
    assert everything.shape == (4, 6)
    assert everything.all()
    # Half axes of 2 pixels of 8: centres at 0.5 and 1.5 pixels from the middle.
    assert floors.FLOORS["floor-ellipse"](np.zeros((8, 8))).sum() == 12
    # The share at which the nearest centres, half a pixel off both axes, lie on the very edge.
    edge = np.pi * 2 * 0.25**2
    assert floors.centred_ellipse((2, 2), edge).all()


class Rules(BaseModel):
    """As in an experiment."""

    masks: MasksConfig


def test_rules_are_told_by_name_by_settings_and_as_they_are():
    given = ["otsu", {"rule": "fixed", "at": 0.3}, RULES["quantile"](q=0.7)]
    made = Rules(masks={"rules": given}).masks.rules
    assert made == [RULES["otsu"](), RULES["fixed"](at=0.3), RULES["quantile"](q=0.7)]
    with pytest.raises(ValidationError, match="each rule may stand once"):
        Rules(masks={"rules": ["otsu", "otsu"]})
    with pytest.raises(ValidationError, match=r"unknown rule 'otso'.*did you mean 'otsu'"):
        Rules(masks={"rules": ["otso"]})
    with pytest.raises(ValidationError, match="list"):
        Rules(masks={"rules": "otsu"})


def test_the_rule_as_configured_is_that_of_before_its_search():
    asked = {"rule": "fixed", "at": 0.5}
    assert configured_rule({"rule": asked}) == asked
    found = {"rule": asked | {"at": 0.2}, "search": {"configured": asked | {"search": {}}}}
    assert configured_rule(found) == asked | {"search": {}}


def test_the_heat_of_a_quantile_s_map_is_cut_by_its_own_share():
    for q in (0.25, 0.75):
        rule = RULES["quantile"](q=q)
        assert told(rule, [pair(4)]).threshold is None
        made = rule.mask(told(rule, [pair(4)]), HEAT, None, None)
        assert made.sum() == pytest.approx((1 - q) * 48, abs=1)
    assert global_thresholds.AreaPriorRule(area=0.25, masks_seen=3).masks_seen == 3


def test_the_mean_of_a_part_of_one_pixel_is_its_value():
    found = part_means(np.array([[0, 0, 1, 3]]), [[1.0, 2.0, 5.0, 7.0]])
    assert found.tolist() == [1.5, 5.0, 0.0, 7.0]


def test_the_share_of_an_area_is_of_the_body_alone():
    """A bright disc on black: a quarter of its pixels, and not of the image's."""
    y, x = np.mgrid[:40, :40]
    image = 100.0 * (np.hypot(y - 20, x - 20) < 14)
    heat = np.where(image > 0, 1 + x / 100, 5 + x / 100)
    body = body_region(image)
    assert 0.3 < body.mean() < 0.5
    rule = global_thresholds.AreaPriorRule(area=0.25)
    fitted = told(rule, [pair(4)])
    assert (fitted.threshold, fitted.scale) == (None, "raw")
    assert fitted.chosen_on == "an area known beforehand"
    made = rule.mask(fitted, heat, image, None)
    assert not made[~body].any()
    assert made.sum() == pytest.approx(0.25 * body.sum(), abs=28)
    assert made.any()
    assert heat[made].min() > heat[body & ~made].max()


def test_a_set_s_threshold_is_that_of_the_share_or_quantile_that_is_configured():
    assert told(RULES["fixed"](at=0.3), []).threshold == 0.3
    heats = [np.arange(100.0).reshape(10, 10), np.arange(100.0, 200.0).reshape(10, 10)]
    for q in (0.25, 0.75):
        fitted = told(RULES["train-quantile"](q=q), [(h, None) for h in heats])
        assert fitted.threshold == pytest.approx(200 * q, abs=1)
    with pytest.raises(LookupError, match="no training image has a lesion label"):
        told(RULES["train-quantile"](), [])


def test_validation_and_oracle_count_every_pair_that_they_saw():
    """A pair whose mask is empty was looked at, and has no part in the choice."""
    blank = pair(4)[0], np.zeros((3, 11), bool)
    for name in ("validation", "oracle-dataset", "oracle-image"):
        fitted = told(RULES[name](), [pair(4), blank, pair(4)])
        assert fitted.masks_seen == 3
        if name != "oracle-image":
            assert fitted.threshold == best_threshold([normalise(pair(4)[0])], [pair(4)[1]])[0]
    with pytest.raises(LookupError, match="the mask of the validation split"):
        told(RULES["validation"](), [blank])


def test_the_choice_says_which_pairs_it_saw():
    pairs = [pair(k) for k in range(1, 10)]
    assert told(RULES["validation"](), pairs).validation == tuple(range(9))
    some = told(RULES["validation"](max_masks=3), pairs, seed=2)
    assert list(some.validation) == sorted(np.random.default_rng(2).permutation(9)[:3])
    assert told(RULES["oracle-dataset"](), pairs).validation == ()


@pytest.mark.parametrize("heat", [HEAT.astype(np.uint8), HEAT.astype(int).tolist(), HEAT > 5])
def test_a_rule_is_given_heat_in_double_precision(monkeypatch, heat):
    rule, given = RULES["fixed"](), []
    monkeypatch.setattr(RULES["fixed"], "mask", lambda self, fitted, h, *_: given.append(h))
    segment(told(rule, []), heat)
    assert given[0].dtype == np.float64
    np.testing.assert_array_equal(given[0], heat)


def test_what_is_no_rule_is_no_rule_of_any_name():
    for wrong in (5, None, ["fixed"]):
        with pytest.raises(ValueError, match="unknown rule None"):
            rules_by_name([wrong])


def test_an_image_s_oracle_is_cut_at_its_own_best_threshold():
    rule, (heat, truth) = RULES["oracle-image"](), pair(6)
    made = rule.mask(told(rule, [pair(4)]), 7 * heat, None, truth)
    np.testing.assert_array_equal(made, truth)


def test_a_rule_is_read_with_all_that_it_was_written_with():
    entry = {
        "rule": {"rule": "fixed", "at": 0.3},
        "threshold": 0.3,
        "scale": "image",
        "chosen_on": "x",
        "masks_seen": 3,
    }
    searched = entry | {"search": {"candidates": [1]}}
    for held, search in ((entry, None), (searched, {"candidates": [1]})):
        wanted = FittedRule(RULES["fixed"](at=0.3), 0.3, "image", "x", 3, search)
        assert rule_from_json(held) == wanted
    assert configured_rule(searched) == entry["rule"]


def test_rules_that_are_not_by_default_are_asked_for_by_name():
    assert [r.rule for r in default_rules()] == [
        n
        for n in RULES
        if n not in ("crf", "box-prompt", "affinity", "hypercolumn", "random-forest")
        and n not in ("region-growing", "watershed", "chan-vese", "snake")
    ]
