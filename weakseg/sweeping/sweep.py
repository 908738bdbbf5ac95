"""``weakseg sweep``: the runs of a sweep are started, looked after, and put into one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.config import PHANTOM, Config, SplitConfig, dump_config, fingerprint
from weakseg.data.fingerprint import data_fingerprint
from weakseg.errors import ConfigError, RunError, WeaksegError, did_you_mean
from weakseg.layout import report_folder, report_page
from weakseg.methods.checks import check_names
from weakseg.progress import progress, say
from weakseg.report.read import read_runs
from weakseg.runs import inside, locked, write_json, write_text
from weakseg.spreadsheets import csv_text
from weakseg.sweeping.cluster import Cluster
from weakseg.sweeping.executors import EXECUTORS, in_queue, require_executor
from weakseg.sweeping.folder import SUMMARY, default_folder, jobs_folder, refuse_other_keys, run_of
from weakseg.sweeping.jobs import (
    Job,
    State,
    as_json,
    experiment_file,
    refuse_other,
    state_of,
    weakseg_command,
    write_experiment,
)
from weakseg.sweeping.joint import (
    Read,
    by_setting,
    dice_table,
    joint_table,
    labels_table,
    methods_without_row,
    said_of_labels,
    without_row,
)
from weakseg.sweeping.page import Shown, sweep_page
from weakseg.sweeping.variations import Variation, variations

MOST_NAMED = 10


@dataclass(frozen=True)
class Outcome:
    """What a sweep has come to.

    Attributes
    ----------
    page : Path
    failed : dict
        Run → why it failed.
    """

    page: Path
    failed: dict[str, str]


def sweep(
    load: Callable[[list[str]], Config],
    over: Sequence[str],
    *,
    folds: int | None = None,
    executor: str = "local",
    cluster: Cluster | None = None,
    retry: bool = False,
    out: Path | None = None,
) -> Outcome:
    """Perform the runs of a sweep, and write its report.

    Each is a ``weakseg compare`` of its own. What is done is not done again; what has failed only
    with ``retry``, and goes on then where it was broken off.

    Parameters
    ----------
    load : callable
        Gives the experiment with some changes, as ``--set`` takes them.
    over : sequence of str
        See `weakseg.sweeping.variations.variations`.
    folds : int, optional
    executor : str
        One of `weakseg.sweeping.executors.EXECUTORS`.
    cluster : Cluster, optional
        Limits of the jobs.
    retry : bool
        Start again what has failed.
    out : Path, optional
        Default: see `default_folder`.

    Raises
    ------
    ConfigError
        For an experiment that one of the runs cannot have: all are looked at before one begins.
    RunError
        If the folder is in use by another sweep, or damaged.
    """
    if executor not in EXECUTORS:
        raise ConfigError(
            "There is no such executor.",
            where="--executor",
            found=executor,
            fix=did_you_mean(executor, EXECUTORS),
        )
    require_executor(executor)
    cluster = cluster or Cluster()
    runs = variations(over, folds)
    configs = {v.name: load(v.changes) for v in runs}
    for config in configs.values():
        check_names(config)
    name = configs[runs[0].name].name
    folder = default_folder(name, runs[0]) if out is None else out
    data = _data_of(configs)
    with locked(folder):
        jobs = {v.name: _job(folder, v, configs[v.name], data[v.name], cluster) for v in runs}
        for job in jobs.values():
            refuse_other(job)
        refuse_other_keys(folder, runs[0])
        for v in runs:
            write_experiment(jobs[v.name], dump_config(_named(configs[v.name], v)))
        states, read = _states(folder, jobs, data)
        if _perform(jobs, states, executor, cluster, inside(folder, "submitit"), retry):
            states, read = _states(folder, jobs, data)
        page = _write_report(folder, f"Sweep of {name}", runs, configs, states, read)
    return Outcome(page, {n: s.why for n, s in states.items() if s.name == "failed"})


def said_of_failures(outcome: Outcome, runs: str) -> RunError:
    """What to say where runs have failed."""
    lines = [f"  - {n}: {why}" for n, why in outcome.failed.items()]
    more = len(lines) - MOST_NAMED
    if more > 0:
        lines = [*lines[:MOST_NAMED], f"  … {more} more"]
    one = len(outcome.failed) == 1
    return RunError(
        f"{len(outcome.failed)} run{' has' if one else 's have'} failed:\n" + "\n".join(lines),
        where=runs,
        fix="look into its log.txt there, and repeat the command with --retry",
    )


def _data_of(configs: dict[str, Config]) -> dict[str, str | None]:
    """Run → fingerprint of its data; None of the phantom's, which the experiment tells."""
    known: dict[str, str | None] = {}
    made = {}
    for name, config in configs.items():
        plain = fingerprint(config.data.model_copy(update={"split": SplitConfig()}))
        if plain not in known:
            own = config.data.manifest != PHANTOM
            known[plain] = (
                data_fingerprint(Path(config.data.manifest), config.data) if own else None
            )
        made[name] = known[plain]
    return made


def _named(config: Config, of: Variation) -> Config:
    """The experiment of a run, by its own name, for the report of several."""
    return config.model_copy(update={"name": of.name})


def _job(folder: Path, of: Variation, config: Config, data: str | None, cluster: Cluster) -> Job:
    at = inside(jobs_folder(folder), of.name)
    command = weakseg_command("compare", experiment_file(at), "--run-dir", run_of(folder, of.name))
    key = fingerprint(_named(config, of), data)
    return Job(of.name, at, command, key, cluster.minutes, cluster.cpus, tuple(of.changes))


def _perform(
    jobs: dict[str, Job],
    states: dict[str, State],
    executor: str,
    cluster: Cluster,
    own: Path,
    retry: bool,
) -> bool:
    """Start what is to be started, and wait until all have ended; whether there was anything."""
    again = ("waiting", "failed") if retry else ("waiting",)
    begin = [
        job
        for name, job in jobs.items()
        if states[name].name in again or in_queue(job, executor, own)
    ]
    done = sum(s.name == "done" for s in states.values())
    if done:
        say(f"{done} of {len(jobs)} runs are done already")
    if not begin:
        return False
    with progress("runs", len(jobs), done) as advance:

        def ended(job: Job) -> None:
            state = state_of(job)
            why = f": {state.why}" if state.why else ""
            say(f"{job.name}: {state.name}{why}")
            advance()

        EXECUTORS[executor](begin, cluster, own, ended)
    return True


def _states(
    folder: Path, jobs: dict[str, Job], data: dict[str, str | None]
) -> tuple[dict[str, State], dict[str, Read]]:
    """What became of every job, and the scores of those that are done.

    A run that cannot be read, or is of other data, is not done, whatever its command said.
    """
    states, read = {}, {}
    for name, job in jobs.items():
        states[name] = state_of(job)
        if states[name].name != "done":
            continue
        try:
            [run] = read_runs([run_of(folder, name)], look_at_data=False)
        except WeaksegError as e:
            found = f" ({e.found})" if e.found else ""
            states[name] = State("failed", f"its run cannot be read: {e.what}{found}")
            continue
        of = run.record.get("data", {}).get("fingerprint")
        if data[name] not in (None, of):
            states[name] = State(
                "failed", "its run is of other data than are there now; repeat the sweep"
            )
            continue
        draw = (run.config.scores.bootstrap, run.config.seed)
        read[name] = Read(run.per_case, *draw, run.on_labels, run.validated)
    return states, read


def _write_report(
    folder: Path,
    title: str,
    runs: Sequence[Variation],
    configs: dict[str, Config],
    states: dict[str, State],
    read: dict[str, Read],
) -> Path:
    keys = list(runs[0].shown)
    table = joint_table(runs, read)
    left, methods_left = without_row(runs, read), methods_without_row(runs, read)
    for method in methods_left:
        say(f"no row: {method}")
    dice = dice_table(table, keys)
    jobs: list[dict[str, Any]] = [
        {"run": v.name, **v.shown}
        | ({} if v.fold is None else {"fold": v.fold})
        | as_json(states[v.name])
        for v in runs
    ]
    labels = labels_table(runs, read)
    by_labels = said_of_labels(labels, keys)
    for chosen in by_labels:
        say(f"best by validation labels, no mask looked at: {chosen}")
    tables = {"scores": table, "dice": dice, "labels": labels, "jobs": pd.DataFrame(jobs)}
    for name, of in tables.items():
        write_text(inside(folder, f"{name}.csv"), csv_text(of, float_format="%.6g"))
    summary = {
        "title": title,
        "over": keys,
        "folds": runs[0].folds,
        "runs": jobs,
        "without_row": left,
        "methods_without_row": methods_left,
        "labels": labels.to_dict("records"),
        "scores": table.to_dict("records"),
    }
    write_json(inside(folder, SUMMARY), summary)
    shown = []
    for v in runs:
        page = report_page(report_folder(run_of(folder, v.name)))
        there = page.relative_to(folder).as_posix() if page.exists() else None
        shown.append(Shown(v.name, states[v.name].name, states[v.name].why, there))
    asked = {v.name for v in runs}
    others = [p.name for p in sorted(jobs_folder(folder).iterdir()) if p.name not in asked]
    simulated = any(c.data.manifest == PHANTOM for c in configs.values())
    index = inside(folder, "index.html")
    html = sweep_page(
        title,
        dice,
        shown,
        simulated=simulated,
        folds=runs[0].folds,
        settings=len(by_setting(runs)),
        left=left,
        methods_left=methods_left,
        by_labels=by_labels,
        labels=labels,
        others=others,
    )
    write_text(index, html)
    return index
