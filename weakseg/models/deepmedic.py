"""DeepMedic, in two and three dimensions, as it was published and as it was released.

Parallel pathways of eight valid convolutions look at the same place at several resolutions; their
features are joined and classified voxel by voxel. Everything runs on *segments*: a segment larger
than the receptive field gives many neighbouring voxels at shared cost.

**Geometry.** The pathways give a block of m voxels an axis (`path output`). The normal pathway
reads m + 16. A pathway of factor f groups the m voxels, from the first, into blocks of f (the last
may be cut), picks one voxel a block, and 8 blocks more on either side; its output, one value a
block, is repeated f times and cropped to m. The grid of picked voxels is thus anchored to the
segment, not to the image: a segment that starts one voxel further picks other voxels. Whole-image
inference is therefore defined as *patch by patch*: patches whose output starts at a multiple of
`DeepMedic.period` (the least common multiple of the factors) from the image's first voxel. All of
them pick from one grid, so that the size of the patches does not matter.

References
----------
Kamnitsas et al., "Efficient multi-scale 3D CNN with fully connected CRF for accurate brain lesion
segmentation", Medical Image Analysis 36 (2017). Kamnitsas et al., "DeepMedic for brain tumor
segmentation", BrainLes 2016 (the residual form). Released software, versions 0.6.1 and 0.8.4.

One room for one network: its geometry, its pathways and its variants explain each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weakseg.errors import ConfigError, did_you_mean

PATH_WIDTHS = (30, 30, 40, 40, 40, 40, 50, 50)
"""Feature maps of the eight convolutions of a pathway."""

_REACH = len(PATH_WIDTHS)  # voxels that eight convolutions of 3 lose on each side

TILE = {2: 150, 3: 30}
"""Side of a tile's output where none is set (in 3D near the released code's 29)."""

_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}
# The released code averages the statistics of the last 60 batches; an exponential average of the
# same mean age has this momentum.
_MOMENTUM = 2 / 61


@dataclass(frozen=True)
class Variant:
    """One of the networks that bear the name.

    Attributes
    ----------
    factors : tuple of int
        Subsampling of the pathways, the normal one (1) first.
    picks : {"centre", "first"}
        Which voxel of a block of output voxels its low-resolution field is centred on. The
        article centres the pathways on each other. The released code counts back from the start
        of the segment by whole receptive fields, which puts the field one voxel (f = 3) earlier:
        on the first voxel of the block.
    residual : tuple of int
        Layers of a pathway, counted from 1, whose output gets the input of the layer before.
    hidden : tuple of int
        Feature maps of the joined layers.
    kernel : {1, 3}
        Of the first joined layer.
    mirror : bool
        Pad that layer by mirroring, so that it loses no voxels.
    joined_residual : tuple of int
        As `residual`, for the joined layers.
    segment : int
        Side of the normal pathway's training input.
    """

    factors: tuple[int, ...]
    picks: str
    residual: tuple[int, ...]
    hidden: tuple[int, ...]
    kernel: int
    mirror: bool
    joined_residual: tuple[int, ...]
    segment: int


VARIANTS: dict[str, Variant] = {
    "paper": Variant((1, 3), "centre", (), (150, 150), 1, False, (), 25),
    "release": Variant((1, 3), "first", (4, 6, 8), (150, 150), 3, False, (2,), 25),
    "latest": Variant((1, 3, 5), "first", (4, 6, 8), (250, 250), 3, True, (2,), 37),
}
"""``paper``: the article. ``release``: 0.6.1 with residuals. ``latest``: 0.8.4."""


class _InputBias(nn.Module):
    """A bias on each channel of the raw image, where other layers have batch normalisation."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, *[1] * dims))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class _Block(nn.Module):
    """Batch normalisation, PReLU, dropout, convolution without bias, in this order."""

    def __init__(
        self,
        channels: int,
        out: int,
        dims: int,
        *,
        kernel: int = 3,
        dropout: float = 0.0,
        first: bool = False,
        mirror: bool = False,
    ) -> None:
        super().__init__()
        self.before = (
            _InputBias(channels, dims)
            if first
            else nn.Sequential(
                _NORM[dims](channels, momentum=_MOMENTUM), nn.PReLU(channels, init=0.01)
            )
        )
        # Inverted dropout: the released code scales at inference instead, the same in expectation.
        self.dropout = nn.Dropout(dropout)
        self.conv = _CONV[dims](channels, out, kernel, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_in", nonlinearity="relu")
        self.mirror = [kernel // 2] * (2 * dims) if mirror else []

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.before(x))
        if self.mirror:
            # The released code mirrors about the edge of the image, edge voxel included; for one
            # voxel that is replication.
            x = F.pad(x, self.mirror, mode="replicate")
        return self.conv(x)


def _add_earlier(earlier: Tensor, out: Tensor) -> Tensor:
    """Residual connection without weights: centre crop, and zeros for channels that lack."""
    starts = [(e - o) // 2 for e, o in zip(earlier.shape[2:], out.shape[2:], strict=True)]
    crop = [slice(s, s + o) for s, o in zip(starts, out.shape[2:], strict=True)]
    cropped = earlier[(slice(None), slice(None), *crop)]
    lacking = out.shape[1] - earlier.shape[1]
    return out + F.pad(cropped, [0, 0] * len(crop) + [0, lacking])


def _run(blocks: nn.ModuleList, residual: tuple[int, ...], x: Tensor) -> Tensor:
    earlier = x
    for number, block in enumerate(blocks, start=1):
        out = block(x)
        if number in residual:
            out = _add_earlier(earlier, out)
        earlier, x = x, out
    return x


class Pathway(nn.Module):
    """Eight valid convolutions over every ``factor``-th voxel.

    Parameters
    ----------
    channels : int
    dims : {2, 3}
    factor : int
        Odd subsampling factor; 1 for the normal pathway.
    pick : int
        Which voxel of a block is picked, 0 to ``factor`` - 1.
    residual : tuple of int
    """

    def __init__(
        self, channels: int, dims: int, factor: int, pick: int, residual: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.factor, self.pick, self.residual = factor, pick, residual
        widths = (channels, *PATH_WIDTHS)
        self.blocks = nn.ModuleList(
            _Block(a, b, dims, first=i == 0) for i, (a, b) in enumerate(itertools.pairwise(widths))
        )

    @property
    def reach(self) -> tuple[int, int]:
        """Voxels read before and after the path output when it is cut to one voxel of a block."""
        return _REACH * self.factor - self.pick, _REACH * self.factor + self.pick

    def forward(self, segment: Tensor, before: int, size: Sequence[int]) -> Tensor:
        """Features (B, 50, *size) of a segment whose path output starts at ``before``."""
        f, first = self.factor, before - self.reach[0]
        counts = [-(-m // f) + 2 * _REACH for m in size]
        grid = [slice(first, first + (n - 1) * f + 1, f) for n in counts]
        x = _run(self.blocks, self.residual, segment[(slice(None), slice(None), *grid)])
        if f == 1:
            return x
        x = F.interpolate(x, scale_factor=f, mode="nearest")
        return x[(slice(None), slice(None), *[slice(0, m) for m in size])]


class DeepMedic(nn.Module):
    """The network.

    Parameters
    ----------
    in_channels : int
        Images (modalities) a voxel.
    classes : int
        Background included.
    dims : {2, 3}, optional
    variant : {"paper", "release", "latest"}, optional
        See `VARIANTS`.

    Attributes
    ----------
    margin : tuple of int
        Voxels of context that a segment carries before and after its output, on every axis.
    period : int
        Outputs that start at multiples of it share one grid of picked voxels.

    Raises
    ------
    ConfigError
        For an unknown variant or number of dimensions.

    Notes
    -----
    Images are expected z-scored inside the region of interest; voxels outside the image hold the
    border intensity (`border_intensity`). Departure from the released code: batch normalisation
    averages its statistics exponentially, with PyTorch's epsilon.
    """

    def __init__(
        self, in_channels: int, classes: int, dims: int = 2, variant: str = "paper"
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ConfigError(
                f"DeepMedic has no variant {variant!r}.", fix=did_you_mean(variant, VARIANTS)
            )
        if dims not in _CONV:
            raise ConfigError(
                "DeepMedic takes images of 2 or 3 dimensions.", found=str(dims), expected="2 or 3"
            )
        v = self.variant = VARIANTS[variant]
        self.dims, self.classes = dims, classes
        self.paths = nn.ModuleList(
            Pathway(in_channels, dims, f, f // 2 if v.picks == "centre" else 0, v.residual)
            for f in v.factors
        )
        widths = (len(v.factors) * PATH_WIDTHS[-1], *v.hidden, classes)
        self.joined = nn.ModuleList(
            _Block(
                a,
                b,
                dims,
                kernel=v.kernel if i == 0 else 1,
                dropout=0.5 if i > 0 else 0.0,
                mirror=v.mirror and i == 0,
            )
            for i, (a, b) in enumerate(itertools.pairwise(widths))
        )
        self.bias = nn.Parameter(torch.zeros(1, classes, *[1] * dims))
        self.period = math.lcm(*v.factors)
        reaches = [p.reach for p in self.paths if isinstance(p, Pathway)]
        self._before = max(b for b, _ in reaches)
        self._path_margin = self._before + max(a for _, a in reaches)
        self._lost = 0 if v.mirror else v.kernel // 2
        self.margin = (
            self._before + self._lost,
            self._path_margin - self._before + self._lost,
        )

    @property
    def training_output(self) -> int:
        """Side of the output of a training segment: 9, 7 or 21 voxels."""
        return self.variant.segment - 2 * _REACH - 2 * self._lost

    def input_size(self, output: int) -> int:
        """Side of the segment, context of all pathways included, for a side of the output."""
        return output + sum(self.margin)

    def output_size(self, segment: int) -> int:
        """Side of the output of a segment.

        Raises
        ------
        ConfigError
            If the segment is no larger than its margin.
        """
        if segment <= sum(self.margin):
            raise ConfigError(
                "The segment is smaller than DeepMedic's receptive field.",
                found=f"{segment} voxels",
                expected=f"at least {sum(self.margin) + 1}",
            )
        return segment - sum(self.margin)

    def forward(self, segment: Tensor) -> Tensor:
        """Class scores of the middle of a segment.

        Parameters
        ----------
        segment : (B, C, *size) Tensor
            Normal resolution, `margin` included, so that every pathway finds its input in it.

        Returns
        -------
        (B, K, *output) Tensor
            Logits of the voxels from ``margin[0]`` to ``size - margin[1]`` on each axis.
        """
        for side in segment.shape[2:]:
            self.output_size(side)
        size = [side - self._path_margin for side in segment.shape[2:]]
        x = torch.cat([path(segment, self._before, size) for path in self.paths], dim=1)
        return _run(self.joined, self.variant.joined_residual, x) + self.bias

    @torch.no_grad()
    def dense(
        self, image: Tensor, tile: int | None = None, fill: Tensor | float | None = None
    ) -> Tensor:
        """Class scores of every voxel of whole images, in tiles.

        The result does not depend on the tile (but for rounding), except for ``latest``, whose
        mirrored layer sees the border of each tile, as in the released code.

        Parameters
        ----------
        image : (B, C, *size) Tensor
        tile : int, optional
            Side of a tile's output, a multiple of `period`; by default `TILE`. Memory grows with
            it, not with the image.
        fill : float or (B, C) Tensor, optional
            Intensity outside the image, by default `border_intensity`.

        Returns
        -------
        (B, K, *size) Tensor

        Raises
        ------
        ValueError
            In training mode: a tile would be normalised by its own statistics.
        ConfigError
            If the tile is no multiple of the period.
        """
        return torch.cat([logits for _, logits in self.dense_slabs(image, tile, fill)], dim=2)

    def dense_slabs(
        self, image: Tensor, tile: int | None = None, fill: Tensor | float | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """As `dense`, slab by slab along the first axis, as all scores of a volume take memory.

        Yields
        ------
        first : int
            Where the slab begins.
        logits : (B, K, d, *rest) Tensor
        """
        if self.training:
            raise ValueError("dense inference needs the network in evaluation mode: call eval()")
        tile = tile or TILE[self.dims]
        if tile % self.period:
            raise ConfigError(
                "Tiles must keep the phase of the low-resolution grid.",
                found=f"a tile of {tile}",
                expected=f"a multiple of {self.period}",
            )
        sides = image.shape[2:]
        fill = border_intensity(image) if fill is None else fill
        starts = [range(0, n, tile) for n in sides]
        for first in starts[0]:
            deep = min(tile, sides[0] - first)
            # Of the images so many rows as its context needs, halves in single precision.
            before = min(first, self.margin[0])
            rows = self.input_size(-(-deep // self.period) * self.period)
            near = image[:, :, first - before : first - self.margin[0] + rows]
            near = near.float() if near.dtype == torch.float16 else near
            canvas = self._context(near, fill, self.margin[0] - before, rows)
            logits = canvas.new_empty(image.shape[0], self.classes, deep, *sides[1:])
            for corner in itertools.product(*starts[1:]):
                size = [
                    min(tile, -(-(n - c) // self.period) * self.period)
                    for c, n in zip(corner, sides[1:], strict=True)
                ]
                cut = [slice(c, c + self.input_size(s)) for c, s in zip(corner, size, strict=True)]
                out = self(canvas[(slice(None), slice(None), slice(None), *cut)])
                to = [
                    slice(c, min(c + s, n)) for c, s, n in zip(corner, size, sides[1:], strict=True)
                ]
                inside = [slice(0, t.stop - t.start) for t in to]
                logits[(slice(None), slice(None), slice(None), *to)] = out[
                    (slice(None), slice(None), slice(0, deep), *inside)
                ]
            yield first, logits

    def _context(self, rows: Tensor, fill: Tensor | float, before: int, count: int) -> Tensor:
        """Some rows of images with the context that `padded` puts around them."""
        fill = torch.as_tensor(fill, dtype=rows.dtype, device=rows.device)
        fill = fill.expand(rows.shape[:2]).reshape(*rows.shape[:2], *[1] * self.dims)
        sides = [-(-n // self.period) * self.period + sum(self.margin) for n in rows.shape[3:]]
        canvas = fill.expand(*rows.shape[:2], count, *sides).clone()
        at = [slice(self.margin[0], self.margin[0] + n) for n in rows.shape[3:]]
        canvas[(slice(None), slice(None), slice(before, before + rows.shape[2]), *at)] = rows
        return canvas

    def padded(self, image: Tensor, fill: Tensor | float | None = None) -> Tensor:
        """Images with the context of their outermost voxels around them.

        Returns
        -------
        (B, C, *padded) Tensor
            ``margin[0]`` voxels before; after, ``margin[1]`` and what is lacking to a multiple of
            `period`. The segment for an output that starts at voxel v starts here at v.
        """
        if fill is None:
            fill = border_intensity(image)
        fill = torch.as_tensor(fill, dtype=image.dtype, device=image.device)
        fill = fill.expand(image.shape[:2]).reshape(*image.shape[:2], *[1] * self.dims)
        sides = [-(-n // self.period) * self.period + sum(self.margin) for n in image.shape[2:]]
        canvas = fill.expand(*image.shape[:2], *sides).clone()
        at = [slice(self.margin[0], self.margin[0] + n) for n in image.shape[2:]]
        canvas[(slice(None), slice(None), *at)] = image
        return canvas


def border_intensity(image: Tensor) -> Tensor:
    """Intensity for voxels outside an image: the mean of its corners.

    Parameters
    ----------
    image : (B, C, *size) Tensor

    Returns
    -------
    (B, C) Tensor
    """
    corners = image
    for axis in range(2, image.ndim):
        ends = torch.tensor([0, image.shape[axis] - 1], device=image.device)
        corners = corners.index_select(axis, ends)
    return corners.flatten(2).mean(2)
