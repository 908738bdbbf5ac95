"""BMP files of every depth: by hand, by Pillow and by OpenCV; damaged ones; a whole job on them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.data.formats.broken_images import sparse
from tests.data.helpers import image_size, noise, write_rows
from tests.tiny import weakseg
from weakseg.data.formats.reading import decode
from weakseg.data.images import mask_values, read_image, read_mask
from weakseg.errors import DataError

RAINBOW = [(0, 0, 0), (200, 10, 20), (30, 220, 40), (50, 60, 240)]
GREYS = [(k, k, k) for k in range(256)]


def bmp(
    data: bytes,
    size: tuple[int, int],
    bits: int,
    *,
    compression: int = 0,
    palette: list[tuple[int, int, int]] | None = None,
    header: int = 40,
    masks: tuple[int, ...] = (),
    colours: int | None = None,
    gap: int = 0,
) -> bytes:
    """A file of (height, width), the height negative from the top down."""
    height, width = size
    some = palette or []
    tail = b"".join(struct.pack("<I", m) for m in masks)
    if header == 12:
        dib = struct.pack("<IHHHH", 12, width, height, 1, bits)
        table = b"".join(bytes(c[::-1]) for c in some)
    else:
        count = len(some) if colours is None else colours
        dib = struct.pack(
            "<IiiHHIIiiII", header, width, height, 1, bits, compression, 0, 0, 0, count, 0
        )
        if header > 40:
            dib = (dib + tail).ljust(header, b"\0")
            tail = b""
        table = b"".join(bytes(c[::-1]) + b"\0" for c in some)
    front = dib + tail + table + bytes(gap)
    return (
        b"BM"
        + struct.pack("<IHHI", 14 + len(front) + len(data), 0, 0, 14 + len(front))
        + (front + data)
    )


def rows_of(*rows: bytes) -> bytes:
    """From the bottom up, each filled up to four bytes."""
    return b"".join(r + bytes(-len(r) % 4) for r in reversed(rows))


def keep(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def opencv(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return image[..., ::-1]


INDICES = np.array([[0, 1, 2, 3, 2], [3, 3, 1, 0, 1], [1, 0, 0, 2, 3]], np.uint8)
PACKED = {
    2: rows_of(b"\x1b\x80", b"\xf4\x40", b"\x42\xc0"),
    4: rows_of(b"\x01\x23\x20", b"\x33\x10\x10", b"\x10\x02\x30"),
    8: rows_of(*(bytes(r) for r in INDICES)),
}


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("header", [12, 40, 64, 108, 124])
def test_palettes_by_hand(tmp_path, bits, header):
    path = keep(tmp_path / "a.bmp", bmp(PACKED[bits], (3, 5), bits, palette=RAINBOW, header=header))
    np.testing.assert_array_equal(decode(path).values, INDICES)
    np.testing.assert_array_equal(read_image(path), np.array(RAINBOW, np.uint8)[INDICES])
    assert image_size(path) == (3, 5)
    np.testing.assert_array_equal(mask_values(path), [0, 1, 2, 3])
    np.testing.assert_array_equal(read_mask(path, [2, 3]), INDICES >= 2)
    np.testing.assert_array_equal(read_mask(path, "nonzero"), INDICES > 0)


def test_the_first_row_may_come_first(tmp_path):
    whole = bmp(PACKED[8], (3, 5), 8, palette=RAINBOW)
    other = bmp(PACKED[8], (-3, 5), 8, palette=RAINBOW)
    up = read_image(keep(tmp_path / "a.bmp", whole))
    np.testing.assert_array_equal(read_image(keep(tmp_path / "b.bmp", other)), up[::-1])
    assert image_size(tmp_path / "b.bmp") == (3, 5)


@pytest.mark.parametrize("white_first", [False, True])
def test_a_mask_of_one_bit_is_read_by_its_colours(tmp_path, white_first):
    """Black is the ground, whichever of both colours comes first."""
    colours = [(0, 0, 0), (255, 255, 255)]
    data = rows_of(b"\x98", b"\x60")  # 10011, 01100
    palette = colours[::-1] if white_first else colours
    path = keep(tmp_path / "a.bmp", bmp(data, (2, 5), 1, palette=palette))
    ones = np.array([[1, 0, 0, 1, 1], [0, 1, 1, 0, 0]]) == 1
    np.testing.assert_array_equal(read_mask(path), ~ones if white_first else ones)
    np.testing.assert_array_equal(read_image(path), np.where(ones != white_first, 255, 0))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("width", [1, 31, 32, 33])
def test_what_pillow_writes_comes_back(tmp_path, mode, width):
    image = Image.fromarray(noise(width, (9, width, 3))).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(noise(5, (9, width))))
    image.save(tmp_path / "a.bmp")
    shown = np.asarray(image.convert("L" if mode in ("1", "L") else "RGB"))
    again = read_image(tmp_path / "a.bmp")
    if mode == "RGBA":  # Pillow writes no opacity, but four bytes a pixel
        assert decode(tmp_path / "a.bmp").alpha is None
    np.testing.assert_array_equal(again, shown)
    np.testing.assert_array_equal(
        opencv((tmp_path / "a.bmp").read_bytes())[..., 0],
        again if again.ndim == 2 else again[..., 0],
    )


@pytest.mark.parametrize("shape", [(16, 20), (16, 21, 3)])
def test_what_opencv_writes_comes_back(tmp_path, shape):
    array = noise(7, shape)
    data = cv2.imencode(".bmp", array if array.ndim == 2 else array[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(read_image(keep(tmp_path / "a", data)), array)


def test_a_palette_of_dark_greys_is_no_other_depth(tmp_path):
    """Pillow takes such palettes for samples of 8 bits, or of 1."""
    path = keep(tmp_path / "a.bmp", bmp(PACKED[4], (3, 5), 4, palette=GREYS[:4]))
    np.testing.assert_array_equal(read_image(path), INDICES)
    two = [(0, 0, 0), (255, 255, 255)]
    path = keep(tmp_path / "b.bmp", bmp(rows_of(b"\0\1\1\0"), (1, 4), 8, palette=two))
    np.testing.assert_array_equal(read_image(path), [[0, 255, 255, 0]])


@pytest.mark.parametrize(
    ("bits", "masks", "value", "shown"),
    [
        (16, (), 0x7C00 | 0x10 << 5, (255, 132, 0)),  # 5 bits each: 31, 16 and 0 of 31
        (16, (0xF800, 0x7E0, 0x1F), 0x8000 | 0x3F << 5 | 1, (132, 255, 8)),
        (32, (), 0xAA102030, (0x10, 0x20, 0x30)),  # the fourth byte means nothing
        (32, (0x3FF00000, 0xFFC00, 0x3FF), 0x3FF << 20 | 0x200 << 10, (255, 128, 0)),
        (32, (0xFF, 0xFF00, 0xFF0000), 0x302010, (0x10, 0x20, 0x30)),
    ],
)
def test_pixels_of_bits_are_spread_over_8(tmp_path, bits, masks, value, shown):
    data = rows_of(value.to_bytes(bits // 8, "little") * 3)
    for header in (40, 52) if masks else (40,):
        whole = bmp(data, (1, 3), bits, compression=3 if masks else 0, masks=masks, header=header)
        path = keep(tmp_path / "a.bmp", whole)
        np.testing.assert_array_equal(read_image(path), [[shown] * 3])


@pytest.mark.parametrize("opacity", [(255, 51, 0), (0, 0, 0)])
def test_opacity_lies_over_black_unless_it_is_nowhere(tmp_path, opacity):
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    data = b"".join(bytes((50, 100, 200, a)) for a in opacity)
    path = keep(tmp_path / "a.bmp", bmp(data, (1, 3), 32, compression=3, masks=masks, header=108))
    expected = [(200, 100, 50), (40, 20, 10), (0, 0, 0)] if any(opacity) else [(200, 100, 50)] * 3
    np.testing.assert_array_equal(read_image(path), [expected])


RLE8 = bytes([3, 1, 0, 5, 2, 0, 3, 1, 2, 0, 0, 0, 8, 3, 0, 1])  # 1 1 1 2 0 3 1 2, 8 times 3
RLE4 = bytes([5, 0x12, 0, 3, 0x30, 0x10, 0, 0, 8, 0x33, 0, 1])  # 1 2 1 2 1 3 0 1, 8 times 3


@pytest.mark.parametrize(("data", "bits"), [(RLE8, 8), (RLE4, 4)])
def test_run_length_codes_by_hand(tmp_path, data, bits):
    whole = bmp(data, (2, 8), bits, compression={8: 1, 4: 2}[bits], palette=RAINBOW)
    expected = [[3] * 8, [1, 1, 1, 2, 0, 3, 1, 2] if bits == 8 else [1, 2, 1, 2, 1, 3, 0, 1]]
    path = keep(tmp_path / "a.bmp", whole)
    np.testing.assert_array_equal(decode(path).values, expected)
    np.testing.assert_array_equal(read_image(path), opencv(whole))


def rle(data: bytes, size: tuple[int, int] = (2, 8)) -> bytes:
    return bmp(data, size, 8, compression=1, palette=RAINBOW)


GOOD = bmp(PACKED[8], (3, 5), 8, palette=RAINBOW)
DAMAGED = {
    "header alone": (GOOD[:14], "header is damaged"),
    "header cut": (GOOD[:40], "header is damaged"),
    "header of no version": (GOOD[:14] + b"\x99" + GOOD[15:], "header is damaged"),
    "rows cut": (GOOD[:-1], "cut off: 23 of 24 bytes"),
    "pixels behind the end": (GOOD[:10] + b"\xff\xff" + GOOD[12:], "no pixels where"),
    "pixels in the header": (GOOD[:10] + b"\x20\0" + GOOD[12:], "no pixels where"),
    "no palette": (bmp(PACKED[8], (3, 5), 8), "no palette"),
    "3 bits": (bmp(PACKED[8], (3, 5), 3, palette=RAINBOW), "3 bits a pixel"),
    "no width": (bmp(PACKED[8], (3, 0), 8, palette=RAINBOW), "0 pixels"),
    "negative width": (bmp(PACKED[8], (3, -5), 8, palette=RAINBOW), "header is damaged"),
    "JPEG inside": (bmp(PACKED[8], (3, 5), 0, compression=4), "shell of a JPEG"),
    "unknown compression": (bmp(PACKED[8], (3, 5), 8, compression=9), "the compression 9"),
    "masks of nothing": (bmp(bytes(16), (1, 4), 32, compression=3, masks=(1, 2, 0)), "masks"),
    "masks with gaps": (bmp(bytes(16), (1, 4), 32, compression=3, masks=(5, 2, 8)), "masks"),
    "masks cut": (bmp(b"", (1, 4), 32, compression=3, masks=(1,)), "header is damaged"),
    "too large": (bmp(PACKED[8], (30_000, 30_000), 8, palette=RAINBOW), "too large"),
    "codes cut": (rle(RLE8[:-2]), "codes are cut off"),
    "codes cut inside": (rle(RLE8[:7]), "codes are cut off"),
    "row not full": (rle(bytes([7, 1, 0, 0, 8, 3, 0, 1])), "do not fill"),
    "last row missing": (rle(bytes([8, 1, 0, 0, 0, 1])), "do not fill"),
    "row too full": (rle(bytes([9, 1, 0, 0, 8, 3, 0, 1])), "leave the image"),
    "too many rows": (rle(bytes([8, 1, 0, 0] * 3 + [0, 1])), "leave the image"),
    "pixels left out": (rle(bytes([4, 1, 0, 2, 4, 0, 0, 0, 8, 3, 0, 1])), "leave pixels out"),
    "codes from the top": (rle(RLE8, (-2, 8)), "header is damaged"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_named(tmp_path, kind):
    data, told = DAMAGED[kind]
    path = keep(tmp_path / "a.bmp", data)
    with pytest.raises(DataError) as e:
        read_image(path)
    assert told in f"{e.value.what} {e.value.found}"
    assert e.value.where == str(path)
    assert e.value.fix


def test_every_cut_of_a_file_is_damage(tmp_path):
    for whole in (GOOD, rle(RLE8)):
        for k in range(1, len(whole)):
            with pytest.raises(DataError):
                read_image(keep(tmp_path / "a.bmp", whole[:k]))


def test_a_file_of_a_gigabyte_is_not_read(tmp_path):
    path = sparse(tmp_path / "a.bmp", GOOD, 2**30)
    with pytest.raises(DataError, match="the file has 1074 MB, and the limit is 336 MB"):
        decode(path)
    assert image_size(path) == (3, 5)


def test_validate_takes_bmp_and_names_what_is_damaged(tmp_path, capsys):
    rows = [["image", "label", "mask", "patient"]]
    for k in range(8):
        mask = np.zeros((16, 20), np.uint8)
        mask[4:8, 5:10] = 255 * (k % 2)
        Image.fromarray(noise(k)).save(tmp_path / f"i{k}.bmp")
        Image.fromarray(mask).convert("1").save(tmp_path / f"m{k}.bmp")
        rows.append([f"i{k}.bmp", ("normal", "tumor")[k % 2], f"m{k}.bmp", f"p{k // 2}"])
    manifest = write_rows(tmp_path, rows)
    assert weakseg("validate", manifest) == 0
    whole = (tmp_path / "i3.bmp").read_bytes()
    (tmp_path / "i3.bmp").write_bytes(whole[:-9])
    capsys.readouterr()
    assert weakseg("validate", manifest) == 2
    told = capsys.readouterr().out
    assert "image-unreadable: 1 error" in told
    assert "the BMP's pixels are cut off: 311 of 320 bytes" in told


def test_a_bitmap_without_its_file_header_is_none(tmp_path):
    f = io.BytesIO()
    Image.fromarray(noise(3, (12, 13, 3))).save(f, format="DIB")  # without a file header
    with pytest.raises(DataError, match="not a PNG"):
        read_image(keep(tmp_path / "a.bmp", f.getvalue()))
