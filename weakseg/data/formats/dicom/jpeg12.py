"""12-bit JPEG (Extended, Process 2 and 4) by gdcm, as a plugin of pydicom's decoders.

pydicom's own plugin for gdcm refuses it; gdcm's images equal those of SimpleITK's reader.
"""

from __future__ import annotations

import contextlib
from typing import Any

from pydicom.uid import JPEGExtended12Bit

DECODER_DEPENDENCIES = {JPEGExtended12Bit: ("gdcm>=3.0.10",)}

_LABEL = "gdcm12"


def is_available(uid: str) -> bool:
    """Whether gdcm is installed; asked by pydicom."""
    import importlib.util

    return uid in DECODER_DEPENDENCIES and importlib.util.find_spec("gdcm") is not None


def add_to(decoder: Any) -> None:
    """Make the plugin known to pydicom's decoder, once."""
    with contextlib.suppress(ValueError):  # it is known already
        decoder.add_plugin(_LABEL, (__name__, "decode_frame"))


def decode_frame(src: bytes, runner: Any) -> bytes:
    """One frame's samples, little endian.

    Parameters
    ----------
    src : bytes
        The JPEG.
    runner : pydicom.pixels.decoders.base.DecodeRunner
        Size and bits.
    """
    import gdcm

    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(bytes(src))
    sequence = gdcm.SequenceOfFragments.New()
    sequence.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(sequence.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(str(runner.photometric_interpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    syntax = gdcm.TransferSyntax.GetTSType(str.__str__(runner.transfer_syntax))
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    bits = runner.bits_stored
    image.SetPixelFormat(
        gdcm.PixelFormat(
            runner.samples_per_pixel,
            runner.bits_allocated,
            bits,
            bits - 1,
            runner.pixel_representation,
        )
    )
    decoded = image.GetBuffer()  # bytes, as text
    if not decoded:
        raise ValueError("gdcm decodes nothing")
    return decoded.encode("utf-8", "surrogateescape")
