"""Superpixels that vote: against scikit-learn and OpenCV, and on a planted disc."""

import cv2
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy import ndimage
from skimage.segmentation import slic
from skimage.transform import resize
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from weakseg.masks.rules import hypercolumn
from weakseg.masks.rules.crf import crf_probability
from weakseg.masks.rules.hypercolumn import (
    HypercolumnRule,
    coarse_superpixels,
    fit_vote,
    hypercolumn_mask,
    superpixel_features,
    sure_superpixels,
    vote_of,
)
from weakseg.masks.superpixels import part_means
from weakseg.masks.thresholds import normalise
from weakseg.scores import dice


def lessons(seed=0, k=200, c=7):
    rng = np.random.default_rng(seed)
    lesion = rng.random(k) < 0.3
    x = rng.normal(size=(k, c)) * np.arange(1, c + 1) + lesion[:, None] * 1.5
    return x.astype(np.float32), lesion


@pytest.mark.parametrize("penalty", [0.1, 1.0, 100.0])
def test_probabilities_are_scikit_learn_s_own_also_from_the_disk(tmp_path, penalty):
    x, lesion = lessons()
    vote = fit_vote(x, lesion, penalty=penalty)
    save_file(vote.arrays(), tmp_path / "v.safetensors")
    again = vote_of(load_file(tmp_path / "v.safetensors"))
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=1 / penalty, class_weight="balanced", max_iter=200)
    model.fit(scaler.transform(x), lesion)
    new, _ = lessons(seed=1)
    expected = model.predict_proba(scaler.transform(new))[:, 1]
    np.testing.assert_allclose(again.probability(new), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(again.probability(new), vote.probability(new))


def test_a_feature_that_never_changes_says_nothing():
    x, lesion = lessons()
    dead = np.column_stack([x, np.full(len(x), 3.0)])
    p = fit_vote(dead, lesion).probability(dead)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p, fit_vote(x, lesion).probability(x), atol=1e-4)


@pytest.mark.parametrize(("lesions", "kind"), [(3, "a lesion"), (197, "background"), (0, "a les")])
def test_too_few_of_a_kind_teach_nothing(lesions, kind):
    x, _ = lessons()
    with pytest.raises(LookupError, match=f"superpixels of {kind}"):
        fit_vote(x, np.arange(200) < lesions)


@pytest.mark.parametrize(
    ("shape", "grid"),
    [((40, 56), (10, 14)), ((31, 50), (8, 13)), ((9, 8), (12, 9)), ((20, 20), (1, 1))],
)
def test_a_superpixel_s_feature_is_the_mean_of_the_enlarged_map(shape, grid):
    rng = np.random.default_rng(1)
    image, columns = rng.random(shape), rng.random((*grid, 3)).astype(np.float32)
    parts = rng.integers(0, 6, shape)
    found = superpixel_features(image, parts, columns)
    assert found.shape == (6, 4)
    for c in range(3):
        large = cv2.resize(columns[..., c], (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
        expected = [large[parts == k].mean() for k in range(6)]
        np.testing.assert_allclose(found[:, c], expected, atol=2e-5)
    grey = (image - image.min()) / np.ptp(image)
    np.testing.assert_allclose(found[:, 3], [grey[parts == k].mean() for k in range(6)], atol=1e-6)


@pytest.mark.parametrize("shape", [(64, 48), (500, 420), (7, 7), (3, 5000)])
def test_superpixels_are_numbered_without_a_gap(shape):
    image = np.random.default_rng(0).random(shape)
    parts = coarse_superpixels(image, count=40)
    assert parts.shape == shape
    np.testing.assert_array_equal(np.unique(parts), np.arange(parts.max() + 1))


def test_superpixels_of_a_large_image_lie_where_its_edges_are():
    image = np.zeros((600, 800))
    image[150:450, 200:600] = 1
    parts = coarse_superpixels(image, count=60)
    inside = part_means(parts, image)
    assert (np.minimum(inside, 1 - inside) < 0.1).all()


def disc():
    y, x = np.mgrid[:64, :64]
    truth = (y - 30) ** 2 + (x - 34) ** 2 < 14**2
    rng = np.random.default_rng(2)
    image = rng.normal(0.3, 0.02, truth.shape) + 0.4 * truth
    heat = np.exp(-((y - 30) ** 2 + (x - 27) ** 2) / (2 * 6.0**2))
    return image, heat, truth


def test_heat_on_half_a_disc_finds_the_whole_of_it():
    image, heat, truth = disc()
    columns = cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA)[..., None]
    columns = columns.astype(np.float32)
    parts = coarse_superpixels(image, count=200)
    hot, cold = sure_superpixels(heat, parts, high=0.6, low=0.05)
    assert len(hot) >= 3
    features = superpixel_features(image, parts, columns)
    known = np.r_[np.repeat(hot, 4), cold]
    vote = fit_vote(features[known], np.isin(known, hot), penalty=1)
    mask = hypercolumn_mask(heat, image, columns, vote, warm=0, count=200)
    assert dice(normalise(heat) > 0.5, truth) < 0.5
    assert dice(mask, truth) > 0.9
    np.testing.assert_array_equal(
        mask, hypercolumn_mask(1e5 * heat, image, columns, vote, warm=0, count=200)
    )
    # Only what is warm may be chosen.
    warm = hypercolumn_mask(heat, image, columns, vote, warm=0.3, count=200)
    assert not (warm & ~mask).any()
    np.testing.assert_array_equal(warm, mask & (part_means(parts, heat / heat.max()) > 0.3)[parts])
    for flat in (0 * heat, heat * 0 + 4):
        assert not hypercolumn_mask(flat, image, columns, vote, warm=0).any()


def test_votes_go_through_the_random_field_but_for_those_that_are_left_out(random_field):
    rng = np.random.default_rng(0)
    image, heat = ndimage.gaussian_filter(rng.random((2, 40, 44)), (0, 3, 3))
    heat -= heat.min()
    columns = rng.random((8, 8, 3)).astype(np.float32)
    x = rng.normal(size=(60, 4)) + np.repeat([[0], [1.5]], 30, 0)
    vote = fit_vote(x, np.arange(60) >= 30, penalty=1.0)
    parts = coarse_superpixels(image, count=60, compactness=0.2)
    p = vote.probability(superpixel_features(image, parts, columns))
    p[part_means(parts, normalise(heat)) <= 0.4] = 0
    told = {"warm": 0.4, "at": 0.3, "count": 60, "compactness": 0.2}
    made = hypercolumn_mask(heat, image, columns, vote, crf=3, **told)
    np.testing.assert_array_equal(made, crf_probability(p[parts], image, 3) > 0.3)
    assert (made != hypercolumn_mask(heat, image, columns, vote, **told)).any()


def test_bad_parameters_are_refused():
    image, heat, _ = disc()
    x, lesion = lessons(c=2)
    vote, columns = fit_vote(x, lesion), np.zeros((4, 4, 1), np.float32)
    for change in ({"warm": 1.0}, {"warm": -0.1}, {"at": 1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(change))} must be"):
            hypercolumn_mask(heat, image, columns, vote, **change)
    with pytest.raises(ValueError, match="the heatmap is"):
        hypercolumn_mask(heat[:-1], image, columns, vote)
    with pytest.raises(ValueError, match="low < high"):
        sure_superpixels(heat, coarse_superpixels(image), high=0.2, low=0.3)


def test_of_a_flat_heatmap_nothing_is_sure():
    parts = coarse_superpixels(np.random.default_rng(0).random((20, 20)), count=10)
    assert [len(k) for k in sure_superpixels(np.ones((20, 20)), parts, high=0.6, low=0.2)] == [0, 0]


def test_superpixels_are_scikit_image_s_on_the_image_as_it_is():
    large = ndimage.gaussian_filter(np.random.default_rng(0).random((384, 64)), 2)
    for image, told in (
        (large, {"count": 300, "compactness": 0.1}),
        (large, {"count": 25, "compactness": 3.0}),
        (large[:200], {"count": 80, "compactness": 0.1}),
    ):
        grey = (image - image.min()) / np.ptp(image)
        wanted = slic(
            grey,
            n_segments=told["count"],
            compactness=told["compactness"],
            channel_axis=None,
            start_label=0,
        )
        found = coarse_superpixels(7 * image, **told)
        assert found.dtype == np.int64
        numbers = np.unique(wanted, return_inverse=True)[1]
        np.testing.assert_array_equal(found, numbers.reshape(wanted.shape))
    np.testing.assert_array_equal(
        coarse_superpixels(large), coarse_superpixels(large, count=300, compactness=0.1)
    )


@pytest.mark.parametrize(("shape", "small"), [((500, 60), (384, 46)), ((3, 1000), (1, 384))])
def test_superpixels_of_a_larger_image_are_those_of_a_copy_of_384_pixels(shape, small):
    """Bilinear with anti-aliasing, as scikit-image does it; each pixel takes the nearest one's."""
    image = ndimage.gaussian_filter(np.random.default_rng(1).random(shape), 2)
    grey = resize((image - image.min()) / np.ptp(image), small, order=1, anti_aliasing=True)
    parts = slic(grey, n_segments=40, compactness=0.1, channel_axis=None, start_label=0)
    found = coarse_superpixels(image, count=40)
    y, x = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(shape, small, strict=True))
    pairs = set(zip(found.ravel(), parts[y][:, x].ravel(), strict=True))
    assert len(pairs) == len(np.unique(found)) == len(np.unique(parts))


def test_what_is_known_of_superpixels_is_single_precision():
    image = np.random.default_rng(0).random((8, 9))
    found = superpixel_features(image, np.arange(72).reshape(8, 9), np.ones((2, 2, 3), np.float32))
    assert (found.dtype, found.shape) == (np.float32, (72, 4))


@pytest.mark.parametrize(("fine", "coarse"), [(7, 3), (4, 4), (3, 7), (5, 1), (1, 5), (8, 2)])
def test_rows_are_enlarged_as_opencv_does_it(fine, coarse):
    values = np.random.default_rng(fine).random(coarse)
    wanted = cv2.resize(values[None], (fine, 1), interpolation=cv2.INTER_LINEAR)[0]
    made = hypercolumn._bilinear(fine, coarse)
    assert made.shape == (fine, coarse)
    np.testing.assert_allclose(made @ values, wanted, atol=1e-12)
    np.testing.assert_allclose(made.sum(axis=1), 1)


def test_ten_of_a_kind_are_enough_and_nine_are_not():
    x, _ = lessons(k=40)
    fit_vote(x, np.arange(40) < 10)
    fit_vote(x, np.arange(40) >= 10)
    for lesion, kind in ((np.arange(40) < 9, "a lesion"), (np.arange(40) >= 9, "background")):
        with pytest.raises(LookupError) as e:
            fit_vote(x, lesion)
        assert str(e.value) == (
            f"the training heatmaps are sure of only 9 superpixels of {kind}, 10 are needed"
        )
    with pytest.raises(LookupError, match=r"only 3 superpixels of a lesion"):
        fit_vote(x[:8], np.arange(8) < 3)
    with pytest.raises(LookupError, match=r"only 3 superpixels of background"):
        fit_vote(x[:13], np.arange(13) < 10)


def test_numbers_in_the_place_of_bools_are_read_as_such():
    x, lesion = lessons()
    told = fit_vote(x, lesion)
    np.testing.assert_array_equal(
        fit_vote(x, 2 * lesion.astype(int)).coefficients, told.coefficients
    )
    assert {v.dtype for v in told.arrays().values()} == {np.dtype(np.float64)}


def test_the_defaults_are_those_of_the_rule():
    image, heat, _ = disc()
    rule, (x, lesion) = HypercolumnRule(), lessons(c=2)
    vote = fit_vote(x, lesion)
    told = fit_vote(x, lesion, penalty=rule.penalty)
    np.testing.assert_array_equal(vote.coefficients, told.coefficients)
    columns = np.random.default_rng(0).random((16, 16, 1)).astype(np.float32)
    settings = {k: getattr(rule, k) for k in ("warm", "at", "count", "compactness")}
    made = hypercolumn_mask(heat, image, columns, vote)
    np.testing.assert_array_equal(made, hypercolumn_mask(heat, image, columns, vote, **settings))
    assert made.any()


def test_classes_that_a_plane_parts_are_learnt_without_a_warning(recwarn):
    """However small the penalty: the search for the best plane may go on for ever."""
    x, lesion = lessons()
    parted = np.column_stack([x, 1e3 * lesion])
    assert (fit_vote(parted, lesion, penalty=1e-12).probability(parted) > 0.5).tolist() == (
        lesion.tolist()
    )
    assert not recwarn.list


def test_a_vote_is_a_logistic_function_of_standardised_features():
    vote = vote_of({"mean": [1, 2], "scale": [2, 4], "coefficients": [3, -1], "intercept": 0.5})
    # (3 - 1) / 2 × 3 - (6 - 2) / 4 + 0.5 = 2.5, and (1 - 1) … - (2 - 2) … + 0.5.
    found = vote.probability([[3, 6], [1, 2]])
    np.testing.assert_allclose(found, [1 / (1 + np.exp(-2.5)), 1 / (1 + np.exp(-0.5))])
