"""What `weakseg predict` is asked to segment: files, folders without what is no scan, manifests.

The three stand together, as each of them has to tell what it leaves out, and why.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from weakseg.config import DataConfig
from weakseg.data.case_files import read_whole
from weakseg.data.cases import Case
from weakseg.data.columns import BESIDE_IMAGE
from weakseg.data.folder_files import files_below
from weakseg.data.formats.base import Formats
from weakseg.data.formats.dicom.identity import identifiers_of, public_path
from weakseg.data.formats.dicom.image import DICOM_IMAGE
from weakseg.data.formats.dicom.kind import why_no_dicom_image
from weakseg.data.formats.dicom.signs import SERIES_FIX, begins_as_dicom, folder_content
from weakseg.data.formats.grids import LEEWAY, Leeway, grid_leeway
from weakseg.data.formats.reading import read_frame
from weakseg.data.formats.registry import IMAGES, VOLUMES, formats_of
from weakseg.data.manifest import safe_ids
from weakseg.data.pseudonyms import default_key_file, read_pseudonyms
from weakseg.data.scan_names import HIDDEN, MASK, SYSTEM, why_no_scan
from weakseg.data.series import series
from weakseg.data.table import read_table
from weakseg.disk import require_utf8_names
from weakseg.errors import DataError, UserError, count
from weakseg.progress import progress, say

PREDICTIONS = "predictions.csv"
MANIFESTS = (".csv", ".tsv", ".tab", ".txt")
"""Endings of manifests; `validate` reads them by the same function."""

EARLIER = "of an earlier prediction"
NAMED_SO = (EARLIER, MASK, HIDDEN, SYSTEM)
"""Of what is left out for these reasons, some names are told; DICOM files may tell who."""
_EXAMPLES = 3

_Named = tuple[Path, tuple[Path, ...], Path | None]
"""An image, its further modalities, and its region."""


def collect_inputs(inputs: Sequence[Path], out: Path, formats: Formats[Any] = IMAGES) -> list[Case]:
    """The images or volumes that the arguments stand for: files, folders, or manifests.

    Where volumes are wanted, a folder that holds DICOM files is a series, and so is a DICOM file
    of one frame with those of its folder. Of a manifest only the column ``image`` is needed; of
    volumes ``image2``, … and ``roi`` count as well. Of a folder, what is no scan by its name is
    left out and counted, see `why_no_scan`, as are DICOM files that hold no image; a file that is
    named, or listed in a manifest, is taken at its word. Links to folders are followed. A file that
    several paths lead to is taken once, as it was named first.

    Raises
    ------
    DataError
        For a path that is not there, a folder without images, a row that names none, or a name
        that is not UTF-8.
    UserError
        If ``out`` is a folder that was named.
    """
    collected: list[_Named] = []
    for given in inputs:
        path = series_of(given, formats)
        if path.is_dir():
            collected += [(p, (), None) for p in _in_folder(path, out, formats)]
        elif not path.exists():
            raise DataError("The input does not exist.", where=str(given), fix="check the path")
        elif path.suffix.lower() in MANIFESTS:
            collected += _in_manifest(path)
        else:
            collected.append((path, (), None))
    unique = _once(collected)
    require_utf8_names(unique, public_path)
    shown = shown_inputs(list(unique))
    if telling := sum(text != str(image) for image, text in shown.items()):
        say(
            f"the paths of {telling} of {len(unique)} inputs tell who a patient is, and are shown "
            f"and written with keyed hashes (the key is {default_key_file()})"
        )
    names = safe_ids([Path(shown[image]) for image in unique])
    return [
        Case(id=name, image=image, label="", more=more, roi=roi)
        for name, (image, (more, roi)) in zip(names, unique.items(), strict=True)
    ]


def _in_manifest(path: Path) -> Iterator[_Named]:
    """What the rows of a manifest name."""
    table = read_table(path, required=("image",), aside=BESIDE_IMAGE)
    blank = [r.line for r in table.rows if not r.image]
    if blank:
        raise DataError(
            "No image is named.",
            where=f"{path}, row {blank[0]}",
            found=f"a blank cell in {len(blank)} of {len(table.rows)} rows",
            fix="name the image, or delete the row",
        )
    for r in table.rows:
        more = tuple(table.resolve(c) for c in r.more if c)
        yield table.resolve(r.image), more, table.resolve(r.roi) if r.roi else None


def _once(collected: Sequence[_Named]) -> dict[Path, tuple[tuple[Path, ...], Path | None]]:
    """Each file once, as it was named first, with whatever is named beside it anywhere."""
    first: dict[Path, Path] = {}
    beside: dict[Path, tuple[tuple[Path, ...], Path | None]] = {}
    again: set[Path] = set()
    for image, more, roi in collected:
        kept = first.setdefault(image.resolve(), image)
        if kept.absolute() != image.absolute():
            again.add(image.absolute())
        had = beside.get(kept, ((), None))
        beside[kept] = (had[0] or more, had[1] or roi)
    if again:
        say(
            f"{len(again)} of {len(first) + len(again)} inputs are files, or links to files, that "
            "were named before by another path; each is segmented once, as it was named first"
        )
    return beside


def shown_inputs(images: Sequence[Path]) -> dict[Path, str]:
    """Inputs as they may be shown and kept; what tells who a patient is becomes a keyed hash.

    Where there is such a part in the path of a DICOM file, the key is read, or made.

    Raises
    ------
    UserError
        As `weakseg.data.pseudonyms.read_pseudonyms`.
    """
    shown = {image: public_path(image) for image in images}
    telling = [image for image in images if shown[image] != str(image)]
    if telling:
        names = read_pseudonyms()
        shown |= {image: public_path(image, partial(names.of, "path")) for image in telling}
    return shown


def refuse_others_than_dicom(cases: Sequence[Case]) -> None:
    """Raise a UserError for images of other formats, which no DICOM segmentation can refer to."""
    others = [c for c in cases if identifiers_of(c.image) is None]
    if others:
        raise UserError(
            "A DICOM segmentation refers to DICOM images, and some inputs are of other formats.",
            where=str(others[0].image),
            found=f"{len(others)} of {len(cases)}",
            fix="leave them out, or do without --dicom-seg",
        )


def series_of(path: Path, formats: Formats[Any]) -> Path:
    """Where volumes are wanted, the folder of a DICOM file of one frame; else the path."""
    if not formats.folders or not path.is_file() or formats_of(path) is formats:
        return path
    return path.parent if begins_as_dicom(path) else path


def _in_folder(path: Path, out: Path, formats: Formats[Any]) -> list[Path]:
    root, ours = path.resolve(), out.resolve()
    if ours == root:  # a second call would take the masks of the first for images
        raise UserError(
            "The output would lie among the images.",
            where=str(out),
            fix="name another folder with --out",
        )
    # Masks of an earlier call are no images, whatever leads to them; `out` may lie above, too.
    everything = sorted(p for p in files_below(path, but=out) if p.is_file())
    inner = list(_wanted(everything, formats))
    if ours.is_relative_to(root):
        inner = [p for p in inner if not p.resolve().is_relative_to(ours)]
        there = [p for p in files_below(out) if formats.named(p)]
        if there and not (out / PREDICTIONS).exists():  # else they are an earlier call's
            say(f"{out}: {count(len(there), formats.noun)} left out, as the masks go there")
    earlier = _earlier_folders(everything, path)
    why = {p: _why(p, path, earlier) for p in inner}
    left = {p: w for p, w in why.items() if w is not None}
    if left:
        say(f"{path}: {_left_out(left, path)}")
    scans = [p for p in inner if p not in left]
    if not scans:
        raise _nothing(path, everything, left, formats)
    return scans


def _wanted(files: Sequence[Path], formats: Formats[Any]) -> Iterator[Path]:
    """What of some files is an image by its name or as DICOM; of series their folders."""
    folders: dict[Path, None] = {}
    for file in files:
        if formats.named(file):
            yield file
        elif file.parent not in folders and not _named_otherwise(file) and begins_as_dicom(file):
            if formats_of(file) is formats:
                yield file
            elif formats.folders and why_no_dicom_image(file) is None:
                folders[file.parent] = None
    yield from folders


def _named_otherwise(file: Path) -> bool:
    """Whether a file's name says that it is no DICOM file."""
    named = any(f.named(file) for f in (IMAGES, VOLUMES))
    return named and not file.name.lower().endswith(DICOM_IMAGE.suffixes)


def _earlier_folders(files: Sequence[Path], path: Path) -> list[Path]:
    """Folders below that an earlier call has written; not the one that was named."""
    tables = [f for f in files if f.name == PREDICTIONS and f.parent != path]
    return [t.parent for t in tables if t.read_bytes()[:9] == b"file,mask"]


def _why(file: Path, root: Path, earlier: Sequence[Path]) -> str | None:
    if any(file.is_relative_to(f) for f in earlier):
        return EARLIER
    if file == root:  # a series that was named itself
        return None
    if why := why_no_scan(file.relative_to(root)):
        return why
    return None if file.is_dir() or _named_otherwise(file) else why_no_dicom_image(file)


def _left_out(left: dict[Path, str], root: Path) -> str:
    """What was left out of a folder and why, counted."""
    parts = []
    for why, n in Counter(left.values()).most_common():
        names = [str(p.relative_to(root)) for p, w in left.items() if w == why]
        some = ", ".join(names[:_EXAMPLES]) + (", …" if n > _EXAMPLES else "")
        named = why in NAMED_SO
        parts.append(f"{n} {why} ({some})" if named else f"{n} that hold no image: {why}")
    return f"left out {'; '.join(parts)}. Name a file itself to have it segmented"


def _nothing(
    path: Path, files: Sequence[Path], left: dict[Path, str], formats: Formats[Any]
) -> DataError:
    suffixes = ", ".join(formats.suffixes)
    if left:
        return DataError(
            f"The folder holds no {formats.noun} but what was left out.",
            where=str(path),
            found=_left_out(left, path).partition(". ")[0],
            fix=f"name the folder itself, or the files, if they are {formats.noun}s of patients",
        )
    return DataError(
        f"The folder holds no {formats.noun}.",
        where=str(path),
        found=folder_content(files),
        expected=f"files ending in {suffixes}",
        fix=SERIES_FIX
        if any(map(begins_as_dicom, files))
        else "name a folder that holds them, itself or in folders below it, or the files",
    )


def readable(
    cases: Sequence[Case],
    skip: bool,
    formats: Formats[Any] = IMAGES,
    data: DataConfig | None = None,
    *,
    others: bool = False,
) -> list[Case]:
    """Read everything first, so that a bad file does not end a long run half-way.

    Where bad files are skipped anyway, a look at the headers is enough; then none may be left only
    where there are ``others`` besides these.

    Raises
    ------
    DataError
        With every file that cannot be read: the cause, the limit and the way out of each.
    """
    good, bad = [], []
    with progress("reading", len(cases)) as advance:
        for case in cases:
            try:
                read_frame(case.image, formats)
                if not skip:
                    read_whole(case, data)
                good.append(case)
            except DataError as e:
                bad.append((public_path(case.image), e))
            advance()
    if bad and not (skip and (good or others)):
        lines = "\n".join(f"  - {f}: {cause(e)}" for f, e in bad)
        some = f"{len(bad)} of {count(len(cases), 'file')}"
        raise DataError(
            f"{some} cannot be read as {formats.noun}s:\n{lines}",
            fix="mend them" if skip else "mend them, or leave them out with --skip-unreadable",
        )
    for file, error in bad:
        say(f"left out {file}: {cause(error)}")
    _tell_leeways(good)
    return good


def _tell_leeways(cases: Sequence[Case]) -> None:
    """Say how many modalities and regions are taken to lie on an image whose affine is another."""
    leeways: Counter[Leeway] = Counter()
    all_others = 0
    for case in cases:
        others = [*case.more, *([case.roi] if case.roi else [])]
        all_others += len(others)
        image = read_frame(case.image, VOLUMES) if others else None
        for path in others:
            with contextlib.suppress(DataError):  # told where it is read whole
                if image is not None and (how := grid_leeway(read_frame(path, VOLUMES), image)):
                    leeways[how] += 1
    for how, n in leeways.most_common():
        verbs = ("has", "is") if n == 1 else ("have", "are")
        say(
            f"{n} of {all_others} further modalities and regions {verbs[0]} another affine than "
            f"their image and {verbs[1]} taken to lie on its voxels: such files {LEEWAY[how]}"
        )


def cause(e: DataError) -> str:
    """What is wrong with a file, what was found, what is allowed, and the way out, on one line."""
    details = [t for t in (e.found, f"expected {e.expected}" if e.expected else None) if t]
    about = f" ({'; '.join(details)})" if details else ""
    return e.what.rstrip(".") + about + (f" → {e.fix}" if e.fix else "")


def together(
    cases: Sequence[Case], most: int, pixels: int = 2**26, *, whole_series: bool = False
) -> Iterator[list[Case]]:
    """Cases that are predicted at once: so many, and fewer of large 2D images.

    Parameters
    ----------
    cases : sequence of Case
    most : int
        Cases at once.
    pixels : int, optional
        Of all images at once; a single image may have more.
    whole_series : bool, optional
        Keep images that follow each other together, however many.
    """
    if whole_series:
        chains = [[cases[i] for i in chain] for chain in series(cases)]
        alone = [chain[0] for chain in chains if len(chain) == 1]
        yield from (chain for chain in chains if len(chain) > 1)
        yield from together(alone, most, pixels)
        return
    chosen: list[Case] = []
    total = 0
    for case in cases:
        size = math.prod(read_frame(case.image).shape)
        if chosen and (len(chosen) == most or total + size > pixels):
            yield chosen
            chosen, total = [], 0
        chosen.append(case)
        total += size
    if chosen:
        yield chosen
