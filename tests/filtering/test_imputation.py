"""Noisy linear imputation, beside a system written out in loops and beside pytorch-grad-cam."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from scipy import ndimage
from threadpoolctl import threadpool_info, threadpool_limits

from weakseg.filtering import imputation
from weakseg.filtering.imputation import linear_imputation


def neighbours(pixel, valid):
    """The up to eight pixels around one that are valid, with their weights before scaling."""
    around = {}
    for step in [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]:
        y, x = pixel[0] + step[0], pixel[1] + step[1]
        if 0 <= y < valid.shape[0] and 0 <= x < valid.shape[1] and valid[y, x]:
            around[y, x] = 1 / 6 if 0 in step else 1 / 12
    return around


def dense_solution(image, missing, valid):
    """Every missing pixel is the mean of its neighbours, or of all known pixels if cut off."""
    every = [tuple(pixel) for pixel in np.argwhere(valid)]
    known = {pixel for pixel in every if not missing[pixel]}
    reached, front = set(known), list(known)
    while front:
        fresh = neighbours(front.pop(), valid).keys() - reached
        reached |= fresh
        front += fresh
    unknown = sorted(reached - known)
    matrix = np.eye(len(unknown))
    right = np.zeros((len(unknown), len(image)))
    for i, pixel in enumerate(unknown):
        weights = neighbours(pixel, valid)
        for other, weight in weights.items():
            share = weight / sum(weights.values())
            if missing[other]:
                matrix[i, unknown.index(other)] -= share
            else:
                right[i] += share * image[:, *other]
    filled = image.astype(np.float64)
    mean = sum(filled[:, *pixel] for pixel in known) / len(known) if known else 0
    for pixel in set(every) - reached:
        filled[:, *pixel] = mean
    for pixel, value in zip(unknown, np.linalg.solve(matrix, right), strict=True):
        filled[:, *pixel] = value
    return filled


def their_solution(image, missing):
    known = torch.from_numpy(~missing).float()
    return NoisyLinearImputer(noise=0)(torch.from_numpy(image), known).numpy()


def smooth_mask(shape, share, seed=0, width=6.0):
    """The hottest share of a smooth random heatmap."""
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), width)
    return field > np.quantile(field, 1 - share)


def picture(channels, height, width, seed=0):
    return np.random.default_rng(seed).random((channels, height, width), dtype=np.float32)


@st.composite
def cases(draw):
    height, width = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    image = picture(draw(st.integers(1, 3)), height, width, draw(st.integers(0, 99)))
    missing = draw(hnp.arrays(np.bool_, (height, width)))
    valid = draw(st.one_of(st.none(), hnp.arrays(np.bool_, (height, width))))
    return image, missing, valid


@settings(deadline=None, max_examples=200)
@given(cases(), st.booleans())
def test_agrees_with_a_dense_system_written_in_loops(case, sparse):
    image, missing, valid = case
    expected = dense_solution(image, missing, np.ones_like(missing) if valid is None else valid)
    with pytest.MonkeyPatch.context() as patch:
        if sparse:
            patch.setattr(imputation, "_BAND_CELLS", -1)
        filled = linear_imputation(image, missing, noise=0, valid=valid)
    assert filled.dtype == np.float32
    np.testing.assert_allclose(filled, expected, atol=1e-6)


@settings(deadline=None, max_examples=200)
@given(cases())
def test_obeys_the_maximum_principle_and_changes_nothing_else(case):
    image, missing, valid = case
    valid = np.ones_like(missing) if valid is None else valid
    before = image.copy()
    filled = linear_imputation(image, missing, noise=0, valid=valid)
    np.testing.assert_array_equal(image, before)
    gap = missing & valid
    np.testing.assert_array_equal(filled[:, ~gap], image[:, ~gap])
    known = image[:, valid & ~missing]
    for channel, given_values in zip(filled[:, gap], known, strict=True):
        low, high = (given_values.min(), given_values.max()) if given_values.size else (0, 0)
        assert (channel >= low - 1e-6).all()
        assert (channel <= high + 1e-6).all()


@pytest.mark.parametrize("shape", [(64, 64), (40, 90), (90, 40)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["smooth", "scattered"])
def test_agrees_with_pytorch_grad_cam(shape, share, kind):
    image = picture(3, *shape)
    missing = smooth_mask(shape, share, width=6.0 if kind == "smooth" else 0.0)
    filled = linear_imputation(image, missing, noise=0)
    np.testing.assert_allclose(filled, their_solution(image, missing), atol=1e-5)


def test_the_band_and_the_sparse_solver_agree(monkeypatch):
    image, missing = picture(2, 128, 128), smooth_mask((128, 128), 0.7)
    band = linear_imputation(image, missing, noise=0)
    monkeypatch.setattr(imputation, "_BAND_CELLS", 0)
    monkeypatch.setattr(imputation, "solveh_banded", None)
    np.testing.assert_allclose(linear_imputation(image, missing, noise=0), band, atol=1e-6)


def test_solves_with_one_thread_and_gives_the_others_back(monkeypatch):
    def threads():
        return {x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas"}

    seen = []
    solve = imputation.solveh_banded

    def spy(*args, **kwargs):
        seen.append(threads())
        return solve(*args, **kwargs)

    monkeypatch.setattr(imputation, "solveh_banded", spy)
    with threadpool_limits(2, user_api="blas"):
        linear_imputation(picture(1, 20, 20), smooth_mask((20, 20), 0.5), noise=0)
        assert threads() == {2}
    assert seen == [{1}]


def test_a_single_known_pixel_fills_a_large_image():
    image, missing = picture(1, 200, 200), np.ones((200, 200), dtype=bool)
    missing[3, 150] = False
    filled = linear_imputation(image, missing, noise=0)
    np.testing.assert_allclose(filled, image[0, 3, 150], atol=1e-6)


def test_goes_on_with_a_linear_ramp():
    rows, columns = np.mgrid[:40, :50]
    ramp = ((rows + 2 * columns) / 150)[None]
    missing = smooth_mask((40, 50), 0.6, width=4)
    missing[[0, -1]] = missing[:, [0, -1]] = False
    filled = linear_imputation(np.where(missing, 0, ramp), missing, noise=0)
    np.testing.assert_allclose(filled, ramp, atol=1e-6)


def test_goes_on_with_constants_up_to_the_border():
    image = np.stack([np.full((30, 20), 0.3), np.full((30, 20), 1.0)])
    missing = smooth_mask((30, 20), 0.8)
    image[:, missing] = 0
    filled = linear_imputation(image, missing, noise=0)
    np.testing.assert_allclose(filled[0], 0.3, atol=1e-6)
    np.testing.assert_allclose(filled[1], 1.0, atol=1e-6)


def test_noise_is_as_stated_and_only_where_pixels_were_missing():
    image, missing = picture(3, 100, 100), smooth_mask((100, 100), 0.8)
    clean = linear_imputation(image, missing, noise=0)
    noisy = linear_imputation(image, missing, noise=0.05, rng=np.random.default_rng(1))
    added = noisy - clean
    assert (added[:, ~missing] == 0).all()
    for channel in added[:, missing]:
        assert channel.std() == pytest.approx(0.05, rel=0.05)
        assert abs(channel.mean()) < 0.003
    assert np.abs(np.corrcoef(added[:, missing]) - np.eye(3)).max() < 0.05


def test_the_default_noise_is_a_hundredth():
    image, missing = picture(1, 100, 100), smooth_mask((100, 100), 0.8)
    default = linear_imputation(image, missing, rng=np.random.default_rng(1))
    stated = linear_imputation(image, missing, noise=0.01, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(default, stated)


def test_the_seed_decides_the_noise():
    image, missing = picture(2, 20, 20), smooth_mask((20, 20), 0.5)
    first, again, other = (
        linear_imputation(image, missing, rng=np.random.default_rng(seed)) for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first, again)
    assert (first[:, missing] != other[:, missing]).any()


def test_noise_is_not_clipped():
    image, missing = np.ones((1, 30, 30)), smooth_mask((30, 30), 0.5)
    filled = linear_imputation(image, missing, noise=0.1, rng=np.random.default_rng(0))
    assert filled.max() > 1.05


def test_pixels_outside_valid_lend_nothing_and_never_change():
    image = np.full((1, 20, 20), 0.2, dtype=np.float32)
    image[:, 9] = 77.0  # missing: of no influence
    valid = np.zeros((20, 20), dtype=bool)
    valid[4:16, 4:16] = True
    image[:, ~valid] = -50.0
    missing = np.ones((20, 20), dtype=bool)
    missing[8, 8] = False
    filled = linear_imputation(image, missing, rng=np.random.default_rng(0), valid=valid)
    assert (filled[:, ~valid] == -50.0).all()
    np.testing.assert_allclose(filled[:, valid], 0.2, atol=0.06)


def test_a_group_cut_off_by_valid_gets_the_mean_of_the_known():
    image = np.stack([np.full((5, 9), 0.2), np.full((5, 9), 0.4)])
    image[:, 0, 0] = 0.9
    valid = np.ones((5, 9), dtype=bool)
    valid[:, 4] = False
    missing = np.zeros((5, 9), dtype=bool)
    missing[:, 5:] = True
    missing[2, 2] = True
    filled = linear_imputation(image, missing, noise=0, valid=valid)
    known = valid & ~missing
    np.testing.assert_allclose(filled[:, 2, 5:], [[image[c][known].mean()] * 4 for c in (0, 1)])
    np.testing.assert_allclose(filled[:, 2, 2], [0.2, 0.4], atol=1e-6)


def test_everything_missing_gives_zero_and_noise():
    image, everything = picture(2, 30, 30), np.ones((30, 30), dtype=bool)
    assert (linear_imputation(image, everything, noise=0) == 0).all()
    filled = linear_imputation(image, everything, noise=0.1, rng=np.random.default_rng(0))
    assert filled.std() == pytest.approx(0.1, rel=0.1)


def test_nothing_missing_gives_a_copy_and_draws_nothing():
    image, rng = picture(2, 5, 6), np.random.default_rng(0)
    filled = linear_imputation(image, np.zeros((5, 6), dtype=bool), rng=rng)
    np.testing.assert_array_equal(filled, image)
    assert not np.shares_memory(filled, image)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_the_masks_are_left_as_they_were():
    missing, valid = smooth_mask((20, 20), 0.5), smooth_mask((20, 20), 0.5, seed=1)
    copies = missing.copy(), valid.copy()
    linear_imputation(picture(1, 20, 20), missing, noise=0, valid=valid)
    np.testing.assert_array_equal(missing, copies[0])
    np.testing.assert_array_equal(valid, copies[1])


GOOD = {"image": picture(1, 4, 5), "missing": np.eye(4, 5, dtype=bool), "noise": 0.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((4, 5))}, r"image must be \(C, H, W\).*\(4, 5\)"),
        ({"image": np.zeros((0, 4, 5))}, "at least one pixel"),
        ({"image": np.full((1, 4, 5), np.nan)}, "image must be finite, got 20"),
        ({"image": np.full((1, 4, 5), np.inf)}, "image must be finite"),
        ({"image": np.full((1, 4, 5), 255.0)}, r"image must lie in \[0, 1\].* got 255 to 255"),
        ({"image": np.full((1, 4, 5), -1.0)}, r"image must lie in \[0, 1\]"),
        ({"missing": np.zeros((5, 4), dtype=bool)}, r"missing must .*\(4, 5\), got \(5, 4\)"),
        ({"missing": np.zeros((4, 5))}, "missing must be boolean, got float64"),
        ({"valid": np.ones((4, 4), dtype=bool)}, "valid must have the image's shape"),
        ({"valid": np.ones((4, 5), dtype=int)}, "valid must be boolean"),
        ({"noise": -0.1}, "noise must be .* at least 0, got -0.1"),
        ({"noise": float("nan")}, "noise must be"),
        ({"noise": 0.01}, "rng must be given"),
        ({"noise": 0.01, "missing": np.zeros((4, 5), dtype=bool)}, "rng must be given"),
    ],
)
def test_refuses_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        linear_imputation(**{**GOOD, **change})
