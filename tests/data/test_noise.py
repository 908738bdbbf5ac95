"""How noisy images are told to be, by noise of a known deviation, and what smoothing leaves."""

from dataclasses import replace

import numpy as np
import pytest

from tests.data.helpers import save, save_volume
from tests.dicom_files import CR, header, with_pixels
from tests.dicom_files import save as save_dicom
from weakseg.config import DataConfig
from weakseg.data.arrays import network_volume
from weakseg.data.case_files import case_image, case_values, network_input
from weakseg.data.cases import Case
from weakseg.data.looks import look_at_case
from weakseg.data.noise import SIDE, noise_share, quieter, quieter_volume, volume_noise
from weakseg.data.slices import slices_noise
from weakseg.data.volumes import read_case
from weakseg.errors import DataError


def organ(size=96, level=0.5):
    """A bright disc with a brighter, sharp spot, before black."""
    y, x = np.mgrid[:size, :size] - size / 2
    r = np.hypot(x, y)
    image = np.where(r < 0.45 * size, level, 0.0)
    return np.where(np.hypot(x - 10, y) < 12, 1.4 * level, image).astype(np.float32)


def noisy(image, sd, seed=0):
    """More noise where there is tissue; what is black stays black."""
    added = sd * np.random.default_rng(seed).standard_normal(image.shape)
    return np.where(image > 0, image + added, 0).astype(np.float32)


@pytest.mark.parametrize("sd", [0.02, 0.05, 0.1])
def test_noise_of_a_known_deviation_is_told_beside_its_tissue(sd):
    found = noise_share(noisy(organ(), sd))
    assert found == pytest.approx(sd / 0.5, rel=0.1)
    # A share of the tissue's: half as bright in all is as noisy.
    assert noise_share(noisy(organ(), sd) / 2) == pytest.approx(found, rel=1e-3)
    assert noise_share(np.repeat(noisy(organ(), sd)[..., None], 3, 2)) == pytest.approx(found)


def test_edges_and_slopes_are_no_noise():
    assert noise_share(organ()) == 0
    y, x = np.mgrid[:80, :80] / 79
    assert noise_share(0.3 + 0.5 * y * x) < 1e-3
    assert noise_share(np.where(x > 0.5, 0.9, 0.4)) < 1e-6


def test_too_dark_or_too_little_tissue_tells_nothing():
    assert noise_share(np.zeros((64, 64))) is None
    assert noise_share(organ(level=0.04)) is None
    dot = np.zeros((100, 100))
    dot[40:55, 40:55] = 0.6  # 2 % of it
    assert noise_share(dot) is None


def test_noise_as_strong_as_the_tissue_is_told():
    found = noise_share(noisy(organ(), 0.4).clip(0, 1))
    assert found is not None
    assert found > 0.3


@pytest.mark.parametrize("size", [96, 3 * SIDE])
def test_clipped_parts_hide_no_noise(size):
    image = noisy(organ(size), 0.05)
    expected = noise_share(image)
    left = np.arange(size) < size // 2
    clipped = np.where(left & (image > 0), 1.0, image).astype(np.float32)
    assert noise_share(clipped) == pytest.approx(expected, rel=0.1)
    # Clipped by too narrow a window, most of the disc; the same in 8 bits and below white.
    shown = (image + np.where(np.arange(size) < 0.7 * size, 0.6, 0) * (image > 0)).clip(0, 1)
    eight = np.round(200 * shown).astype(np.uint8)
    for seen in (shown, eight / np.float32(255)):
        assert noise_share(seen) == pytest.approx(expected, rel=0.15)
    assert noise_share((image > 0).astype(np.float32)) is None
    made = quieter(eight)
    assert noise_share(made / np.float32(255)) < 0.4 * expected


def flat(size=96, *levels):
    """Discs of one value each, one within the other, before black."""
    y, x = np.mgrid[:size, :size] - size / 2
    r, image = np.hypot(x, y), np.zeros((size, size), np.float32)
    for k, level in enumerate(levels):
        image[r < 0.45 * size / (1 + k / 2)] = level
    return image


@pytest.mark.parametrize("size", [96, 3 * SIDE])
def test_flat_images_that_are_not_white_have_no_noise(size):
    for levels in ((0.8,), (0.4, 0.8), (0.75, 0.8)):
        image = flat(size, *levels)
        assert noise_share(image) == pytest.approx(0, abs=1e-6)
    assert noise_share(flat(size, 1.0)) is None
    assert noise_share(flat(size, 254 / 255)) is None
    # Beside what has noise even a grey that is the highest value is clipped.
    rest = flat(size, 0.5)
    rest[: round(0.92 * size)] = 0
    dim = np.where(rest > 0, noisy(rest, 0.1).clip(0, 0.79), flat(size, 0.8))
    assert noise_share(dim) is None


@pytest.mark.parametrize("window", ["auto", "percentiles", "file"])
def test_flat_images_that_are_stretched_have_no_noise_either(tmp_path, window):
    """White is the end of their own range, and not what a scanner has clipped."""
    deep = np.round(3000 * flat(96, 0.8)).astype(np.uint16)
    loud = np.round(3000 * noisy(flat(96, 0.8), 0.1).clip(0)).astype(np.uint16)
    files = [save(tmp_path / "flat.png", deep), save(tmp_path / "loud.png", loud)]
    stack = np.stack([deep.T] * 6, axis=2).astype(np.int16)
    data = DataConfig(window=window)
    cases = [Case("c", f, "") for f in files]
    cases += [Case("v", save_volume(tmp_path / "v.nii.gz", stack), "", slice=3, volume="v")]
    still, noisy_one, middle = (look_at_case(c, data).noise for c in cases)
    assert (still, middle) == (0, 0)
    assert noisy_one > 0.1
    smoothed = case_image(replace(cases[1], smooth_above=(0.05,)), data)
    assert (smoothed != case_image(cases[1], data)).any()


@pytest.mark.parametrize(
    ("deep", "seen", "expected"),
    [
        (False, {"window": "file"}, None),  # 8 bits have a white of their own
        (False, {"window": "file", "intensity": "percentile"}, 0),
        (True, {"window": (1500, 3000)}, 0),  # 0.8 of it, below white
        (True, {"window": (1000, 2000)}, None),
    ],
)
def test_what_a_window_or_a_type_makes_white_is_clipped(tmp_path, deep, seen, expected):
    image = np.round(2400 * flat(96, 1)).astype(np.uint16) if deep else np.uint8(255 * flat(96, 1))
    case = Case("c", save(tmp_path / "c.png", image), "")
    assert look_at_case(case, DataConfig(**seen)).noise == expected


@pytest.mark.parametrize("intensity", ["auto", "percentile"])
def test_colours_of_dicom_have_no_window_that_clips(tmp_path, intensity):
    colour = np.repeat(np.uint8(255 * flat(96, 1.0))[..., None], 3, axis=2)
    path = save_dicom(tmp_path / "c.dcm", with_pixels(header(CR), colour, "RGB"))
    data = DataConfig(window=(40, 80), intensity=intensity)
    expected = 0 if intensity == "percentile" else None
    assert look_at_case(Case("c", path, ""), data).noise == expected


def test_a_slice_is_smoothed_as_its_volume_is_scaled(tmp_path):
    """Where most of it is its range's end, that end is tissue where there is hardly other."""
    rng = np.random.default_rng(0)
    plane = 1000 * flat(96, 1.0)
    some = rng.random(plane.shape) < 0.3
    plane = np.where(some & (plane > 0), plane - rng.integers(100, 400, plane.shape), plane)
    volume = np.stack([plane.T] * 4, axis=2).astype(np.int16)
    case = Case("v", save_volume(tmp_path / "v.nii.gz", volume), "", slice=1, volume="v")
    image = case_image(case, DataConfig())
    made = case_image(replace(case, smooth_above=(0.001,)), DataConfig())
    np.testing.assert_array_equal(made, quieter(image, "dtype", stretched=True))


def test_flat_volumes_have_no_noise():
    volume = np.stack([flat(64, 0.8)] * 6, axis=2)
    assert volume_noise(volume) == 0
    assert volume_noise(1000 * volume) == 0
    np.testing.assert_array_equal(quieter_volume(volume), volume)


def test_a_volume_that_is_clipped_in_parts_tells_and_loses_its_noise():
    volume = volume_of(0.1)
    clipped = volume.copy()
    clipped[:, :40] = np.where(volume[:, :40] > 0, 1.0, 0.0)
    assert volume_noise(clipped) == pytest.approx(volume_noise(volume), rel=0.15)
    made = quieter_volume(clipped)
    assert volume_noise(made) < 0.5 * volume_noise(clipped)


def test_large_images_are_shrunk_first():
    size = 4 * SIDE
    flat = np.full((size, size), 0.5)
    noise = 0.1 * np.random.default_rng(0).standard_normal(flat.shape)
    # The mean of 4 x 4 pixels has a quarter of their deviation.
    assert noise_share(flat + noise) == pytest.approx(0.1 / 0.5 / 4, rel=0.1)


@pytest.mark.parametrize("seed", [0, 1])
def test_smoothing_takes_noise_and_leaves_edges(seed):
    truth, image = organ(), noisy(organ(), 0.08, seed).clip(0, 1)
    made = quieter(image, "dtype")
    assert made.dtype == np.float32
    assert noise_share(made) < 0.3 * noise_share(image)
    assert np.abs(made - truth).mean() < 0.5 * np.abs(image - truth).mean()
    row = made[48]
    assert row[66:69].mean() > 1.2 * row[36:42].mean()  # the spot is still there


def test_types_and_ranges_are_kept():
    image = noisy(organ(), 0.05).clip(0, 1)
    eight = np.round(255 * image).astype(np.uint8)
    made = quieter(eight)
    assert made.dtype == np.uint8
    wide = quieter(eight.astype(np.uint16) * 257)  # 8 bits that were widened
    np.testing.assert_array_equal(wide, made)
    deep = quieter(np.round(3000 * image).astype(np.uint16))
    assert deep.dtype == np.uint16
    assert abs(int(deep.max()) - 3000 * 0.7) < 300
    colour = quieter(np.repeat(eight[..., None], 3, axis=2))
    assert colour.shape == (*eight.shape, 3)
    still = np.full((32, 32), 90, dtype=np.uint8)
    np.testing.assert_array_equal(quieter(still), still)
    np.testing.assert_array_equal(quieter(0 * still), 0 * still)


def test_a_case_is_smoothed_only_above_its_limit(tmp_path):
    data = DataConfig()
    eight = np.round(255 * noisy(organ(), 0.05).clip(0, 1)).astype(np.uint8)
    case = Case("a", save(tmp_path / "a.png", eight), "")
    noise = noise_share(eight / np.float32(255))
    for limit in ((), (None,), (1.1 * noise,)):
        np.testing.assert_array_equal(case_image(replace(case, smooth_above=limit), data), eight)
    made = case_image(replace(case, smooth_above=(0.9 * noise,)), data)
    np.testing.assert_array_equal(made, quieter(eight))
    assert (made != eight).any()


def test_slices_are_smoothed_each_by_itself_with_their_neighbours(tmp_path):
    volume = np.stack([noisy(organ(), sd, k) for k, sd in enumerate([0.0, 0.1, 0.0])], axis=2)
    path = save_volume(tmp_path / "v.nii.gz", volume, np.eye(4))
    case = Case("v", path, "", slice=1, volume="v")
    data = DataConfig(neighbours=True)
    plain, made = (network_input(replace(case, smooth_above=s), data) for s in ((), (0.05,)))
    np.testing.assert_array_equal(made[..., [0, 2]], plain[..., [0, 2]])
    np.testing.assert_array_equal(made[..., 1], quieter(plain[..., 1], "dtype"))
    assert (made[..., 1] != plain[..., 1]).any()


def volume_of(sd, n=12, size=64, seed=0):
    """Planes of `organ` across the last axis, the first and last black; (Y, X, Z)."""
    planes = [noisy(organ(size), sd, seed + k) for k in range(n)]
    return np.stack([0 * planes[0], *planes[1:-1], 0 * planes[0]], axis=2)


@pytest.mark.parametrize("sd", [0.02, 0.1])
def test_noise_of_a_volume_is_that_of_its_planes_whatever_its_unit_and_axes(sd):
    volume = volume_of(sd)
    found = volume_noise(volume)
    assert found == pytest.approx(sd / 0.5, rel=0.1)
    assert volume_noise(volume * 1800) == pytest.approx(found, rel=1e-3)
    short = np.round(volume * 1000).astype(np.int16)
    assert volume_noise(short) == pytest.approx(found, rel=0.02)
    # Thick slices that are stored along another axis, and turned.
    assert volume_noise(np.moveaxis(volume, 2, 0)[:, ::-1]) == pytest.approx(found, rel=1e-6)


def test_a_painted_background_that_is_as_bright_as_tissue_has_no_part_in_noise():
    volume = volume_of(0.05)
    body = volume > 0
    shifted = np.where(body, (volume - volume[body].mean()) / volume[body].std(), 0)
    assert volume_noise(shifted.astype(np.float32)) > 0.03
    twice = volume_of(0.1)
    louder = np.where(body, (twice - volume[body].mean()) / volume[body].std(), 0)
    # Not twice as much: where black is not known, the range begins at the darkest tissue.
    assert volume_noise(louder.astype(np.float32)) > 1.3 * volume_noise(shifted.astype(np.float32))
    made = quieter_volume(louder.astype(np.float32))
    assert (made[~body] == 0).all()  # the body is told by it
    assert volume_noise(made) < 0.4 * volume_noise(louder.astype(np.float32))


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((8, 9, 10), np.float32),
        np.full((8, 9, 10), 7, np.float32),
        np.zeros((1, 1, 1), np.float32),
        volume_of(0.0, n=3, size=24)[:, :, :1],  # black alone
        -np.ones((5, 1, 6), np.float32),
    ],
)
def test_volumes_without_tissue_tell_nothing_and_stay(values):
    assert volume_noise(values) in (None, 0)
    made = quieter_volume(values)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, values)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_slices_tell_their_noise_and_are_smoothed(n):
    volume = volume_of(0.1, n=n + 2)[:, :, 1:-1]
    assert volume_noise(volume) == pytest.approx(0.2, rel=0.1)
    made = quieter_volume(volume)
    assert made.shape == volume.shape
    truth = organ(64)[..., None]
    assert np.abs(made - truth).mean() < 0.5 * np.abs(volume - truth).mean()


def test_a_modality_is_smoothed_above_its_own_limit_wherever_it_is_read(tmp_path):
    """By what trains on z-scores, by classifiers of volumes, and by rules."""
    loud, quiet = volume_of(0.1), volume_of(0.02, seed=50)
    files = [save_volume(tmp_path / f"{k}.nii.gz", v) for k, v in enumerate((loud, quiet))]
    data, case = DataConfig(image_size=64), Case("v", files[0], "", more=(files[1],))
    plain, made = (read_case(replace(case, smooth_above=s)).values for s in ((), (0.1, 0.1)))
    np.testing.assert_array_equal(plain, [loud, quiet])
    np.testing.assert_array_equal(made, [quieter_volume(loud), quiet])
    above = replace(case, smooth_above=(0.1, None))
    np.testing.assert_array_equal(case_image(above, data), made[0])
    np.testing.assert_array_equal(case_values(above, data), made[0])
    np.testing.assert_array_equal(case_values(case, data), loud)
    low, high = np.percentile(loud, (0.5, 99.5))
    seen, _ = network_volume(above, data, 12)
    expected = np.clip((made[0].T - low) / (high - low), 0, 1)
    np.testing.assert_allclose(seen[0], expected, atol=1e-5)
    np.testing.assert_array_equal(seen[1], network_volume(case, data, 12)[0][1])


def test_a_volume_with_nan_is_refused(tmp_path):
    broken = volume_of(0.1)
    broken[3, 3, 3] = np.nan
    path = save_volume(tmp_path / "v.nii.gz", broken)
    for read in (read_case, lambda c: case_image(c, DataConfig())):
        with pytest.raises(DataError, match="NaN"):
            read(Case("v", path, "", smooth_above=(0.1,)))


def test_slices_tell_the_noise_of_their_volume(tmp_path):
    path = save_volume(tmp_path / "v.nii.gz", np.round(2000 * volume_of(0.1)).astype(np.int16))
    assert slices_noise(path, "auto") == pytest.approx(0.2, rel=0.1)
    black = save_volume(tmp_path / "b.nii.gz", np.zeros((32, 32, 4), np.int16))
    assert slices_noise(black, "auto") is None
