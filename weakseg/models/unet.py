"""The U-Net of Ronneberger et al., in two and three dimensions.

References
----------
Ronneberger, Fischer, Brox, "U-Net: convolutional networks for biomedical image segmentation",
MICCAI 2015. In three dimensions it is the same network with cubes for squares, which differs from
the 3D U-Net of Çiçek et al. (2016) in its widths.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from weakseg.errors import ConfigError, did_you_mean
from weakseg.models.blocks import CONV, POOL, UP, double, start_for_relu
from weakseg.models.mfr import ChannelAttention, CoordinateAttention, MultiScale, SkipFusion
from weakseg.models.whole_image import cropped, padded


class UNet(nn.Module):
    """The network.

    Parameters
    ----------
    in_channels : int
    classes : int
        Background included.
    dims : {2, 3}, optional
    padding : {"valid", "same"}, optional
        ``valid`` is the original: the output is smaller than the input (572 gives 388) and no
        voxel sees an invented border. ``same`` pads with zeros.
    depth : int, optional
        Number of poolings.
    base : int, optional
        Feature maps of the first level; each level doubles them.
    batch_norm : bool, optional
        After each 3-convolution. A departure from the original, which has none.
    dropout : float, optional
        At the end of the contracting path, after its two deepest levels.
    modules : sequence of {"mfr", "mca", "ca", "fused"}, optional
        Of `weakseg.models.mfr`, for ``same`` convolutions: multi-scale feature retention at the
        deepest level, multi-branch cross-channel attention on the skip connections, coordinate
        attention behind the convolutions of the expanding path, and skip connections that are
        fused with the level below.

    Attributes
    ----------
    margin : tuple of int
        Voxels of the input without an output, before and after, on every axis.

    Raises
    ------
    ConfigError
        For an unknown padding, or another number of dimensions; for modules and valid convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        dims: int = 2,
        *,
        padding: str = "valid",
        depth: int = 4,
        base: int = 64,
        batch_norm: bool = False,
        dropout: float = 0.5,
        modules: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if padding not in ("valid", "same"):
            raise ConfigError(
                f"U-Net has no padding {padding!r}.", fix=did_you_mean(padding, ("valid", "same"))
            )
        if dims not in CONV:
            raise ConfigError(
                "U-Net takes images of 2 or 3 dimensions.", found=str(dims), expected="2 or 3"
            )
        if modules and padding == "valid":
            raise ConfigError(
                "Modules of a U-Net need convolutions that keep the size.",
                found=f"padding valid with {', '.join(modules)}",
                expected="padding same",
            )
        self.dims, self.depth, self.valid = dims, depth, padding == "valid"
        pad = 0 if self.valid else 1
        widths = [base * 2**i for i in range(depth + 1)]
        self.down = nn.ModuleList(
            double(a, b, dims, pad, batch_norm)
            for a, b in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.pool = POOL[dims](2)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.ModuleList(UP[dims](w, w // 2, 2, stride=2) for w in widths[:0:-1])
        self.merge = nn.ModuleList(double(w, w // 2, dims, pad, batch_norm) for w in widths[:0:-1])
        self.head = CONV[dims](base, classes, 1)
        skips = widths[-2::-1]
        self.bottom = MultiScale(widths[-1], dims) if "mfr" in modules else nn.Identity()
        self.fuse = nn.ModuleList(SkipFusion(w, dims) for w in skips if "fused" in modules)
        self.gates = nn.ModuleList(ChannelAttention() for _ in skips if "mca" in modules)
        self.refine = nn.ModuleList(CoordinateAttention(w, dims) for w in skips if "ca" in modules)
        self.margin = (self._lost() // 2, self._lost() // 2)
        start_for_relu(self)

    def _lost(self) -> int:
        """Input minus output: each level loses 4 of its own voxels on the way down and up."""
        if not self.valid:
            return 0
        return 4 * (2 * sum(2**i for i in range(self.depth)) + 2**self.depth)

    def input_size(self, output: int) -> int:
        """Side of the smallest input that the network takes and whose output is not smaller.

        Parameters
        ----------
        output : int

        Returns
        -------
        int
            572 for 388 (original). For ``same``, ``output`` itself: see `forward`.
        """
        if not self.valid:
            return output
        step = 2**self.depth
        # The deepest level needs 5 voxels for its two convolutions to leave one.
        bottom = 5
        while (size := self._input_of(bottom)) - self._lost() < output:
            bottom += max(1, (output - size + self._lost()) // step)
        return size

    def _input_of(self, bottom: int) -> int:
        for _ in range(self.depth):
            bottom = 2 * bottom + 4
        return bottom

    def output_size(self, size: int) -> int:
        """Side of the output of an input.

        Raises
        ------
        ConfigError
            If a map of odd size would be pooled, or nothing would be left, with the nearest
            larger size that works.
        """
        if not self.valid:
            return size
        n, fits = size, True
        for _ in range(self.depth):
            n, odd = divmod(n - 4, 2)
            fits = fits and not odd
        if not fits or n < 5 or size <= self._lost():
            raise ConfigError(
                "The U-Net with valid convolutions does not take this input size.",
                found=str(size),
                expected=str(self.input_size(max(1, size - self._lost()))),
            )
        return size - self._lost()

    def forward(self, x: Tensor) -> Tensor:
        """Class scores.

        Parameters
        ----------
        x : (B, C, *size) Tensor
            Any size for ``same``: what lacks to a multiple of 2**depth is added after the last
            voxel, by repeating it, and cropped from the scores.

        Returns
        -------
        (B, K, *output) Tensor
            Logits of the middle of the input, `margin` removed.

        Raises
        ------
        ConfigError
            See `output_size`.
        """
        size = x.shape[2:]
        for side in size:
            self.output_size(side)
        if not self.valid:
            x = padded(x, 2**self.depth)
        skips: list[Tensor] = []
        for level, convolve in enumerate(self.down):
            x = convolve(x if level == 0 else self.pool(x))
            if level >= self.depth - 1:
                x = self.dropout(x)
            skips.append(x)
        below = skips.pop()
        x = self.bottom(x)
        for i, (raise_, merge) in enumerate(zip(self.up, self.merge, strict=True)):
            x, skip = raise_(x), skips.pop()
            kept = self.fuse[i](skip, below) if self.fuse else skip
            below = skip if self.fuse else below
            if self.gates:
                kept = self.gates[i](kept)
            x = torch.cat([_crop(kept, x), x], dim=1)
            del kept, skip  # nothing asks for them again, and of large batches they take room
            x = merge(x)
            if self.refine:
                x = self.refine[i](x)
        x = self.head(x)
        return x if self.valid else cropped(x, size)


def _crop(skip: Tensor, like: Tensor) -> Tensor:
    """The middle of a map, of the size of another."""
    starts = [(s - n) // 2 for s, n in zip(skip.shape[2:], like.shape[2:], strict=True)]
    cut = [slice(s, s + n) for s, n in zip(starts, like.shape[2:], strict=True)]
    return skip[(slice(None), slice(None), *cut)]


def build_unet(channels: int, classes: int, dims: int, modules: str) -> UNet:
    """Same convolutions, batch normalisation, 32 maps; modules joined by a plus."""
    chosen = modules.split("+") if modules else []
    return UNet(
        channels,
        classes,
        dims,
        padding="same",
        base=32,
        batch_norm=True,
        dropout=0.0,
        modules=chosen,
    )


def build_unet_original(channels: int, classes: int, dims: int, _: str) -> UNet:
    """As published; in 3D with three poolings, like Çiçek et al. (132 gives 44).

    Four cost 184 voxels an axis, more than most volumes have.
    """
    return UNet(channels, classes, dims) if dims == 2 else UNet(channels, classes, 3, depth=3)


def build_mfr_unet(channels: int, classes: int, dims: int, _: str) -> UNet:
    """The U-Net with all modules of `weakseg.models.mfr`."""
    return build_unet(channels, classes, dims, "mfr+mca+ca+fused")
