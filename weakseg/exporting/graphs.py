"""What a method makes of an image on the network's grid, and the whole model around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from weakseg.engines.graph import ExportError, onnx_of
from weakseg.errors import UserError
from weakseg.exporting.masks import (
    HALF,
    Nodes,
    as_stored,
    finish,
    on_image,
    require_rule,
    set_outputs,
)
from weakseg.heatmaps.by_engine import require_formula
from weakseg.heatmaps.compute import explain_by_all
from weakseg.methods.base import Method
from weakseg.methods.gate import ClassifierGate
from weakseg.methods.heatmap import HeatmapMethod
from weakseg.methods.heats import LiveHeats
from weakseg.methods.network import NetworkMethod
from weakseg.methods.segmenters import priors_of
from weakseg.models.classifier import Classifier
from weakseg.models.deepmedic import DeepMedic
from weakseg.models.unetpp import pruned
from weakseg.training.infer import lesion_probability
from weakseg.training.prior import are_shares


class Model(NamedTuple):
    """An exported method.

    Attributes
    ----------
    onnx : bytes
        See `weakseg.exporting.description.INPUTS` and `weakseg.exporting.description.OUTPUTS`.
    outputs : tuple of str
        Which of the outputs it has.
    labels, lesion_labels : tuple of str
        Of the classifiers in it; empty without.
    channels, size : int
        Of the square.
    precision : str
        The run's; the model itself is fp32.
    layer : str
        Of the heatmap; empty for a segmenter.
    mean, std : tuple of float
        By which the first network's input is normalised inside; empty for none.
    """

    onnx: bytes
    outputs: tuple[str, ...]
    labels: tuple[str, ...]
    lesion_labels: tuple[str, ...]
    channels: int
    size: int
    precision: str
    layer: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def _plain(models: Sequence[nn.Module]) -> list[Any]:
    """Copies as a graph is made of them."""
    laid = torch.contiguous_format
    return [deepcopy(m).cpu().float().eval().to(memory_format=laid) for m in models]


def _rounded(images: Tensor) -> Tensor:
    """To half precision, as images are kept; see `HALF`."""
    long = images * HALF
    return long - (long - images)


def _parse(model: bytes) -> tuple[Any, Nodes]:
    import onnx

    proto = onnx.load_from_string(model)
    info = onnx.helper.make_tensor_value_info("box", onnx.TensorProto.INT64, [6])
    proto.graph.input.append(info)
    proto.doc_string = "Made by weakseg. For research only: no medical device."
    return proto, Nodes(proto.graph)


def heatmap_model(method: HeatmapMethod) -> Model:
    """The model of a heatmap, a rule and a gate.

    Raises
    ------
    UserError
        For a heatmap or rule that no graph holds.
    """
    heats = method.heats
    assert isinstance(heats, LiveHeats)
    _require_images(method, "Heatmaps")
    settings, labels = heats.settings, heats.labels
    above = require_rule(method.rule, method.name)
    require_formula(settings, fix="export a method of another heatmap, or a segmenter")
    if settings.choose != "mean":
        raise UserError(
            "A heatmap that chooses a scale for each image is no model of one size.",
            where=f"--method {method.name}",
            found=f"choose: {settings.choose}",
            fix="export a segmenter that was trained on these masks, or another method",
        )
    copies, size = _plain(heats.models), method.config.data.image_size
    spec = copies[0].spec
    example = torch.zeros(1, spec.channels, size, size)
    with torch.autocast("cpu", enabled=False):
        layer, *_ = explain_by_all(copies, labels, example, settings)
    lesion = list(labels.lesion_indices)

    def run(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _, heat, p = explain_by_all(copies, labels, _rounded(images), settings)
        return heat, p[0], p[0, lesion].sum().clamp(max=1)

    names = ["heat", "probabilities", "probability"]
    traced = onnx_of(run, [example], ["images"], names, what=f"{method.name} of {spec.arch}")
    proto, nodes = _parse(traced)
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
        size,
        method.config.heatmap_precision(heats.name),
        layer,
        *_normalisation(copies[0]),
    )


def _normalisation(model: Classifier) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(model.mean.flatten().tolist()), tuple(model.std.flatten().tolist())


def network_model(method: NetworkMethod) -> Model:
    """The model of a segmentation network, or the mean of several, with its gate.

    Raises
    ------
    UserError
        For volumes, DeepMedic, and what looks at more than a threshold.
    """
    trained = method.networks.settings
    _refuse(method)
    size, channels = int(trained["image_size"]), int(trained["channels"])
    settings, held = method.settings, method.networks.held
    weights = method.networks.weights
    shares = torch.tensor(weights)[:, None, None, None] / max(sum(weights), 1e-12)
    copies = _plain(method.networks.models)
    asked, lesion = _gate(method, channels, size)

    def run(images: Tensor) -> tuple[Tensor, ...]:
        x = _rounded(images)
        corners = x[:, :, :: size - 1, :: size - 1].mean((2, 3))
        found = []
        for m, of in zip(copies, held, strict=True):
            with pruned(m, settings.prune):
                found.append(_probability(m, x, corners, settings, of))
        p = (torch.stack(found) * shares).sum(0) if weights else torch.stack(found).mean(0)
        if not asked:
            return (p,)
        said = [m(x).float().softmax(1)[0, lesion].sum() for m in asked]
        return p, torch.stack(said).mean()

    names = ["p", *(["probability"] if asked else [])]
    with torch.no_grad():
        traced = onnx_of(
            run, [torch.zeros(1, channels, size, size)], ["images"], names, what=method.name
        )
    proto, nodes = _parse(traced)
    full = on_image(nodes, "p", "box", size)
    at = nodes.constant(float(method.threshold["threshold"]))
    made = finish(
        nodes,
        full,
        lambda p: nodes.add("Greater", p, at),
        flat=False,
        probability="probability" if asked else None,
        gate=float(method.threshold["gate"]),
    )
    outputs: dict[str, Any] = {
        "mask": (made["mask"], "UINT8", ("height", "width")),
        "map": (made["map"], "FLOAT", ("height", "width")),
    }
    if asked:
        outputs["probability"] = ("probability", "FLOAT", ())
    set_outputs(proto.graph, outputs)
    gate = method.gate
    labels = gate.labels if isinstance(gate, ClassifierGate) else None
    return Model(
        proto.SerializeToString(),
        tuple(outputs),
        () if labels is None else labels.names,
        () if labels is None else labels.lesion,
        channels,
        size,
        settings.precision,
        "",
        (),
        (),
    )


def _require_images(method: Method, what: str) -> None:
    if method.dims != 2:  # a graph is drawn for images of one size; volumes differ
        raise UserError(
            f"{what} of volumes are not exported.",
            where=f"--method {method.name}",
            fix="use weakseg predict on the run itself",
        )


def _refuse(method: NetworkMethod) -> None:
    """Refuse what no model of one size and operation holds."""
    where = f"--method {method.name}"
    _require_images(method, "Networks")
    if any(isinstance(m, DeepMedic) for m in method.networks.models):
        raise ExportError(
            "DeepMedic is not exported: its dense inference is no graph of one size.",
            where=where,
            fix="export another segmenter",
        )
    if method.settings.scales != [1.0]:
        raise UserError(
            "A network that looks at an image in several sizes is no model of one size.",
            where=where,
            found=f"scales: {method.settings.scales}",
            fix="make the masks with scales: [1.0], or use weakseg predict on the run itself",
        )
    if method.settings.crf:
        raise UserError(
            "A conditional random field is nothing that an exported model has.",
            where=where,
            found=f"crf: {method.settings.crf}",
            fix="make the masks with crf: 0, or use weakseg predict on the run itself",
        )
    inference = method.threshold.get("inference", {})
    screens = [k for k in ("min_peak", "min_area") if float(inference.get(k, 0))]
    if screens:
        raise UserError(
            "Dropping parts of a mask is nothing that an exported model does.",
            where=where,
            found=", ".join(f"{k}: {inference[k]}" for k in screens),
            fix="make the masks without min_peak and min_area, or use weakseg predict on the run",
        )
    if method.looks_beside:
        raise UserError(
            "An exported model sees one image and no neighbours.",
            where=where,
            found=f"neighbours: {inference['neighbours']}",
            fix="make the masks with neighbours: 0, or use weakseg predict on the run itself",
        )
    if method.settings.normalise != "unit":
        raise UserError(
            "Normalising inside the body is nothing that an exported model does.",
            where=where,
            found=f"normalise: {method.settings.normalise}",
            fix="train the segmenter with normalise: unit",
        )


def _gate(method: NetworkMethod, channels: int, size: int) -> tuple[list[Any], list[int]]:
    """The classifiers of a gate, and the numbers of their lesion labels."""
    gate = method.gate
    if not isinstance(gate, ClassifierGate):
        return [], []
    seen = (gate.classifiers[0].spec.channels, gate.config.data.image_size)
    if seen != (channels, size):
        raise UserError(
            "The gate's classifiers see other images than the network.",
            where=f"--method {method.name}",
            found=f"{seen[0]} channels of {seen[1]} pixels",
            expected=f"{channels} channels of {size} pixels",
            fix="train the segmenter with gate: none, or on images of the same size",
        )
    return _plain(gate.classifiers), list(gate.labels.lesion_indices)


def _probability(
    model: Any, x: Tensor, fill: Tensor, settings: Any, held: dict[str, Any]
) -> Tensor:
    """The probability of a lesion, recalibrated where that is asked for, (1, S, S)."""
    p = lesion_probability(
        model, x, fill, tile=settings.tile, overlap=settings.overlap, flips=settings.flips
    )
    sampled, true = priors_of(held)
    if not settings.recalibrate or not are_shares(sampled, true):
        return p
    lesion, rest = true / sampled * p, (1 - true) / (1 - sampled) * (1 - p)
    return lesion / (lesion + rest)


MODELS: dict[type, Callable[[Any], Model]] = {
    HeatmapMethod: heatmap_model,
    NetworkMethod: network_model,
}
"""Kinds of methods that are exported."""
