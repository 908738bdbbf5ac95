"""From a picture to what a network takes, and from its heat back to the picture.

What is known of the network's own preprocessing is taken from it: normalisation inside a
weakseg classifier, transforms of torchvision's weights, the configuration of a timm network.

One room for the way there and the way back: what a picture is placed by, its heat returns by.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from weakseg.api.inputs import read_picture
from weakseg.data.arrays import as_channels
from weakseg.data.geometry import resize
from weakseg.data.images import Intensity, scale_intensity
from weakseg.data.windows import Window, by_window, windowed_image
from weakseg.disk import as_path
from weakseg.errors import ArgumentError, did_you_mean
from weakseg.models.classifier import Classifier

WINDOWS = ("auto", "file", "percentiles")
Fit = Literal["stretch", "pad", "crop"]
FITS: tuple[Fit, ...] = get_args(Fit)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 224
"""Side of the input where nothing says another: what most networks of images were made for."""
CLASSIFIER_SIZE = 128
"""The same of weakseg's own classifiers that do not know theirs: the default of
``data.image_size``."""

CUTTING = ("Crop", "Pad", "Rotat", "Affine", "Perspective", "Flip")
"""Parts of the names of torchvision's transforms that put an image elsewhere."""


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the network's input.

    Attributes
    ----------
    original : tuple of int
        (height, width) of the image.
    resized : tuple of int
        Its height and width in pixels of the input.
    shape : tuple of int
        (height, width) of the input.
    top, left : int
        Of the resized image in the input; negative where it is cropped.
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    shape: tuple[int, int]
    top: int
    left: int

    def _common(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The part that both share: in the input, and in the resized image."""
        inside, of_image = [], []
        for at, n, whole in zip((self.top, self.left), self.resized, self.shape, strict=True):
            low, high = max(at, 0), min(at + n, whole)
            inside.append(slice(low, high))
            of_image.append(slice(low - at, high - at))
        return (inside[0], inside[1]), (of_image[0], of_image[1])

    def to_network(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """An image (M, N[, 3]) in the input's frame; what it does not cover is 0."""
        small = resize(image, self.resized, shrink_by_area=True)
        if self.resized == self.shape and not (self.top or self.left):
            return small
        frame = np.zeros((*self.shape, *image.shape[2:]), dtype=np.float32)
        inside, of_image = self._common()
        frame[inside] = small[of_image]
        return frame

    def to_original(self, heat: NDArray[np.float32]) -> NDArray[np.float32]:
        """A map (h, w) of the whole input, laid over the image; 0 where it was cut away."""
        frame = resize(np.asarray(heat, dtype=np.float32), self.shape)
        inside, of_image = self._common()
        shown = np.zeros(self.resized, dtype=np.float32)
        shown[of_image] = frame[inside]
        return resize(shown, self.original)


def place(
    original: tuple[int, int], shape: tuple[int, int], fit: Fit, crop: float = 1.0
) -> Placement:
    """Where an image of a size lies in an input of a size.

    Parameters
    ----------
    original, shape : tuple of int
        (height, width).
    fit : {"stretch", "pad", "crop"}
        ``stretch`` fills the input and changes proportions; ``pad`` keeps them and fills the rest
        with 0; ``crop`` keeps them and cuts what stands over.
    crop : float, optional
        Share of the resized image's shorter side that ``crop`` keeps.
    """
    (H, W), (height, width) = original, shape
    if fit == "stretch":
        return Placement(original, shape, shape, 0, 0)
    wide = W * height > H * width  # wider in proportion than the input
    if fit == "pad":
        if wide:
            resized = max(1, round(H * width / W)), width
        else:
            resized = height, max(1, round(W * height / H))
    else:
        tall, broad = round(height / crop), round(width / crop)
        if wide:
            resized = tall, max(broad, int(W * tall / H))
        else:
            resized = max(tall, int(H * broad / W)), broad
    # An odd rest goes to the bottom or the right, as `weakseg.data.geometry.letterbox` has it.
    top, left = (height - resized[0]) // 2, (width - resized[1]) // 2
    return Placement(original, resized, shape, top, left)


@dataclass(frozen=True)
class Preprocessing:
    """How pictures become what a network takes.

    Attributes
    ----------
    shape : tuple of int
        (height, width) of the network's input.
    mean, std : tuple of float or None
        A number a channel, of intensities in [0, 1]; None: none are taken off.
    channels : int
        1 or 3.
    fit : {"stretch", "pad", "crop"}
        See `place`.
    crop : float
    intensity : {"auto", "dtype", "percentile"}
        See `weakseg.data.images.scale_intensity`; with ``auto`` a float array within [0, 1] stays
        as it is, and so does such a file unless ``as_trained``.
    window : {"auto", "file", "percentiles"} or (centre, width)
        By which `read` brings pictures into [0, 1], see `weakseg.data.windows.windowed_image`.
        With ``auto`` it does not.
    source : str
        Where it is known from, for people.
    transform : callable, optional
        Takes a PIL image and gives the tensor (C, H, W): instead of all of these.
    as_trained : bool
        Whether `read` scales files as a run does: those of floats by their percentiles.
    """

    shape: tuple[int, int]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    channels: int
    fit: Fit = "stretch"
    crop: float = 1.0
    intensity: Intensity = "auto"
    source: str = ""
    transform: Callable[[Any], Any] | None = None
    window: Window = "auto"
    as_trained: bool = False

    def read(self, given: Any) -> NDArray[Any]:
        """A picture (M, N[, 3]) of a file, an array, a tensor or a picture of PIL.

        Raises
        ------
        DataError
        """
        is_file = isinstance(given, str | Path)
        if self.window == "auto":
            values = read_picture(given)
            stretched = self.as_trained and is_file and values.dtype.kind == "f"
            return scale_intensity(values, self.intensity) if stretched else values
        if is_file:
            return windowed_image(as_path(given), self.window, self.intensity)
        values = read_picture(given)
        return by_window(values, self.window, _scaling(values, self.intensity))

    def __call__(self, image: NDArray[Any]) -> tuple[Tensor, Placement]:
        """The input (C, h, w) of an image that `read` gave, and where the image lies in it."""
        if self.transform is not None:
            return self._transformed(image)
        unit = as_channels(self._unit(image), self.channels)
        where = place((unit.shape[0], unit.shape[1]), self.shape, self.fit, self.crop)
        frame = where.to_network(np.ascontiguousarray(unit, dtype=np.float32))
        planes = frame[None] if frame.ndim == 2 else np.moveaxis(frame, 2, 0)
        tensor = torch.from_numpy(np.clip(np.ascontiguousarray(planes), 0, 1))
        if self.mean is not None and self.std is not None:
            mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
            tensor = (tensor - mean) / std
        return tensor, where

    def _unit(self, image: NDArray[Any]) -> NDArray[np.float32]:
        how = "dtype" if self.window != "auto" else _scaling(image, self.intensity)
        return scale_intensity(image, how)

    def _transformed(self, image: NDArray[Any]) -> tuple[Tensor, Placement]:
        from PIL import Image

        assert self.transform is not None
        eight = (self._unit(image) * 255).round().astype(np.uint8)
        made = self.transform(Image.fromarray(as_channels(eight, self.channels).astype(np.uint8)))
        if isinstance(made, Tensor) and made.ndim == 4 and len(made) == 1:
            made = made[0]
        if not isinstance(made, Tensor) or made.ndim != 3 or not made.is_floating_point():
            shape = f" of shape {tuple(made.shape)}" if isinstance(made, Tensor) else ""
            raise ArgumentError(
                "transform does not give what a network takes.",
                where="transform",
                found=f"{type(made).__name__}{shape}",
                expected="a float tensor (channels, height, width) of a PIL image",
            )
        h, w = int(made.shape[1]), int(made.shape[2])
        return made, place((image.shape[0], image.shape[1]), (h, w), self.fit, self.crop)


def _scaling(image: NDArray[Any], how: Intensity) -> Intensity:
    """How an array is scaled: floats within [0, 1] stay as they are."""
    if how == "auto" and image.dtype.kind == "f" and image.min() >= 0 and image.max() <= 1:
        return "dtype"
    return how


def preprocessing_of(
    model: nn.Module,
    *,
    weights: Any = None,
    transform: Any = None,
    size: Any = None,
    mean: Any = None,
    std: Any = None,
    channels: Any = None,
    fit: Any = None,
    intensity: Any = "auto",
    window: Any = None,
) -> Preprocessing:
    """How a network's pictures are prepared: as it says itself, and as the arguments say.

    Parameters
    ----------
    model : nn.Module
    weights : WeightsEnum or str, optional
        Of torchvision, which the network was loaded with: their transforms count. A name as in
        ``"ResNet18_Weights.IMAGENET1K_V1"``.
    transform : callable, optional
        As in training: PIL image → tensor. A preset of torchvision is read as ``weights`` are.
    size : int or (int, int), optional
        Side of the input, or (height, width).
    mean, std : float or sequence of float, optional
        A number a channel, of intensities in [0, 1].
    channels : {1, 3}, optional
        Default: what the first convolution takes.
    fit : {"stretch", "pad", "crop"}, optional
        See `place`. Beside ``transform`` it says what that does; of a ``Resize`` and a
        ``CenterCrop`` of torchvision it is seen, of other functions an image fills the input.
    intensity : {"auto", "dtype", "percentile"}, optional
        With ``auto`` as a weakseg classifier was trained.
    window : {"auto", "file", "percentiles"} or (centre, width), optional
        Which of the pictures' values become black and white, as ``data.window`` of an experiment.
        Default: as a weakseg classifier was trained, else ``auto``.

    Raises
    ------
    ArgumentError
        For an argument that is not understood.

    Warns
    -----
    UserWarning
        Where neither the network nor the arguments say how pictures are normalised, or where a
        transform puts them.
    """
    found = _known(model, _channels(model, channels), weights, transform)
    given: dict[str, Any] = {}
    if size is not None:
        given["shape"] = _shape(size)
    if fit is not None:
        if fit not in FITS:
            raise ArgumentError(
                f"There is no fit {fit!r}.", where="fit", fix=did_you_mean(str(fit), FITS)
            )
        given["fit"] = fit
    if intensity not in get_args(Intensity):
        raise ArgumentError(
            f"There is no intensity {intensity!r}.",
            where="intensity",
            fix=did_you_mean(str(intensity), get_args(Intensity)),
        )
    if window is not None:
        given["window"] = _window(window)
    if mean is not None or std is not None:
        given["mean"] = _per_channel("mean", 0.0 if mean is None else mean, found.channels)
        given["std"] = _per_channel("std", 1.0 if std is None else std, found.channels)
        given["source"] = "the arguments"
    if found.transform is not None and {"mean", "std", "shape"} & given.keys():
        raise ArgumentError(
            "transform says all of the preprocessing.",
            where="transform",
            found="mean, std or size beside it",
            fix="leave these away, or the transform",
        )
    if not found.source and "source" not in given:
        guess = "ImageNet's mean and standard deviation" if found.mean else "intensities in [0, 1]"
        warnings.warn(
            f"how the network's pictures were normalised is not known: {guess} are taken. Give "
            "mean= and std=, weights= or transform= as in training",
            stacklevel=3,
        )
        given["source"] = "a guess"
    if found.transform is not None and fit is None and _placing(found.transform) is None:
        warnings.warn(
            "where the transform puts the image in the input is not known: heat is laid over it as "
            "if it filled the input. Give fit=, or weights= or size=, mean= and std= in its place",
            stacklevel=3,
        )
    scaling = found.intensity if intensity == "auto" else intensity
    return replace(found, intensity=scaling, **given)


def _known(model: nn.Module, channels: int, weights: Any, transform: Any) -> Preprocessing:
    if weights is not None:
        return _of_preset(_weights(weights).transforms(), channels, f"the weights {weights}")
    if transform is not None:
        if hasattr(transform, "crop_size") and hasattr(transform, "mean"):
            return _of_preset(transform, channels, "the transform")
        if not callable(transform):
            raise ArgumentError(
                "transform cannot be called.",
                where="transform",
                found=type(transform).__name__,
                expected="a function of a PIL image, such as torchvision.transforms.Compose makes",
            )
        fit, crop = _placing(transform) or ("stretch", 1.0)
        said = "the transform"
        return Preprocessing(
            (SIZE, SIZE), None, None, channels, fit, crop, source=said, transform=transform
        )
    if isinstance(model, Classifier):
        square = (model.image_size or CLASSIFIER_SIZE,) * 2
        how: Any = model.intensity or "auto"
        said = "the classifier itself"
        seen: Any = model.window
        return Preprocessing(
            square,
            None,
            None,
            channels,
            "pad",
            1.0,
            how,
            source=said,
            window=seen,
            as_trained=True,
        )
    config = getattr(model, "pretrained_cfg", None)
    if isinstance(config, dict) and config.get("mean") and config.get("input_size"):
        height, width = config["input_size"][1:]
        return Preprocessing(
            (int(height), int(width)),
            _per_channel("mean", config["mean"], channels),
            _per_channel("std", config["std"], channels),
            channels,
            "crop",
            float(config.get("crop_pct") or 1.0),
            source=f"timm's configuration of {config.get('architecture', 'the network')}",
        )
    side = getattr(model, "image_size", SIZE)
    side = side if isinstance(side, int) and not isinstance(side, bool) else SIZE
    three = channels == 3
    return Preprocessing(
        (side, side), IMAGENET_MEAN if three else None, IMAGENET_STD if three else None, channels
    )


def _placing(transform: Any) -> tuple[Fit, float] | None:
    """Where steps of torchvision put an image, and the share that they keep; None if unknown.

    Of a function whose steps are not known an image is taken to fill the input.
    """
    found: tuple[Fit, float] = "stretch", 1.0
    shorter: int | None = None
    for step in getattr(transform, "transforms", ()):
        name, size = type(step).__name__, getattr(step, "size", None)
        sides = [size] if isinstance(size, int) else list(size or ())
        if name == "Resize":
            shorter = sides[0] if len(sides) == 1 and step.max_size is None else None
        elif name == "CenterCrop" and shorter is not None and max(sides) <= shorter:
            found, shorter = ("crop", max(sides) / shorter), None
            if len(set(sides)) > 1:
                return None
        elif any(part in name for part in CUTTING):
            return None
    return found


def _of_preset(preset: Any, channels: int, source: str) -> Preprocessing:
    """As torchvision's `ImageClassification` does it."""
    try:
        (size,), (resized,) = preset.crop_size[:1], preset.resize_size[:1]
        mean, std = preset.mean, preset.std
    except (AttributeError, TypeError, ValueError):
        raise ArgumentError(
            "These transforms are not of a classifier of images.",
            where="weights",
            found=type(preset).__name__,
            fix="give transform=, or mean=, std= and size=",
        ) from None
    return Preprocessing(
        (int(size), int(size)),
        _per_channel("mean", mean, channels),
        _per_channel("std", std, channels),
        channels,
        "crop",
        int(size) / int(resized),
        source=source,
    )


def _weights(weights: Any) -> Any:
    """Of torchvision, of a name too."""
    import torchvision

    if isinstance(weights, str):
        try:
            return torchvision.models.get_weight(weights)
        except (ValueError, AttributeError, KeyError):
            weights = f"{weights!r}"
    elif callable(getattr(weights, "transforms", None)) and hasattr(weights, "meta"):
        return weights
    raise ArgumentError(
        "weights are none of torchvision's.",
        where="weights",
        found=str(weights)[:80],
        expected='such as "ResNet18_Weights.DEFAULT", or torchvision.models.ResNet18_Weights',
        fix="of other networks give mean=, std= and size=, or transform=",
    )


def weight_names(weights: Any) -> list[str] | None:
    """The class names that torchvision's weights tell."""
    return None if weights is None else _weights(weights).meta.get("categories")


def _channels(model: nn.Module, given: Any) -> int:
    """1 or 3: what is asked for, else what the first convolution takes."""
    if given is None:
        if isinstance(model, Classifier):
            return model.spec.channels
        first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
        given = 3 if first is None else first.in_channels
    if isinstance(given, bool) or given not in (1, 3):
        raise ArgumentError(
            "The network takes pictures of neither one nor three channels.",
            where="channels",
            found=str(given)[:80],
            expected="1 or 3",
            fix="hand over a tensor as the network takes it",
        )
    return int(given)


def _shape(size: Any) -> tuple[int, int]:
    sides = [size, size] if isinstance(size, int | np.integer) else size
    try:
        if isinstance(size, bool | str | bytes):
            raise TypeError
        height, width = (int(s) for s in sides)
        if min(height, width) < 8 or max(height, width) > 4096:
            raise ValueError
    except (TypeError, ValueError):
        raise ArgumentError(
            "size is no size of an input.",
            where="size",
            found=f"{size!r}"[:80],
            expected="a number of pixels from 8 to 4096, or (height, width)",
        ) from None
    return height, width


def _window(window: Any) -> Window:
    if isinstance(window, str) and window in WINDOWS:
        return window  # type: ignore[return-value]
    try:
        if isinstance(window, str | bytes):
            raise TypeError
        centre, width = (float(v) for v in window)
        if not (np.isfinite([centre, width]).all() and width > 0):
            raise ValueError
    except (TypeError, ValueError):
        raise ArgumentError(
            "window is no window.",
            where="window",
            found=f"{window!r}"[:80],
            expected=f"(centre, width) with a width above 0, such as (40, 400); or one of "
            f"{', '.join(WINDOWS)}",
        ) from None
    return centre, width


def _per_channel(name: str, values: Any, channels: int) -> tuple[float, ...]:
    """A number a channel; of one channel the mean of three."""
    single = isinstance(values, int | float | np.number)
    try:
        if isinstance(values, bool | str | bytes):
            raise TypeError
        some = [float(v) for v in ([values] * channels if single else values)]
    except (TypeError, ValueError):
        some = []
    if channels == 1 and len(some) == 3:
        some = [sum(some) / 3]
    good = len(some) == channels and all(np.isfinite(some))
    if not good or (name == "std" and min(some) <= 0):
        raise ArgumentError(
            f"{name} is no number a channel.",
            where=name,
            found=f"{values!r}"[:80],
            expected=f"{channels} finite numbers" + (" above 0" if name == "std" else ""),
        )
    return tuple(some)
