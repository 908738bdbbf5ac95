"""Large files, and large images in small files: what is read of them, and what is said."""

from __future__ import annotations

import contextlib
import hashlib
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.data.formats.broken_images import WHOLE, jpeg_of, pages, patched, sparse, tiff_of
from tests.data.helpers import image_size, write_rows
from weakseg.data.fingerprint import data_fingerprint
from weakseg.data.formats import jpeg, pixels, reading, registry
from weakseg.data.formats.png import PNG
from weakseg.data.formats.reading import decode
from weakseg.errors import DataError


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


@pytest.mark.parametrize("head", [WHOLE[:-12], jpeg_of(), tiff_of()], ids=["png", "jpeg", "tiff"])
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

    def decoding_by(read: Callable[..., object]) -> None:
        formats = replace(registry.IMAGES, each=(replace(PNG, read=read),))
        monkeypatch.setattr(reading, "IMAGES", formats)

    decoding_by(broken)
    with pytest.raises(DataError, match="too deep"):
        decode(tmp_path / "a.png")
    empty = pixels.Pixels(np.empty((8, 8, 0), dtype=np.uint8), 8)
    decoding_by(lambda *_: empty)
    with pytest.raises(DataError, match="8, 8, 0"):
        decode(tmp_path / "a.png")


def test_the_check_of_a_jpeg_gives_its_size():
    assert jpeg.refuse_unfilled(jpeg_of()) == (64, 48)


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
