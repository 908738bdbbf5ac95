"""The door: one command a stage. Heavy imports stand inside the commands, so that help is quick."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from weakseg import __version__
from weakseg.commands.adapt import adapt
from weakseg.commands.compare_runs import compare_runs
from weakseg.commands.config import config_app
from weakseg.commands.explain_segmenter import explain_segmenter
from weakseg.commands.export import export
from weakseg.commands.failure import explain_failure
from weakseg.commands.heatmap_segment import heatmap_segment
from weakseg.commands.imports import import_app
from weakseg.commands.init import init
from weakseg.commands.launching import prepare_launch, print_result
from weakseg.commands.models import models
from weakseg.commands.naming import NamesCommands
from weakseg.commands.options import (
    ConfigPath,
    Device,
    Force,
    Manifest,
    Overrides,
    RunDir,
    Seed,
    ShardOption,
    example,
    load_experiment,
)
from weakseg.commands.sweep import sweep
from weakseg.commands.train_segmenter import train_segmenter
from weakseg.commands.validate import validate
from weakseg.errors import EXIT_INTERRUPTED
from weakseg.interruption import InterruptedCommand, end_interrupted, signals_raise
from weakseg.progress import print_anywhere
from weakseg.shards import parse_shard

app = typer.Typer(
    cls=NamesCommands,
    name="weakseg",
    help="Masks from a classifier's heatmaps, scored honestly and beside trivial floors.",
    no_args_is_help=True,
    epilog=example("weakseg compare quickstart"),
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
app.command(epilog=example("weakseg init Dataset_BUSI_with_GT --out busi"))(init)
app.command(epilog=example("weakseg validate labels.csv --pictures look/"))(validate)
app.add_typer(config_app)
app.add_typer(import_app)


def _version(show: bool) -> None:
    if show:
        print(f"weakseg {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show the traceback of an error (anywhere in a command)."),
    ] = False,
) -> None:
    """Options of every command."""


STAGES: dict[str, tuple[str, str, str, str]] = {
    "train-classifier": (
        "train_classifier",
        "train_classifiers",
        "Train the image classifier.\n\n"
        "One network a seed. A command that was killed goes on when it is repeated.",
        "weakseg train-classifier own-images --data labels.csv",
    ),
    "retrain-filtered": (
        "retrain_filtered",
        "retrain_filtered",
        "Train anew on heatmap-filtered images.\n\n"
        "Does the classifier need what its heatmaps show, or what they hide? The experiment's "
        "`filtered` says which filters, fills and controls.",
        "weakseg retrain-filtered busi-filtered --data labels.csv",
    ),
}
"""Commands that take an experiment and nothing else: module and function in `stages`, help, and
an example."""


def _add_stage(name: str) -> None:
    module, function, help_text, shown = STAGES[name]

    @app.command(name, help=help_text, epilog=example(shown))
    def stage(
        config: ConfigPath,
        manifest: Manifest = None,
        overrides: Overrides = None,
        run_dir: RunDir = None,
        device: Device = None,
        seed: Seed = None,
        force: Force = False,
    ) -> None:
        settings = load_experiment(config, manifest, overrides, device, seed)
        from weakseg.stages.prepare import prepared_run

        run = getattr(import_module(f"weakseg.stages.{module}"), function)
        with prepared_run(settings, run_dir, force=force) as prepared:
            made = run(prepared, force=force)
            for path in made if isinstance(made, list) else [made]:
                print_result(path)


for _name in STAGES:
    _add_stage(_name)


@app.command(epilog=example("weakseg compare own-images --data labels.csv --set name=mine"))
def compare(
    config: ConfigPath,
    manifest: Manifest = None,
    overrides: Overrides = None,
    run_dir: RunDir = None,
    device: Device = None,
    seed: Seed = None,
    force: Force = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything, print the plan, and write nothing."),
    ] = False,
) -> None:
    """Run all stages and write the report.

    What is up to date is not made again.
    """
    settings = load_experiment(config, manifest, overrides, device, seed)
    from weakseg.stages.compare import compare as run
    from weakseg.stages.prepare import prepared_run

    with prepared_run(settings, run_dir, force=force, dry_run=dry_run) as prepared:
        page = run(prepared, force=force, dry_run=dry_run)
        if page is not None:
            print(page)


app.command(
    "heatmap-segment", epilog=example("weakseg heatmap-segment own-images --data labels.csv")
)(heatmap_segment)


app.command(
    "train-segmenter",
    epilog=example("weakseg train-segmenter own-images --data labels.csv --only unet"),
)(train_segmenter)


@app.command(epilog=example("weakseg report runs/mine runs/other --out both"))
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders.")],
    out: Annotated[Path, typer.Option("--out", help="The report's folder.")],
    gallery: Annotated[
        int | None,
        typer.Option("--gallery", min=0, max=50, help="Cases a row; 0: a report without images."),
    ] = None,
) -> None:
    """Make one report of several runs."""
    from weakseg.runs import open_run

    for run in runs:  # a name that is none is told before anything heavy is loaded
        open_run(run)
    from weakseg.stages.report import make_report

    print(make_report(runs, out, gallery=gallery))


app.command(
    "compare-runs", epilog=example("weakseg compare-runs runs/plain runs/augmented --by site")
)(compare_runs)


@app.command(epilog=example("weakseg predict runs/mine new_images/ --out masks/ --overlays"))
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or an export.")],
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT", help="Images, folders or manifests.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for masks and predictions.csv.")],
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="[default: the first heatmap method without masks, else a network]",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            help="[default: the best validation AUC; of segmenters the first; a mean of networks "
            "has none]",
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N, mps.")] = "auto",
    engine: Annotated[
        str | None,
        typer.Option("--engine", help="torch, onnxruntime, openvino, auto. [default: the run's]"),
    ] = None,
    heatmaps: Annotated[bool, typer.Option("--heatmaps", help="Also write raw heatmaps.")] = False,
    overlays: Annotated[bool, typer.Option("--overlays", help="Also write pictures.")] = False,
    dicom_seg: Annotated[
        bool,
        typer.Option(
            "--dicom-seg", help="Also write DICOM segmentations, to be laid over their series."
        ),
    ] = False,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out files that cannot be read.")
    ] = False,
    denoise: Annotated[
        bool,
        typer.Option("--denoise", help="Smooth images that are noisier than the run's images."),
    ] = False,
    shard: ShardOption = None,
) -> None:
    """Segment new images by a run.

    No truth is needed. With --shard only a part of the images, at the same time as others; the
    same command without it joins them.
    """
    part = None if shard is None else parse_shard(shard)
    from weakseg.predicting.predict import predict as run_predict

    print(
        run_predict(
            run,
            inputs,
            out,
            method=method,
            seed=seed,
            device=device,
            engine=engine,
            heatmaps=heatmaps,
            overlays=overlays,
            dicom_seg=dicom_seg,
            skip_unreadable=skip_unreadable,
            denoise=denoise,
            shard=part,
        )
    )


app.command(epilog=example("weakseg export runs/mine --method gradcam-otsu --out model"))(export)
app.command(
    epilog=example("weakseg adapt runs/mine --method unet --images other-site.csv --out adapted/")
)(adapt)
app.command(
    "explain-segmenter", epilog=example("weakseg explain-segmenter runs/mine --method unet")
)(explain_segmenter)
app.command(
    epilog=example(
        "weakseg sweep own-images --data labels.csv --over classifier.seeds=0..4 --folds 5"
    )
)(sweep)
app.command(epilog=example("weakseg models"))(models)


def main(argv: list[str] | None = None) -> None:
    """Run a command; a user's mistake ends with a message and exit code 2, ours with 1."""
    print_anywhere()
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    command = next((a for a in args if not a.startswith("-")), None)
    try:
        prepare_launch(command, any(a.startswith("--shard") for a in args))
        with signals_raise():
            app(args)
    except InterruptedCommand as e:
        end_interrupted(command, e.exit_code)
    except KeyboardInterrupt:
        end_interrupted(command, EXIT_INTERRUPTED)
    except SystemExit as e:
        if e.code == EXIT_INTERRUPTED:  # what typer makes of a KeyboardInterrupt
            end_interrupted(command, EXIT_INTERRUPTED)
        raise
    except Exception as e:
        if debug:
            raise
        sys.exit(explain_failure(e))


if __name__ == "__main__":
    main()
