"""What `tests.fuzz` damages: small valid files of every kind, and the readers that take them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import tifffile
from PIL import Image

from weakseg.data.images import image_size, read_image, read_mask
from weakseg.data.nifti import read_grid
from weakseg.data.volumes import read_volume, read_volume_mask
from weakseg.errors import DataError


@dataclass(frozen=True)
class Seed:
    """A valid file, by its path inside the folder of its kind."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Kind:
    """Valid files, and how one of them is read once it is damaged.

    Attributes
    ----------
    name : str
    seeds : callable
        Makes the files, and what has to lie beside them, in a folder.
    read : callable
        Takes the file and the folder; what it raises is judged.
    words : tuple of bytes
        What a text is damaged with besides.
    """

    name: str
    seeds: Callable[[Path], list[Seed]]
    read: Callable[[Path, Path], None]
    words: tuple[bytes, ...] = ()


GREY = np.add.outer(np.arange(40) * 5, np.arange(48) * 2).astype(np.uint8)
GREY[5:20, 8:30] = np.random.default_rng(1).integers(0, 256, (15, 22))
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
DEEP = GREY.astype(np.uint16) * 257


def _pillow(array: np.ndarray, form: str, mode: str | None = None, **options: object) -> bytes:
    image = Image.fromarray(array)
    f = io.BytesIO()
    (image.convert(mode) if mode else image).save(f, format=form, **options)
    return f.getvalue()


def _tiff(array: np.ndarray, **options: object) -> bytes:
    f = io.BytesIO()
    tifffile.imwrite(f, array, **{"rowsperstrip": 16} | options)
    return f.getvalue()


def _two_pages(array: np.ndarray) -> bytes:
    f = io.BytesIO()
    with tifffile.TiffWriter(f) as writer:
        writer.write(array, metadata=None)
        writer.write(array[::2, ::2], subfiletype=1, metadata=None)
    return f.getvalue()


def _mpo() -> bytes:
    second = Image.fromarray(COLOUR[::2, ::2].copy())
    return _pillow(COLOUR, "MPO", save_all=True, append_images=[second])


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def image_seeds(_: Path) -> list[Seed]:
    """PNG, JPEG and TIFF of many variants."""
    binary, shorts = GREY > 100, np.dstack([COLOUR, GREY[..., None]])
    files = {
        "grey.png": _pillow(GREY, "PNG"),
        "colour.png": _pillow(COLOUR, "PNG"),
        "alpha.png": _pillow(shorts, "PNG"),
        "deep.png": _pillow(DEEP, "PNG"),
        "deep_colour.png": cv2.imencode(".png", COLOUR.astype(np.uint16) * 257)[1].tobytes(),
        "palette.png": _pillow(COLOUR, "PNG", "P", transparency=3),
        "binary.png": _pillow(binary, "PNG"),
        "turned.png": _pillow(GREY, "PNG", exif=_turned()),
        "interlaced.png": cv2.imencode(".png", GREY)[1].tobytes(),
        "grey.jpg": _pillow(GREY, "JPEG"),
        "colour.jpg": _pillow(COLOUR, "JPEG", exif=_turned()),
        "progressive.jpg": _pillow(COLOUR, "JPEG", progressive=True),
        "restarts.jpg": _pillow(COLOUR, "JPEG", restart_marker_rows=1, subsampling=0),
        "cmyk.jpg": _pillow(COLOUR, "JPEG", "CMYK"),
        "photo.mpo": _mpo(),
        "grey.tif": _tiff(GREY),
        "colour.tif": _tiff(COLOUR, photometric="rgb", byteorder=">"),
        "planes.tif": _tiff(
            np.moveaxis(COLOUR, -1, 0).copy(), photometric="rgb", planarconfig="separate"
        ),
        "deep.tif": _tiff(DEEP, compression="zlib", predictor=True),
        "float.tif": _tiff(DEEP.astype(np.float32)),
        "big.tif": _tiff(DEEP, bigtiff=True),
        "tiles.tif": _tiff(GREY, tile=(16, 16), compression="zlib"),
        "imagej.tif": _tiff(DEEP, imagej=True),
        "white.tif": _tiff(GREY, photometric="miniswhite"),
        "thumbnail.tif": _two_pages(GREY),
        "lzw.tif": _pillow(COLOUR, "TIFF", compression="tiff_lzw"),
        "deep_lzw.tif": _pillow(DEEP, "TIFF", compression="tiff_lzw"),
        "packbits.tif": _pillow(GREY, "TIFF", compression="packbits"),
        "jpeg.tif": _pillow(COLOUR, "TIFF", compression="jpeg"),
        "group4.tif": _pillow(binary, "TIFF", compression="group4"),
        "group3.tif": _pillow(binary, "TIFF", compression="group3"),
        "palette.tif": _pillow(COLOUR, "TIFF", "P"),
        "cmyk.tif": _pillow(COLOUR, "TIFF", "CMYK"),
    }
    return [Seed(name, data) for name, data in files.items()]


def read_an_image(path: Path, _: Path) -> None:
    """As image, as mask and by its header; all have to agree."""
    try:
        size: tuple[int, int] | None = image_size(path)
    except DataError:
        size = None
    image = read_image(path)
    assert image.size > 0
    assert image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3), image.shape
    assert size == image.shape[:2], f"header {size}, pixels {image.shape}"
    mask = read_mask(path, "nonzero")
    assert mask.shape == size


def _nifti(array: np.ndarray, kind: type = nib.Nifti1Image, packed: bool = False) -> bytes:
    image = kind(array, np.diag([1.0, 2.0, 3.0, 1.0]))
    image.header.set_slope_inter(2, 1)
    data = image.to_bytes()
    return gzip.compress(data, 4, mtime=0) if packed else data


def volume_seeds(_: Path) -> list[Seed]:
    """NIfTI-1 and NIfTI-2, packed and not."""
    cube = np.add.outer(np.arange(12), np.add.outer(np.arange(10), np.arange(9))).astype(np.int16)
    files = {
        "short.nii": _nifti(cube),
        "byte.nii.gz": _nifti(cube.astype(np.uint8), packed=True),
        "float.nii": _nifti(cube.astype(np.float32)),
        "double.nii.gz": _nifti(cube.astype(np.float64), packed=True),
        "second.nii": _nifti(cube, nib.Nifti2Image),
        "second.nii.gz": _nifti(cube, nib.Nifti2Image, packed=True),
        "big.nii": nib.Nifti1Image(cube, np.eye(4), nib.Nifti1Header(endianness=">")).to_bytes(),
    }
    return [Seed(name, data) for name, data in files.items()]


def read_a_volume(path: Path, _: Path) -> None:
    """As image, as mask and by its header; all have to agree."""
    try:
        shape: tuple[int, ...] | None = read_grid(path).shape
    except DataError:
        shape = None
    values = read_volume(path).values
    assert values.size > 0
    assert values.shape == shape, f"header {shape}, voxels {values.shape}"
    assert np.isfinite(values).all()
    assert read_volume_mask(path, "nonzero").shape == shape


KINDS: dict[str, Kind] = {
    k.name: k
    for k in (
        Kind("images", image_seeds, read_an_image),
        Kind("volumes", volume_seeds, read_a_volume),
    )
}
