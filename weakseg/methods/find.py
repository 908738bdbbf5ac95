"""The kinds of methods, and which of a run's methods is ready for new images."""

from __future__ import annotations

from pathlib import Path

from weakseg.config import Config, load_config
from weakseg.current import require_whole
from weakseg.errors import RunError, UserError, did_you_mean
from weakseg.layout import config_file, masks_folder, threshold_file, threshold_files
from weakseg.masks.kept import read_thresholds
from weakseg.methods import consensus, heatmap, network
from weakseg.methods.base import ENGINE, FOUNDATION, HEATMAP, ORACLE, WEAK, Entries, Kind, Method
from weakseg.methods.spoken import floor_name
from weakseg.runs import Run, open_run


def kind_of(config: Config, method: str) -> Kind:
    """The kind of one of an experiment's methods."""
    return next(kind for kind in KINDS if method in kind.names(config))


KINDS: tuple[Kind, ...] = (
    heatmap.KIND,
    network.network_kind(kind_of),
    consensus.consensus_kind(kind_of),
)
"""A further kind is a file and an entry here."""


def method_names(config: Config) -> list[str]:
    """Every method of an experiment, in the order of its tables."""
    return [name for kind in KINDS for name in kind.names(config)]


def spoken_name(config: Config, method: str) -> str:
    """A method, or a trivial floor, as people say it.

    Parameters
    ----------
    config : Config
        The experiment that it is of.
    method : str
        As tables and folders name it. What the experiment does not know stays as it is.

    Returns
    -------
    str
        To stand as the subject of a sentence; of a floor, to stand after "marking".
    """
    if method not in config.methods:
        return floor_name(method)
    return kind_of(config, method).spoken(config, method)


def load_method(
    run: Path,
    method: str | None = None,
    *,
    seed: int | None = None,
    device: str = "auto",
    engine: str | None = None,
) -> Method:
    """One of a run's methods, ready for new images.

    Parameters
    ----------
    run : Path
        A run folder.
    method : str, optional
        One of the run's methods, by its name in the report; one of the heatmap under ``heatmap``
        also by its rule alone. Default: the experiment's ``report.method``; else the first method
        that saw no mask, heatmaps' before segmenters; without heatmaps, a segmenter that learnt
        from another method's masks before one that learnt from the manifest's.
    seed : int, optional
        Default: of those with masks the network with the best validation AUC; of segmenters the
        first. Methods that
        average the networks of several seeds take all of them, and no seed.
    device : str, optional
    engine : str, optional
        What runs the networks; default: what made the run's masks.

    Raises
    ------
    RunError
        If the folder is not a run, or lacks what is needed.
    UserError
        For a method or seed that it does not have, or an upper bound, which needs true masks.
    """
    folder = open_run(run).folder
    entries = {name: read_thresholds(p) for name, p in threshold_files(folder)}
    if not entries:
        raise RunError(
            "The run has no masks yet, so it has no threshold either.",
            where=str(folder),
            fix="run `weakseg heatmap-segment CONFIG` or `weakseg compare CONFIG` first",
        )
    made_by = {kind: kind.config_of(folder) for kind in KINDS}
    kinds = {
        name: kind
        for kind, config in made_by.items()
        for name in kind.names(config)
        if any(e["kind"] in kind.kinds for e in entries.get(name, {}).values())
    }
    usable = {name: entries[name] for name in kinds}
    now = load_config(config_file(folder))
    wanted = now.report.method
    if method is not None:
        name = _find_method(made_by[KINDS[0]].heatmap.method, usable, method)
    else:
        name = wanted if wanted in usable else _first_method(usable)
    kind = kinds[name]
    require_whole(Run(folder), kind.stage(name), threshold_file(masks_folder(folder), name))
    if engine is not None:
        usable = {
            m: {seed_: {**e, ENGINE: engine} for seed_, e in seeds.items()}
            for m, seeds in usable.items()
        }
    return kind.load(folder, made_by[kind], name, usable, seed, device)


def _first_method(entries: Entries) -> str:
    """The first method that saw no mask, here or elsewhere.

    Where there are segmenters alone, one that other methods taught comes before one that true
    masks taught.
    """
    usable = _applicable(entries)
    untold = [
        m
        for m in usable
        if not any(v["masks_seen"] or v["kind"] == FOUNDATION for v in entries[m].values())
    ]
    if untold:
        return untold[0]
    kinds = {m: {v["kind"] for v in e.values()} for m, e in entries.items()}
    if kinds and all(of.isdisjoint({HEATMAP, ORACLE}) for of in kinds.values()):
        return min(kinds, key=lambda m: WEAK not in kinds[m])
    raise UserError(
        "No method of the run gets by without true masks.",
        fix=f"name one with --method: {', '.join(usable)}"
        if usable
        else "add a rule that needs no true mask to masks.rules, for example otsu",
    )


def _applicable(entries: Entries) -> list[str]:
    """All but upper bounds, which need the true masks of what they segment."""
    return [m for m, e in entries.items() if not any(v.get("upper_bound") for v in e.values())]


def _find_method(heatmap: str, methods: Entries, method: str) -> str:
    """The method of a name, or of a rule of the experiment's `heatmap`."""
    named = {m.removeprefix(f"{heatmap}-"): m for m in methods}
    if method not in methods and method not in named:
        raise UserError(
            f"The run has no method {method!r}.",
            where="--method",
            fix=did_you_mean(method, _applicable(methods) or methods),
        )
    return method if method in methods else named[method]
