"""Counts on labels, by hand and as scikit-learn counts them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from weakseg.scores.on_labels import OnLabels, added_up, counts

MOST = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30)


def test_by_hand():
    found = counts([1, 1, 1, 0, 0], [1, 0, 1, 1, 0])
    assert found == {"found": 2, "lesions": 3, "marked": 1, "healthy": 2}
    whole = added_up([found, {"found": 1, "lesions": 1, "marked": 0, "healthy": 2}])
    assert whole == OnLabels(3, 4, 1, 4)
    assert whole.youden == pytest.approx(0.5)
    assert whole.told == "finds 3 of 4 lesions, marks 1 of 4 healthy images"


@pytest.mark.parametrize("labels", [[1, 1], [0]])
def test_of_one_kind_of_image_there_is_nothing_to_tell(labels):
    assert added_up([counts(labels, labels)]) is None
    assert added_up([]) is None


def test_equal_indices_are_equal():
    """Though 3 / 10 - 1 / 10 is less than 2 / 10 to a computer."""
    assert OnLabels(3, 10, 1, 10).youden == OnLabels(2, 10, 0, 10).youden
    assert OnLabels(3, 10, 1, 10).youden == OnLabels(6, 20, 3, 30).youden


@given(MOST)
def test_the_index_is_that_of_balanced_accuracy(pairs):
    lesion, marked = (np.array(x) for x in zip(*pairs, strict=True))
    whole = added_up([counts(lesion, marked)])
    if lesion.all() or not lesion.any():
        assert whole is None
    else:
        expected = 2 * balanced_accuracy_score(lesion, marked) - 1
        assert whole.youden == pytest.approx(expected, abs=1e-12)
