"""Another run of the same data and splits, which lends what it has made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from weakseg.config import Config, config_of_run
from weakseg.errors import RunError, UserError, WeaksegError
from weakseg.layout import heatmap_stage
from weakseg.methods.prepared import Prepared
from weakseg.runs import open_run


def other_run(prepared: Prepared, folder: Path, lent: str) -> Prepared:
    """Another run, if it is of the same images and splits; its masks may be corrected ones.

    Parameters
    ----------
    prepared : Prepared
        The run that is trained for.
    folder : Path
    lent : str
        What it is asked for, in the plural.

    Raises
    ------
    RunError
        If it is no run, or of other data or splits.
    """
    run = open_run(folder)
    data = run.record.get("data", {})
    own = prepared.run.record.get("data", {})
    mine = {prepared.key, prepared.images_key, own.get("images_key")}
    theirs = {data.get(k) for k in ("splits_key", "images_key", "images_known_as")}
    if not (mine & theirs) - {None}:
        raise RunError(
            f"The run whose {lent} are asked for is of other data, or of other splits: its "
            "networks may have been trained on test images of this one.",
            where=str(folder),
            fix="make both runs from the same manifest, data settings and splits",
        )
    # Its networks were made under the names that its own record has for the data.
    whole = str(data.get("splits_key"))
    named = str(data.get("images_known_as") or data.get("images_key") or whole)
    config = config_of_run(run.folder)
    return replace(prepared, run=run, config=config, fitted={}, key=whole, images_key=named)


def heat_seed(config: Config, seed: int) -> int:
    """Whose heatmaps a network of a seed is trained with: the same seed's, else the first."""
    seeds = config.heatmap_seeds(config.heatmap.method)
    return seed if seed in seeds else seeds[0]


def heat_stage(config: Config, seed: int) -> str:
    """The stage that makes them."""
    of = heat_seed(config, seed)
    return heatmap_stage(config.classifier.arch, of, config.heatmap.method)


def lender_of_heat(prepared: Prepared) -> Prepared:
    """The run whose heatmaps a classifier's training images are blended with.

    Raises
    ------
    UserError
        If it is the run that is trained for.
    RunError
        See `other_run`.
    """
    folder = Path(str(prepared.config.classifier.heat_from))
    lender = other_run(prepared, folder, "heatmaps")
    if lender.run.folder.resolve() == prepared.run.folder.resolve():
        raise UserError(
            "A classifier cannot be trained on the heatmaps of the run that it is trained for: "
            "they are to be its own.",
            where="classifier.heat_from",
            found=str(folder),
            fix="name another run's folder, or another --run-dir",
        )
    return lender


def lent_heat_key(config: Config, seed: int) -> str | None:
    """What a lending run's record calls the heatmaps of a seed; None where it cannot be read, or
    has none (any more)."""
    folder = Path(str(config.classifier.heat_from))
    try:
        run, lender = open_run(folder), config_of_run(folder)
    except WeaksegError:
        return None
    entry = run.record.get("stages", {}).get(heat_stage(lender, seed), {})
    key: str | None = entry.get("key")
    return key
