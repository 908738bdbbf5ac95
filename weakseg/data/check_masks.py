"""Whether masks mean what they seem to: soft edges, the wrong way round, turned unlike their image.

None of this shows in one pixel or is certain of one mask; most of it is asked of the whole set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg.data.images import MaskFile
from weakseg.data.manifest import Problem, Row, Table
from weakseg.data.mask_rules import MaskRule
from weakseg.data.volumes import VolumeMaskFile
from weakseg.errors import DataError

MASK_FULL = "mask-full"
HALF, NEARLY_FULL = 0.5, 0.95
_FEW_VALUES = 8
_ENOUGH, _RARE = 10, 0.1
AnyMask = MaskFile | VolumeMaskFile
_LOOK = "look at the outlines (weakseg validate … --pictures FOLDER)"


@dataclass(frozen=True)
class MaskLook:
    """How a mask lies in its image or volume.

    Attributes
    ----------
    share : float
        Of the pixels or voxels that are marked, 0 to 1.
    free : int
        Borders of the image that it does not touch: 0 to 4, of a volume 0 to 6.
    border : float
        Share of the borders' pixels or voxels that are marked, 0 to 1.
    orientations : tuple of int
        By which tag each of its files was turned upright; 1 where by none.
    other_rule : str
        A ``mask_rule`` by which it does not look inverted, as the experiment file has it; blank
        where it looks well, or no rule helps.
    values : tuple of float
        Which it holds beside 0, where they are few and each means something of its own.
    """

    share: float
    free: int
    border: float
    orientations: tuple[int, ...] = (1,)
    other_rule: str = ""
    values: tuple[float, ...] = ()

    @property
    def looks_inverted(self) -> bool:
        """Whether it covers its image as a background does."""
        return self.share > HALF or not self.free


def look_at_mask(files: Sequence[AnyMask], mask: NDArray[np.bool_], rule: MaskRule) -> MaskLook:
    """How a mask lies that a rule has read from its files, all together."""
    look = replace(
        _look(mask), orientations=tuple(f.orientation for f in files), values=_classes(files)
    )
    return replace(look, other_rule=_other_rule(files, rule)) if look.looks_inverted else look


def _classes(files: Sequence[AnyMask]) -> tuple[float, ...]:
    """The values beside 0 of a mask of one file, where they are few and its edges are sharp."""
    if len(files) != 1 or not files[0].one_channel or len(files[0].values) > _FEW_VALUES:
        return ()
    if files[0].lossy or files[0].soft:
        return ()
    return tuple(float(v) for v in files[0].values if v)


def _look(mask: NDArray[np.bool_]) -> MaskLook:
    sides = _sides(mask)
    marked = [int(np.count_nonzero(side)) for side in sides]
    return MaskLook(
        np.count_nonzero(mask) / mask.size,
        marked.count(0),
        sum(marked) / sum(side.size for side in sides),
    )


def _sides(values: NDArray[Any]) -> list[NDArray[Any]]:
    """First and last line along each axis; of a volume its six faces."""
    return [values.take(end, axis=k) for k in range(values.ndim) for end in (0, -1)]


def _other_rule(files: Sequence[AnyMask], rule: MaskRule) -> str:
    listed = _values_off_border(files[0]) if len(files) == 1 else []
    for other in ("nonzero", listed, "half", "dark"):
        if not other or other == rule:
            continue
        try:
            mask = np.logical_or.reduce([f.marked(other) for f in files])
        except DataError:
            continue
        if mask.any() and not _look(mask).looks_inverted:
            return str(other)
    return ""


def _values_off_border(file: AnyMask) -> list[int]:
    """The values other than the border's commonest, where they are few and may be listed."""
    if not file.one_channel or len(file.values) > _FEW_VALUES or (file.values % 1).any():
        return []
    border = np.concatenate([side.ravel() for side in _sides(file.stored)])
    values, counts = np.unique(border, return_counts=True)
    listed = [int(v) for v in file.values if v != values[counts.argmax()]]
    return [] if 0 in listed else listed  # a list takes no 0


def edge_problems(
    row: Row,
    cell: str,
    file: AnyMask,
    mask: NDArray[np.bool_],
    rule: MaskRule,
    *,
    unit: str = "pixels",
) -> Iterator[Problem]:
    """A warning for a file of soft edges, unless the rule cuts them at half of the range."""
    if rule in ("half", "dark") or not (file.lossy or file.soft):
        return
    try:
        half = file.marked("half")
    except DataError:  # floats without a known range
        half = np.zeros_like(mask)
    marked = int(mask.sum())
    what = "is a JPEG, which changes values and blurs edges" if file.lossy else "has soft edges"
    taken = "every value but 0 counts" if rule == "nonzero" else "only the listed values count"
    more = f"{marked} {unit}, and {int(half.sum())} above half of the range"
    fix = "set data.mask_rule: half"
    if half.ndim == 2 and _look(half).looks_inverted and not _look(~half).looks_inverted:
        fix = "set data.mask_rule: dark if the lesion is dark, else half"
    elif marked and not half.any():
        fix = "save the mask anew from its source, without interpolation and not as JPEG"
    yield Problem(
        "mask-soft",
        row.line,
        cell,
        f"the mask {what}: it holds values in between, {len(file.values)} in all, and {taken} as "
        f"lesion ({more})",
        fix,
        "warning",
    )


def polarity_problem(table: Table, looks: Sequence[MaskLook | None]) -> Problem | None:
    """One warning, with the first mask, where most of a set cover their image as a ground does."""
    marked = [(r, m) for r, m in zip(table.rows, looks, strict=True) if m is not None and m.share]
    inverted = [(row, look) for row, look in marked if look.looks_inverted]
    if 2 * len(inverted) <= len(marked):
        return None
    row, look = inverted[0]
    rules = [m.other_rule for _, m in inverted]
    rule = max(dict.fromkeys(rules), key=rules.count)
    way = f"set data.mask_rule: {rule}" if rule else "save the masks the other way round"
    what, borders = _words(row)
    return Problem(
        "masks-inverted",
        row.line,
        row.mask,
        f"as this one ({_percent(look.share)} of the {what}), {len(inverted)} of {len(marked)} "
        f"masks that are not empty mark more than half of their {what} or touch all {borders} of "
        "its borders, as a background does",
        f"{_LOOK}; if what is marked is not the lesion, {way}",
        "warning",
    )


def value_problems(
    table: Table, looks: Sequence[MaskLook | None], rule: MaskRule
) -> Iterator[Problem]:
    """One warning where nearly all masks share their values, and few hold others that count, too.

    It is left out where no value is in nearly every mask, as where each class has one of its own.
    """
    held = [(r, m.values) for r, m in zip(table.rows, looks, strict=True) if m and m.values]
    if rule != "nonzero" or len(held) < _ENOUGH:
        return
    often = Counter(v for _, values in held for v in values)
    usual = [v for v, n in often.items() if n >= (1 - _RARE) * len(held)]
    odd = [(r, [v for v in values if often[v] <= _RARE * len(held)]) for r, values in held]
    odd = [(r, values) for r, values in odd if values]
    if not usual or not odd or len(odd) > _RARE * len(held):
        return
    row, values = odd[0]
    yield Problem(
        "mask-values",
        row.line,
        row.mask,
        f"as this one ({_listed(values)}), {len(odd)} of {len(held)} masks hold values that the "
        f"others do not, whose lesions are {_listed(usual)}; data.mask_rule: nonzero takes all",
        "look at them; if they are no lesion, set data.mask_rule: "
        f"[{_listed(sorted(usual))}], or half",
        "warning",
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{v:g}" for v in values)


def bordered_problems(table: Table, looks: Sequence[MaskLook | None]) -> Iterator[Problem]:
    """A warning for each mask that alone looks inverted; nearly full ones are told already."""
    for row, look in zip(table.rows, looks, strict=True):
        if look and HALF < look.share <= NEARLY_FULL and look.border > NEARLY_FULL:
            yield Problem(
                MASK_FULL,
                row.line,
                row.mask,
                f"the mask marks {_percent(look.share)} of the {_words(row)[0]}, and its "
                "border all round, unlike most masks here",
                "look at it; if it is inverted, save it the other way round",
                "warning",
            )


def orientation_problems(
    table: Table, looks: Sequence[MaskLook | None], images: Sequence[int]
) -> Iterator[Problem]:
    """One warning, with the first mask, for all whose orientation tag is not their image's."""
    pairs = [
        (row, tag, next((o for o in look.orientations if o != tag), tag))
        for row, look, tag in zip(table.rows, looks, images, strict=True)
        if look
    ]
    differ = [(row, image, mask) for row, image, mask in pairs if image != mask]
    if not differ:
        return
    row, image, mask = differ[0]
    yield Problem(
        "orientation-differs",
        row.line,
        row.mask,
        f"as here (the image has {_tag(image)}, the mask {_tag(mask)}), {len(differ)} of "
        f"{len(pairs)} masks and their images differ in the orientation tag; each was turned by "
        "its own tag, or left as it is stored where it has none",
        f"{_LOOK}; where they lie wrongly, save images and masks alike: both turned and without "
        "the tag, or both as they are stored",
        "warning",
    )


def _words(row: Row) -> tuple[str, str]:
    """What a mask lies in, and how many borders that has."""
    return row.noun, {"volume": "six"}.get(row.noun, "four")


def _tag(orientation: int) -> str:
    return "none" if orientation == 1 else f"{orientation}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
