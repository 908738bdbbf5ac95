"""Pictures of one case: its heatmap and the outlines of masks, laid over the image."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from skimage.measure import find_contours

from weakseg.data.images import Intensity, scale_intensity
from weakseg.masks.thresholds import is_flat, normalise
from weakseg.runs import atomic_path

RGB = npt.NDArray[np.uint8]

MASK_COLOUR = "#ff9500"
"""Orange, for what a method marks."""
TRUTH_COLOUR = "#00c8ff"
"""Light blue, for what is true; with orange it is told apart by every kind of colour vision."""
HEAT_COLOURS = "inferno"
"""Perceptually uniform: equal steps of heat look equally far apart."""
SIZE = 220
_OPAQUE = 0.75
_FINE = 2  # outlines are drawn at so many times the size, then shrunk, which smooths them


def overlay(
    image: npt.ArrayLike,
    heat: npt.ArrayLike,
    mask: npt.ArrayLike | None = None,
    truth: npt.ArrayLike | None = None,
    size: int = SIZE,
    *,
    intensity: Intensity = "auto",
) -> RGB:
    """The heatmap over the image, with outlines where masks are given.

    Parameters
    ----------
    image : (M, N) or (M, N, 3) array_like
        As read from the file; see `weakseg.data.images.scale_intensity`.
    heat : (M, N) array_like of float
        Raw heat. What is not positive stays clear; the rest is shown over its own maximum, so that
        the colours of two pictures cannot be compared. A flat heatmap leaves the image as it is.
    mask, truth : (M, N) array_like of bool, optional
        Outlined in `MASK_COLOUR` and `TRUTH_COLOUR`.
    size : int, optional
        The longest side in pixels.
    intensity : {"auto", "dtype", "percentile"}, optional

    Returns
    -------
    (m, n, 3) ndarray of uint8

    Raises
    ------
    ValueError
        For shapes that differ.
    """
    base = _scaled(image, size, intensity)
    h = np.zeros(np.shape(heat)) if is_flat(heat) else normalise(heat)
    _check_shape("heat", h, image)
    height, width = base.shape[:2]
    fine = Image.fromarray(h.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    h = np.clip(np.asarray(fine, dtype=np.float64), 0, 1)
    colour = matplotlib.colormaps[HEAT_COLOURS](h)[..., :3]
    # The root keeps faint heat visible without a grey veil over what has none.
    alpha = (_OPAQUE * np.sqrt(h))[..., None]
    mixed = (1 - alpha) * (base / 255) + alpha * colour
    return _outlined((mixed * 255).round().astype(np.uint8), image, mask, truth)


def contours(
    image: npt.ArrayLike,
    mask: npt.ArrayLike | None = None,
    truth: npt.ArrayLike | None = None,
    size: int = SIZE,
    *,
    intensity: Intensity = "auto",
) -> RGB:
    """The image with outlines; without masks the image alone. See `overlay`."""
    return _outlined(_scaled(image, size, intensity), image, mask, truth)


def strip(pictures: list[RGB], gap: int = 4) -> RGB:
    """Pictures of equal height side by side, with grey between them."""
    height = pictures[0].shape[0]
    between = np.full((height, gap, 3), 128, dtype=np.uint8)
    parts = [part for picture in pictures for part in (between, picture)]
    return np.concatenate(parts[1:], axis=1)


def write_overlay(
    path: Path,
    image: npt.ArrayLike,
    heat: npt.ArrayLike,
    mask: npt.ArrayLike,
    size: int = 512,
    *,
    intensity: Intensity = "auto",
) -> None:
    """Write a PNG: the image, and beside it heatmap and mask over it.

    Parameters
    ----------
    path : Path
    image, heat, mask, intensity
        As for `overlay`.
    size : int, optional
        The longest side of each half in pixels.
    """
    alone = contours(image, size=size, intensity=intensity)
    picture = strip([alone, overlay(image, heat, mask, size=size, intensity=intensity)])
    with atomic_path(path, flushed=False) as part, part.open("wb") as f:
        Image.fromarray(picture).save(f, format="PNG")


def data_uri(picture: RGB, quality: int = 82) -> str:
    """A picture as a ``data:`` address that a page can hold in itself (JPEG)."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _scaled(image: npt.ArrayLike, size: int, intensity: Intensity) -> RGB:
    """The image in eight bits and three channels, its longest side ``size``."""
    grey = (scale_intensity(image, intensity) * 255).round().astype(np.uint8)
    height, width = grey.shape[:2]
    scale = size / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(grey).convert("RGB").resize(shape, Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _outlined(
    base: RGB, image: npt.ArrayLike, mask: npt.ArrayLike | None, truth: npt.ArrayLike | None
) -> RGB:
    # The truth comes last: where both agree it must not vanish under the mask.
    pairs = [("mask", mask, MASK_COLOUR), ("truth", truth, TRUTH_COLOUR)]
    shown = [(n, np.asarray(m) != 0, c) for n, m, c in pairs if m is not None]
    if not shown:
        return base
    for name, outline, _ in shown:
        _check_shape(name, outline, image)
    height, width = base.shape[:2]
    canvas = Image.fromarray(base).resize((_FINE * width, _FINE * height))
    draw = ImageDraw.Draw(canvas)
    for _, outline, colour in shown:
        lines = _lines(outline, canvas.size)
        for line in lines:
            draw.line(line, fill="black", width=3 * _FINE, joint="curve")
        for line in lines:
            draw.line(line, fill=colour, width=round(1.5 * _FINE), joint="curve")
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX))


def _lines(mask: npt.NDArray[np.bool_], size: tuple[int, int]) -> list[list[tuple[float, float]]]:
    """Outlines as (x, y) points on a canvas; the frame makes masks at the edge close as well."""
    width, height = size
    step_y, step_x = height / mask.shape[0], width / mask.shape[1]
    lines = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
    # Index i of the padded mask is the centre of pixel i - 1, half a pixel from its edge.
    return [[((x - 0.5) * step_x, (y - 0.5) * step_y) for y, x in points] for points in lines]


def _check_shape(name: str, array: npt.NDArray[Any], image: npt.ArrayLike) -> None:
    expected = np.shape(image)[:2]
    if array.shape != expected:
        raise ValueError(f"{name} must have the image's shape {expected}, got {array.shape}")
