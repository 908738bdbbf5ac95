"""What a file format is, and where the samples of a file lie: the contracts of this room.

A format is a record of plain functions in a file of its own, which `registry` lists. They get the
file open and whole (unpacked, where volumes are gzipped) and may raise whatever they like: the
caller makes a DataError of it, see `opened`.
"""

from __future__ import annotations

import gzip
import importlib.util
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Generic, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from weakseg.data.formats.dicom.signs import first_dicom, folder_error
from weakseg.disk import path_trap
from weakseg.errors import DataError

Affine = NDArray[np.float64]
Samples = TypeVar("Samples")

HEAD = 540
"""Bytes that tell a format: as many as the longest header of them, that of NIfTI-2."""

MISSING = "The file does not exist."


@dataclass(frozen=True, eq=False)
class Frame:
    """Where the samples of a file lie; those of a 2D image are a frame of one slice.

    Attributes
    ----------
    shape : (X, Y, Z)
        Of an image (height, width, 1), upright.
    affine : (4, 4) ndarray of float64
        From indices to mm, in the directions right, anterior, superior.
    spacing : tuple of 3 floats
        Size of a voxel in mm; 1 where it is not known.
    known_spacing : bool
        False where the file tells no place in the patient: its affine is the identity, which
        programs write that know none, or it has neither affine nor voxel sizes. So of 2D images,
        but DICOM.
    further : tuple of (4, 4) ndarray
        What else the file says of the same voxels: a NIfTI file's qform, where it has both forms.
    coded : bool
        False where the file has neither form, or the identity, so that nothing tells the place.
    placed : bool
        False also where the affine has neither turn nor origin: programs write it that know the
        voxels' sizes alone.
    """

    shape: tuple[int, int, int]
    affine: Affine
    spacing: tuple[float, float, float]
    known_spacing: bool
    further: tuple[Affine, ...] = field(default=())
    coded: bool = True
    placed: bool = True

    @property
    def affines(self) -> tuple[Affine, ...]:
        """Every affine of the file, the one that counts first."""
        return (self.affine, *self.further)

    @property
    def orientation(self) -> str:
        """The direction of each axis, for instance LPS; the nearest one, if oblique."""
        from nibabel.orientations import aff2axcodes

        return "".join(str(code) for code in aff2axcodes(self.affine))


def image_frame(height: int, width: int) -> Frame:
    """The frame of a 2D image, which tells no place in the patient."""
    one = (1.0, 1.0, 1.0)
    return Frame((height, width, 1), np.eye(4), one, False, coded=False, placed=False)


@dataclass(frozen=True)
class Package:
    """A package that a format needs and weakseg does not bring along.

    Attributes
    ----------
    module : str
        As it is imported.
    install : str
        The command that brings it.
    """

    module: str
    install: str


def _read_only(path: Path, _: NDArray[Any], like: Path | Frame) -> None:
    raise ValueError(f"nothing is written in the format of {path} beside {like}")


@dataclass(frozen=True)
class Format(Generic[Samples]):
    """How files of one format are recognised, looked into, read and written.

    Attributes
    ----------
    name : str
        As in sentences: PNG.
    suffixes : tuple of str
        In small letters; files are written with the first.
    guess : callable
        Whether a file is of the format, given its first `HEAD` bytes and its path; the content
        counts and not the name.
    inspect : callable
        The frame, from the header alone, given the open file and its path (where a folder stands
        for it, one of its files and the folder). What is wrong with the header (its size, its
        kind, a stack) is raised.
    read : callable
        The samples, given the open file and its path. Whatever is not whole is raised.
    write : callable, optional
        Writes an array, whole or not at all, given the path, the array and the file of the same
        format, or the frame, whose place in the patient it gets. Booleans are a mask.
    packages : tuple of Package
    """

    name: str
    suffixes: tuple[str, ...]
    guess: Callable[[bytes, Path], bool]
    inspect: Callable[[IO[bytes], Path], Frame]
    read: Callable[[IO[bytes], Path], Samples]
    write: Callable[[Path, NDArray[Any], Path | Frame], None] = _read_only
    packages: tuple[Package, ...] = ()

    @cached_property
    def missing(self) -> tuple[Package, ...]:
        """The packages that are not installed."""
        return tuple(p for p in self.packages if importlib.util.find_spec(p.module) is None)


@dataclass(frozen=True)
class Foreign:
    """A kind of file that is recognised, but not read.

    Attributes
    ----------
    name : str
        With its article: a PDF.
    guess : callable
        Given the first `HEAD` bytes.
    as_image, as_volume : str, optional
        The way out where an image or a volume was wanted; None for the usual one.
    """

    name: str
    guess: Callable[[bytes], bool]
    as_image: str | None = None
    as_volume: str | None = None


@dataclass(frozen=True)
class Formats(Generic[Samples]):
    """The formats whose files hold the same: images, or volumes.

    Attributes
    ----------
    dims : {2, 3}
    noun : str
        What a file holds: image.
    each : tuple of Format
        In the order in which they are asked.
    masks : Format
        In which masks are written beside such files.
    damaged : callable
        The error for what cannot be read to its end.
    remedy : str
        The usual way out for a file of another kind.
    misplaced : (str, str)
        What such a file is called where one of the others was wanted, and the way out; ``{}`` is
        the format's name.
    packed : bool
        Whether the files may be gzipped.
    folders : bool
        Whether a folder of DICOM files, a series, may stand for a file.
    has_range : bool
        Whether the samples' type tells how bright they are.
    sample : str
        What a file holds many of: pixel.
    further : bool
        Whether files of further modalities, and of a region of interest, may lie on the same grid.
    one_patient : bool
        Whether a file is a patient where none is named; else images that look alike are.
    alone : bool
        Whether a file is as much as a network takes at once.
    """

    dims: Literal[2, 3]
    noun: str
    each: tuple[Format[Samples], ...]
    masks: Format[Samples]
    damaged: Callable[[Path, Exception], DataError]
    remedy: str
    misplaced: tuple[str, str]
    packed: bool = False
    folders: bool = False
    has_range: bool = True
    sample: str = "pixel"
    further: bool = False
    one_patient: bool = False
    alone: bool = False

    def at_once(self, batch_size: int) -> int:
        """How many a network takes together."""
        return 1 if self.alone else batch_size

    @property
    def article(self) -> str:
        """Of the noun."""
        return "an" if self.noun[0] in "aeiou" else "a"

    @cached_property
    def suffixes(self) -> tuple[str, ...]:
        """The endings of all of them, in order."""
        return tuple(sorted(s for f in self.each for s in f.suffixes))

    @property
    def mask_suffix(self) -> str:
        """The ending of a mask's file."""
        return self.masks.suffixes[0]

    def named(self, path: Path | str) -> bool:
        """Whether a file's name has one of the endings, in any case."""
        return str(path).lower().endswith(self.suffixes)


@contextmanager
def opened(
    path: Path,
    damaged: Callable[[Path, Exception], DataError],
    packed: bool,
    folders: bool = False,
) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked; what goes wrong while they are read becomes a DataError.

    Parameters
    ----------
    path : Path
    damaged, packed, folders
        See `Formats`. Of a folder the bytes are those of one of its DICOM files.
    """
    with open_file((folders and first_dicom(path)) or path) as f:
        try:
            if packed and f.read(2) == b"\x1f\x8b":
                f.seek(0)
                with gzip.GzipFile(fileobj=f) as unpacked:
                    yield cast(IO[bytes], unpacked)
            else:
                f.seek(0)
                yield f
        except (DataError, ImportError, MemoryError):
            raise
        except Exception as e:  # a damaged file breaks whatever reads it
            raise damaged(path, e) from None


def open_file(path: Path) -> IO[bytes]:
    """Open an image or a volume for reading.

    Raises
    ------
    DataError
        If it is missing (with the message `MISSING`), no file, or may not be read.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise folder_error(path)
        if not stat.S_ISREG(mode):
            raise DataError(
                "An image was expected, but the path is a device.",
                where=str(path),
                fix="name the image file itself",
            )
        return path.open("rb")
    except (OSError, ValueError) as e:
        if isinstance(e, OSError) and (trap := path_trap(path, e)) is not None:
            what, found, fix = trap
            raise DataError(what, where=str(path), found=found, fix=fix) from None
        if isinstance(e, FileNotFoundError):
            raise DataError(MISSING, where=str(path), fix="check its name and folder") from None
        raise DataError(
            "The file cannot be opened.",
            where=str(path),
            found=getattr(e, "strerror", None) or str(e),
            fix="check its name and its permissions",
        ) from None


def empty_file(path: Path) -> DataError:
    """The error for a file without a byte."""
    return DataError("The file is empty.", where=str(path), found="0 bytes", fix="copy it again")


def magic(*signs: bytes, at: int = 0) -> Callable[[bytes], bool]:
    """Whether a head has one of some signs at a place."""
    return lambda head: head.startswith(signs, at)
