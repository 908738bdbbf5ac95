"""A sheet of a manifest's images with the outlines of their masks: what only people can judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from weakseg.config import DataConfig
from weakseg.data.case_files import as_planes, case_image, case_truth, shown_intensity
from weakseg.data.cases import Case, Labels
from weakseg.data.manifest import Problem, Row, Table, row_case
from weakseg.errors import DataError
from weakseg.report.pictures import RGB, TRUTH_COLOUR, contours
from weakseg.runs import atomic_path

SHOWN = 24
"""Images on a sheet."""
HEALTHY = 6
"""Of these without a lesion, where there are enough of both."""
COLUMNS = 6
SIDE = 240
"""Pixels of a picture's longest side."""
_GAP, _LINE, _TEXT = 14, 18, 13
_GROUND, _WHITE, _GREY, _ALARM = "#1e1e1e", "#ffffff", "#b8b8b8", "#ffb000"


@dataclass(frozen=True)
class Tile:
    """One image of a sheet.

    Attributes
    ----------
    picture : (m, n, 3) ndarray of uint8 or None
        With its mask's outline; None where it cannot be read.
    row : int
    file, told, alarm : str
        Its caption: the image's file, label and mask, and what is wrong, which may be blank.
    """

    picture: RGB | None
    row: int
    file: str
    told: str
    alarm: str


def choose_rows(
    table: Table, problems: Sequence[Problem], labels: Labels | None, shown: int = SHOWN
) -> list[Row]:
    """The rows that a sheet shows, in their order.

    Parameters
    ----------
    table : Table
    problems : sequence of Problem
        Up to half of the sheet is for rows of whose mask one tells; up to a sixth for others whose
        mask is joined from several files.
    labels : Labels or None
        None where the labels' meaning cannot be told.
    shown : int
        The most rows.

    Returns
    -------
    list of Row
        At most ``shown``, spread evenly over the rows of each kind.
    """
    rows = [r for r in table.rows if r.image]
    problem_of = _told(problems)
    suspect = _spread([r for r in rows if r.mask and r.line in problem_of], shown // 2)
    lines = {r.line for r in suspect}
    joined = [r for r in rows if r.line not in lines and len(table.masks(r)) > 1]
    lines.update(r.line for r in _spread(joined, shown // 6))
    rest = [r for r in rows if r.line not in lines]
    healthy = labels.healthy if labels else ()
    ill = [r for r in rest if r.mask and r.label not in healthy]
    other = [r for r in rest if not r.mask or r.label in healthy]
    places = shown - len(lines)
    without = min(len(other), max(HEALTHY * shown // SHOWN, places - len(ill)))
    lines.update(r.line for r in (*_spread(ill, places - without), *_spread(other, without)))
    return [r for r in rows if r.line in lines]


def _told(problems: Sequence[Problem]) -> dict[int, str]:
    """What is said of the masks of rows: line → kinds."""
    kinds: dict[int, str] = {}
    for p in problems:
        if p.row is not None and ("mask" in p.kind or p.kind == "orientation-differs"):
            kinds[p.row] = ", ".join(dict.fromkeys([*filter(None, [kinds.get(p.row)]), p.kind]))
    return kinds


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    """Rows from the middle of as many equal parts: the ends of a series of slices show little."""
    if count <= 0 or not rows:
        return []
    n = min(count, len(rows))
    return [rows[int((i + 0.5) * len(rows) / n)] for i in range(n)]


def write_sheet(
    path: Path,
    table: Table,
    data: DataConfig,
    problems: Sequence[Problem],
    labels: Labels | None,
    progress: Callable[[int, int], object] | None = None,
    shown: int = SHOWN,
) -> int:
    """Write a PNG of images, each with the outline of its mask, row, name and label.

    Parameters
    ----------
    path : Path
        Ends in ``.png``.
    table : Table
    data : DataConfig
        What mask values mean, and how intensities are shown.
    problems : sequence of Problem
    labels : Labels or None
        See `choose_rows`.
    progress : callable, optional
        Called after each image, with 1 and the number of all.
    shown : int
        The most images.

    Returns
    -------
    int
        Images on the sheet; where it is 0, nothing is written.
    """
    rows = choose_rows(table, problems, labels, shown)
    tiles = []
    for row in rows:
        tiles.append(_tile(row, table, data, _told(problems)))
        if progress is not None:
            progress(1, len(rows))
    if tiles:
        title = (
            f"{_plain(table.path.name)}: {len(tiles)} of {len(table.rows)} images, and what "
            f"data.mask_rule: {data.mask_rule} takes for the lesion"
        )
        with atomic_path(path) as part:
            _sheet(tiles, title).save(part, format="PNG")
    return len(tiles)


def _tile(row: Row, table: Table, data: DataConfig, told: dict[int, str]) -> Tile:
    file, label = _plain(row.image), _plain(row.label)
    alarm = told.get(row.line, "")
    case = row_case(table, row)
    try:
        image, mask = _image_and_mask(case, data)
        if mask is not None and mask.shape != image.shape[:2]:
            mask, alarm = None, alarm or "mask-size"
        picture = contours(image, truth=mask, size=SIDE, intensity=shown_intensity(case, data))
    except DataError as e:
        return Tile(None, row.line, file, label, alarm or _plain(e.what))
    if not row.mask:
        marked = "no mask"
    elif mask is None:
        marked = "mask not shown"
    else:
        marked = f"{100 * mask.mean():.3g} % marked" if mask.any() else "mask empty"
        files = len(table.masks(row))
        marked += f" by {files} files" if files > 1 else ""
    return Tile(picture, row.line, file, f"{label} · {marked}", alarm)


def _image_and_mask(case: Case, data: DataConfig) -> tuple[np.ndarray, np.ndarray | None]:
    """An image and its mask; of several slices the one with most of the mask, else the middle."""
    planes, truth = as_planes(case, case_image(case, data)), case_truth(case, data)
    if truth is None:
        return planes[len(planes) // 2], None
    masks = as_planes(case, truth)
    at = min(int(masks.sum(axis=(1, 2)).argmax()), len(planes) - 1)
    return planes[at], masks[at]


def _sheet(tiles: Sequence[Tile], title: str) -> Image.Image:
    columns = min(COLUMNS, len(tiles))
    step_x, step_y = SIDE + _GAP, SIDE + 3 * _LINE + _GAP
    rows = -(-len(tiles) // columns)
    top = 2 * _LINE + _GAP
    size = (max(columns, 3) * step_x + _GAP, top + rows * step_y + _GAP // 2)
    sheet = Image.new("RGB", size, _GROUND)
    draw, font = ImageDraw.Draw(sheet), _font()
    _line(draw, (_GAP, _GAP), title, _WHITE, font, size[0] - 2 * _GAP)
    legend = "outlines: the mask; captions: row, file, label, what `weakseg validate` says of it"
    _line(draw, (_GAP, _GAP + _LINE), legend, TRUTH_COLOUR, font, size[0] - 2 * _GAP)
    for i, tile in enumerate(tiles):
        x, y = _GAP + i % columns * step_x, top + _GAP // 2 + i // columns * step_y
        if tile.picture is None:
            draw.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), outline=_GREY)
        else:
            height, width = tile.picture.shape[:2]
            place = (x + (SIDE - width) // 2, y + (SIDE - height) // 2)
            sheet.paste(Image.fromarray(tile.picture), place)
        name = f"{tile.row}: {tile.file}"
        if draw.textlength(name, font=font) > SIDE:  # rather without its folders
            name = f"{tile.row}: {tile.file.rpartition('/')[2]}"
        lines = ((name, _WHITE), (tile.told, _GREY), (tile.alarm, _ALARM))
        for k, (text, colour) in enumerate(lines):
            _line(draw, (x, y + SIDE + 3 + k * _LINE), text, colour, font, SIDE)
    return sheet


def _line(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    colour: str,
    font: ImageFont.FreeTypeFont,
    width: int,
) -> None:
    """A line of text; where it is too long, its middle is left out."""
    half = len(text) // 2
    shown = text
    while half and draw.textlength(shown, font=font) > width:
        half -= 1
        shown = f"{text[:half]}…{text[-half:]}" if half else "…"
    draw.text(place, shown, fill=colour, font=font)


def _font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: Latin, Greek, Cyrillic and more."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf")), _TEXT)


def _plain(text: str) -> str:
    """Text on one line, without what no font shows."""
    return "".join(c if c.isprintable() else "?" for c in text)
