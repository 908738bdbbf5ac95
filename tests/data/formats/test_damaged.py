"""Damaged and hostile image files: refused by name, and soon."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image, ImageOps

from tests.data.formats.broken_images import (
    COLOUR,
    ROWS,
    SMOOTH,
    WHOLE,
    chained,
    chunk,
    cmyk,
    cut_strip,
    endless_segments,
    in_two,
    jpeg_of,
    many_scans,
    packed,
    pages,
    patched,
    pillow_tiff,
    png_of,
    rare_jpeg,
    recounted,
    retyped,
    shortened,
    tiff_of,
    two_channels,
    without_last_scans,
    wrong_code,
    wrong_pixels,
)
from tests.data.helpers import good_rows, image_size, noise, present, write_rows
from tests.tiny import weakseg
from tests.work import calls_at_most
from weakseg.data.formats.reading import decode
from weakseg.data.formats.tiff_data import refuse_missing_data
from weakseg.data.images import read_image, read_mask
from weakseg.errors import DataError

DAMAGED: dict[str, tuple[Callable[[], bytes], str]] = {
    # TIFF: its directories
    "one directory in a circle": (lambda: chained(pages(1), [0]), "circle"),
    "two directories in a circle": (lambda: chained(pages(2), [1, 0]), "circle"),
    "a BigTIFF in a circle": (lambda: chained(pages(2, bigtiff=True), [1, 1]), "circle"),
    "big-endian in a circle": (lambda: chained(pages(1, byteorder=">"), [0]), "circle"),
    "thousands of pages": (lambda: pages(4200), "more than 4096 pages"),
    "a directory beyond the end": (lambda: b"II*\0" + struct.pack("<I", 10**6), "beyond the end"),
    "a directory without tags": (lambda: b"II*\0\x08\0\0\0\0\0\0\0\0\0", "0 tags"),
    "a BigTIFF of many tags": (
        lambda: b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**60) + bytes(99),
        "tags",
    ),
    "huge count of a tag": (lambda: recounted(tiff_of(), 273, 2**31), "tag 273 lies beyond"),
    "tags that each claim the whole file": (
        lambda: (
            b"II*\0"
            + struct.pack("<IH", 8, 4000)
            + b"".join(struct.pack("<HHII", 40_000 + k, 1, 50_000, 0) for k in range(4000))
            + bytes(10_000)
        ),
        "claim more than the file holds",
    ),
    "a tag beyond the end": (
        lambda: tiff_of(description="x" * 99).replace(b"x" * 99, b"")[:250],
        "damaged",
    ),
    "a tag of an unknown type": (lambda: retyped(tiff_of(), 258, 99), "wrong type 99"),
    "a width that is a float": (lambda: retyped(tiff_of(), 256, 11), "tag 256 is of the wrong"),
    "a TIFF without photometry": (
        lambda: tiff_of().replace(struct.pack("<HHI", 262, 3, 1), struct.pack("<HHI", 263, 3, 1)),
        "what its samples mean",
    ),
    # TIFF: its data
    "1 bit where 8 were": (lambda: patched(tiff_of(), 258, {0: 1}), "768 bytes where its"),
    "8 bits where 16 were": (
        lambda: patched(tiff_of(SMOOTH.astype(np.uint16)), 258, {0: 8}),
        "1536 bytes where its pixels take 768",
    ),
    "strip without bytes": (lambda: patched(tiff_of(), 279, {1: 0}), "strip 2 of 4 is missing"),
    "strip at 0": (lambda: patched(tiff_of(), 273, {3: 0}), "strip 4 of 4 is missing"),
    "strip beyond the end": (lambda: patched(tiff_of(), 273, {0: 10**6}), "beyond the end"),
    "too few strips": (
        lambda: recounted(recounted(tiff_of(), 273, 3), 279, 3),
        "3 strips are listed where the image takes 4",
    ),
    "too short a strip": (lambda: patched(tiff_of(), 279, {2: 99}), "strip 3 of 4 is cut off"),
    "tile at 0": (
        lambda: patched(tiff_of(tile=(16, 16)), 324, {5: 0}),
        "tile 6 of 12 is missing",
    ),
    "tile without bytes": (lambda: patched(tiff_of(tile=(16, 16)), 325, {5: 0}), "tile 6 of 12"),
    "deflate of too few rows": (
        lambda: patched(tiff_of(compression="zlib"), 257, {0: 66}) + b"",
        "strips are listed",
    ),
    "deflate with a short strip": (lambda: shortened("zlib", zlib.compress(bytes(48 * 15))), "cut"),
    "deflate that is a bomb": (lambda: shortened("zlib", zlib.compress(bytes(10**7))), "more than"),
    "PackBits with a short strip": (lambda: packed(b"\x81\0" * 5), "cut off"),
    "PackBits that is a bomb": (lambda: packed(b"\x81\0" * 50_000), "more than"),
    "LZW cut": (lambda: cut_strip(pillow_tiff(SMOOTH, "tiff_lzw")), "damaged"),
    "JPEG in a TIFF cut": (lambda: cut_strip(pillow_tiff(COLOUR, "jpeg")), "end of JPEG file"),
    "group 4 cut": (lambda: cut_strip(pillow_tiff(noise(1) > 127, "group4")), "fax-coded"),
    "group 3 cut": (lambda: cut_strip(pillow_tiff(noise(1) > 127, "group3")), "fax-coded"),
    "group 4 with a wrong code": (lambda: wrong_code("group4"), "fax-coded"),
    "group 3 with a wrong code": (lambda: wrong_code("group3"), "fax-coded"),
    "JPEG in a TIFF of two channels": (two_channels, "2 channels cannot be checked"),
    # JPEG
    "JPEG cut in half": (lambda: in_two(jpeg_of()), "premature end"),
    "grey JPEG cut in half": (lambda: in_two(jpeg_of(noise(1, (64, 48)))), "premature end"),
    "progressive JPEG cut": (lambda: in_two(jpeg_of(progressive=True)), "damaged"),
    "CMYK JPEG cut in half": (lambda: in_two(cmyk()), "premature end"),
    "JPEG with restarts cut in half": (
        lambda: in_two(jpeg_of(restart_marker_rows=1)),
        "premature end",
    ),
    "progressive JPEG without its last scans": (
        lambda: without_last_scans(jpeg_of(progressive=True), -2),
        "scans of the JPEG are missing",
    ),
    "progressive JPEG of one scan": (
        lambda: without_last_scans(jpeg_of(progressive=True), 1),
        "scans of the JPEG are missing",
    ),
    "JPEG whose middle is lost": (
        lambda: (d := jpeg_of())[: len(d) // 2] + d[len(d) // 2 + 200 :],
        "damaged",
    ),
    "JPEG without an end": (lambda: jpeg_of()[:-2], "damaged"),
    "JPEG of endless segments": (endless_segments, "more than 10000 segments"),
    "JPEG of endless filling": (lambda: b"\xff\xd8" + b"\xff" * 10**6, "segments"),
    "JPEG of many scans": (many_scans, "more than 128 scans"),
    "JPEG of a huge size": (
        lambda: jpeg_of().replace(struct.pack(">HH", 64, 48), struct.pack(">HH", 9000, 9000), 1),
        "too short for its size",
    ),
    # PNG
    "PNG cut, with an end": (
        lambda: png_of(zlib.compress(ROWS)[:-20]),
        "do not fill the image",
    ),
    "PNG of too few rows": (lambda: png_of(zlib.compress(ROWS[:-9])), "do not fill the image"),
    "PNG of too many rows": (lambda: png_of(zlib.compress(ROWS * 2)), "more pixels"),
    "PNG that is a bomb": (lambda: png_of(zlib.compress(bytes(10**8))), "more pixels"),
    "PNG without the pixels' checksum": (
        lambda: png_of(zlib.compress(ROWS)[:-4]),
        "do not fill the image",
    ),
    "PNG with a wrong checksum": (
        lambda: WHOLE.replace(struct.pack(">I", zlib.crc32(b"IEND")), b"abcd"),
        "checksum",
    ),
    "PNG with a changed pixel": (wrong_pixels, "incorrect data check"),
    "PNG without an end": (lambda: WHOLE[:-12], "truncated"),
    "PNG without pixels": (lambda: WHOLE.replace(b"IDAT", b"idAT"), "damaged"),
    "PNG of endless chunks": (
        lambda: png_of(zlib.compress(ROWS), chunk(b"teSt", b"") * 1001),
        "more than 1000 chunks",
    ),
    "PNG of endless texts": (
        lambda: png_of(zlib.compress(ROWS), chunk(b"tEXt", b"a\0b") * 50_000),
        "more than 1000 chunks",
    ),
    "PNG of endless chunks of pixels": (
        lambda: png_of(zlib.compress(ROWS), chunk(b"IDAT", b"") * 100_001),
        "more than 100000 chunks",
    ),
    "PNG with a bomb of text": (
        lambda: png_of(zlib.compress(ROWS), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))),
        "damaged",
    ),
    "PNG of an unknown filter": (
        lambda: png_of(zlib.compress(ROWS[:-9] + b"\x05" + ROWS[-8:])),
        "damaged",
    ),
    "PNG with an unknown kind of filters": (
        lambda: WHOLE.replace(WHOLE[8:33], chunk(b"IHDR", WHOLE[16:27] + b"\1\0")),
        "header is damaged",
    ),
    "PNG with a short size of pixels": (
        lambda: png_of(zlib.compress(ROWS), chunk(b"pHYs", b"\0")),
        "damaged",
    ),
    "PNG of no width": (lambda: png_of(zlib.compress(ROWS), side=0), "0 × 0 pixels"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_an_error_soon(tmp_path, kind):
    make, says = DAMAGED[kind]
    path = tmp_path / "case 17"
    path.write_bytes(make())
    with pytest.raises(DataError) as e, calls_at_most(10**6):
        read_image(path)
    assert says in e.value.render()
    assert e.value.where == str(path)
    assert e.value.fix


@pytest.mark.parametrize(
    "kind",
    [k for k in DAMAGED if "circle" in k or "directory" in k or "endless" in k or "tag" in k],
)
def test_headers_alone_are_bounded_as_well(tmp_path, kind):
    path = tmp_path / "a"
    path.write_bytes(DAMAGED[kind][0]())
    with pytest.raises(DataError, match="damaged"), calls_at_most(10**6):
        image_size(path)


@pytest.mark.parametrize(
    "make",
    [
        jpeg_of,
        lambda: jpeg_of(SMOOTH, progressive=True),
        lambda: jpeg_of(progressive=True, restart_marker_rows=1),
        lambda: jpeg_of() + b"what some cameras write behind the end",
        lambda: jpeg_of().replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1),
        lambda: WHOLE,
        lambda: png_of(b"", b"".join(chunk(b"IDAT", bytes([b])) for b in zlib.compress(ROWS))),
        lambda: WHOLE + b"behind the end",
        *(lambda f=f: png_of(zlib.compress(ROWS[:-9] + bytes([f]) + ROWS[-8:])) for f in range(5)),
        lambda: png_of(zlib.compress(ROWS), chunk(b"tEXt", b"Comment\0drawn by hand")),
        lambda: tiff_of(tile=(16, 32)),
        lambda: tiff_of(tile=(16, 32), compression="zlib", predictor=True),
        lambda: tiff_of(bigtiff=True),
        # Inner and EXIF directories that are the directory itself: nobody asks for them.
        lambda: tiff_of(extratags=[(330, "I", 3, (8, 8, 8), True)]),
        lambda: tiff_of(extratags=[(34665, "I", 1, 8, True)]),
        lambda: pillow_tiff(COLOUR, "packbits"),
        lambda: pillow_tiff(COLOUR, "jpeg"),
        lambda: pillow_tiff(noise(1) > 127, "group4"),
        lambda: pillow_tiff(noise(1) > 127, "group3"),
        lambda: pillow_tiff(noise(1) > 127, "tiff_ccitt"),
        lambda: pillow_tiff(SMOOTH > 90, "group4"),
    ],
)
def test_whole_files_of_these_kinds_are_read_as_pillow_or_tifffile_read_them(tmp_path, make):
    data = make()
    path = tmp_path / "a"
    path.write_bytes(data)
    tiff = data[:2] in (b"II", b"MM") and b"tifffile" in data
    expected = tifffile.imread(path) if tiff else np.asarray(Image.open(io.BytesIO(data)))
    found = decode(path).values
    np.testing.assert_array_equal(found, expected.astype(found.dtype))


@pytest.mark.parametrize("where", ["exif", "xmp", "raw profile"])
def test_the_orientation_of_a_png_is_found_wherever_pillow_finds_it(tmp_path, where):
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    raw = b"\nexif\n" + str(len(exif.tobytes())).encode() + b"\n" + exif.tobytes().hex().encode()
    told = {
        "exif": chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
        "xmp": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        "raw profile": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw)),
    }
    path = tmp_path / "a.png"
    path.write_bytes(png_of(zlib.compress(ROWS), told[where]))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
        assert image.getexif()[0x0112] == 6
    np.testing.assert_array_equal(decode(path).values, expected)
    assert decode(path).orientation == 6


@pytest.mark.parametrize(
    ("mode", "compression"),
    [
        *product(["YCbCr", "CMYK", "RGBA"], [None, "packbits", "tiff_adobe_deflate", "jpeg"]),
        *product(["LA"], [None, "packbits", "tiff_adobe_deflate"]),
    ],
)
def test_tiffs_of_other_colours_count_as_whole(tmp_path, mode, compression):
    path = tmp_path / "a.tif"
    image = Image.fromarray(COLOUR).convert(mode)
    image.save(path, compression=compression)
    values = decode(path).values
    with Image.open(path) as again:
        expected = np.asarray(again.convert("RGB") if mode != "LA" else again)
    np.testing.assert_array_equal(values, expected[..., 0] if mode == "LA" else expected)


def test_subsampled_colours_take_fewer_bytes(tmp_path):
    # Units of 2 × 2 pixels: four of brightness, and a pair of colours.
    grey = np.full((16, 16), 128, np.uint8)
    data = tiff_of(np.stack([grey] * 3, axis=-1), photometric="ycbcr")
    data = patched(data, 530, {0: 2, 1: 2})
    path = tmp_path / "a.tif"
    for size, whole in ((16 * 16 * 6 // 4, True), (16 * 16 * 6 // 4 - 1, False)):
        path.write_bytes(patched(data, 279, {0: size}))
        with tifffile.TiffFile(path) as tiff, path.open("rb") as f:
            if whole:
                refuse_missing_data(tiff.pages[0], f)
            else:
                with pytest.raises(ValueError, match="383 of 384 bytes"):
                    refuse_missing_data(tiff.pages[0], f)


def test_interlaced_png_is_whole(tmp_path):
    # Adam7 of 8 × 8 pixels: the pixels of the passes, row by row, worked out by hand.
    grid = np.arange(64, dtype=np.uint8).reshape(8, 8)
    parts = [grid[::8, ::8], grid[::8, 4::8], grid[4::8, ::4], grid[::4, 2::4]]
    parts += [grid[2::4, ::2], grid[::2, 1::2], grid[1::2]]
    rows = b"".join(b"\0" + r.tobytes() for part in parts for r in part)
    (tmp_path / "a.png").write_bytes(png_of(zlib.compress(rows), interlaced=1))
    np.testing.assert_array_equal(decode(tmp_path / "a.png").values, grid)
    (tmp_path / "b.png").write_bytes(png_of(zlib.compress(rows[:-9]), interlaced=1))
    with pytest.raises(DataError, match="do not fill"):
        decode(tmp_path / "b.png")


@pytest.mark.parametrize("compression", ["zlib", "tiff_lzw", "tiff_lzw 16"])
def test_the_image_is_read_where_its_thumbnail_comes_first(tmp_path, compression):
    """Pillow and OpenCV read the first directory, whatever is in it."""
    array = SMOOTH.astype(np.uint16) * 257 if "16" in compression else SMOOTH
    path = tmp_path / "a.tif"
    if compression == "zlib":
        with tifffile.TiffWriter(path) as writer:
            writer.write(array[::2, ::2], subfiletype=1, compression="zlib", metadata=None)
            writer.write(array, compression="zlib", metadata=None)
    else:
        first, second = Image.fromarray(array[::2, ::2]), Image.fromarray(array)
        first.save(
            path,
            format="TIFF",
            save_all=True,
            append_images=[second],
            compression="tiff_lzw",
            tiffinfo={254: 1},
        )
        path.write_bytes(patched(path.read_bytes(), 254, {0: 0}, page=1))
    np.testing.assert_array_equal(decode(path).values, array)
    assert image_size(path) == array.shape


def test_a_description_copied_from_a_stack_makes_no_stack(tmp_path):
    text = "ImageJ=1.53t\nimages=6\nslices=6\n"
    (tmp_path / "a.tif").write_bytes(tiff_of(description=text))
    np.testing.assert_array_equal(decode(tmp_path / "a.tif").values, SMOOTH)


def test_slices_that_tifffile_describes_in_one_page_are_a_stack(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(1, (6, 16, 16)), truncate=True)
    with pytest.raises(DataError, match="stack"):
        decode(tmp_path / "a.tif")


def test_a_palette_of_one_bit_has_indices(tmp_path):
    colours = np.zeros((3, 256), dtype=np.uint16)
    colours[:, 1] = 0xFFFF
    eight = tiff_of(np.full((16, 16), 0xF0, np.uint8), photometric="palette", colormap=colours)
    few = patched(patched(eight, 258, {0: 1}), 279, {0: 32})
    (tmp_path / "a.tif").write_bytes(few)
    found = decode(tmp_path / "a.tif")
    assert found.values.dtype == np.uint8
    np.testing.assert_array_equal(found.values, [[1, 1, 1, 1, 0, 0, 0, 0] * 2] * 16)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), found.values == 1)


def test_an_unknown_type_of_samples_is_named(tmp_path):
    floats_of_a_bit = patched(tiff_of(SMOOTH.astype(np.float32)), 258, {0: 1})
    (tmp_path / "a.tif").write_bytes(floats_of_a_bit)
    for read in (decode, image_size):
        with pytest.raises(DataError, match="not supported") as e:
            read(tmp_path / "a.tif")
        assert e.value.found == "floats of 1 bits"
    (tmp_path / "b.tif").write_bytes(patched(tiff_of(), 277, {0: 0}))
    with pytest.raises(DataError, match="damaged"):
        decode(tmp_path / "b.tif")


def test_orientation_behind_the_pixels_turns_size_and_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 4, 8, 0, 0, 0, 0))
    tag = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    data = b"\x89PNG\r\n\x1a\n" + wide + chunk(b"IDAT", zlib.compress(ROWS[:36])) + tag
    (tmp_path / "a.png").write_bytes(data + chunk(b"IEND", b""))
    assert image_size(tmp_path / "a.png") == (8, 4)
    assert decode(tmp_path / "a.png").values.shape == (8, 4)


def test_a_jpeg_of_rare_sampling_is_judged_by_its_pixels(tmp_path):
    # 4 × 6 units of 16 × 8 pixels, of 4 blocks each, of 4 bits each.
    whole = rare_jpeg(b"\xa8" * 48)
    with pytest.raises(ValueError, match="subsampling level"):
        simplejpeg.decode_jpeg(whole, "GRAY")
    path = tmp_path / "a.jpg"
    path.write_bytes(whole)
    np.testing.assert_array_equal(decode(path).values, np.asarray(Image.open(path)))
    for cut in (10, 40, 47):
        path.write_bytes(rare_jpeg(b"\xa8" * cut))
        with pytest.raises(DataError, match="end before the image does"):
            decode(path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("loop.tif", "circle"),
        ("cut_eoi.jpg", "premature end"),
        ("zero_channels.tif", "not supported"),
    ],
)
def test_files_that_users_had(shared, name, says):
    path = present(shared / "cases/files" / name)
    with pytest.raises(DataError) as e:
        read_image(path)
    assert says in e.value.render()


def test_validate_names_every_damaged_file_and_what_else_is_wrong(tmp_path, capsys):
    rows = good_rows(tmp_path)
    for row, kind in ((1, "one directory in a circle"), (2, "JPEG cut in half")):
        (tmp_path / rows[row][0]).write_bytes(DAMAGED[kind][0]())
    floats_of_a_bit = patched(tiff_of(SMOOTH.astype(np.float32)), 258, {0: 1})
    (tmp_path / rows[3][0]).write_bytes(floats_of_a_bit)
    (tmp_path / rows[5][2]).unlink()
    assert weakseg("validate", write_rows(tmp_path, rows), "--json") == 2
    found = {(p["row"], p["kind"]): p for p in json.loads(capsys.readouterr().out)}
    assert {k for k in found if k[0]} == {
        (2, "image-unreadable"),
        (3, "image-unreadable"),
        (4, "image-unreadable"),
        (6, "mask-missing"),
    }
    assert "circle" in found[2, "image-unreadable"]["message"]
    assert "premature end" in found[3, "image-unreadable"]["message"]
    told = found[4, "image-unreadable"]["message"]
    assert "not supported (floats of 1 bits; expected integers" in told


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("kept", [0, 2**24])
def test_large_pngs_are_read_as_small_ones_are(tmp_path, monkeypatch, mode, kept):
    """The rows of small ones are unpacked once, and handed on."""
    monkeypatch.setattr("weakseg.data.formats.png._KEPT", kept)
    image = Image.fromarray(noise(1, (31, 17, 4)))
    image = (
        Image.fromarray(noise(2, (31, 17)).astype(np.uint16) * 199)
        if mode == "I;16"
        else image.convert(mode)
    )
    text = {"transparency": 3} if mode == "P" else {}
    image.save(tmp_path / "a.png", **text)
    pixels = decode(tmp_path / "a.png")
    shown = np.asarray(image)
    values = shown[..., :-1] if mode in ("LA", "RGBA") else shown
    np.testing.assert_array_equal(pixels.values, values.squeeze())
    if mode in ("LA", "RGBA"):
        np.testing.assert_array_equal(pixels.alpha, shown[..., -1])
    if mode == "P":
        np.testing.assert_array_equal(pixels.alpha == 0, values == 3)
