"""The pictures of the gallery: a report of the phantom, as a browser shows it.

    uv run weakseg compare quickstart
    uv run python docs/gallery.py runs/quickstart

Runs that are not of the phantom are refused: no picture of a patient gets into the documentation.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GALLERY = Path(__file__).parent / "gallery"
LARGEST = 200_000
"""Bytes of a picture."""
COLOURS = (256, 128, 48)
"""In a picture's palette, tried in turn until it is small enough: a page has few. They cover what
colours there are, however rare: thin outlines among many greys."""
WIDTH = 900
"""Of a picture in pixels, at most."""

SHOTS: dict[str, tuple[int, str | None]] = {
    "first-screen": (1200, None),
    "first-screen-narrow": (390, None),
    "cases": (1200, "cases"),
    "honest": (1200, "honest"),
}
"""Name → width of the window in pixels, and the section that is shown; None: the top."""


def take(run: Path, out: Path = GALLERY) -> list[Path]:
    """Write the pictures of a run's report.

    Parameters
    ----------
    run : Path
        Of the phantom.
    out : Path, optional

    Returns
    -------
    list of Path
    """
    from playwright.sync_api import sync_playwright

    from weakseg.errors import UserError
    from weakseg.runs import open_run
    from weakseg.stages.report import make_report

    if open_run(run).record.get("data", {}).get("simulated") is not True:
        raise UserError(
            "The gallery shows the phantom alone.",
            where=str(run),
            fix="weakseg compare quickstart, and then its run",
        )
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for found in map(shutil.which, names) if found), None)
    if program is None:
        raise UserError("There is no Chromium to open the page with.", fix="install chromium")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        page = make_report([run], Path(folder) / "report", look_at_data=False)
        browser = p.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        made = [_shot(browser, page.as_uri(), out / f"{n}.png", *of) for n, of in SHOTS.items()]
        browser.close()
    return made


def _shot(browser: Any, address: str, path: Path, width: int, section: str | None) -> Path:
    from PIL import Image

    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.set_default_timeout(120_000)
    opened.goto(address)
    if section is not None:
        opened.evaluate(
            "name => document.querySelector(`[id$='-${name}']`).scrollIntoView()", section
        )
    shown = Image.open(io.BytesIO(opened.screenshot()))
    opened.close()
    shown = shown.convert("RGB")
    shown.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    for colours in COLOURS:
        palette = shown.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        palette.save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            return path
    raise ValueError(f"{path} has {path.stat().st_size} bytes, more than {LARGEST}")


def main(arguments: Sequence[str]) -> None:
    """Take the pictures of the run that is named."""
    if len(arguments) != 1:
        sys.exit("usage: python docs/gallery.py RUN")
    for path in take(Path(arguments[0])):
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
