"""Images as the network sees them."""

import numpy as np
import pytest
from PIL import Image

from weakseg.config import DataConfig
from weakseg.data.arrays import ImageBatches, as_channels, channels_of, halved, network_image
from weakseg.data.cases import Case, CaseSet, Labels
from weakseg.data.mapped import MappedStore


@pytest.fixture
def cases(tmp_path):
    rng = np.random.default_rng(0)
    out = []
    for i, shape in enumerate([(40, 20), (20, 40), (64, 64)]):
        Image.fromarray(rng.integers(0, 255, shape).astype(np.uint8)).save(tmp_path / f"{i}.png")
        out.append(Case(f"{i}", tmp_path / f"{i}.png", "a"))
    return out


@pytest.mark.parametrize(
    ("asked", "grey", "expected"),
    [("auto", True, 1), ("auto", False, 3), ("grey", False, 1), ("rgb", True, 3)],
)
def test_channels_are_those_asked_for_or_found(cases, asked, grey, expected):
    found = CaseSet(tuple(cases), Labels(("a",), ("b",)), "labels.csv")
    assert channels_of(found, DataConfig(channels=asked), grey) == expected


def test_luminance_of_equal_channels_is_the_channel():
    grey = np.random.default_rng(0).random((5, 4)).astype(np.float32)
    rgb = as_channels(grey, 3)
    assert rgb.shape == (5, 4, 3)
    np.testing.assert_allclose(as_channels(rgb, 1), grey, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_keeps_its_aspect_and_is_padded_with_zero(channels):
    planes, box = network_image(np.full((40, 20), 255, np.uint8), channels, 64, "auto")
    assert planes.shape == (channels, 64, 64)
    assert (box.height, box.width) == (64, 32)
    assert (planes[:, :, 16:48] == 1).all()
    assert (planes[:, :, :16] == 0).all()
    assert (planes[:, :, 48:] == 0).all()


@pytest.mark.parametrize("limit", [None, 0, 2**30])
def test_batches_are_the_same_kept_or_not(cases, tmp_path, limit):
    data = DataConfig(image_size=32)
    store = None if limit is None else MappedStore(tmp_path, limit)
    batches = ImageBatches(cases, data, 1, store)
    first, again = batches.images([2, 0]), batches.images([2, 0])
    assert (first == again).all()
    assert [b.original for b in batches.boxes([2, 0])] == [(64, 64), (40, 20)]
    alone = network_image(np.asarray(Image.open(cases[0].image)), 1, 32, "auto")[0]
    np.testing.assert_allclose(first[1].numpy(), alone, atol=1e-3)


@pytest.mark.filterwarnings("error")
def test_mirrored_and_read_only_arrays_are_halved_too():
    whole = np.random.default_rng(0).random((3, 6, 4)).astype(np.float32)
    locked = whole.copy()
    locked.flags.writeable = False
    turned = np.moveaxis(whole, 0, -1)[:, ::-1]
    for array in (whole, whole[:, ::-1], locked, locked[..., ::-1], turned):
        np.testing.assert_array_equal(halved(array), array.astype(np.float16))
    # As numpy lays it out, so that batches do not depend on who has rounded.
    assert halved(turned).strides == turned.astype(np.float16).strides
