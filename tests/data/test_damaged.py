"""Damaged and hostile image files: refused by name, soon, and with little memory."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image

from tests.data.helpers import good_rows, noise, present, write_rows
from tests.tiny import weakseg
from weakseg.data import decoding, jpeg, pixels
from weakseg.data.decoding import decode, image_size
from weakseg.data.fingerprint import data_fingerprint
from weakseg.data.images import read_image, read_mask
from weakseg.errors import DataError

SMOOTH = np.add.outer(np.arange(64) * 3, np.arange(48) * 2).astype(np.uint8)
COLOUR = np.stack([SMOOTH, SMOOTH[::-1], noise(1, SMOOTH.shape)], axis=-1)


def jpeg_of(array: np.ndarray = COLOUR, **options: object) -> bytes:
    f = io.BytesIO()
    Image.fromarray(array).save(f, format="JPEG", **options)
    return f.getvalue()


def tiff_of(array: np.ndarray = SMOOTH, **options: object) -> bytes:
    f = io.BytesIO()
    tifffile.imwrite(f, array, **{"rowsperstrip": 16, "metadata": None} | options)
    return f.getvalue()


def pillow_tiff(array: np.ndarray, compression: str, rows: int = 16) -> bytes:
    f = io.BytesIO()
    Image.fromarray(array).save(f, format="TIFF", compression=compression, tiffinfo={278: rows})
    return f.getvalue()


def patched(data: bytes, code: int, values: dict[int, int], page: int = 0) -> bytes:
    """A TIFF with some values of a tag replaced; the tag's count stays."""
    file = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        tag, order = tiff.pages[page].tags[code], tiff.byteorder
    kind = {3: "H", 4: "I", 16: "Q"}[int(tag.dtype)]
    for k, value in values.items():
        struct.pack_into(order + kind, file, tag.valueoffset + k * struct.calcsize(kind), value)
    return bytes(file)


def recounted(data: bytes, code: int, count: int) -> bytes:
    """A TIFF with another number of values claimed by a tag."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        tag, order = tiff.pages[0].tags[code], tiff.byteorder
    file = bytearray(data)
    struct.pack_into(order + "I", file, tag.offset + 4, count)
    return bytes(file)


def retyped(data: bytes, code: int, kind: int) -> bytes:
    """A TIFF with another type of a tag's values."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        tag, order = tiff.pages[0].tags[code], tiff.byteorder
    file = bytearray(data)
    struct.pack_into(order + "H", file, tag.offset + 2, kind)
    return bytes(file)


def chained(data: bytes, targets: list[int]) -> bytes:
    """A TIFF whose directories point at the directories given by index."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        form = "Q" if tiff.is_bigtiff else "I"
        offsets = [p.offset for p in tiff.pages]
        ends = [
            p.offset + tiff.tiff.tagnosize + len(p.tags) * tiff.tiff.tagsize for p in tiff.pages
        ]
        order = tiff.byteorder
    file = bytearray(data)
    for end, target in zip(ends, targets, strict=True):
        struct.pack_into(order + form, file, end, offsets[target])
    return bytes(file)


def pages(count: int, **options: object) -> bytes:
    f = io.BytesIO()
    with tifffile.TiffWriter(f, **options) as writer:
        for _ in range(count):
            writer.write(SMOOTH[:8, :8], metadata=None)
    return f.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of(packed: bytes, extra: bytes = b"", side: int = 8, interlaced: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, interlaced))
    end = chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", packed) + end


ROWS = (b"\0" + bytes(range(8))) * 8
WHOLE = png_of(zlib.compress(ROWS))


def without_last_scans(data: bytes, keep: int) -> bytes:
    """A progressive JPEG that ends after some scans."""
    starts = [i for i in range(len(data) - 1) if data[i : i + 2] == b"\xff\xda"]
    return data[: starts[keep]] + b"\xff\xd9"


def in_two(data: bytes) -> bytes:
    return data[: len(data) // 2] + b"\xff\xd9"


def endless_segments() -> bytes:
    return b"\xff\xd8" + b"\xff\xe5\0\x02" * 200_000 + jpeg_of()[2:]


def many_scans() -> bytes:
    data = jpeg_of(SMOOTH, progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * 300 + b"\xff\xd9"


def cmyk() -> bytes:
    f = io.BytesIO()
    Image.fromarray(COLOUR).convert("CMYK").save(f, format="JPEG", quality=99)
    return f.getvalue()


def wrong_pixels() -> bytes:
    stored = zlib.compress(ROWS, 0)  # unpacked, so that a changed byte still unpacks
    data = bytearray(png_of(stored))
    data[data.index(b"IDAT") + 20] ^= 1
    return bytes(data)


def shortened(compression: str, strip: bytes) -> bytes:
    """A TIFF whose second strip is replaced by another."""
    data = tiff_of(compression=compression)
    data = patched(data, 273, {1: len(data)})
    return patched(data, 279, {1: len(strip)}) + strip


def packed(strip: bytes) -> bytes:
    """A TIFF in PackBits whose first strip is replaced by another."""
    data = pillow_tiff(SMOOTH, "packbits")
    data = patched(data, 273, {0: len(data)})
    return patched(data, 279, {0: len(strip)}) + strip


def wrong_code(compression: str) -> bytes:
    data = bytearray(pillow_tiff(noise(1) > 127, compression))
    data[40:44] = bytes(4)  # no code has so many zeros
    return bytes(data)


def cut_strip(data: bytes) -> bytes:
    """A TIFF whose first strip has lost its second half; its size says so."""
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        counts = tiff.pages[0].tags[279].value
    return patched(data, 279, {0: (counts if isinstance(counts, int) else counts[0]) // 2})


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
        lambda: png_of(zlib.compress(ROWS), chunk(b"teSt", b"") * 100_001),
        "more than 100000 chunks",
    ),
    "PNG with a bomb of text": (
        lambda: png_of(zlib.compress(ROWS), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))),
        "damaged",
    ),
    "PNG of no width": (lambda: png_of(zlib.compress(ROWS), side=0), "0 × 0 pixels"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_an_error_within_a_second(tmp_path, kind):
    make, says = DAMAGED[kind]
    path = tmp_path / "case 17"
    path.write_bytes(make())
    begun = time.process_time()
    with pytest.raises(DataError) as e:
        read_image(path)
    assert time.process_time() - begun < 1
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
    begun = time.process_time()
    with pytest.raises(DataError, match="damaged"):
        image_size(path)
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    "make",
    [
        jpeg_of,
        lambda: jpeg_of(SMOOTH, progressive=True),
        lambda: jpeg_of(progressive=True, restart_marker_rows=1),
        lambda: jpeg_of() + b"what some cameras write behind the end",
        lambda: jpeg_of().replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1),
        lambda: WHOLE,
        lambda: WHOLE + b"behind the end",
        lambda: tiff_of(tile=(16, 32)),
        lambda: tiff_of(tile=(16, 32), compression="zlib", predictor=True),
        lambda: tiff_of(bigtiff=True),
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


# Memory and limits


@pytest.mark.parametrize(
    ("shape", "dtype"), [((9000, 9000, 3), "u2"), ((6000, 6000), "f8"), ((10_000, 9000), "u1")]
)
def test_the_limit_counts_bytes_and_is_told(tmp_path, shape, dtype):
    """A small file that claims a large image: its header is enough."""
    small = tiff_of(np.zeros((64, 64, *shape[2:]), dtype=dtype))
    path = tmp_path / "a.tif"
    path.write_bytes(patched(patched(small, 257, {0: shape[0]}), 256, {0: shape[1]}))
    for read in (decode, image_size):
        with pytest.raises(DataError, match="too large") as e:
            read(path)
        megabytes = np.prod(shape) * np.dtype(dtype).itemsize / 1e6
        assert f"{shape[0]} × {shape[1]} pixels take {megabytes:.0f} MB" in e.value.what
        assert "the limit is 89 million pixels and 268 MB" in e.value.what
        assert "tiles" in str(e.value.fix)


def sparse(path: Path, head: bytes, size: int) -> Path:
    with path.open("wb") as f:
        f.write(head)
        f.truncate(size)
    return path


@pytest.mark.parametrize("head", [WHOLE[:-12], jpeg_of(), tiff_of()])
@pytest.mark.parametrize("read", [decode, image_size])
def test_a_file_of_a_gigabyte_is_not_read_before_its_header(tmp_path, head, read):
    path = sparse(tmp_path / "a", head, 2**30)
    tracemalloc.start()
    try:
        if read is decode:
            with pytest.raises(DataError, match="the file has 1074 MB, and the limit is 336 MB"):
                read(path)
        else:
            with contextlib.suppress(DataError):
                read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_a_stack_is_called_so_though_it_is_a_large_file(tmp_path):
    path = sparse(tmp_path / "a.tif", pages(3), 2**29)
    with pytest.raises(DataError, match="3 pages"):
        decode(path)


def test_an_unexpected_exception_of_a_decoder_is_a_data_error(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(WHOLE)

    def broken(*_: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setitem(decoding._DECODE, "png", broken)
    with pytest.raises(DataError, match="too deep"):
        decode(tmp_path / "a.png")
    empty = pixels.Pixels(np.empty((8, 8, 0), dtype=np.uint8), 8)
    monkeypatch.setitem(decoding._DECODE, "png", lambda *_: empty)
    with pytest.raises(DataError, match="8, 8, 0"):
        decode(tmp_path / "a.png")


def test_the_check_of_a_jpeg_gives_its_size():
    assert jpeg.refuse_unfilled(jpeg_of()) == (64, 48)


def rare_jpeg(scan: bytes) -> bytes:
    """64 × 48 pixels by hand: of its three components the second is the finest, as no library
    writes it. 0 codes a block of the same mean, and its end; 101 a step up, 100 a step down.
    """

    def segment(marker: int, *parts: bytes) -> bytes:
        data = b"".join(parts)
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    sampling = bytes([1, 0x11, 0, 2, 0x21, 0, 3, 0x11, 0])
    return b"".join(
        (
            b"\xff\xd8",
            segment(0xDB, b"\0", b"\x08" * 64),  # a change by one is one level
            segment(0xC0, struct.pack(">BHHB", 8, 48, 64, 3), sampling),
            segment(0xC4, b"\0", bytes([1, 1, *[0] * 14]), b"\0\1"),
            segment(0xC4, b"\x10", bytes([1, *[0] * 15]), b"\0"),
            segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 63, 0])),
            scan,
            b"\xff\xd9",
        )
    )


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
    assert "not supported (floats of 1 bits)" in found[4, "image-unreadable"]["message"]


def test_a_fingerprint_reads_a_large_file_a_little_at_a_time(tmp_path):
    sparse(tmp_path / "a.png", WHOLE, 2**26)
    manifest = write_rows(tmp_path, [["image", "label"], ["a.png", "tumor"], ["gone.png", "x"]])
    tracemalloc.start()
    try:
        found = data_fingerprint(manifest)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    content = hashlib.blake2b((tmp_path / "a.png").read_bytes()).digest()
    whole = manifest.read_bytes() + content + b"missing"
    assert found == hashlib.blake2b(whole, digest_size=16).hexdigest()
