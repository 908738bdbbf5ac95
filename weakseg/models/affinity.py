"""A small network whose features say which pixels of a coarse image belong together."""

from __future__ import annotations

from torch import Tensor, nn

WIDTH, FEATURES = 32, 16


class AffinityNet(nn.Module):
    """Four convolutions of a coarse image, without a change of its resolution.

    A feature sees 15 × 15 pixels of the grid. The affinity of two pixels is ``exp(-d)``, where d is
    the L1 distance of their features.

    Parameters
    ----------
    channels : int
        Of the images.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for dilation in (1, 2, 4):
            layers.append(nn.Conv2d(before, WIDTH, 3, padding=dilation, dilation=dilation))
            layers.append(nn.ReLU())
            before = WIDTH
        self.body = nn.Sequential(*layers, nn.Conv2d(before, FEATURES, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, D, h, w) of images (B, C, h, w) with intensities in [0, 1]."""
        return self.body((images - 0.5) / 0.25)


def channels_of(state: dict[str, Tensor]) -> int:
    """For how many channels the weights of an `AffinityNet` are.

    Raises
    ------
    KeyError
        If they are of another network.
    """
    return int(state["body.0.weight"].shape[1])
