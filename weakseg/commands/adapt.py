"""``weakseg adapt``: a network of one site on the images of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def adapt(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    method: Annotated[str, typer.Option("--method", metavar="NAME", help="One of `segmenters`.")],
    images: Annotated[
        Path,
        typer.Option("--images", metavar="PATH", help="The other site's: a folder or manifest."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the results.")],
    steps: Annotated[
        int, typer.Option("--steps", min=0, help="Of the generator's training; 0: none.")
    ] = 300,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the generator.")] = 0,
    generator: Annotated[
        Path | None,
        typer.Option("--generator", metavar="FILE", help="One of an earlier call; no training."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N, mps.")] = "auto",
) -> None:
    """Adapt a network to images of another site.

    Without masks: a generator learns to give the images the look of the run's training images, to
    a discriminator and to the network, and the network segments what it makes. Masks of a manifest
    are opened at the end, for scores before and after alone.
    """
    from weakseg.runs import open_run

    open_run(run)
    from weakseg.predicting.adapt import adapt as work
    from weakseg.training.adaptation import AdaptationSettings

    settings = AdaptationSettings(steps=steps)
    print(
        work(
            run,
            images,
            out,
            method=method,
            settings=settings,
            seed=seed,
            device=device,
            generator=generator,
        )
    )
