"""Files of every mode and depth, written by hand or by another library, and read back."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from tests.data.helpers import image_size, noise, present, save
from weakseg.data.formats.reading import decode
from weakseg.data.formats.writing import write_mask
from weakseg.data.images import (
    is_grey,
    mask_values,
    open_mask,
    read_image,
    read_mask,
    scale_intensity,
)
from weakseg.data.mask_rules import distinct
from weakseg.disk import DiskError
from weakseg.errors import DataError


def png(rows: list[bytes], width: int, depth: int, colour: int, extra: bytes = b"") -> bytes:
    """A PNG by hand: the bits are what the specification says, whatever a library makes of them."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + r for r in rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize(
    ("depth", "row", "raw", "shown"),
    [
        (1, bytes([0b10110000]), [1, 0, 1, 1], [255, 0, 255, 255]),
        (2, bytes([0b00011011]), [0, 1, 2, 3], [0, 85, 170, 255]),
        (4, bytes([0x01, 0x8F]), [0, 1, 8, 15], [0, 17, 136, 255]),
        (8, bytes([0, 1, 128, 255]), [0, 1, 128, 255], [0, 1, 128, 255]),
    ],
)
def test_grey_png_of_few_bits(tmp_path, depth, row, raw, shown):
    path = tmp_path / "a.png"
    path.write_bytes(png([row, row], 4, depth, 0))
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, [shown, shown])
    np.testing.assert_array_equal(mask_values(path), sorted(set(raw)))
    np.testing.assert_array_equal(read_mask(path, "nonzero")[0], np.array(raw) != 0)
    np.testing.assert_array_equal(read_mask(path, "half")[0], np.array(shown) > 127.5)
    np.testing.assert_array_equal(read_mask(path, [raw[0]])[0], np.array(raw) == raw[0])
    assert image_size(path) == (2, 4)


def test_16_bit_grey_png_by_hand(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png([struct.pack(">3H", 0, 258, 65535)], 3, 16, 0))
    image = read_image(path)
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, [[0, 258, 65535]])
    np.testing.assert_array_equal(read_mask(path, "half"), [[False, False, True]])


def test_16_bit_colour_png_keeps_every_bit_and_the_order_of_colours(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png([struct.pack(">6H", 1, 2, 3, 256, 257, 65535)], 2, 16, 2))
    np.testing.assert_array_equal(read_image(path), [[[1, 2, 3], [256, 257, 65535]]])
    assert read_image(path).dtype == np.uint16


def test_16_bit_alpha_lies_over_black(tmp_path):
    path = tmp_path / "a.png"
    row = struct.pack(">8H", 40000, 20000, 10000, 65535, 40000, 20000, 10000, 32768)
    path.write_bytes(png([row], 2, 16, 6))
    np.testing.assert_array_equal(read_image(path), [[[40000, 20000, 10000], [20000, 10000, 5000]]])
    grey = tmp_path / "grey.png"
    grey.write_bytes(png([struct.pack(">4H", 40000, 65535, 40000, 0)], 2, 16, 4))
    values = read_image(grey)
    assert is_grey(values)
    np.testing.assert_array_equal(values if values.ndim == 2 else values[..., 0], [[40000, 0]])
    np.testing.assert_array_equal(read_mask(grey), [[True, False]])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3)])
def test_8_bit_grey_and_colour(tmp_path, shape, suffix):
    array = noise(0, shape)
    path = save(tmp_path / f"a{suffix}", array)
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, array)
    assert image_size(path) == (7, 5)


def test_8_bit_alpha_lies_over_black(tmp_path):
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 51], [9, 9, 9, 0]]], dtype=np.uint8)
    path = save(tmp_path / "a.png", rgba)
    np.testing.assert_array_equal(read_image(path), [[[200, 100, 50], [40, 20, 10], [0, 0, 0]]])
    la = np.array([[[200, 255], [200, 51], [9, 0]]], dtype=np.uint8)
    Image.fromarray(la, mode="LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), [[200, 40, 0]])


def test_transparent_colour_of_png(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png([bytes([7, 8, 9])], 3, 8, 0, chunk(b"tRNS", b"\0\x08")))
    np.testing.assert_array_equal(read_image(path), [[7, 0, 9]])
    path.write_bytes(png([bytes([7, 8, 9, 1, 2, 3])], 2, 8, 2, chunk(b"tRNS", b"\0\1\0\2\0\3")))
    np.testing.assert_array_equal(read_image(path), [[[7, 8, 9], [0, 0, 0]]])


def test_palette_is_colours_for_images_and_indices_for_masks(tmp_path):
    path = tmp_path / "a.png"
    plte = chunk(b"PLTE", bytes([0, 0, 0, 200, 0, 0, 0, 150, 0]))
    path.write_bytes(png([bytes([0, 1, 2])], 3, 8, 3, plte))
    np.testing.assert_array_equal(read_image(path), [[[0, 0, 0], [200, 0, 0], [0, 150, 0]]])
    np.testing.assert_array_equal(mask_values(path), [0, 1, 2])
    np.testing.assert_array_equal(read_mask(path, [2]), [[False, False, True]])
    np.testing.assert_array_equal(read_mask(path, "half"), [[False, True, True]])


def test_palette_of_greys_and_its_transparency(tmp_path):
    path = tmp_path / "a.png"
    extra = chunk(b"PLTE", bytes([0, 0, 0, 90, 90, 90, 10, 20, 30])) + chunk(b"tRNS", b"\xff\x55")
    path.write_bytes(png([bytes([0, 1, 1])], 3, 8, 3, extra))
    np.testing.assert_array_equal(read_image(path), [[0, 30, 30]])  # 90 × 85/255


def test_jpeg_grey_colour_and_cmyk(tmp_path):
    smooth = np.add.outer(np.arange(32) * 3, np.arange(40) * 3).astype(np.uint8)
    grey = save(tmp_path / "grey.jpg", smooth, quality=95)
    assert read_image(grey).shape == (32, 40)
    assert np.abs(read_image(grey).astype(int) - smooth).max() <= 6
    Image.new("RGB", (16, 8), (200, 100, 50)).save(tmp_path / "rgb.jpg", quality=100)
    np.testing.assert_allclose(read_image(tmp_path / "rgb.jpg")[4, 8], (200, 100, 50), atol=3)
    # No black: red is 255 minus cyan, and so on.
    Image.new("CMYK", (16, 8), (55, 155, 205, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    np.testing.assert_allclose(read_image(tmp_path / "cmyk.jpg")[4, 8], (200, 100, 50), atol=4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_orientation_is_applied_to_images_masks_and_sizes(tmp_path, orientation, name):
    array = np.zeros((16, 24), dtype=np.uint8)
    array[:8, :8] = 255  # whole JPEG blocks
    image = Image.fromarray(array)
    path = tmp_path / name
    if name.endswith("tif"):
        tifffile.imwrite(path, array, extratags=[(274, "H", 1, orientation, True)])
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(path, exif=exif)
    exif_image = Image.fromarray(array)
    exif_image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(exif_image))
    np.testing.assert_allclose(read_image(path), expected, atol=2)
    np.testing.assert_array_equal(read_mask(path, "half"), expected > 127)
    assert image_size(path) == expected.shape


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "f4", ">f4"])
@pytest.mark.parametrize("colour", [False, True])
def test_tiff_of_every_type(tmp_path, dtype, compression, colour):
    array = (noise(1, (9, 11, 3) if colour else (9, 11)).astype(float) * 200).astype(dtype)
    tifffile.imwrite(
        tmp_path / "a.tif",
        array,
        photometric="rgb" if colour else "minisblack",
        compression=compression,
        byteorder=">" if dtype.startswith(">") else "<",
    )
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(image, array)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("shape", [(9, 11), (9, 11, 3)])
def test_tiff_of_8_bits_by_every_codec(tmp_path, shape, compression):
    path = save(tmp_path / "a.tif", noise(1, shape), compression=compression)
    np.testing.assert_array_equal(read_image(path), noise(1, shape))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "u4", "f8", "f2"])
def test_tiff_of_other_types_becomes_float32(tmp_path, dtype):
    array = (noise(2, (4, 5)).astype(float) - (0 if dtype == "u4" else 100)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array)
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, array.astype(np.float32))


def test_tiff_lzw_of_16_bits_keeps_every_bit(tmp_path):
    colour = (noise(3, (9, 11, 3)).astype(np.uint16) * 257) ^ 5
    (tmp_path / "c.tif").write_bytes(cv2.imencode(".tiff", colour[..., ::-1])[1].tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "c.tif"), colour)
    Image.fromarray(colour[..., 0].copy()).save(tmp_path / "g.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "g.tif"), colour[..., 0])


def lzw_packed(data: bytes) -> bytes:
    """A TIFF of one strip, with its samples packed by the simplest LZW: no code but of a byte."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        order, page = tiff.byteorder, tiff.pages[0]
        start, size = page.dataoffsets[0], page.databytecounts[0]
        entries = {code: page.tags[code] for code in (259, 273, 279)}
    codes = []
    for i in range(start, start + size, 200):  # the table is cleared before codes grow longer
        codes += [256, *data[i : min(i + 200, start + size)]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    bits += "0" * (-len(bits) % 8)
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big")
    file = bytearray(data)
    for code, value in {259: 5, 273: len(data), 279: len(packed)}.items():
        at, kind = entries[code].valueoffset, "H" if entries[code].dtype == 3 else "I"
        struct.pack_into(order + kind, file, at, value)
    return bytes(file) + packed


def deep_samples(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.default_rng(5)
    if dtype == "f4":
        return random.random(shape).astype(dtype)
    top = np.iinfo(dtype).max
    return random.integers(0, top, shape, endpoint=True).astype(dtype)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "shape", "photometric", "alpha"),
    [
        ("u1", (5, 7), "miniswhite", []),
        ("u1", (5, 7), "minisblack", []),
        ("u2", (5, 7), "miniswhite", []),
        ("u2", (5, 7), "minisblack", []),
        ("f4", (5, 7), "miniswhite", []),
        ("f4", (5, 7), "minisblack", []),
        ("u1", (5, 7, 3), "rgb", []),
        ("u2", (5, 7, 3), "rgb", []),
        ("f4", (5, 7, 3), "rgb", []),
        ("u2", (5, 7, 4), "rgb", ["unassalpha"]),
        ("u2", (5, 7, 4), "rgb", ["assocalpha"]),
    ],
)
def test_tiff_is_the_same_with_lzw_and_without(
    tmp_path, orientation, byteorder, dtype, shape, photometric, alpha
):
    plain = tiff_bytes(
        deep_samples(dtype, shape),
        photometric=photometric,
        extrasamples=alpha,
        byteorder=byteorder,
        metadata=None,
        extratags=[(274, "H", 1, orientation, True)],
    )
    (tmp_path / "plain.tif").write_bytes(plain)
    (tmp_path / "lzw.tif").write_bytes(lzw_packed(plain))
    expected, found = decode(tmp_path / "plain.tif"), decode(tmp_path / "lzw.tif")
    assert (found.bits, found.values.dtype) == (expected.bits, expected.values.dtype)
    np.testing.assert_array_equal(found.values, expected.values)
    assert (found.alpha is None) == (expected.alpha is None)
    if found.alpha is not None:
        np.testing.assert_array_equal(found.alpha, expected.alpha)


def test_tiff_lzw_whose_opacity_would_cost_bits_is_refused(tmp_path):
    grey = deep_samples("u2", (5, 7, 2))
    plain = tiff_bytes(
        grey,
        photometric="minisblack",
        extrasamples=["unassalpha"],
        planarconfig="contig",
        metadata=None,
    )
    (tmp_path / "a.tif").write_bytes(lzw_packed(plain))
    with pytest.raises(DataError, match="cannot be decoded whole"):
        decode(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["group4", "tiff_lzw", "packbits", None])
def test_tiff_of_one_bit(tmp_path, compression):
    bits = noise(4, (9, 11)) > 127
    path = save(tmp_path / "a.tif", bits, compression=compression)
    np.testing.assert_array_equal(read_image(path), bits * np.uint8(255))
    np.testing.assert_array_equal(read_mask(path), bits)
    np.testing.assert_array_equal(mask_values(path), [0, 1])


def test_tiff_white_is_zero_is_shown_as_it_should_look(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.array([[0, 255, 10]], dtype=np.uint8), photometric="miniswhite"
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), [[255, 0, 245]])


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_tiff_palette(tmp_path, compression):
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), mode="P")
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 150, 0])
    image.save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.tif"), [[[0, 0, 0], [200, 0, 0], [0, 150, 0]]]
    )
    np.testing.assert_array_equal(mask_values(tmp_path / "a.tif"), [0, 1, 2])


def test_tiff_alpha_planes_and_jpeg(tmp_path):
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 51]]], dtype=np.uint8)
    straight, multiplied = tmp_path / "s.tif", tmp_path / "m.tif"
    tifffile.imwrite(straight, rgba, photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(multiplied, rgba, photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_array_equal(read_image(straight), [[[200, 100, 50], [40, 20, 10]]])
    np.testing.assert_array_equal(read_image(multiplied), [[[200, 100, 50], [200, 100, 50]]])
    planes = noise(5, (3, 6, 7))
    tifffile.imwrite(tmp_path / "p.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "p.tif"), np.moveaxis(planes, 0, -1))
    Image.new("RGB", (16, 16), (200, 100, 50)).save(tmp_path / "j.tif", compression="jpeg")
    np.testing.assert_allclose(read_image(tmp_path / "j.tif")[8, 8], (200, 100, 50), atol=4)


def test_thumbnail_page_of_a_tiff_is_no_stack(tmp_path):
    array = noise(6, (16, 16))
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(array)
        writer.write(array[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), array)


@pytest.mark.parametrize(("real", "name"), [("JPEG", "a.png"), ("PNG", "a.jpg"), ("TIFF", "a.png")])
def test_content_counts_not_the_name(tmp_path, real, name):
    Image.new("L", (12, 8), 100).save(tmp_path / name, format=real)
    assert read_image(tmp_path / name).shape == (8, 12)
    assert image_size(tmp_path / name) == (8, 12)


def imagej_stack() -> bytes:
    """As ImageJ writes large stacks: one page, and the other slices right behind its pixels."""
    text = "ImageJ=1.53t\nimages=6\nslices=6\nloop=false\n"
    first = tiff_bytes(noise(9, (32, 32)), description=text, metadata=None, byteorder=">")
    return first + noise(9, (5, 32, 32)).tobytes()


def lzw_bytes(depth: type) -> bytes:
    array = noise(9, (64, 64, 3)).astype(depth) * (257 if depth is np.uint16 else 1)
    return bytes(cv2.imencode(".tiff", array)[1].tobytes())


def jpeg_bytes() -> bytes:
    f = io.BytesIO()
    Image.fromarray(noise(7, (64, 64))).save(f, format="JPEG")
    return f.getvalue()


def png_bytes(dtype: str = "u1", shape: tuple[int, ...] = (64, 64)) -> bytes:
    array = noise(8, shape).astype(dtype)
    return bytes(cv2.imencode(".png", array)[1].tobytes())


def tiff_bytes(array: np.ndarray, **options: object) -> bytes:
    f = io.BytesIO()
    tifffile.imwrite(f, array, **options)
    return f.getvalue()


def broken(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


HUGE = png([b""], 60000, 8, 0)[:16] + struct.pack(">II", 60000, 60000)
HUGE += bytes([8, 0, 0, 0, 0])
HUGE += struct.pack(">I", zlib.crc32(HUGE[12:29])) + chunk(b"IDAT", zlib.compress(b"\0"))

BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "text": (lambda: b"image,label\n", "not a PNG, JPEG, TIFF, BMP, GIF or DICOM"),
    "html": (lambda: b"<!DOCTYPE html><html>404", "HTML"),
    "lfs pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "dicom": (lambda: bytes(128) + b"DICM" + bytes(50), "DICOM"),
    "nifti": (lambda: bytes(344) + b"n+1\0" + bytes(50), "NIfTI"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(50), "gzip"),
    "gif": (lambda: b"GIF89a" + bytes(50), "0 × 0 pixels"),
    "png truncated": (lambda: png_bytes()[:2000], "damaged"),
    "png16 truncated": (lambda: png_bytes("u2", (64, 64, 3))[:2000], "damaged"),
    "png header only": (lambda: png_bytes()[:20], "damaged"),
    "png bits flipped": (lambda: broken(png_bytes()), "damaged"),
    "jpeg truncated": (lambda: jpeg_bytes()[:800], "damaged"),
    "jpeg header only": (lambda: jpeg_bytes()[:4], "damaged"),
    "tiff truncated": (lambda: tiff_bytes(noise(9, (64, 64)))[:1500], "damaged"),
    "tiff zlib truncated": (
        lambda: tiff_bytes(noise(9, (64, 64)), compression="zlib")[:1500],
        "damaged",
    ),
    "tiff lzw truncated": (lambda: lzw_bytes(np.uint8)[:-3000], "damaged"),
    "tiff lzw 16 bit truncated": (lambda: lzw_bytes(np.uint16)[:-3000], "damaged"),
    "tiff imagej in one page": (imagej_stack, "6 slices in one page"),
    "tiff header only": (lambda: b"II*\0\x08\0\0\0", "damaged"),
    "tiff complex": (lambda: tiff_bytes(noise(9).astype(np.complex64)), "complex"),
    "tiff pages": (
        lambda: tiff_bytes(noise(9, (20, 64, 64)), photometric="minisblack"),
        "20 pages",
    ),
    "tiff volume": (
        lambda: tiff_bytes(
            noise(9, (5, 32, 32)), volumetric=True, tile=(1, 16, 16), photometric="minisblack"
        ),
        "5 slices",
    ),
    "tiff imagej": (lambda: tiff_bytes(noise(9, (6, 32, 32)), imagej=True), "6 "),
    "tiff five channels": (
        lambda: tiff_bytes(noise(9, (16, 16, 5)), photometric="minisblack", planarconfig="contig"),
        "5 channels",
    ),
    "tiff nan": (lambda: tiff_bytes(np.array([[1.0, np.nan]], dtype=np.float32)), "1 of 2 values"),
    "tiff infinite": (lambda: tiff_bytes(np.array([[1.0, np.inf]], dtype=np.float32)), "infinity"),
    "tiff beyond float32": (lambda: tiff_bytes(np.array([[1.0, 1e300]])), "infinity"),
    "png bomb": (lambda: HUGE, "too large"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_with_their_name_and_a_remedy(tmp_path, kind):
    make, says = BAD[kind]
    path = tmp_path / "case 17.png"
    path.write_bytes(make())
    with pytest.raises(DataError) as e:
        read_image(path)
    assert e.value.where == str(path)
    assert says in e.value.render()
    assert e.value.fix
    if kind != "tiff beyond float32":  # as a mask it is fine
        with pytest.raises(DataError):
            read_mask(path)


@pytest.mark.parametrize("kind", ["empty", "text", "tiff pages", "png bomb", "png header only"])
def test_sizes_of_bad_files_are_refused_as_well(tmp_path, kind):
    path = tmp_path / "a.png"
    path.write_bytes(BAD[kind][0]())
    with pytest.raises(DataError, match=r"a\.png"):
        image_size(path)


@pytest.mark.parametrize("read", [read_image, read_mask, image_size])
def test_missing_files_and_folders(tmp_path, read):
    with pytest.raises(DataError, match="does not exist") as e:
        read(tmp_path / "gone.png")
    assert "gone.png" in str(e.value.where)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match="folder"):
        read(tmp_path / "folder.png")


def test_an_animated_png_is_a_stack(tmp_path):
    frames = [Image.fromarray(noise(i)) for i in range(3)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="3 frames"):
        read_image(tmp_path / "a.png")


def test_colour_masks(tmp_path):
    red = np.zeros((4, 4, 3), dtype=np.uint8)
    red[1, 2, 0] = 200
    path = save(tmp_path / "a.png", red)
    for rule in ("nonzero", "half"):
        assert np.argwhere(read_mask(path, rule)).tolist() == [[1, 2]]
    with pytest.raises(DataError, match="colour image") as e:
        read_mask(path, [200])
    assert "nonzero" in str(e.value.fix)
    path = save(tmp_path / "b.png", red.max(axis=2, keepdims=True).repeat(3, axis=2))
    assert np.argwhere(read_mask(path, [200])).tolist() == [[1, 2]]


def test_half_of_a_float_mask_needs_a_known_range(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 0.4, 0.6]], dtype=np.float32))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif", "half"), [[0, 0, 1]])
    tifffile.imwrite(tmp_path / "b.tif", np.array([[0, 255.0]], dtype=np.float32))
    with pytest.raises(DataError, match="255") as e:
        read_mask(tmp_path / "b.tif", "half")
    assert "mask_rule" in str(e.value.fix)


def test_values_and_mask_of_one_decoding_agree(tmp_path):
    path = save(tmp_path / "a.png", np.array([[0, 3, 7], [7, 0, 9]], dtype=np.uint8))
    file = open_mask(path)
    np.testing.assert_array_equal(file.marked([7]), [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(file.marked("nonzero"), read_mask(path))
    np.testing.assert_array_equal(file.values, mask_values(path))
    np.testing.assert_array_equal(file.values, [0, 3, 7, 9])


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_written_masks_come_back(tmp_path_factory, mask):
    path = tmp_path_factory.mktemp("m") / "new" / "a.png"
    write_mask(path, mask)
    np.testing.assert_array_equal(read_mask(path, "nonzero"), mask)
    assert set(mask_values(path)) <= {0, 255}
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_a_failed_write_leaves_the_old_mask(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_mask(path, np.ones((3, 3), dtype=bool))
    before = path.read_bytes()

    def fail(part: Path, data: bytes) -> None:
        with part.open("wb") as f:
            f.write(data[:10])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(DiskError, match="cannot be written") as e:
        write_mask(path, np.zeros((3, 3), dtype=bool))
    assert "disk full" in str(e.value.found)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(ValueError, match="shape"):
        write_mask(path, np.zeros((2, 3, 3), dtype=bool))


def test_scale_by_type():
    eight = np.array([[0, 51, 255]], dtype=np.uint8)
    np.testing.assert_allclose(scale_intensity(eight, "auto"), [[0, 0.2, 1]], rtol=1e-6)
    sixteen = np.array([[0, 13107, 65535]], dtype=np.uint16)
    np.testing.assert_allclose(scale_intensity(sixteen, "dtype"), [[0, 0.2, 1]], rtol=1e-6)
    with pytest.raises(DataError, match="from -1 to 3") as e:
        scale_intensity(np.array([[-1.0, 3.0]], dtype=np.float32), "dtype")
    assert "percentile" in str(e.value.fix)


def test_scale_by_percentile():
    ramp = np.arange(1001, dtype=np.uint16)[None]  # percentiles 5 and 995
    out = scale_intensity(ramp, "auto")
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[0, [0, 5, 500, 995, 1000]], [0, 0, 0.5, 1, 1], atol=1e-6)
    assert not scale_intensity(np.full((4, 4), 7, dtype=np.uint16), "percentile").any()
    sparse = np.zeros((40, 40), dtype=np.uint16)
    sparse[3, 3] = 900
    np.testing.assert_array_equal(scale_intensity(sparse), sparse / 900)


@given(
    hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)),
    st.sampled_from(["auto", "dtype", "percentile"]),
)
def test_scaled_intensities_keep_range_and_order(image, how):
    out = scale_intensity(image, how)
    assert out.min() >= 0
    assert out.max() <= 1
    order = np.argsort(image, axis=None, kind="stable")
    assert (np.diff(out.ravel()[order]) >= 0).all()


def test_grey_is_one_channel_or_three_equal_ones():
    grey = noise(1)
    assert is_grey(grey)
    assert is_grey(np.stack([grey] * 3, axis=-1))
    assert not is_grey(np.stack([grey, grey, grey ^ 1], axis=-1))


def test_raw_lgg_slices(shared):
    folder = present(
        shared / "data/raw_samples/lgg-mri-segmentation/kaggle_3m/TCGA_CS_4943_20000902"
    )
    slices = sorted(p for p in folder.glob("*.tif") if "mask" not in p.name)
    assert len(slices) == 20
    marked = 0
    for path in slices:
        image = read_image(path)
        assert (image.shape, image.dtype) == ((256, 256, 3), np.uint8)
        np.testing.assert_array_equal(image, np.asarray(Image.open(path)))
        mask = read_mask(path.with_name(f"{path.stem}_mask.tif"))
        assert mask.shape == (256, 256)
        marked += bool(mask.any())
    assert 0 < marked < 20


def test_raw_busi_images(shared):
    folder = present(shared / "data/raw_samples/Dataset_BUSI_with_GT")
    images = [p for p in folder.rglob("*.png") if "mask" not in p.name]
    assert images
    for path in images:
        image, mask = read_image(path), read_mask(path.with_name(f"{path.stem}_mask.png"))
        assert image.dtype == np.uint8
        assert is_grey(image)
        assert mask.shape == image.shape[:2] == image_size(path)
        assert mask.any() == ("normal" not in path.name)
        assert mask.mean() < 0.6


@given(st.data(), st.sampled_from(["u1", "u2", "i2", "f4", "?"]), st.integers(1, 3))
def test_the_values_of_a_mask_are_those_that_numpy_finds(data, dtype, most):
    some = hnp.from_dtype(np.dtype(dtype), allow_nan=False)
    held = data.draw(st.lists(some, min_size=1, max_size=most))
    place = data.draw(hnp.arrays(np.int64, (3, 5), elements=st.integers(0, len(held) - 1)))
    raw = np.asarray(held, dtype=dtype)[place]
    np.testing.assert_array_equal(distinct(raw), np.unique(raw), strict=True)
