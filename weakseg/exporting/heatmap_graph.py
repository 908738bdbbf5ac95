"""The model of a heatmap, a rule and a gate."""

from __future__ import annotations

import torch
from torch import Tensor

from weakseg.engines.graph import onnx_of
from weakseg.errors import UserError
from weakseg.exporting.masks import as_stored, finish, on_image, require_rule, set_outputs
from weakseg.exporting.model import Model, parse, plain, rounded
from weakseg.heatmaps.by_engine import require_formula
from weakseg.heatmaps.compute import explain_by_all
from weakseg.methods.heatmap import HeatmapMethod
from weakseg.methods.heats import LiveHeats
from weakseg.models.classifier import Classifier


def heatmap_model(method: HeatmapMethod) -> Model:
    """The model of a heatmap, a rule and a gate.

    Raises
    ------
    UserError
        For a heatmap or rule that no graph holds.
    """
    heats = method.heats
    assert isinstance(heats, LiveHeats)
    refuse_heatmap(method)
    settings, labels = heats.settings, heats.labels
    above = require_rule(method.rule, method.name)
    copies, size = plain(heats.models), method.config.data.image_size
    spec = copies[0].spec
    example = torch.zeros(1, spec.channels, size, size)
    with torch.autocast("cpu", enabled=False):
        layer, *_ = explain_by_all(copies, labels, example, settings)
    lesion = list(labels.lesion_indices)

    def run(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _, heat, p = explain_by_all(copies, labels, rounded(images), settings)
        return heat, p[0], p[0, lesion].sum().clamp(max=1)

    names = ["heat", "probabilities", "probability"]
    traced = onnx_of(run, [example], ["images"], names, what=f"{method.name} of {spec.arch}")
    proto, nodes = parse(traced)
    positive = nodes.add("Relu", as_stored(nodes, "heat"))
    full = on_image(nodes, positive, "box", size)
    made = finish(
        nodes,
        full,
        lambda heat: above(nodes, heat, method.rule),
        flat=True,
        probability="probability",
        gate=method.gate,
    )
    grid = [d.dim_value for d in proto.graph.output[0].type.tensor_type.shape.dim]
    set_outputs(
        proto.graph,
        {
            "mask": (made["mask"], "UINT8", ("height", "width")),
            "map": (made["map"], "FLOAT", ("height", "width")),
            "probability": ("probability", "FLOAT", ()),
            "probabilities": ("probabilities", "FLOAT", (len(labels.names),)),
            "heat": ("heat", "FLOAT", grid),
        },
    )
    return Model(
        proto.SerializeToString(),
        ("mask", "map", "probability", "probabilities", "heat"),
        labels.names,
        labels.lesion,
        spec.channels,
        ("images", "box"),
        size,
        method.config.heatmap_precision(heats.name),
        layer,
        *_normalisation(copies[0]),
    )


def _normalisation(model: Classifier) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(model.mean.flatten().tolist()), tuple(model.std.flatten().tolist())


def refuse_heatmap(method: HeatmapMethod) -> None:
    """Refuse a heatmap or rule that no model holds."""
    if method.dims != 2:
        raise UserError(
            "Heatmaps of volumes are not exported.",
            where=f"--method {method.name}",
            fix="use weakseg predict on the run itself; runs on slices of volumes are exported",
        )
    require_rule(method.rule, method.name)
    assert isinstance(method.heats, LiveHeats)
    settings = method.heats.settings
    require_formula(settings, fix="export a method of another heatmap, or a segmenter")
    if settings.choose != "mean":
        raise UserError(
            "A heatmap that chooses a scale for each image is no model of one size.",
            where=f"--method {method.name}",
            found=f"choose: {settings.choose}",
            fix="export a segmenter that was trained on these masks, or another method",
        )
