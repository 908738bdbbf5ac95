"""``weakseg heatmap-segment``: heatmaps, masks and scores; in shards, if need be."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

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


def heatmap_segment(
    config: ConfigPath,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Instead compare methods, layers and thresholds on the validation masks.",
        ),
    ] = False,
    manifest: Manifest = None,
    overrides: Overrides = None,
    run_dir: RunDir = None,
    device: Device = None,
    seed: Seed = None,
    force: Force = False,
    shard: ShardOption = None,
    fit: Annotated[
        bool,
        typer.Option(
            "--fit", help="Join the heatmaps, fit the rules, and stop: shards make masks then."
        ),
    ] = False,
) -> None:
    """Make heatmaps and masks, and score them.

    With --shard only the heatmaps of a part of the images, at the same time as others; after --fit
    the masks of a part. The next command without them joins what there is, and makes what is not.
    """
    part = None if shard is None else parse_shard(shard)
    if sum([sweep, fit, part is not None]) > 1:
        raise UserError(
            "Of --shard, --fit and --sweep there can be one.",
            where="heatmap-segment",
            fix="leave the others out",
        )
    settings = load_experiment(config, manifest, overrides, device, seed)
    from weakseg.stages.prepare import prepared_run

    if part is not None:
        from weakseg.stages.heatmap_segment import heatmap_shard

        with prepared_run(settings, run_dir, shard=part) as prepared:
            print(heatmap_shard(prepared, part, force=force))
        return
    module = import_module(f"weakseg.stages.{'sweep' if sweep else 'heatmap_segment'}")
    run = module.sweep if sweep else module.fit_for_shards if fit else module.heatmap_segment
    with prepared_run(settings, run_dir) as prepared:
        print(run(prepared, force=force))
