"""The files of a folder, listed once, without what systems leave behind."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from weakseg.data.folder_files import files_below
from weakseg.data.scan_names import why_no_data
from weakseg.disk import require_utf8_names
from weakseg.errors import DataError

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
VOLUME_ENDINGS = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Tree:
    """The files below a folder.

    Attributes
    ----------
    root : Path
        Absolute.
    files : tuple of str
        Relative, with / between folders, in the order in which people count: 2 before 10.
    """

    root: Path
    files: tuple[str, ...]

    @cached_property
    def images(self) -> tuple[str, ...]:
        """Files with the ending of a 2D image, masks among them."""
        return self.ending(*IMAGE_ENDINGS)

    @cached_property
    def volumes(self) -> tuple[str, ...]:
        """Files with the ending of a NIfTI volume, masks among them."""
        return self.ending(*VOLUME_ENDINGS)

    def ending(self, *endings: str) -> tuple[str, ...]:
        """Files with one of some endings, in any case."""
        return tuple(f for f in self.files if f.lower().endswith(endings))

    def named(self, *names: str) -> tuple[str, ...]:
        """Files of some names, in any case, in whatever folder."""
        wanted = {n.casefold() for n in names}
        return tuple(f for f in self.files if name_of(f).casefold() in wanted)

    def path(self, file: str) -> Path:
        """Where a file is."""
        return self.root / file

    def summary(self) -> str:
        """What the files are, counted by their endings."""
        if not self.files:
            return "an empty folder"
        endings = Counter(_ending(f) for f in self.files)
        parts = [f"{n} {ending}" for ending, n in endings.most_common(5)]
        return ", ".join(parts) + (", others" if len(endings) > 5 else "")


def list_tree(folder: Path, out: Path | None = None) -> Tree:
    """List a folder; links to folders are followed, see `weakseg.data.folder_files.files_below`.

    Parameters
    ----------
    folder : Path
    out : Path, optional
        A folder below, perhaps, that is ours: what an earlier call has written is no source.

    Raises
    ------
    DataError
        If it is missing, no folder, or holds an image whose name is not UTF-8.
    """
    root = Path(os.path.abspath(folder))  # noqa: PTH100
    if not root.is_dir():
        raise DataError(
            "The folder does not exist." if not root.exists() else "A folder was expected.",
            where=str(folder),
            fix="name the folder that holds the images",
        )
    files = [f.relative_to(root).as_posix() for f in files_below(root, but=out)]
    kept = (f for f in files if why_no_data([p.casefold() for p in f.split("/")]) is None)
    tree = Tree(root, tuple(sorted(kept, key=counting_order)))
    require_utf8_names(map(Path, (*tree.images, *tree.volumes)))  # DICOM files are renamed anyway
    return tree


def counting_order(text: str) -> list[tuple[int, int, str]]:
    """A key by which names with numbers are sorted as people count."""
    parts: list[tuple[int, int, str]] = []
    digits = ""
    for c in f"{text}\0":
        if c.isdecimal() and c.isascii():
            digits += c
            continue
        if digits:
            parts.append((0, int(digits), digits))
            digits = ""
        parts.append((1, 0, c))
    return parts


def name_of(file: str) -> str:
    """A file's name without its folders."""
    return file.rpartition("/")[2]


def folder_of(file: str) -> str:
    """The folders that a file is in, blank for the root itself."""
    return file.rpartition("/")[0]


def folders_of(file: str) -> tuple[str, ...]:
    """The names of the folders that a file is in, the outermost first."""
    return PurePosixPath(file).parts[:-1]


def stem_of(file: str) -> str:
    """A file's name without folders and ending, of which ``.nii.gz`` is one."""
    name = name_of(file)
    for ending in (".nii.gz",):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name.rpartition(".")[0] or name


def listed(names: Iterable[str], most: int = 6) -> str:
    """Some names for a sentence."""
    each = list(names)
    return ", ".join(each[:most]) + (f", … ({len(each)} in all)" if len(each) > most else "")


def _ending(file: str) -> str:
    name = name_of(file).lower()
    if name.endswith(".nii.gz"):
        return ".nii.gz"
    ending = name.rpartition(".")[2]
    return f".{ending}" if "." in name[1:] and len(ending) <= 8 else "without an ending"
