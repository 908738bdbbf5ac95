"""The contract of a method: whatever makes a mask of a case.

Its kinds are a heatmap with a rule (`weakseg.methods.heatmap`) and a segmentation network, or the
mean of several (`weakseg.methods.network`), trained on true masks or on another method's;
`weakseg.methods.find` lists them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import Config
from weakseg.data.cases import Case
from weakseg.data.formats.registry import formats_of_dims
from weakseg.errors import DataError, count
from weakseg.heatmaps.store import Heatmap
from weakseg.methods.prepared import Prepared

Entry = Mapping[str, Any]
"""What ``threshold.json`` holds of a method and a seed."""

Entries = Mapping[str, Mapping[str, Entry]]
"""Method → ``seed-<n>`` → its entry."""

SourceKey = Callable[[Prepared, str, int], str | None]
"""(run, segmenter, seed) → key of its pseudo-labels; None of one that true masks taught."""

ENGINE = "engine"
"""Key of an entry that names what ran the networks, where that was not torch."""

HEATMAP: str = "heatmap"
ORACLE: str = "oracle"
WEAK: str = "weak"
SUPERVISED: str = "supervised"
FOUNDATION: str = "foundation"
"""Kinds of methods: of a heatmap; an upper bound; a network trained on another method's masks, or
on those of the manifest; and any that stands on a network which saw masks of other sets."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a method says of a case.

    Attributes
    ----------
    mask : (*size) ndarray of bool
        On the case's own grid.
    map : (*size) ndarray of float32
        What the mask was made of: positive heat, not normalised, or the probability of a lesion.
    probability : float or None
        The classifiers' probability of a lesion somewhere in the case; None where none is asked.
    flat : bool
        Whether the heatmap shows nothing.
    gated : bool
        Whether the gate has emptied the mask.
    heat : Heatmap, optional
        The heatmap as it is stored, of methods that have one.
    notes : mapping
        Further columns of ``predictions.csv``.
    """

    mask: np.ndarray
    map: np.ndarray
    probability: float | None = None
    flat: bool = False
    gated: bool = False
    heat: Heatmap | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


class Method(ABC):
    """A way to the mask of a case, ready for cases.

    Attributes
    ----------
    name : str
        As in the run's report.
    seeds : tuple of int
        Of the networks.
    config : Config
        The run's experiment.
    """

    name: str
    seeds: tuple[int, ...]
    config: Config

    @property
    @abstractmethod
    def kind(self) -> str:
        """``heatmap``, ``oracle``, ``weak`` or ``supervised``, as in ``per_case.csv``."""

    @property
    @abstractmethod
    def masks_seen(self) -> int:
        """How many true masks had a part in it."""

    @property
    @abstractmethod
    def chosen_on(self) -> str:
        """What its threshold was chosen on, in words."""

    @property
    @abstractmethod
    def dims(self) -> int:
        """2 for images, 3 for volumes."""

    @property
    @abstractmethod
    def at_once(self) -> int:
        """How many cases the network takes together."""

    @abstractmethod
    def predict_all(self, cases: Sequence[Case]) -> Iterator[Prediction]:
        """What it says of each case, of which only image, further modalities and region are read.

        Networks get `at_once` cases at a time, as in the stage that scores masks, so that a case
        gets the same mask from both.

        Raises
        ------
        DataError
            If a file cannot be read, or is none that the network takes.
        RunError
            If a network says NaN or infinity.
        """

    @property
    def looks_beside(self) -> bool:
        """Whether what it says of a case depends on the case's neighbours among those given."""
        return False

    def predict_each(self, cases: Sequence[Case]) -> Iterator[Prediction]:
        """`predict_all` of however many cases, `at_once` at a time."""
        for at in range(0, len(cases), self.at_once):
            yield from self.predict_all(cases[at : at + self.at_once])

    def predict(self, case: Case | Path | str) -> Prediction:
        """`predict_all` of one case, or of an image by its path.

        It takes as long as of `at_once` cases.
        """
        one = case if isinstance(case, Case) else Case(Path(case).stem, Path(case), "")
        refuse_other_dims([one], self.dims)
        (prediction,) = self.predict_all([one])
        return prediction

    @abstractmethod
    def confidence(self, prediction: Prediction) -> np.ndarray:
        """How sure it is of a lesion at every place, (*size), in [0, 1]."""

    @property
    def choice(self) -> str:
        """What the threshold was chosen on, and how many masks were seen."""
        others = ", masks of other sets elsewhere" if self.kind == FOUNDATION else ""
        on = self.chosen_on
        none = on.startswith("nothing")
        how = f"not chosen{on.removeprefix('nothing')}" if none else f"chosen on {on}"
        return f"threshold {how}; {count(self.masks_seen, 'mask')} seen{others}"


def refuse_other_dims(cases: Iterable[Case], dims: int) -> None:
    """Raise a DataError for a case that is no image, slice or volume as a method of ``dims`` takes.

    A volume of three slices can be read as an image of three colours: nothing else would tell.
    """
    wanted = formats_of_dims(dims)
    for case in cases:
        if case.dims != dims:
            sliced = "; slices of it, where the run's images are slices: `weakseg predict RUN FILE`"
            raise DataError(
                f"The method makes masks of {wanted.noun}s, and this is {_article(case.noun)}.",
                where=case.shown,
                expected=", ".join(wanted.suffixes),
                fix=f"name {_article(wanted.noun)}, or take a method of {case.noun}s"
                + (sliced if case.dims > dims else ""),
            )


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


@dataclass(frozen=True)
class Kind:
    """What there is to know of the methods of a kind before one of them is loaded.

    Attributes
    ----------
    kinds : frozenset of str
        What `Method.kind` may be.
    config_of : callable
        Run folder → the experiment as it was when its masks were made.
    names : callable
        `Config` → the experiment's methods of the kind, in its order.
    seeds : callable
        (`Config`, method) → the seeds under which its masks stand.
    stage : callable
        Method → the stage in the record that makes its masks.
    part : callable
        Method → the source of rows of scores that it belongs to, see `weakseg.layout.part_path`.
    settings : callable
        (`Config`, method) → fingerprint of the settings that its masks depend on.
    load : callable
        (run folder, `Config`, method, entries of all methods, seed or None, device) → the method,
        ready for new images.
    of_run : callable
        (`Prepared`, method, seed, its entry in ``threshold.json``, ``whole``) → the method, ready
        for the run's own images: as its masks are scored where ``whole`` is true, else without its
        gate and without dropping parts of its masks.
    made_of : callable
        (`Prepared`, method, seed, entry, ``source_key``) → what its masks depend on, and its entry
        as far as they do; refuses masks of other settings than the run's. ``source_key`` gives the
        key of the pseudo-labels that a network was trained on; None for another run, whose
        networks are taken as they are.
    stands_on : callable
        (`Config`, method, seed) → every stage of training and of heatmaps that its masks need.
    spoken : callable
        (`Config`, method) → the method as people say it, as the subject of a sentence.
    inputs : callable
        (`Config`, method, seed) → the stages whose outputs `of_run` reads, as far as ``made_of``
        does not tell.
    is_of : callable
        (entry of `stage` in the record, `Config`, method) → whether it is of the experiment in
        what neither the data nor ``settings`` tell.
    members : callable
        (`Config`, method) → the methods that it is made of.
    compose : callable, optional
        (`Prepared`, method, seed) → the method as its masks are scored, and its entry; of kinds
        that are made of other methods alone, whose masks `weakseg.stages.composed` makes. Raises a
        LookupError where a member has no masks.
    """

    kinds: frozenset[str]
    config_of: Callable[[Path], Config]
    names: Callable[[Config], list[str]]
    seeds: Callable[[Config, str], list[int]]
    stage: Callable[[str], str]
    part: Callable[[str], str]
    settings: Callable[[Config, str], str]
    load: Callable[[Path, Config, str, Entries, int | None, str], Method]
    of_run: Callable[[Prepared, str, int, Entry, bool], Method]
    made_of: Callable[[Prepared, str, int, Entry, SourceKey | None], tuple[Any, Entry]]
    stands_on: Callable[[Config, str, int], set[str]]
    spoken: Callable[[Config, str], str]
    inputs: Callable[[Config, str, int], tuple[str, ...]] = lambda config, method, seed: ()
    is_of: Callable[[Mapping[str, Any], Config, str], bool] = lambda entry, config, method: True
    members: Callable[[Config, str], list[str]] = lambda config, method: []
    compose: Callable[[Prepared, str, int], tuple[Method, Entry]] | None = None


KindOf = Callable[[Config, str], Kind]
"""(`Config`, method) → its kind: for kinds whose methods are made of other methods."""


def seed_of(kind: Kind, config: Config, method: str, seed: int) -> int:
    """Under which seed a method's masks stand for those who ask for a seed: that, or its first."""
    seeds = kind.seeds(config, method)
    return seed if seed in seeds else seeds[0]
