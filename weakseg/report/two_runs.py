"""Two runs of the same images and splits: by how much a method's scores differ, in all and by site.

Who changed a setting and trained again asks this; the page of two runs only says of the methods
that each is judged by which is better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.config.differences import differences
from weakseg.errors import RunError, UserError, count, did_you_mean
from weakseg.methods.network import ON_LABELS
from weakseg.report import words
from weakseg.report.read import RunTables, read_runs
from weakseg.report.run_groups import groups_of, pattern_of
from weakseg.report.sections.base import Subject
from weakseg.report.tables import comparable
from weakseg.report.terminal import aligned
from weakseg.scores import Interval
from weakseg.scores.on_labels import OnLabels
from weakseg.scores.two_runs import compare_two_runs

READING = tuple(f"data.{k}" for k in ("healthy_labels", "lesion_labels", "mask_rule"))
READING += tuple(f"data.{k}" for k in ("drop_labels", "label_separator", "similar_patients"))
"""Settings that say what labels, masks and patients mean, so that other ones make other data."""

FEW = 5
"""Names of cases that an error gives, and settings that are told."""

HEAD = (
    *("", "lesions", "patients", "Dice A", "Dice B", "B − A", "95 % interval", "p"),
    *("missed A", "missed B", "healthy", "false alarms A", "false alarms B"),
)


@dataclass(frozen=True)
class TwoRuns:
    """What two runs have come to, side by side.

    Attributes
    ----------
    names, methods : tuple of str
        Of A and of B.
    masks_seen : tuple of int
    settings : list of str
        In which they differ.
    table : DataFrame
        See `weakseg.scores.two_runs.compare_two_runs`.
    sentence : str
        Which is better, as far as that can be told.
    notes : list of str
        What to mind.
    on_labels : tuple of OnLabels or None
        Of A and of B, what became of the validation images; None where these are not the same.
    manifests : set of Path
        Resolved, of both.
    """

    names: tuple[str, str]
    methods: tuple[str, str]
    masks_seen: tuple[int, int]
    settings: list[str]
    table: pd.DataFrame
    sentence: str
    notes: list[str]
    on_labels: tuple[OnLabels | None, OnLabels | None]
    manifests: set[Path]

    def to_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        runs = zip(self.names, self.methods, self.masks_seen, self.on_labels, strict=True)
        return {
            "runs": [
                {"name": n, "method": m, "masks_seen": s, ON_LABELS: of and asdict(of)}
                for n, m, s, of in runs
            ],
            "settings": self.settings,
            "scores": self.table.to_dict("records"),
            "sentence": self.sentence,
            "notes": self.notes,
        }

    def lines(self) -> list[str]:
        """All of it, for a terminal."""
        told = [
            f"{letter}: {name}, {method}, {count(seen, 'mask')} seen"
            for letter, name, method, seen in zip(
                "AB", self.names, self.methods, self.masks_seen, strict=True
            )
        ]
        more = len(self.settings) - FEW
        told += [f"   {s}" for s in self.settings[:FEW]]
        told += [f"   and {more} more settings"] if more > 0 else []
        rows = [HEAD, *(_cells(row) for row in self.table.to_dict("records"))]
        return [*told, "", *aligned(rows), "", self.sentence, *self._by_labels(), *self.notes]

    def _by_labels(self) -> list[str]:
        """Which of the two the validation labels choose; nothing where one has no such counts."""
        one, two = self.on_labels
        if one is None or two is None:
            return []
        letters = "AB" if one.youden >= two.youden else "BA"
        told = f"By validation labels, without a mask, {letters[0]} is the better one"
        if one.youden == two.youden:
            told = "By validation labels, without a mask, they are equally good"
        return [f"{told}: A {one.told}; B {two.told}."]


def read_two_runs(
    a: Path,
    b: Path,
    *,
    method: str | None = None,
    other: str | None = None,
    column: str | None = None,
    patients: str | None = None,
) -> TwoRuns:
    """Compare a method of one run with the same, or another, of a second run.

    Parameters
    ----------
    a, b : Path
        Run folders; the same one for two methods of it.
    method : str, optional
        Of both; default: the one that the report of ``a`` speaks of first.
    other : str, optional
        Of ``b``, where that is another.
    column : str, optional
        Split the scores by a column of the manifest.
    patients : str, optional
        Split them by a regular expression that is searched in the patients' names: by its group in
        brackets, or else by all that it finds.

    Raises
    ------
    RunError
        If the runs were not scored on the same test images, or a folder is not a whole run.
    UserError
        For a method that was not scored, a column that is not there, or a pattern that finds
        nothing.
    """
    pattern = pattern_of(column, patients)  # before anything is read
    runs = read_runs([a] if _same(a, b) else [a, b], look_at_data=False)
    one, two = runs[0], runs[-1]
    note = _refuse_others(one, two)
    subject = Subject(one, "")
    chosen = method or subject.method
    if chosen is None:
        raise _nothing_scored(one)
    methods = (chosen, other or chosen)
    if one is two and methods[0] == methods[1]:
        raise UserError(
            "A method of a run would be compared with itself.",
            where=str(a),
            fix="name another run, or another method of this one with --other",
        )
    rows = [_rows_of(run, m) for run, m in zip((one, two), methods, strict=True)]
    _refuse_other_cases((one, two), rows)
    groups = groups_of(one, rows[0], column, pattern)
    table = compare_two_runs(rows[0], rows[1], groups, **subject.draw)
    seen = tuple(int(r["masks_seen"].max()) for r in rows)
    return TwoRuns(
        (one.name, two.name),
        methods,
        (seen[0], seen[1]),
        [d for d in differences(one.config, two.config) if not d.startswith("name:")],
        table,
        _sentence(table),
        [*([f"Mind that {note}."] if note else []), *_notes(rows, table)],
        _on_labels((one, two), methods),
        {r.manifest.resolve() for r in runs},
    )


def _same(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve()


def _on_labels(
    runs: tuple[RunTables, RunTables], methods: tuple[str, str]
) -> tuple[OnLabels | None, OnLabels | None]:
    if runs[0].validated != runs[1].validated:
        return None, None
    one, two = (run.on_labels.get(m) for run, m in zip(runs, methods, strict=True))
    return one, two


def _nothing_scored(run: RunTables) -> RunError:
    return RunError(
        "No method of the run was scored.",
        where=str(run.folder),
        fix="test images need true masks; then run `weakseg compare CONFIG` again",
    )


def _refuse_others(one: RunTables, two: RunTables) -> str | None:
    """Refuse runs of other data or test images; what to mind of the other images, if anything."""
    prints = [str(r.data.get("fingerprint", "")) for r in (one, two)]
    same, why = comparable(prints, [one.splits, two.splits])
    if same:
        return f"{why}: {_moved(one, two)}" if why else None
    sources = [str(r.data.get("source", "?")) for r in (one, two)]
    reading = [d for d in differences(one.config, two.config) if d.startswith(READING)]
    if prints[0] != prints[1] and reading and sources[0] == sources[1]:
        found = ", ".join(reading)
        fix = "make one of them again with the data settings of the other"
    elif prints[0] != prints[1]:
        found = (
            f"manifests {sources[0]} and {sources[1]}"
            if sources[0] != sources[1]
            else f"{sources[0]}, which is not what it was, or a file that it names"
        )
        fix = "make the older run again with `weakseg compare`, of the data as they are now"
    else:
        tests = [set(r.splits.loc[r.splits["split"] == "test", "case"]) for r in (one, two)]
        found = _only(tests[0], tests[1])
        fix = "make one of them again with the data.split of the other"
    raise RunError(
        f"The runs cannot be compared image by image: {why}.",
        where=f"{one.folder} and {two.folder}",
        found=found,
        expected="the same data and test images",
        fix=fix,
    )


def _moved(one: RunTables, two: RunTables) -> str:
    """How many images are in another split."""
    was, now = (dict(zip(r.splits["case"], r.splits["split"], strict=True)) for r in (one, two))
    moved = Counter((was.get(c, "none"), now.get(c, "none")) for c in {**was, **now})
    parts = [f"{n} in {x} of A and {y} of B" for (x, y), n in sorted(moved.items()) if x != y]
    return ", ".join(parts)


def _only(a: set[str], b: set[str]) -> str:
    """What each of two has alone, with examples."""
    parts = []
    for letter, mine in (("A", sorted(a - b)), ("B", sorted(b - a))):
        more = ", …" if len(mine) > FEW else ""
        if mine:
            parts.append(f"{len(mine)} only in {letter} ({', '.join(mine[:FEW])}{more})")
    return "; ".join(parts)


def _rows_of(run: RunTables, method: str) -> pd.DataFrame:
    """The scores of a method by case and seed."""
    if run.per_case.empty:
        raise _nothing_scored(run)
    rows = run.per_case[run.per_case["method"] == method]
    if rows.empty:
        names = [str(m) for m in run.per_case["method"].unique()]
        raise UserError(
            f"{method} was not scored in {run.name}.",
            where=str(run.folder),
            found=f"methods {', '.join(names)}",
            fix=f"name one with --method, and B's with --other; {did_you_mean(method, names)}",
        )
    return rows


def _refuse_other_cases(runs: Sequence[RunTables], rows: Sequence[pd.DataFrame]) -> None:
    """Refuse methods that were scored on other cases, or against other masks."""
    cases = [r.groupby("case")[["patient", "lesion_pixels"]].first() for r in rows]
    where = f"{runs[0].folder} and {runs[1].folder}"
    again = "run `weakseg compare CONFIG` again for the older one"
    if set(cases[0].index) != set(cases[1].index):
        raise RunError(
            "The methods were not scored on the same images.",
            where=where,
            found=_only(set(cases[0].index), set(cases[1].index)),
            fix=again,
        )
    both = cases[0].add_suffix("_a").join(cases[1].add_suffix("_b"))
    for column, what in (("patient", "patients"), ("lesion_pixels", "true masks")):
        other = both[both[f"{column}_a"].astype(str) != both[f"{column}_b"].astype(str)]
        if len(other):
            shown = ", ".join(map(str, other.index[:FEW]))
            raise RunError(
                f"The test images have other {what} in one run than in the other.",
                where=where,
                found=f"{len(other)} of {len(both)} images ({shown})",
                fix=again,
            )


def _sentence(table: pd.DataFrame) -> str:
    """Which run is better, of all images."""
    row = table.iloc[0]
    patients = int(row["lesion_patients"])
    if not patients:
        return "No test image with a lesion was scored: there is no difference in Dice."
    mean = Interval(row["difference"], row["low"], row["high"], int(row["lesion_images"]), patients)
    few = f" {words.opening(words.too_few(patients))}." if words.few_patients(patients) else ""
    return words.lead("B", "A", mean) + few


def _notes(rows: Sequence[pd.DataFrame], table: pd.DataFrame) -> list[str]:
    seeds = [r["seed"].nunique() for r in rows]
    notes = [
        "These are test images. Whoever keeps the better of the two because of this table has "
        f"chosen on {int(table['lesion_images'].iloc[0])} of their masks, and these figures are no "
        "final score of that choice: score it on images that nothing was chosen on.",
    ]
    if max(seeds):
        notes.append(
            "The interval says how the difference moves with other patients, not with another "
            f"training: A has {words.count(seeds[0], 'seed')}, B {words.count(seeds[1], 'seed')}."
        )
    # Of a group without a lesion nothing is claimed.
    few = table[1:][[n > 0 and words.few_patients(int(n)) for n in table["lesion_patients"][1:]]]
    if len(few):
        notes.append(
            "Of fewer patients than an interval can be trusted for: "
            f"{', '.join(map(str, few['group']))}."
        )
    if len(table) > 1:
        notes.append("The p of groups have Holm's correction for all of them.")
    if any((r["kind"] == "oracle").any() for r in rows):
        notes.append("An upper bound was chosen on the test masks themselves, and is no result.")
    return notes


def _cells(row: Mapping[Any, Any]) -> tuple[str, ...]:
    """A row as the terminal has it."""
    p = row["p_holm"]
    return (
        str(row["group"]),
        str(row["lesion_images"]),
        str(row["lesion_patients"]),
        words.number(row["dice_a"]),
        words.number(row["dice_b"]),
        words.signed(row["difference"]),
        words.interval(row["low"], row["high"]),
        "" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}",
        words.percent(row["missed_a"]),
        words.percent(row["missed_b"]),
        str(row["healthy_images"]),
        words.percent(row["false_positive_rate_a"]),
        words.percent(row["false_positive_rate_b"]),
    )
