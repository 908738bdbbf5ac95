"""A fuzzy-neural network: grey level and local features by degrees, into a small network.

After the abstract, which gives no sizes: how far a pixel's features belong to fuzzy sets (dark to
bright, even to uneven) goes into a neural network that tells the kind of tissue. Sets, features and
sizes are ours.

References
----------
"MRI brain image segmentation by fuzzy and neural methods", ICCRD 2010, 155: white matter, grey
matter, fluid and tumour.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from weakseg.models.blocks import start_for_relu
from weakseg.models.tracing import one_operation
from weakseg.models.whole_image import WholeImage

SETS = 5
"""Fuzzy sets of a feature, evenly from two standard deviations below its mean to two above."""
WINDOWS = (3, 9)
"""Sides of the windows whose mean and standard deviation are features, beside the grey level."""
HIDDEN = 32


class LocalFeatures(nn.Module):
    """The grey level, and mean and standard deviation of the windows around each pixel.

    Parameters
    ----------
    windows : sequence of int
        Odd sides. At the border a window is cut.
    """

    def __init__(self, windows: Sequence[int] = WINDOWS) -> None:
        super().__init__()
        self.means = nn.ModuleList(
            nn.AvgPool2d(w, stride=1, padding=w // 2, count_include_pad=False) for w in windows
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C · (1 + 2 windows), H, W)."""
        found = [x]
        for mean in self.means:
            m = mean(x)
            # Rounding may leave less than nothing, and a root of nothing has no gradient.
            found += [m, torch.sqrt(torch.relu(mean(x * x) - m * m) + 1e-6)]
        return torch.cat(found, dim=1)


class Memberships(nn.Module):
    """The degrees by which values belong to fuzzy sets whose middles and widths are learnt.

    exp(−(x − c)² / 2 s²), over the sum of all sets of a feature: where one set begins another
    ends.

    Parameters
    ----------
    features, sets : int
    """

    def __init__(self, features: int, sets: int = SETS) -> None:
        super().__init__()
        self.middle = nn.Parameter(torch.linspace(-2, 2, sets).repeat(features, 1))
        step = 4 / (sets - 1)
        self.log_width = nn.Parameter(torch.full_like(self.middle, step / 2).log())

    def forward(self, x: Tensor) -> Tensor:
        """(B, F, H, W) to (B, F · sets, H, W), the sets of a feature beside each other."""
        return degrees(x, self.middle, self.log_width)


@one_operation
def degrees(x: Tensor, middle: Tensor, log_width: Tensor) -> Tensor:
    """Memberships (B, F · S, H, W) of values (B, F, H, W) in sets of (F, S)."""
    away = (x.unsqueeze(2) - middle[..., None, None]) * torch.exp(-log_width)[..., None, None]
    return torch.softmax(-0.5 * away * away, dim=2).flatten(1, 2)


class FuzzyNeuro(WholeImage):
    """The network.

    Parameters
    ----------
    in_channels : int
    classes : int
        Background included.
    """

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        features = in_channels * (1 + 2 * len(WINDOWS))
        self.look = LocalFeatures()
        self.norm = nn.BatchNorm2d(features, affine=False)
        self.sets = Memberships(features)
        self.layers = nn.Sequential(
            nn.Conv2d(features * SETS, HIDDEN, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(HIDDEN, HIDDEN, 1),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Conv2d(HIDDEN, classes, 1)
        start_for_relu(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K, H, W) of images (B, C, H, W)."""
        return self.head(self.layers(self.sets(self.norm(self.look(x)))))


def build_fuzzy_neuro(channels: int, classes: int, *_: object) -> FuzzyNeuro:
    """With random weights."""
    return FuzzyNeuro(channels, classes)
