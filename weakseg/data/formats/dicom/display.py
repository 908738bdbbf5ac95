"""What a viewer shows of samples: rescaled, windowed, the right way round, in colours.

PS3.3: Modality LUT and rescaling C.11.1, window and VOI LUT C.11.2, palettes C.7.9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from weakseg.data.formats.dicom.codecs import stored_range
from weakseg.data.formats.dicom.header import no_values, numbers, text, whole_number
from weakseg.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

Window = Literal["file", "none"] | tuple[float, float]
"""The file's own window or VOI LUT, none, or from which value to which."""

GREYS = ("MONOCHROME1", "MONOCHROME2")


def shown_samples(
    data: Dataset, values: NDArray[Any], where: str, window: Window = "file"
) -> NDArray[Any]:
    """The samples of a frame as a viewer shows them.

    Parameters
    ----------
    data : Dataset
    values : (M, N) or (M, N, 3) ndarray
        As `weakseg.data.formats.dicom.codecs.frames` gives them.
    where : str
        The file, for messages.
    window : {"file", "none"} or (low, high)
        By ``file``, grey samples are mapped by the first window or VOI LUT of the file to the
        whole range of 8 bits, or of 16 where more than 8 are stored; without one, or with one of
        no width, they stay as they are, rescaled; so with ``none``. (low, high) are rescaled
        values, for instance Hounsfield units, that become black and white.

    Returns
    -------
    (M, N) or (M, N, 3) ndarray
        uint8, uint16 or float32. Large values are bright, also of MONOCHROME1.
    """
    kind = text(data, "PhotometricInterpretation")
    with no_values():
        if kind == "PALETTE COLOR":
            return _palette(data, values)
        if values.ndim == 3:
            return _colours(values)
    if kind not in GREYS:
        raise DataError(
            "The image is of a kind of colours that is not read.",
            where=where,
            found="another photometric interpretation",
            expected="MONOCHROME1 or 2, RGB, YBR or PALETTE COLOR",
            fix="export it as RGB",
        )
    whole = rescaled(data, values, where)
    shares = _windowed(data, whole, window)
    inverse = kind == "MONOCHROME1"
    if shares is not None:
        low, high = stored_range(data)
        top, kind_of = (255, np.uint8) if high - low <= 255 else (65535, np.uint16)
        return np.rint((1 - shares if inverse else shares) * top).astype(kind_of)
    if inverse:
        ends = rescaled(data, np.array([stored_range(data)]), where)
        whole = ends.sum() - whole
    return _narrow(whole)


def rescaled(data: Dataset, values: NDArray[Any], where: str) -> NDArray[Any]:
    """Samples as the modality means them: by its LUT, or by slope and intercept.

    Raises
    ------
    DataError
        For a slope of 0, by which all samples are one.
    """
    if has_table(data):
        from pydicom.pixels import apply_modality_lut

        with no_values():
            return np.asarray(apply_modality_lut(np.asarray(values).astype(np.int64), data))
    slope, intercept = slope_of(data, where)
    if (slope, intercept) == (1.0, 0.0):
        return values
    return values.astype(np.float64) * slope + intercept


def has_table(data: Dataset) -> bool:
    """Whether a modality LUT says what samples are, in the place of slope and intercept."""
    return bool(data.get("ModalityLUTSequence"))


def slope_of(data: Dataset, where: str) -> tuple[float, float]:
    """Slope and intercept of a data set, or of a functional group; 1 and 0 where it has none."""
    slope = (numbers(data, "RescaleSlope", 1, where) or (1.0,))[0]
    intercept = (numbers(data, "RescaleIntercept", 1, where) or (0.0,))[0]
    if slope == 0:
        raise DataError(
            "The rescale slope is 0, so that all values would be the same.",
            where=where,
            fix="export the series again; the archive's copy may be damaged",
        )
    return slope, intercept


def _windowed(data: Dataset, values: NDArray[Any], window: Window) -> NDArray[np.float64] | None:
    """From 0 (black of MONOCHROME2) to 1; None where nothing tells a window."""
    if window == "none":
        return None
    if not isinstance(window, str):
        low, high = window
        return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
    if data.get("VOILUTSequence"):
        return _by_lut(data, values)
    window_of = _window_of(data)
    if window_of is None:
        return None
    centre, width, function = window_of
    x = values.astype(np.float64)
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-4 * (x - centre) / width))
    if function == "LINEAR":  # C.11.2.1.2.1
        if width == 1:
            return (x > centre - 0.5).astype(np.float64)
        return np.clip((x - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    return np.clip((x - centre) / width + 0.5, 0, 1)  # LINEAR_EXACT


def has_window(data: Dataset) -> bool:
    """Whether a file says, in a way that can be used, which values to show."""
    return bool(data.get("VOILUTSequence")) or _window_of(data) is not None


def window_ends(data: Dataset) -> tuple[float, float] | None:
    """The values that a file's first window makes black and white; None where it has no such.

    So of a sigmoid, which has no ends.
    """
    ends = _window_of(data)
    if ends is None or ends[2] == "SIGMOID":
        return None
    centre, width, function = ends
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return (centre - width / 2, centre + width / 2) if width > 0 else None


def _window_of(data: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window; None where there is none to be used."""
    with no_values():
        values = [data.get(k) for k in ("WindowCenter", "WindowWidth")]
        first = [v[0] if hasattr(v, "append") else v for v in values if v is not None and v != ""]
        if len(first) < 2:
            return None
        centre, width = (float(v) for v in first)
        function = text(data, "VOILUTFunction") or "LINEAR"
    usable = width >= 1 if function == "LINEAR" else width > 0
    return (centre, width, function) if usable and np.isfinite((centre, width)).all() else None


def _by_lut(data: Dataset, values: NDArray[Any]) -> NDArray[np.float64]:
    from pydicom.pixels import apply_voi

    with no_values():
        bits = int(data.VOILUTSequence[0].LUTDescriptor[2])
        return np.asarray(apply_voi(np.rint(values).astype(np.int64), data)) / (2.0**bits - 1)


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers of 8 or 16 bits as such, all others as float32."""
    if values.dtype in (np.uint8, np.uint16):
        return values
    return values.astype(np.float32)


def _palette(data: Dataset, values: NDArray[Any]) -> NDArray[Any]:
    from pydicom.pixels import apply_color_lut

    colours = np.asarray(apply_color_lut(values, data))[..., :3]
    bits = int(data.RedPaletteColorLookupTableDescriptor[2])
    return (colours >> (bits - 8)).astype(np.uint8) if bits > 8 else colours.astype(np.uint8)


def _colours(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype in (np.uint8, np.uint16):
        return values
    if values.dtype == np.uint32:  # the upper half: no viewer shows more
        return (values >> np.uint32(16)).astype(np.uint16)
    raise ValueError("colours of an unusual type")


def is_single_grey(data: Dataset) -> bool:
    """Whether each sample is one grey value, which volumes have to hold."""
    return (
        text(data, "PhotometricInterpretation") in GREYS
        and whole_number(data, "SamplesPerPixel", 1) == 1
    )
