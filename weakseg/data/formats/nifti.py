"""From a NIfTI file to raw voxels and their place in the patient, and back.

nibabel parses the headers; the voxels are read here, so that a file can neither claim more memory
than it may have nor lose its end unnoticed.

One room for one format: what is written is read by the same rules.
"""

from __future__ import annotations

import gzip
import logging
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.data.formats.base import HEAD, Affine, Format, Frame, opened
from weakseg.data.formats.grids import shape_words
from weakseg.errors import DataError, first_line
from weakseg.runs import atomic_path

MAX_VOXELS = 2**28
"""Larger volumes are refused, as a small file can claim to be huge; 1 GiB of float32."""
MAX_VOLUME_BYTES = 2**30
"""Nor may the voxels of a file take more, as they are stored."""

_LAST_OFFSET = 2**26  # where voxels may begin, behind a header's extensions
_LONGEST_TAIL = 2**26  # bytes behind them
_SLAB = 2**25  # bytes of voxels that are read at once
_LEVEL = 4  # of gzip: masks are small at any, and time matters
_MM = {1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI's codes for metre, millimetre and micrometre
_PLACE = (
    *("sform_code", "srow_x", "srow_y", "srow_z", "xyzt_units"),
    *("qform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z"),
)
_COPY = "copy the file again from its source, or write it anew"
_QUIET = logging.getLogger(__name__)  # nibabel's own prints what it mends in a header
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False


@dataclass(frozen=True, eq=False)
class Voxels:
    """Voxels as a file holds them.

    Attributes
    ----------
    raw : (X, Y, Z) ndarray
        Integers or floats.
    slope, inter : float
        A value is ``raw * slope + inter``; the slope is None where that changes nothing.
    frame : Frame
    window : (float, float), optional
        Values that the file would have shown black and white.
    """

    raw: NDArray[Any]
    slope: float | None
    inter: float
    frame: Frame
    window: tuple[float, float] | None = None

    def scaled(self) -> NDArray[np.float32]:
        """(X, Y, Z) values; infinite where float32 does not hold them."""
        if self.slope is None:
            with np.errstate(over="ignore"):
                return self.raw.astype(np.float32)
        values = np.empty(self.raw.shape, dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for x in range(len(values)):  # one by one, as all at once take twice the memory
                values[x] = self.raw[x].astype(np.float64) * self.slope + self.inter
        return values


def inspect_nifti(f: IO[bytes], path: Path) -> Frame:
    """The frame, from the header."""
    return _frame(_read_header(f), path)


def decode_nifti(f: IO[bytes], path: Path) -> Voxels:
    """The voxels of a NIfTI-1 or NIfTI-2 file of three dimensions."""
    header = _read_header(f)
    frame = _frame(header, path)
    kind = header.get_data_dtype()
    slope, inter = header.get_slope_inter()
    if (slope, inter) == (1.0, 0.0):
        slope = None
    offset = int(header.get_data_offset())
    if not len(header.binaryblock) <= offset <= _LAST_OFFSET:
        raise ValueError(f"the voxels are said to begin at byte {offset}")
    f.seek(offset)
    raw, size, wanted = _read_slabs(f, frame.shape, kind)
    if isinstance(f, gzip.GzipFile):
        _read_to_end(f)
    if size < wanted:
        raise DataError(
            "The volume is truncated.",
            where=str(path),
            found=f"{size} bytes of voxels",
            expected=f"{wanted} for {shape_words(frame.shape)} voxels of {kind.name}",
            fix=_COPY,
        )
    low, high = float(header["cal_min"]), float(header["cal_max"])
    window = (low, high) if np.isfinite((low, high)).all() and low < high else None
    return Voxels(raw, slope, inter or 0.0, frame, window)


def _read_slabs(
    f: IO[bytes], shape: tuple[int, int, int], kind: np.dtype[Any]
) -> tuple[NDArray[Any], int, int]:
    """(X, Y, Z) voxels in the machine's byte order, the bytes that were there, and those wanted.

    Some slices at a time, as the bytes of all of them beside the voxels take twice the memory.
    """
    plane = shape[0] * shape[1] * kind.itemsize
    raw = np.empty(shape, kind.newbyteorder("="))
    size = 0
    step = max(1, _SLAB // plane)
    for z in range(0, shape[2], step):
        depth = min(step, shape[2] - z)
        data = f.read(plane * depth)
        size += len(data)
        if len(data) < plane * depth:
            break
        slab = np.frombuffer(data, kind).reshape((*shape[:2], depth), order="F")
        raw[:, :, z : z + depth] = slab
    return raw, size, plane * shape[2]


def write_nifti(path: Path, values: NDArray[Any], like: Path | Frame) -> None:
    """Write an array with the place in the patient of another file, whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in ``.nii.gz``.
    values : (X, Y, Z) ndarray
        Of a type that NIfTI knows; booleans become 0 and 1 in 8 bits.
    like : Path or Frame
        The NIfTI file that gives affines and their codes, voxel sizes and units; or the frame of
        a file of another format.

    Raises
    ------
    ValueError
        If the array has not the shape of ``like``, or the path another ending.
    DataError
        If ``like`` cannot be read.
    """
    if not path.name.lower().endswith(".nii.gz"):
        raise ValueError(f"a volume's name ends in .nii.gz, not as {path.name}")
    if values.dtype == bool:
        values = values.view(np.uint8)
    header = _header_of(like) if isinstance(like, Frame) else _header_like(like)
    if values.shape != header.get_data_shape():
        raise ValueError(f"the shape {values.shape} is not that of {like}")
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1, 0)
    header["vox_offset"] = header.single_vox_offset
    no_extensions = bytes(4)
    with (
        atomic_path(path, flushed=False) as part,
        part.open("wb") as f,
        gzip.GzipFile("", "wb", _LEVEL, f, mtime=0) as packed,
    ):
        packed.write(header.binaryblock + no_extensions)
        for z in range(values.shape[2]):  # a slice at a time, as a copy of all takes memory
            packed.write(values[:, :, z].tobytes(order="F"))


def _header_like(like: Path) -> Any:
    """A header with the shape and the place of a file's."""
    with opened(like, damaged_volume, True) as f:
        if not is_nifti(f.read(HEAD)):
            raise ValueError("only a NIfTI file tells affines and their codes")
        f.seek(0)
        place = _read_header(f)
        shape = _frame(place, like).shape
    header = type(place)()
    header.set_data_shape(shape)
    for name in _PLACE:
        header[name] = place[name]
    header["pixdim"][:4] = place["pixdim"][:4]
    return header


def _header_of(frame: Frame) -> Any:
    """A header with the shape of a frame, and its place as scanner coordinates in mm."""
    import nibabel as nib

    header = nib.Nifti1Header()
    header.set_data_shape(frame.shape)
    header.set_sform(frame.affine, code="scanner")
    header.set_qform(frame.affine, code="scanner")
    header.set_xyzt_units("mm")
    return header


def _read_to_end(f: IO[bytes]) -> None:
    """Read on, as a gzip file tells at its end whether all of it was whole."""
    for _ in range(_LONGEST_TAIL // 2**20):
        if not f.read(2**20):
            return
    raise ValueError("much more data behind the voxels than a volume has")


def damaged_volume(path: Path, e: Exception) -> DataError:
    """The error for a volume that cannot be read to its end."""
    packed = isinstance(e, EOFError | gzip.BadGzipFile | zlib.error)
    return DataError(
        "The volume is damaged or of a variant that cannot be read.",
        where=str(path),
        found=f"the gzip data: {e}" if packed else first_line(e),
        fix=_COPY,
    )


def is_nifti(head: bytes) -> bool:
    """Whether a file begins as NIfTI-1 or NIfTI-2 in one file."""
    return head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0"


def is_half(head: bytes) -> bool:
    """Whether a file is the header of a pair of files."""
    return head[344:348] == b"ni1\0" or head[4:8] == b"ni2\0"


def is_analyze(head: bytes) -> bool:
    """Whether a file begins with the size of the header that Analyze 7.5 and NIfTI-1 share."""
    return 348 in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big"))


def _read_header(f: IO[bytes]) -> Any:
    """The header, checked and mended as nibabel does it on loading."""
    import nibabel as nib

    head = f.read(HEAD)
    if head[344:348] == b"n+1\0":
        header = nib.Nifti1Header(head[:348], check=False)
    else:
        header = nib.Nifti2Header(head, check=False)
    bits, kind = int(header["bitpix"]), header.get_data_dtype()
    if bits not in (0, kind.itemsize * 8):  # nibabel takes the type, but which of both is right?
        raise ValueError(f"{bits} bits a voxel beside voxels of the type {kind.name}")
    header.check_fix(logger=_QUIET, error_level=40)
    return header


def _frame(header: Any, path: Path) -> Frame:
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if not shape or min(shape) < 1:
        raise ValueError(f"a size of {shape_words(shape)} voxels")
    if len(shape) != 3:
        raise DataError(
            f"The volume is {len(shape)}D.",
            where=str(path),
            found=f"{shape_words(shape)} voxels",
            expected="three dimensions: x, y and z",
            fix="save each three-dimensional part as a file of its own; further modalities go into "
            "the columns image2, image3 and so on"
            if len(shape) > 3
            else "stack the slices of a patient into one volume, or list them as PNG or TIFF in a "
            "manifest of 2D images",
        )
    kind = header.get_data_dtype()
    if kind.kind not in "iuf" or kind.itemsize > 8:
        what = {"V": "colours", "c": "complex numbers"}.get(kind.kind, "numbers of 128 bits")
        raise DataError(
            f"The volume holds {what}.",
            where=str(path),
            found=f"voxels of the type {header.get_value_label('datatype')}",
            expected="one integer or float a voxel",
            fix="save it as float32, one file a channel",
        )
    refuse_large(shape, kind.itemsize, path)
    return _placed(header, (shape[0], shape[1], shape[2]), path)


def refuse_large(shape: tuple[int, ...], sample: int, path: Path | str) -> None:
    """Raise a DataError for a volume above `MAX_VOXELS` or `MAX_VOLUME_BYTES`.

    Parameters
    ----------
    shape : tuple of int
    sample : int
        Bytes of a voxel as stored.
    path : Path or str
    """
    voxels = math.prod(shape)
    if voxels > MAX_VOXELS or voxels * sample > MAX_VOLUME_BYTES:
        raise DataError(
            f"The volume is too large: {shape_words(shape)} voxels take "
            f"{voxels * sample / 1e6:.0f} MB, and the limit is {MAX_VOXELS / 1e6:.0f} million "
            f"voxels and {MAX_VOLUME_BYTES / 1e6:.0f} MB.",
            where=str(path),
            fix="crop it, save it as float32 or int16, or resample it to larger voxels",
        )


def _in_mm(affine: ArrayLike, header: Any) -> Affine:
    out = np.array(affine, dtype=np.float64)
    out[:3] *= _MM.get(int(header["xyzt_units"]) & 7, 1.0)
    return out


def _usable(affine: Affine) -> bool:
    """Whether an affine's columns are numbers, and independent."""
    size = np.linalg.norm(affine[:3, :3], axis=0)
    # Not a number is not greater either.
    return bool(
        np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-6 * size.prod() > 0
    )


def _further(header: Any, affine: Affine) -> tuple[Affine, ...]:
    """The qform, where the sform counts and it is another."""
    if not (int(header["sform_code"]) > 0 and int(header["qform_code"]) > 0):
        return ()
    try:
        other = _in_mm(header.get_qform(), header)
    except Exception:  # a broken quaternion is no reason to refuse what nobody has asked for
        return ()
    return (other,) if _usable(other) and not np.array_equal(other, affine) else ()


def _placed(header: Any, shape: tuple[int, int, int], path: Path) -> Frame:
    """The frame of a header: affine in mm, spacing, and what of both is known."""
    affine = _in_mm(header.get_best_affine(), header)
    size = np.linalg.norm(affine[:3, :3], axis=0)
    if not _usable(affine):
        rows = "; ".join(" ".join(f"{v:g}" for v in row) for row in affine[:3].tolist())
        raise DataError(
            "The volume's affine places voxels nowhere, or all in one plane.",
            where=str(path),
            found=rows,
            expected="three columns that are independent",
            fix="write the file anew with the affine of its source",
        )
    coded = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    # Identity, in NIfTI's directions or in ITK's, is what programs write that know no affine.
    blank = np.array_equal(np.abs(affine), np.eye(4))
    spaced = not blank if coded else any(float(z) != 1 for z in header.get_zooms()[:3])
    x, y, z = (float(f"{v:.6g}") for v in size)
    plain = np.array_equal(affine, np.diag(np.diag(affine)))
    return Frame(
        shape,
        affine,
        (x, y, z),
        spaced,
        _further(header, affine),
        coded=coded and not blank,
        placed=coded and not plain,
    )


NIFTI: Format[Voxels] = Format(
    "NIfTI",
    (".nii.gz", ".nii"),
    guess=lambda head, _: is_nifti(head),
    inspect=inspect_nifti,
    read=decode_nifti,
    write=write_nifti,
)
