"""``weakseg train-segmenter``: networks, their masks and scores; masks in shards, if need be."""

from __future__ import annotations

from typing import Annotated

import typer

from weakseg.commands.launching import print_result
from weakseg.commands.options import (
    ConfigPath,
    Device,
    Force,
    Manifest,
    Overrides,
    RunDir,
    Seed,
    ShardOption,
    load_experiment,
)
from weakseg.errors import UserError
from weakseg.shards import parse_shard


def train_segmenter(
    config: ConfigPath,
    manifest: Manifest = None,
    overrides: Overrides = None,
    run_dir: RunDir = None,
    device: Device = None,
    seed: Seed = None,
    force: Force = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="One of `segmenters`; may be repeated."),
    ] = None,
    shard: ShardOption = None,
    fit: Annotated[
        bool,
        typer.Option("--fit", help="Train, choose thresholds, and stop: shards make masks then."),
    ] = False,
) -> None:
    """Train segmentation networks: supervised ones, and those taught by masks of heatmaps.

    FCN, U-Net, DeepMedic and others: the experiment's `segmenters`. Their masks of the test
    images are made and scored too. A command that was killed goes on when it is repeated. After
    --fit, --shard makes the masks of a part; the next command without them joins what there is.
    """
    part = None if shard is None else parse_shard(shard)
    if fit and part is not None:
        raise UserError(
            "Of --shard and --fit there can be one.",
            where="train-segmenter",
            fix="leave the other out: --fit once, and then a --shard for each part",
        )
    settings = load_experiment(config, manifest, overrides, device, seed)
    from weakseg.stages import train_segmenter as stage
    from weakseg.stages.prepare import prepared_run

    with prepared_run(settings, run_dir, shard=part) as prepared:
        if part is not None:
            print(stage.segmenters_shard(prepared, part, only=only, force=force))
        else:
            run = stage.fit_segmenters if fit else stage.train_segmenters
            print_result(run(prepared, only=only, force=force))
