"""Which cases lie next to each other: slices of a volume, and numbered images of a patient."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace

from weakseg.data.cases import Case

NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<after>\D*)")
"""A file's stem around the last number in it."""

Place = tuple[Hashable, int]
"""The series that a case may be of, and its number there."""


def neighbours(cases: Sequence[Case]) -> list[tuple[int, ...]]:
    """The cases right before and after each one.

    Slices are neighbours where they follow each other in a volume; images where they lie in one
    folder, are of one patient, and their names differ in the last number alone, by one.

    Parameters
    ----------
    cases : sequence of Case

    Returns
    -------
    list of tuple of int
        For each case the indices of none, one or two others, the earlier one first. It is mutual.
    """
    return [tuple(i for i in both if i is not None) for both in _around(cases)]


def series(cases: Sequence[Case]) -> list[list[int]]:
    """The cases that follow each other, together and in order; one that stands alone by itself.

    Parameters
    ----------
    cases : sequence of Case

    Returns
    -------
    list of list of int
        Every index once; series in the order in which their beginnings stand among the cases.
    """
    around = _around(cases)
    chains = [[i] for i, (before, _) in enumerate(around) if before is None]
    for chain in chains:
        while (after := around[chain[-1]][1]) is not None:
            chain.append(after)
    return chains


def with_company(cases: Sequence[Case], own: Sequence[Case]) -> list[Case]:
    """Some of the cases, and all others that decide which neighbours they have.

    Parameters
    ----------
    cases : sequence of Case
    own : sequence of Case
        Some of them.

    Returns
    -------
    list of Case
        In their order among all. `neighbours` of these are, of each of ``own``, those of all.
    """
    ids = {case.id for case in own}
    around = {(of, n + step) for of, n in filter(None, map(_place, own)) for step in (-1, 0, 1)}
    return [case for case in cases if case.id in ids or _place(case) in around]


def come_in_series(cases: Sequence[Case]) -> bool:
    """Whether most of the cases have a neighbour, and their files' names alone tell which.

    Of new images nothing else is known: where the numbers run on from patient to patient, the
    last image of one would be taken for the neighbour of the next one's first.
    """
    beside = neighbours(cases)
    by_name = neighbours([replace(case, patient="") for case in cases])
    return beside == by_name and 2 * sum(map(bool, beside)) > len(beside)


def _around(cases: Sequence[Case]) -> list[tuple[int | None, int | None]]:
    """For each case the one before and the one after it; none where two claim one place."""
    places = [_place(case) for case in cases]
    claims = Counter(places)
    at = {place: i for i, place in enumerate(places) if place is not None and claims[place] == 1}

    def beside(place: Place | None, step: int) -> int | None:
        if place is None or claims[place] > 1:
            return None
        return at.get((place[0], place[1] + step))

    return [(beside(place, -1), beside(place, 1)) for place in places]


def _place(case: Case) -> Place | None:
    if case.slice is not None:
        return case.image, case.slice
    if case.formats.further:  # a volume holds its own neighbours
        return None
    stem, _, suffixes = case.image.name.partition(".")
    name = NUMBERED.fullmatch(stem)
    if name is None:
        return None
    around = (case.image.parent, case.patient, name["before"], name["after"], suffixes)
    return around, int(name["number"])
