"""Between an image and the square that the network sees, without changing its proportions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Letterbox:
    """Where an image lies in the network's square.

    Attributes
    ----------
    original : tuple of int
        (height, width) of the image in pixels.
    size : int
        Side of the square in pixels.
    top, left, height, width : int
        The part of the square that shows the image; the rest is padding.
    """

    original: tuple[int, int]
    size: int
    top: int
    left: int
    height: int
    width: int

    def content(self) -> NDArray[np.bool_]:
        """The pixels of the square that show the image, (S, S)."""
        inside = np.zeros((self.size, self.size), dtype=bool)
        inside[self.top : self.top + self.height, self.left : self.left + self.width] = True
        return inside


_LEFT_RIGHT = {2: 1, 3: 0}
"""Axes of space → the one from left to right: of (row, column), and of a volume's (x, y, z)."""


def left_right_axis(dims: int) -> int:
    """The axis of an image or a volume that a mirror turns: the one from left to right."""
    return _LEFT_RIGHT[dims]


def letterbox(shape: tuple[int, int], size: int) -> Letterbox:
    """Centre an image in a square so that its longer side fills it.

    Parameters
    ----------
    shape : tuple of int
        (height, width) of the image in pixels.
    size : int
        Side of the square in pixels.

    Returns
    -------
    Letterbox
        Sides are rounded to whole pixels and are at least 1; an odd rest goes to the bottom or
        the right.

    Raises
    ------
    ValueError
        For sides below 1.

    Examples
    --------
    >>> letterbox((50, 100), 64)
    Letterbox(original=(50, 100), size=64, top=16, left=0, height=32, width=64)
    """
    H, W = shape
    if min(H, W, size) < 1:
        raise ValueError(f"sides must be at least 1, not {H} × {W} in {size}")
    longest = max(H, W)
    height, width = max(1, round(H * size / longest)), max(1, round(W * size / longest))
    return Letterbox((H, W), size, (size - height) // 2, (size - width) // 2, height, width)


def to_network(image: ArrayLike, box: Letterbox) -> NDArray[np.float32]:
    """Resize an image into the network's square; the rest is 0.

    Shrinking averages over areas, so that fine structure does not turn into false patterns;
    enlarging is bilinear, which adds no overshoot at edges.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array_like of float
    box : Letterbox
        Of the image's own shape.

    Returns
    -------
    (S, S) or (S, S, 3) ndarray of float32

    Raises
    ------
    ValueError
        If the image has another shape than ``box``.
    """
    values = np.asarray(image, dtype=np.float32)
    if values.shape[:2] != box.original or values.ndim not in (2, 3):
        raise ValueError(f"the image is {values.shape}, the letterbox is for {box.original}")
    square = np.zeros((box.size, box.size, *values.shape[2:]), dtype=np.float32)
    resized = resize(values, (box.height, box.width), shrink_by_area=True)
    square[box.top : box.top + box.height, box.left : box.left + box.width] = resized
    return square


def mask_to_network(
    mask: ArrayLike, box: Letterbox, *, rule: Literal["half", "most", "any"] = "half"
) -> NDArray[np.bool_]:
    """Lay a mask of the original image into the network's square.

    Parameters
    ----------
    mask : (H, W) array_like of bool
    box : Letterbox
        Of the image's own shape.
    rule : {"half", "most", "any"}, optional
        A pixel is marked where so much of what it shows is: at least half; more than half; or any
        of it, so that no small mask is lost.

    Returns
    -------
    (S, S) ndarray of bool
    """
    share = to_network(np.asarray(mask, dtype=np.float32), box)
    return share >= 0.5 if rule == "half" else share > {"most": 0.5, "any": 0.0}[rule]


def to_square(heat: ArrayLike, size: int) -> NDArray[np.float32]:
    """Enlarge a map of the whole square to the square's own resolution, bilinearly.

    Parameters
    ----------
    heat : (h, w) array_like of float
    size : int
        Side of the square in pixels.

    Returns
    -------
    (S, S) ndarray of float32
    """
    return resize(np.asarray(heat, dtype=np.float32), (size, size))


def to_original(heat: ArrayLike, box: Letterbox) -> NDArray[np.float32]:
    """Lay a map of the whole square over the original image.

    Both steps are bilinear with half-pixel centres (``align_corners=False`` in torch): to the
    square's own resolution, where the padding is cut off, and from there to the image's.

    Parameters
    ----------
    heat : (h, w) array_like of float
        A map of any resolution that covers the square.
    box : Letterbox

    Returns
    -------
    (H, W) ndarray of float32

    Raises
    ------
    ValueError
        If ``heat`` is not two-dimensional, or empty.
    """
    values = np.asarray(heat, dtype=np.float32)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"a map has the shape (h, w), not {values.shape}")
    square = to_square(values, box.size)
    content = square[box.top : box.top + box.height, box.left : box.left + box.width]
    return resize(np.ascontiguousarray(content), box.original)


def resize(
    values: NDArray[np.float32], shape: tuple[int, int], *, shrink_by_area: bool = False
) -> NDArray[np.float32]:
    """Values (h, w) or (h, w, 3) on another grid of the same area, bilinearly.

    With ``shrink_by_area`` what becomes smaller on both sides is averaged over areas.
    """
    import cv2

    if values.shape[:2] == shape:
        return values
    shrinks = shape[0] <= values.shape[0] and shape[1] <= values.shape[1]
    how = cv2.INTER_AREA if shrink_by_area and shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(values, (shape[1], shape[0]), interpolation=how))
