"""What a classifier is: a network with its input normalisation, and all that builds it again.

`weakseg.models.classifiers` builds them by name.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from weakseg.config.volume_archs import flat_arch
from weakseg.models.localising import ClassifierOutput, Head, collect_auxiliary


@dataclass(frozen=True)
class ClassifierSpec:
    """All that is needed to build a classifier again.

    Attributes
    ----------
    arch : str
        A torchvision name, or ``timm:NAME``; of volumes see `weakseg.config.volume_archs`.
    labels : tuple of str
        Class names in the order of the outputs.
    channels : {1, 3}
        Colours of the images.
    grey_input : {"first-layer", "repeat"}
        How a network made for three colours takes one (see `Classifier`).
    pool : {"default", "avg", "max", "lse", "topk", "gem"}
        How class scores over places become logits, see `weakseg.models.localising`.
    stride : {8, 16, 32}, optional
        Of the default heatmap layer, see `weakseg.models.dilation`; None leaves the network's own.
    exits : bool
        Whether every layer of a fused heatmap but the last has class scores of its own.
    healthy : int
        How many of the labels, which stand first, are without a lesion; of classifiers of volumes.
    instances : {"max", "lse", "attention"}
        How scores of slices become a volume's, see `weakseg.models.volume_classifiers`.
    depth : int, optional
        Slices of a volume that it sees.
    ratio : float
        How many times as deep as wide its voxels are.
    suppress : float
        Share of a channel's maximum at which maps of the layers of a fused heatmap end, see
        `weakseg.models.suppression`; 1 leaves them as they are.
    """

    arch: str
    labels: tuple[str, ...]
    channels: int
    grey_input: str = "first-layer"
    pool: str = "default"
    stride: int | None = None
    exits: bool = False
    healthy: int = 1
    instances: str = "lse"
    depth: int | None = None
    ratio: float = 1.0
    suppress: float = 1.0

    @property
    def flat_arch(self) -> str:
        """The network of images that it is made of, by name."""
        return flat_arch(self.arch)

    @property
    def net_channels(self) -> int:
        """Channels that the network itself takes."""
        return 3 if self.grey_input == "repeat" else self.channels


class Classifier(nn.Module):
    """A network with its input normalisation.

    Parameters
    ----------
    net : nn.Module
        Takes (B, C, H, W), gives logits (B, K).
    spec : ClassifierSpec
    mean, std : tuple of float
        Of the three colours. Grey images use the average of the three, for ``first-layer`` and
        ``repeat`` alike, so that the two are the same function.

    Notes
    -----
    ``forward`` takes intensities in [0, 1], (B, `spec.channels`, H, W); of volumes, see
    `weakseg.models.volume_classifiers`.

    Attributes
    ----------
    end : Head or None
        Where class scores of places are pooled: how the network ends.
    exits : nn.ModuleList
        Heads of the layers `exit_layers`; empty without exits.
    image_size : int or None
        Longest side of the images that it was trained on; None where nobody has said.
    intensity : str or None
        How these were scaled, see `weakseg.data.images.scale_intensity`.
    window : str or (centre, width)
        By which window they were read, see `weakseg.data.windows`.
    """

    mean: Tensor
    std: Tensor
    end: Head | None
    exit_layers: tuple[str, ...]
    image_size: int | None = None
    intensity: str | None = None
    window: str | tuple[float, float] = "auto"

    def __init__(
        self, net: nn.Module, spec: ClassifierSpec, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.net, self.spec = net, spec
        self.end, self.exit_layers, self.exits = None, (), nn.ModuleList()
        if spec.channels == 1:
            mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    @property
    def explained(self) -> Classifier:
        """The network that heatmaps are made of: itself, or what it sees slices by."""
        return self

    def forward(self, images: Tensor, *, parts: bool = False) -> Tensor | ClassifierOutput:
        """Logits (B, K) of images (B, C, H, W) in [0, 1]: with exits, the mean of all heads'.

        With ``parts`` what each head says, and the class-score map.
        """
        ones = [1] * (images.ndim - 2)
        x = (images - self.mean.view(1, -1, *ones)) / self.std.view(1, -1, *ones)
        if self.spec.channels == 1 and self.spec.grey_input == "repeat":
            x = x.expand(-1, 3, *x.shape[2:])
        places = None
        with collect_auxiliary(self.net, self.exit_layers, self.exits, self.spec.pool) as exits:
            if self.end is None:
                logits = self.net(x).flatten(1)
            else:
                logits, places = self.end.score(self.net, x, self.spec.pool)
        said = ClassifierOutput(logits, exits, places)
        return said if parts else said.mean()
