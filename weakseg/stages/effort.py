"""How much work a stage is, so that how long it takes can be told before it was ever made.

The work of a kind is counted in units, such as images times epochs; how long a unit takes is known
from the stages that were made, in this run or beside it, or measured for a moment.
"""

from __future__ import annotations

from weakseg.engines.base import TORCH
from weakseg.methods.classifiers import prepared_spec
from weakseg.methods.prepared import Prepared
from weakseg.methods.segmenters import network_size, segmenter_settings
from weakseg.stages.base import Effort
from weakseg.training.loop import pick_device
from weakseg.training.timing import AT_ONCE, step_seconds


def _on(prepared: Prepared, what: str, arch: str, side: object) -> str:
    kind = pick_device(prepared.config.device).partition(":")[0]  # GPUs of a machine are alike
    return f"{what} {arch} at {side} on {kind}"


def of_classifier(prepared: Prepared) -> Effort:
    """Of the training of a classifier of one seed, on raw or on filtered images."""
    config, side = prepared.config.classifier, prepared.config.data.image_size

    def measure() -> float:
        from weakseg.models.classifiers import build_classifier

        model = build_classifier(prepared_spec(prepared))
        shape = (min(AT_ONCE[config.dims], config.batch_size), *prepared.images.shape)
        return step_seconds(model, shape, prepared.config.device) / shape[0]

    images = config.epochs * len(prepared.cases.of("train"))
    return Effort(_on(prepared, "training of", config.arch, side), images, measure)


def of_predictions(prepared: Prepared) -> Effort:
    """Of what a classifier says of every image."""
    arch, side = prepared.config.classifier.arch, prepared.config.data.image_size
    return Effort(_on(prepared, "predictions of", arch, side), len(prepared.cases.cases))


def of_heatmaps(prepared: Prepared, name: str, images: int) -> Effort:
    """Of the heatmaps of so many images."""
    config, heat = prepared.config, prepared.config.all_heatmaps[name]
    passes = (1 + heat.flips) * sum(s * s for s in heat.scales)
    passes *= len(config.seeds) if heat.ensemble else 1
    passes *= heat.relevance.steps if heat.method == "relevance" else 1
    passes *= 1 if heat.climb is None else 1 + 2 * heat.climb.steps
    arch = config.classifier.arch
    by = heat.method if config.engine == TORCH else f"{heat.method} with {config.engine}"
    kind = _on(prepared, f"heatmaps by {by} of", arch, config.data.image_size)
    return Effort(kind, images * passes)


def of_masks(prepared: Prepared) -> Effort:
    """Of the masks of all heatmaps."""
    config = prepared.config
    made = sum(len(config.heatmap_seeds(heat)) for heat, _ in config.heatmap_methods.values())
    return Effort("masks of heatmaps", made * len(prepared.cases.of("test")))


def of_segmenter(prepared: Prepared, name: str, seed: int | None = None) -> Effort:
    """Of the training of a segmenter's network of a seed, default the first."""
    from weakseg.models.segmenters import build_segmenter
    from weakseg.training.segment import SegmenterTask

    s, dims = segmenter_settings(prepared, name, seed), prepared.cases.dims
    count = len(prepared.cases.of("train"))
    batch = int(s.batch_size)
    units = int(s.epochs) * SegmenterTask.steps_of(s, count) * batch
    whole = s.patch == "whole"
    side = network_size(prepared, s) if whole else int(s.patch)

    def measure() -> float:
        model = build_segmenter(s.arch, prepared.channels, 2, dims)
        sides = (side if whole else int(model.input_size(side)),) * dims
        shape = (min(AT_ONCE[dims], batch), prepared.channels, *sides)
        return step_seconds(model, shape, prepared.config.device) / shape[0]

    return Effort(_on(prepared, "training of", s.arch, f"{side}, {dims}D"), units, measure)


def of_network_masks(prepared: Prepared, name: str) -> Effort:
    """Of the masks of a segmenter, by all of its networks."""
    s = segmenter_settings(prepared, name)
    engine = prepared.config.engine
    what = "masks by" if engine == TORCH else f"masks with {engine} by"
    archs = "+".join(dict.fromkeys(arch for arch, _ in prepared.config.segmenters[name].kinds))
    kind = _on(prepared, what, archs, f"{network_size(prepared, s)}, {prepared.cases.dims}D")
    networks = len(prepared.config.segmenter_seeds(name))
    return Effort(kind, len(prepared.cases.of("test")) * networks)
