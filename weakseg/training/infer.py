"""From a segmentation network and an image to the probability of a lesion at every voxel."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weakseg.config import AUTO
from weakseg.data.geometry import left_right_axis
from weakseg.data.mapped import PIECE, MappedStore
from weakseg.data.patches import grid_starts
from weakseg.memory import give_free_back
from weakseg.models.deepmedic import DeepMedic

TILE = {2: 512, 3: 64}
"""Side of a tile's output where none is set; a 2D image that is smaller is taken whole."""


def usual_tile(dims: int, image_size: int) -> int:
    """Side of a tile's output where none is set; of volumes no size is known."""
    return min(image_size, TILE[2]) if dims == 2 else TILE[3]


ROWS = 32
"""Of logits that become probabilities at once."""

ON_DISK = 2**26
"""Voxels from which on a probability is not kept in a processor's memory while it is made."""


def gaussian_weights(size: Sequence[int], device: Any = None) -> Tensor:
    """Weights of a tile's voxels: a Gaussian of an eighth of each side, at its middle.

    Returns
    -------
    (*size) Tensor
        The highest is 1; none is below 0.001, so that a voxel that only a corner covers counts.
    """
    weights = torch.ones(1, device=device)
    for n in size:
        x = torch.arange(n, device=device) - (n - 1) / 2
        weights = weights[..., None] * torch.exp(-0.5 * (x / max(n / 8, 0.5)) ** 2)
    return weights[0].clamp(min=1e-3)


def lesion_probability(
    model: nn.Module,
    image: Tensor,
    fill: Tensor,
    *,
    tile: int | str = AUTO,
    overlap: float = 0.5,
    flips: str = "none",
) -> Tensor:
    """The probability of a lesion at every voxel of a batch of images.

    Parameters
    ----------
    model : nn.Module
        Of `weakseg.models.segmenters`, in evaluation mode.
    image : (B, C, *size) Tensor
        Of any floating type; a network gets float32.
    fill : (B, C) Tensor
        Intensity outside the images.
    tile : int or "auto"
        Side of a tile's output. DeepMedic takes its dense inference, whose result does not depend
        on it; other networks see a tile and no more, so that tiles overlap.
    overlap : float
        Share of a tile that the next one covers again; where tiles overlap, logits are averaged
        by `gaussian_weights`.
    flips : {"none", "x", "all"}
        Average the probabilities of mirrored images: left–right (the last axis in 2D, the first
        in 3D), or every combination of axes.

    Returns
    -------
    (B, *size) Tensor of float32
    """
    dims, sides = image.ndim - 2, image.shape[2:]
    axes = {"none": [], "x": [left_right_axis(dims)], "all": list(range(dims))}[flips]
    total, let_go = _zeros((image.shape[0], *sides), image.device)
    subsets = [c for r in range(len(axes) + 1) for c in itertools.combinations(axes, r)]
    for subset in subsets:
        at = [a + 2 for a in subset]
        for first, logits in _slabs(model, image.flip(at) if at else image, fill, tile, overlap):
            for x in range(0, logits.shape[2], ROWS):
                p = logits[:, :, x : x + ROWS].float().softmax(1)[:, 1]
                begin = sides[0] - first - x - p.shape[1] if 0 in subset else first + x
                total[:, begin : begin + p.shape[1]] += p.flip([a - 1 for a in at]) if at else p
                del p
            del logits  # of a large volume: while the next slab is made there is no room for it
            let_go()
    return total.div_(len(subsets)) if len(subsets) > 1 else total


def _zeros(shape: Sequence[int], device: Any) -> tuple[Tensor, Callable[[], None]]:
    """Zeros of float32, and what to do whenever some of them have been written.

    Those of a large volume lie in a nameless file of the folder for temporary files where that has
    room: beside them a network needs memory for its activations.
    """
    if torch.device(device).type == "cpu" and math.prod(shape) >= ON_DISK:
        store = MappedStore(Path(tempfile.gettempdir()), 4 * math.prod(shape) + PIECE)
        values = store.zeros(shape, np.float32)
        if values is not None:
            give_free_back()  # what reading the volume has left
            return torch.from_numpy(values), store.let_go
    return torch.zeros(*shape, device=device), lambda: None


def _slabs(
    model: nn.Module, image: Tensor, fill: Tensor, tile: int | str, overlap: float
) -> Iterator[tuple[int, Tensor]]:
    """Logits of slabs that follow each other along the first axis, and where each begins.

    Where tiles overlap, a slab is given as soon as no further tile reaches it, so that the sums of
    a large volume are never held as a whole.
    """
    if isinstance(model, DeepMedic):
        side = None if tile == AUTO else max(int(tile) // model.period, 1) * model.period
        yield from model.dense_slabs(image, side, fill)
        return
    sides = image.shape[2:]
    limit = TILE[len(sides)] if tile == AUTO else int(tile)
    output = [_output_side(model, min(limit, n) if n > limit else n) for n in sides]
    starts = grid_starts(sides, output, overlap)
    if len(starts) == 1:
        yield 0, _tile(model, image, fill, starts[0], output)
        return
    weights = gaussian_weights(output, image.device)
    groups = [list(g) for _, g in itertools.groupby(starts, key=lambda s: s[0])]
    begins = [max(g[0][0], 0) for g in groups]
    ends = [*begins[1:], sides[0]]
    total: Tensor | None = None
    weight = torch.zeros(0, *sides[1:], device=image.device)
    for group, begin, following in zip(groups, begins, ends, strict=True):
        end = min(group[0][0] + output[0], sides[0])
        weight = _longer(weight, 0, end - begin)
        for start in group:
            inside, kept = _overlap(start, output, sides)
            out = _tile(model, image, fill, start, output).float()
            if total is None:
                total = out.new_zeros(*out.shape[:2], end - begin, *sides[1:])
            total = _longer(total, 2, end - begin)
            here = (slice(inside[0].start - begin, inside[0].stop - begin), *inside[1:])
            total[(slice(None), slice(None), *here)] += out * weights[kept]
            weight[here] += weights[kept]
        assert total is not None
        done = following - begin
        yield begin, total[:, :, :done].div_(weight[:done])
        total, weight = total[:, :, done:].clone(), weight[done:].clone()


def _longer(held: Tensor, axis: int, length: int) -> Tensor:
    """A tensor with zeros behind its end along an axis, so that it has a length."""
    if length <= held.shape[axis]:
        return held
    longer = held.new_zeros([*held.shape[:axis], length, *held.shape[axis + 1 :]])
    longer.narrow(axis, 0, held.shape[axis]).copy_(held)
    return longer


def _overlap(
    first: Sequence[int], block: Sequence[int], sides: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where a block lies in an image, and which part of the block that is."""
    image, inner = [], []
    for f, b, n in zip(first, block, sides, strict=True):
        image.append(slice(max(f, 0), min(f + b, n)))
        inner.append(slice(max(-f, 0), min(b, n - f)))
    return tuple(image), tuple(inner)


def _output_side(model: Any, wanted: int) -> int:
    return int(model.output_size(model.input_size(wanted)))


def _tile(
    model: Any, image: Tensor, fill: Tensor, start: Sequence[int], output: Sequence[int]
) -> Tensor:
    """Logits of the part of a tile that lies in the image."""
    sides, before = image.shape[2:], model.margin[0]
    window = [model.input_size(o) for o in output]
    first = [s - before for s in start]
    if all(f == 0 and w == n for f, w, n in zip(first, window, sides, strict=True)):
        cut = image.float()
    else:
        source, target = _overlap(first, window, sides)
        outside = fill.to(image.device, torch.float32)[(..., *[None] * len(sides))]
        cut = outside.expand(-1, -1, *window).clone()
        cut[(slice(None), slice(None), *target)] = image[(slice(None), slice(None), *source)]
    _, kept = _overlap(start, output, sides)
    return model(cut)[(slice(None), slice(None), *kept)]


def whole_window(model: Any, sides: Sequence[int]) -> list[int]:
    """Sides of the input of which a network gives the scores of a whole image at once."""
    return [int(model.input_size(o)) for o in _whole_output(model, sides)]


def whole_logits(model: Any, image: Tensor, fill: Tensor) -> Tensor:
    """Logits (B, K, *size) of whole images, by one pass and with its graph, whatever their size."""
    output = _whole_output(model, image.shape[2:])
    return _tile(model, image, fill, [0] * (image.ndim - 2), output)


def _whole_output(model: Any, sides: Sequence[int]) -> list[int]:
    step = model.period if isinstance(model, DeepMedic) else 1
    return [_output_side(model, -(-n // step) * step) for n in sides]


def as_batch(arrays: Sequence[np.ndarray], device: Any) -> Tensor:
    """Arrays of one shape as a batch of float32 on a device."""
    stacked = torch.from_numpy(np.stack([a.astype(np.float32, copy=False) for a in arrays]))
    return stacked.to(device)
