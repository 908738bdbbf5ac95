"""``weakseg models``: every network, its size and what its voxels see, from the networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from weakseg.config.volume_archs import DEEP, INSTANCES
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.layers import ARCHITECTURES
from weakseg.models.receptive_field import ReceptiveField, receptive_field
from weakseg.models.segmenters import SEGMENTERS, build_segmenter, on_classifier
from weakseg.models.volume_classifiers import for_volumes

_IMAGE = 256


def count_parameters(net: nn.Module) -> tuple[int, int]:
    """All trainable numbers, and those of convolution kernels (biases not counted)."""
    convolutions = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    weights = sum(m.weight.numel() for m in net.modules() if isinstance(m, convolutions))
    return sum(p.numel() for p in net.parameters()), weights


def models_table(in_channels: int = 1, classes: int = 2) -> list[dict[str, Any]]:
    """One row a network and number of dimensions.

    Parameters
    ----------
    in_channels, classes : int, optional
        That the networks are built for; backbones take 1 or 3 channels and are left out otherwise.

    Returns
    -------
    list of dict
        ``name``, ``kind`` (classifier, segmenter), ``dims``, ``parameters``, ``conv_weights``,
        ``receptive_field`` (list, a side per axis; of a classifier's default heatmap layer: of
        ``mil:NAME`` within a slice, of ``NAME-3d`` for voxels that are cubes),
        ``pathways`` (the same by pathway), ``whole_image`` (a global pooling adds the rest of the
        image), ``output_stride`` (of the heatmap layer or the scores), ``deepest_stride``,
        ``patch_input``, ``patch_output`` (sides of a training patch; segmenters),
        ``heatmap_layer`` (classifiers), ``backbones`` (names that may stand behind a colon),
        ``description``.
    """
    rows = []
    # Networks without data: nothing is initialised and no memory is taken.
    with torch.device("meta"):
        if in_channels in (1, 3):
            flat = [_classifier_row(a, in_channels, classes) for a in ARCHITECTURES]
            deep = [_deep_row(a, in_channels, classes) for a in ARCHITECTURES]
            rows = [*flat, *map(_instances_row, flat), *deep]
        for name, spec in SEGMENTERS.items():
            if in_channels not in (1, 3) and on_classifier(name):
                continue
            rows += [_segmenter_row(name, in_channels, classes, d) for d in spec.dims]
    return rows


def _classifier_row(arch: str, in_channels: int, classes: int) -> dict[str, Any]:
    labels = tuple(map(str, range(classes)))
    model = build_classifier(ClassifierSpec(arch, labels, in_channels))
    layer = ARCHITECTURES[arch]
    shape = (1, in_channels, _IMAGE, _IMAGE)
    window = receptive_field(model, shape, f"net.{layer}")
    return _row(arch, "classifier", 2, model, window) | {
        "heatmap_layer": layer,
    }


def _instances_row(flat: dict[str, Any]) -> dict[str, Any]:
    """A network that sees every slice of a volume: the very network of images."""
    return flat | {"name": INSTANCES + flat["name"], "dims": 3}


def _deep_row(arch: str, in_channels: int, classes: int) -> dict[str, Any]:
    """A network whose kernels are inflated, for voxels that are cubes and volumes of any depth."""
    labels = tuple(map(str, range(classes)))
    flat = build_classifier(ClassifierSpec(arch, labels, in_channels))
    model = for_volumes(flat, replace(flat.spec, arch=arch + DEEP), draw=False)
    layer = ARCHITECTURES[arch]
    window = receptive_field(model, (1, in_channels, *[_IMAGE] * 3), f"net.{layer}")
    return _row(arch + DEEP, "classifier", 3, model, window) | {"heatmap_layer": layer}


def _segmenter_row(name: str, in_channels: int, classes: int, dims: int) -> dict[str, Any]:
    spec = SEGMENTERS[name]
    net = build_segmenter(name, in_channels, classes, dims)
    patch = spec.patch[dims]
    windows = spec.fields(net, in_channels, dims, patch)
    size = net.input_size(patch)
    return _row(name, "segmenter", dims, net, windows.pop("")) | {
        "pathways": {path: list(w.size) for path, w in windows.items()},
        "patch_input": size,
        "patch_output": net.output_size(size),
        "backbones": list(spec.backbones),
        "description": spec.description,
    }


def _row(name: str, kind: str, dims: int, net: nn.Module, window: ReceptiveField) -> dict[str, Any]:
    parameters, weights = count_parameters(net)
    (stride,) = set(window.stride)
    return {
        "name": name,
        "kind": kind,
        "dims": dims,
        "parameters": parameters,
        "conv_weights": weights,
        "receptive_field": list(window.size),
        "pathways": {},
        "whole_image": window.whole_image,
        "output_stride": int(stride),
        "deepest_stride": window.deepest_stride,
        "patch_input": None,
        "patch_output": None,
        "heatmap_layer": None,
        "backbones": [],
        "description": "",
    }


def format_models(rows: Sequence[dict[str, Any]]) -> str:
    """The table as text, a line a network.

    A plus behind the receptive field says that a global pooling adds the rest of the image. Rows
    with times (`weakseg.training.times.with_times`) get two more columns, in milliseconds.
    """
    timed = any("train_seconds" in row for row in rows)
    head: tuple[str, ...] = (
        *("network", "kind", "dims", "parameters", "conv weights", "receptive field", "stride"),
        *("deepest", "patch in", "patch out", "heatmap layer"),
    )
    head += ("train ms", "image ms") if timed else ()
    lines = [head]
    for row in rows:
        field = "×".join(map(str, row["receptive_field"])) + "+" * row["whole_image"]
        paths = ", ".join(f"{p} {sides[0]}" for p, sides in row["pathways"].items())
        lines.append(
            (
                row["name"],
                row["kind"],
                f"{row['dims']}D",
                f"{row['parameters']:,}",
                f"{row['conv_weights']:,}",
                field + (f" ({paths})" if paths else ""),
                str(row["output_stride"]),
                str(row["deepest_stride"]),
                str(row["patch_input"] or "-"),
                str(row["patch_output"] or "-"),
                row["heatmap_layer"] or "-",
                *(_milliseconds(row[k]) for k in ("train_seconds", "image_seconds") if timed),
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    numbers = {3, 4, 6, 7, 8, 9, 11, 12}
    return "\n".join(
        "  ".join(
            cell.rjust(w) if i in numbers else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.0f}"
