"""What the grids of all volumes of a manifest are: of one spacing, orientation and place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from weakseg.data.check_files import Seen
from weakseg.data.formats.base import Frame
from weakseg.data.formats.grids import LEEWAY
from weakseg.data.manifest import Problem, Row, Table

SPACING_SPREAD = 1.05
"""Voxels that differ by a larger factor along an axis show the networks other sizes."""

_LISTED = 4
_FILES = {"image": "further modalities", "mask": "masks", "roi": "regions of interest"}


def grid_problems(table: Table, seen: Sequence[Seen]) -> Iterator[Problem]:
    """Warnings of all volumes of a manifest together, each with its counts.

    Parameters
    ----------
    table : Table
    seen : sequence of Seen
        One a row.
    """
    frames = [(r, s.frame) for r, s in zip(table.rows, seen, strict=True) if s.frame is not None]
    yield from _unknown(frames)
    yield from _spacings([(r, g) for r, g in frames if g.known_spacing])
    yield from _orientations([(r, g) for r, g in frames if g.coded])
    yield from _leeways(table, seen)


def _warning(kind: str, message: str, fix: str) -> Problem:
    return Problem(kind, None, None, message, fix, "warning")


def _unknown(held: Sequence[tuple[Row, Frame]]) -> Iterator[Problem]:
    unknown = [r.line for r, g in held if not g.known_spacing]
    if unknown:
        first = unknown[0]
        yield _warning(
            "spacing-unknown",
            f"{len(unknown)} of {len(held)} volumes (the first in row {first}) do not tell the "
            "size of their voxels: their affine is the identity, or missing; their distances will "
            "be in voxels",
            "write the files anew with the affine of their source, or read distances as voxels",
        )


def _spacings(held: Sequence[tuple[Row, Frame]]) -> Iterator[Problem]:
    ends = [(min(axis), max(axis)) for axis in zip(*(g.spacing for _, g in held), strict=True)]
    if any(high > SPACING_SPREAD * low for low, high in ends):
        counts = Counter(" × ".join(f"{v:.3g}" for v in g.spacing) + " mm" for _, g in held)
        yield _warning(
            "spacing-mixed",
            f"the volumes have voxels of different size: {_listed(counts)}; networks see voxels, "
            "and nothing is resampled, so that the same lesion has another size in them, and "
            "patches and receptive fields span other distances",
            "resample all volumes and their masks to one spacing, or train a run for each",
        )


def _orientations(held: Sequence[tuple[Row, Frame]]) -> Iterator[Problem]:
    counts = Counter(g.orientation for _, g in held)
    if len(counts) > 1:
        yield _warning(
            "orientation-mixed",
            f"the volumes' voxel axes point in different directions: {_listed(counts)}; networks "
            "see voxel axes, and nothing is turned, so that left and right, front and back, or "
            "slices and rows change places between them",
            "store all volumes and their masks in one orientation, for instance with "
            "nibabel.as_closest_canonical",
        )


def _listed(counts: Counter[str]) -> str:
    """Kinds with their counts, most frequent first."""
    some = [f"{n} of {what}" for what, n in counts.most_common(_LISTED)]
    rest = sum(counts.values()) - sum(n for _, n in counts.most_common(_LISTED))
    return ", ".join(some) + (f", {rest} of {len(counts) - _LISTED} others" if rest else "")


def _leeways(table: Table, seen: Sequence[Seen]) -> Iterator[Problem]:
    """One warning a kind of file: how many count as lying on their image's voxels, and why."""
    for what, files in _FILES.items():
        leeways = [
            (r.line, how)
            for r, s in zip(table.rows, seen, strict=True)
            for kind, how in s.leeways
            if kind == what
        ]
        if not leeways:
            continue
        counts = Counter(how for _, how in leeways)
        parts = "; ".join(f"{n} {LEEWAY[how]}" for how, n in counts.most_common())
        yield _warning(
            f"{what}-affine",
            f"{len(leeways)} {files} (the first in row {leeways[0][0]}) have another affine than "
            f"their image, but its shape, and are taken to lie on its voxels: {parts}",
            "look at one over its image; if it fits there is nothing to do, else export it on the "
            "image's own voxel grid",
        )
