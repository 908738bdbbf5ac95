"""UNet++: U-Nets of all depths, nested in each other, on one contracting path.

References
----------
Zhou, Siddiquee, Tajbakhsh, Liang, "UNet++: redesigning skip connections to exploit multiscale
features in image segmentation", IEEE TMI 2020 (arXiv 1912.05074), and DLMIA 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce

import torch
from torch import Tensor, nn

from weakseg.errors import ConfigError
from weakseg.models.blocks import CONV, POOL, UP, AttentionGate, double, start_for_relu
from weakseg.models.whole_image import Outputs, WholeImage, cropped, padded

WIDTHS = (32, 64, 128, 256, 512)
"""Maps of the levels, as published."""


class Nested(nn.Module):
    """The nodes of the network, without heads.

    Node (i, j) is on level i, of a 2**i-th of the size. (i, 0) is the contracting path; (i, j)
    convolves everything on its level before it and the raised (i + 1, j - 1).

    Parameters
    ----------
    in_channels : int
    dims : {2, 3}
    widths : sequence of int
        Maps a level.
    batch_norm : bool, optional
    attention : bool, optional
        Whether what lies before a node on its level passes a gate that the raised node opens, each
        its own (ANU-Net).
    finest : int, optional
        No node behind the contracting path is finer than this level.
    """

    def __init__(
        self,
        in_channels: int,
        dims: int,
        widths: Sequence[int] = WIDTHS,
        *,
        batch_norm: bool = True,
        attention: bool = False,
        finest: int = 0,
    ) -> None:
        super().__init__()
        self.depth, self.finest = len(widths) - 1, finest
        self.pool = POOL[dims](2)
        self.down = nn.ModuleList(
            double(a, b, dims, batch_norm=batch_norm)
            for a, b in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.up, self.merge, self.gates = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for i, j in self._nodes(self.depth):
            w = widths[i]
            self.up[f"{i}_{j}"] = UP[dims](widths[i + 1], w, 2, stride=2)
            self.merge[f"{i}_{j}"] = double(w * (j + 1), w, dims, batch_norm=batch_norm)
            if attention:
                gates = (AttentionGate(w, w, max(1, w // 2), dims) for _ in range(j))
                self.gates[f"{i}_{j}"] = nn.ModuleList(gates)
        start_for_relu(self)

    def _nodes(self, depth: int) -> list[tuple[int, int]]:
        """Those behind the contracting path, in an order in which they can be made."""
        every = [(d - j, j) for d in range(1, depth + 1) for j in range(1, d + 1)]
        return [(i, j) for i, j in every if i >= self.finest]

    def forward(self, x: Tensor, depth: int | None = None) -> dict[tuple[int, int], Tensor]:
        """The nodes.

        Parameters
        ----------
        x : (B, C, *size) Tensor
            Sides are whole multiples of 2**depth.
        depth : int, optional
            Of the contracting path; what only deeper nested U-Nets have is left out.
        """
        depth = self.depth if depth is None else depth
        made: dict[tuple[int, int], Tensor] = {}
        for i in range(depth + 1):
            x = self.down[i](x if i == 0 else self.pool(x))
            made[i, 0] = x
        for i, j in self._nodes(depth):
            raised = self.up[f"{i}_{j}"](made[i + 1, j - 1])
            before = [made[i, k] for k in range(j)]
            if self.gates:
                gates = self.gates[f"{i}_{j}"]
                assert isinstance(gates, nn.ModuleList)
                before = [g(b, raised) for g, b in zip(gates, before, strict=True)]
            made[i, j] = self.merge[f"{i}_{j}"](torch.cat([*before, raised], dim=1))
        return made


def mean_scores(scores: Sequence[Tensor]) -> Tensor:
    """Logits of the mean of several heads' probabilities."""
    if len(scores) == 1:
        return scores[0]
    return reduce(torch.logaddexp, [s.log_softmax(1) for s in scores])


class UNetPlusPlus(WholeImage):
    """The network, with a head on the finest node of every nested U-Net (deep supervision).

    Parameters
    ----------
    in_channels : int
    classes : int
        Background included.
    dims : {2, 3}, optional
    widths : sequence of int, optional
        Maps a level.
    batch_norm : bool, optional
        A departure from the article's, which has none.

    Attributes
    ----------
    prune : int or None
        At inference, the depth of the nested U-Net whose head alone is asked, and below which
        nothing is computed (the article's UNet++ L1 to L4). None: the mean of the probabilities by
        all heads (its accurate mode).
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        dims: int = 2,
        *,
        widths: Sequence[int] = WIDTHS,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.nested = Nested(in_channels, dims, widths, batch_norm=batch_norm)
        self.depth = self.nested.depth
        self.heads = nn.ModuleList(CONV[dims](widths[0], classes, 1) for _ in range(self.depth))
        self.prune: int | None = None

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """Logits (B, K, *size) of images (B, C, *size); in training those of all heads."""
        size = x.shape[2:]
        depth = self.depth if self.training or self.prune is None else self.prune
        nodes = self.nested(padded(x, 2**self.depth), depth)
        scores = [
            cropped(head(nodes[0, j + 1]), size) for j, head in enumerate(self.heads) if j < depth
        ]
        if self.training:
            return Outputs(scores[-1], tuple(scores[:-1]))
        return mean_scores(scores if self.prune is None else scores[-1:])


@contextmanager
def pruned(net: nn.Module, depth: int | None) -> Iterator[None]:
    """Ask one nested U-Net of a network alone, for a while.

    Parameters
    ----------
    net : nn.Module
    depth : int or None
        None: as the network is.

    Raises
    ------
    ConfigError
        If the network has no nested U-Net of that depth.
    """
    if depth is None:
        yield
        return
    nested = int(getattr(net, "depth", 0)) if hasattr(net, "prune") else 0
    if not 1 <= depth <= nested:
        raise ConfigError(
            "The network has no nested U-Net of that depth to be pruned to.",
            where="segmenter.prune",
            found=str(depth),
            expected=f"from 1 to {nested}" if nested else "a network of nested U-Nets",
            fix="choose one of these, or take prune away"
            if nested
            else "choose unetpp or encoder-unetpp, or no prune",
        )
    held, net.prune = net.prune, depth  # type: ignore[assignment]
    try:
        yield
    finally:
        net.prune = held


def build_unetpp(channels: int, classes: int, dims: int, _: str) -> UNetPlusPlus:
    """With batch normalisation."""
    return UNetPlusPlus(channels, classes, dims)
