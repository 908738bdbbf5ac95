"""What every stage that makes masks shares: truth, the rows of ``per_case.csv``, and their sum.

Each source of masks writes its rows as a part of its own (``scores/parts/NAME.csv``); `collect`
joins the parts that are up to date into ``per_case.csv`` and ``summary.csv``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg import contents
from weakseg.config import Config, fingerprint
from weakseg.data.case_files import case_image
from weakseg.layout import (
    FLOORS_PART,
    FLOORS_STAGE,
    PER_CASE,
    SCORES_STAGE,
    SUMMARY,
    part_path,
    scores_file,
)
from weakseg.masks.floors import FLOORS
from weakseg.methods.cases import case_entry, read_truth, scored_cases
from weakseg.methods.find import kind_of, method_names
from weakseg.methods.prepared import Prepared
from weakseg.methods.standing import why_not_standing
from weakseg.outputs import find_damage, in_words
from weakseg.progress import progress, say
from weakseg.runs import Run, file_hash, write_text
from weakseg.scores import case_columns, score_case, summarise
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, forget, perform
from weakseg.stored import read_csv

COLUMNS = [*case_columns(), "probability"]


def write_part(prepared: Prepared, name: str, rows: Sequence[dict[str, Any]]) -> Path:
    """Write the rows of a source of masks."""
    path = part_path(prepared.run.folder, name)
    table = pd.DataFrame(list(rows), columns=COLUMNS)
    write_text(path, csv_text(table, float_format="%.6g"))
    return path


def read_rows(path: Path) -> pd.DataFrame:
    """A table of scores by case, names as text even where they look like numbers."""
    return read_csv(path, contents.PER_CASE, unique=("case", "method", "seed"))


def read_per_case(run: Path) -> pd.DataFrame:
    """The table of scores by case of a run."""
    return read_rows(scores_file(run, PER_CASE))


def read_summary(run: Path) -> pd.DataFrame:
    """The table of methods; empty where nothing could be scored."""
    return read_csv(scores_file(run, SUMMARY), contents.SUMMARY, unique=("method",))


def _floors(prepared: Prepared) -> None:
    """Masks that know nothing of lesions, without a gate: what any method must beat."""
    run, config = prepared.run, prepared.config
    wanted = config.scores.floors and prepared.has_classifier
    path = part_path(run.folder, FLOORS_PART)
    if not wanted:
        forget(run, FLOORS_STAGE)
        path.unlink(missing_ok=True)
        return
    key = fingerprint(FLOORS_STAGE, 1, prepared.key)
    perform(run, Stage(FLOORS_STAGE, key, (path,), lambda _: _write_floors(prepared)))


def _write_floors(prepared: Prepared) -> dict[str, Any]:
    config = prepared.config
    scored = scored_cases(prepared)
    cases = [c for c in prepared.cases.of("test") if c.id in scored]
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in FLOORS}
    with progress("trivial floors", len(cases)) as advance:
        for case in cases:
            image = case_image(case, config.data)
            healthy = not prepared.cases.labels.is_lesion(case.label)
            truth = read_truth(case, image.shape[:2], healthy, config.data)
            for name, floor in FLOORS.items():
                scores = score_case(floor(image), truth)
                flags = {"flat": False, "gated": False}
                rows[name].append(case_entry(case, name, "floor", None, 0) | scores | flags)
            advance()
    write_part(prepared, FLOORS_PART, [row for of_floor in rows.values() for row in of_floor])
    return {"data": prepared.key}


def part_methods(config: Config) -> dict[str, str]:
    """Every part of the experiment's methods, in the order of the tables, and a method of it."""
    methods: dict[str, str] = {}
    for name in method_names(config):
        methods.setdefault(kind_of(config, name).part(name), name)
    return methods


def collect(prepared: Prepared) -> Path:
    """Join the parts into ``scores/per_case.csv`` and ``scores/summary.csv``.

    Parts that were not made of the run's present data, splits and settings are left out, and so is
    one that is not what its stage wrote.

    Returns
    -------
    Path
        The summary.
    """
    run, config = prepared.run, prepared.config
    _floors(prepared)
    paths = [path for part, path, stage in _parts(prepared) if _is_sound(run, part, path, stage)]
    per_case, out = (scores_file(run.folder, n) for n in (PER_CASE, SUMMARY))
    made_of = [file_hash(p) for p in paths]
    key = fingerprint(SCORES_STAGE, 2, prepared.key, made_of, config.scores, config.seed)

    def write(_: None) -> dict[str, Any]:
        table, summary = _joined(paths, config)
        write_text(per_case, csv_text(table, float_format="%.6g"))
        write_text(out, csv_text(summary, float_format="%.6g"))
        return {"data": prepared.key}

    perform(run, Stage(SCORES_STAGE, key, (per_case, out), write))
    return out


def _parts(prepared: Prepared) -> Iterator[tuple[str, Path, str]]:
    """Parts of the run's present data, splits and settings, their files and stages."""
    run, config = prepared.run, prepared.config
    for part, method in part_methods(config).items():
        stage = kind_of(config, method).stage(method)
        why = why_not_standing(prepared, method)
        if stage not in run.record.get("stages", {}):
            continue
        if why is None:
            yield part, part_path(run.folder, part), stage
        else:
            say(f"{part}: left out of the scores; {why}")
    if FLOORS_STAGE in run.record.get("stages", {}):
        yield FLOORS_PART, part_path(run.folder, FLOORS_PART), FLOORS_STAGE


def _is_sound(run: Run, part: str, path: Path, stage: str) -> bool:
    """Whether a part is what its stage wrote; else it is said."""
    damages = find_damage(run.folder, stage, run.record["stages"][stage], only=[path])
    if damages:
        say(
            f"{part}: left out of the scores; {in_words(damages)} "
            "(`weakseg compare CONFIG` makes it again)"
        )
    return not damages


def _joined(paths: Sequence[Path], config: Config) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of cases and of methods; empty where nothing could be scored."""
    parts = [t for t in (read_rows(p) for p in paths) if len(t)]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
    # A lone floor is no result: something must have been scored besides.
    if table.empty or set(table["kind"]) == {"floor"}:
        say("no test image can be scored: no lesion image has a mask. Masks were written.")
        return table.iloc[:0], pd.DataFrame()
    return table, summarise(table, bootstrap=config.scores.bootstrap, seed=config.seed)
