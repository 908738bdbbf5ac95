"""``weakseg models``: the networks, their size and fields."""

from __future__ import annotations

from typing import Annotated

import typer


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
    time: Annotated[
        bool,
        typer.Option(
            "--time",
            help="Measure the segmenters on this machine's CPU too: seconds an image (128 pixels a "
            "side) or training patch in a step of training and in a prediction; takes minutes.",
        ),
    ] = False,
) -> None:
    """List networks, their size and fields.

    Parameters, receptive field, stride, training patch and default heatmap layer, computed from
    the networks themselves.
    """
    import json

    from weakseg.models.table import format_models, models_table
    from weakseg.training.times import with_times

    rows = with_times(models_table()) if time else models_table()
    print(json.dumps(rows, indent=2) if as_json else format_models(rows))
