"""What keeping freed memory is worth on a CPU: forward passes with `weakseg.memory` and without.

Run `python benchmarks/allocator.py` from the root of the checkout; `--help` lists the options. Each
pass of each way is a process of its own, in turns, since the setting holds for a whole process.
The script ends with an error where the outputs differ.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import describe_machine, print_machine, spread

WAYS = ("plain", "kept")


def main() -> None:
    """Measure, print the table, and write it where it was asked for."""
    options = read_options()
    if options.child is not None:
        print(json.dumps(child(options)))
        return
    print_machine(describe_machine(["torch", "torchvision"]))
    print(f"{options.size}² pixels, batches of {options.batch}, {options.repeats} repeats\n")
    print("| network | images/s | kept, images/s | faster by | pages cleared a batch | kept |")
    print("|---|---|---|---|---|---|")
    rows = []
    for arch in options.networks:
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(options.repeats):
            for way in WAYS:
                found[way].append(in_a_process(arch, way, options))
        if len({f["sum"] for way in WAYS for f in found[way]}) > 1:
            raise SystemExit("the outputs differ")
        speed = {way: spread(f["images_per_second"] for f in found[way]) for way in WAYS}
        pages = {way: spread(f["pages"] for f in found[way]).median for way in WAYS}
        gain = spread(
            k["images_per_second"] / p["images_per_second"]
            for p, k in zip(found["plain"], found["kept"], strict=True)
        )
        print(
            f"| {arch} | {speed['plain']:.1f} | {speed['kept']:.1f} | {gain:.2f} "
            f"| {pages['plain']:.0f} | {pages['kept']:.0f} |",
            flush=True,
        )
        rows += [
            {"network": arch, "way": way, "images_per_second": speed[way].median}
            | {"pages": pages[way], "gain": gain.median}
            for way in WAYS
        ]
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["resnet18", "squeezenet1_1"])
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, default=5, help="in a process, after a warm-up")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def in_a_process(arch: str, way: str, options: argparse.Namespace) -> dict[str, Any]:
    """One way, measured in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--child", arch, way]
    for name in ("size", "batch", "batches"):
        command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def child(options: argparse.Namespace) -> dict[str, Any]:
    """Forward passes of one network: speed, pages cleared, and a sum of the outputs."""
    import torch
    from torchvision.models import get_model

    from weakseg.memory import keep_freed_memory

    arch, way = options.child
    if way == "kept":
        keep_freed_memory()
    torch.manual_seed(0)
    model = get_model(arch, weights=None).eval().to(memory_format=torch.channels_last)
    images = torch.rand(options.batch, 3, options.size, options.size)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        model(images)
        model(images)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.perf_counter()
        for _ in range(options.batches):
            out = model(images)
        took = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return {
        "images_per_second": options.batch * options.batches / took,
        "pages": (after - before) / options.batches,
        "sum": round(float(out.double().abs().sum()), 3),
    }


if __name__ == "__main__":
    main()
