"""Self-attention between the places of a map: between all of them, or within windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weakseg.models.blocks import CONV
from weakseg.models.tracing import one_operation
from weakseg.models.whole_image import resized


class SelfAttention(nn.Module):
    """Multi-head self-attention of rows of tokens.

    Parameters
    ----------
    channels : int
    heads : int
    widen : int, optional
        How many times wider than the tokens their queries, keys and values are.
    """

    def __init__(self, channels: int, heads: int, widen: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.ask = nn.Linear(channels, 3 * widen * channels)
        self.answer = nn.Linear(widen * channels, channels)

    def forward(self, tokens: Tensor, known: Tensor | None = None) -> Tensor:
        """(N, T, C) to the same shape; ``known`` (N, T) of bool tells which are looked at."""
        split = self.ask(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = split.unbind(0)
        mask = None if known is None else known[:, None, None, :]
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.answer(seen.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """A layer of a vision transformer: attention, then two linear layers, each added to its input.

    Parameters
    ----------
    channels, heads, widen
        See `SelfAttention`.
    hidden : int
        Of the linear layers.

    References
    ----------
    Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021.
    """

    def __init__(self, channels: int, heads: int, hidden: int, widen: int = 1) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attention = SelfAttention(channels, heads, widen)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )

    def forward(self, tokens: Tensor, known: Tensor | None = None) -> Tensor:
        """(N, T, C) to the same shape."""
        tokens = tokens + self.attention(self.norm1(tokens), known)
        return tokens + self.mlp(self.norm2(tokens))


@one_operation
def windowed(x: Tensor, block: TransformerBlock, window: int, shift: int) -> Tensor:
    """Let a block see the places of every window for themselves.

    Parameters
    ----------
    x : (B, C, *size) Tensor
    block : TransformerBlock
    window : int
        Side of a window in places.
    shift : int
        Places by which the grid of windows lies before the first place. What the outer windows
        cover beyond the map is looked at by nobody.

    Returns
    -------
    (B, C, *size) Tensor
    """
    size = x.shape[2:]
    pads = [(shift, -(n + shift) % window) for n in size]
    flat = [p for pair in reversed(pads) for p in pair]
    known = F.pad(x.new_ones(1, 1, *size), flat)
    tokens = _windows(F.pad(x, flat), window)
    inside = _windows(known, window)[..., 0].bool().repeat(x.shape[0], 1)
    seen = block(tokens, None if not any(flat) else inside)
    full = [n + before + after for n, (before, after) in zip(size, pads, strict=True)]
    made = _joined(seen, x.shape[0], full, window)
    return made[(slice(None), slice(None), *(slice(shift, shift + n) for n in size))]


def _windows(x: Tensor, window: int) -> Tensor:
    """(B, C, *size) to (B · windows, places of one, C)."""
    dims = x.ndim - 2
    parts = [p for n in x.shape[2:] for p in (n // window, window)]
    cut = x.reshape(*x.shape[:2], *parts)
    grid, inner = range(2, 2 + 2 * dims, 2), range(3, 3 + 2 * dims, 2)
    return cut.permute(0, *grid, *inner, 1).reshape(-1, window**dims, x.shape[1])


def _joined(tokens: Tensor, batch: int, size: Sequence[int], window: int) -> Tensor:
    """The inverse of `_windows`."""
    dims = len(size)
    counts = [n // window for n in size]
    cut = tokens.reshape(batch, *counts, *[window] * dims, tokens.shape[-1])
    pairs = [a for d in range(dims) for a in (1 + d, 1 + dims + d)]
    return cut.permute(0, 1 + 2 * dims, *pairs).reshape(batch, tokens.shape[-1], *size)


class WindowAttention(nn.Module):
    """Two transformer blocks over windows, the second's shifted by half a window.

    Where a place lies is told by a depthwise 3-convolution that is added before each block
    (conditional positional encoding, Chu et al., ICLR 2023), so that any size of image is taken.

    Parameters
    ----------
    channels, heads, hidden, widen
        See `TransformerBlock`.
    dims : {2, 3}
    window : int
    """

    def __init__(
        self, channels: int, heads: int, hidden: int, widen: int, dims: int, window: int
    ) -> None:
        super().__init__()
        self.window = window
        self.where = nn.ModuleList(
            CONV[dims](channels, channels, 3, padding=1, groups=channels) for _ in range(2)
        )
        self.blocks = nn.ModuleList(
            TransformerBlock(channels, heads, hidden, widen) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *size) to the same shape."""
        for i, (where, block) in enumerate(zip(self.where, self.blocks, strict=True)):
            assert isinstance(block, TransformerBlock)
            x = windowed(x + where(x), block, self.window, i * (self.window // 2))
        return x


class EveryPlace(nn.Module):
    """A vision transformer over all places of a map.

    Parameters
    ----------
    channels : int
        Of the map.
    width : int
        Of the tokens.
    layers, heads, hidden : int
        Of the transformer.
    grid : int, optional
        Side of the grid of places whose position is learnt; to other maps it is interpolated.
    """

    def __init__(
        self, channels: int, width: int, layers: int, heads: int, hidden: int, grid: int = 14
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, 1)
        self.position = nn.Parameter(torch.zeros(1, width, grid, grid))
        self.layers = nn.ModuleList(TransformerBlock(width, heads, hidden) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, width, h, w)."""
        size = x.shape[2:]
        tokens = (self.embed(x) + resized(self.position, size)).flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens).transpose(1, 2).unflatten(2, tuple(size))
