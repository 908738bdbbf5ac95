"""Which runs a sweep is made of: every combination of the values that keys are given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args, get_origin

import yaml

from weakseg.config import Config, fingerprint
from weakseg.config.load import NAMED, section
from weakseg.config.yaml_text import flow, parse
from weakseg.errors import ConfigError
from weakseg.runs import folder_name

FOLDS, FOLD = "data.split.folds", "data.split.fold"
MOST_RUNS = 1000
MOST_LETTERS = 60
"""Of a run's name."""

_RANGE = re.compile(r"(-?\d{1,9})\.\.(-?\d{1,9})")


@dataclass(frozen=True)
class Variation:
    """One run of a sweep.

    Attributes
    ----------
    name : str
        Its folder's, different for every run.
    settings : tuple of (str, Any)
        Key and value of what is varied, in the order that was asked for.
    folds, fold : int or None
        Where the patients are dealt out to folds: how many, and which one is tested.
    """

    name: str
    settings: tuple[tuple[str, Any], ...]
    folds: int | None = None
    fold: int | None = None

    @property
    def changes(self) -> list[str]:
        """As ``--set`` takes them."""
        changes = [f"{k}={flow(as_key_takes(k, v))}" for k, v in self.settings]
        if self.folds is not None:
            changes += [f"{FOLDS}={self.folds}", f"{FOLD}={self.fold}"]
        return changes

    @property
    def shown(self) -> dict[str, str]:
        """Key → value as people write it."""
        return {k: v if isinstance(v, str) else flow(v) for k, v in self.settings}


def variations(over: Sequence[str], folds: int | None = None) -> list[Variation]:
    """Every combination of the values of some keys, and of the folds.

    Parameters
    ----------
    over : sequence of str
        ``KEY=VALUES``: values with commas between them, whole numbers also as ``0..9`` (both ends
        are meant). A key that holds a list takes one value at a time; a list in brackets is one.
    folds : int, optional
        Each combination is run once for each of so many folds.

    Returns
    -------
    list of Variation
        The last key changes first, and folds before it.

    Raises
    ------
    ConfigError
        For what is not of that form, a key that stands twice, or more than `MOST_RUNS` runs.
    """
    keys = [_values(text) for text in over]
    names = [k for k, _ in keys]
    if len(set(names)) < len(names):
        twice = next(k for k in names if names.count(k) > 1)
        raise ConfigError(
            "A key stands in two --over.", where=twice, fix=f"--over {twice}=VALUE,VALUE"
        )
    if folds is not None and {FOLDS, FOLD} & set(names):
        raise ConfigError(
            "Folds are asked for twice: by --folds and by --over.", fix="leave one of the two out"
        )
    if not keys and folds is None:
        raise ConfigError(
            "Nothing is varied.",
            where="weakseg sweep",
            fix="add --over classifier.seeds=0..4, or --folds 5",
        )
    which: Sequence[int | None] = [None] if folds is None else range(folds)
    total = len(which)
    for _, values in keys:
        total *= len(values)
    if total > MOST_RUNS:
        raise ConfigError(
            "These are too many runs for one sweep.",
            where="--over",
            found=f"{total:,}",
            expected=f"at most {MOST_RUNS:,}",
        )
    made = [
        (tuple(zip(names, values, strict=True)), fold)
        for values in product(*(v for _, v in keys))
        for fold in which
    ]
    return [
        Variation(name, settings, folds, fold)
        for name, (settings, fold) in zip(_names(made), made, strict=True)
    ]


def as_key_takes(key: str, value: Any) -> Any:
    """One value of a key; of one that holds lists, a list of it."""
    annotation = _annotation(key)
    kinds = [annotation, *get_args(annotation)]
    words = [w for k in kinds if get_origin(k) is Literal for w in get_args(k)]
    if value is None or isinstance(value, list) or value in words:
        return value
    return [value] if list in {get_origin(k) for k in kinds} else value


def _annotation(key: str) -> Any:
    """What the field of a key may hold; None of keys that there are not, which others refuse."""
    *parents, last = key.split(".")
    model: Any = Config
    while parents and model is not None:
        part = parents.pop(0)
        if part in NAMED and parents:
            parents.pop(0)  # the user's own name
            model = NAMED[part]
        else:
            field = model.model_fields.get(part)
            model = None if field is None else section(field.annotation)
    field = None if model is None else model.model_fields.get(last)
    return None if field is None else field.annotation


def _values(text: str) -> tuple[str, list[Any]]:
    key, equals, listed = text.partition("=")
    key = key.strip()
    try:
        values = parse(f"[{listed}]") if equals and key else None
    except yaml.YAMLError:
        values = None
    if not isinstance(values, list) or not values:
        raise ConfigError(
            "An --over is not of the form KEY=VALUES.",
            where=f"--over {text}"[:80],
            expected="for example --over classifier.seeds=0..4, or classifier.arch=resnet18,vgg11",
        )
    spread = [v for value in values for v in _spread(value, key)]
    shown = [flow(v) for v in spread]
    if len(set(shown)) < len(shown):
        twice = next(v for v in shown if shown.count(v) > 1)
        raise ConfigError("A value stands twice.", where=f"--over {key}", found=twice)
    return key, spread


def _spread(value: Any, key: str) -> Iterator[Any]:
    ends = _RANGE.fullmatch(value) if isinstance(value, str) else None
    if ends is None:
        yield value
        return
    first, last = int(ends[1]), int(ends[2])
    if last < first or last - first >= MOST_RUNS:
        raise ConfigError(
            "A range of values goes from the smaller number to the larger.",
            where=f"--over {key}",
            found=value,
            expected=f"such as 0..9, of at most {MOST_RUNS:,} numbers",
        )
    yield from range(first, last + 1)


def _names(made: Sequence[tuple[tuple[tuple[str, Any], ...], int | None]]) -> list[str]:
    """A folder's name for each run: what is varied, by the last parts of its keys."""
    keys = [k for k, _ in made[0][0]]
    ends = [k.rpartition(".")[2] for k in keys]
    short = [e if ends.count(e) == 1 else k for k, e in zip(keys, ends, strict=True)]
    names = []
    for settings, fold in made:
        parts = [
            f"{name}-{value if isinstance(value, str) else flow(value)}"
            for name, (_, value) in zip(short, settings, strict=True)
        ]
        parts += [] if fold is None else [f"fold-{fold}"]
        names.append(re.sub(r"-{2,}", "-", folder_name("_".join(parts))).strip("-."))
    folded = [n.casefold() for n in names]
    return [
        n if len(n) <= MOST_LETTERS and folded.count(n.casefold()) == 1 else _marked(n, run)
        for n, run in zip(names, made, strict=True)
    ]


def _marked(name: str, run: object) -> str:
    """The beginning of a name, and letters that tell its run, whichever others there are."""
    return f"{name[: MOST_LETTERS - 9].strip('-._')}-{fingerprint(run)[:8]}"
