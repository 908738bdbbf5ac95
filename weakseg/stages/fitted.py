"""Rules and thresholds, chosen once: before shards make masks by them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from weakseg.config import fingerprint
from weakseg.disk import remove_file
from weakseg.layout import (
    FIT_STAGE,
    fitted_folder,
    heatmap_stage,
    method_folder,
    predictions_stage,
    unfitted_file,
)
from weakseg.methods.fingerprints import heatmap_fingerprint
from weakseg.methods.fitted_rules import fit_rules
from weakseg.methods.prepared import Prepared
from weakseg.methods.stored_heatmaps import heatmap_key
from weakseg.runs import Run, remove_tree, write_json
from weakseg.stages.base import Stage, take_out


def heatmap_keys(prepared: Prepared) -> dict[str, str]:
    """Every stage of the experiment's heatmaps, and its key."""
    arch = prepared.config.classifier.arch
    return {
        heatmap_stage(arch, seed, name): heatmap_key(prepared, seed, name=name)
        for name, seed in _heats(prepared)
    }


def _heats(prepared: Prepared) -> list[tuple[str, int]]:
    config = prepared.config
    return [(name, seed) for name in config.all_heatmaps for seed in config.heatmap_seeds(name)]


def fit_stage(prepared: Prepared, keys: Sequence[str]) -> Stage:
    """The rules of heatmaps, fitted for shards that make masks by them; see `heatmap_keys`."""
    folder, config = fitted_folder(prepared.run.folder), prepared.config
    of_methods = [method_folder(folder, method) for method in config.heatmap_methods]

    def run(_: None) -> dict[str, Any]:
        for one in of_methods:
            remove_tree(one)
        fitted = fit_rules(prepared, folder)
        lost = {m: {str(s): why for s, why in of.items()} for m, of in fitted.lost.items()}
        write_json(unfitted_file(folder), {"lost": lost})
        return {"data": prepared.key}

    return Stage(
        FIT_STAGE,
        fingerprint(FIT_STAGE, 1, keys, heatmap_fingerprint(config), *prepared.masks_key),
        (unfitted_file(folder), *of_methods),
        run,
        what="rules of heatmaps",
        inputs=inputs_of_masks(prepared),
    )


def fit_stage_of(method: str) -> str:
    """The stage of the threshold of a method that has its own, chosen before shards make masks."""
    return f"{FIT_STAGE}/{method}"


def forget_fit(run: Run, stage: str, methods: Iterable[str]) -> None:
    """Delete what was fitted for shards, when their masks are joined and they are gone.

    Not before: by what was fitted they are known.
    """
    folder = fitted_folder(run.folder)
    take_out(run, stage)
    if stage == FIT_STAGE:
        unfitted_file(folder).unlink(missing_ok=True)
    for method in methods:  # what was broken off is in no list
        remove_tree(method_folder(folder, method))
        remove_file(method_folder(folder, method), below=run.folder)


def inputs_of_masks(prepared: Prepared) -> tuple[str, ...]:
    """The stages whose outputs the masks of heatmaps are made of."""
    config, arch = prepared.config, prepared.config.classifier.arch
    heats = (heatmap_stage(arch, seed, name) for name, seed in _heats(prepared))
    return (*heats, *(predictions_stage(arch, s) for s in config.seeds))
