"""The random forest of pixels: against scikit-learn, and by hand."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from weakseg.masks.rules.random_forest import (
    Forest,
    fit_forest,
    forest_of,
    pixel_features,
    random_forest_mask,
)


def made_up(n=400, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)).astype(np.float32)
    return x, x[:, 0] + 0.3 * rng.normal(size=n) > 0.5


def test_probabilities_are_those_of_scikit_learn():
    x, lesion = made_up()
    forest = fit_forest(x, lesion, trees=7, depth=6, seed=3)
    model = RandomForestClassifier(7, max_depth=6, class_weight="balanced", random_state=3)
    new, _ = made_up(seed=1)
    expected = model.fit(x, lesion).predict_proba(new)[:, 1]
    np.testing.assert_allclose(forest.probability(new), expected, atol=1e-12)
    assert expected.std() > 0


def test_what_is_stored_is_the_forest():
    x, lesion = made_up()
    forest = fit_forest(x, lesion, trees=3, depth=4, seed=0)
    again = forest_of(forest.arrays())
    np.testing.assert_array_equal(again.probability(x), forest.probability(x))


STUMP = Forest(
    roots=np.array([0], np.int32),
    feature=np.array([0, 0, 0], np.int32),
    threshold=np.array([0.5, 0, 0]),
    left=np.array([1, 1, 2], np.int32),
    right=np.array([2, 1, 2], np.int32),
    lesion=np.array([0.5, 0.1, 0.9]),
)


def test_a_value_at_a_threshold_goes_to_the_left():
    found = STUMP.probability([[0.5], [0.50001], [-1]])
    assert found.tolist() == [0.1, 0.9, 0.1]


@pytest.mark.parametrize(
    "harm",
    [
        {"left": np.array([0, 1, 2], np.int32)},
        {"left": np.array([1, 0, 2], np.int32)},
        {"right": np.array([3, 1, 2], np.int32)},
        {"right": np.array([-1, 1, 2], np.int32)},
        {"roots": np.array([3], np.int32)},
        {"lesion": np.array([0.5, 0.1])},
    ],
)
def test_arrays_that_are_no_forest_are_refused(harm):
    with pytest.raises(RuntimeError, match="nodes of the forest"):
        forest_of(STUMP.arrays() | harm)
    with pytest.raises(KeyError):
        forest_of({"roots": STUMP.roots})


@pytest.mark.parametrize(("lesions", "kind"), [(49, "a lesion"), (101, "background")])
def test_a_few_pixels_of_a_kind_are_too_few(lesions, kind):
    lesion = np.arange(150) < lesions
    with pytest.raises(LookupError, match=f"only 49 pixels of {kind}, 50 are needed"):
        fit_forest(np.zeros((150, 2)), lesion, trees=1, depth=1, seed=0)


def test_features_do_not_know_the_image_s_units_and_have_its_channels():
    image = np.random.default_rng(0).random((20, 30))
    grey = pixel_features(image, 1)
    assert grey.shape[:2] == (20, 30)
    assert grey.dtype == np.float32
    np.testing.assert_allclose(pixel_features(image * 64 + 16, 1), grey, atol=1e-5)
    colours = np.repeat(image[..., None], 3, axis=2)
    np.testing.assert_allclose(pixel_features(colours, 1), grey, atol=1e-5)
    assert pixel_features(colours, 3).shape[2] == 3 * grey.shape[2]
    np.testing.assert_array_equal(pixel_features(image, 3), pixel_features(colours, 3))
    assert pixel_features(np.zeros((512, 300)), 1).shape[:2] == (256, 150)
    assert np.isfinite(pixel_features(np.ones((1, 9)), 1)).all()


def disc(size=48, centre=(20, 26), radius=8):
    y, x = np.mgrid[:size, :size]
    near = np.hypot(y - centre[0], x - centre[1])
    image = np.random.default_rng(2).normal(40, 4, (size, size)) + 120 * (near < radius)
    return image, np.exp(-((near / 14) ** 2)), near < radius


def test_the_edge_is_the_image_s_where_the_heat_s_is_not():
    image, heat, truth = disc()
    features = pixel_features(image, 1)
    sure = np.where(heat > 0.8, 1, np.where(heat < 0.6, 0, 2))
    flat, labels = features.reshape(-1, features.shape[2]), sure.ravel()
    forest = fit_forest(flat[labels < 2], labels[labels < 2] == 1, trees=20, depth=8, seed=0)
    mask = random_forest_mask(heat, image, features, forest, warm=0.25)
    overlap = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    assert overlap > 0.9
    assert 2 * ((heat > 0.5) & truth).sum() / ((heat > 0.5).sum() + truth.sum()) < 0.85
    assert not (mask & (heat <= 0.25)).any()
    everywhere = random_forest_mask(heat, image, features, forest, warm=0)
    assert (mask <= everywhere).all()


def test_a_flat_heatmap_gives_an_empty_mask_and_bad_parameters_an_error():
    image, features = np.eye(4), np.ones((4, 4, 1), np.float32)
    assert not random_forest_mask(np.zeros((4, 4)), image, features, STUMP).any()
    assert random_forest_mask(image, image, features, STUMP).tolist() == image.astype(bool).tolist()
    for wrong, words in (
        ({"warm": 1.0}, "warm"),
        ({"warm": -0.1}, "warm"),
        ({"at": 1.0}, "at must"),
    ):
        with pytest.raises(ValueError, match=words):
            random_forest_mask(image, image, features, STUMP, **wrong)
    with pytest.raises(ValueError, match="heatmap is"):
        random_forest_mask(np.eye(5), image, features, STUMP)
