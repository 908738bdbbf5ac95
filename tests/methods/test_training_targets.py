"""Masks of training images of which the network would see nothing."""

import numpy as np
import pytest

from weakseg.config import SegmenterConfig
from weakseg.data.targets import PackedTargets
from weakseg.errors import UserError
from weakseg.methods.training_targets import seen_targets


def targets(*sides: int) -> PackedTargets:
    """A square lesion of each side, astride four pixels of a network that sees a quarter."""
    made = PackedTargets()
    for k, side in enumerate(sides):
        target = np.zeros((512, 512), dtype=np.uint8)
        target[255 : 255 + side, 255 : 255 + side] = 1
        made[k] = target
    return made


def test_what_the_network_would_not_see_is_left_out_and_that_is_said(capsys):
    settings = SegmenterConfig(image_size=128)
    assert list(seen_targets(None, settings, "weak", targets(2, 9, 30))) == [1, 2]
    said = capsys.readouterr().err
    assert "segmenter weak: 1 training image of 3 left out" in said
    assert "too small to be seen at 128 pixels" in said
    assert list(seen_targets(None, settings, "weak", targets(9, 30))) == [0, 1]
    assert capsys.readouterr().err == ""


def test_where_nothing_is_left_a_larger_size_is_asked_for():
    with pytest.raises(UserError, match=r"too small(.|\n)*segmenters\.weak\.image_size"):
        seen_targets(None, SegmenterConfig(image_size=128), "weak", targets(2, 2))
