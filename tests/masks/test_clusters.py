"""Clusters of grey values against scikit-learn, cases by hand and what must hold of any image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.cluster import KMeans

from weakseg.masks.clusters import end_cluster, fuzzy_c_means, grey_clusters, memberships
from weakseg.masks.floors import FLOORS

values = hnp.arrays(np.float64, st.tuples(st.integers(3, 12), st.just(2)), elements=st.floats(0, 9))


def test_degrees_by_hand():
    """Squared distances of 1 and 4: four fifths and one; of fuzziness 3 the roots, 2 to 1."""
    np.testing.assert_allclose(memberships([[1.0]], [[0.0], [3.0]]), [[0.8, 0.2]])
    np.testing.assert_allclose(memberships([[1.0]], [[0.0], [3.0]], 3.0), [[2 / 3, 1 / 3]])
    on = memberships([[0.0], [3.0]], [[0.0], [3.0], [3.0]])
    np.testing.assert_array_equal(on, [[1, 0, 0], [0, 0.5, 0.5]])
    assert np.isfinite(memberships([[1e-300], [1e150]], [[0.0], [1.0]], 1.001)).all()


def test_one_step_of_the_centres_by_hand():
    """Of 0, 1 and 3 about 0 and 3: degrees (1, 0), (0.8, 0.2) and (0, 1), squared as weights."""
    x, begin = [[0.0], [1.0], [3.0]], [[0.0], [3.0]]
    moved = fuzzy_c_means(x, begin, steps=1)
    np.testing.assert_allclose(moved, [[0.64 / 1.64], [(0.04 + 3) / 1.04]])
    twice = fuzzy_c_means(x, begin, weights=[1, 2, 1], steps=1)
    np.testing.assert_allclose(twice, [[1.28 / 2.28], [(0.08 + 3) / 1.08]])


@settings(max_examples=30)
@given(values)
def test_degrees_sum_to_one_and_no_step_makes_the_objective_worse(x):
    centres = np.array([[1.0, 2.0], [6.0, 3.0], [8.0, 8.0]])
    before = np.inf
    for _ in range(5):
        u = memberships(x, centres)
        np.testing.assert_allclose(u.sum(1), 1)
        objective = (u**2 * ((x[:, None] - centres[None]) ** 2).sum(-1)).sum()
        assert objective <= before + 1e-9
        before, centres = objective, fuzzy_c_means(x, centres, steps=1)


def test_a_centre_without_values_stays():
    moved = fuzzy_c_means([[1.0], [1.0]], [[1.0], [8.0]])
    assert moved.tolist() == [[1.0], [8.0]]


def test_fuzziness_near_one_is_k_means():
    x = np.random.default_rng(0).normal([[0.0, 0.0]], 1, (90, 2))
    x[30:60] += 6
    x[60:, 0] += 12
    begin = x[[0, 30, 60]]
    hard = KMeans(3, init=begin, n_init=1).fit(x).cluster_centers_
    np.testing.assert_allclose(fuzzy_c_means(x, begin, fuzziness=1.05), hard, atol=1e-3)


def test_fuzziness_must_be_above_one():
    with pytest.raises(ValueError, match="fuzziness must be above 1, got 1"):
        memberships([[0.0]], [[1.0]], 1)


@pytest.mark.parametrize("fuzzy", [False, True])
def test_clusters_of_four_plain_greys_are_these_greys(fuzzy):
    greys = np.array([[10, 200, 90], [10, 30, 200]], dtype=np.uint8)
    np.testing.assert_array_equal(grey_clusters(greys, 4, fuzzy), [[0, 3, 2], [0, 1, 3]])
    np.testing.assert_array_equal(
        grey_clusters(greys[..., None] * [1, 1, 1], 4, fuzzy)[1], [0, 1, 3]
    )
    assert grey_clusters(np.full((2, 3), 7), 4, fuzzy).tolist() == [[0] * 3] * 2
    assert set(grey_clusters(np.eye(3), 4, fuzzy).flat) == {0, 1}
    some = np.array([[np.nan, 1.0, 2.0, np.inf]])
    assert grey_clusters(some, 4, fuzzy).tolist() == [[-1, 0, 1, -1]]
    assert grey_clusters(some * np.nan, 4, fuzzy).tolist() == [[-1] * 4]
    assert not end_cluster(some * np.nan, 4, fuzzy).any()


def test_hard_clusters_are_k_means_of_the_pixels():
    grey = np.random.default_rng(1).integers(0, 256, (30, 40))
    grey[0, :2] = 0, 255
    begin = (np.arange(4) + 0.5)[:, None] * 255 / 4
    wanted = KMeans(4, init=begin, n_init=1).fit_predict(grey.reshape(-1, 1).astype(float))
    np.testing.assert_array_equal(grey_clusters(grey, 4).ravel(), wanted)


@settings(max_examples=25)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8)), st.booleans())
def test_the_ends_lie_beyond_all_that_is_left_out(image, fuzzy):
    bright, dark = end_cluster(image, 3, fuzzy), end_cluster(image, 3, fuzzy, bright=False)
    assert bright.any()
    assert dark.any()
    if not bright.all():
        assert image[bright].min() > image[~bright].max()
        assert image[dark].max() < image[~dark].min()


def test_floors_of_clusters_know_bright_from_dark():
    image = np.zeros((8, 8))
    image[2:4, 2:4], image[5:, 5:], image[:, 0] = 9, 4, 6
    for kind in ("k-means", "fuzzy-c-means"):
        np.testing.assert_array_equal(FLOORS[f"floor-{kind}-brightest"](image), image == 9)
        np.testing.assert_array_equal(FLOORS[f"floor-{kind}-darkest"](image), image == 0)
