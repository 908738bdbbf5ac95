"""One colour a method, the same in every table and figure of a page."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping

COLOURS = {
    "no-masks": "#0a84c6",
    "masks": "#b8579b",
    "foundation": "#b06a3b",
    "supervised": "#00a077",
    "floor": "#8c8c8c",
    "oracle": "#d98a00",
}
"""Group of methods → its colour; chosen after Okabe and Ito, readable on white and on black."""

_HUES = {
    "no-masks": (0.52, 0.70),
    "masks": (0.76, 0.95),
    "foundation": (0.97, 1.02),
    "supervised": (0.26, 0.48),
    "floor": (0.0, 1.0),
    "oracle": (0.03, 0.13),
}
"""Hues of the other methods of a group, as shares of the circle."""
_SATURATION = {"floor": 0.12}
_STEP = 0.6180339887
"""Of a golden-ratio sequence: each new hue lies in the largest gap."""
_LUMINANCE = (0.17, 0.27)
"""Of the WCAG: at least 3 to 1 against white (1.0) and against the dark page (0.008)."""


def method_colours(groups: Mapping[str, str]) -> dict[str, str]:
    """A colour for every method, near that of its group.

    Parameters
    ----------
    groups : mapping
        Method → group, a key of `COLOURS`.

    Returns
    -------
    dict
        Method → ``#rrggbb``. The first of a group has the group's own. Each is told from white and
        from black.
    """
    seen: dict[str, int] = {}
    colours = {}
    for method, group in groups.items():
        i = seen[group] = seen.get(group, -1) + 1
        colours[method] = COLOURS[group] if i == 0 else _shade(group, i)
    return colours


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` by the WCAG, from 0 to 1."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _shade(group: str, i: int) -> str:
    low, high = _HUES[group]
    hue = low + (high - low) * (i * _STEP % 1)
    aim = _LUMINANCE[i % 2]
    # Luminance grows with lightness: halving finds it.
    dark, light = 0.0, 1.0
    colour = COLOURS[group]
    for _ in range(12):
        middle = (dark + light) / 2
        rgb = colorsys.hls_to_rgb(hue, middle, _SATURATION.get(group, 0.75))
        colour = "#" + "".join(f"{round(255 * c):02x}" for c in rgb)
        dark, light = (middle, light) if luminance(colour) < aim else (dark, middle)
    return colour
