"""Rules from the experiment file: what each chooses, on what, and how many masks it saw."""

import json

import numpy as np
import pytest

from weakseg.masks.rules import (
    RULES,
    Evidence,
    FittedRule,
    TrainedState,
    default_rules,
    rule_from_json,
    segment,
)
from weakseg.masks.rules.affinity import AffinityRule
from weakseg.masks.rules.global_thresholds import (
    AreaPriorRule,
    FixedRule,
    OtsuRule,
    QuantileRule,
    TrainQuantileRule,
)
from weakseg.masks.rules.masks_seen import OracleDatasetRule, OracleImageRule, ValidationRule
from weakseg.scores import dice


def blob(seed, scale=1.0):
    """A raw heatmap with a known hot square, and the square."""
    rng = np.random.default_rng(seed)
    heat = rng.random((24, 24)) * 0.2
    truth = np.zeros((24, 24), dtype=bool)
    y, x = rng.integers(2, 14, 2)
    truth[y : y + 6, x : x + 6] = True
    return (heat + 0.7 * truth) * scale, truth


PAIRS = [blob(s, scale=s + 1) for s in range(5)]
IMAGE = np.full((24, 24), 200, dtype=np.uint8)


def fit(rule, train=None, val=PAIRS, test=PAIRS):
    heats = [h for h, _ in PAIRS] if train is None else train
    return rule.fit(Evidence(train=lambda: heats, val=lambda: val, test=lambda: test))


@pytest.mark.parametrize("rule", default_rules(), ids=lambda r: r.rule)
def test_every_rule_finds_the_hot_square_at_any_scale(rule):
    if rule.rule in ("quantile", "area-prior"):
        rule = rule.model_copy(update={"q": 1 - 36 / 576} if rule.rule == "quantile" else {})
        rule = rule.model_copy(update={"area": 36 / 576} if rule.rule == "area-prior" else {})
    fitted = fit(rule)
    for heat, truth in PAIRS:
        if rule.rule == "train-quantile":
            # One raw threshold for maps of different scale: the coolest map may be lost.
            assert segment(fitted, heat, IMAGE).sum() <= segment(fitted, heat * 2, IMAGE).sum()
            continue
        truth_given = truth if rule.rule == "oracle-image" else None
        assert dice(segment(fitted, heat, IMAGE, truth_given), truth) > 0.9
        assert dice(segment(fitted, heat * 1000, IMAGE, truth_given), truth) > 0.9


@pytest.mark.parametrize("rule", default_rules(), ids=lambda r: r.rule)
def test_a_flat_heatmap_gives_an_empty_mask(rule):
    truth = PAIRS[0][1]
    fitted = fit(rule)
    for flat in (np.zeros((24, 24)), np.full((24, 24), -1.0), np.full((24, 24), 9.0)):
        assert not segment(fitted, flat, IMAGE, truth).any()


@pytest.mark.parametrize(
    ("rule", "masks", "oracle"),
    [
        (FixedRule(), 0, False),
        (OtsuRule(), 0, False),
        (QuantileRule(), 0, False),
        (AreaPriorRule(masks_seen=12), 12, False),
        (TrainQuantileRule(), 0, False),
        (ValidationRule(), 5, False),
        (ValidationRule(max_masks=2), 2, False),
        (OracleDatasetRule(), 3, True),
        (OracleImageRule(), 3, True),
    ],
    ids=lambda v: getattr(v, "rule", str(v)),
)
def test_the_number_of_masks_seen_is_recorded(rule, masks, oracle):
    fitted = fit(rule, test=PAIRS[:3])
    assert fitted.masks_seen == masks
    assert fitted.oracle is oracle
    assert ("upper bound" in fitted.chosen_on) is oracle


def test_masks_that_mark_nothing_choose_no_threshold():
    """A rule that cannot be fitted is left out; an error of another kind would end the run."""
    empty = [(h, np.zeros_like(t)) for h, t in PAIRS]
    with pytest.raises(LookupError, match="all 5 masks of the validation split that it"):
        fit(ValidationRule(), val=empty)
    with pytest.raises(LookupError, match="the mask of the validation split"):
        fit(ValidationRule(max_masks=1), val=empty)
    with pytest.raises(LookupError, match="all 5 masks of the test split"):
        fit(OracleDatasetRule(), test=empty)
    with pytest.raises(ValueError, match="NaN"):
        fit(ValidationRule(), val=[(h * np.nan, t) for h, t in PAIRS])


def test_a_rule_looks_only_at_what_it_says():
    def forbidden():
        raise AssertionError("looked")

    for rule in (FixedRule(), OtsuRule(), QuantileRule(), AreaPriorRule()):
        rule.fit(Evidence(train=forbidden, val=forbidden, test=forbidden))
    looked = []

    def at(split, values):
        return lambda: looked.append(split) or values

    heats = [h for h, _ in PAIRS]
    TrainQuantileRule().fit(Evidence(train=at("train", heats), val=forbidden, test=forbidden))
    ValidationRule().fit(Evidence(train=forbidden, val=at("val", PAIRS), test=forbidden))
    assert set(looked) == {"train", "val"}


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (ValidationRule(), "validation split has a mask"),
        (OracleDatasetRule(), "test split has a mask"),
        (OracleImageRule(), "test split has a mask"),
        (TrainQuantileRule(), "no training image"),
    ],
    ids=lambda v: getattr(v, "rule", ""),
)
def test_a_rule_that_lacks_its_input_says_what(rule, reason):
    with pytest.raises(LookupError, match=reason):
        fit(rule, train=[], val=[], test=[])


@pytest.mark.parametrize("rule", default_rules(), ids=lambda r: r.rule)
def test_fitted_rules_go_through_json(rule):
    fitted = fit(rule)
    assert rule_from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


def test_oracle_of_an_image_is_never_below_another_rule():
    oracle = fit(OracleImageRule())
    others = [fit(r) for r in default_rules() if r.rule != "oracle-image"]
    assert len(others) == sum(r.by_default for r in RULES.values()) - 1
    for heat, truth in PAIRS:
        best = dice(segment(oracle, heat, IMAGE, truth), truth)
        for f in others:
            if f.name != "area-prior":  # it also cuts away what lies outside of the body
                assert best >= dice(segment(f, heat, IMAGE), truth) - 1e-12


def test_what_a_rule_needs_is_asked_for():
    with pytest.raises(ValueError, match="area-prior needs the image"):
        segment(fit(AreaPriorRule()), PAIRS[0][0])
    with pytest.raises(ValueError, match="needs the true mask"):
        segment(fit(OracleImageRule()), PAIRS[0][0])


def test_a_trainable_rule_is_given_its_trainer_and_nothing_with_masks():
    def forbidden():
        raise AssertionError("looked")

    def flat_features(image):
        return np.zeros((12, 12, 1), np.float32)

    trained = TrainedState({"w": np.ones(3)}, flat_features)
    sources = {"train": forbidden, "val": forbidden, "test": forbidden}
    fitted = AffinityRule(steps=0).fit(Evidence(**sources, trainer=lambda rule: trained))
    assert (fitted.trained, fitted.masks_seen, fitted.oracle) == (trained, 0, False)
    assert fitted.needs_image
    heat, truth = PAIRS[0]
    assert dice(segment(fitted, heat, IMAGE), truth) > 0.7
    with pytest.raises(ValueError, match="affinity needs the image"):
        segment(fitted, heat)
    bare = rule_from_json(json.loads(json.dumps(fitted.to_json())))
    assert bare == fitted
    with pytest.raises(ValueError, match="not trained yet"):
        segment(bare, heat, IMAGE)
    with pytest.raises(LookupError, match="no training images"):
        AffinityRule().fit(Evidence(**sources))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_refused_where_it_is_looked_at(bad):
    heat, image = PAIRS[0][0], IMAGE.astype(float)
    broken = heat.copy(), image.copy()
    broken[0][3, 3] = broken[1][4, 4] = bad
    fixed, area = fit(FixedRule()), fit(AreaPriorRule())
    for fitted in (fixed, area):
        with pytest.raises(ValueError, match="heatmap must hold numbers, got NaN or infinity 1 t"):
            segment(fitted, broken[0], image)
    with pytest.raises(ValueError, match="image must hold numbers, got NaN or infinity 1 times"):
        segment(area, heat, broken[1])
    np.testing.assert_array_equal(segment(fixed, heat, broken[1]), segment(fixed, heat, image))


def test_a_threshold_applies_to_the_scale_that_it_was_chosen_on():
    heat = np.array([[1.0, 3.0, 4.0, 8.0]])
    for scale, mask in (("image", [0, 0, 0, 1]), ("raw", [1, 1, 1, 1])):
        fitted = FittedRule(FixedRule(), 0.5, scale, "", 0)
        assert segment(fitted, heat).astype(int).tolist() == [mask]
    # In double precision, where a tenth in single is above a tenth.
    fitted = FittedRule(FixedRule(), 0.1, "raw", "", 0)
    assert segment(fitted, np.float32([[0.1, 0.2, 0.0]])).tolist() == [[True, True, False]]
    made = segment(fit(FixedRule()), np.zeros((2, 3)))
    assert (made.dtype, made.shape) == (bool, (2, 3))


def test_all_that_threshold_json_says_of_a_rule():
    assert FittedRule(OracleDatasetRule(), 0.25, "image", "the test", 3).to_json() == {
        "rule": {"rule": "oracle-dataset"},
        "threshold": 0.25,
        "scale": "image",
        "chosen_on": "the test",
        "masks_seen": 3,
        "upper_bound": True,
    }
    searched = FittedRule(OtsuRule(), None, "raw", "x", 0, search={"candidates": []})
    told = searched.to_json()
    assert (told["search"], told["upper_bound"]) == ({"candidates": []}, False)
    assert rule_from_json(told) == searched


def test_a_rule_without_a_choice_to_make_looks_at_each_heatmap_by_itself():
    fitted = fit(OtsuRule())
    assert (fitted.rule, fitted.name, fitted.needs_image) == (OtsuRule(), "otsu", False)
    assert (fitted.threshold, fitted.scale, fitted.masks_seen) == (None, "raw", 0)
    assert fitted.chosen_on == "each heatmap by itself"
