"""Trivial masks: exact shares, stated ties, and the published floors of real sets."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.io import imread

from weakseg.masks.floors import FLOORS, brightest, centred_ellipse, darkest, everything

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

images = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
shares = st.floats(0.001, 1.0)


def test_everything_is_everything() -> None:
    assert everything((3, 4)).shape == (3, 4)
    assert everything((3, 4, 3)).shape == (3, 4)
    assert everything((3, 4)).all()


def test_brightest_takes_the_brightest_and_of_equal_ones_the_first() -> None:
    image = np.array([[1, 9, 5], [5, 5, 0]])
    np.testing.assert_array_equal(brightest(image, 0.5), [[0, 1, 1], [1, 0, 0]])


def test_darkest_takes_the_darkest_and_of_equal_ones_the_first() -> None:
    image = np.array([[1, 9, 5], [5, 5, 0]], dtype=np.uint8)
    np.testing.assert_array_equal(darkest(image, 0.5), [[1, 0, 1], [0, 0, 1]])


@given(images, shares)
def test_a_share_is_never_exceeded_and_missed_by_less_than_a_pixel(
    image: np.ndarray, share: float
) -> None:
    for mask in (brightest(image, share), darkest(image, share)):
        assert mask.sum() <= share * image.size + 1e-9
        assert mask.sum() > share * image.size - 1


@given(images, shares)
def test_nothing_left_out_beats_what_was_taken(image: np.ndarray, share: float) -> None:
    bright, dark = brightest(image, share), darkest(image, share)
    if bright.any() and not bright.all():
        assert image[bright].min() >= image[~bright].max()
        assert image[dark].max() <= image[~dark].min()


def test_a_share_that_rounds_down_in_floats_is_meant_whole() -> None:
    assert brightest(np.arange(100).reshape(10, 10), 0.29).sum() == 29


def test_channels_are_averaged() -> None:
    image = np.zeros((2, 2, 3), dtype=np.uint8)
    image[0, 1] = [250, 0, 0]
    image[1, 0] = [90, 90, 90]
    np.testing.assert_array_equal(brightest(image, 0.25), [[0, 0], [1, 0]])


def test_nan_is_neither_bright_nor_dark() -> None:
    image = np.array([[np.nan, 1.0], [2.0, 3.0]])
    assert not brightest(image, 0.75)[0, 0]
    assert not darkest(image, 0.75)[0, 0]
    for end in (brightest, darkest):
        assert end([[np.nan, np.inf, -np.inf, 0.0]], 0.75).tolist() == [[False, True, True, True]]


def test_the_share_of_all_is_all() -> None:
    for end in (brightest, darkest):
        assert end(np.eye(3), 1.0).all()


@pytest.mark.parametrize("shape", [(128, 128), (60, 200), (91, 37)])
def test_the_ellipse_has_the_share_the_middle_and_the_symmetry(shape: tuple[int, int]) -> None:
    mask = centred_ellipse(shape, 0.2)
    assert mask.mean() == pytest.approx(0.2, abs=0.01)
    assert mask[shape[0] // 2, shape[1] // 2]
    np.testing.assert_array_equal(mask, mask[::-1])
    np.testing.assert_array_equal(mask, mask[:, ::-1])


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, np.nan])
def test_a_share_out_of_range_is_named(share: float) -> None:
    for call in (
        lambda: brightest(np.ones((2, 2)), share),
        lambda: darkest(np.ones((2, 2)), share),
        lambda: centred_ellipse((4, 4), share),
    ):
        with pytest.raises(ValueError, match=rf"share must be in .*, got {share}"):
            call()


def test_the_registry_has_the_shares_its_names_say() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    told = ("everything", "brightest-", "darkest-", "ellipse")
    means = {n: f(image).mean() for n, f in FLOORS.items() if n.partition("-")[2].startswith(told)}
    assert means == {
        "floor-everything": 1.0,
        "floor-brightest-5": 0.05,
        "floor-brightest-10": 0.1,
        "floor-brightest-20": 0.2,
        "floor-darkest-10": 0.1,
        "floor-darkest-20": 0.2,
        "floor-ellipse": pytest.approx(np.pi / 16, abs=0.01),
    }
    grey = image.mean(axis=2)
    assert grey[FLOORS["floor-brightest-20"](image)].min() > np.median(grey)
    assert grey[FLOORS["floor-darkest-20"](image)].max() < np.median(grey)


PUBLISHED = {
    "lgg_flair_dev": {
        "floor-everything": 0.058,
        "floor-brightest-10": 0.338,
        "floor-ellipse": 0.216,
    },
    "busi_dev": {"floor-everything": 0.154, "floor-ellipse": 0.243},
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_floors_of_real_sets(name: str) -> None:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"the real images are not here: {folder}")
    with (folder / "labels.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["label"] != "normal"]
    dice: dict[str, list[float]] = {floor: [] for floor in PUBLISHED[name]}
    for row in rows:
        image, truth = imread(folder / row["image"]), imread(folder / row["mask"]) > 0
        for floor, values in dice.items():
            mask = FLOORS[floor](image)
            values.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    for floor, published in PUBLISHED[name].items():
        assert np.mean(dice[floor]) == pytest.approx(published, abs=0.01), floor
