"""What a stage is: a record, and the one function that decides whether it is up to date.

A stage is made again when its key (a fingerprint of the settings and data that it reads) is
another, when a stage whose outputs it reads has written others, or when one of its own outputs is
not what it wrote. The record is taken away before anything is touched, and comes back when all is
written: whatever is broken off in between is made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weakseg.current import _outputs_hash, why_stale
from weakseg.disk import flush_disk, remove_file
from weakseg.launch import launched
from weakseg.layout import BEST, outputs_file, superseded_folder
from weakseg.memory import give_free_back
from weakseg.outputs import list_outputs, read_list, unlist
from weakseg.progress import say
from weakseg.runs import Run, commit


@dataclass(frozen=True)
class Effort:
    """How much work a stage is; see `weakseg.stages.effort`.

    Attributes
    ----------
    kind : str
        What is done, of what size and on what device: a unit of it takes about the same time.
    units : float
    measure : callable, optional
        Gives seconds a unit, within a few seconds.
    """

    kind: str
    units: float
    measure: Callable[[], float] | None = None


@dataclass(frozen=True)
class Stage:
    """A piece of work whose results lie in the run folder.

    Attributes
    ----------
    name : str
        In the record, see `weakseg.layout`.
    key : str
        Fingerprint of the data and settings that it depends on.
    outputs : tuple of Path
        Files and folders that it writes; some may stay away.
    run : callable
        Does the work with what ``ready`` gave; returns what the record says besides.
    what : str
        Its name for people; empty for small ones that are not spoken of while they are up to date.
    inputs : tuple of str
        Names of the stages whose outputs it reads, as far as they are not in the key.
    ready : callable
        Called before anything of earlier results is touched: refuses what cannot be done.
    covers : callable
        Whether an entry of the record is of all that is asked for.
    network : Path or None
        Folder of a network that is kept elsewhere when one of other settings takes its place.
    effort : Effort, optional
        How much work it is.
    together : bool
        Whether the processes of a launcher do its work together; the first alone does all else.
    """

    name: str
    key: str
    outputs: tuple[Path, ...]
    run: Callable[[Any], Mapping[str, Any]]
    what: str = ""
    inputs: tuple[str, ...] = ()
    ready: Callable[[], Any] = lambda: None
    covers: Callable[[Mapping[str, Any]], bool] = lambda entry: True
    network: Path | None = None
    effort: Effort | None = None
    together: bool = False


def forget(run: Run, name: str) -> None:
    """Take a stage out of the record that is not asked for any more, before its outputs go."""
    run.forget(name)
    outputs_file(run.folder, name).unlink(missing_ok=True)


def take_out(run: Run, name: str) -> None:
    """Forget a stage, and delete all that it has written."""
    entry = run.record.get("stages", {}).get(name, {})
    listed = read_list(run.folder, name, entry) or {}
    run.forget(name)
    for path in (*(run.folder / p for p in listed), outputs_file(run.folder, name)):
        remove_file(path, below=run.folder)


def disown(run: Run, name: str, path: Path) -> None:
    """Leave a file to another stage that ``name`` wrote in runs of earlier versions.

    What was made of the outputs of ``name`` stays up to date.
    """
    stages = run.record.get("stages", {})
    outputs = unlist(run.folder, name, stages.get(name, {}), path)
    if outputs is None:
        return
    before, now = (o["hash"] for o in outputs)
    for entry in stages.values():
        if entry.get("inputs", {}).get(name) == before:
            entry["inputs"][name] = now
    stages[name]["outputs"] = outputs[1]
    run.update(stages=stages)


def perform(run: Run, stage: Stage, *, force: bool = False, quiet: bool = False) -> bool:
    """Do the work of a stage unless it is up to date; whether it was done.

    Of several processes the first decides and writes; the others help where the stage is one that
    they do together.

    Parameters
    ----------
    run : Run
        Held by this command.
    stage : Stage
    force : bool
        Do it again though it is up to date.
    quiet : bool
        Do not say that it is up to date: it is said elsewhere in the same command.
    """
    launch = launched()
    if not launch.first:
        return stage.together and _help(stage)
    stale = why_stale(run, stage.name, stage.key, covers=stage.covers, refresh=True)
    if stale is None and not force:
        if stage.what and not quiet:
            say(f"{stage.what}: up to date")
        if stage.together:
            _tell(False)
        return False
    if stale is not None and stale.damaged:
        say(f"{stage.what or stage.name}: made again: {stale.why}")
    started = time.monotonic()
    ready = stage.ready()
    if stage.network is not None:
        _set_aside(run, stage, stage.network, force)
    run.forget(stage.name)
    if stage.together:
        _tell(True)
    entry = dict(stage.run(ready))
    _finish(run, stage, entry, time.monotonic() - started)
    give_free_back()
    return True


def _help(stage: Stage) -> bool:
    """Do a stage's work beside the first process, which keeps the record, if it does it."""
    if not _tell(False):
        return False
    stage.run(stage.ready())
    return True


def _tell(does: bool) -> bool:
    """Whether the first process does a stage's work; it says so to the others."""
    if launched().world == 1:
        return does
    from weakseg.training.together import said_by_first  # torch is slow to load

    return said_by_first(does)


def _finish(run: Run, stage: Stage, entry: Mapping[str, Any], seconds: float) -> None:
    """List the outputs, then record the stage: in this order, so that no record lacks its list."""
    stages = run.record.get("stages", {})
    made = {
        "key": stage.key,
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 1),
        "commit": commit(),
        "inputs": {name: _outputs_hash(stages, name) for name in stage.inputs},
        "outputs": list_outputs(run.folder, stage.name, stage.outputs),
    }
    flush_disk(run.folder)  # the record must not outlast a power cut that its outputs do not
    took = {**run.record.get("took", {}), stage.name: made["seconds"]}
    rates = run.record.get("rates", {})
    if stage.effort is not None and stage.effort.units > 0:
        rates = {**rates, stage.effort.kind: seconds / stage.effort.units}
    run.update(stages={**stages, stage.name: made | dict(entry)}, took=took, rates=rates)


def _set_aside(run: Run, stage: Stage, folder: Path, force: bool) -> None:
    """Move away a network that another takes the place of: hours of work are not deleted."""
    earlier = run.record.get("stages", {}).get(stage.name, {}).get("key")
    run.forget(stage.name)
    if earlier and (force or earlier != stage.key) and (folder / BEST).exists():
        there = superseded_folder(run.folder, folder, earlier)
        there.parent.mkdir(parents=True, exist_ok=True)
        folder.replace(there)
        why = (
            f"{stage.name} is trained again, as --force asks; the earlier one"
            if earlier == stage.key
            else f"the earlier {stage.name} was made with other settings or data; it"
        )
        say(f"{why} is kept in {there}")
