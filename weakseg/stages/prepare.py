"""What every stage begins with: the manifest checked, patients dealt out, the run folder set up."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from weakseg.config import (
    PHANTOM,
    Config,
    dump_config,
    fingerprint,
)
from weakseg.data.arrays import ImageBatches
from weakseg.data.cases import Labels
from weakseg.data.digests import write_known
from weakseg.data.familiar import REMEMBERED, remember
from weakseg.data.mapped import MappedStore
from weakseg.data.phantom import phantom_name, write_phantom
from weakseg.data.phantom_slices import NORMAL, TUMOR
from weakseg.data.splits import write_splits
from weakseg.disk import as_path
from weakseg.errors import RunError, check_argument
from weakseg.layout import (
    GRAPHS,
    PREPARE_STAGE,
    config_file,
    data_files,
    images_file,
    shards_folder,
    splits_file,
)
from weakseg.memory import give_free_back
from weakseg.methods.checked import checked_run, say_other_settings
from weakseg.methods.checks import check_settings
from weakseg.methods.prepared import Prepared
from weakseg.progress import say
from weakseg.runs import (
    Run,
    environment,
    locked,
    make_folder,
    remove_leftovers,
    write_json,
    write_text,
)
from weakseg.shards import Shard
from weakseg.stages.base import Effort, Stage, perform
from weakseg.stages.shards import own_folder, refuse_running
from weakseg.training.together import joined, wait_for_first

ROOT = Path("runs")

OTHER_SHARD = "wait until it ends, or name another shard"

PATIENCE = 60.0
"""Seconds that a shard waits for others to prepare theirs."""


def run_folder(config: Config, run_dir: Path | None) -> Path:
    """Where the run lives: the folder that was named, else ``runs/NAME``."""
    return as_path(run_dir, "a run folder") if run_dir is not None else ROOT / config.name


@contextlib.contextmanager
def prepared_run(
    config: Config,
    run_dir: Path | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
    shard: Shard | None = None,
) -> Iterator[Prepared]:
    """Check everything that can be checked, then open and hold the run folder.

    Nothing is written before the configuration and the data are found to be good. Of several
    processes of a launcher the first holds the folder and writes; the others read what it wrote.

    Parameters
    ----------
    config : Config
    run_dir : Path, optional
        Default: ``runs/NAME``.
    force : bool
        Write the splits again though they are up to date.
    dry_run : bool
        Write nothing at all: what is yielded is for looking. A phantom that is not there yet is
        drawn in a folder that goes.
    shard : Shard, optional
        Hold the folder of that shard alone, and the run for a moment only, so that others can be
        made at the same time.

    Raises
    ------
    DataError
        With every problem of the manifest.
    ConfigError
        For a network, heatmap or device that is not there.
    RunError
        If the folder cannot be written, or is in use.
    """
    check_argument(config, Config, "config", "a Config, such as load_config(path) gives")
    folder = run_folder(config, run_dir)
    if folder.exists() and not folder.is_dir():
        make_folder(folder)  # says what is wrong
    if config.data.manifest == PHANTOM:  # before it is drawn
        whole = config.data.phantom.slab is not None
        made = Run(folder).record.get("stages", {})
        check_settings(config, Labels((NORMAL,), (TUMOR,)), 1, 3 if whole else 2, made)
    with contextlib.ExitStack() as stack:
        path = Path(config.data.manifest)
        if config.data.manifest == PHANTOM:
            path = _phantom(config, folder.parent, stack if dry_run else None)
        launch = stack.enter_context(joined())
        if not launch.first:
            wait_for_first()  # who checks the data, and writes the splits
        prepared, about, known = checked_run(config, folder, path, force=force)
        if dry_run:
            yield prepared
            return
        if not launch.first:
            yield _with_images(prepared, folder)
            return
        holding = stack.enter_context(contextlib.ExitStack())
        if shard is None:
            holding.enter_context(locked(folder))
            refuse_running(folder)
            remove_leftovers(folder)
        else:
            holding.enter_context(_held_soon(folder))
            remove_leftovers(folder, but=[shards_folder(folder), folder / GRAPHS])
        say_other_settings(folder, config)
        run = prepared.run
        write_text(config_file(folder), dump_config(config))
        run.update(name=config.name, seed=config.seed, environment=environment(), data=about)
        write_known(data_files(folder), known)
        del known  # of a million files it is large
        perform(run, _splits_of(prepared), force=force)
        wait_for_first()
        if shard is not None:
            own = own_folder(folder, shard)
            what = f"Shard {shard} of the run"
            stack.enter_context(locked(own, what=what, fix=OTHER_SHARD))
            holding.close()
            remove_leftovers(own)
        give_free_back()  # what looking at the files has left
        yield _with_images(prepared, folder)


def _held_soon(folder: Path) -> contextlib.ExitStack:
    """Hold a run folder, and wait for who holds it; to look first would be to hold it, too."""
    make_folder(folder)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except RunError:
            say(f"another command holds {folder}: waiting for it, up to {PATIENCE:g} seconds")
            stack.enter_context(locked(folder, wait=PATIENCE))
        return stack.pop_all()


def _with_images(prepared: Prepared, folder: Path) -> Prepared:
    """With images that are kept beside the run while this process lasts."""
    cases, channels, store = prepared.cases.cases, prepared.channels, MappedStore(folder)
    return replace(prepared, images=ImageBatches(cases, prepared.config.data, channels, store))


def _phantom(config: Config, beside: Path, goes: contextlib.ExitStack | None) -> Path:
    """The phantom's manifest; drawn on first use, in a folder that goes with ``goes`` if given."""
    name = phantom_name(config.data.phantom)
    if not (beside / name / "labels.csv").exists():
        if goes is not None:
            beside = Path(goes.enter_context(tempfile.TemporaryDirectory()))
        say(f"generating the phantom (simulated images): {beside / name}")
    return write_phantom(beside / name, config.data.phantom)


def _splits_of(prepared: Prepared) -> Stage:
    """The splits, and what the training images look like."""
    splits, images = splits_file(prepared.run.folder), images_file(prepared.run.folder)

    def write(_: None) -> dict[str, Any]:
        write_splits(splits, prepared.cases.cases)
        train, data = prepared.cases.of("train"), prepared.config.data
        write_json(images, remember(train, data, prepared.key).to_json())
        return {"data": prepared.key}

    return Stage(
        PREPARE_STAGE,
        fingerprint(PREPARE_STAGE, REMEMBERED[prepared.cases.cases[0].noun], prepared.key),
        (splits, images),
        write,
        effort=Effort("splits", len(prepared.cases.cases)),
    )
