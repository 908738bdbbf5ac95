"""Two networks in a row: a coarse one, and a fine one that sees the image and the coarse result.

After the abstract: cascaded networks let a label depend on its neighbours' (their field is
`weakseg.masks.rules.crf`, as a segmenter's setting ``crf``). Which networks, and that they are
trained one after the other, is ours.

References
----------
"Cascade of deep convolutional networks with a conditional random field", IEEE Access 2020, 2982197.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from weakseg.models.modes import evaluating
from weakseg.models.whole_image import WholeImage


class Cascade(WholeImage):
    """The network.

    Parameters
    ----------
    coarse : nn.Module
        Images (B, C, *size) to logits (B, K, *size).
    fine : nn.Module
        The same of C + K - 1 channels: the image, and the coarse probabilities of all classes but
        the background.

    Attributes
    ----------
    coarse_alone : bool
        In training whose turn it is. In the first the fine network is not run; in the second the
        coarse one is as it is in use, and learns nothing.
    """

    def __init__(self, coarse: nn.Module, fine: nn.Module) -> None:
        super().__init__()
        self.coarse, self.fine = coarse, fine
        self.coarse_alone = False

    @staticmethod
    def turns(epochs: int) -> tuple[int, int]:
        """Epochs of the coarse network's turn and of the fine one's."""
        return epochs // 2, epochs - epochs // 2

    def forward(self, x: Tensor) -> Any:
        """Logits (B, K, *size) of images (B, C, *size).

        In training whatever the network whose turn it is gives, maybe `Outputs`.
        """
        if self.training and self.coarse_alone:
            return self.coarse(x)
        if self.training:
            with torch.no_grad(), evaluating(self.coarse):
                logits = self.coarse(x)
        else:
            logits = self.coarse(x)
        seen = logits.softmax(dim=1)[:, 1:]
        return self.fine(torch.cat([x, seen.to(x.dtype)], dim=1))
