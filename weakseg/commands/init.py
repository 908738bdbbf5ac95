"""``weakseg init``: from a folder of images to a first experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weakseg.commands.options import Answered, OutDir, Overwrite, answers_of


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the images are.")],
    out: OutDir = None,
    layout: Annotated[
        str | None,
        typer.Option("--layout", metavar="NAME", help="How the files lie, where several fit."),
    ] = None,
    answer: Answered = None,
    force: Overwrite = False,
) -> None:
    """Start from a folder of images.

    Recognises how images, masks and labels lie, says what it found and what it is unsure of, and
    writes labels.csv, experiment.yaml and a sheet of pictures to look at. Questions are asked at a
    terminal only.
    """
    from weakseg.importing.arrange import init_folder

    name = folder.resolve().name or "images"
    where = out or Path(f"{name}-weakseg")
    print(init_folder(folder, where, answers_of(answer), layout=layout, force=force))
