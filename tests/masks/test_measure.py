"""Lesions' measurements, by hand and by scikit-image."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import pdist
from skimage.measure import label, regionprops

from weakseg.masks.measure import measure_lesions


def test_two_lesions_of_a_volume():
    mask = np.zeros((10, 8, 5), dtype=bool)
    mask[1:4, 2, 1] = True  # three in a row, 2 mm apart
    mask[1:5, 2:4, 2] = True  # and eight above: a diagonal of 3 steps of 2 and one of 1
    mask[9, 7, 4] = True
    image = np.arange(mask.size, dtype=float).reshape(mask.shape)
    found = measure_lesions(mask, spacing=(2, 1, 4), image=image, heat=mask * 0.5)
    assert [f.samples for f in found] == [11, 1]
    assert found[0].size == 11 * 8
    assert found[0].diameter == pytest.approx(np.hypot(6, 1))
    assert found[0].plane == 2
    assert found[0].intensity == image[:5][mask[:5]].mean()
    assert found[0].heat == 0.5
    assert found[1].centre == (9, 7, 4)
    assert (found[1].diameter, found[1].plane) == (0, 4)


@pytest.mark.parametrize("spacing", [None, (1.0, 3.0)])
@given(mask=arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_lesions_of_images_as_scikit_image_measures_them(mask, spacing):
    steps = np.array(spacing or (1, 1))
    found = measure_lesions(mask, spacing=spacing)
    expected = regionprops(label(mask, connectivity=2))
    of_size = sorted(
        (int(r.area), tuple(r.centroid), float(pdist(r.coords * steps).max(initial=0)))
        for r in expected
    )
    told = sorted((f.samples, f.centre, f.diameter) for f in found)
    assert [t[0] for t in told] == [t[0] for t in of_size]
    for mine, theirs in zip(told, of_size, strict=True):
        np.testing.assert_allclose(mine[1], theirs[1])
        assert mine[2] == pytest.approx(theirs[2])
    assert [f.samples for f in found] == sorted((f.samples for f in found), reverse=True)


@given(mask=arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_an_image_has_the_lesions_of_a_volume_of_one_plane(mask):
    heat = np.random.default_rng(0).random(mask.shape, np.float32)
    image = (heat * 255).astype(np.uint8)
    ours = measure_lesions(mask, spacing=(0.7, 1.3), image=image, heat=heat)
    volume = measure_lesions(
        mask[..., None], spacing=(0.7, 1.3, 1), image=image[..., None], heat=heat[..., None]
    )
    assert ours == [replace(f, centre=f.centre[:2]) for f in volume]


def test_the_longest_distance_of_a_large_lesion_is_that_of_all_its_pixels():
    rows, columns = np.mgrid[:70, :40]
    mask = (rows / 34 - 1) ** 2 + (columns / 18 - 1 + rows / 500) ** 2 < 1
    (one,) = measure_lesions(mask, spacing=(0.7, 1.3))
    assert one.diameter == pdist(np.argwhere(mask) * [0.7, 1.3]).max()


def test_places_are_means_over_all_planes_and_an_image_has_one():
    mask = np.zeros((3, 3, 4), bool)
    mask[1, 1, 1] = mask[1, :2, 2] = True  # one voxel in plane 1, two in plane 2
    (one,) = measure_lesions(mask)
    assert one.centre == pytest.approx((1, 2 / 3, 5 / 3))
    assert one.plane == 2
    (flat,) = measure_lesions(mask[..., 2])
    assert (flat.samples, flat.plane) == (2, 0)


def test_nothing_is_measured_of_an_empty_mask():
    assert measure_lesions(np.zeros((3, 4))) == []


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="M, N, P"):
        measure_lesions(np.ones(3))
    with pytest.raises(ValueError, match=r"^image must have the shape"):
        measure_lesions(np.ones((2, 2)), image=np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"^heat must have the shape"):
        measure_lesions(np.ones((2, 2)), heat=np.ones((2, 3)))
    with pytest.raises(ValueError, match="2 numbers"):
        measure_lesions(np.ones((2, 2)), spacing=(1, 1, 1))
