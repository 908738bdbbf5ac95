"""The header of a manifest: which column is which, under the names that other tools give them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from weakseg.errors import DataError, nearest

REQUIRED = ("image", "label")
OPTIONAL = ("mask", "patient", "split")
BESIDE_IMAGE = ("label", *OPTIONAL)
"""What nothing is read of where only images are named."""
FURTHER = tuple(f"image{k}" for k in range(2, 10))
"""Further modalities on the image's grid; for volumes only, as is ``roi``."""
EXAMPLE = "image,label,mask,patient,split"
SLICE = "slice"
"""The index of a slice along the third axis of the image; for volumes only."""
KNOWN = (*REQUIRED, *OPTIONAL, *FURTHER, "roi", SLICE)

OTHER_NAMES = {
    "image": (
        *("images", "img", "picture", "scan", "file", "filename", "fname", "path", "filepath"),
        *("imagepath", "imagefile", "imagefilename", "imagename", "imageindex", "imgpath"),
        *("imgname", "imgfile", "imagefilepath", "pathtoimage"),
    ),
    "label": (
        *("labels", "class", "classes", "classname", "diagnosis", "category", "target", "finding"),
        *("findings", "findinglabel", "findinglabels", "imagelabel", "imagelabels", "dx"),
    ),
    "mask": (
        *("masks", "maskpath", "maskfile", "maskfilename", "maskname", "maskfilepath"),
        *("segmentation", "segmentationpath", "segmentationfile", "segmentationmask"),
        *("groundtruth", "groundtruthpath", "groundtruthmask"),
    ),
    "patient": (
        *(
            "patients",
            "patientid",
            "patientname",
            "patientnumber",
            "patientno",
            "patientidentifier",
        ),
        *("patid", "pid", "subject", "subjectid", "participant", "participantid", "person"),
        *("personid",),
    ),
}
"""Names that other sets have for our columns, as `plain_name` writes them."""
OTHER_SPLITS = ("splits", "subset", "partition", "datasplit", "datasetsplit", "set")
"""As above, of columns that must also hold nothing but names of splits."""


@dataclass(frozen=True)
class Columns:
    """Where the columns of a manifest are.

    Attributes
    ----------
    place : dict
        Our name → index.
    count : int
        Columns of the header.
    taken : tuple of (str, str)
        Of columns under another name: that name, and ours.
    """

    place: dict[str, int]
    count: int
    taken: tuple[tuple[str, str], ...] = ()


def plain_name(name: str) -> str:
    """A column's name without case, spaces and signs."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


_RECOGNISED = {*KNOWN, *OTHER_SPLITS, *(n for names in OTHER_NAMES.values() for n in names)}


def recognised(line: str, delimiter: str) -> int:
    """How many names of columns a line holds, cut at a delimiter."""
    return len({plain_name(c) for c in line.split(delimiter)} & _RECOGNISED)


def find_columns(
    written: Sequence[str],
    rows: Sequence[Sequence[str]],
    path: Path,
    required: Sequence[str],
    splits: Sequence[str],
    *,
    aside: Sequence[str],
) -> Columns:
    """Find the columns by their own names, else by one that other sets have for them.

    Parameters
    ----------
    written : sequence of str
        The header.
    rows : sequence of sequence of str
        What is below it.
    path : Path
        The manifest, for messages.
    required : sequence of str
        Columns that there must be.
    splits : sequence of str
        What a column of splits under another name may hold.
    aside : sequence of str
        Columns that nothing is read of: where several may be one of them, none is.

    Raises
    ------
    DataError
        If a column is missing, stands twice, or may be one of several.
    """
    header = [c.casefold() for c in written]
    twice = [n for n, k in Counter(header).items() if k > 1 and n in KNOWN]
    if twice:
        raise DataError(
            f"The manifest has two columns {twice[0]!r}.",
            where=f"{path}, row 1",
            found=f"columns {', '.join(written)}",
            fix="remove or rename one of them",
        )
    place = {name: header.index(name) for name in KNOWN if name in header}
    taken = []
    for name, others in {**OTHER_NAMES, "split": OTHER_SPLITS}.items():
        if name in place:
            continue
        at = [k for k, w in enumerate(written) if plain_name(w) in (name, *others)]
        at = [k for k in at if k not in place.values()]
        if name == "split":
            at = [k for k in at if _holds_only(rows, k, splits)]
        if len(at) > 1 and (name in required or name not in aside):
            raise _several(name, [written[k] for k in at], path)
        if len(at) == 1:
            place[name] = at[0]
            taken.append((written[at[0]], name))
    _refuse_missing(place, written, rows, path, required)
    return Columns(place, len(written), tuple(taken))


def further_column(written: Sequence[str], name: str, path: Path) -> int:
    """Where a column is that is not one of ours, by its name but for case.

    Raises
    ------
    DataError
        If it is missing, or stands twice.
    """
    at = [k for k, w in enumerate(written) if w.casefold() == name.casefold()]
    if len(at) != 1:
        near = nearest(name, list(written))
        many = "two columns" if at else "no column"
        raise DataError(
            f"The manifest has {many} {name!r}, which is asked for.",
            where=f"{path}, row 1",
            found=f"columns {', '.join(written)}",
            fix="rename one of them"
            if at
            else f"did you mean {near!r}?"
            if near
            else "name another of these (in data.split.leave_out.column, or in --by), or add it",
        )
    return at[0]


def _holds_only(rows: Sequence[Sequence[str]], k: int, words: Sequence[str]) -> bool:
    contents = {r[k].casefold() for r in rows if k < len(r) and r[k]}
    return bool(contents) and contents <= set(words)


def _several(name: str, names: Sequence[str], path: Path) -> DataError:
    return DataError(
        f"The manifest has no column {name!r}, and {len(names)} that may be it.",
        where=f"{path}, row 1",
        found=f"columns {' and '.join(map(repr, names))}",
        fix=f"rename the one that is meant to {name!r}",
    )


def _refuse_missing(
    place: dict[str, int],
    written: Sequence[str],
    rows: Sequence[Sequence[str]],
    path: Path,
    required: Sequence[str],
) -> None:
    missing = [name for name in required if name not in place]
    if not missing:
        return
    near = {m: _near(m, place, written, rows) for m in missing}
    if len(missing) == len(required) and any(_FILE.search(w) for w in written):
        raise DataError(
            "The manifest has no header.",
            where=f"{path}, row 1",
            found=", ".join(written),
            expected=f"names of columns, such as {EXAMPLE}",
            fix="write the header above the rows",
        )
    renames = [
        f"rename {' or '.join(map(repr, near[m]))} to {m!r}"
        if near[m]
        else f"rename the column that holds it to {m!r}, or add the column"
        for m in missing
    ]
    raise DataError(
        f"The manifest has no column {' and no column '.join(repr(m) for m in missing)}.",
        where=f"{path}, row 1",
        found=f"columns {', '.join(written)}",
        expected=f"image, label and optionally {', '.join(OPTIONAL)}",
        fix="; ".join(renames),
    )


_FILE = re.compile(r"\.(?:[a-z]{3,4}|nii\.gz)$", re.IGNORECASE)
_LOOKED_AT = 50


def _near(
    name: str, place: dict[str, int], written: Sequence[str], rows: Sequence[Sequence[str]]
) -> list[str]:
    """The columns that may be the one which is missing: by name, or by the files that they name.

    One whose name is nearer to another column of ours is that one: ``Maske`` is no image.
    """
    free = {w.casefold(): k for k, w in enumerate(written) if w and k not in place.values()}
    of_name = [w for w in free if nearest(w, KNOWN) in (name, None)]
    close = nearest(name, of_name)
    if close:
        return [written[free[close]]]
    if name != "image":
        return []
    told = {w: [r[free[w]] for r in rows[:_LOOKED_AT] if free[w] < len(r)] for w in of_name}
    return [
        written[free[w]]
        for w, cells in told.items()
        if any(cells) and all(_FILE.search(c) for c in cells if c)
    ]
