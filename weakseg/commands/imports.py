"""``weakseg import``: a command a published set, made from their registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weakseg.commands.options import Answered, OutDir, Overwrite, answers_of, example
from weakseg.importing.base import PublishedSet
from weakseg.importing.sets.registry import SETS

import_app = typer.Typer(
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
        from weakseg.stages.arrange import import_set

        folder = out or Path(f"{published.name}-weakseg")
        print(import_set(published, raw, folder, answers_of(answer), force=force))


for _set in SETS:
    _add(_set)
