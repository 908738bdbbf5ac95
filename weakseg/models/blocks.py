"""Layers in two and three dimensions that several networks are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
UP: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}


def double(
    channels: int, out: int, dims: int, pad: int = 1, batch_norm: bool = True
) -> nn.Sequential:
    """Two 3-convolutions with their ReLU, as U-Nets have them on every level."""
    layers: list[nn.Module] = []
    for a in (channels, out):
        # A bias before batch normalisation would be subtracted again.
        layers.append(CONV[dims](a, out, 3, padding=pad, bias=not batch_norm))
        if batch_norm:
            layers.append(NORM[dims](out))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def convolution(
    channels: int, out: int, dims: int, kernel: int = 3, dilation: int = 1
) -> nn.Module:
    """A convolution that keeps the size, batch normalisation and ReLU."""
    pad = dilation * (kernel // 2)
    return nn.Sequential(
        CONV[dims](channels, out, kernel, padding=pad, dilation=dilation, bias=False),
        NORM[dims](out),
        nn.ReLU(inplace=True),
    )


def start_for_relu(net: nn.Module) -> None:
    """Draw the kernels of a network's convolutions anew, by He et al. (ICCV 2015)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")


class SqueezeExcite(nn.Module):
    """Every map weighed by what all maps are on average (Hu et al., CVPR 2018).

    Parameters
    ----------
    channels : int
    dims : {2, 3}
    reduction : int, optional
        The layer between has so many times fewer maps.
    """

    def __init__(self, channels: int, dims: int, reduction: int = 8) -> None:
        super().__init__()
        between = max(1, channels // reduction)
        self.squeeze = CONV[dims](channels, between, 1)
        self.excite = CONV[dims](between, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *size) to the same shape."""
        mean = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        return x * torch.sigmoid(self.excite(torch.relu(self.squeeze(mean))))


class AttentionGate(nn.Module):
    """What a skip connection brings, weighed at every place by what asks for it.

    σ(ψ(ReLU(W x + V g))), additive attention.

    Parameters
    ----------
    channels, signal : int
        Of the skip connection and of what comes from below, both of one size.
    between : int
    dims : {2, 3}

    References
    ----------
    Oktay et al., "Attention U-Net: learning where to look for the pancreas", MIDL 2018.
    """

    def __init__(self, channels: int, signal: int, between: int, dims: int) -> None:
        super().__init__()
        self.skip = nn.Sequential(CONV[dims](channels, between, 1), NORM[dims](between))
        self.signal = nn.Sequential(CONV[dims](signal, between, 1), NORM[dims](between))
        self.weight = nn.Sequential(CONV[dims](between, 1, 1), NORM[dims](1), nn.Sigmoid())

    def forward(self, x: Tensor, signal: Tensor) -> Tensor:
        """(B, C, *size) and (B, S, *size) to the shape of the first."""
        return x * self.weight(torch.relu(self.skip(x) + self.signal(signal)))
