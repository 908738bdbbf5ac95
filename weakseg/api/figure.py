"""Pictures for notebooks: a figure that shows itself, and leaves no state behind."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as _Figure
from numpy.typing import NDArray
from PIL import Image

RGB = NDArray[np.uint8]
INCHES = 2.6
"""Side of a picture in a figure."""


class Figure(_Figure):
    """A matplotlib figure that a notebook shows whatever its backend; ``savefig`` writes it."""

    def _repr_png_(self) -> bytes:
        held = io.BytesIO()
        self.savefig(held, format="png", dpi=100)
        return held.getvalue()


def panels(pictures: Sequence[tuple[str, RGB]], title: str = "") -> Figure:
    """Pictures side by side, each under its title; titles are text, whatever signs they hold.

    Parameters
    ----------
    pictures : sequence of (str, (m, n, 3) ndarray of uint8)
    title : str, optional
    """
    figure = Figure(figsize=(INCHES * len(pictures), INCHES + 0.6), layout="constrained")
    for axes, (said, picture) in zip(
        np.atleast_1d(figure.subplots(1, len(pictures))), pictures, strict=True
    ):
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(said, fontsize=9, parse_math=False)
    if title:
        figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def picture_html(picture: RGB, caption: str) -> str:
    """A picture and its caption as HTML that needs nothing outside itself."""
    held = io.BytesIO()
    Image.fromarray(picture).save(held, format="PNG", optimize=True)
    address = "data:image/png;base64," + base64.b64encode(held.getvalue()).decode("ascii")
    said = escape(caption)
    return (
        f'<figure style="margin:0"><img alt="{said}" src="{address}">'
        f"<figcaption>{said}</figcaption></figure>"
    )


def table_html(table: pd.DataFrame) -> str:
    """A table as HTML; what its cells hold is text."""
    return table.to_html(escape=True, float_format=lambda v: f"{v:.3f}", na_rep="–", border=0)
