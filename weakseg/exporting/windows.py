"""Segmentation networks of whole volumes as graphs: the logits of a window of a volume.

What lies around a window is no part of the graph: where windows lie, how they are joined, mirror
images, recalibration, threshold and clean-up are done by what does them for the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from weakseg.config import AUTO
from weakseg.engines.base import Session
from weakseg.engines.graph import onnx_of, onnx_of_any_size
from weakseg.errors import RunError, UserError, first_line
from weakseg.exporting.description import ABOUT, AGAIN
from weakseg.exporting.model import plain
from weakseg.methods.network import NetworkMethod
from weakseg.models.deepmedic import TILE, DeepMedic
from weakseg.models.segmenters import build_segmenter
from weakseg.models.whole_image import cropped, padded

Arch = Literal["unet", "deepmedic", "deepmedic-release"]
ARCHS: tuple[str, ...] = get_args(Arch)
"""Networks that are exported for volumes. Others are graphs of one size only, or, as
``deepmedic-latest``, say something else of a window that is filled up."""

LONGEST = 64
"""Of a window of any size, in steps of what the network takes: more than any tile has."""


def refuse_windows(method: NetworkMethod) -> None:
    """Refuse what no graph of windows holds."""
    for held in method.networks.held:
        if (arch := str(held["settings"]["arch"])) not in ARCHS:
            raise UserError(
                "The network is not exported for volumes.",
                where=f"--method {method.name}",
                found=arch,
                expected=", ".join(ARCHS),
                fix="use weakseg predict on the run itself, or train one of these",
            )


def window_graphs(method: NetworkMethod) -> list[bytes]:
    """A graph a network: ``images`` (1, C, x, y, z) to ``logits`` (1, 2, x, y, z).

    DeepMedic's is of windows of one size, which loses its margin; a U-Net's of any size in whole
    steps.
    """
    refuse_windows(method)
    made = []
    for model in plain(method.networks.models):
        model.requires_grad_(False)
        if isinstance(model, DeepMedic):
            example = torch.zeros(1, _channels(method), *[_window(model, method.settings.tile)] * 3)

            def run(images: Tensor, of: Any = model) -> tuple[Tensor]:
                with torch.no_grad():
                    return (of(images),)

            made.append(onnx_of(run, [example], ["images"], ["logits"], what=method.name))
            continue
        step = 2**model.depth
        example = torch.zeros(1, _channels(method), 2 * step, 2 * step, 2 * step)
        made.append(onnx_of_any_size(model, example, step, LONGEST, what=method.name))
    return made


def _channels(method: NetworkMethod) -> int:
    return int(method.networks.settings["channels"])


def _window(model: DeepMedic, tile: int | str) -> int:
    """Side of the one window of DeepMedic."""
    output = TILE[model.dims] if tile == AUTO else max(int(tile) // model.period, 1) * model.period
    return int(model.input_size(output))


def network_by(
    session: Session, arch: str, channels: int, tile: int | str, file: str = "model.onnx"
) -> Any:
    """A network of the registry whose scores a graph of `window_graphs` gives.

    It has random weights, which nobody asks: it tells how windows have to lie. Where it is asked,
    RunError is raised if the graph, whose name is ``file``, fails or gives anything but logits.
    """
    model = build_segmenter(arch, channels, 2, 3).eval()
    fixed = _window(model, tile) if isinstance(model, DeepMedic) else None
    step = 2 ** int(getattr(model, "depth", 0))

    def forward(images: Tensor) -> Tensor:
        seen = images.float()
        size: Sequence[int] = images.shape[2:]
        if fixed is None:
            given = padded(seen, step)
        else:  # valid convolutions: what is behind the end changes nothing before it
            behind = [n for side in reversed(size) for n in (0, fixed - side)]
            given, size = nn.functional.pad(seen, behind), [model.output_size(n) for n in size]
        full = [n if fixed is None else model.output_size(n) for n in given.shape[2:]]
        said = [_logits(session, one.numpy(), (1, 2, *full), file) for one in given.split(1)]
        return cropped(torch.cat(said), size)

    model.forward = forward  # type: ignore[method-assign]
    return model


def _logits(session: Session, window: np.ndarray, form: tuple[int, ...], file: str) -> Tensor:
    """What a graph says of a window.

    Raises
    ------
    RunError
    """
    try:
        found = session([window])
    except MemoryError:
        raise
    except Exception as e:  # engines raise kinds of their own
        raise RunError(
            "The model fails on a window of the volume.",
            where=file,
            found=first_line(e),
            expected=f"a model that takes windows of {_sides(window.shape)}, and room for one",
            fix=f"where {ABOUT} or {file} was changed, {AGAIN}; else free memory",
        ) from None
    if [(a.dtype.kind, a.shape) for a in found] != [("f", form)]:
        raise RunError(
            f"The model does not give what {ABOUT} says.",
            where=file,
            found="outputs: " + ", ".join(f"{a.dtype} {_sides(a.shape)}" for a in found),
            expected=f"logits: float32 {_sides(form)}",
            fix=AGAIN,
        )
    return torch.from_numpy(found[0])


def _sides(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
