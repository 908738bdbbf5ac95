"""What stored samples mean: the colours that a viewer shows, and what stands out of its ground.

A mask is read by its colours and not by how they are stored: a palette may name white first, and
what lies under a transparent pixel is nobody's drawing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg.data.formats.pixels import Pixels


def is_grey(image: NDArray[Any]) -> bool:
    """Whether an (M, N) or (M, N, 3) image holds no colour: one channel, or three equal ones."""
    if image.ndim == 2:
        return True
    first = image[..., :1]
    return bool((image[..., 1:] == first).all())


def one_channel(values: NDArray[Any]) -> NDArray[Any]:
    """The (M, N) values of an image that holds no colour; else the image as it is."""
    return values[..., 0] if values.ndim == 3 and is_grey(values) else values


def top(values: NDArray[Any]) -> float:
    """The largest value of a type's range; 1 of floats."""
    return np.iinfo(values.dtype).max if np.issubdtype(values.dtype, np.integer) else 1.0


def as_displayed(pixels: Pixels) -> NDArray[Any]:
    """Colours or greys over black; 1-, 2- and 4-bit grey is spread over 0 to 255.

    Returns
    -------
    (M, N) or (M, N, 3) ndarray
        Of the samples' type; of a palette uint8, and one channel where all colours in use are
        grey.
    """
    if pixels.colours is not None:
        colours, used = _whole_palette(pixels), np.unique(pixels.values)
        if is_grey(colours[used][None]):
            colours = colours[:, 0]
        return colours[pixels.values]
    values = _spread(pixels)
    if pixels.alpha is None or pixels.over_black:
        return values
    return _over_black(values, pixels.alpha)


def visible(pixels: Pixels) -> NDArray[np.bool_] | None:
    """(M, N) pixels that are not wholly transparent; None where nothing is more so than the rest.

    An image of one opacity is a picture and no layer, whatever the opacity is, but 0.
    """
    alpha = pixels.alpha
    if alpha is None or alpha.min() == alpha.max() > 0:
        return None
    return np.asarray(alpha > 0)


def all_hidden(pixels: Pixels) -> bool:
    """Whether something is stored, and every pixel of it is transparent."""
    alpha, values = pixels.alpha, pixels.values
    return alpha is not None and not alpha.any() and bool((values != values[:1, :1]).any())


def contrast(pixels: Pixels) -> NDArray[Any]:
    """How far each pixel of a mask stands out of the mask's ground; the ground is 0.

    Grey: as displayed. Colours: the channel that stands out most. A palette: the colour's
    distance to that of the ground, see `ground`. A layer, where only what was painted is opaque:
    its opacity over the largest that occurs, whatever the paint.

    Returns
    -------
    (M, N) ndarray
    """
    shown = None
    if pixels.colours is None:
        values = _spread(pixels) if visible(pixels) is None else as_displayed(pixels)
        shown = _strongest(values)
    else:
        shown = _distances(pixels)[pixels.values]
    return shown if (layer := _painted(pixels)) is None else layer


def ground(colours: NDArray[np.uint8], used: NDArray[Any]) -> NDArray[np.uint8]:
    """The colour in a mask's palette that means background.

    Parameters
    ----------
    colours : (K, 3) ndarray of uint8
        Where writers fill a palette up, with black.
    used : (U,) ndarray of int
        The indices that occur.

    Returns
    -------
    (3,) ndarray of uint8
        Black where it occurs or comes first. Else the darkest grey of a palette of greys; the grey
        that coloured classes lie on; and the first colour, if none of these tells.
    """
    some = np.unique(colours[used], axis=0)
    if not some[0].any() or not colours[0].any():
        return np.zeros(3, dtype=np.uint8)
    if is_grey(colours[None]):
        return some[0] if len(some) > 1 else colours[colours[:, 0].argmin()]
    greys = some[(some == some[:, :1]).all(axis=1)]
    return greys[0] if len(greys) == 1 else colours[0]


def _distances(pixels: Pixels) -> NDArray[np.uint8]:
    """(K,) of each colour of the palette: by how much one of its channels leaves the ground."""
    colours = _whole_palette(pixels)
    base = ground(colours, np.unique(pixels.values)).astype(np.int16)
    return np.abs(colours.astype(np.int16) - base).max(axis=1).astype(np.uint8)


def _painted(pixels: Pixels) -> NDArray[Any] | None:
    """Opacity, its largest the type's maximum, where all that is opaque was painted; else None."""
    alpha = pixels.alpha
    if alpha is None or visible(pixels) is None or not alpha.any():
        return None
    # Faint pixels hold hardly any colour: what they were is told by those that hide more.
    firm = as_displayed(pixels)[alpha > alpha.max() / 2]
    coloured = firm.any(axis=1) if firm.ndim == 2 else firm != 0
    if coloured.any() and not coloured.all():  # black is drawn as well: a ground of its own
        return None
    scaled = alpha * (top(alpha) / float(alpha.max()))
    return (np.rint(scaled) if np.issubdtype(alpha.dtype, np.integer) else scaled).astype(
        alpha.dtype
    )


def _strongest(values: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(values.max(axis=2)) if values.ndim == 3 else values


def _whole_palette(pixels: Pixels) -> NDArray[np.uint8]:
    colours, last = pixels.colours, int(pixels.values.max())
    assert colours is not None
    if last >= len(colours):  # some writers leave out the end of the palette: black
        colours = np.pad(colours, ((0, last + 1 - len(colours)), (0, 0)))
    return colours


def _spread(pixels: Pixels) -> NDArray[Any]:
    if pixels.bits >= 8:
        return pixels.values
    return pixels.values.astype(np.uint8) * np.uint8(255 // (2**pixels.bits - 1))


def _over_black(values: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    share = alpha if values.ndim == 2 else alpha[..., None]
    if values.dtype not in (np.uint8, np.uint16):
        return values * (share / top(alpha))
    # 65535² + 32767 still fits into 32 bits.
    most = np.uint32(top(alpha))
    return ((values.astype(np.uint32) * share + most // 2) // most).astype(values.dtype)
