"""Pictures: where the colours lie, whatever the image's type."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from weakseg.report.pictures import contours, data_uri, overlay, strip, write_overlay

ORANGE, BLUE = np.array([255, 149, 0]), np.array([0, 200, 255])


def near(picture: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.abs(picture.astype(int) - colour).max(axis=-1) < 40


@pytest.mark.parametrize(
    "image",
    [
        np.full((40, 30), 77, np.uint8),
        np.arange(1200, dtype=np.uint16).reshape(40, 30),
        np.linspace(-5, 9, 1200).reshape(40, 30).astype(np.float32),
        np.full((40, 30, 3), 77, np.uint8),
    ],
    ids=["8 bits", "16 bits", "float", "colour"],
)
def test_the_longest_side_has_the_size_and_the_proportions_stay(image: np.ndarray):
    picture = overlay(image, np.ones((40, 30)), size=100)
    assert picture.shape == (100, 75, 3)
    assert picture.dtype == np.uint8


def test_heat_shows_where_it_is_and_nowhere_else():
    image = np.full((50, 50), 100, np.uint8)
    heat = np.full((50, 50), -1.0)
    heat[:10, :10] = 5.0
    picture = overlay(image, heat, size=50)
    assert (picture[20:, 20:] == 100).all()
    hot = picture[3, 3].astype(int)
    assert hot[0] > hot[2] + 50  # the hot end of the colours is yellow
    scaled = overlay(image, 1000 * heat, size=50)
    np.testing.assert_array_equal(picture, scaled)


@pytest.mark.parametrize("heat", [np.zeros((20, 20)), np.full((20, 20), np.nan)])
def test_a_flat_heatmap_leaves_the_image_as_it_is(heat: np.ndarray):
    image = np.random.default_rng(0).integers(0, 255, (20, 20), dtype=np.uint8)
    np.testing.assert_array_equal(overlay(image, heat), contours(image))


def test_outlines_lie_on_the_border_in_their_colours():
    image = np.zeros((50, 50), np.uint8)
    mask, truth = np.zeros((50, 50), bool), np.zeros((50, 50), bool)
    mask[5:15, 5:15] = True
    truth[30:40, 25:45] = True
    picture = contours(image, mask, truth, size=200)
    rows, columns = np.nonzero(near(picture, ORANGE))
    assert (rows.min(), rows.max()) == pytest.approx((20, 60), abs=3)
    assert (columns.min(), columns.max()) == pytest.approx((20, 60), abs=3)
    rows, columns = np.nonzero(near(picture, BLUE))
    assert (rows.min(), rows.max()) == pytest.approx((120, 160), abs=3)
    assert (columns.min(), columns.max()) == pytest.approx((100, 180), abs=3)
    assert not near(picture, ORANGE)[35:45, 35:45].any()  # an outline, not a filled mask


def test_a_mask_of_the_whole_image_is_outlined_at_the_edge():
    picture = contours(np.zeros((30, 30), np.uint8), np.ones((30, 30), bool), size=90)
    assert near(picture, ORANGE)[:, :3].any()
    assert near(picture, ORANGE)[-3:].any()


def test_shapes_that_differ_are_refused_by_name():
    with pytest.raises(ValueError, match=r"truth must have the image's shape \(20, 20\)"):
        contours(np.zeros((20, 20), np.uint8), truth=np.ones((10, 20), bool))
    with pytest.raises(ValueError, match="heat must have"):
        overlay(np.zeros((20, 20), np.uint8), np.ones((10, 20)))


def test_a_written_overlay_is_a_png_of_two_halves(tmp_path):
    path = tmp_path / "deep" / "a.png"
    image = np.full((40, 60), 50, np.uint8)
    write_overlay(path, image, np.ones((40, 60)), np.ones((40, 60), bool), size=120)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.size == (120 + 4 + 120, 80)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_a_data_uri_holds_the_picture():
    picture = strip([contours(np.full((20, 20), 90, np.uint8), size=40)] * 3)
    kind, _, text = data_uri(picture).partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(text))) as again:
        assert again.size == (3 * 40 + 2 * 4, 40)
