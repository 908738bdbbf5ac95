"""What `tests.fuzz` damages: small valid files of every kind, and the readers that take them."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import tifffile
from PIL import Image

from tests.data.helpers import good_rows, image_size, write_rows
from tests.fuzz_dicom import dicom_seeds, read_a_dicom_image, read_a_series, series_seeds
from tests.fuzz_runs import read_a_run, run_seeds
from tests.fuzz_seed import Kind, Seed
from weakseg.config import DataConfig, load_config
from weakseg.data.check import check_manifest, format_problems
from weakseg.data.formats.reading import read_frame
from weakseg.data.images import read_image, read_mask
from weakseg.data.table import read_table
from weakseg.data.volumes import read_volume, read_volume_mask
from weakseg.errors import DataError

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
    """Images of every format in many variants."""
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
        "grey.bmp": _pillow(GREY, "BMP"),
        "binary.bmp": _pillow(binary, "BMP"),
        "alpha.bmp": cv2.imencode(".bmp", shorts)[1].tobytes(),
        "grey.gif": _pillow(GREY, "GIF"),
        "palette.gif": _pillow(COLOUR, "GIF", "P", transparency=3, interlace=False),
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
        shape: tuple[int, ...] | None = read_frame(path).shape
    except DataError:
        shape = None
    values = read_volume(path).values
    assert values.size > 0
    assert values.shape == shape, f"header {shape}, voxels {values.shape}"
    assert np.isfinite(values).all()
    assert read_volume_mask(path, "nonzero").shape == shape


def manifest_seeds(folder: Path) -> list[Seed]:
    """One manifest in several encodings and with several separators, beside its files."""
    rows = good_rows(folder)
    text = write_rows(folder, rows).read_text(encoding="utf-8")
    named = text.replace("tumor", "tumör")
    splits = {"patient": "split", "p0": "train", "p1": "train", "p2": "val", "p3": "test"}
    whole = [[*row, splits[row[-1]]] for row in rows]
    files = {
        "comma.csv": text.encode(),
        "bom.csv": named.encode("utf-8-sig"),
        "wide.csv": named.encode("utf-16"),
        "latin.csv": named.encode("latin-1"),
        "semicolon.csv": text.replace(",", ";").encode(),
        "tab.tsv": text.replace(",", "\t").encode(),
        "excel.csv": ("sep=;\r\n" + text.replace(",", ";").replace("\n", "\r\n")).encode(),
        "splits.csv": "\n".join(",".join(row) for row in whole).encode(),
    }
    return [Seed(n, d, n in ("comma.csv", "splits.csv", "tab.tsv")) for n, d in files.items()]


def read_a_manifest(path: Path, _: Path) -> None:
    """As `validate` checks it; its errors are problems, so that one is raised here."""
    problems = check_manifest(path, DataConfig())
    failed = [p for p in problems if p.kind == "row-unreadable"]
    assert not failed, failed[0].message
    format_problems(problems)
    read_table(path)
    if any(p.severity == "error" for p in problems):
        raise DataError("The manifest has problems.")


def experiment_seeds(_: Path) -> list[Seed]:
    """The experiments that come with weakseg."""
    folder = Path(__file__).parent.parent / "configs"
    return [Seed(p.name, p.read_bytes()) for p in sorted(folder.glob("*.yaml"))]


def read_an_experiment(path: Path, _: Path) -> None:
    """As every command reads it."""
    load_config(path)


YAML_WORDS = (
    *(b"&a ", b"*a", b"<<: *a\n", b"[" * 200, b"{", b"- ", b": ", b"\t", b"!!python/none ", b"? "),
    *(b"9" * 5000, b".inf", b".nan", b"null", b"'", b"|\n", b"---\n", b"data: 1\n", b"\0", b"\xff"),
    *(b"2001-13-40", b"0x", b"1e999", b"~", b"yes", b"!!binary ", b"%YAML 9\n", b"a: " * 50),
)
TEXT_WORDS = (b'"', b"\r", b"\n", b";", b",", b"\t", b"\0", b"\xff\xfe", b"sep=|\n", b"../")
JSON_WORDS = (b"{", b"[" * 3000, b"null", b"NaN", b"1e999", b'"', b"9" * 5000, b"\\ud800", b"\xff")


KINDS: dict[str, Kind] = {
    k.name: k
    for k in (
        Kind("images", image_seeds, read_an_image),
        Kind("volumes", volume_seeds, read_a_volume),
        Kind("csv", manifest_seeds, read_a_manifest, TEXT_WORDS),
        Kind("yaml", experiment_seeds, read_an_experiment, YAML_WORDS),
        Kind("runs", run_seeds, read_a_run, (*TEXT_WORDS, *JSON_WORDS), seconds=10),
        Kind("dicom", dicom_seeds, read_a_dicom_image),
        Kind("series", series_seeds, read_a_series),
    )
}
