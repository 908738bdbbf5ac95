"""Noisy linear imputation: weakseg's beside pytorch-grad-cam's, in one process, in turns.

Run `OMP_NUM_THREADS=1 python benchmarks/imputation.py` from the root of the checkout; `--help`
lists the options. With one thread a busy machine disturbs the times least: ours always uses one,
grad-cam's slows down where its threads wait for a core.

Noise is switched off, so that both solve the same system and their results can be compared: the
script ends with an error where they differ by 1e-5 or more.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from machine import Spread, describe_machine, print_machine, seconds, spread, write_json
from numpy.typing import NDArray
from PIL import Image
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from scipy.ndimage import gaussian_filter

from weakseg.data.phantom import phantom_slices
from weakseg.filtering.imputation import linear_imputation

PERCENTS = (10, 30, 50, 70, 90)
BATCHES = ((1, 1), (8, 3))
TOLERANCE = 1e-5
HEATMAP_WIDTH = 0.1
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"}

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Row(NamedTuple):
    """One line of the table; milliseconds for the batch as a whole."""

    images: int
    channels: int
    missing_percent: int
    ours_ms: Spread
    theirs_ms: Spread
    ratio: Spread
    difference: float


def main() -> None:
    """Measure, print the table, and write it where it was asked for."""
    options = read_options()
    # numpy 2 tells grad-cam, at every call, of an interface that torch has not followed yet.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    machine = describe_machine(["numpy", "scipy", "torch", "grad-cam"])
    count = max(images + channels - 1 for images, channels in BATCHES)
    slices = list(islice(read_slices(options), count))
    if len(slices) < count:
        raise SystemExit(f"{options.images} holds {len(slices)} images, {count} are needed")
    print_machine(machine)
    print(f"\n{options.size}² pixels, {options.repeats} repeats: median [smallest–largest]\n")
    print("| images × channels | missing % | ours, ms | grad-cam, ms | times faster | difference |")
    print("|---|---|---|---|---|---|")
    rows = []
    for images, channels in BATCHES:
        batch = [np.stack(slices[i : i + channels]) for i in range(images)]
        for percent in PERCENTS:
            row = measure(batch, percent, options.repeats)
            rows.append(row)
            print(as_line(row), flush=True)
            if not row.difference < TOLERANCE:
                raise SystemExit(f"the results differ by {row.difference:.1e}")
    write_json(options.json, {"machine": machine, "size": options.size, "rows": rows})


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--repeats", type=int, default=9, help="timed runs of each")
    parser.add_argument("--images", type=Path, help="folder of images; default: simulated slices")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    return options


def read_slices(options: argparse.Namespace) -> Iterable[Floats]:
    """Grey images of the wanted size, (S, S) in [0, 1]."""
    if options.images is None:
        for s in phantom_slices(patients=1, slices_per_patient=12, size=options.size, seed=0):
            yield np.float32(s.image) / np.float32(255)
        return
    for path in sorted(options.images.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            grey = Image.open(path).convert("L").resize((options.size, options.size))
            yield np.float32(grey) / np.float32(255)


def measure(batch: list[Floats], percent: int, repeats: int) -> Row:
    """Time both on the same images with the same masks, in turns, after a warm-up.

    Parameters
    ----------
    batch : list of (C, S, S) ndarray of float32
    percent : int
        Share of the pixels that is missing: the hottest ones of a smooth random heatmap, another
        one for every image.
    repeats : int
    """
    masks = [hottest(image.shape[1:], percent, seed) for seed, image in enumerate(batch)]
    tensors = [torch.from_numpy(image) for image in batch]
    known = [torch.from_numpy(~mask).float() for mask in masks]
    imputer = NoisyLinearImputer(noise=0)

    def ours() -> list[Floats]:
        return [linear_imputation(x, m, noise=0) for x, m in zip(batch, masks, strict=True)]

    def theirs() -> list[Floats]:
        return [imputer(x, k).numpy() for x, k in zip(tensors, known, strict=True)]

    difference = max(
        float(np.abs(a - b).max()) for a, b in zip(ours(), theirs(), strict=True)
    )  # this was the warm-up, too
    times = [(milliseconds(ours), milliseconds(theirs)) for _ in range(repeats)]
    return Row(
        images=len(batch),
        channels=len(batch[0]),
        missing_percent=percent,
        ours_ms=spread(a for a, _ in times),
        theirs_ms=spread(b for _, b in times),
        ratio=spread(b / a for a, b in times),
        difference=difference,
    )


def hottest(shape: tuple[int, ...], percent: int, seed: int) -> Bools:
    """The hottest pixels of a smooth random heatmap."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    heat = gaussian_filter(noise, HEATMAP_WIDTH * shape[0]).ravel()
    mask = np.zeros(heat.size, dtype=bool)
    mask[np.argsort(-heat)[: round(heat.size * percent / 100)]] = True
    return mask.reshape(shape)


def milliseconds(run: Callable[[], object]) -> float:
    """How long one run takes."""
    return 1e3 * seconds(run)


def as_line(row: Row) -> str:
    """A row of the Markdown table."""
    cells = (
        f"{row.images} × {row.channels}",
        row.missing_percent,
        f"{row.ours_ms:.1f}",
        f"{row.theirs_ms:.1f}",
        f"{row.ratio:.1f}",
        f"{row.difference:.0e}",
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


if __name__ == "__main__":
    main()
