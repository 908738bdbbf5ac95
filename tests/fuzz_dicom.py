"""DICOM files and series for `tests.fuzz`: what is damaged, and how it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import compress
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tests import dicom_files as made
from tests.fuzz_seed import Seed
from weakseg.data.formats.reading import read_frame
from weakseg.data.formats.registry import IMAGES
from weakseg.data.images import read_image
from weakseg.data.volumes import read_volume
from weakseg.errors import DataError

BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
"""pydicom's own files: of syntaxes that it decodes, but does not write."""


def _saved(folder: Path, data: pydicom.Dataset, **how: str) -> bytes:
    path = made.save(folder / "seed", data, **how)
    content = path.read_bytes()
    path.unlink()
    return content


def dicom_seeds(folder: Path) -> list[Seed]:
    """Images of every syntax that a package decodes."""
    values = made.voxels(1, 66, 70)[0]
    colours = np.random.default_rng(2).integers(0, 256, (66, 70, 3)).astype(np.uint8)

    def slice_of(syntax: str) -> bytes:
        data = made.placed(made.with_pixels(made.header(), values), (1, 2, 3))
        data.WindowCenter, data.WindowWidth, data.RescaleSlope = 40, 400, 1
        data.RescaleIntercept = -1024
        if syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
            _saved(folder, data)
            compress(data, syntax, generate_instance_uid=False)
        if syntax == ExplicitVRBigEndian:
            data.PixelData = values.astype(">i2").tobytes()
        return _saved(folder, data, syntax=syntax)

    files = {
        "explicit.dcm": slice_of("1.2.840.10008.1.2.1"),
        "implicit.dcm": slice_of(ImplicitVRLittleEndian),
        "big.dcm": slice_of(ExplicitVRBigEndian),
        "deflated.dcm": slice_of(DeflatedExplicitVRLittleEndian),
        "rle.dcm": slice_of(RLELossless),
        "j2k.dcm": slice_of(JPEG2000Lossless),
        "jls.dcm": slice_of(JPEGLSLossless),
        "colour.dcm": _saved(folder, made.with_pixels(made.header(made.US), colours)),
        "frames.dcm": _saved(folder, made.enhanced(made.voxels(4))),
        "report.dcm": _saved(folder, made.header(made.SR)),
        "lossless.dcm": (BUNDLED / "SC_rgb_jpeg_gdcm.dcm").read_bytes(),
        "twelve.dcm": (BUNDLED / "JPGExtended.dcm").read_bytes(),
        "baseline.dcm": (BUNDLED / "SC_rgb_jpeg_dcmtk.dcm").read_bytes(),
    }
    refused = ("frames.dcm", "report.dcm")
    return [Seed(name, data, name not in refused) for name, data in files.items()]


def _refuse_telling(e: DataError) -> None:
    if told := [w for w in made.TELLING if w in e.render()]:
        raise AssertionError(f"the message tells who: {told}")


def read_a_dicom_image(path: Path, _: Path) -> None:
    """By its header, and whole; both have to agree, and nobody is named."""
    try:
        size: tuple[int, ...] | None = read_frame(path, IMAGES).shape[:2]
        image = read_image(path)
    except DataError as e:
        _refuse_telling(e)
        raise
    assert size == image.shape[:2]


def series_seeds(folder: Path) -> list[Seed]:
    """A slice of a series, beside the others."""
    whole = made.slices(made.voxels(5))
    made.save_series(folder / "s", whole[:2] + whole[3:], "{}")
    return [Seed("s/slice.dcm", _saved(folder, whole[2]))]


def read_a_series(path: Path, _: Path) -> None:
    """All of it is there, or it is refused; nobody is named."""
    try:
        volume = read_volume(path.parent)
    except DataError as e:
        _refuse_telling(e)
        raise
    assert volume.values.shape == volume.frame.shape == (10, 12, 5)
