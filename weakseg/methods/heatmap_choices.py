"""What is settled of heatmaps once classifiers are trained: by validation labels, and by engine.

No mask is opened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from weakseg.config import HeatmapConfig
from weakseg.engines.kept import KeptGraphs
from weakseg.heatmaps.by_engine import pick_explainer
from weakseg.heatmaps.cam import LAYERLESS
from weakseg.heatmaps.depth_weights import pooled_depths, weights_by_labels
from weakseg.heatmaps.explaining import LESION, Explained, Explainer
from weakseg.heatmaps.scales import at_scale, good_scales, label_aucs, reference_scale
from weakseg.layout import fusion_file, scales_file
from weakseg.methods.prepared import Prepared
from weakseg.methods.stored_heatmaps import PREDICTED
from weakseg.models.classifier import Classifier
from weakseg.progress import progress, say
from weakseg.runs import write_json


def chosen_by_labels(
    prepared: Prepared, models: Sequence[Classifier], name: str, folder: Path, what: str
) -> dict[str, Any]:
    """The scales of a heatmap, and the weights of its layers where they are learnt.

    Parameters
    ----------
    prepared : Prepared
    models : sequence of Classifier
    name : str
        Of the heatmap.
    folder : Path
        Of its files; where labels are asked, one of them says what they chose, and
        `weakseg.methods.stored_heatmaps.settled_heatmap` reads it.
    what : str
        Its name for people.
    """
    scales = _good_scales(prepared, models, prepared.config.all_heatmaps[name], folder, what)
    return {"scales": scales, **_weights(prepared, models, name, folder, what)}


def run_explainer(
    prepared: Prepared,
    models: Sequence[Classifier],
    name: str,
    precisely: Callable[[], AbstractContextManager[Any]],
    chosen: Mapping[str, Any],
    kept: KeptGraphs | None = None,
) -> tuple[Explainer, dict[str, Any]]:
    """What makes a heatmap of the experiment by its engine, and what the record says of that.

    Parameters
    ----------
    prepared : Prepared
    models : sequence of Classifier
        On one device; of several the heatmaps are averaged.
    name : str
        Of the heatmap.
    precisely : callable
        Opens its precision, see `weakseg.training.loop.in_precision`.
    chosen : mapping
        What `chosen_by_labels` gave.
    kept : KeptGraphs, optional
        Where graphs lie that were made before.
    """
    config = prepared.config
    settings = config.all_heatmaps[name].model_copy(update=dict(chosen))
    if settings.choose != "mean":  # measured as most images are explained
        settings = at_scale(settings, reference_scale(settings.scales))
    if settings.target == PREDICTED:
        settings = settings.model_copy(update={"target": LESION})

    def in_precision(run: Explainer) -> Explainer:
        def explain(*given: Any, **how: Any) -> Explained:
            with precisely():
                return run(*given, **how)

        return explain

    return pick_explainer(
        config.engine,
        models,
        prepared.cases.labels,
        settings,
        side=config.data.image_size,
        precision=config.heatmap_precision(name),
        torch_run=in_precision,
        kept=kept,
    )


def learnt_weights(
    prepared: Prepared, models: Sequence[Classifier], settings: HeatmapConfig
) -> tuple[list[str], list[float] | None]:
    """The layers of a heatmap, and what they count by validation labels; None: all alike."""
    if settings.method in LAYERLESS:
        return [], None
    val, labels = prepared.cases.indices("val"), prepared.cases.labels
    layers, hot = pooled_depths(models, labels, prepared.images, val, settings)
    lesion = [labels.is_lesion(prepared.cases.cases[i].label) for i in val]
    weights = weights_by_labels(hot, lesion) if len(layers) > 1 else None
    return layers, None if weights is None else [round(float(w), 4) for w in weights]


def _good_scales(
    prepared: Prepared,
    models: Sequence[Classifier],
    settings: HeatmapConfig,
    folder: Path,
    what: str,
) -> list[float]:
    """The scales that validation labels leave over; where they are asked, a file says which."""
    if settings.auc_drop is None:
        return settings.scales
    images, val = prepared.images, prepared.cases.indices("val")
    aucs: dict[float, float] = {}
    with progress(f"{what}: scales", len(settings.scales)) as advance:
        for scale, auc in label_aucs(models, prepared.cases.labels, images, val, settings):
            aucs[scale] = auc
            advance()
    scales = good_scales(aucs, settings.auc_drop)
    if any(math.isnan(a) for a in aucs.values()):
        say(f"{what}: the validation labels are all alike, so no scale is left out")
    rounded = {f"{s:g}": None if math.isnan(a) else round(a, 4) for s, a in aucs.items()}
    write_json(scales_file(folder), {"scales": scales, "auc": rounded, "images": len(val)})
    return scales


def _weights(
    prepared: Prepared, models: Sequence[Classifier], name: str, folder: Path, what: str
) -> dict[str, list[float]]:
    """What the layers count by validation labels; where they are asked, a file says it."""
    config = prepared.config
    settings = config.all_heatmaps[name]
    if not settings.learns_weights:
        return {}
    val = prepared.cases.indices("val")
    layers, rounded = learnt_weights(prepared, models, settings)
    write_json(fusion_file(folder), {"layers": layers, "weights": rounded, "images": len(val)})
    if rounded is None:
        say(f"{what}: the validation labels prefer no layer, so that all count alike")
        return {}
    told = ", ".join(f"{n} {w:.2f}" for n, w in zip(layers, rounded, strict=True))
    say(f"{what}: by {len(val)} validation labels the layers count {told}")
    return {"weights": rounded}
