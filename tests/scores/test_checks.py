"""What counts as a mask, and what is said of what is none."""

import numpy as np
import pytest

from weakseg.scores.checks import as_mask


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4)])
def test_numbers_0_and_1_become_booleans_of_images_and_volumes(shape):
    for dtype in (np.uint8, np.int64, np.float32):
        made = as_mask("pred", np.ones(shape, dtype))
        assert made.dtype == bool
        assert made.shape == shape
    held = np.zeros(shape, bool)
    assert as_mask("pred", held) is held


@pytest.mark.parametrize("shape", [(5,), (1, 2, 3, 4)])
def test_other_numbers_of_dimensions_are_refused(shape):
    with pytest.raises(ValueError, match="pred must have 2 or 3 dimensions"):
        as_mask("pred", np.zeros(shape))


@pytest.mark.parametrize(("count", "said"), [(5, "0, 1, 2, 3, 4;"), (6, r"0, 1, 2, 3, 4, \.\.\.;")])
def test_five_values_are_shown_and_more_are_hinted_at(count, said):
    with pytest.raises(ValueError, match=f"got values {said}"):
        as_mask("truth", np.arange(count)[None])
