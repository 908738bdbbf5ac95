"""From what Pillow and OpenCV decode to raw samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from weakseg.data.formats.pixels import Pixels

if TYPE_CHECKING:
    from PIL import Image


ORIENTATION = 0x0112
"""The tag of EXIF and TIFF that says where the first row and column belong."""


def exif_orientation(image: Image.Image) -> int:
    """What a photo's tag says, 1 where there is none."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a broken tag is no reason to refuse an image
        return 1


def pillow_pixels(image: Image.Image, depth: int) -> Pixels:
    """The samples of a decoded image, given the bits a sample that its file has."""
    if image.mode == "P":
        return _palette_pixels(image, depth)
    if image.mode == "1":
        depth, values = 1, np.asarray(image).astype(np.uint8)
    elif image.mode == "L" and depth < 8:  # Pillow spreads 2 and 4 bits over 0 to 255
        values = np.asarray(image) // np.uint8(255 // (2**depth - 1))
    elif image.mode in ("LA", "RGBA"):
        both = np.asarray(image)
        colours = both[..., 0] if image.mode == "LA" else both[..., :3]
        return Pixels(np.ascontiguousarray(colours), 8, np.ascontiguousarray(both[..., -1]))
    elif image.mode in ("L", "RGB", "F", "I") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
    else:  # CMYK, Lab and their like
        values = np.asarray(image.convert("RGB"))
    clear = image.info.get("transparency")
    if not isinstance(clear, int | tuple):
        return Pixels(values, depth)
    hidden = values == np.asarray(clear)
    hidden = hidden.all(axis=2) if hidden.ndim == 3 else hidden
    top = np.iinfo(values.dtype).max if np.issubdtype(values.dtype, np.integer) else 1
    return Pixels(values, depth, np.where(hidden, 0, top).astype(values.dtype))


def _palette_pixels(image: Image.Image, depth: int) -> Pixels:
    values = np.asarray(image)
    colours = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    clear = image.info.get("transparency")
    if clear is None:
        return Pixels(values, depth, colours=colours)
    alpha = np.full(256, 255, dtype=np.uint16)
    if isinstance(clear, int):
        alpha[clear : clear + 1] = 0
    else:
        some = np.frombuffer(clear, dtype=np.uint8)[:256]
        alpha[: len(some)] = some
    colours = ((colours * alpha[: len(colours), None] + 127) // 255).astype(np.uint8)
    return Pixels(values, depth, alpha[values].astype(np.uint8), colours, over_black=True)


def from_opencv(data: bytes) -> Pixels:
    """A file of 16 bits a sample as OpenCV decodes it."""
    values = opencv_samples(data)
    bits = values.dtype.itemsize * 8
    if values.ndim == 2:
        return Pixels(values, bits)
    alpha = np.ascontiguousarray(values[..., 3]) if values.shape[2] == 4 else None
    return Pixels(np.ascontiguousarray(values[..., :3]), bits, alpha)


def opencv_samples(data: bytes) -> NDArray[Any]:
    """Samples as OpenCV decodes them, red first: (M, N), (M, N, 3) or (M, N, 4)."""
    import cv2

    # What it would print of damage, None says.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("the pixels cannot be decoded")
    return image if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[2]]]
