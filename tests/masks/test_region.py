"""The body region: found where there is a background, the whole image where there is none."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import disk
from skimage.io import imread

from weakseg.data.phantom_slices import phantom_slices
from weakseg.masks.region import _is_background, _solid, body_region, brightness, unit_range

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
    region = body_region(image)
    assert region.all()
    assert (region.dtype, region.shape) == (bool, image.shape)


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
    # Its outermost pixel says nothing by itself.
    rest[:2, 0] = rest[:2, 39] = True
    rest[0, 0] = rest[0, 39] = False
    assert _is_background(rest, np.zeros((40, 40)))


@pytest.mark.parametrize("missing", range(4))
def test_any_three_corners_will_do_and_two_will_not(missing: int) -> None:
    """Corners of 5 × 2 pixels; all of the rest is body, but for a border between the corners."""
    rest = np.zeros((100, 40), dtype=bool)
    rest[10:90, 0] = rest[10:90, -1] = True  # 160 of 276 pixels of the border
    corners = [(slice(0, 5), slice(0, 2)), (slice(0, 5), slice(-2, None))]
    corners += [(slice(-5, None), s[1]) for s in corners]
    for k, corner in enumerate(corners):
        rest[corner] = k != missing
    assert _is_background(rest, np.zeros(rest.shape))
    rest[corners[missing - 1]] = False
    assert not _is_background(rest, np.zeros(rest.shape))


def _plain() -> tuple[np.ndarray, np.ndarray]:
    """A body of brightness 1 on black, 150 × 120 pixels: smoothed with an sd of one pixel."""
    body = np.zeros((150, 120), dtype=bool)
    body[disk((75, 60), 40)] = True
    return body.astype(float), body


def test_the_smoothing_s_sd_is_a_hundred_and_fiftieth_of_the_longer_side(monkeypatch) -> None:
    asked, smooth = [], ndimage.gaussian_filter
    monkeypatch.setattr(ndimage, "gaussian_filter", lambda i, sd: asked.append(sd) or smooth(i, sd))
    body_region(np.eye(300, 60))
    body_region(np.eye(30, 75))
    assert asked == [2.0, 0.5]


@pytest.mark.parametrize("dark", [np.nan, -np.inf])
def test_a_background_that_is_not_finite_is_dark(dark: float) -> None:
    image, body = _plain()
    expected = body_region(image)
    assert _iou(expected, body) > 0.9
    image[:20] = image[:, -15:] = dark
    np.testing.assert_array_equal(body_region(image), expected)
    # As dark as the darkest, which need not be 0.
    np.testing.assert_array_equal(body_region(image - 1000), expected)


@pytest.mark.parametrize(("grey", "found"), [(0.09, True), (0.11, False)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_dark_is_a_tenth_of_the_99th_percentile_whatever_is_brighter(grey, found, scale) -> None:
    """The background lies at a share of the body; the darkest is a patch of 0 in the corner.

    Of 18,000 pixels 25, smeared over 121, are a hundred times brighter than the body: less than
    one in a hundred.
    """
    image, body = _plain()
    image[~body] = grey
    image[60:65, 55:60] = 100
    image[145:, 115:] = 0
    region = body_region(scale * image)
    if found:
        assert _iou(region, body) > 0.9
    else:
        assert region.all()


@pytest.mark.parametrize(("step", "found"), [(1e-7, False), (1e-5, True)])
@pytest.mark.parametrize("level", [1.0, 300.0, -300.0])
def test_rounding_errors_are_no_body(step: float, found: bool, level: float) -> None:
    image, body = _plain()
    region = body_region(level + abs(level) * step * image)
    if found:
        assert _iou(region, body) > 0.9
    else:
        assert region.all()


def test_a_range_that_overflows_has_no_background() -> None:
    _, body = _plain()
    with np.errstate(over="ignore"):
        assert body_region(np.where(body, 1.7e308, -1.7e308)).all()


def test_an_even_image_is_judged_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    for image in (np.zeros((20, 30)), np.full((20, 30), 7.5)):
        assert body_region(image).all()
    assert not recwarn.list


def test_values_are_spread_over_the_unit_range() -> None:
    np.testing.assert_array_equal(
        unit_range(np.array([[-3.0, 1.0], [5.0, 3.0]])), [[0, 0.5], [1, 0.75]]
    )
    np.testing.assert_allclose(unit_range(np.array([[2.0, 2.25, 2.5]])), [[0, 0.5, 1]])
    even = unit_range(np.full((2, 3), 4.0))
    assert (even.dtype, even.tolist()) == (float, [[0.0] * 3] * 2)


def test_a_level_at_the_very_threshold_is_dark(monkeypatch) -> None:
    image, body = _plain()
    monkeypatch.setattr("skimage.filters.threshold_otsu", np.min)
    region = body_region(image)
    assert region[body].all()
    assert 0 < (region & ~body).sum() < body.sum()  # what the smoothing has reached
    assert not region.all()
