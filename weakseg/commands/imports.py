"""``weakseg import``: a command a published set, made from their registry, and DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weakseg.commands.naming import NamesCommands
from weakseg.commands.options import Answered, OutDir, Overwrite, answers_of, example
from weakseg.importing.base import PublishedSet
from weakseg.importing.sets.registry import SETS

import_app = typer.Typer(
    cls=NamesCommands,
    name="import",
    help="Make a manifest and an experiment of a published set.\n\n"
    "For sets whose layout alone does not tell enough; `weakseg init` recognises others.",
    epilog=example("weakseg import bus-bra BUSBRA --out busbra"),
    no_args_is_help=True,
    rich_markup_mode=None,
)
Raw = Annotated[Path, typer.Argument(metavar="RAW", help="The folder of the set as published.")]


def _add(published: PublishedSet) -> None:
    @import_app.command(
        published.name,
        help=f"{published.title}.\n\n{published.told} Licence: {published.licence}.",
        short_help=published.title,
        epilog=example(f"weakseg import {published.name} RAW --out {published.name}"),
    )
    def import_one(
        raw: Raw, out: OutDir = None, answer: Answered = None, force: Overwrite = False
    ) -> None:
        from weakseg.importing.arrange import import_set

        folder = out or Path(f"{published.name}-weakseg")
        print(import_set(published, raw, folder, answers_of(answer), force=force))


for _set in SETS:
    _add(_set)


@import_app.command(
    "dicom",
    short_help="DICOM files: volumes, pictures and a manifest, without who the patients are",
    epilog=example(
        "weakseg import dicom EXPORT --out set",
        "weakseg import dicom EXPORT --out slices --as-images --window=-160,240",
    ),
)
def import_dicom(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Folders of DICOM files, searched.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The output folder.")],
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="The key of the hashes; made where there is none "
            "[default: $WEAKSEG_DICOM_KEY, else ~/.config/weakseg/dicom.key].",
        ),
    ] = None,
    as_images: Annotated[
        bool, typer.Option("--as-images", help="Write the slices of volumes as pictures.")
    ] = False,
    window: Annotated[
        str,
        typer.Option(
            "--window",
            metavar="file|none|LOW,HIGH",
            help="Of pictures: the file's own, none, or the values that become black and white.",
        ),
    ] = "file",
    who: Annotated[
        Path | None,
        typer.Option(
            "--who", metavar="CSV", help="Also a table of who is behind each hash, for the owner."
        ),
    ] = None,
    force: Overwrite = False,
) -> None:
    """Write what a tree of DICOM files holds as NIfTI volumes and PNG pictures.

    Series are sorted by place; a manifest without labels is written. Names, numbers, dates and
    identifiers do not get into the output: patients are keyed hashes. What is no image, and series
    that are not whole, are listed with the reason.
    """
    from weakseg.importing.import_dicom import import_dicom as run
    from weakseg.importing.import_dicom import parse_window

    print(
        run(
            folders,
            out,
            key=key,
            as_images=as_images,
            window=parse_window(window),
            who=who,
            force=force,
        )
    )
