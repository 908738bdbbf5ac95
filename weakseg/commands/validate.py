"""``weakseg validate``: every problem of a manifest at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weakseg.errors import EXIT_USER


def validate(
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="A CSV: image,label[,mask,patient,split].")
    ],
    healthy: Annotated[
        list[str] | None,
        typer.Option(
            "--healthy",
            metavar="LABEL",
            help="A label of images without a lesion; may be repeated.",
        ),
    ] = None,
    lesion: Annotated[
        list[str] | None,
        typer.Option(
            "--lesion", metavar="LABEL", help="A label of images with a lesion; may be repeated."
        ),
    ] = None,
    mask_rule: Annotated[
        str,
        typer.Option(
            "--mask-rule", metavar="RULE", help="nonzero, half, dark, or values such as 1,4."
        ),
    ] = "nonzero",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="E.g. data.similar_patients=same."),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            "--pictures",
            metavar="DIR",
            help="A folder for a sheet of images with their masks' outlines: look at it.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the problems as JSON.")] = False,
) -> None:
    """List every problem of a manifest.

    The exit code is 0 if there is no error, 2 otherwise.
    """
    from weakseg.importing.validate import validate_manifest

    report, failed = validate_manifest(
        manifest,
        healthy,
        lesion,
        mask_rule,
        changes=overrides or (),
        pictures=pictures,
        as_json=as_json,
    )
    print(report)
    if failed:
        raise typer.Exit(EXIT_USER)
