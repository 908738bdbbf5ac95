"""What a case is: one image or volume with its label, and what else is known of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weakseg.data.formats.base import Formats
from weakseg.data.formats.dicom.identity import public_path
from weakseg.data.formats.registry import IMAGES, formats_of

MaskFiles = Path | tuple[Path, ...]
"""The file of a true mask, or several, which together are the mask."""


@dataclass(frozen=True)
class Case:
    """One row of a manifest.

    Attributes
    ----------
    id : str
        A name that is unique in the manifest and safe as a file name.
    image : Path
        Absolute path.
    label : str
        The image-level label as written.
    mask : Path, tuple of Path, or None
        Absolute path; several where all of them together are the mask; None where there is none.
    patient : str
        The patient; where the manifest names none, the group of near-duplicates, or the volume.
    split : str or None
        ``train``, ``val`` or ``test`` once it is dealt out.
    row : int
        The line in the manifest, counted as an editor does (the header is 1).
    more : tuple of Path
        Further modalities of a volume, in order; on the image's grid.
    roi : Path or None
        Mask of a volume's region of interest, for instance the brain.
    slice : int or None
        Where the case is one slice of a volume: its index along the third axis.
    volume : str
        The name of a slice's volume, safe as a file name, too.
    group : str
        The cell of the column by which patients are left out, where there is one.
    smooth_above : tuple of float or None
        Noise above which each modality is smoothed as it is read, see
        `weakseg.data.noise.noise_share`; None, or none: never.
    """

    id: str
    image: Path
    label: str
    mask: MaskFiles | None = None
    patient: str = ""
    split: str | None = None
    row: int = 0
    more: tuple[Path, ...] = ()
    roi: Path | None = None
    slice: int | None = None
    volume: str = ""
    group: str = ""
    smooth_above: tuple[float | None, ...] = ()

    @property
    def formats(self) -> Formats[Any]:
        """The formats that its files may have."""
        return formats_of(self.image)

    @property
    def shown(self) -> str:
        """The image's path for a message: of a DICOM file without what tells who it is of."""
        return public_path(self.image)

    @property
    def dims(self) -> int:
        """Axes of space that a network sees: 2 of an image or a slice, 3 of a volume."""
        return self.formats.dims if self.slice is None else 2

    @property
    def noun(self) -> str:
        """What it is: image, slice or volume."""
        return self.formats.noun if self.slice is None else "slice"

    @property
    def file(self) -> str:
        """The name of the files that are written beside its image: slices share those of it."""
        return self.volume or self.id


def by_file(cases: Iterable[Case]) -> list[list[Case]]:
    """The cases of each file: whole ones alone, slices of a volume together, from the first on."""
    files: dict[str, list[Case]] = {}
    for case in cases:
        files.setdefault(case.file, []).append(case)
    return [sorted(of_file, key=lambda c: c.slice or 0) for of_file in files.values()]


def file_by_file(cases: Iterable[Case]) -> list[Case]:
    """Cases in their order, but slices of a volume one after the other, see `by_file`."""
    return [case for of_file in by_file(cases) for case in of_file]


@dataclass(frozen=True)
class Labels:
    """The classes of a set, healthy ones first, each side in sorted order.

    The order is the order of the classifier's outputs.
    """

    healthy: tuple[str, ...]
    lesion: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All labels; the index is the class number."""
        return self.healthy + self.lesion

    @property
    def lesion_indices(self) -> tuple[int, ...]:
        """Class numbers of the lesion labels."""
        return tuple(range(len(self.healthy), len(self.names)))

    def index(self, label: str) -> int:
        """The class number of a label."""
        return self.names.index(label)

    def is_lesion(self, label: str) -> bool:
        """Whether images of this label hold a lesion."""
        return label in self.lesion


@dataclass(frozen=True)
class CaseSet:
    """A manifest as read: its cases and what is known of the whole.

    Attributes
    ----------
    cases : tuple of Case
    labels : Labels
    source : str
        The manifest's path, or ``phantom``.
    patients_known : bool
        False where patients stand for groups of near-duplicates, or for volumes.
    simulated : bool
        True for the phantom.
    """

    cases: tuple[Case, ...]
    labels: Labels
    source: str
    patients_known: bool = True
    simulated: bool = False

    @property
    def formats(self) -> Formats[Any]:
        """The formats that the files of all cases may have."""
        return self.cases[0].formats if self.cases else IMAGES

    @property
    def dims(self) -> int:
        """Axes of space that a network sees: 2 of images and slices, 3 of volumes."""
        return self.cases[0].dims if self.cases else 2

    @property
    def sliced(self) -> bool:
        """Whether the cases are slices of volumes."""
        return any(c.slice is not None for c in self.cases)

    def with_cases(self, cases: Sequence[Case]) -> CaseSet:
        """The same set with other cases."""
        return replace(self, cases=tuple(cases))

    def of(self, *splits: str) -> tuple[Case, ...]:
        """The cases of some splits, in the manifest's order."""
        return tuple(c for c in self.cases if c.split in splits)

    def indices(self, split: str) -> list[int]:
        """Where the cases of a split stand among all."""
        return [i for i, c in enumerate(self.cases) if c.split == split]

    def file_by_file(self, split: str) -> list[int]:
        """Where they stand, slices of a volume one after the other, see `by_file`."""
        place = {c.id: i for i, c in enumerate(self.cases)}
        return [place[c.id] for c in file_by_file(self.of(split))]
