"""Recalibration: the formula by hand, its properties, and that it gives the true prior back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakseg.training.prior import recalibrate

shares = st.floats(0.001, 0.999)
probabilities = st.floats(0.0, 1.0)


@pytest.mark.parametrize(
    ("p", "sampled", "true", "expected"),
    [
        (0.5, 0.5, 0.1, 0.1),  # what the sampler expects becomes what the truth expects
        (0.5, 0.5, 0.01, 0.01),
        (0.8, 0.5, 0.2, 0.16 / (0.16 + 0.16)),
        (0.75, 0.25, 0.5, 1.5 / (1.5 + 1 / 6)),
        (0.0, 0.4, 0.1, 0.0),
        (1.0, 0.4, 0.1, 1.0),
    ],
)
def test_by_hand(p, sampled, true, expected):
    assert recalibrate(p, sampled, true) == pytest.approx(expected)


def test_odds_are_multiplied_by_the_ratio_of_the_odds_of_the_priors():
    p = np.linspace(0.05, 0.95, 7)
    out = recalibrate(p, 0.5, 0.02)
    np.testing.assert_allclose(out / (1 - out), p / (1 - p) * 0.02 / 0.98)


@given(probabilities, shares)
def test_equal_shares_change_nothing(p, share):
    assert recalibrate(p, share, share) == pytest.approx(p, abs=1e-12)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_swapping_the_shares_undoes_it(p, sampled, true):
    back = recalibrate(recalibrate(p, sampled, true), true, sampled)
    assert back == pytest.approx(p, abs=1e-9)


@given(st.lists(probabilities, min_size=2, max_size=8), shares, shares)
def test_order_and_range_are_kept(p, sampled, true):
    out = recalibrate(np.sort(p), sampled, true)
    assert (np.diff(out) >= 0).all()
    assert out.min() >= 0
    assert out.max() <= 1


def test_shape_is_kept_and_half_precision_is_read():
    p = np.full((2, 3, 4), 0.5, dtype=np.float16)
    out = recalibrate(p, 0.5, 0.25)
    assert out.shape == p.shape
    assert out.dtype == np.float64
    np.testing.assert_allclose(out, 0.25)


@pytest.mark.parametrize("wrong", [0.0, 1.0, -0.2, float("nan")])
@pytest.mark.parametrize("name", ["sampled", "true"])
def test_shares_that_are_none_are_refused(name, wrong):
    with pytest.raises(ValueError, match=f"{name} must be in"):
        recalibrate(0.5, **({"sampled": 0.5, "true": 0.5} | {name: wrong}))


@pytest.mark.parametrize("true", [0.03, 0.2])
def test_a_model_trained_on_balanced_samples_gives_the_true_prior_back(true):
    """One feature, two normal classes: logistic regression is the right model for them."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    lesion = rng.random(60_000) < true
    x = (rng.normal(size=lesion.size) + 1.5 * lesion)[:, None]
    ill, well = np.flatnonzero(lesion), np.flatnonzero(~lesion)
    chosen = np.concatenate([rng.choice(ill, 8000), rng.choice(well, 8000)])
    model = LogisticRegression(C=1e6).fit(x[chosen], lesion[chosen])
    p = model.predict_proba(x)[:, 1]
    assert p.mean() > 1.3 * true
    out = recalibrate(p, 0.5, true)
    assert out.mean() == pytest.approx(true, rel=0.03)
    # Not in the mean alone: among voxels of about the same probability as many are lesion.
    for low, high in ((0.02, 0.05), (0.1, 0.3), (0.5, 0.9)):
        some = (out > low) & (out < high)
        error = np.sqrt(0.25 / some.sum())
        assert lesion[some].mean() == pytest.approx(out[some].mean(), abs=3 * error)
