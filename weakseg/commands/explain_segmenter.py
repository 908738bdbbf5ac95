"""``weakseg explain-segmenter``: what of an image a segmenter's masks stand on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weakseg.commands.options import Force


def explain_segmenter(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    method: Annotated[str, typer.Option("--method", metavar="NAME", help="One of `segmenters`.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the maps as well.")
    ] = None,
    images: Annotated[
        int, typer.Option("--images", min=0, help="Test images at most; 0: all.")
    ] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N, mps.")] = "auto",
    force: Force = False,
) -> None:
    """Explain the masks of a segmentation network.

    Class activation maps of its expanding path, and how much of image and mask is left where only
    what they mark is kept, beside a random map and the mask itself. No true mask is looked at.
    """
    from weakseg.runs import open_run

    open_run(run)
    from weakseg.stages.explain_segmenter import explain_run

    print(explain_run(run, method, out=out, images=images, device=device, force=force))
