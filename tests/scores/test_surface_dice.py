"""Normalised surface Dice against MONAI's, and cases by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import compute_surface_dice

from weakseg.scores import score_case
from weakseg.scores.surface_dice import normalised_surface_dice

from .blobs import blob


def of_monai(pred, truth, tolerance, spacing):
    one = [torch.from_numpy(m[None, None].astype(np.float32)) for m in (pred, truth)]
    found = compute_surface_dice(*one, [tolerance], include_background=True, spacing=spacing)
    return float(found[0, 0])


@pytest.mark.parametrize("shape", [(30, 40), (16, 20, 12)])
@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("steps", [None, (0.5, 2.0, 1.5)])
def test_as_monai(shape, tolerance, steps):
    spacing = None if steps is None else steps[: len(shape)]
    for seed in range(4):
        pred, truth = blob(shape, seed), blob(shape, seed + 10)
        found = normalised_surface_dice(pred, truth, spacing, tolerance)
        assert found == pytest.approx(of_monai(pred, truth, tolerance, spacing), abs=1e-6)


def test_by_hand():
    """Two rows of three pixels, two apart: none within 1, all within 2."""
    pred, truth = np.zeros((2, 6, 3), bool)
    pred[1], truth[3] = True, True
    assert normalised_surface_dice(pred, truth, tolerance=1) == 0
    assert normalised_surface_dice(pred, truth, tolerance=2) == 1
    assert normalised_surface_dice(pred, truth, spacing=(0.5, 1), tolerance=1) == 1
    pred[3, 0] = True  # of the 4 + 3 border pixels that one, and two of the row beside it
    assert normalised_surface_dice(pred, truth, tolerance=1) == pytest.approx(3 / 7)


def test_empty_masks():
    nothing, lesion = np.zeros((5, 5), bool), np.eye(5, dtype=bool)
    assert normalised_surface_dice(nothing, nothing) == 1
    assert normalised_surface_dice(nothing, lesion) == normalised_surface_dice(lesion, nothing) == 0
    assert score_case(nothing, lesion)["nsd"] == 0
    assert np.isnan(score_case(lesion, nothing)["nsd"])


@given(st.integers(0, 99), st.integers(0, 99), st.floats(0, 20))
def test_it_is_symmetric_and_grows_with_the_tolerance(a, b, tolerance):
    one, two = blob((20, 24), a), blob((20, 24), b)
    found = normalised_surface_dice(one, two, tolerance=tolerance)
    assert 0 <= found <= 1
    assert found == normalised_surface_dice(two, one, tolerance=tolerance)
    assert found <= normalised_surface_dice(one, two, tolerance=tolerance + 1)


def test_a_negative_tolerance_is_refused():
    with pytest.raises(ValueError, match="tolerance must not be negative"):
        normalised_surface_dice(np.eye(3), np.eye(3), tolerance=-1)
