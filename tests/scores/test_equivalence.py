"""Masks that a heatmap is worth: crossings by hand, intervals against a naive loop."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.isotonic import IsotonicRegression

from tests.work import calls_at_most
from weakseg.scores import (
    Interval,
    curve_at,
    draw_curves,
    mask_curve,
    mask_equivalence,
    weak_to_full_ratio,
)
from weakseg.scores.equivalence import _crossing, _height, _outer_ends
from weakseg.scores.learning_curve import CURVE_CASE_COLUMNS, CURVE_COLUMNS, monotone
from weakseg.scores.statistics import other_seed, resampled_counts

PATIENTS = 6


def curve_table(dice, ks=None, masks=None, patients=PATIENTS, images=1, noise=None):
    """A table of the experiment.

    ``dice`` is (D, K) or (K,), the mean Dice; ``masks`` likewise; ``noise`` (patients,) is added
    to every image of a patient, so that with a mean of 0 the means are those of ``dice``.
    """
    dice = np.atleast_2d(dice)
    ks = list(ks or (2**i for i in range(dice.shape[1])))
    masks = np.broadcast_to(masks if masks is not None else 4 * np.array(ks), dice.shape)
    noise = np.zeros(patients) if noise is None else noise
    rows = [
        (f"c{p}-{i}", f"p{p}", d, ks[j], masks[d, j], dice[d, j] + noise[p], True, False)
        for d, j, p, i in itertools.product(*map(range, (*dice.shape, patients, images)))
    ]
    return pd.DataFrame(rows, columns=list(CURVE_CASE_COLUMNS))


def method_table(dice, method="cam", patients=PATIENTS, images=1, noise=None):
    noise = np.zeros(patients) if noise is None else noise
    rows = [
        (f"c{p}-{i}", f"p{p}", method, 0, dice + noise[p], True)
        for p in range(patients)
        for i in range(images)
    ]
    return pd.DataFrame(rows, columns=["case", "patient", "method", "seed", "dice", "has_lesion"])


def worth(dice, curve, **options):
    return mask_equivalence(method_table(dice), "cam", curve, bootstrap=50, **options)


RISING = curve_table([0.2, 0.4, 0.6], ks=[1, 4, 16], masks=[4, 16, 64])


@pytest.mark.parametrize(
    ("dice", "masks", "patients"),
    [(0.5, 32, 8), (0.3, 8, 2), (0.2, 4, 1), (0.4, 16, 4), (0.6, 64, 16), (0.45, 2**4.5, 2**2.5)],
)
def test_crossings_by_hand(dice, masks, patients):
    found = worth(dice, RISING)
    assert found.masks == pytest.approx(masks)
    assert found.patients == pytest.approx(patients)
    assert found.method == "cam"
    assert not any((found.below, found.above))
    # Nothing varies, so that the interval has no width.
    assert (found.masks_low, found.masks_high) == pytest.approx((masks, masks))
    assert (found.fewest, found.most) == (4, 64)
    assert (found.fewest_patients, found.most_patients) == (1, 16)
    assert (found.draws, found.lesion_images, found.test_patients) == (1, 6, 6)
    assert (found.dice, found.dice_low, found.dice_high) == pytest.approx((dice,) * 3)


def test_outside_of_what_was_tried():
    below, above = worth(0.1, RISING), worth(0.7, RISING)
    assert below.below
    assert below.low_below
    assert below.high_below
    assert not any((below.above, below.low_above, below.high_above))
    assert np.isnan([below.masks, below.masks_low, below.masks_high, below.patients]).all()
    assert above.above
    assert above.low_above
    assert above.high_above
    assert not any((above.below, above.low_below, above.high_below))
    assert np.isnan([above.masks, above.masks_low, above.masks_high, above.patients]).all()


def test_rounding_is_no_difference():
    # Means of the same numbers in another order differ in the last bits.
    least, most = worth(0.2 - 1e-10, RISING), worth(0.6 + 1e-10, RISING)
    assert (least.masks, most.masks) == pytest.approx((4, 64))
    assert not any((least.below, most.above, least.low_below, most.high_above))


def test_a_falling_part_is_pooled():
    # 0.5 and 0.3 become 0.4 and 0.4: 0.4 is reached at the first of them.
    curve = curve_table([0.2, 0.5, 0.3, 0.8], ks=[1, 4, 16, 64], masks=[4, 16, 64, 256])
    assert worth(0.4, curve).masks == pytest.approx(16)
    assert worth(0.3, curve).masks == pytest.approx(8)
    assert worth(0.6, curve).masks == pytest.approx(128)
    assert mask_curve(curve, bootstrap=20)["dice_monotone"].tolist() == pytest.approx(
        [0.2, 0.4, 0.4, 0.8]
    )


def test_one_number_of_patients():
    curve = curve_table([0.5], ks=[3], masks=[20])
    assert worth(0.5, curve).masks == pytest.approx(20)
    assert worth(0.5, curve).patients == pytest.approx(3)
    assert worth(0.4, curve).below
    assert worth(0.6, curve).above


def test_open_end_by_hand():
    # Half the patients are easy for the method alone. The curve knows no noise, so the crossing
    # moves with the share of easy patients that is drawn.
    noise = np.repeat([-0.3, 0.3], 4)
    own = method_table(0.5, patients=8, noise=noise)
    found = mask_equivalence(own, "cam", curve_table([0.2, 0.4, 0.6], patients=8), bootstrap=500)
    assert not found.below
    assert not found.above
    assert np.isfinite(found.masks_low)
    assert found.high_above
    assert np.isnan(found.masks_high)
    low = mask_equivalence(
        method_table(0.25, patients=8, noise=noise), "cam",
        curve_table([0.2, 0.4, 0.6], patients=8), bootstrap=500,
    )  # fmt: skip
    assert low.low_below
    assert np.isfinite(low.masks_high)


def test_a_method_equal_to_the_curve_is_worth_its_masks_without_doubt():
    # Patients differ by far more than the points of the curve do; pairing takes that out.
    noise = np.linspace(-0.2, 0.2, PATIENTS)
    curve = curve_table([0.3, 0.4, 0.45, 0.7], noise=noise, images=2)
    own = curve[curve["k"] == 4].assign(method="cam", seed=0)
    found = mask_equivalence(own, "cam", curve, bootstrap=300)
    assert (found.masks, found.masks_low, found.masks_high) == pytest.approx((16, 16, 16))
    assert (found.patients, found.patients_low, found.patients_high) == pytest.approx((4, 4, 4))
    assert found.dice_high - found.dice_low > 0.1


def test_masks_are_averaged_over_draws():
    curve = curve_table([[0.2, 0.4], [0.4, 0.6]], masks=[[2, 20], [6, 44]])
    # Means: 0.3 with 4 masks, 0.5 with 32.
    assert worth(0.4, curve).masks == pytest.approx(2**3.5)
    assert worth(0.4, curve).masks_low < 2**3.5 < 20
    found = mask_curve(curve, bootstrap=50)
    assert found["masks"].tolist() == [4, 32]
    assert found["masks_low"].tolist() == [2, 20]
    assert found["masks_high"].tolist() == [6, 44]
    assert found["draw_sd"].tolist() == pytest.approx([0.1 * 2**0.5] * 2)
    drawn = draw_curves(curve)
    assert list(drawn.columns) == ["draw", "k", "masks", "dice"]
    assert drawn["dice"].tolist() == pytest.approx([0.2, 0.4, 0.4, 0.6])
    assert drawn["k"].tolist() == [*drawn["k"].unique()] * 2
    assert drawn["draw"].tolist() == [d for d in drawn["draw"].unique() for _ in range(2)]
    assert draw_curves(curve)["masks"].tolist() == [2, 20, 6, 44]


def random_experiment(seed, patients=7, draws=3, points=4):
    """An unbalanced experiment: patients have one to four images; curves may fall."""
    rng = np.random.default_rng(seed)
    cases = [(f"c{p}-{i}", f"p{p}") for p in range(patients) for i in range(rng.integers(1, 5))]
    curve, own = [], []
    for d in range(draws):
        masks = np.cumsum(rng.integers(1, 9, points))
        for j, (case, patient) in itertools.product(range(points), cases):
            dice = 0.3 + 0.1 * j + rng.normal(0, 0.2)
            curve.append((case, patient, d, 2**j, masks[j], dice, True, False))
    for case, patient in cases:
        own += [(case, patient, "cam", s, 0.45 + rng.normal(0, 0.2), True) for s in range(2)]
    columns = ["case", "patient", "method", "seed", "dice", "has_lesion"]
    return (
        pd.DataFrame(own, columns=columns).sample(frac=1, random_state=seed),
        pd.DataFrame(curve, columns=list(CURVE_CASE_COLUMNS)).sample(frac=1, random_state=seed),
    )


def naive_crossing(masks, ks, dice, mean):
    fit = IsotonicRegression().fit_transform(np.arange(len(dice)), dice)
    if mean < fit[0] - 1e-9:
        return -np.inf, -np.inf
    for j, height in enumerate(fit):
        if height >= mean - 1e-9:
            if j == 0:
                return masks[0], ks[0]
            way = min((mean - fit[j - 1]) / (height - fit[j - 1]), 1)
            return tuple(2 ** (np.log2(v[j - 1]) * (1 - way) + np.log2(v[j]) * way)
                         for v in (masks, ks))  # fmt: skip
    return np.inf, np.inf


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_a_naive_loop(seed):
    per_case, curve_cases = random_experiment(seed)
    found = mask_equivalence(per_case, "cam", curve_cases, bootstrap=80, seed=seed)
    at = curve_at(per_case, "cam", curve_cases, 9, bootstrap=80, seed=seed)
    curve = mask_curve(curve_cases, bootstrap=80, seed=seed)

    own = per_case.groupby("case")["dice"].mean()
    patient = per_case.groupby("case")["patient"].first()
    names, ks = sorted(patient.unique()), sorted(curve_cases["k"].unique())
    draws = sorted(curve_cases["draw"].unique())
    cell = {key: rows.set_index("case")["dice"] for key, rows in curve_cases.groupby(["draw", "k"])}
    masks = curve_cases.groupby(["draw", "k"])["masks"].first()
    by_patient = np.concatenate(list(resampled_counts(len(names), 80, seed)))
    by_draw = np.concatenate(list(resampled_counts(len(draws), 80, other_seed(seed))))
    worths, of_patients, dice, leads = [], [], [], []
    for patient_counts, draw_counts in zip(by_patient, by_draw, strict=True):
        cases = [
            c
            for name, n in zip(names, patient_counts, strict=True)
            for c in list(patient.index[patient == name]) * int(n)
        ]
        drawn = [d for d, n in zip(draws, draw_counts, strict=True) for _ in range(int(n))]
        y = [np.mean([cell[d, k][cases].mean() for d in drawn]) for k in ks]
        x = [np.mean([masks[d, k] for d in drawn]) for k in ks]
        many, people = naive_crossing(x, ks, y, own[cases].mean())
        worths.append(many)
        of_patients.append(people)
        dice.append(y)
        fit = IsotonicRegression().fit_transform(np.arange(len(y)), y)
        leads.append(own[cases].mean() - np.interp(np.log2(9), np.log2(x), fit))
    for ends, values in (("masks", worths), ("patients", of_patients)):
        low, high = _outer_ends(np.array(values), len(names))
        for end, value in (("low", low), ("high", high)):
            assert getattr(found, f"{end}_below") == (value == -np.inf)
            assert getattr(found, f"{end}_above") == (value == np.inf)
            if np.isfinite(value):
                assert getattr(found, f"{ends}_{end}") == pytest.approx(value)
    np.testing.assert_allclose(curve["dice_low"], np.quantile(dice, 0.025, axis=0))
    np.testing.assert_allclose(curve["dice_high"], np.quantile(dice, 0.975, axis=0))
    assert (at.difference_low, at.difference_high) == pytest.approx(
        tuple(np.quantile(leads, [0.025, 0.975]))
    )


@given(hnp.arrays(float, hnp.array_shapes(max_dims=2, max_side=7), elements=st.floats(-1, 1)))
@settings(max_examples=80, deadline=None)
def test_monotone_is_isotonic_regression(values):
    found = monotone(values)
    rows = values.reshape(-1, values.shape[-1])
    expected = [IsotonicRegression().fit_transform(np.arange(len(r)), r) for r in rows]
    np.testing.assert_allclose(found.reshape(rows.shape), expected, atol=1e-9)
    assert (np.diff(found, axis=-1) >= 0).all()


def test_ends_may_be_infinite():
    values = np.r_[np.full(3, -np.inf), np.arange(94.0), np.full(3, np.inf)]
    assert _outer_ends(values, 5) == (-np.inf, np.inf)
    values = np.r_[np.full(2, -np.inf), np.arange(96.0), np.full(2, np.inf)]
    assert _outer_ends(values, 5) == (0, 95)
    assert np.isnan(_outer_ends(values, 1)).all()
    assert _outer_ends(values, 2) == (0, 95)  # two patients are an interval already


def test_the_height_of_a_curve_is_interpolated_up_to_its_last_point():
    x, y = np.array([[1.0, 2.0, 4.0]]), np.array([[0.1, 0.3, 0.7]])
    for at, height in ((0, 0.1), (1, 0.1), (1.5, 0.2), (2, 0.3), (3, 0.5), (4, 0.7), (9, 0.7)):
        assert _height(x, y, at) == pytest.approx([height])


def test_intervals_cover_the_truth():
    # The curve is 0.2 + 0.1 log2(masks) in the mean over patients and draws; a method of mean 0.55
    # is worth 2 ** 3.5 masks.
    truth, patients, draws, ks = 2**3.5, 25, 8, 2 ** np.arange(6)
    rng = np.random.default_rng(11)
    covered = curve_covered = 0
    trials = 120
    for trial in range(trials):
        hard = rng.normal(0, 0.15, patients)
        luck = rng.normal(0, 0.05, (draws, len(ks)))
        dice = 0.2 + 0.1 * np.log2(ks) + luck
        curve = curve_table(dice, list(ks), ks, patients=patients, images=2, noise=hard)
        curve["dice"] += rng.normal(0, 0.1, len(curve))
        own = method_table(0.55, patients=patients, images=2, noise=hard)
        own["dice"] += rng.normal(0, 0.15, len(own))
        found = mask_equivalence(own, "cam", curve, bootstrap=200, seed=trial)
        low = -np.inf if found.low_below else found.masks_low
        high = np.inf if found.high_above else found.masks_high
        covered += low <= truth <= high
        assert found.masks_high / found.masks_low < 8  # and it says something
        point = mask_curve(curve, bootstrap=200, seed=trial).iloc[3]
        curve_covered += point["dice_low"] <= 0.5 <= point["dice_high"]
    assert 0.88 <= covered / trials <= 0.995
    assert 0.88 <= curve_covered / trials <= 0.995


def test_it_does_not_loop_over_its_resamples_of_patients():
    rng = np.random.default_rng(0)
    curve = curve_table(rng.random((5, 10)), patients=300, images=3)
    own = method_table(0.5, patients=300, images=3)
    with calls_at_most(60_000):
        mask_equivalence(own, "cam", curve)


def test_only_shared_images_count_and_gaps_are_left_out():
    curve = curve_table([0.2, 0.4, 0.6])
    own = method_table(0.4)
    curve.loc[curve["case"] == "c1-0", "dice"] = [0.8, 0.9, 1.0]
    curve.loc[(curve["case"] == "c0-0") & (curve["k"] == 2), "dice"] = np.nan
    own.loc[own["case"] == "c1-0", "dice"] = np.nan
    own.loc[own["case"] == "c0-0", "dice"] = 1.0  # would move the mean
    found = mask_equivalence(own, "cam", curve, bootstrap=20)
    assert found.lesion_images == 4
    assert found.masks == pytest.approx(8)
    table = mask_curve(curve, bootstrap=20)
    assert tuple(table.columns) == CURVE_COLUMNS
    assert (table["lesion_images"] == 5).all()
    np.testing.assert_allclose(table["dice"], [0.32, 0.5, 0.68])


def test_healthy_images_give_the_false_positive_rate_alone():
    curve = curve_table([[0.2, 0.4], [0.4, 0.6]])
    healthy = curve.assign(case="h" + curve["case"], has_lesion=False, dice=1.0)
    healthy["false_alarm"] = (healthy["k"] == 1) & (healthy["draw"] == 0)
    found = mask_curve(pd.concat([curve, healthy]), bootstrap=20)
    assert found["false_positive_rate"].tolist() == [0.5, 0]
    assert found["dice"].tolist() == pytest.approx([0.3, 0.5])
    assert mask_curve(curve, bootstrap=20)["false_positive_rate"].isna().all()


def test_one_patient_has_no_interval():
    own, curve = method_table(0.5, patients=1), curve_table([0.2, 0.4, 0.6], patients=1)
    found = mask_equivalence(own, "cam", curve, bootstrap=20)
    assert np.isfinite(found.masks)
    assert np.isnan([found.masks_low, found.masks_high, found.dice_low]).all()
    assert not any(v for k, v in found._asdict().items() if k.startswith(("low_", "high_")))
    assert mask_curve(curve, bootstrap=20)["dice_low"].isna().all()
    assert np.isnan(curve_at(own, "cam", curve, 4, bootstrap=20).difference_low)


def test_seeds_and_order_of_rows():
    per_case, curve = random_experiment(9)
    first = mask_equivalence(per_case, "cam", curve, bootstrap=60)
    again = mask_equivalence(
        per_case.sort_values("case"), "cam", curve.sort_values("case"), bootstrap=60
    )
    np.testing.assert_allclose(again[1:], first[1:])
    other = mask_equivalence(per_case, "cam", curve, bootstrap=60, seed=1)
    assert other.masks == first.masks
    assert other.dice_low != first.dice_low


def test_as_many_draws_as_patients_are_not_drawn_alike():
    patients = np.concatenate(list(resampled_counts(5, 40, 0)))
    draws = np.concatenate(list(resampled_counts(5, 40, other_seed(0))))
    assert abs(np.corrcoef(patients.ravel(), draws.ravel())[0, 1]) < 0.3


@pytest.mark.parametrize(
    ("masks", "dice", "below", "above"),
    [(8, 0.3, False, False), (4, 0.2, False, False), (64, 0.6, False, False),
     (2, 0.2, True, False), (100, 0.6, False, True), (1, 0.2, True, False),
     (4 - 1e-10, 0.2, False, False), (64 + 1e-10, 0.6, False, False)],
)  # fmt: skip
def test_curve_at_some_number_of_masks(masks, dice, below, above):
    found = curve_at(method_table(0.5), "cam", RISING, masks, bootstrap=20)
    assert found.dice == pytest.approx(dice)
    assert found.difference == pytest.approx(0.5 - dice)
    assert (found.below, found.above) == (below, above)
    assert (found.dice_low, found.difference_high) == pytest.approx((dice, 0.5 - dice))
    assert (found.dice_high, found.difference_low) == pytest.approx((dice, 0.5 - dice))
    assert found.masks == masks


def test_curve_at_points_of_equal_masks():
    curve = curve_table([0.2, 0.3, 0.6], masks=[4, 4, 16])
    assert curve_at(method_table(0.5), "cam", curve, 4, bootstrap=20).dice == pytest.approx(0.3)
    with pytest.raises(ValueError, match="masks must be at least 1, got 0"):
        curve_at(method_table(0.5), "cam", curve, 0)


def test_ratio_by_hand():
    rows = pd.concat(
        [
            method_table(0.3, noise=np.linspace(-0.1, 0.1, PATIENTS)),
            method_table(0.6, "unet", noise=np.linspace(-0.2, 0.2, PATIENTS)),
            method_table(0.0, "nothing"),
        ]
    )
    # The method is half the reference on every case: the ratio does not move with the patients.
    found = weak_to_full_ratio(rows, "cam", "unet", bootstrap=100)
    assert found == Interval(*(pytest.approx(0.5) for _ in range(3)), PATIENTS, PATIENTS)
    none = weak_to_full_ratio(rows, "cam", "nothing", bootstrap=20)
    assert np.isnan(none[:3]).all()
    assert none[3:] == (PATIENTS, PATIENTS)
    rows = rows[(rows["method"] != "unet") | (rows["case"] < "c2")]
    assert weak_to_full_ratio(rows, "cam", "unet", bootstrap=20).cases == 2
    apart = pd.concat([method_table(0.3), method_table(0.6, "unet").assign(case="x")])
    nothing = weak_to_full_ratio(apart, "cam", "unet")
    assert np.isnan(np.array(nothing[:3], dtype=float)).all()
    assert all(isinstance(v, float) for v in nothing[:3])
    assert nothing[3:] == (0, 0)
    one = rows[rows["case"] == rows["case"].iloc[0]]
    assert weak_to_full_ratio(one, "cam", "unet").value == pytest.approx(0.5)


def test_ratio_covers_a_naive_loop():
    rng = np.random.default_rng(2)
    rows = pd.concat([method_table(0.3, images=3), method_table(0.6, "unet", images=3)])
    rows["dice"] += rng.normal(0, 0.1, len(rows))
    found = weak_to_full_ratio(rows, "cam", "unet", bootstrap=50, seed=3)
    sums = rows.groupby(["method", "patient"])["dice"].sum()
    ratios = [
        (w @ sums["cam"].to_numpy()) / (w @ sums["unet"].to_numpy())
        for w in np.concatenate(list(resampled_counts(PATIENTS, 50, 3)))
    ]
    assert found[1:3] == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])))


def without(table, rows):
    return table[~rows]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="masks"), r"must have the columns \['masks'\]"),
        (lambda t: t.assign(has_lesion=False), "must hold a scored image with a lesion, got none"),
        (lambda t: t.assign(dice=np.nan), "must hold a scored image with a lesion, got none"),
        (lambda t: pd.concat([t, t[:1]]), "once for each draw and k, got 'c0-0' twice in draw 0"),
        (lambda t: pd.concat([t, t[:1].assign(dice=0.9)]), "got 'c0-0' twice in draw 0, k 1"),
        (
            lambda t: without(t, (t["draw"] == 1) & (t["k"] == 2)),
            "every draw of curve_cases must have every k, got no k 2 in draw 1",
        ),
        (lambda t: t.assign(masks=t["masks"] - 4), "masks must be at least 1, got 0"),
        (lambda t: t.assign(masks=100 - t["masks"]), "masks must not fall as k rises"),
        (lambda t: t.assign(masks=range(len(t))), "masks must be one number in each draw and k"),
        (lambda t: t.assign(masks=[5, *t["masks"][1:]]), "masks must be one number in each draw"),
        (
            lambda t: t.assign(dice=t["dice"].where((t["case"] < "c3") ^ (t["k"] == 2))),
            "scored in every draw at every k",
        ),
        (lambda t: t.assign(patient=""), "patients must name the patient of every case"),
        (lambda t: t.assign(patient=np.nan), "patients must name the patient of every case"),
    ],
)  # fmt: skip
def test_curves_that_are_refused(change, message):
    curve = change(curve_table([[0.2, 0.4], [0.4, 0.6]]))
    with pytest.raises(ValueError, match=message):
        mask_curve(curve, bootstrap=5)


def test_methods_that_are_refused():
    curve = curve_table([0.2, 0.4])
    with pytest.raises(ValueError, match="method 'cma' is not in per_case; did you mean 'cam'"):
        mask_equivalence(method_table(0.3), "cma", curve)
    with pytest.raises(ValueError, match="method 'cam' has no scored image with a lesion"):
        mask_equivalence(method_table(0.3).assign(has_lesion=False), "cam", curve)
    with pytest.raises(ValueError, match="must share images with a lesion, got none"):
        mask_equivalence(method_table(0.3).assign(case=list("abcdef")), "cam", curve)
    with pytest.raises(ValueError, match=r"must have the same patient .* another for 'c0-0'"):
        mask_equivalence(method_table(0.3).assign(patient="p1"), "cam", curve)
    with pytest.raises(ValueError, match="bootstrap must be at least 1"):
        mask_equivalence(method_table(0.3), "cam", curve, bootstrap=0)


def test_the_crossing_of_a_curve_that_hardly_rises_is_where_it_reaches():
    """Of 1.5e-9 the second point has 0.6e-9: reached, within 1e-9, and not left again."""
    fit = 0.2 + np.array([[0, 0.6e-9, 0.3, 0.7]])
    assert _crossing(fit, np.array([0.2 + 1.5e-9])) == 1


def test_blocks_do_not_change_the_intervals(monkeypatch):
    """Draws and patients fill their blocks differently: each keeps its own place."""
    per_case, curve = random_experiment(5)

    def all_of_them():
        return [
            mask_curve(curve, bootstrap=60),
            mask_equivalence(per_case, "cam", curve, bootstrap=60)[1:],
            curve_at(per_case, "cam", curve, 9, bootstrap=60),
        ]

    whole = all_of_them()
    monkeypatch.setattr("weakseg.scores.statistics._BLOCK_CELLS", 60)
    for found, expected in zip(all_of_them(), whole, strict=True):
        np.testing.assert_allclose(found, expected)


def test_cases_may_be_numbers_and_have_gaps_elsewhere():
    per_case, curve = random_experiment(6)
    expected = mask_equivalence(per_case, "cam", curve, bootstrap=30)
    names = {case: k for k, case in enumerate(sorted(per_case["case"].unique()), start=100)}
    numbered = curve.assign(case=curve["case"].map(names), false_alarm=np.nan)
    own = per_case.assign(case=per_case["case"].map(names).astype(str))
    assert mask_equivalence(own, "cam", numbered, bootstrap=30) == expected
    pd.testing.assert_frame_equal(
        mask_curve(numbered, bootstrap=30), mask_curve(curve, bootstrap=30)
    )


def test_one_mask_is_enough_and_one_draw_has_no_spread():
    curve = curve_table([0.2, 0.4], masks=[1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mask_curve(curve, bootstrap=10)
    assert found["masks"].tolist() == [1, 2]
    assert found["draws"].tolist() == [1, 1]
    assert found["draw_sd"].isna().all()
    assert found["draw_sd"].dtype == float


def test_false_positives_are_averaged_over_draws_and_known_where_there_are_healthy_images():
    """Draw 0 marks one image of two, draw 1 none of one: 1/4, whatever the images' Dice."""
    curve = curve_table([[0.2, 0.4], [0.4, 0.6]])
    healthy = [
        ("h0", "h", 0, 1, 4, np.nan, False, True), ("h1", "h", 0, 1, 4, 1.0, False, False),
        ("h0", "h", 1, 1, 4, 1.0, False, False), ("h1", "h", 1, 1, 4, np.nan, False, np.nan),
    ]  # fmt: skip
    rows = pd.concat([curve, pd.DataFrame(healthy, columns=curve.columns)])
    found = mask_curve(rows, bootstrap=10)["false_positive_rate"]
    assert found.iloc[0] == 0.25
    assert np.isnan(found.iloc[1])
    assert mask_curve(curve, bootstrap=10)["false_positive_rate"].dtype == float
