"""Connected parts slab by slab, as scipy finds them in the whole volume."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from weakseg.masks import parts as module
from weakseg.masks.measure import measure_lesions
from weakseg.masks.parts import find_parts

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 9)))


@pytest.fixture(params=[1, 2, 3], autouse=True)
def depth(request, monkeypatch):
    monkeypatch.setattr(module, "DEPTH", request.param)
    monkeypatch.setattr("weakseg.masks.measure.DEPTH", request.param)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_parts_have_the_numbers_that_scipy_gives_them_in_the_whole(rank, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((5, 6, 1 + seed)) < rng.uniform(0.05, 0.7)
    structure = ndimage.generate_binary_structure(3, rank)
    labels, count = ndimage.label(mask, structure)
    found = find_parts(mask, structure)
    assert found.count == count
    told = np.concatenate([p[slab] for _, slab, p in found.slabs()], axis=2)
    np.testing.assert_array_equal(told, labels)
    np.testing.assert_array_equal(found.sizes, np.bincount(labels.ravel())[1:])
    boxes = ndimage.find_objects(labels)
    assert found.extents().tolist() == [b[2].stop - b[2].start for b in boxes]
    score = rng.random(mask.shape)
    expected = [score[labels == n].max() for n in range(1, count + 1)]
    np.testing.assert_array_equal(found.peaks(score), expected)
    chosen = rng.random(count) < 0.5
    np.testing.assert_array_equal(found.keep(chosen), np.isin(labels, 1 + np.flatnonzero(chosen)))


@given(MASKS, st.integers(0, 99))
def test_lesions_are_measured_as_in_one_slab(mask, seed):
    rng = np.random.default_rng(seed)
    heat, image = rng.random((2, *mask.shape))
    found = measure_lesions(mask, spacing=(1, 2, 3), image=image, heat=heat)
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    order = sorted(range(1, count + 1), key=lambda n: -(labels == n).sum())
    assert len(found) == count
    for lesion, n in zip(found, order, strict=True):
        part = labels == n
        assert lesion.samples == part.sum()
        assert lesion.plane == part.sum(axis=(0, 1)).argmax()
        np.testing.assert_allclose(lesion.centre, np.argwhere(part).mean(axis=0))
        assert lesion.heat == pytest.approx(heat[part].mean())
        assert lesion.intensity == pytest.approx(image[part].mean())


def test_an_empty_mask_has_no_part():
    found = find_parts(np.zeros((2, 3, 4), bool), np.ones((3, 3, 3)))
    assert found.count == 0
    assert not found.keep([]).any()
