"""The contract of a section: what it reads of a run, its tables, its figures and its text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from weakseg.config import Config
from weakseg.methods.find import method_names, spoken_name
from weakseg.report.colours import method_colours
from weakseg.report.honesty import Check, checks_of
from weakseg.report.read import RunTables
from weakseg.report.tables import headline, method_table


@dataclass(frozen=True, eq=False)
class Subject:
    """A run, and what several sections say of it.

    Attributes
    ----------
    run : RunTables
    anchor : str
        Different for each run of a page.
    """

    run: RunTables
    anchor: str

    @property
    def config(self) -> Config:
        """The experiment."""
        return self.run.config

    @property
    def data(self) -> dict[str, Any]:
        """The set as the record describes it."""
        return self.run.data

    @property
    def draw(self) -> dict[str, int]:
        """How intervals are drawn."""
        return {"bootstrap": self.config.scores.bootstrap, "seed": self.config.seed}

    @cached_property
    def methods(self) -> pd.DataFrame:
        """See `weakseg.report.tables.method_table`; empty where nothing was scored."""
        return method_table(self.run.summary, self.run.per_case, **self.draw)

    @cached_property
    def method(self) -> str | None:
        """The method that the report speaks of first."""
        return headline(self.methods, self.method_order, self.config.report.method)

    @cached_property
    def checks(self) -> list[Check]:
        """How the run was kept honest, as far as that can be checked."""
        return checks_of(self.run, self.patients_known)

    @property
    def method_order(self) -> list[str]:
        """The run's methods in the order of its experiment file, a kind after the other."""
        return method_names(self.config)

    @property
    def scored(self) -> bool:
        """Whether any method was scored."""
        return len(self.methods) > 0

    @property
    def groups(self) -> dict[str, str]:
        """Method → its group, in the order of the table."""
        if not self.scored:
            return {}
        return dict(zip(self.methods["method"], self.methods["group"], strict=True))

    def spoken(self, method: str) -> str:
        """A method as people say it."""
        return spoken_name(self.config, method)

    @property
    def colours(self) -> dict[str, str]:
        """Method → its colour on the whole page."""
        return method_colours(self.groups)

    @property
    def labels(self) -> list[str]:
        """All labels, healthy ones first."""
        return [*self.data.get("healthy_labels", []), *self.data.get("lesion_labels", [])]

    @property
    def seeds(self) -> list[int]:
        """Of the classifiers."""
        return list(self.run.classifiers)

    @property
    def simulated(self) -> bool:
        """Whether the images are drawn."""
        return bool(self.data.get("simulated", False))

    @property
    def patients_known(self) -> bool:
        """Whether the manifest names patients."""
        return bool(self.data.get("patients_known", True))

    @property
    def has_classifier(self) -> bool:
        """Whether there are classifiers of such cases."""
        healthy = self.data.get("healthy_labels") != []
        return bool(self.data.get("dims", 2) == self.config.classifier.dims) and healthy

    @property
    def distances(self) -> str:
        """The unit of distances."""
        return str(self.data.get("distances", "pixels"))


@dataclass(frozen=True)
class Content:
    """What a section says of one run.

    Attributes
    ----------
    context : mapping
        What the template sees, besides ``r``, the `Subject`, and ``figures``.
    tables : mapping of str to DataFrame
        For ``tables/*.csv`` and ``report.json``; the same names for every run, also where there is
        nothing to say.
    figures : mapping of str to str
        Name → SVG.
    summary : mapping
        Entries of the run in ``report.json``.
    shown : bool
        Whether the page has the section.
    """

    context: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    shown: bool = True


class Section(NamedTuple):
    """A section of a run's part of the page.

    Attributes
    ----------
    name : str
    build : callable
        `Subject` → `Content`.
    template : str
        Of Jinja; the macros of ``macros.html.jinja`` are there.
    """

    name: str
    build: Callable[[Subject], Content]
    template: str
