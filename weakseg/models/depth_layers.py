"""Layers of networks of volumes, which see the last slice go on at both ends of a volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class deep_functions(TorchFunctionMode):  # noqa: N801
    """While it lasts, adaptive poolings that are asked for as functions of images take volumes."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        deep = _FUNCTIONS.get(func)
        if deep is not None and args[0].ndim == 5:
            size = args[1] if len(args) > 1 else kwargs["output_size"]
            return deep(args[0], (1, *((size,) * 2 if isinstance(size, int) else size)))
        return func(*args, **(kwargs or {}))


_FUNCTIONS: dict[Any, Callable[..., Tensor]] = {
    F.adaptive_avg_pool2d: F.adaptive_avg_pool3d,
    F.adaptive_max_pool2d: F.adaptive_max_pool3d,
}


def _along_depth(x: Tensor, kernel: int, stride: int, apart: int = 1) -> Tensor:
    """A volume that goes on at its ends as far as a layer needs, for ceil(D / stride) places."""
    span = apart * (kernel - 1) + 1
    missing = (-(-x.shape[2] // stride) - 1) * stride + span - x.shape[2]
    before = (span - 1) // 2
    after = max(0, missing - before)
    return F.pad(x, (0, 0, 0, 0, before, after), mode="replicate") if before or after else x


class DepthConv(nn.Conv3d):
    """A convolution that sees the last slice go on at both ends."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to (B, C', ceil(D / stride), H', W')."""
        kernel, stride, apart = self.kernel_size[0], self.stride[0], self.dilation[0]
        return super().forward(_along_depth(x, kernel, stride, apart))


class DepthMaxPool(nn.MaxPool3d):
    """A maximum that sees the last slice go on at both ends."""

    kernel_size: tuple[int, int, int]
    stride: tuple[int, int, int]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to (B, C, ceil(D / stride), H', W')."""
        return super().forward(_along_depth(x, self.kernel_size[0], self.stride[0]))


class DepthAvgPool(nn.AvgPool3d):
    """A mean that sees the last slice go on at both ends."""

    kernel_size: tuple[int, int, int]
    stride: tuple[int, int, int]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to (B, C, ceil(D / stride), H', W')."""
        return super().forward(_along_depth(x, self.kernel_size[0], self.stride[0]))


class DepthLayerNorm(nn.LayerNorm):
    """A norm over the channels of each place, which come first."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) to the same."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class DepthPermute(nn.Module):
    """Another order of axes."""

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = list(dims)

    def forward(self, x: Tensor) -> Tensor:
        """The axes of a tensor in the order ``dims``."""
        return x.permute(self.dims)
