"""The random forest of pixels: against scikit-learn, and by hand."""

import numpy as np
import pytest
from skimage.feature import multiscale_basic_features
from skimage.transform import resize
from sklearn.ensemble import RandomForestClassifier

from weakseg.masks.rules.affinity import coarse_heat
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
    # As scikit-learn compares: in single precision.
    assert STUMP.probability([[0.5 + 1e-12]]).tolist() == [0.1]


@pytest.mark.parametrize(
    "harm",
    [
        {"left": np.array([0, 1, 2], np.int32)},
        {"left": np.array([1, 0, 2], np.int32)},
        {"right": np.array([0, 1, 2], np.int32)},
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


def test_fifty_of_a_kind_are_enough():
    x, _ = made_up(100)
    lesion = np.arange(100) < 50
    forest = fit_forest(x, lesion, trees=2, depth=2, seed=0)
    assert {v.dtype.kind for v in forest.arrays().values()} == {"i", "f"}
    again = fit_forest(x, lesion.astype(int), trees=2, depth=2, seed=0)
    np.testing.assert_array_equal(again.probability(x), forest.probability(x))
    with pytest.raises(LookupError, match="only 49 pixels of background"):
        fit_forest(x[:99], lesion[:99], trees=1, depth=1, seed=0)


def unit(image):
    return (image - image.min()) / np.ptp(image)


@pytest.mark.parametrize(
    ("shape", "small"),
    [((20, 30), None), ((200, 100), None), ((2, 9), None), ((512, 300), (256, 150)),
     ((400, 260, 3), (256, 166)), ((3, 1000), (1, 256))],
)  # fmt: skip
def test_features_are_those_of_scikit_image_at_five_scales(shape, small):
    """Filters of 1, 2, 4, 8 and 16 pixels, of a copy where the image is large."""
    image = unit(np.random.default_rng(0).random(shape))
    copy = resize(image, small, order=1, anti_aliasing=True) if small else image
    rows = len(copy)
    if rows == 1:  # the library's gradients need two
        copy = np.repeat(copy, 2, axis=0)
    wanted = multiscale_basic_features(
        copy.astype(np.float32),
        sigma_min=1,
        sigma_max=16,
        channel_axis=-1 if image.ndim == 3 else None,
    )[:rows]
    found = pixel_features(image, 3 if image.ndim == 3 else 1)
    assert found.shape == wanted.shape == (*(small or shape)[:2], 20 * (image.ndim * 2 - 3))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


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


LEAF = Forest(
    **(STUMP.arrays() | {"roots": np.array([2], np.int32)})  # 0.9 of all
)


def test_only_what_is_warm_is_asked_on_the_grid_of_the_features():
    """By hand: the left half is cold on a grid of two, for all that a pixel of it is warm."""
    heat = np.array([[0.6, 0, 1, 1], [0, 0, 1, 1.0]])
    features = np.zeros((1, 2, 1), np.float32)
    told = {"warm": 0.25, "at": 0.5}
    assert coarse_heat(heat, (1, 2))[0, 0] < 0.25
    mask = random_forest_mask(heat, heat, features, LEAF, **told)
    assert mask.astype(int).tolist() == [[0, 0, 1, 1]] * 2
    every = random_forest_mask(heat, heat, features, LEAF, warm=0.0)
    assert every.all()


def test_with_no_share_to_be_above_places_without_heat_are_asked():
    heat = np.array([[0.0, 1.0], [0.2, 0.5]])
    features = np.zeros((2, 2, 1), np.float32)
    assert random_forest_mask(heat, heat, features, LEAF, warm=0).all()
    mask = random_forest_mask(heat, heat, features, LEAF, warm=0.2)
    assert mask.astype(int).tolist() == [[0, 1], [0, 1]]


def test_what_is_as_warm_as_the_share_is_left_out_on_either_grid():
    heat = np.array([[0.5, 0.5, 1, 1]])
    grid = np.zeros((1, 8, 1), np.float32)
    assert coarse_heat(heat, (1, 8))[0, :4].tolist() == [0.5, 0.5, 0.5, 0.625]
    p = resize(np.repeat([[0, 0.9]], [3, 5], axis=1), (1, 4), order=1)[0, 2]
    assert p < 0.9
    for at, found in ((p - 1e-9, [0, 0, 1, 1]), ((p + 0.9) / 2, [0, 0, 0, 1])):
        made = random_forest_mask(heat, heat, grid, LEAF, warm=0.5, at=at)
        assert made.astype(int).tolist() == [found]
    # Warm on the coarse grid, and on the limit on its own.
    heat = np.array([[0.5, 1, 1, 0, 0, 0.0]])
    assert coarse_heat(heat, (1, 2))[0, 0] == 1
    made = random_forest_mask(heat, heat, grid[:, :2], LEAF, warm=0.5, at=0.3)
    assert made.astype(int).tolist() == [[0, 1, 1, 0, 0, 0]]


def test_probabilities_are_enlarged_bilinearly():
    features = np.random.default_rng(0).random((6, 5, 1), np.float32)
    heat = 1 + np.random.default_rng(1).random((17, 23))
    p = resize(np.where(features[..., 0] <= 0.5, 0.1, 0.9), heat.shape, order=1)
    for at in (0.3, 0.5, 0.77):
        made = random_forest_mask(heat, heat, features, STUMP, warm=0, at=at)
        np.testing.assert_array_equal(made, p > at)
        assert 0 < made.sum() < made.size
