"""From stored pixel data to samples: every transfer syntax that an installed package decodes.

RLE and uncompressed data need pydicom alone and 8-bit JPEG needs Pillow, which weakseg brings; the
other JPEGs need the extra ``dicom``: JPEG-LS pyjpegls, JPEG 2000 pylibjpeg-openjpeg, lossless and
12-bit JPEG gdcm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weakseg.data.formats.dicom.header import COPY_AGAIN, no_values, text, whole_number
from weakseg.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

INSTALL = "pip install 'weakseg[dicom]'"

# The one that is asked first, as each of the others loses bits or warns of something; by the end
# of the transfer syntax's UID behind 1.2.840.10008.1.2.4.
_FIRST = {
    "50": "pillow",
    "51": "gdcm12",
    "57": "gdcm",
    "70": "gdcm",
    "80": "pyjpegls",
    "81": "pyjpegls",
    "90": "pylibjpeg",
    "91": "pylibjpeg",
    "201": "pylibjpeg",
    "202": "pylibjpeg",
    "203": "pylibjpeg",
}
_JPEG = "1.2.840.10008.1.2.4."


def frames(data: Dataset, where: str) -> Iterator[NDArray[Any]]:
    """The samples of each frame, in order.

    Parameters
    ----------
    data : Dataset
        Whole, see `read_header`.
    where : str
        The file, for messages.

    Yields
    ------
    (M, N) or (M, N, 3) ndarray
        Integers or floats in the machine's byte order; luminance and chrominance are red, green
        and blue already, and indices of a palette are not.

    Raises
    ------
    DataError
        Where a package is missing, the syntax is a video's, or fewer samples are stored than the
        header says.
    ValueError
        For what cannot be decoded.
    """
    decoder, plugin = _decoder(data, where)
    _refuse_odd_bits(data, where)
    with no_values():
        count = whole_number(data, "NumberOfFrames", 1)
        if decoder.is_encapsulated:
            _refuse_other_sizes(data, count)
        else:
            _refuse_short(data, count, where)
        made = decoder.iter_array(data, raw=False, decoding_plugin=plugin)
        for k, (values, _) in enumerate(made):
            if k >= count:
                break
            yield values.astype(values.dtype.newbyteorder("="), copy=False)


def _decoder(data: Dataset, where: str) -> tuple[Any, str]:
    """What decodes a data set, and the package that it shall use; "" where it needs none."""
    from pydicom.pixels import get_decoder

    syntax = data.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        name = getattr(syntax, "name", "")
        raise DataError(
            "The pixels are stored in a way that is not decoded.",
            where=where,
            found=name if name[:1].isalpha() else "an unknown transfer syntax",
            fix="export it uncompressed (Explicit VR Little Endian)",
        ) from None
    if not decoder.is_encapsulated:
        return decoder, ""
    plugin = _FIRST.get(str(syntax).removeprefix(_JPEG), "")
    if plugin == "gdcm12":
        from weakseg.data.formats.dicom.jpeg12 import add_to

        add_to(decoder)
        if text(data, "BitsAllocated") == "8":
            plugin = "pillow"
    if plugin and plugin not in decoder.available_plugins:
        others = decoder.available_plugins
        if not others or plugin == "gdcm12":
            raise DataError(
                f"The pixels are compressed as {syntax.name}, and the package that decodes it is "
                "not installed.",
                where=where,
                fix=INSTALL,
            )
        plugin = ""
    return decoder, plugin


def _refuse_odd_bits(data: Dataset, where: str) -> None:
    """Samples whose bits do not begin at the lowest are of files before 1993."""
    stored = whole_number(data, "BitsStored", whole_number(data, "BitsAllocated", 0))
    high = whole_number(data, "HighBit", stored - 1)
    if high != stored - 1:
        raise DataError(
            "The samples do not fill the lowest bits.",
            where=where,
            found=f"BitsStored {stored} and HighBit {high}",
            expected=f"HighBit {stored - 1}",
            fix=COPY_AGAIN,
        )


def _refuse_short(data: Dataset, count: int, where: str) -> None:
    rows, columns = (whole_number(data, k, 0) for k in ("Rows", "Columns"))
    bits = whole_number(data, "BitsAllocated", 0) * whole_number(data, "SamplesPerPixel", 1)
    if text(data, "PhotometricInterpretation") == "YBR_FULL_422":
        bits = bits * 2 // 3
    pixels = next((data[k] for k in _PIXELS if k in data), None)
    if pixels is None:
        raise DataError(
            "The DICOM file has no pixels.", where=where, found="a header alone", fix=COPY_AGAIN
        )
    wanted = -(-rows * columns * bits * count // 8)
    if len(pixels.value) < wanted:
        raise DataError(
            "The DICOM file is truncated.",
            where=where,
            found=f"{len(pixels.value)} bytes of pixels",
            expected=f"{wanted} for {rows} × {columns} pixels"
            + (f" in {count} frames" if count > 1 else ""),
            fix=COPY_AGAIN,
        )


_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def _refuse_other_sizes(data: Dataset, count: int) -> None:
    """Compressed frames tell their own size: one that claims another could fill the memory."""
    from pydicom.encaps import generate_frames

    if "PixelData" not in data:
        raise ValueError("the file has no pixels")
    size = (whole_number(data, "Rows", 0), whole_number(data, "Columns", 0))
    seen = 0
    for frame in generate_frames(data.PixelData, number_of_frames=count):
        seen += 1
        own = _coded_size(frame)
        if own is not None and own != size:
            raise DataError(
                "A compressed frame has another size than its header says.",
                found=f"{own[0]} × {own[1]} pixels",
                expected=f"{size[0]} × {size[1]}",
                fix=COPY_AGAIN,
            )
    if seen < count:
        raise ValueError(f"{seen} of {count} frames are there")


def _coded_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 stream begins with; None of others."""
    siz = frame[:4096].find(b"\xff\x4f\xff\x51")
    if siz >= 0:  # JPEG 2000, 15444-1 A.5.1: the grid's size less its offset
        x, y, x0, y0 = (
            int.from_bytes(frame[siz + k : siz + k + 4], "big") for k in (8, 12, 16, 20)
        )
        return y - y0, x - x0
    if frame[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 < len(frame) and frame[at] == 0xFF:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = (int.from_bytes(frame[at + k : at + k + 2], "big") for k in (5, 7))
            return rows, columns
        at += 2 + length
    return None


def stored_range(data: Dataset) -> tuple[float, float]:
    """The least and the largest value that stored samples can have."""
    bits = whole_number(data, "BitsStored", whole_number(data, "BitsAllocated", 16))
    if not 1 <= bits <= 32:
        raise ValueError(f"{bits} bits a sample")
    if whole_number(data, "PixelRepresentation", 0):
        return float(-(2 ** (bits - 1))), float(2 ** (bits - 1) - 1)
    return 0.0, float(2**bits - 1)


def sample_type(data: Dataset) -> np.dtype[Any]:
    """The type of the samples, from the header."""
    bits = whole_number(data, "BitsAllocated", 16)
    if bits not in (1, 8, 16, 32, 64):
        raise ValueError(f"{bits} bits allocated a sample")
    sign = "i" if whole_number(data, "PixelRepresentation", 0) else "u"
    return np.dtype(f"{sign}{max(1, bits // 8)}")
