"""``weakseg sweep``: many runs of one experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from weakseg.commands.options import (
    ConfigPath,
    Device,
    Manifest,
    Overrides,
    load_experiment,
)


def sweep(
    config: ConfigPath,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over",
            metavar="KEY=VALUES",
            help="Values of a key, as classifier.seeds=0..9 or classifier.arch=resnet18,vgg11; may "
            "be repeated: every combination is a run.",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option("--folds", min=2, max=100, help="Run each once for each of so many folds."),
    ] = None,
    executor: Annotated[
        str,
        typer.Option(
            "--executor",
            help="local: processes of this machine; slurm: a cluster, by submitit; submitit-local: "
            "to try a --cluster file.",
        ),
    ] = "local",
    cluster: Annotated[
        Path | None,
        typer.Option(
            "--cluster", metavar="YAML", help="Limits of a job, partition, how many at once."
        ),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Start again what has failed.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The sweep's folder [default: runs/NAME-sweep-KEYS]."),
    ] = None,
    manifest: Manifest = None,
    overrides: Overrides = None,
    device: Device = None,
) -> None:
    """Run an experiment many times, and join the results.

    A run a combination of values, each a job of its own and a `compare` in itself. With folds every
    patient is tested once. Repeat the command to go on; --retry takes up what has failed.
    """
    from weakseg.config import Config
    from weakseg.sweeping.cluster import read_cluster
    from weakseg.sweeping.sweep import said_of_failures
    from weakseg.sweeping.sweep import sweep as run

    def load(changes: list[str]) -> Config:
        return load_experiment(config, manifest, [*(overrides or []), *changes], device, None)

    limits = read_cluster(cluster)
    outcome = run(
        load, over or [], folds=folds, executor=executor, cluster=limits, retry=retry, out=out
    )
    print(outcome.page)
    if outcome.failed:
        raise said_of_failures(outcome, str(outcome.page.parent / "jobs"))
