"""``weakseg.open_run``: a run folder, read when it is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.api.case_view import CaseView
from weakseg.api.figure import table_html
from weakseg.config import Config
from weakseg.data.cases import Case
from weakseg.disk import as_path
from weakseg.errors import RunError, did_you_mean
from weakseg.layout import seed_folder
from weakseg.methods.base import Method
from weakseg.methods.classifiers import load_classifier
from weakseg.methods.find import load_method, method_names, spoken_name
from weakseg.models.classifier import Classifier
from weakseg.report.intact import data_changed
from weakseg.report.read import RunTables, read_runs
from weakseg.report.sections.answer import verdict_of
from weakseg.report.sections.base import Subject
from weakseg.report.verdict import Verdict
from weakseg.report.words import masks_told
from weakseg.runs import open_run as folder_of_run
from weakseg.stages.report import make_report

BRIEF = ["dice", "dice_low", "dice_high", "missed", "false_positive_rate", "masks_seen"]
"""Columns of `OpenedRun.scores` that a notebook shows."""


class Cases(Mapping[str, CaseView]):
    """The cases of a run by name; of a misspelt one the nearest is named."""

    def __init__(self, run: OpenedRun) -> None:
        self._run = run

    @property
    def _held(self) -> Mapping[str, Case]:
        return self._run.tables.cases

    def __getitem__(self, name: str) -> CaseView:
        """
        Raises
        ------
        KeyError
            With the nearest name.
        """
        if name not in self._held:
            raise KeyError(f"the run has no case {name!r}; {_near(name, self._held)}")
        return CaseView(self._run.tables, self._held[name], self._run.method)

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def to_frame(self) -> pd.DataFrame:
        """Case, image, label, patient and split of each, as ``splits.csv`` holds them."""
        return self._run.splits

    def __repr__(self) -> str:
        return f"<{len(self)} cases: {', '.join(list(self)[:4])}{', …' if len(self) > 4 else ''}>"


def _near(name: object, known: Mapping[str, Any]) -> str:
    said = did_you_mean(str(name), known)
    return said if said.startswith("did") else f"such as {', '.join(list(known)[:3])}"


class OpenedRun:
    """A run folder. Nothing is read before it is asked for, and then with the report's checks.

    Attributes
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def tables(self) -> RunTables:
        """All that a report reads.

        Raises
        ------
        RunError
            If the folder is not complete, or a file of it is not what its stage wrote.
        """
        (run,) = read_runs([self.folder], look_at_data=False)
        return run

    @cached_property
    def _subject(self) -> Subject:
        return Subject(self.tables, "run1")

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.tables.name

    @property
    def config(self) -> Config:
        """The experiment, with every default."""
        return self.tables.config

    @property
    def record(self) -> dict[str, Any]:
        """``run.json``: versions, machine, data, and what was made when."""
        return self.tables.record

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row a method, as the report's table: means with 95 % intervals, the lead over the best
        trivial floor, and ``name``, the method as people say it. Empty where nothing was scored."""
        table = self._subject.methods
        if "method" not in table:
            return pd.DataFrame(columns=[*table.columns, "name"]).rename_axis("method")
        return table.assign(name=[self.spoken(m) for m in table["method"]]).set_index("method")

    @property
    def per_case(self) -> pd.DataFrame:
        """A row a case, method and seed: ``scores/per_case.csv``."""
        return self.tables.per_case.copy()

    @property
    def splits(self) -> pd.DataFrame:
        """A row a case: image, label, patient and split."""
        return self.tables.splits.copy()

    @cached_property
    def methods(self) -> pd.DataFrame:
        """A row a method that has made masks: as people say it, its kind, its seeds, how many true
        masks it saw, and what its threshold was chosen on."""
        rows = []
        for method in method_names(self.config):
            entries = self.tables.thresholds.get(method, {})
            if not entries:
                continue
            first = next(iter(entries.values()))
            rows.append(
                {
                    "method": method,
                    "name": self.spoken(method),
                    "kind": first["kind"],
                    "seeds": [int(s.removeprefix("seed-")) for s in entries],
                    "masks_seen": max(int(e["masks_seen"]) for e in entries.values()),
                    "chosen_on": first["chosen_on"],
                    "upper_bound": bool(first["upper_bound"]),
                }
            )
        columns = ["method", "name", "kind", "seeds", "masks_seen", "chosen_on", "upper_bound"]
        return pd.DataFrame(rows, columns=columns).set_index("method")

    @property
    def method(self) -> str | None:
        """The method that the report speaks of first; where nothing was scored the first one."""
        known = self.methods.index
        return self._subject.method or (str(known[0]) if len(known) else None)

    @cached_property
    def cases(self) -> Cases:
        """Name → case: its image, true mask, masks, heatmaps and scores."""
        return Cases(self)

    @cached_property
    def verdict(self) -> Verdict:
        """The report's verdict: ``light``, ``sentence`` and ``conditions``."""
        return verdict_of(self._subject)

    @cached_property
    def data_changed(self) -> bool:
        """Whether the manifest, or a file that it names, has changed since the run read them."""
        return data_changed(self.folder, self.tables.manifest, self.config, self.record)

    def spoken(self, method: str) -> str:
        """A method, or a trivial floor, as people say it."""
        return spoken_name(self.config, method)

    def load(
        self, method: str | None = None, *, seed: int | None = None, device: str = "auto"
    ) -> Method:
        """A method, ready for new images; see `weakseg.load_method`."""
        return load_method(self.folder, method, seed=seed, device=device)

    def classifier(self, seed: int | None = None) -> Classifier:
        """The classifier of a seed, by default the first, on the CPU: for `weakseg.explain`."""
        seeds = list(self.tables.classifiers)
        wanted = next(iter(seeds), None) if seed is None else seed
        if wanted is None or wanted not in seeds:
            raise RunError(
                f"The run has no classifier of seed {wanted}."
                if seeds
                else "The run has no classifier.",
                where=str(self.folder),
                fix=f"choose one of: {', '.join(map(str, seeds))}" if seeds else None,
            )
        return load_classifier(seed_folder(self.folder, self.config.classifier.arch, wanted))

    def report(self, out: str | Path, *, gallery: int | None = None) -> Path:
        """Write the report into a folder; the page. See `weakseg.make_report`."""
        return make_report([self.folder], as_path(out, "a folder"), gallery=gallery)

    def __repr__(self) -> str:
        return f"OpenedRun({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        table = self.scores if len(self.scores) else self.methods
        told = [masks_told(row) for row in table.to_dict(orient="records")]
        columns = ["name", *BRIEF] if len(self.scores) else list(table.columns)
        brief = table.assign(masks_seen=told)[columns]
        said = escape(self.verdict.sentence)
        return f"<p><b>{escape(self.name)}</b>. {said}</p>{table_html(brief)}"


def open_run(run: Any) -> OpenedRun:
    """A run folder, for looking at.

    Parameters
    ----------
    run : str or Path
        A run folder, or the name of one below ``runs/``; a fitted `weakseg.WeakSegmenter`, too.

    Returns
    -------
    OpenedRun
        With ``scores``, ``per_case`` and ``methods`` as DataFrames, and ``cases`` by name.

    Raises
    ------
    RunError
        If there is no such run. What is damaged is told when it is read.

    Examples
    --------
    >>> import weakseg as ws
    >>> run = ws.open_run("runs/mine")  # doctest: +SKIP
    >>> run.scores[["dice", "dice_low", "dice_high"]]  # doctest: +SKIP
    >>> run.cases["P001_07"].plot()  # doctest: +SKIP
    """
    if isinstance(run, OpenedRun):
        return run
    folder = as_path(getattr(run, "run_dir_", run), "a run folder")
    if not folder.exists() and folder.name == str(folder) and (Path("runs") / folder).is_dir():
        folder = Path("runs") / folder
    if "stages" not in folder_of_run(folder).record:
        raise RunError(
            "The run has made nothing yet.",
            where=str(folder),
            fix="run `weakseg compare CONFIG`; it goes on where it ended",
        )
    return OpenedRun(folder)
