"""The model of segmentation networks, their threshold, screening and gate."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from weakseg.engines.graph import onnx_of
from weakseg.errors import UserError
from weakseg.exporting.masks import Nodes, finish, on_image, set_outputs
from weakseg.exporting.model import Model, parse, plain, rounded
from weakseg.exporting.parts import screened
from weakseg.methods.gate import DIGITS, ClassifierGate
from weakseg.methods.network import NetworkMethod
from weakseg.methods.segmenters import priors_of
from weakseg.models.unetpp import pruned
from weakseg.training.infer import lesion_probability
from weakseg.training.prior import are_shares


def network_model(method: NetworkMethod) -> Model:
    """The model of a segmentation network, or the mean of several, with its gate.

    Each size in which the networks and the gate's classifiers look at an image is an input of its
    own, as each is made of the image itself.

    Raises
    ------
    UserError
        For what no model has.
    """
    refuse_network(method)
    trained, settings = method.networks.settings, method.settings
    size, channels = int(trained["image_size"]), int(trained["channels"])
    looks = [round(size * scale) for scale in settings.scales]
    asked, lesion, gate_size = _gate(method)
    squares = list(dict.fromkeys([*looks, *([gate_size] if asked else [])]))
    networks = _Mean(method)

    def run(*images: Tensor) -> tuple[Tensor, ...]:
        seen = {s: rounded(x) for s, x in zip(squares, images, strict=True)}
        each = {s: networks(seen[s]) for s in dict.fromkeys(looks)}
        answers = list(each.values())
        if not asked:
            return tuple(answers)
        said = [_in_digits(m(seen[gate_size]).float().softmax(1)[0, lesion].sum()) for m in asked]
        return *answers, _in_digits(torch.stack(said).mean())

    main = size if size in squares else squares[0]
    images, boxes = ([_of_size(what, s, main) for s in squares] for what in ("images", "box"))
    shown = {s: f"p_{s}" for s in looks}
    with torch.no_grad():
        traced = onnx_of(
            run,
            [torch.zeros(1, channels, s, s) for s in squares],
            images,
            [*shown.values(), *(["probability"] if asked else [])],
            what=method.name,
        )
    boxes = boxes[: len(shown)]  # the gate's classifiers say nothing of places
    proto, nodes = parse(traced, boxes)
    full = {s: on_image(nodes, p, _of_size("box", s, main), s) for s, p in shown.items()}
    at = nodes.constant(float(method.threshold["threshold"]))
    how = method.threshold.get("inference", {})

    def above(p: str) -> str:
        cuts = {k: float(how.get(k, 0)) for k in ("min_area", "min_peak")}
        return screened(nodes, nodes.add("Greater", p, at), p, **cuts)

    made = finish(
        nodes,
        _mean(nodes, [full[s] for s in looks]),
        above,
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
        (*images, *boxes),
        main,
        settings.precision,
        "",
        (),
        (),
        alone=method.looks_beside,
    )


class _Mean:
    """What networks together say of a square.

    Parameters
    ----------
    method : NetworkMethod
    """

    def __init__(self, method: NetworkMethod) -> None:
        self.models, self.held = plain(method.networks.models), method.networks.held
        self.settings, weights = method.settings, method.networks.weights
        count = len(self.models)
        total = sum(weights) if weights else count
        self.shares = torch.tensor(weights or [1.0] * count)[:, None, None, None] / total

    def __call__(self, x: Tensor) -> Tensor:
        """The probability of a lesion, (1, S, S), of an image (1, C, S, S)."""
        corners = x[:, :, :: x.shape[2] - 1, :: x.shape[3] - 1].mean((2, 3))
        found = []
        for m, of in zip(self.models, self.held, strict=True):
            with pruned(m, self.settings.prune):
                found.append(_probability(m, x, corners, self.settings, of))
        return (torch.stack(found) * self.shares).sum(0)


def _of_size(what: str, size: int, main: int) -> str:
    """The name of an input: of the main size without a number."""
    return what if size == main else f"{what}_{size}"


def _mean(nodes: Nodes, maps: Sequence[str]) -> str:
    *_, total = accumulate(maps, lambda a, b: nodes.add("Add", a, b))
    return total if len(maps) == 1 else nodes.add("Div", total, nodes.constant(len(maps)))


def _in_digits(probability: Tensor) -> Tensor:
    """Rounded as `weakseg.methods.gate.mean_probability` rounds it."""
    return (probability * 10**DIGITS).round() / 10**DIGITS


def refuse_network(method: NetworkMethod) -> None:
    """Refuse what no model of images holds."""
    where = f"--method {method.name}"
    if method.settings.crf:
        raise UserError(
            "A conditional random field is nothing that an exported model has.",
            where=where,
            found=f"crf: {method.settings.crf}",
            fix="make the masks with crf: 0, or use weakseg predict on the run itself",
        )
    if method.settings.normalise != "unit":
        raise UserError(
            "Normalising inside the body is nothing that an exported model does.",
            where=where,
            found=f"normalise: {method.settings.normalise}",
            fix="train the segmenter with normalise: unit",
        )
    gate, channels = method.gate, int(method.networks.settings["channels"])
    if isinstance(gate, ClassifierGate) and gate.classifiers[0].spec.channels != channels:
        raise UserError(
            "The gate's classifiers see other images than the network.",
            where=where,
            found=f"images of {gate.classifiers[0].spec.channels} channels",
            expected=f"images of {channels}",
            fix="train the segmenter with gate: none, or use weakseg predict on the run itself",
        )


def _gate(method: NetworkMethod) -> tuple[list[Any], list[int], int]:
    """The classifiers of a gate, the numbers of their lesion labels, and what they look at."""
    gate = method.gate
    if not isinstance(gate, ClassifierGate):
        return [], [], 0
    return plain(gate.classifiers), list(gate.labels.lesion_indices), gate.config.data.image_size


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
