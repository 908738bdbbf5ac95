"""What the names of images tell: the class, where no folder and no table does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from weakseg.importing.answers import Answers, Question
from weakseg.importing.folders import CLASS_NAMES, Place
from weakseg.importing.tree import listed, stem_of

_WORD = re.compile(r"[^\W\d_]+")
_SAY_LITTLE = frozenset(("no", "yes", "false", "0", "background", "absent", "mass"))
"""Names of classes that in the middle of a file's name may mean anything."""
_NEGATIONS = frozenset(("no", "non", "not", "without", "free", "absent", "negative", "neg"))
"""Words that turn the class beside them into its contrary."""


def labelled_by_name(places: Mapping[str, Place], answers: Answers) -> dict[str, Place]:
    """Places with the class that a word of every file's name tells, where no folder tells one.

    Taken only where every name holds one class and no other, and there are several: then it is
    asked whether that is what the word means.

    Parameters
    ----------
    places : mapping
        Image → what its folders tell.
    answers : Answers
    """
    told = {f: _classes(stem_of(f)) for f in places}
    classes = {k: word for of in told.values() for k, word in reversed(of.items())}
    if len(classes) < 2 or any(len(of) != 1 for of in told.values()):
        return dict(places)
    answer = answers.ask(
        Question(
            "names",
            f"Do the words {listed(classes.values(), 4)} in the files' names tell the class?",
            "yes",
            ("yes", "no"),
            "every name holds one of them",
        )
    )
    if answer == "no":
        return dict(places)
    return {f: replace(place, label=classes[next(iter(told[f]))]) for f, place in places.items()}


def _classes(stem: str) -> dict[str, str]:
    """The classes that a name holds: as `plain` has them → as they are written.

    None where one is negated, as in "tumour_free": no name of the other class stands there.
    """
    from weakseg.data.labels import HEALTHY_NAMES, plain

    known = (HEALTHY_NAMES | CLASS_NAMES) - _SAY_LITTLE
    found: dict[str, str] = {}
    words, at = [*_WORD.finditer(stem)], 0
    while at < len(words):
        # "no_tumour" is one class of two words, and no tumour.
        for several in (2, 1):
            some = words[at : at + several]
            text = stem[some[0].start() : some[-1].end()]
            if len(some) == several and plain(text) in known:
                if _negated(stem, words, at, at + several):
                    return {}
                found.setdefault(plain(text), text)
                at += several - 1
                break
        at += 1
    return found


def _negated(stem: str, words: Sequence[re.Match[str]], first: int, end: int) -> bool:
    """Whether a negation stands before or behind the words from ``first`` to ``end``."""
    beside = [w[0].casefold() for w in words[end : end + 1]]
    if first:
        before = words[first - 1]
        between = stem[before.end() : words[first].start()]
        # "case_no_3_tumour" numbers the case.
        if before[0].casefold() != "no" or not any(map(str.isdigit, between)):
            beside.append(before[0].casefold())
    return not _NEGATIONS.isdisjoint(beside)
