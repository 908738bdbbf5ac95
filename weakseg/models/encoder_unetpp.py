"""UNet++ whose contracting path is a classifier, by segmentation_models_pytorch.

References
----------
Zhou et al., IEEE TMI 2020, see `weakseg.models.unetpp`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from weakseg.models.encoder_unet import DECODER
from weakseg.models.encoders import OnEncoder
from weakseg.models.unetpp import mean_scores
from weakseg.models.whole_image import Outputs, cropped, padded, resized


class EncoderUNetPlusPlus(OnEncoder):
    """The network: the library's nodes; heads on the finest of every nested U-Net are ours.

    Parameters
    ----------
    in_channels : {1, 3}
    classes : int
        Background included.
    encoder : str
        Of `weakseg.models.encoders.ENCODERS`.

    Attributes
    ----------
    depth : int
        How many U-Nets are nested. The finest maps of a classifier have half the image's size, so
        that all heads but the deepest give scores of half the size, which are interpolated.
    prune : int or None
        See `weakseg.models.unetpp.UNetPlusPlus`; what lies behind the encoder's maps is left out,
        the encoder itself is run as a whole.
    """

    def __init__(self, in_channels: int, classes: int, encoder: str) -> None:
        super().__init__(in_channels, encoder)
        from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder

        blocks = len(self.widths) - 1
        widths = DECODER[-blocks:]
        self.decoder = UnetPlusPlusDecoder(self.widths, widths, n_blocks=blocks)
        self.depth = blocks - 1
        self.head = nn.Conv2d(widths[-1], classes, 3, padding=1)
        # The nodes of half the size, of the shallowest nested U-Net first.
        last = self.depth - 1
        outs = [self.decoder.blocks[f"x_{last - j}_{last}"].out_channels for j in range(last)]
        self.heads = nn.ModuleList(nn.Conv2d(n, classes, 1) for n in outs)
        self.prune: int | None = None

    def forward(self, images: Tensor) -> Tensor | Outputs:
        """Logits (B, K, H, W) of images (B, C, H, W) in [0, 1]; in training those of all heads."""
        size = images.shape[2:]
        maps = self.maps(padded(images, 2 ** (self.depth + 1)))[:0:-1]
        depth = self.depth if self.training or self.prune is None else self.prune
        nodes = self._nodes(maps, depth)
        raised, last = [2 * n for n in maps[-1].shape[2:]], self.depth - 1
        scores = [
            cropped(resized(head(nodes[last - j, last]), raised), size)
            for j, head in enumerate(self.heads)
            if j < depth
        ]
        if depth == self.depth:
            final = self.decoder.blocks[f"x_0_{depth}"](nodes[0, last])
            scores.append(cropped(self.head(final), size))
        if self.training:
            return Outputs(scores[-1], tuple(scores[:-1]))
        return mean_scores(scores if self.prune is None else scores[-1:])

    def _nodes(self, maps: list[Tensor], depth: int) -> dict[tuple[int, int], Tensor]:
        """The nodes by the library's names.

        (d, l) is made of map l + 1, counted from the deepest, and belongs to the U-Net that begins
        at map d: with a ``depth`` of 1 only that of the two finest maps is made.
        """
        made: dict[tuple[int, int], Tensor] = {}
        first = self.depth - depth
        for layer in range(first, self.depth):
            for d in range(layer, first - 1, -1):
                below = maps[layer] if d == layer else made[d, layer - 1]
                beside = [made[k, layer] for k in range(d + 1, layer + 1)]
                skip = torch.cat([*beside, maps[layer + 1]], dim=1)
                made[d, layer] = self.decoder.blocks[f"x_{d}_{layer}"](below, skip)
        return made


def build_encoder_unetpp(channels: int, classes: int, _: int, encoder: str) -> EncoderUNetPlusPlus:
    """With random weights."""
    return EncoderUNetPlusPlus(channels, classes, encoder)
