"""What the labels of a set mean: healthy, lesion, or nothing that can be told without asking."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

from weakseg.data.cases import Labels
from weakseg.errors import DataError, did_you_mean

Roles = Sequence[str] | Literal["auto"]

HEALTHY_NAMES = frozenset(
    (
        *("normal", "healthy", "control", "controls", "background", "absent"),
        *("negative", "neg", "no", "false", "0"),
        *("nofinding", "nofindings", "nolesion", "nolesions", "notumor", "notumour"),
    )
)
"""Labels that ``healthy_labels: auto`` takes for healthy, see `plain`."""

NO_VALUE = frozenset(
    (
        *("nan", "-nan", "na", "n/a", "n.a.", "n.a", "<na>", "nat", "none", "null", "(null)"),
        *("nil", "missing", "(blank)", "blank", "empty", "undefined", "-", "--", "---", "–", "—"),
        *(".", "..", "_", "/", "#n/a", "#na", "#n/a n/a", "#null!", "#value!", "#ref!", "#name?"),
        *("#div/0!", "#num!", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "''", '""', "[]", "{}"),
    )
)
"""What programs and people write where there is no value, without case."""

UNCERTAIN_NAMES = frozenset(
    (
        *("uncertain", "unsure", "notsure", "unclear", "unknown", "undetermined", "indeterminate"),
        *("undecided", "equivocal", "inconclusive", "questionable", "doubtful", "ambiguous"),
        *("maybe", "?", "??", "???"),
    )
)
"""Labels of readers who would not say, see `plain`."""

SEPARATORS = ("|", ";", ",", "/", "+", "&")
"""Signs that may stand between several findings of an image."""

_NUMBER = re.compile(r"([+-]?)(\d+)(?:[.,](\d*))?")


def resolve_labels(
    found_labels: Iterable[str],
    healthy: Roles = "auto",
    lesion: Roles = "auto",
    *,
    both: bool = True,
    separator: str | None = None,
) -> Labels:
    """Which labels mean healthy and which a lesion.

    Parameters
    ----------
    found_labels : iterable of str
        Labels of the manifest; repeats do no harm.
    healthy : list of str or "auto"
        ``auto``: those in `HEALTHY_NAMES`, see `plain`.
    lesion : list of str or "auto"
        ``auto``: all that are not healthy, nor of `NO_VALUE` or uncertain (`asks`).
    both : bool
        Whether there must be healthy labels, as classifiers need them; segmenters do without.
    separator : str, optional
        Stands between the findings of a label. An image with any lesion among them has a lesion.

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
    whole = sorted({label for label in found_labels if label})
    every = sorted({f for label in whole for f in findings(label, separator)})
    shown = ", ".join(map(repr, every)) or "none"
    for key, wanted in (("data.healthy_labels", healthy), ("data.lesion_labels", lesion)):
        for label in wanted if wanted != "auto" else ():
            if label not in every:
                raise DataError(
                    f"The label {label!r} does not occur in the manifest.",
                    where=key,
                    found=f"labels {shown}",
                    fix=did_you_mean(label, every),
                )
    answered = [f for f in every if not asks(f) or declared(f, healthy, lesion)]
    if both and len(answered) < 2:
        raise DataError(
            "A classifier needs images with and without a lesion, but there is only one label.",
            found=f"labels {shown}",
            expected="at least one label for healthy images and one for images with a lesion",
            fix="add images of the other kind",
        )
    chosen = set(lesion) if lesion != "auto" else set()
    well = {f for f in answered if plain(f) in HEALTHY_NAMES} - chosen
    well = well if healthy == "auto" else set(healthy)
    ill = set(answered) - well if lesion == "auto" else chosen
    if well & ill:
        raise DataError(
            f"The label {min(well & ill)!r} is listed both as healthy and as lesion.",
            where="data.healthy_labels and data.lesion_labels",
            fix="take it out of one list",
        )
    if not ill or (both and not well):
        raise DataError(
            "No label is known to mean healthy."
            if ill or not answered
            else "Every label is taken for healthy, so that none is left for images with a lesion.",
            found=f"labels {shown}",
            fix="set data.healthy_labels to the labels of images without a lesion",
        )
    return _of_sets(whole, well, ill, separator)


def _of_sets(whole: Sequence[str], well: set[str], ill: set[str], separator: str | None) -> Labels:
    """The roles of labels, given those of the findings that they hold."""
    sick = tuple(w for w in whole if not ill.isdisjoint(findings(w, separator)))
    return Labels(tuple(w for w in whole if well.issuperset(findings(w, separator))), sick)


def findings(label: str, separator: str | None) -> tuple[str, ...]:
    """The findings that a label holds: sorted, without repeats; without a separator the label."""
    if not separator or separator not in label:
        return (label,) if label else ()
    return tuple(sorted({p for p in map(str.strip, label.split(separator)) if p}))


def declared(label: str, healthy: Roles, lesion: Roles) -> bool:
    """Whether the configuration names a label."""
    return any(label in roles for roles in (healthy, lesion) if roles != "auto")


def asks(label: str) -> bool:
    """Whether a label means nothing that can be told without asking."""
    return is_no_value(label) or is_uncertain(label)


def is_no_value(text: str) -> bool:
    """Whether a text is what is written where there is no value, such as ``nan`` or ``N/A``."""
    return text.casefold() in NO_VALUE


def is_uncertain(label: str) -> bool:
    """Whether a label is a negative number, or says that the reader would not say."""
    if plain(label) in UNCERTAIN_NAMES:
        return True
    return _NUMBER.fullmatch(plain(label)) is not None and plain(label).startswith("-")


def plain(label: str) -> str:
    """A label without what does not tell labels apart.

    That is case, spaces, - and _, the form of accents, and of numbers the zeros before and behind;
    the sign of a number stays.
    """
    text = unicodedata.normalize("NFKC", label).casefold().strip().replace("−", "-")
    number = _NUMBER.fullmatch(text)
    if number:
        sign, whole, part = number[1].strip("+"), number[2].lstrip("0") or "0", number[3] or ""
        part = part.rstrip("0")
        value = f"{whole}.{part}" if part else whole
        return value if value == "0" else sign + value
    return re.sub(r"[\s_-]+", "", text)


def reordered(labels: Iterable[str]) -> dict[str, list[list[str]]]:
    """Labels that hold the same findings in another order: separator → groups, each sorted."""
    names = sorted(set(labels))
    out: dict[str, list[list[str]]] = {}
    for separator in SEPARATORS:
        groups: dict[tuple[str, ...], list[str]] = {}
        for label in names:
            if len(findings(label, separator)) > 1:
                groups.setdefault(findings(label, separator), []).append(label)
        if several := [g for g in groups.values() if len(g) > 1]:
            out[separator] = several
    return out


def seeming_sets(labels: Iterable[str]) -> dict[str, list[str]]:
    """Labels that seem to hold several findings: separator → labels, sorted.

    ``|`` is hardly used otherwise; of other signs a part has to be a label of its own.
    """
    names = sorted(set(labels))
    out: dict[str, list[str]] = {}
    for separator in SEPARATORS:
        joined = [label for label in names if len(findings(label, separator)) > 1]
        alone = set(names) - set(joined)
        if separator != "|":
            joined = [j for j in joined if not alone.isdisjoint(findings(j, separator))]
        if joined:
            out[separator] = joined
    return out
