"""What people hand over for a heatmap: made what the mathematics takes, or refused."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weakseg.errors import ConfigError, DataError
from weakseg.models.classifier import Classifier
from weakseg.models.layers import unknown_layer
from weakseg.models.maps import all_maps, main_map
from weakseg.models.volume_classifiers import SliceClassifier

COLOURS = (1, 3)


def read_model(model: Any) -> nn.Module:
    """A network on one device: of `nn.DataParallel` what it wraps.

    Raises
    ------
    ConfigError
        If it is no module.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(
            "The model is no torch module.",
            where="model",
            found=type(model).__name__,
            expected="an nn.Module that gives class scores",
        )
    wrapped = nn.DataParallel | nn.parallel.DistributedDataParallel
    return model.module if isinstance(model, wrapped) else model


def read_target(target: Any) -> tuple[int, ...]:
    """The class numbers of one number, or of several.

    Raises
    ------
    ConfigError
        If it is something else. That the classes exist is for `weakseg.heatmaps.target_score`.
    """
    several = isinstance(target, Sequence | np.ndarray | Tensor | set | range)
    try:
        if isinstance(target, str | bytes):
            raise TypeError
        some = list(target) if several and not _single(target) else [target]
        return tuple(_class_number(k) for k in some)
    except (TypeError, ValueError):
        raise ConfigError(
            "The target is no class number.",
            where="target",
            found=f"{target!r}"[:80],
            expected="the number of a class, such as 1, or of several, such as (1, 2)",
        ) from None


def _single(target: Any) -> bool:
    return isinstance(target, np.ndarray | Tensor) and target.ndim == 0


def _class_number(value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError
    return operator.index(value)


def read_images(model: nn.Module, images: Any) -> Tensor:
    """Images (B, C, H, W), or volumes (B, C, D, H, W), on the model's device, in its precision.

    Parameters
    ----------
    model : nn.Module
    images : Tensor or ndarray
        (B, C, H, W), or one image without a batch, (C, H, W) or (H, W); of one or three colours
        also with the colours last. Volumes have all five axes.

    Raises
    ------
    DataError
        If it is not plain which axis is which, or the numbers are no floats.
    """
    if not isinstance(images, Tensor | np.ndarray):
        raise _no_images(
            type(images).__name__, "convert them with numpy.asarray or torch.as_tensor"
        )
    given = images
    images = images if isinstance(images, Tensor) else _from_numpy(images)
    if not images.is_floating_point():
        raise _no_images(
            f"numbers of type {given.dtype}",
            "scale them as in training; of 8-bit images often images / 255 in single precision",
        )
    images = _four_axes(images, _takes_volumes(model))
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    if weight is None:
        return images
    return images.to(weight.device, weight.dtype)


def _from_numpy(images: np.ndarray) -> Tensor:
    if images.dtype.kind not in "biuf":
        raise _no_images(f"an array of {images.dtype}", "convert it to numbers")
    native = images.dtype.newbyteorder("=")
    if images.dtype.itemsize > 8 and images.dtype.kind == "f":  # long double
        native = np.dtype(np.float64)
    return torch.from_numpy(np.ascontiguousarray(images, dtype=native))


def _takes_volumes(model: nn.Module) -> bool:
    """Whether a network may look at volumes: not where all its convolutions are of images."""
    convolutions = {type(m) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)}
    flat = bool(convolutions) and all(issubclass(c, nn.Conv2d) for c in convolutions)
    return isinstance(model, SliceClassifier) or not flat


def _four_axes(images: Tensor, volumes: bool) -> Tensor:
    shape = tuple(images.shape)
    if 0 not in shape and images.ndim == 5 and volumes:
        return images
    if 0 in shape or images.ndim not in (2, 3, 4):
        raise _no_images(f"the shape {shape}", "give (batch, colours, height, width)")
    if images.ndim == 2:
        return images[None, None]
    first, last = shape[-3] in COLOURS, shape[-1] in COLOURS
    if images.ndim == 3 and not first and not last:
        raise _no_images(
            f"the shape {shape}", "of several grey images give (batch, 1, height, width)"
        )
    batch = images if images.ndim == 4 else images[None]
    return batch.movedim(-1, 1) if last and not first and batch.shape[1] > 4 else batch


def _no_images(found: str, fix: str) -> DataError:
    return DataError(
        "These are no images that the network could look at.",
        where="images",
        found=found,
        expected="floats of shape (batch, colours, height, width)",
        fix=fix,
    )


def refuse_not_finite(images: Tensor) -> None:
    """Refuse images with a value that is no number or infinite.

    Raises
    ------
    DataError
        With the first such image of the batch, and how many of its values are wrong.
    """
    wrong = (~images.isfinite()).flatten(1).sum(1).cpu()
    if wrong.any():
        first = int(wrong.nonzero()[0])
        raise DataError(
            "An image has values that are no finite numbers.",
            where=f"images[{first}]",
            found=f"{int(wrong[first])} of {images[first].numel()} values are NaN or infinite",
            fix="mend the image, or leave it out",
        )


def refuse_bad_scores(logits: Tensor) -> None:
    """Refuse class scores that are no numbers, although the images are: the weights are broken.

    Raises
    ------
    DataError
    """
    if not logits.isfinite().all():
        raise DataError(
            "The network's class scores are NaN or infinite.",
            where="model(images)",
            found=str(logits[(~logits.isfinite()).any(1)][0].tolist()),
            fix="the images are finite, so look at the network's weights; or use full precision",
        )


def read_layers(model: nn.Module, layers: Any, image_shape: Sequence[int]) -> dict[str, nn.Module]:
    """Layers by name, of names or modules.

    Parameters
    ----------
    model : nn.Module
    layers : str, nn.Module, or sequence of them
        ``auto`` is the last map before pooling, see `weakseg.models.maps.main_map`.
    image_shape : sequence of int
        (C, H, W).

    Raises
    ------
    ConfigError
        For a name or module that the model does not have.
    """
    some = [layers] if isinstance(layers, str | nn.Module) or layers is None else list(layers)
    modules = [_read_layer(model, layer, image_shape) for layer in some]
    return dict(modules)


def _read_layer(model: nn.Module, layer: Any, image_shape: Sequence[int]) -> tuple[str, nn.Module]:
    modules = {n: m for n, m in model.named_modules() if n}
    if layer == "auto":
        layer = main_map(all_maps(model, image_shape)) or layer
    if isinstance(layer, nn.Module):
        names = [n for n, m in modules.items() if m is layer]
        if not names:
            raise ConfigError(
                "The heatmap layer is no part of the network.",
                where="heatmap.layer",
                found=type(layer).__name__,
                fix="take a layer of the very network that you hand over, or give its name",
            )
        return names[0], layer
    if not isinstance(layer, str):
        raise ConfigError(
            "The heatmap layer is neither a module nor a name.",
            where="heatmap.layer",
            found=type(layer).__name__,
            fix="use auto for the last map before pooling",
        )
    below = f"net.{layer}" if isinstance(model, Classifier) and layer not in modules else layer
    if below not in modules:
        raise unknown_layer("The network", layer, list(modules))
    return below, modules[below]
