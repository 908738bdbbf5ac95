"""Heatmaps of every image of a run, made once a network and read by every stage that needs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from weakseg.config import HeatmapConfig, fingerprint
from weakseg.disk import link
from weakseg.engines.choice import spoken
from weakseg.engines.kept import KeptGraphs
from weakseg.heatmaps.by_engine import check_engine
from weakseg.heatmaps.cam import LAYERLESS
from weakseg.heatmaps.compute import heatmaps_of
from weakseg.heatmaps.store import Heatmap, save_heatmap
from weakseg.layout import (
    graphs_folder,
    heatmap_file,
    heatmap_folder,
    heatmap_stage,
    predictions_stage,
    seed_folder,
)
from weakseg.methods.classifiers import load_classifier
from weakseg.methods.explained import explained_classes, heatmap_images
from weakseg.methods.heatmap_choices import chosen_by_labels, run_explainer
from weakseg.methods.prepared import Prepared
from weakseg.methods.stored_heatmaps import PREDICTED, classifier_folders, heatmap_key
from weakseg.models.classifier import Classifier
from weakseg.models.layers import find_layers
from weakseg.models.modes import channels_last
from weakseg.prefetch import map_ahead
from weakseg.progress import progress, say
from weakseg.runs import Run, remove_tree
from weakseg.shards import Shard, refuse_auto
from weakseg.stages.base import Stage, perform
from weakseg.stages.effort import of_heatmaps
from weakseg.stages.shards import (
    BY,
    CHOSEN,
    Taken,
    own_folder,
    shard_key,
    taken_from_shards,
)
from weakseg.training.loop import in_precision, pick_device

WRITERS = 2
"""Threads that write heatmaps while the network makes further ones."""


def make_heatmaps(
    prepared: Prepared,
    seed: int,
    *,
    name: str | None = None,
    target: str | None = None,
    force: bool = False,
) -> Path:
    """The heatmaps of every image by the classifier of a seed.

    Parameters
    ----------
    prepared : Prepared
        With the seed's classifier in its run folder.
    seed : int
    name : str, optional
        Which of the experiment's heatmaps; default: the one under ``heatmap``.
    target : str, optional
        ``lesion``, a label, or ``predicted``: each image's most probable class by this very
        network. Default: as the experiment's ``heatmap.target`` says. The true class is never
        looked at.
    force : bool
        Make again what is up to date.

    Returns
    -------
    Path
        Their folder.
    """
    stage = heatmaps_of_seed(prepared, seed, name=name, target=target)
    perform(prepared.run, stage, force=force)
    return stage.outputs[0]


def make_shard(prepared: Prepared, shard: Shard, *, force: bool = False) -> Path:
    """The heatmaps of a part of the images, by all classifiers; `make_heatmaps` joins them.

    Parameters
    ----------
    prepared : Prepared
        Held as this shard.
    shard : Shard
    force : bool
        Make again what is up to date.

    Returns
    -------
    Path
        The shard's folder.
    """
    config, run = prepared.config, Run(own_folder(prepared.run.folder, shard))
    refuse_auto(config.engine)
    for name in config.all_heatmaps:
        for seed in config.heatmap_seeds(name):
            stage = heatmaps_of_seed(prepared, seed, name=name, shard=shard)
            perform(run, stage, force=force)
    return run.folder


def heatmaps_of_seed(
    prepared: Prepared,
    seed: int,
    *,
    name: str | None = None,
    target: str | None = None,
    shard: Shard | None = None,
) -> Stage:
    """The heatmaps of a seed, or a shard of them; see `make_heatmaps`."""
    config, arch = prepared.config, prepared.config.classifier.arch
    name = name or config.heatmap.method
    settings = config.all_heatmaps[name]
    target = target or settings.target
    other = None if target == settings.target else target
    root = prepared.run.folder if shard is None else own_folder(prepared.run.folder, shard)
    folder = heatmap_folder(root, arch, seed, name, other)
    what = f"heatmaps {folder.name}, seed {seed}"
    images = heatmap_images(prepared, name)
    wanted = set(images if shard is None else shard.own(images))
    stage, key = heatmap_stage(arch, seed, name, other), heatmap_key(prepared, seed, target, name)
    if shard is not None:
        what, key = f"{what}, shard {shard}", shard_key(key, shard)

    def made_before(chosen: str) -> Taken:
        if shard is not None:
            return Taken()
        ids = [prepared.cases.cases[i].id for i in images]
        return taken_from_shards(root, stage, key, folder, ids, chosen)

    def ready() -> list[Classifier]:
        device, precision = pick_device(config.device), config.heatmap_precision(name)
        check_engine(config.engine, settings, device, precision)
        models = [load_classifier(f) for f in classifier_folders(prepared, name, seed).values()]
        if settings.method not in LAYERLESS:
            find_layers(models[0], settings.layer, config.data.image_size)
        return models

    def run(models: list[Classifier]) -> dict[str, Any]:
        work = explained_classes(
            prepared, settings, target, seed_folder(prepared.run.folder, arch, seed)
        )
        work = [(explained, [i for i in chosen if i in wanted]) for explained, chosen in work]
        kept = KeptGraphs(graphs_folder(prepared.run.folder, arch, seed, folder.name))
        written = _write_heatmaps(prepared, models, work, folder, name, what, made_before, kept)
        if written["flat"]:
            flat = written["flat"]
            say(f"{what}: {flat} of {len(wanted)} are flat (nothing speaks for a lesion)")
        if shard is None:  # a shard's are asked for where it is joined
            written = {k: v for k, v in written.items() if k not in (BY, CHOSEN)}
        return {"images": len(wanted), **written}

    return Stage(
        stage,
        key,
        (folder,),
        run,
        what=what,
        inputs=(predictions_stage(arch, seed),) if target == PREDICTED and shard is None else (),
        ready=ready,
        # A heatmap that was a further one had fewer images, see `heatmap_images`.
        covers=lambda entry: entry.get("images", 0) >= len(wanted),
        effort=of_heatmaps(prepared, name, len(wanted)),
    )


def _write_heatmaps(
    prepared: Prepared,
    models: Sequence[Classifier],
    work: Sequence[tuple[HeatmapConfig, Sequence[int]]],
    folder: Path,
    name: str,
    what: str,
    made_before: Callable[[str], Taken],
    kept: KeptGraphs,
) -> dict[str, Any]:
    """Make the heatmaps of a seed, but for those of shards; what the record says of them."""
    config, cases = prepared.config, prepared.cases.cases
    device = pick_device(config.device)
    precisely = partial(in_precision, device, config.heatmap_precision(name))
    models = [channels_last(m.to(device)) for m in models]
    images, labels = prepared.images.once(), prepared.cases.labels
    part = folder.with_name(f".part-{folder.name}")
    remove_tree(part)
    flat, layer = 0, ""
    seen_at: Counter[float] = Counter()
    with precisely():
        chosen = chosen_by_labels(prepared, models, name, part, what)

    def save(made: tuple[int, Heatmap]) -> Heatmap:
        i, heat = made
        save_heatmap(heatmap_file(part, cases[i].id), heat)
        return heat

    taken = made_before(fingerprint(chosen))
    for case, path in taken.where.items():
        # A shard goes when all is made: what breaks off loses nothing.
        link(path, heatmap_file(part, case))
    for entry in taken.entries:
        flat, layer = flat + entry["flat"], entry["layer"]
        seen_at.update({float(s): n for s, n in entry.get("scales", {}).items()})
    work = [(how, [i for i in some if cases[i].id not in taken.where]) for how, some in work]
    explainer, by = None, taken.entries[0][BY] if taken.entries else {}
    if any(some for _, some in work):
        explainer, by = run_explainer(prepared, models, name, precisely, chosen, kept)
        if words := spoken(by):
            say(f"{what}: {words}")
    with progress(what, sum(len(some) for _, some in work)) as advance, precisely():
        for settings, indices in work:
            explained = settings.model_copy(update=chosen)
            made = heatmaps_of(models, labels, images, indices, explained, explainer)
            ahead = 2 * explained.batch_size
            for heat in map_ahead(save, made, workers=WRITERS, ahead=ahead):
                flat += heat.flat
                layer = heat.layer
                seen_at[heat.input_scale] += 1
                advance()
    remove_tree(folder)
    part.replace(folder)
    written: dict[str, Any] = {"flat": flat, "layer": layer, **by}
    written |= {BY: by, CHOSEN: fingerprint(chosen)}
    if config.all_heatmaps[name].choose != "mean":
        written["scales"] = {f"{s:g}": seen_at[s] for s in chosen["scales"]}
    return written
