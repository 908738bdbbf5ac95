"""Masks are read by what they show: every way of storing the same drawing gives the same mask."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.data.helpers import make_case, noise, save, write_rows
from weakseg.data.colours import ground
from weakseg.data.fingerprint import data_fingerprint
from weakseg.data.images import open_mask, read_image, read_mask
from weakseg.errors import DataError

RED, GREEN, WHITE, BLACK, GREY = (255, 0, 0), (0, 160, 0), (255,) * 3, (0,) * 3, (90,) * 3
DISC = np.hypot(*(np.mgrid[:32, :40] - np.array([14, 22])[:, None, None])) < 7
INSIDE = np.hypot(*(np.mgrid[:32, :40] - np.array([14, 22])[:, None, None])) < 3
FORMATS = pytest.mark.parametrize("suffix", [".png", ".tif"])


def palette(
    path: Path, indices: np.ndarray, colours: list[tuple[int, ...]], **options: object
) -> Path:
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette([v for colour in colours for v in colour])
    image.save(path, **options)
    return path


def assert_marks(path: Path, expected: np.ndarray, *rules: object) -> None:
    for rule in rules or ("nonzero", "half"):
        np.testing.assert_array_equal(read_mask(path, rule), expected, err_msg=str(rule))


@FORMATS
@pytest.mark.parametrize(
    "colours",
    [
        [WHITE, BLACK],
        [BLACK, WHITE],
        [BLACK, RED],
        [RED, BLACK],
        [RED, WHITE],
        [WHITE, RED],
        [WHITE, (1, 1, 1)],
    ],
)
def test_a_palette_tells_the_ground_by_its_colours_in_any_order(tmp_path, colours, suffix):
    # What is lesion: the paint on a grey ground, the lighter of two greys.
    lesion = {(WHITE, RED): 1, (RED, WHITE): 0}.get(
        tuple(colours), max((0, 1), key=lambda i: sum(colours[i]))
    )
    indices = np.where(DISC, lesion, 1 - lesion)
    assert_marks(palette(tmp_path / f"a{suffix}", indices, colours), DISC)


@FORMATS
def test_an_empty_mask_of_a_reversed_palette_is_empty_and_a_full_one_full(tmp_path, suffix):
    for colours in ([WHITE, BLACK], [BLACK, WHITE]):
        black = np.full(DISC.shape, colours.index(BLACK))
        assert_marks(palette(tmp_path / f"a{suffix}", black, colours), np.zeros_like(DISC))
        assert_marks(palette(tmp_path / f"a{suffix}", 1 - black, colours), np.ones_like(DISC))
    white = np.zeros(DISC.shape)
    assert_marks(palette(tmp_path / f"b{suffix}", white, [WHITE, RED]), np.zeros_like(DISC))


def test_classes_in_the_colours_of_a_palette_are_lesion_and_lists_name_its_indices(tmp_path):
    indices = DISC.astype(np.uint8) + INSIDE
    for colours in ([BLACK, RED, GREEN], [WHITE, RED, GREEN], [GREY, RED, GREEN]):
        path = palette(tmp_path / "a.png", indices, colours)
        assert_marks(path, DISC, "nonzero", [1, 2])
        assert_marks(path, INSIDE, [2])
    voc = [tuple((i >> b & 1) * 128 for b in range(3)) for i in range(8)]
    path = palette(tmp_path / "voc.png", np.where(DISC, 7, 0), voc)
    assert_marks(path, DISC)
    assert_marks(palette(tmp_path / "all.png", np.full((9, 9), 7), voc), np.ones((9, 9), bool))
    moved = palette(tmp_path / "b.png", np.choose(indices, [2, 0, 1]), [RED, GREEN, WHITE])
    assert_marks(moved, DISC, "nonzero")


def test_the_ground_of_a_palette_by_hand():
    def of(*colours: tuple[int, ...], used: list[int]) -> list[int]:
        return ground(np.array(colours, dtype=np.uint8), np.array(used)).tolist()

    assert of(WHITE, BLACK, used=[0]) == [0, 0, 0]
    assert of(WHITE, GREY, used=[0, 1]) == [90, 90, 90]
    assert of(WHITE, RED, BLACK, BLACK, used=[0, 1]) == [255, 255, 255]  # filled up with black
    assert of(WHITE, RED, BLACK, BLACK, used=[1]) == [255, 255, 255]
    assert of(RED, WHITE, used=[1]) == [255, 255, 255]
    assert of(RED, GREEN, used=[0, 1]) == [255, 0, 0]
    assert of(BLACK, GREY, WHITE, used=[1]) == [0, 0, 0]


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16])
def test_inverted_photometry_shows_white_where_nought_is_stored(tmp_path, dtype, inverted):
    white = True if dtype is bool else np.iinfo(dtype).max
    stored = np.where(DISC ^ inverted, white, 0).astype(dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, photometric="miniswhite" if inverted else "minisblack")
    assert_marks(path, DISC)


@pytest.mark.parametrize("compression", [None, "group4", "tiff_lzw", "packbits"])
def test_one_bit_with_white_first_by_another_library(tmp_path, compression):
    path = tmp_path / "a.tif"
    image = Image.fromarray(DISC)
    image.save(path, compression=compression, tiffinfo={262: 0} if compression else {})
    with Image.open(path) as shown:  # the oracle: what Pillow shows
        np.testing.assert_array_equal(np.asarray(shown), DISC)
    assert_marks(path, DISC)


def layer(colour: tuple[int, ...], below: tuple[int, ...], opacity: np.ndarray) -> np.ndarray:
    painted = np.where((opacity > 0)[..., None], np.uint8(colour), np.uint8(below))
    return np.dstack([painted, opacity]).astype(np.uint8)


@FORMATS
@pytest.mark.parametrize("below", [RED, WHITE, BLACK])
@pytest.mark.parametrize("colour", [RED, (100, 0, 0), WHITE, BLACK])
def test_what_was_painted_on_a_transparent_layer_is_the_lesion(tmp_path, colour, below, suffix):
    full = np.where(DISC, 255, 0)
    assert_marks(save(tmp_path / f"a{suffix}", layer(colour, below, full)), DISC)
    faint = np.where(DISC, 100, 0)  # a brush of 40 %
    assert_marks(save(tmp_path / f"b{suffix}", layer(colour, below, faint)), DISC)


def test_an_empty_layer_is_empty_and_a_hidden_drawing_is_asked_about(tmp_path):
    nothing = np.zeros(DISC.shape, dtype=np.uint8)
    empty = save(tmp_path / "a.png", layer(RED, RED, nothing))
    assert_marks(empty, np.zeros_like(DISC), "nonzero", "half", "dark")
    hidden = np.dstack([*3 * [DISC * np.uint8(255)], nothing])
    with pytest.raises(DataError, match="transparent everywhere") as e:
        read_mask(save(tmp_path / "b.png", hidden))
    assert "alpha" in str(e.value.fix)
    save(tmp_path / "b.png", hidden[..., :3])  # the remedy
    assert_marks(tmp_path / "b.png", DISC)


def test_opacity_of_grey_layers_and_of_drawn_grounds(tmp_path):
    grey = np.dstack([np.full(DISC.shape, 90), DISC * 255]).astype(np.uint8)
    assert_marks(save(tmp_path / "la.png", grey), DISC)
    # Black and white are both drawn: opacity only takes away.
    ground_drawn = np.dstack([*3 * [DISC * 255], np.full(DISC.shape, 255)]).astype(np.uint8)
    ground_drawn[:5, :, 3] = 0
    ground_drawn[:5, :, :3] = 200
    assert_marks(save(tmp_path / "rgba.png", ground_drawn), DISC)
    # One opacity everywhere says nothing.
    everywhere = np.dstack([*3 * [DISC * 255], np.full(DISC.shape, 128)]).astype(np.uint8)
    assert_marks(save(tmp_path / "half.png", everywhere), DISC)
    classes = np.dstack([DISC * 1 + INSIDE * 1, DISC * 255]).astype(np.uint8)
    assert_marks(save(tmp_path / "classes.png", classes), INSIDE, [2])


def test_multiplied_opacity_of_a_tiff_still_tells_what_was_painted(tmp_path):
    path = tmp_path / "a.tif"
    painted = layer(BLACK, BLACK, np.where(DISC, 255, 0))
    tifffile.imwrite(path, painted, photometric="rgb", extrasamples=["assocalpha"])
    assert_marks(path, DISC)
    half = layer((100, 50, 0), BLACK, np.where(DISC, 128, 0))
    tifffile.imwrite(path, half, photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_array_equal(read_image(path), half[..., :3])  # multiplied once, not twice


def test_transparent_colours_of_palettes_and_greys(tmp_path):
    indices = DISC.astype(np.uint8)
    for colours in ([RED, WHITE], [WHITE, RED], [WHITE, BLACK]):
        path = palette(tmp_path / "p.png", indices, colours, transparency=0)
        assert_marks(path, DISC)
    Image.fromarray(DISC * np.uint8(255)).save(tmp_path / "g.png", transparency=0)
    assert_marks(tmp_path / "g.png", DISC)


@FORMATS
@pytest.mark.parametrize("colour", [RED, GREEN, BLACK, (120, 60, 60)])
def test_dark_or_coloured_on_white_by_the_rule_dark(tmp_path, colour, suffix):
    drawn = np.where(DISC[..., None], np.uint8(colour), np.uint8(255))
    assert_marks(save(tmp_path / f"a{suffix}", drawn), DISC, "dark")
    if colour == BLACK:
        assert_marks(save(tmp_path / f"b{suffix}", drawn[..., 0]), DISC, "dark")
        deep = (drawn[..., 0].astype(np.uint16)) * 257
        assert_marks(save(tmp_path / f"c{suffix}", deep), DISC, "dark")
        Image.fromarray(~DISC).save(tmp_path / f"d{suffix}")
        assert_marks(tmp_path / f"d{suffix}", DISC, "dark")


@FORMATS
@pytest.mark.parametrize("colour", [RED, GREEN, WHITE, (200, 200, 0)])
def test_colours_on_black(tmp_path, colour, suffix):
    drawn = np.where(DISC[..., None], np.uint8(colour), np.uint8(0))
    assert_marks(save(tmp_path / f"a{suffix}", drawn), DISC)


@FORMATS
@pytest.mark.parametrize("values", [(0, 1), (0, 65535), (0, 300)])
def test_16_bits(tmp_path, values, suffix):
    path = save(tmp_path / f"a{suffix}", np.where(DISC, *values[::-1]).astype(np.uint16))
    assert_marks(path, DISC, "nonzero", [values[1]])


@pytest.mark.parametrize("values", [(1, 2), (254, 255)])
def test_a_ground_that_is_not_0_needs_a_list(tmp_path, values):
    path = save(tmp_path / "a.png", np.where(DISC, *values[::-1]).astype(np.uint8))
    assert_marks(path, DISC, [values[1]])
    assert read_mask(path).all()


def test_a_file_remembers_loss_and_its_orientation(tmp_path):
    grey = DISC * np.uint8(255)
    exif = Image.Exif()
    exif[274] = 6
    seen = {
        "plain.png": ({}, False, 1),
        "a.jpg": ({"exif": exif}, True, 6),
        "b.png": ({"exif": exif}, False, 6),
        "c.tif": ({"compression": "jpeg"}, True, 1),
        "d.tif": ({"compression": "tiff_lzw", "tiffinfo": {274: 6}}, False, 6),
        "e.tif": ({"tiffinfo": {274: 6}}, False, 6),
    }
    for name, (options, lossy, turn) in seen.items():
        file = open_mask(save(tmp_path / name, grey, **options))
        assert (file.lossy, file.pixels.orientation) == (lossy, turn), name


def test_the_palette_case_is_read_whole(shared, tmp_path):
    make_case(shared, "01_palette_reversed", tmp_path)
    for path in sorted((tmp_path / "msk").iterdir()):
        with Image.open(path) as shown:
            white = np.asarray(shown.convert("L")) == 255
        assert 0 < white.mean() < 0.2
        assert_marks(path, white)


def test_the_red_layer_case_is_read_whole(shared, tmp_path):
    make_case(shared, "05b_rgba_mask_red_layer", tmp_path)
    for path in sorted((tmp_path / "msk").iterdir()):
        with Image.open(path) as shown:
            painted = np.asarray(shown)[..., 3] > 0
        assert 0 < painted.mean() < 0.2
        assert_marks(path, painted)


def test_the_fingerprint_tells_the_content_of_masks_of_every_kind(tmp_path):
    grey = DISC * np.uint8(255)
    image = save(tmp_path / "i.png", noise(0, DISC.shape))
    colours = {
        "p.png": palette(tmp_path / "p.png", DISC, [BLACK, WHITE]),
        "p.tif": palette(tmp_path / "p.tif", DISC, [BLACK, WHITE]),
        "layer.png": save(tmp_path / "layer.png", layer(RED, RED, grey)),
        "layer.tif": save(tmp_path / "layer.tif", layer(RED, RED, grey)),
        "la.png": save(tmp_path / "la.png", np.dstack([grey, grey])),
    }
    plain = {
        "g.png": save(tmp_path / "g.png", grey),
        "g.tif": save(tmp_path / "g.tif", grey),
        "rgb.png": save(tmp_path / "rgb.png", np.dstack([grey] * 3)),
        "g.jpg": save(tmp_path / "g.jpg", grey),
        "none.png": tmp_path / "none.png",
        "text.png": tmp_path / "text.png",
    }
    plain["text.png"].write_bytes(b"II")
    for name, path in {**colours, **plain}.items():
        manifest = write_rows(tmp_path, [["image", "label", "mask"], [image.name, "ill", name]])
        files = [hashlib.blake2b(p.read_bytes()).digest() for p in (image, path) if p.exists()]
        files += [b"missing"] * (2 - len(files))
        by_content = hashlib.blake2b(manifest.read_bytes() + b"".join(files), digest_size=16)
        assert data_fingerprint(manifest) == by_content.hexdigest(), name
