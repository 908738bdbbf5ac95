"""U-Nets whose contracting path is a classifier, by segmentation_models_pytorch.

References
----------
Iglovikov, Shvets, "TernausNet: U-Net with VGG11 encoder pre-trained on ImageNet", arXiv 1801.05746.
"""

from __future__ import annotations

from torch import Tensor, nn

from weakseg.models.encoders import OnEncoder
from weakseg.models.whole_image import at_least, cropped

DECODER = (256, 128, 64, 32, 16)
"""Maps of the decoder's blocks, as the library has them, the deepest first."""


class EncoderUNet(OnEncoder):
    """The network; see `OnEncoder`.

    Parameters
    ----------
    in_channels : {1, 3}
    classes : int
        Background included.
    encoder : str
        Of `weakseg.models.encoders.ENCODERS`.
    """

    def __init__(self, in_channels: int, classes: int, encoder: str) -> None:
        super().__init__(in_channels, encoder)
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

        decoder = DECODER[-len(self.widths) + 1 :]
        self.decoder = UnetDecoder(self.widths, decoder, n_blocks=len(decoder))
        self.head = nn.Conv2d(decoder[-1], classes, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K, H, W) of images (B, C, H, W) in [0, 1], of any size."""
        # Some classifiers have no map of a side below their stride.
        grown = at_least(images, 2 ** (len(self.widths) - 1))
        return cropped(self.head(self.decoder(self.maps(grown))), images.shape[2:])
