"""Lesion-wise scores against scikit-image's labels, and cases by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label

from weakseg.scores import score_case
from weakseg.scores.lesions import false_lesions, lesion_sensitivity

from .blobs import blob

TRUTH = np.zeros((9, 12), bool)
TRUTH[1:3, 1:3] = TRUTH[1:3, 8:10] = TRUTH[6:8, 4:7] = True
TRUTH[3, 3] = True  # touches the first by a corner: of the same lesion


def by_labels(pred, truth):
    lesions, parts = (label(m, connectivity=m.ndim) for m in (truth, pred))
    hit = [bool(pred[lesions == k].any()) for k in range(1, lesions.max() + 1)]
    false = sum(not truth[parts == k].any() for k in range(1, parts.max() + 1))
    return (np.mean(hit) if hit else np.nan), false


def test_by_hand():
    pred = np.zeros_like(TRUTH)
    assert (lesion_sensitivity(pred, TRUTH), false_lesions(pred, TRUTH)) == (0, 0)
    pred[3, 3] = True
    assert (lesion_sensitivity(pred, TRUTH), false_lesions(pred, TRUTH)) == (1 / 3, 0)
    pred[2, 4:9] = True  # joined by a corner, and on to the second lesion
    assert (lesion_sensitivity(pred, TRUTH), false_lesions(pred, TRUTH)) == (2 / 3, 0)
    pred[8, 0] = pred[7, 1] = pred[0, 11] = True  # two parts, one of them of two pixels
    assert (lesion_sensitivity(pred, TRUTH), false_lesions(pred, TRUTH)) == (2 / 3, 2)


def test_without_a_lesion_parts_are_false_and_nothing_can_be_found():
    healthy = score_case(TRUTH, np.zeros_like(TRUTH))
    assert np.isnan(healthy["lesion_sensitivity"])
    assert healthy["false_lesions"] == 3
    assert score_case(~TRUTH, ~TRUTH)["lesion_sensitivity"] == 1


@pytest.mark.parametrize("shape", [(24, 30), (10, 12, 8)])
@given(seed=st.integers(0, 200))
def test_as_scikit_image(shape, seed):
    rng = np.random.default_rng(seed)
    pred, truth = (rng.random(shape) < rng.uniform(0, 0.3) for _ in range(2))
    sensitivity, false = by_labels(pred, truth)
    np.testing.assert_equal(lesion_sensitivity(pred, truth), sensitivity)
    assert false_lesions(pred, truth) == false


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="shape"):
        false_lesions(blob((5, 5), 0), blob((5, 6), 0))
