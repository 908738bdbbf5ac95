"""The rules of heatmaps, fitted once: before shards make masks by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weakseg.config import fingerprint
from weakseg.layout import (
    FIT_STAGE,
    fitted_folder,
    heatmap_stage,
    predictions_stage,
    unfitted_file,
)
from weakseg.methods.fingerprints import heatmap_fingerprint
from weakseg.methods.fitted_rules import fit_rules
from weakseg.methods.prepared import Prepared
from weakseg.runs import remove_tree, write_json
from weakseg.stages.base import Stage


def fit_stage(prepared: Prepared, heatmap_keys: Sequence[str]) -> Stage:
    """The rules, fitted for shards that make masks by them."""
    folder = fitted_folder(prepared.run.folder)

    def run(_: None) -> dict[str, Any]:
        remove_tree(folder)
        fitted = fit_rules(prepared, folder)
        lost = {m: {str(s): why for s, why in of.items()} for m, of in fitted.lost.items()}
        write_json(unfitted_file(folder), {"lost": lost})
        return {"data": prepared.key}

    return Stage(
        FIT_STAGE,
        fingerprint(FIT_STAGE, 1, heatmap_keys, heatmap_fingerprint(prepared.config)),
        (folder,),
        run,
        what="rules of heatmaps",
        inputs=inputs_of_masks(prepared),
    )


def inputs_of_masks(prepared: Prepared) -> tuple[str, ...]:
    """The stages whose outputs the masks of heatmaps are made of."""
    config, arch = prepared.config, prepared.config.classifier.arch
    heats = [(name, seed) for name in config.all_heatmaps for seed in config.heatmap_seeds(name)]
    return (
        *(heatmap_stage(arch, s, n) for n, s in heats),
        *(predictions_stage(arch, s) for s in config.seeds),
    )
