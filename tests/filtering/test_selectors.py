"""What a filter marks: areas, complements, and that no label gets in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakseg.config import FilteredConfig, parse_condition
from weakseg.filtering.selectors import (
    Selector,
    bounding_box,
    centre_distance,
    gaussian_selection,
    grown,
    partners,
    signed_distance,
    soft_selection,
)

SIDE = 24
EVERY = FilteredConfig(
    filters=["soft", "hard", "truth"],
    fills=["zero", "mean", "linear"],
    controls=["random", "gaussian", "shuffled", "equal-truth", "box"],
    control_sides=["keep", "remove"],
    curve={"percent": [10, 50], "rankings": ["heat", "random", "gaussian", "shuffled", "truth"]},
)


def _valid() -> np.ndarray:
    valid = np.zeros((SIDE, SIDE), dtype=bool)
    valid[3:20] = True
    return valid


def _selector(cases: int = 4, seed: int = 0) -> Selector:
    rng = np.random.default_rng(7)
    heats = rng.normal(size=(cases, SIDE, SIDE)).astype(np.float32)
    heats[1] = -1.0  # flat: nothing speaks for a lesion
    truths = np.zeros((cases, SIDE, SIDE), dtype=bool)
    for i in range(cases):
        truths[i, 5 + i : 10 + i, 6:12] = True
    return Selector(
        valid=lambda i: _valid(),
        heat=lambda i: heats[i],
        hard=lambda i: heats[i] > 1.0,
        truth=lambda i: truths[i],
        partner=partners(["train"] * cases, seed),
        margin=1,
        seed=seed,
    )


@pytest.mark.parametrize("condition", EVERY.conditions()[1:], ids=lambda c: c.name)
@pytest.mark.parametrize("case", [0, 1])
def test_marks_are_shares_of_the_image_and_leave_the_padding_alone(condition, case):
    mark = _selector().selection(case, condition)
    assert mark.shape == (SIDE, SIDE)
    assert mark.dtype == np.float32
    assert 0 <= mark.min() <= mark.max() <= 1
    assert not mark[~_valid()].any()


@pytest.mark.parametrize("source", ["random", "gaussian", "shuffled", "truth"])
def test_hard_controls_have_the_area_of_the_heatmaps_own_mask(source):
    selector = _selector()
    for case in range(4):
        own = selector.selection(case, parse_condition("heat-hard-keep-mean")).sum()
        assert selector.selection(case, parse_condition(f"{source}-hard-keep-mean")).sum() == own


@pytest.mark.parametrize("source", ["random", "gaussian"])
def test_soft_controls_have_the_mean_of_the_heatmap(source):
    selector = _selector()
    own = selector.selection(0, parse_condition("heat-soft-keep-zero"))[_valid()].mean()
    other = selector.selection(0, parse_condition(f"{source}-soft-keep-zero"))[_valid()].mean()
    assert other == pytest.approx(own, abs=1e-4)


@pytest.mark.parametrize("source", ["heat", "random", "gaussian", "shuffled", "truth"])
def test_a_share_marks_so_many_pixels_even_of_a_flat_heatmap(source):
    for case in (0, 1):
        mark = _selector().selection(case, parse_condition(f"{source}-top30-remove-mean"))
        assert mark.sum() == round(0.3 * _valid().sum())


def test_random_pixels_are_the_same_for_keeping_and_for_removing_and_others_for_each_case():
    selector = _selector()
    kept = selector.selection(0, parse_condition("random-top30-keep-mean"))
    removed = selector.selection(0, parse_condition("random-top30-remove-mean"))
    np.testing.assert_array_equal(kept, removed)
    assert (kept != selector.selection(2, parse_condition("random-top30-keep-mean"))).any()
    other_seed = _selector(seed=1).selection(0, parse_condition("random-top30-keep-mean"))
    assert (kept != other_seed).any()


def test_a_larger_share_of_the_heatmap_holds_the_smaller_one():
    selector = _selector()
    small = selector.selection(0, parse_condition("heat-top10-keep-mean")) > 0
    large = selector.selection(0, parse_condition("heat-top50-keep-mean")) > 0
    assert (large | ~small).all()


def test_the_hottest_pixel_is_marked_first():
    selector = _selector()
    heat = np.where(_valid(), selector.heat(0), -np.inf)
    assert selector.selection(0, parse_condition("heat-top1-keep-mean"))[
        np.unravel_index(heat.argmax(), heat.shape)
    ]


def test_the_raw_image_has_no_mark():
    with pytest.raises(ValueError, match="raw"):
        _selector().selection(0, parse_condition("raw"))


def test_truth_is_grown_and_boxed():
    selector = _selector()
    truth = selector.selection(0, parse_condition("truth-keep-mean")) > 0
    assert truth.sum() == 5 * 6 + 2 * (5 + 6)  # a margin of one pixel, without the corners
    box = selector.selection(0, parse_condition("box-keep-mean")) > 0
    assert box.sum() == 7 * 8


def test_soft_marks_peak_at_one_and_flat_heatmaps_mark_nothing():
    heat = np.array([[-1.0, 2.0], [4.0, np.nan]], dtype=np.float32)
    valid = np.ones((2, 2), dtype=bool)
    np.testing.assert_allclose(soft_selection(heat, valid), [[0, 0.5], [1, 0]])
    assert not soft_selection(-np.abs(np.nan_to_num(heat)), valid).any()


@given(st.floats(0.001, 0.999))
def test_a_gaussian_has_the_mean_that_was_asked_for(mean):
    valid = _valid()
    mark = gaussian_selection(valid, mean)
    assert mark[valid].mean() == pytest.approx(mean, abs=2e-3)
    peak = np.unravel_index(mark.argmax(), mark.shape)
    assert centre_distance(valid)[peak] == centre_distance(valid)[valid].min()


def test_the_centres_ellipse_touches_the_sides():
    valid = np.ones((20, 40), dtype=bool)
    d = centre_distance(valid)
    assert d[0, 20] == pytest.approx(0.95**2, abs=0.01)
    assert d[10, 0] == pytest.approx(0.975**2, abs=0.01)


def test_distances_have_a_sign():
    mask = np.zeros((9, 9), dtype=bool)
    mask[3:6, 3:6] = True
    d = signed_distance(mask)
    assert d[4, 4] == 2
    assert d[4, 0] == -3
    assert grown(mask, 0).sum() == 9
    assert grown(mask, 1).sum() == 9 + 12
    assert not grown(np.zeros((3, 3), dtype=bool), 2).any()
    assert not bounding_box(np.zeros((3, 3), dtype=bool)).any()


def test_a_mask_of_the_whole_square_is_deepest_in_its_middle():
    np.testing.assert_array_equal(
        signed_distance(np.ones((3, 5), dtype=bool)),
        [[1, 1, 1, 1, 1], [1, 2, 2, 2, 1], [1, 1, 1, 1, 1]],
    )


def test_partners_are_others_of_the_same_split():
    splits = ["train"] * 5 + ["test"] * 3 + ["val"]
    found = partners(splits, 0)
    assert sorted(found) == list(range(9))
    assert all(splits[i] == splits[j] for i, j in enumerate(found))
    assert all(i != j for i, j in enumerate(found[:8]))
    assert found[8] == 8
    assert (partners(splits, 1) != found).any()
