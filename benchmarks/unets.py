"""Training U-Nets on a processor in full and in half precision, in turns, by weakseg's own loop.

Run `python benchmarks/unets.py` from the root of the checkout; `--help` lists the options.

- *fp32*, *bf16*: `weakseg train-segmenter` with ``precision: 32-true`` and ``bf16-mixed``;
- *bf16 throughout*: the latter without `weakseg.training.depthwise`, which trains strided
  depthwise convolutions in full precision, since processors are slow at their gradient in half.

A repeat trains a network of each with the same seed, so the same images in the same order. A
training's time holds sampling, augmentation, loss, optimiser, validation and checkpoints, but not
the first epoch, which warms up. With ``--clock cpu`` it is the seconds of the processor, which
other work on the machine disturbs less; give it one thread (``OMP_NUM_THREADS=1``).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
from machine import CLOCKS, describe_machine, print_machine, spread, table, write_json

from weakseg.config import Config
from weakseg.data.mapped import MappedStore
from weakseg.layout import METRICS
from weakseg.methods.fitting import fit_segmenter
from weakseg.methods.segmenters import network_size, segmenter_settings
from weakseg.stages.prepare import prepared_run
from weakseg.training import loop
from weakseg.training.segmentation_cases import SegmentationCases

WAYS = {"fp32": "32-true", "bf16": "bf16-mixed", "bf16 throughout": "bf16-mixed"}


def main() -> None:
    """Measure, print the table, and write it where it was asked for."""
    options = read_options()
    machine = describe_machine(["torch", "torchvision", "lightning"])
    print_machine(machine | {"clock": options.clock})
    rows: list[dict[str, Any]] = []
    for arch in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(arch, options, Path(folder))
    header = ["network", "precision", "images/s", "times fp32", "Dice, validation"]
    lines = [[r["network"], r["way"], r["speed"], f"{r['gain']:.2f}", r["dice"]] for r in rows]
    print(f"\n{options.size}², batches of {options.batch}, {options.repeats} trainings each\n")
    print(table(header, lines))
    write_json(
        options.json, {"machine": machine, "options": vars(options) | {"json": None}, "rows": rows}
    )


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ["encoder-unet:squeezenet1_1", "encoder-unet:mobilenet_v2"]
    parser.add_argument("--networks", nargs="+", default=kinds)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patients", type=int, default=20, help="of the phantom, 16 slices each")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", default="auto", help="learning rate")
    parser.add_argument("--repeats", type=int, default=3, help="trainings of each, seeds from 0 on")
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS))
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    if options.repeats < 1 or options.epochs < 2:
        parser.error("--repeats must be at least 1, and --epochs 2")
    return options


def measure(arch: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Train one network in every way, as often as asked for."""
    speeds: dict[str, list[float]] = {way: [] for way in options.ways}
    dice: dict[str, list[float]] = {way: [] for way in options.ways}
    for seed in range(options.repeats):
        for way in options.ways:
            gc.collect()
            speed, score = trained(arch, way, seed, options, folder)
            speeds[way].append(speed)
            dice[way].append(score)
            print(f"{arch}, {way}, seed {seed}: {speed:.1f} images/s, Dice {score:.3f}", flush=True)
    base = speeds[options.ways[0]]
    return [
        {
            "network": arch,
            "way": way,
            "speed": spread(speeds[way]),
            "gain": spread([s / b for s, b in zip(speeds[way], base, strict=True)]),
            "dice": spread(dice[way]),
        }
        for way in options.ways
    ]


def trained(
    arch: str, way: str, seed: int, options: argparse.Namespace, folder: Path
) -> tuple[float, float]:
    """Images a second from the second epoch on, and the validation Dice of the last."""
    settings = {
        "arch": arch, "weights": "none", "epochs": options.epochs, "batch_size": options.batch,
        "lr": options.lr if options.lr == "auto" else float(options.lr), "precision": WAYS[way],
        "keep": "last",
    }  # fmt: skip
    config = Config.model_validate(
        {
            "data": {
                "phantom": {"patients": options.patients, "size": options.size},
                "image_size": options.size,
            },
            "segmenters": {"unet": settings},
            "device": "cpu",
        }
    )
    clock = CLOCKS[options.clock]
    ends: list[float] = []
    throughout = contextlib.nullcontext()
    if way == "bf16 throughout":
        throughout = patch.object(loop, "depthwise_in_full", contextlib.nullcontext)
    with prepared_run(config, folder / "run") as prepared, throughout:
        resolved = segmenter_settings(prepared, "unet", seed)
        size = network_size(prepared, resolved)
        cases = prepared.cases
        kept = MappedStore(folder / "run")
        data = SegmentationCases(
            cases.cases, cases.labels, config.data, prepared.channels, resolved.normalise, size,
            store=kept,
        )  # fmt: skip
        work = folder / f"{way}-{seed}".replace(" ", "-")
        made = fit_segmenter(
            prepared, resolved, data, cases.indices("train"), work, seed,
            key="benchmark", what=f"{arch}, {way}", after_epoch=lambda _: ends.append(clock()),
        )  # fmt: skip
    images = made.settings["steps"] * options.batch * (options.epochs - 1)
    score = pd.read_csv(work / METRICS)["val_dice"].iloc[-1]
    return images / (ends[-1] - ends[0]), float(score)


if __name__ == "__main__":
    main()
