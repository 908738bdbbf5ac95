"""A place in the image stays where it is, there and back, at every proportion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weakseg.data.geometry import letterbox, mask_to_network, to_network, to_original

SHAPES = st.tuples(st.integers(1, 300), st.integers(1, 300))
SIZES = st.sampled_from([32, 64, 65, 128, 224])


@pytest.mark.parametrize(
    ("shape", "size", "box"),
    [
        ((100, 100), 64, (0, 0, 64, 64)),
        ((50, 100), 64, (16, 0, 32, 64)),
        ((100, 50), 65, (0, 16, 65, 32)),
        ((1, 1000), 32, (15, 0, 1, 32)),
        ((3, 4), 128, (16, 0, 96, 128)),
    ],
)
def test_where_the_image_lies(shape, size, box):
    b = letterbox(shape, size)
    assert (b.top, b.left, b.height, b.width) == box
    assert (b.original, b.size) == (shape, size)


def test_sides_below_one_are_refused():
    with pytest.raises(ValueError, match="0 × 5"):
        letterbox((0, 5), 32)


@given(SHAPES, SIZES)
def test_the_longer_side_fills_the_square_and_the_shorter_is_centred(shape, size):
    H, W = shape
    b = letterbox(shape, size)
    assert max(b.height, b.width) == size
    assert abs(2 * b.top + b.height - size) <= 1
    assert abs(2 * b.left + b.width - size) <= 1
    assert abs(min(b.height, b.width) - min(H, W) * size / max(H, W)) <= 1


@given(SHAPES, SIZES, st.booleans(), st.floats(0.25, 1.0, width=32))
def test_a_constant_stays_constant_and_padding_is_zero(shape, size, colour, value):
    H, W = shape
    image = np.full((H, W, 3) if colour else shape, value, dtype=np.float32)
    b = letterbox(shape, size)
    square = to_network(image, b)
    assert square.dtype == np.float32
    assert square.shape == ((size, size, 3) if colour else (size, size))
    inside = np.zeros((size, size), dtype=bool)
    inside[b.top : b.top + b.height, b.left : b.left + b.width] = True
    np.testing.assert_allclose(square[inside], value, rtol=1e-5)
    assert not square[~inside].any()


@given(SHAPES, SIZES, st.integers(1, 20), st.integers(1, 300))
def test_a_constant_map_of_any_resolution_stays_constant(shape, size, h, w):
    out = to_original(np.full((h, w), 3.5, dtype=np.float32), letterbox(shape, size))
    assert out.shape == shape
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, 3.5, rtol=1e-5)


def centre(heat: np.ndarray) -> np.ndarray:
    y, x = np.indices(heat.shape)
    return np.array([(heat * y).sum(), (heat * x).sum()]) / heat.sum()


@given(
    st.tuples(st.integers(40, 300), st.integers(40, 300)),
    SIZES,
    st.floats(0.25, 0.75),
    st.floats(0.25, 0.75),
)
def test_a_planted_blob_comes_back_to_its_place(shape, size, fy, fx):
    H, W = shape
    y, x = np.indices((H, W))
    sigma = max(2.0, 2.0 * max(H, W) / size)
    blob = np.exp(-((y - fy * (H - 1)) ** 2 + (x - fx * (W - 1)) ** 2) / (2 * sigma**2))
    b = letterbox(shape, size)
    back = to_original(to_network(blob, b), b)
    # Sides are rounded to whole pixels of the square, which moves points by up to half of one.
    pixel = max(1.0, max(H, W) / size)
    assert np.abs(centre(back) - centre(blob)).max() <= 0.3 * pixel
    peak = np.unravel_index(back.argmax(), back.shape)
    assert np.abs(np.array(peak) - (fy * (H - 1), fx * (W - 1))).max() <= 1 + pixel


@pytest.mark.parametrize("shape", [(200, 120), (90, 250), (64, 64)])
def test_a_coarse_map_points_at_the_blob_that_it_was_made_of(shape):
    """As a network does: the square's mean over cells of 8 pixels is the map."""
    y, x = np.indices(shape)
    at = (0.3 * shape[0], 0.6 * shape[1])
    blob = np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * (0.1 * max(shape)) ** 2))
    b = letterbox(shape, 128)
    cells = to_network(blob, b).reshape(16, 8, 16, 8).mean(axis=(1, 3))
    assert np.abs(centre(to_original(cells, b)) - centre(blob)).max() <= 0.03 * max(shape)


@pytest.mark.parametrize("shape", [(7, 7), (13, 5), (4, 9)])
def test_enlarging_is_bilinear_with_half_pixel_centres_as_in_torch(shape):
    heat = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    tensor = torch.from_numpy(heat)[None, None]
    expected = torch.nn.functional.interpolate(
        tensor, size=(128, 128), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    np.testing.assert_allclose(to_original(heat, letterbox((128, 128), 128)), expected, atol=1e-5)


def test_shrinking_averages_over_areas():
    stripes = np.tile(np.array([0, 0, 0, 1], dtype=np.float32), (128, 32))
    np.testing.assert_allclose(to_network(stripes, letterbox((128, 128), 32)), 0.25, atol=1e-6)


@pytest.mark.parametrize(("rule", "pixels"), [("most", 1), ("half", 3), ("any", 4)])
def test_a_pixel_of_a_mask_that_is_shrunk_follows_the_rule(rule, pixels):
    mask = np.zeros((64, 64), dtype=bool)
    mask[10:13, 20:23] = True  # one pixel whole, two half, one a quarter
    found = mask_to_network(mask, letterbox((64, 64), 32), rule=rule)
    assert found.sum() == pixels
    assert found[5, 10]
    assert found[5:7, 10:12].sum() == pixels


def test_enlarging_adds_no_overshoot():
    image = np.zeros((10, 10), dtype=np.float32)
    image[:, 5:] = 1
    square = to_network(image, letterbox((10, 10), 64))
    assert (square.min(), square.max()) == (0, 1)


def test_wrong_shapes_are_refused():
    b = letterbox((10, 20), 32)
    with pytest.raises(ValueError, match=r"\(20, 10\)"):
        to_network(np.zeros((20, 10)), b)
    with pytest.raises(ValueError, match=r"\(4, 4, 3\)"):
        to_original(np.zeros((4, 4, 3)), b)
