"""DeepMedic on a whole volume: dense tiles beside one patch after the other.

Run `python benchmarks/deepmedic.py` from the root of the checkout; `--help` lists the options. A
simulated volume of 240 × 240 × 155 voxels is read in three ways by one network of the paper's
variant with random weights:

- *dense*: `DeepMedic.dense`, in tiles, the whole volume;
- *9³ patches*: the segments of training, 9³ voxels of output each, one after the other;
- *voxels*: what a script does that classifies voxel by voxel, one 17³ field (and its picked voxels
  at low resolution) for each, in batches of `--batch`.

The slow ways are timed on patches drawn at random, in turns with tiles of the dense way, and
extrapolated to the volume. Their outputs are checked against the dense ones at the same places: the
script ends with an error where they differ by 1e-4 or more. `--size` takes a smaller volume.

`--memory` adds the peak memory of a process of its own for each way, above network and volume: the
padded volume, the scores of all voxels and what a tile or a patch takes (Linux only).
"""

from __future__ import annotations

import argparse
import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from machine import describe_machine, print_machine, seconds, spread, table, write_json
from torch import Tensor

from weakseg.models.deepmedic import DeepMedic

TOLERANCE = 1e-4
WAYS = ("dense", "patches", "voxels")
PATCH = 9
"""Side of the output of a training segment; a multiple of the period, 3."""

Corner = tuple[int, int, int]


def main() -> None:
    """Compare, measure, print, and write the figures where that was asked for."""
    options = read_options()
    if options.memory_of:
        measure_memory(options)
        return
    machine = describe_machine(["numpy", "torch"]) | {"threads": str(torch.get_num_threads())}
    print_machine(machine)
    size = tuple(options.size)
    voxels = math.prod(size)
    volume, net = make_volume(size, options.channels), make_network(options.channels)
    canvas = net.padded(volume)
    rng = np.random.default_rng(0)
    tile = options.tile
    corners = list(itertools.product(*[range(0, n - n % tile, tile) for n in size]))
    corners = [corners[i] for i in rng.permutation(len(corners))[: options.tiles]]
    if not corners:
        raise SystemExit(f"--size must hold a tile of {tile}³ voxels, got {size}")
    difference = check_same(net, volume, canvas, corners[0], tile, rng)
    per_voxel = time_ways(net, volume, canvas, size, corners, options, rng)
    whole = seconds(lambda: net.dense(volume, tile)) if options.whole else math.nan
    dense = per_voxel["dense"]
    memory = {way: peak_memory(options, way) for way in WAYS} if options.memory else {}
    timed = len(corners) * options.batches * options.batch
    print(
        f"\n{' × '.join(map(str, size))} voxels, {options.channels} channel(s), tiles of {tile}³; "
        f"{len(corners)} tiles, {options.patches} patches and {timed} voxels timed: "
        "median [smallest–largest], extrapolated to the volume\n"
    )
    rows = []
    for way in WAYS:
        times = spread(t * voxels for t in per_voxel[way])
        ratio = spread(b / a for a, b in zip(dense, per_voxel[way], strict=True))
        rows.append((way, times, ratio, f"{memory[way]:.0f}" if memory else "–"))
    header = ("way", "seconds a volume", "times the dense one's", "peak memory, MB")
    print(table(header, rows))
    print(f"\nLargest difference between the ways: {difference:.0e}")
    if options.whole:
        print(f"Dense, the whole volume at once, edges of the image included: {whole:.1f} s")
    write_json(
        options.json,
        {
            "machine": machine,
            "size": size,
            "channels": options.channels,
            "tile": tile,
            "rows": rows,
            "whole_seconds": whole,
            "difference": difference,
        },
    )


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--size", type=int, nargs=3, default=[240, 240, 155], help="voxels of the volume"
    )
    parser.add_argument("--channels", type=int, default=1, help="modalities")
    parser.add_argument("--tile", type=int, default=30, help="side of a tile's output")
    parser.add_argument("--tiles", type=int, default=5, help="timed tiles of the dense way")
    parser.add_argument("--patches", type=int, default=20, help="timed patches of 9³")
    parser.add_argument("--batch", type=int, default=16, help="voxels that are classified at once")
    parser.add_argument("--batches", type=int, default=1, help="of voxels, timed beside each tile")
    parser.add_argument("--whole", action="store_true", help="also run the dense way to its end")
    parser.add_argument("--memory", action="store_true", help="also measure the peak memory")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--memory-of", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    counts = (options.channels, options.tiles, options.patches, options.batch, options.batches)
    if min(*options.size, *counts) < 1:
        parser.error("sizes and numbers must be at least 1")
    if options.tile < PATCH or options.tile % 3:
        parser.error(f"--tile must be a multiple of 3 and at least {PATCH}, got {options.tile}")
    return options


def make_volume(size: tuple[int, ...], channels: int) -> Tensor:
    """Smooth noise, z-scored: what it shows does not matter for the time."""
    noise = torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.avg_pool3d(noise, 5, stride=1, padding=2) * 11


def make_network(channels: int) -> DeepMedic:
    """The paper's variant for two classes."""
    torch.manual_seed(0)
    return DeepMedic(channels, 2, dims=3).eval()


def cut(net: DeepMedic, canvas: Tensor, corner: Corner, side: int) -> Tensor:
    """The segment whose output of a side starts at a corner."""
    at = [slice(c, c + net.input_size(side)) for c in corner]
    return canvas[(slice(None), slice(None), *at)]


@torch.no_grad()
def run_tile(net: DeepMedic, canvas: Tensor, corner: Corner, side: int) -> Tensor:
    """Logits of a block, from one forward pass."""
    return net(cut(net, canvas, corner, side))


@torch.no_grad()
def run_voxels(net: DeepMedic, canvas: Tensor, voxels: list[Corner]) -> Tensor:
    """(voxels, classes) logits, each from its 17³ field and the 17³ picked voxels around it.

    Written out, without the network's own cropping: a pathway is given just what a voxel needs.
    """
    features = []
    for path in net.paths:
        f = path.factor
        fields = []
        for voxel in voxels:
            first = [f * (v // f) + path.pick - 8 * f + net.margin[0] for v in voxel]
            at = [slice(a, a + 16 * f + 1, f) for a in first]
            fields.append(canvas[(slice(None), slice(None), *at)])
        x = torch.cat(fields)
        for block in path.blocks:
            x = block(x)
        features.append(x)
    x = torch.cat(features, dim=1)
    for block in net.joined:
        x = block(x)
    return (x + net.bias).flatten(1)


def check_same(
    net: DeepMedic,
    volume: Tensor,
    canvas: Tensor,
    corner: Corner,
    side: int,
    rng: np.random.Generator,
) -> float:
    """The largest difference in a block of the volume; an error where it is too large."""
    dense = net.dense(volume[(slice(None), slice(None), *[slice(0, side)] * 3)], side)
    small = net.padded(volume[(slice(None), slice(None), *[slice(0, side)] * 3)])
    worst = 0.0
    for c in itertools.product(range(0, side, PATCH), repeat=3):
        if max(c) + PATCH > side:
            continue
        at = [slice(a, a + PATCH) for a in c]
        patch = run_tile(net, small, c, PATCH)
        worst = max(worst, float((patch - dense[(slice(None), slice(None), *at)]).abs().max()))
    tile = run_tile(net, canvas, corner, side)
    for _ in range(20):
        inside = rng.integers(side, size=3)
        voxel = tuple(int(a + b) for a, b in zip(corner, inside, strict=True))
        found = run_voxels(net, canvas, [voxel])[0]
        worst = max(worst, float((found - tile[(0, slice(None), *inside)]).abs().max()))
    if not worst < TOLERANCE:
        raise SystemExit(f"the ways differ by {worst:.1e}")
    return worst


def time_ways(
    net: DeepMedic,
    volume: Tensor,
    canvas: Tensor,
    size: tuple[int, ...],
    corners: list[Corner],
    options: argparse.Namespace,
    rng: np.random.Generator,
) -> dict[str, list[float]]:
    """Seconds a voxel of each way, in turns: a tile, some patches, some voxels, a tile, ..."""
    rounds = len(corners)

    def places(step: int, count: int) -> list[Corner]:
        low = [rng.integers(max(n // step, 1), size=count) * step for n in size]
        return [tuple(map(int, p)) for p in zip(*low, strict=True)]

    def patches() -> None:
        for c in places(PATCH, max(1, options.patches // rounds)):
            run_tile(net, canvas, c, PATCH)

    def voxels() -> None:
        for _ in range(options.batches):
            run_voxels(net, canvas, places(1, options.batch))

    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for corner in corners:
        took = seconds(lambda c=corner: run_tile(net, canvas, c, options.tile))
        found["dense"].append(took / options.tile**3)
        done = max(1, options.patches // rounds) * PATCH**3
        found["patches"].append(seconds(patches) / done)
        found["voxels"].append(seconds(voxels) / (options.batches * options.batch))
    return found


def peak_memory(options: argparse.Namespace, way: str) -> float:
    """MB that a process of its own takes for a way at most, on top of network and volume."""
    command = [sys.executable, __file__, "--memory-of", way, "--tile", str(options.tile)]
    command += ["--channels", str(options.channels), "--batch", str(options.batch)]
    command += ["--size", *map(str, options.size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def measure_memory(options: argparse.Namespace) -> None:
    """Print how far the memory of this process rises at most in a few steps of a way, in MB."""
    size = tuple(options.size)
    net, volume = make_network(options.channels), make_volume(size, options.channels)
    run_tile(net, net.padded(volume[..., :9, :9, :9]), (0, 0, 0), PATCH)  # loads libraries
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the last peak
    canvas = net.padded(volume)
    logits = torch.zeros(1, net.classes, *size)
    for place in ((0, 0, 0), tuple(n // 2 // 9 * 9 for n in size)):
        if options.memory_of == "voxels":
            logits[(0, slice(None), *place)] = run_voxels(net, canvas, [place] * options.batch)[0]
            continue
        side = options.tile if options.memory_of == "dense" else PATCH
        side = min(side, *(n - a for n, a in zip(size, place, strict=True))) // 3 * 3
        block = [slice(a, a + side) for a in place]
        logits[(slice(None), slice(None), *block)] = run_tile(net, canvas, place, side)
    print(resident("VmHWM") - before)


def resident(name: str) -> float:
    """MB of memory that this process holds (VmRSS), or has held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


if __name__ == "__main__":
    main()
