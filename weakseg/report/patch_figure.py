"""The figure of docs/patches.md: training patches of the networks, and what their voxels see.

``python -m weakseg.report.patch_figure docs/patches.svg`` draws it. All numbers are computed from
the networks.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch, Rectangle

from weakseg.models.receptive_field import receptive_field
from weakseg.models.segmenters import SEGMENTERS, Segmenter, build_segmenter
from weakseg.models.tracing import Linearised
from weakseg.report.figures import INK, SERIES, STYLE, as_svg
from weakseg.runs import write_text

NETWORKS = {
    "fcn8s": "FCN-8s on VGG-16",
    "unet": "U-Net, same convolutions",
    "unet-original": "U-Net, valid convolutions",
    "deepmedic": "DeepMedic, valid convolutions",
}
"""Name in the registry → title; all in two dimensions."""

LARGEST = 600
"""Side of the largest input window in the lower panel."""

_MIDDLE, _CORNER = SERIES[0], SERIES[4]
_OUTPUT = SERIES[2]
_GREY = "#7b7b7b"  # 4 to 1 and more against white and against GitHub's dark page


@dataclass(frozen=True)
class PatchGeometry:
    """A training patch and what two of its output voxels see, along one axis, in input voxels.

    Attributes
    ----------
    window, output, before : int
        Sides of the input and of the output, and where in the window the output begins.
    field : int
        Receptive field of any output, see `weakseg.models.receptive_field`.
    middle, corner : tuple of int
        First and last voxel that the output's middle voxel and its first voxel see, counted from
        the window's first; below 0 lies padding.
    """

    window: int
    output: int
    before: int
    field: int
    middle: tuple[int, int]
    corner: tuple[int, int]


def patch_geometry(name: str) -> PatchGeometry:
    """The training patch of a two-dimensional network of `SEGMENTERS`."""
    net, patch = build_segmenter(name, 1, 2), SEGMENTERS[name].patch[2]
    window = net.input_size(patch)
    output = net.output_size(window)
    middle, corner = seen_by(net, output, (output // 2, 0))
    size = receptive_field(net, (1, 1, window, window)).size[0]
    return PatchGeometry(window, output, net.margin[0], size, middle, corner)


def seen_by(net: Segmenter, output: int, voxels: Sequence[int]) -> list[tuple[int, int]]:
    """First and last input voxel, along an axis, that each of some output voxels depends on.

    Parameters
    ----------
    net : Segmenter
        Two-dimensional, of one channel.
    output : int
        Side of the patch's output.
    voxels : sequence of int
        Indices in it.

    Returns
    -------
    list of tuple of int
        Counted from the first voxel of the patch's window. Where a network pads, what an output
        would see of a larger image: ends below 0 or beyond the window are padding.
    """
    field = receptive_field(net, (1, 1, *[net.input_size(output)] * 2))
    # A network that pads is measured on a patch that reaches further on both sides, by a multiple
    # of its deepest stride: then the same voxel sees the same, and no border cuts it.
    step = field.deepest_stride
    shift = 0 if sum(net.margin) else math.ceil(field.size[0] / step) * step
    side, narrow = net.input_size(output + 2 * shift), net.input_size(step)
    image = torch.ones(1, 1, side, narrow, dtype=torch.float64, requires_grad=True)
    net.eval()
    with Linearised():
        scores = net(image)[0].sum(0)
    windows = []
    for voxel in voxels:
        (gradient,) = torch.autograd.grad(scores[voxel + shift].sum(), image, retain_graph=True)
        rows = gradient[0, 0].sum(1).nonzero().flatten()
        windows.append((int(rows.min()) - shift, int(rows.max()) - shift))
    return windows


def output_per_input(net: Segmenter, largest: int) -> tuple[list[int], list[float]]:
    """Sides of the windows that a network takes, and output voxels for each of their voxels."""
    sides, shares, wanted = [], [], 1
    while (side := net.input_size(wanted)) <= largest:
        output = net.output_size(side)
        sides.append(side)
        shares.append((output / side) ** 2)
        wanted = output + 1
    return sides, shares


def patch_figure() -> str:
    """The figure as an ``<svg>`` element, see `weakseg.report.figures`."""
    geometries = {name: patch_geometry(name) for name in NETWORKS}
    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=(9.6, 6.0), layout="constrained")
        parts: Any = fig.subfigures(2, 1, height_ratios=(1.12, 1))
        upper, lower = parts
        for ax, (name, geometry) in zip(
            upper.subplots(1, len(geometries)), geometries.items(), strict=True
        ):
            _patch_panel(ax, NETWORKS[name], geometry)
        legend(upper)
        _share_panel(lower.subplots(), geometries)
        lower.legend(loc="outside lower center", ncols=4, fontsize=8.5)
        return as_svg(fig, "patches")


def _patch_panel(ax: Axes, title: str, g: PatchGeometry) -> None:
    def box(first: float, side: float, **how: Any) -> None:
        ax.add_patch(Rectangle((first - 0.5, first - 0.5), side, side, **how))

    box(0, g.window, facecolor=INK, alpha=0.13, linewidth=0)
    box(0, g.window, fill=False, edgecolor=INK, linewidth=0.9)
    box(g.before, g.output, facecolor=_OUTPUT, alpha=0.3, linewidth=0)
    box(g.before, g.output, fill=False, edgecolor=_OUTPUT, linewidth=1.2)
    voxels = ((g.corner, g.before, _CORNER), (g.middle, g.before + g.output // 2, _MIDDLE))
    for (first, last), voxel, colour in voxels:
        box(first, last - first + 1, fill=False, edgecolor=colour, linewidth=1.3, linestyle="--")
        ax.plot(voxel, voxel, "s", markersize=4.5, color=colour, markeredgewidth=0)
    low = min(0, g.corner[0], g.middle[0])
    high = max(g.window - 1, g.middle[1])
    edge = 0.03 * (high - low)
    ax.set_xlim(low - edge, high + edge)
    ax.set_ylim(high + edge, low - edge)
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.set_title(f"{title}\n{g.window}² in, {g.output}² out; field {g.field}²", fontsize=9)


def legend(fig: SubFigure) -> None:
    shown = [
        Patch(facecolor=INK, alpha=0.13, label="input window"),
        Patch(facecolor=_OUTPUT, alpha=0.45, label="output"),
        Patch(fill=False, edgecolor=_MIDDLE, ls="--", label="what its middle voxel sees"),
        Patch(
            fill=False,
            edgecolor=_CORNER,
            ls="--",
            label="what its corner voxel sees; outside the window that is padding",
        ),
    ]
    fig.legend(handles=shown, loc="outside lower center", ncols=4, fontsize=8.5)


def _share_panel(ax: Axes, found: dict[str, PatchGeometry]) -> None:
    styles = {"fcn8s": (SERIES[5], "-"), "unet": (SERIES[1], (0, (4, 4)))}
    colours = iter((SERIES[0], SERIES[3]))
    for name, g in found.items():
        # The geometry of a network, not its weights: on "meta" they take no time.
        with torch.device("meta"):
            sides, shares = output_per_input(build_segmenter(name, 1, 2), LARGEST)
        colour, line = styles.get(name) or (next(colours), "-")
        ax.plot(sides, shares, color=colour, linestyle=line, linewidth=1.6, label=NETWORKS[name])
        ax.plot(g.window, (g.output / g.window) ** 2, "o", color=colour, markersize=5.5)
    ax.set_xlim(0, LARGEST)
    ax.set_ylim(0, 1.06)
    ax.set_xlabel("side of the input window in voxels (dots: the patches above)")
    ax.set_ylabel("output voxels per input voxel")
    ax.grid()


def standalone(svg: str) -> str:
    """The element as a file of its own, its ink a grey that can be read on white and on black."""
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    drawn_by = f"matplotlib {matplotlib.__version__}"
    head = f'<svg {spaces} color="{_GREY}" data-drawn-by="{drawn_by}"'
    lines = svg.replace("<svg", head, 1).splitlines()
    return "\n".join(line.rstrip() for line in lines if line.strip()) + "\n"


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), standalone(patch_figure()))
