"""The body region: found where there is a background, the whole image where there is none."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from skimage.draw import disk
from skimage.io import imread

from weakseg.data.phantom_slices import phantom_slices
from weakseg.masks.region import _is_background, _solid, body_region, brightness

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def _disk_image(noise: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """A grey disk with a bright rim and a black hole, on a noisy dark background."""
    rng = np.random.default_rng(0)
    body = np.zeros((100, 120), dtype=bool)
    body[disk((50, 60), 35)] = True
    image = np.where(body, 0.3, 0.0)
    rim = body.copy()
    rim[disk((50, 60), 32)] = False
    image[rim] = 1.0
    image[disk((55, 50), 8)] = 0.0
    return np.abs(image + rng.normal(0, noise, image.shape)), body


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def test_a_disk_is_found_with_its_hole_filled() -> None:
    image, body = _disk_image()
    region = body_region(image)
    assert region.shape == image.shape
    assert region.dtype == bool
    assert _iou(region, body) > 0.93
    assert region[55, 50]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_any_type_gives_the_same_region(dtype: type) -> None:
    image, body = _disk_image()
    assert _iou(body_region((image * 250).astype(dtype)), body) > 0.93


def test_a_shifted_scale_gives_the_same_region() -> None:
    image, _ = _disk_image()
    np.testing.assert_array_equal(body_region(image * 1000 - 1024), body_region(image))


def test_channels_are_averaged() -> None:
    image, _ = _disk_image()
    np.testing.assert_array_equal(body_region(np.stack([image] * 3, axis=-1)), body_region(image))
    np.testing.assert_allclose(brightness([[[1, 2, 6]]]), [[3.0]])


def test_small_bright_specks_outside_are_left_out() -> None:
    image, _ = _disk_image()
    image[5:9, 5:9] = 1.0
    assert not body_region(image)[:15, :15].any()


def test_not_finite_values_count_as_dark() -> None:
    image, body = _disk_image()
    image[0, 0], image[0, 1] = np.nan, np.inf
    assert _iou(body_region(image), body) > 0.93


def _gradient() -> np.ndarray:
    """Brighter above than below, like an ultrasound image with a shadow at its foot."""
    rng = np.random.default_rng(1)
    return np.linspace(1.0, 0.02, 90)[:, None] * rng.uniform(0.5, 1.0, (90, 120))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 30)),
        np.full((20, 30), 7.5),
        np.full((20, 30), np.nan),
        np.full((20, 30), 200, dtype=np.uint8),
        np.random.default_rng(0).uniform(0.4, 1.0, (60, 60)),
        _gradient(),
        np.ones((1, 1)),
    ],
    ids=["black", "constant", "nan", "white", "texture", "shadow", "one pixel"],
)
def test_without_a_background_the_region_is_the_whole_image(image: np.ndarray) -> None:
    assert body_region(image).all()
    assert body_region(image).shape == image.shape


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5), (0, 4)])
def test_a_wrong_shape_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="image must be"):
        body_region(np.zeros(shape))


def test_the_phantoms_heads_are_found() -> None:
    for s in phantom_slices(3, 8, 96, 2):
        region = body_region(s.image)
        assert 0.08 < region.mean() < 0.85
        assert region[s.mask].all()
        assert not region[:, 0].all()
        assert np.median(s.image[~region]) < 0.3 * np.median(s.image[region])


def test_real_heads_are_found_and_no_lesion_is_cut() -> None:
    folder = SHARED / "lgg_flair_dev"
    if not folder.is_dir():
        pytest.skip(f"the real images are not here: {folder}")
    with (folder / "labels.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["label"] == "tumor"][::20]
    shares = []
    for row in rows:
        image, truth = imread(folder / row["image"]), imread(folder / row["mask"]) > 0
        region = body_region(image)
        assert (region & truth).sum() >= 0.98 * truth.sum(), row["image"]
        shares.append(region.mean())
    assert 0.3 < np.median(shares) < 0.6
    assert np.mean(np.array(shares) == 1) < 0.1


def test_real_ultrasound_is_taken_whole() -> None:
    folder = SHARED / "busi_dev"
    if not folder.is_dir():
        pytest.skip(f"the real images are not here: {folder}")
    paths = sorted((folder / "images").iterdir())[::20]
    assert np.mean([body_region(imread(p)).all() for p in paths]) > 0.9


# Each limit, by hand


def test_parts_from_a_tenth_of_the_largest_on_are_kept_and_their_holes_filled() -> None:
    mask = np.zeros((30, 30), dtype=bool)
    mask[1:12, 1:11] = True  # 110 pixels, 10 of them a hole
    mask[3:5, 3:8] = False
    mask[20, 5:15] = True  # 10
    mask[25, 5:14] = True  # 9
    found = _solid(mask)
    assert found.dtype == bool
    wanted = mask.copy()
    wanted[3:5, 3:8], wanted[25] = True, False
    np.testing.assert_array_equal(found, wanted)


def test_of_nothing_nothing_is_solid_and_of_one_pixel_that_pixel() -> None:
    mask = np.zeros((6, 7), dtype=bool)
    assert not _solid(mask).any()
    mask[2, 3] = True
    np.testing.assert_array_equal(_solid(mask), mask)


def _border(count: int, corners: int = 3) -> np.ndarray:
    """Pixels of the border of 20 × 20 alone, of which there are 76: corners and some between."""
    rest = np.zeros((20, 20), dtype=bool)
    for y, x in [(0, 0), (0, 19), (19, 0), (19, 19)][:corners]:
        rest[y, x] = True
    places = [(0, x) for x in range(3, 17)] + [(y, 0) for y in range(3, 17)] + [(19, 9), (19, 10)]
    for y, x in places[: count - corners]:
        rest[y, x] = True
    assert rest.sum() == count
    return rest


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (_border(31), True),  # 0.408 of the border
        (_border(30), False),  # 0.395
        (_border(31, corners=2), False),
        (np.zeros((20, 20), bool), False),
    ],
)
def test_a_background_holds_two_fifths_of_the_border_and_three_corners(
    rest: np.ndarray, expected: bool
) -> None:
    assert _is_background(rest, np.zeros((20, 20))) is expected


def test_two_fifths_of_the_border_are_enough() -> None:
    rest = np.zeros((6, 6), dtype=bool)  # 20 pixels of border
    rest[0], rest[5, 0], rest[2, 0] = True, True, True
    assert _is_background(rest, np.zeros((6, 6)))


@pytest.mark.parametrize(("body", "expected"), [(1, False), (7, False), (8, True), (100, True)])
def test_a_body_takes_two_in_a_hundred(body: int, expected: bool) -> None:
    rest = np.ones(400, dtype=bool)
    rest[150 : 150 + body] = False
    assert _is_background(rest.reshape(20, 20), np.zeros((20, 20))) is expected


@pytest.mark.parametrize(("level", "expected"), [(0.1, True), (0.1001, False)])
def test_a_background_is_dark(level: float, expected: bool) -> None:
    rest = np.ones((20, 20), dtype=bool)
    rest[5:15, 5:15] = False
    # Half of it is darker, half is brighter; the body does not count.
    values = np.where(rest, level, 1.0)
    values[0], values[19] = 0.0, 0.9
    assert _is_background(rest, values) is expected


def test_a_corner_is_background_where_more_than_half_of_it_is() -> None:
    rest = np.ones((40, 40), dtype=bool)  # corners of 2 × 2
    rest[10:30, 10:30] = False
    rest[:2, 0] = rest[:2, 39] = False
    assert not _is_background(rest, np.zeros((40, 40)))
    rest[0, 0] = True
    assert _is_background(rest, np.zeros((40, 40)))
