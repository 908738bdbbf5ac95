"""What every stage that makes masks shares: truth, the rows of ``per_case.csv``, and their sum.

Each source of masks writes its rows as a part of its own (``scores/parts/NAME.csv``); `collect`
joins the parts that are up to date into ``per_case.csv`` and ``summary.csv``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.config import Config, fingerprint
from weakseg.layout import (
    FLOORS_PART,
    FLOORS_STAGE,
    LESIONS,
    PER_CASE,
    PER_VOLUME,
    SCORES_STAGE,
    SUMMARY,
    VOLUMES,
    lesions_part,
    part_path,
    rows_file,
    scores_file,
    volumes_part,
)
from weakseg.masks.floors import FLOORS
from weakseg.methods.find import kind_of, method_names
from weakseg.methods.floors import floor_files, floor_rows
from weakseg.methods.lesions import COLUMNS as OF_LESION
from weakseg.methods.prepared import Prepared
from weakseg.methods.rows import Rows
from weakseg.methods.shard_rows import read_shard_rows, write_shard_rows
from weakseg.methods.standing import why_not_standing
from weakseg.outputs import find_damage, in_words
from weakseg.progress import progress, say
from weakseg.runs import atomic_path, file_hash
from weakseg.scores import case_columns, summarise
from weakseg.scores.stored import read_lesions, read_rows
from weakseg.shards import Shard
from weakseg.spreadsheets import write_csv
from weakseg.stages.base import Stage, forget, perform
from weakseg.stages.classifier_scores import score_classifiers
from weakseg.stages.shards import dealt_out, own_folder, shard_key

COLUMNS = [*case_columns(), "probability"]

LESION_COLUMNS = ["method", "seed", "case", "patient", *(c for c in OF_LESION if c != "file")]


def part_files(prepared: Prepared, name: str) -> tuple[Path, ...]:
    """The files of rows of a source of masks.

    Of cases; where these are slices, of volumes; and of lesions, but for floors, whose lesions are
    nobody's.
    """
    names = [name, *([volumes_part(name)] if prepared.cases.sliced else [])]
    names += [] if name == FLOORS_PART else [lesions_part(name)]
    return tuple(part_path(prepared.run.folder, n) for n in names)


def write_part(prepared: Prepared, name: str, rows: Rows) -> None:
    """Write the rows of a source of masks, see `part_files`."""
    folder = prepared.run.folder
    tables = {
        name: (rows.cases, COLUMNS),
        volumes_part(name): (rows.volumes, COLUMNS),
        lesions_part(name): (rows.lesions, LESION_COLUMNS),
    }
    by_path = {part_path(folder, n): table for n, table in tables.items()}
    for path in part_files(prepared, name):
        of, columns = by_path[path]
        _write_table(path, of.frame(columns))


def _write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table a piece at a time: its whole text would take several times its memory."""
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as f:
        write_csv(f, table, float_format="%.6g")


def _floors(prepared: Prepared) -> None:
    """Masks that know nothing of lesions, without a gate: what any method must beat."""
    run = prepared.run
    paths = part_files(prepared, FLOORS_PART)
    if not _wants_floors(prepared):
        forget(run, FLOORS_STAGE)
        for path in paths:
            path.unlink(missing_ok=True)
        return
    key = floors_key(prepared)
    perform(run, Stage(FLOORS_STAGE, key, paths, lambda _: _write_floors(prepared)))


def _wants_floors(prepared: Prepared) -> bool:
    return prepared.config.scores.floors and prepared.has_classifier


def floors_key(prepared: Prepared) -> str:
    """Fingerprint of the scores of all floors."""
    return fingerprint(FLOORS_STAGE, 2, prepared.key)


def shard_of_floors(prepared: Prepared, shard: Shard) -> Stage | None:
    """The floors of a part of the test images, for `collect` to join; None where none are wanted.

    Its record is the shard's.
    """
    if not _wants_floors(prepared):
        return None
    path = rows_file(own_folder(prepared.run.folder, shard), FLOORS_PART)

    def make(_: None) -> dict[str, Any]:
        files = shard.own(floor_files(prepared))
        with progress(f"trivial floors, shard {shard}", sum(map(len, files))) as advance:
            write_shard_rows(path, [floor_rows(prepared, files, advance)])
        return {"images": len(files)}

    return Stage(FLOORS_STAGE, shard_key(floors_key(prepared), shard), (path,), make)


def _write_floors(prepared: Prepared) -> dict[str, Any]:
    rows, key, left = Rows(), floors_key(prepared), "test files get their floors here"
    dealt = dealt_out(prepared.run.folder, FLOORS_STAGE, key, floor_files(prepared), left)
    here = sum(len(of) for files, part in dealt if part is None for of in files)
    with progress("trivial floors", here) as advance:
        for files, part in dealt:
            if part is None:
                rows += floor_rows(prepared, files, advance)
            else:
                [made], _ = read_shard_rows(rows_file(part.folder, FLOORS_PART))
                rows += made
    write_part(prepared, FLOORS_PART, rows.by_method(list(FLOORS)))
    return {"data": prepared.key}


def part_methods(config: Config) -> dict[str, str]:
    """Every part of the experiment's methods, in the order of the tables, and a method of it."""
    methods: dict[str, str] = {}
    for name in method_names(config):
        methods.setdefault(kind_of(config, name).part(name), name)
    return methods


def collect(prepared: Prepared) -> Path:
    """Join the parts into ``scores/per_case.csv`` and ``scores/summary.csv``.

    All scores are of the same settings then, those of classifiers as well.

    Parts that were not made of the run's present data, splits and settings are left out, and so is
    one that is not what its stage wrote.

    Returns
    -------
    Path
        The summary.
    """
    run, config = prepared.run, prepared.config
    score_classifiers(prepared)
    _floors(prepared)
    parts = [p for p, stage in _parts(prepared) if _is_sound(prepared, p, stage)]
    # Of each table the files of rows that it is joined of, and its summary.
    tables = {(PER_CASE, SUMMARY): [part_files(prepared, p)[0] for p in parts]}
    if prepared.cases.sliced:
        tables[PER_VOLUME, VOLUMES] = [part_files(prepared, p)[1] for p in parts]
    measured = [part_files(prepared, p)[-1] for p in parts if p != FLOORS_PART]
    made_of = [file_hash(p) for paths in (*tables.values(), measured) for p in paths]
    key = fingerprint(SCORES_STAGE, 3, prepared.key, made_of, config.scores, config.seed)

    def write(_: None) -> dict[str, Any]:
        for names, paths in tables.items():
            both = _joined(paths, config, say_nothing=names != (PER_CASE, SUMMARY))
            for name, table in zip(names, both, strict=True):
                _write_table(scores_file(run.folder, name), table)
        lesions = [t for t in (read_lesions(p) for p in measured) if len(t)]
        joined = pd.concat(lesions) if lesions else pd.DataFrame(columns=LESION_COLUMNS)
        _write_table(scores_file(run.folder, LESIONS), joined)
        return {"data": prepared.key}

    names = (*(n for of in tables for n in of), LESIONS)
    outputs = tuple(scores_file(run.folder, n) for n in names)
    perform(run, Stage(SCORES_STAGE, key, outputs, write))
    return scores_file(run.folder, SUMMARY)


def _parts(prepared: Prepared) -> Iterator[tuple[str, str]]:
    """Parts of the run's present data, splits and settings, and their stages."""
    run, config = prepared.run, prepared.config
    for part, method in part_methods(config).items():
        stage = kind_of(config, method).stage(method)
        why = why_not_standing(prepared, method)
        if stage not in run.record.get("stages", {}):
            continue
        if why is None:
            yield part, stage
        else:
            say(f"{part}: left out of the scores; {why}")
    if FLOORS_STAGE in run.record.get("stages", {}):
        yield FLOORS_PART, FLOORS_STAGE


def _is_sound(prepared: Prepared, part: str, stage: str) -> bool:
    """Whether a part is what its stage wrote; else it is said."""
    run, files = prepared.run, part_files(prepared, part)
    damages = find_damage(run.folder, stage, run.record["stages"][stage], only=files)
    if damages:
        say(
            f"{part}: left out of the scores; {in_words(damages)} "
            "(`weakseg compare CONFIG` makes it again)"
        )
    return not damages


def _joined(
    paths: Sequence[Path], config: Config, *, say_nothing: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of cases and of methods; empty where nothing could be scored."""
    parts = [t for t in (read_rows(p) for p in paths) if len(t)]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
    # A lone floor is no result: something must have been scored besides.
    if table.empty or set(table["kind"]) == {"floor"}:
        if not say_nothing:
            say("no test image can be scored: no lesion image has a mask. Masks were written.")
        return table.iloc[:0], pd.DataFrame()
    return table, summarise(table, bootstrap=config.scores.bootstrap, seed=config.seed)
