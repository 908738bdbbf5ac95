"""Who is who: patients whose names differ only in their writing."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

_DECIMAL = re.compile(r"(\d+)[.,]0+")
_SEPARATORS = frozenset("PSZC")  # punctuation, symbols, space, control: the kinds of Unicode


def person_key(name: str) -> tuple[str, ...]:
    """What is left of a patient's name when its writing is taken off.

    Case, the form of accents, spaces, punctuation and the zeros before a number do not count, nor
    the ``.0`` of a number that a spreadsheet took for a decimal. Where two numbers end and begin
    does: ``1-11`` is not ``11-1``.

    Parameters
    ----------
    name : str

    Returns
    -------
    tuple of str
        Letters and numbers in turn; the name itself where it has neither.

    Examples
    --------
    >>> person_key("Pat-007") == person_key("pat_7")
    True
    >>> person_key("7.0") == person_key("07")
    True
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()
    decimal = _DECIMAL.fullmatch(plain)
    plain = decimal[1] if decimal else plain
    spaced = "".join(" " if unicodedata.category(c)[0] in _SEPARATORS else c for c in plain)
    # Only between two numbers does a separator part anything.
    joined = re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", spaced)
    key = re.findall(r"\d+|[^\d\s]+", joined)
    return tuple(k.lstrip("0") or "0" if k.isdecimal() else k for k in key) or (plain,)


def similar_names(names: Iterable[str]) -> list[list[str]]:
    """Names that may be one person's, in groups of two or more; each sorted, and in order."""
    groups: dict[tuple[str, ...], set[str]] = {}
    for name in names:
        groups.setdefault(person_key(name), set()).add(name)
    return sorted(sorted(g) for g in groups.values() if len(g) > 1)


def one_name_each(names: Sequence[str]) -> list[str]:
    """The same names in one writing a person: the most frequent, of equal ones the first."""
    count = Counter(n for n in names if n)
    one = {
        name: min(group, key=lambda n: (-count[n], n))
        for group in similar_names(count)
        for name in group
    }
    return [one.get(n, n) for n in names]
