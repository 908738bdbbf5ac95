"""A finer last map by dilation: strides become 1, and what is behind them looks further apart.

The weights and their names stay, so that pretrained ones load, and at the places of the coarse map
the finer one has the coarse one's values. SqueezeNet's are found one place further in, for its
windows of three become centred; networks that average over places on the way (EfficientNet's
squeeze-and-excitation) have them only nearly.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.errors import ConfigError, first_line, lacks_memory
from weakseg.models.modes import evaluating

_PROBE = 128
"""Side of the blank image by which strides are found."""


class DilatedPool(nn.Module):
    """Maximum or mean over squares of places that lie apart, at every place; of volumes by slices.

    PyTorch's own average has no dilation, and its maximum pads both sides alike, which a kernel of
    two places cannot take. A place beyond the edge counts as the edge.

    Parameters
    ----------
    how : {"max", "mean"}
    kernel : int
        Places a side. Windows of an even number begin at their place, others are centred on it.
    apart : int
        Distance of neighbouring places.
    """

    def __init__(self, how: str, kernel: int, apart: int) -> None:
        super().__init__()
        self.how, self.kernel, self.apart = how, kernel, apart

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), or (B, C, D, H, W), to the same shape."""
        if x.ndim == 5:
            slices = self(x.movedim(2, 1).flatten(0, 1))
            return slices.unflatten(0, (len(x), x.shape[2])).movedim(1, 2)
        span = self.apart * (self.kernel - 1)
        before = span // 2 if self.kernel % 2 else 0
        x = F.pad(x, (before, span - before) * 2, mode="replicate")
        if self.how == "max":
            return F.max_pool2d(x, self.kernel, stride=1, dilation=self.apart)
        mean = x.new_full((x.shape[1], 1, self.kernel, self.kernel), self.kernel**-2)
        return F.conv2d(x, mean, dilation=self.apart, groups=x.shape[1])

    def extra_repr(self) -> str:
        """For print."""
        return f"{self.how}, kernel={self.kernel}, apart={self.apart}"


def dilate(net: nn.Module, layer: str, stride: int, channels: int) -> None:
    """Give the map of a layer a smaller output stride, as DeepLab does.

    Convolutions and pools that would go beyond ``stride`` lose their own stride; each of those
    behind is dilated by what was lost before it.

    Parameters
    ----------
    net : nn.Module
        Changed in place.
    layer : str
        Name of the module, below ``net``, whose output is the last map. What runs after it is
        left alone.
    stride : int
        Pixels of the image a place of the map; a power of two.
    channels : int
        Of the images.

    Raises
    ------
    ConfigError
        If the network has a coarser map only by other means than strides, or none so coarse.

    References
    ----------
    Chen et al., "DeepLab", IEEE TPAMI 2018.
    """
    side, strides = _strides(net, layer, channels)
    steps = _coarseness(side)
    if stride > steps:
        raise _refused(layer, stride, f"its own stride is {steps}")
    if stride == steps:
        return
    for name, coarseness in strides.items():
        _refine(net, name, coarseness, stride)
    side, _ = _strides(net, layer, channels)
    # Convolutions of an even kernel lose a place each, at one edge: one is borne, three are not.
    if abs(side - _PROBE // stride) > 1:
        raise _refused(layer, stride, f"dilation gives it {side} places for {_PROBE} pixels")


def _coarseness(side: int) -> int:
    """The stride of a map of the blank image, of so many places a side."""
    return int(2 ** round(math.log2(_PROBE / side)))


def _strides(net: nn.Module, layer: str, channels: int) -> tuple[int, dict[str, int]]:
    """The side of a layer's output, and the stride of what each conv and pool before it takes."""
    strides: dict[str, int] = {}
    reached: list[int] = []

    def before(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not reached:
                strides[name] = _coarseness(inputs[0].shape[-1])

        return hook

    def after(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        reached.append(output.shape[-1])

    kinds = nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d
    named = [(name, module) for name, module in net.named_modules() if isinstance(module, kinds)]
    handles = [module.register_forward_pre_hook(before(name)) for name, module in named]
    handles.append(net.get_submodule(layer).register_forward_hook(after))
    try:
        with torch.no_grad(), evaluating(net):
            net(torch.zeros(1, channels, _PROBE, _PROBE))
    except (RuntimeError, AssertionError, ValueError) as e:
        if lacks_memory(e):
            raise
        raise ConfigError(
            "The output stride of this network cannot be changed.",
            where="classifier.stride",
            found=first_line(e),
            fix="set classifier.stride: null, or choose another network",
        ) from None
    finally:
        for handle in handles:
            handle.remove()
    return reached[0], strides


def _refine(net: nn.Module, name: str, coarseness: int, stride: int) -> None:
    """Change one convolution or pool whose input had a stride of ``coarseness``."""
    module: Any = net.get_submodule(name)
    apart = max(1, coarseness // stride)
    own = _both(module.stride)
    kept = tuple(min(s, max(1, stride // coarseness)) for s in own)
    if apart == 1 and kept == own:
        return
    if isinstance(module, nn.Conv2d):
        if not isinstance(module.padding, str):
            module.padding = tuple(apart * p for p in module.padding)
            # What PyTorch pads by where padding is not with zeros.
            module._reversed_padding_repeated_twice = [
                apart * p for p in module._reversed_padding_repeated_twice
            ]
        module.dilation = tuple(apart * d for d in module.dilation)
        module.stride = kept
        return
    kernel = _both(module.kernel_size)
    if kept != (1, 1) or kernel[0] != kernel[1]:
        raise _refused(name, stride, f"{module} cannot be dilated")
    how = "max" if isinstance(module, nn.MaxPool2d) else "mean"
    net.set_submodule(name, DilatedPool(how, kernel[0], apart))


def _both(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _refused(layer: str, stride: int, found: str) -> ConfigError:
    return ConfigError(
        f"The layer {layer} cannot be given an output stride of {stride}.",
        where="classifier.stride",
        found=found,
        fix="set classifier.stride: null, or choose another network, for example resnet18",
    )
