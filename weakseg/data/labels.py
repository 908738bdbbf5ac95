"""What the labels of a set mean: healthy or lesion."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from weakseg.data.cases import Labels
from weakseg.errors import DataError, did_you_mean

HEALTHY_NAMES = frozenset(
    (
        *("normal", "healthy", "control", "controls", "background", "absent", "none"),
        *("negative", "neg", "no", "false", "0"),
        *("nofinding", "nofindings", "nolesion", "nolesions", "notumor", "notumour"),
    )
)
"""Labels that ``healthy_labels: auto`` takes for healthy, without case, spaces, - and _."""


def resolve_labels(
    found_labels: Iterable[str],
    healthy: Sequence[str] | Literal["auto"] = "auto",
    lesion: Sequence[str] | Literal["auto"] = "auto",
    *,
    both: bool = True,
) -> Labels:
    """Which labels mean healthy and which a lesion.

    Parameters
    ----------
    found_labels : iterable of str
        Labels of the manifest; repeats do no harm.
    healthy : list of str or "auto"
        ``auto``: those in `HEALTHY_NAMES`, without regard to case, spaces, - and _.
    lesion : list of str or "auto"
        ``auto``: all that are not healthy.
    both : bool
        Whether there must be healthy labels, as classifiers need them; segmenters do without.

    Returns
    -------
    Labels
        Without labels that neither list names.

    Raises
    ------
    DataError
        If a side that must be there would be empty, or a listed label does not occur or is in both
        lists.
    """
    found = sorted({label for label in found_labels if label})
    shown = ", ".join(map(repr, found)) or "none"
    for key, wanted in (("data.healthy_labels", healthy), ("data.lesion_labels", lesion)):
        for label in wanted if wanted != "auto" else ():
            if label not in found:
                raise DataError(
                    f"The label {label!r} does not occur in the manifest.",
                    where=key,
                    found=f"labels {shown}",
                    fix=did_you_mean(label, found),
                )
    if both and len(found) < 2:
        raise DataError(
            "A classifier needs images with and without a lesion, but there is only one label.",
            found=f"labels {shown}",
            expected="at least one label for healthy images and one for images with a lesion",
            fix="add images of the other kind",
        )
    chosen = set(lesion) if lesion != "auto" else set()
    well = {f for f in found if plain(f) in HEALTHY_NAMES} - chosen
    well = well if healthy == "auto" else set(healthy)
    ill = set(found) - well if lesion == "auto" else chosen
    if well & ill:
        raise DataError(
            f"The label {min(well & ill)!r} is listed both as healthy and as lesion.",
            where="data.healthy_labels and data.lesion_labels",
            fix="take it out of one list",
        )
    if not ill or (both and not well):
        raise DataError(
            "No label is known to mean healthy."
            if ill or not found
            else "Every label is taken for healthy, so that none is left for images with a lesion.",
            found=f"labels {shown}",
            fix="set data.healthy_labels to the labels of images without a lesion",
        )
    return Labels(tuple(sorted(well)), tuple(sorted(ill)))


def plain(label: str) -> str:
    """A label without case, spaces, - and _."""
    return re.sub(r"[\s_-]+", "", label).casefold()
