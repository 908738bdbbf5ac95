"""Render U-Net: a nested attention U-Net whose last upsampling classifies sampled points instead.

After the abstract: a 3D U-Net whose upsampling is replaced by subdivision with point sampling (the
least certain places are classified anew from the coarse prediction and fine features), built into
ANU-Net, with deep supervision and a module that screens false positives. Point sampling is
PointRend's and the nested network ANU-Net's; the screening module, the stride at which rendering
begins and all sizes are ours.

References
----------
"Render U-Net: a unique perspective on render to explore accurate medical image segmentation",
Applied Sciences 2020, 10, 6838.
Kirillov et al., "PointRend: image segmentation as rendering", CVPR 2020.
Li et al., "ANU-Net: attention-based nested U-Net", Computers & Graphics 2020.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weakseg.models.blocks import CONV
from weakseg.models.tracing import one_operation
from weakseg.models.unetpp import WIDTHS, Nested
from weakseg.models.whole_image import Outputs, Points, WholeImage, cropped, padded, resized

SHARE = 1 / 16
"""Of the places that a subdivision makes, those that are classified anew; of an output in training,
as many points as this share of its places."""

OVERSAMPLE, UNCERTAIN = 3, 0.75
"""In training, the most uncertain of three times as many random points are this share of all, the
rest lie anywhere (PointRend's values)."""

HIDDEN, LAYERS = 64, 3


class PointHead(nn.Module):
    """A small network on single places, which is told the coarse scores again at each layer.

    Parameters
    ----------
    features, classes : int
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        entering = [features, *[HIDDEN] * (LAYERS - 1)]
        self.layers = nn.ModuleList(nn.Conv1d(n + classes, HIDDEN, 1) for n in entering)
        self.scores = nn.Conv1d(HIDDEN + classes, classes, 1)

    def forward(self, coarse: Tensor, features: Tensor) -> Tensor:
        """(B, K, N) scores anew of (B, K, N) coarse ones and (B, F, N) features."""
        x = features
        for layer in self.layers:
            x = torch.relu(layer(torch.cat([x, coarse], dim=1)))
        return self.scores(torch.cat([x, coarse], dim=1))


def certainty(scores: Tensor) -> Tensor:
    """(B, N): by how much the best class of (B, K, N) is ahead of the second."""
    best = scores.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


@one_operation
def rendered(raised: Tensor, fine: Tensor, head: nn.Module, share: float) -> Tensor:
    """Classify the least certain places of upsampled scores anew.

    Parameters
    ----------
    raised : (B, K, *size) Tensor
    fine : (B, F, *size) Tensor
        Features of the same places.
    head : PointHead
    share : float
        Of the places; at least one.

    Returns
    -------
    (B, K, *size) Tensor
        All other places as they were.
    """
    flat = raised.flatten(2)
    count = max(1, int(share * flat.shape[2]))
    at = certainty(flat).topk(count, largest=False).indices[:, None]
    coarse = flat.gather(2, at.expand(-1, flat.shape[1], -1))
    features = fine.flatten(2).gather(2, at.expand(-1, fine.shape[1], -1))
    anew = head(coarse, features).to(flat.dtype)
    return flat.scatter(2, at.expand(-1, flat.shape[1], -1), anew).view_as(raised)


def sampled(maps: Tensor, places: Tensor) -> Tensor:
    """(B, C, N): maps (B, C, *size), interpolated at places (B, N, dims) in shares of axes."""
    dims = maps.ndim - 2
    grid = (2 * places - 1).flip(-1).view(len(places), *[1] * (dims - 1), -1, dims)
    return F.grid_sample(maps.float(), grid, align_corners=False, padding_mode="border").flatten(2)


def drawn_places(scores: Tensor, count: int, extent: Tensor) -> Tensor:
    """Places to train on, mostly where the scores are least certain.

    Parameters
    ----------
    scores : (B, K, *size) Tensor
    count : int
    extent : (dims,) Tensor
        The share of each axis of ``scores`` that the output covers, the rest is padding.

    Returns
    -------
    (B, count, dims) Tensor
        Shares of the axes of ``scores``.
    """
    batch, dims = scores.shape[0], scores.ndim - 2
    tried = torch.rand(batch, OVERSAMPLE * count, dims, device=scores.device) * extent
    hard = int(UNCERTAIN * count)
    with torch.no_grad():
        at = certainty(sampled(scores, tried)).topk(hard, largest=False).indices
    chosen = tried.gather(1, at[..., None].expand(-1, -1, dims))
    anywhere = torch.rand(batch, count - hard, dims, device=scores.device) * extent
    return torch.cat([chosen, anywhere], dim=1)


class RenderUNet(WholeImage):
    """The network.

    Parameters
    ----------
    in_channels : int
    classes : int
        Background included.
    dims : {2, 3}, optional

    Notes
    -----
    Heads on the nodes of half the size give coarse scores (in training each of them is taught).
    At inference the deepest one's are raised by two, and the least certain places are classified
    anew from them and the first level's features. Screening: from the deepest map the network
    tells whether there is any lesion at all, and at inference the lesion's logit is lowered by
    ``-log p`` of it.
    """

    def __init__(self, in_channels: int, classes: int, dims: int = 2) -> None:
        super().__init__()
        self.nested = Nested(in_channels, dims, attention=True, finest=1)
        self.heads = nn.ModuleList(
            CONV[dims](WIDTHS[1], classes, 1) for _ in range(self.nested.depth - 1)
        )
        self.points = PointHead(WIDTHS[0], classes)
        self.screen = nn.Linear(2 * WIDTHS[-1], 1)

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """Logits (B, K, *size) of images (B, C, *size); in training see `Outputs`."""
        size = x.shape[2:]
        x = padded(x, 2**self.nested.depth)
        nodes = self.nested(x)
        deepest = nodes[self.nested.depth, 0].flatten(2)
        presence = self.screen(torch.cat([deepest.mean(2), deepest.amax(2)], dim=1))[:, 0]
        fine = nodes[0, 0]
        if not self.training:
            coarse = self.heads[-1](nodes[1, len(self.heads)])
            logits = rendered(resized(coarse, fine.shape[2:]), fine, self.points, SHARE)
            screened = F.logsigmoid(presence).view(-1, *[1] * (logits.ndim - 1))
            logits = torch.cat([logits[:, :1], logits[:, 1:] + screened], dim=1)
            return cropped(logits, size)
        scores = [head(nodes[1, j + 1]) for j, head in enumerate(self.heads)]
        whole = [cropped(resized(s, fine.shape[2:]), size) for s in scores]
        return Outputs(whole[-1], tuple(whole[:-1]), self._points(scores[-1], fine, size), presence)

    def _points(self, coarse: Tensor, fine: Tensor, size: torch.Size) -> Points:
        """Scores of drawn places."""
        extent = torch.tensor(
            [n / m for n, m in zip(size, fine.shape[2:], strict=True)], device=fine.device
        )
        places = drawn_places(coarse, max(2, int(SHARE * size.numel())), extent)
        scores = self.points(sampled(coarse, places), sampled(fine, places))
        return Points(scores, places / extent)


def build_render_unet(channels: int, classes: int, dims: int, _: str) -> RenderUNet:
    """With random weights."""
    return RenderUNet(channels, classes, dims)
