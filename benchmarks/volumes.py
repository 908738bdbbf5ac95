"""Memory and time of `weakseg predict` on a large volume, by methods of slices and of volumes.

Run `python benchmarks/volumes.py` from the root of the checkout; `--help` lists the options. Small
generated volumes train tiny networks first (`RUNS`): a classifier of slices with a heatmap's
rules and a U-Net of slices on its masks, a U-Net in 3D, and classifiers of whole volumes
(multiple instances, and in 3D) with a heatmap's rules. Then each method segments a generated
volume of 16 bits in a process of its own, by the command that people use. Memory is the peak of
that process (Linux: ``ru_maxrss``), with the pages of its libraries. The script ends with an error
where it is above `--limit`, a slice is missing from the mask or the table, or the heat was flat,
which spares a rule its work.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from machine import describe_machine, print_machine, table, write_json

SHAPE = (512, 512, 400)
AFFINE = np.diag([0.7, 0.7, 1.0, 1.0])
SLICES = """
name: slices
data: {manifest: MANIFEST, image_size: SIZE, mask_rule: nonzero}
classifier: {arch: ARCH, epochs: 2, batch_size: 16}
masks: {gate: none, rules: [otsu, quantile]}
volumes: {smooth: 1, min_slices: 2}
segmenters:
  unet: {arch: unet, masks: gradcam-otsu, image_size: SIZE, epochs: 1, steps: 4, batch_size: 4}
scores: {bootstrap: 100, floors: false}
"""
WHOLE = """
name: whole
data: {manifest: MANIFEST, mask_rule: nonzero}
segmenters:
  unet3d: {arch: unet, patch: 16, epochs: 1, steps: 4, batch_size: 2, validation_cases: 0,
           tile: 64, overlap: 0.0}
scores: {bootstrap: 100, floors: false}
"""
DEEP = """
name: NAME
data: {manifest: MANIFEST, image_size: SIZE, mask_rule: nonzero}
classifier: {arch: DEEP, epochs: 2, batch_size: 2}
heatmap: {method: layercam}
masks: {gate: none, rules: [otsu, quantile, area-prior, two-tone, grown]}
scores: {bootstrap: 100, floors: false}
"""
RULES = tuple(
    f"layercam-{rule}" for rule in ("otsu", "quantile", "area-prior", "two-tone", "grown")
)
RUNS = {
    "slices": (SLICES, "slices.csv", ("gradcam-otsu", "gradcam-quantile", "unet")),
    "whole": (WHOLE, "volumes.csv", ("unet3d",)),
    "mil": (DEEP.replace("DEEP", "mil:ARCH"), "labelled.csv", RULES),
    "deep": (DEEP.replace("DEEP", "ARCH-3d"), "labelled.csv", RULES),
}
"""Run → its experiment, its manifest, and its methods."""


def main() -> None:
    """Train, segment, print the table, and write it where it was asked for."""
    options = read_options()
    machine = describe_machine(["torch", "numpy", "nibabel"])
    print_machine(machine)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = options.folder or Path(folder)
        large = root / f"{'-'.join(map(str, options.shape))}"
        large /= f"large{'.nii' if options.unpacked else '.nii.gz'}"
        if not large.exists():
            write_volume(large, tuple(options.shape), 0)
        for run, method in trained(root, options):
            row = predicted(run, method, large, root / f"out-{run.name}-{method}", options)
            rows.append(row)
            print(json.dumps(row), flush=True)
    shape = " × ".join(map(str, options.shape))
    print(f"\n{shape} voxels of 16 bits\n")
    head = (
        "run",
        "method",
        "peak memory, MB",
        "seconds",
        "slices in",
        "in the mask",
        "in slices.csv",
        "flat",
        "marked, %",
    )
    print(table(head, [list(r.values()) for r in rows]))
    write_json(options.json, {"machine": machine, "shape": options.shape, "rows": rows})
    for row in rows:
        if row["peak_mb"] > options.limit:
            raise SystemExit(f"{row['method']}: {row['peak_mb']} MB, above {options.limit}")
        if row["slices_out"] != row["slices_in"] or row["rows"] not in (None, row["slices_in"]):
            raise SystemExit(f"{row['method']}: a slice is missing")
        if row["flat"]:
            raise SystemExit(f"{row['method']}: the heat was flat; train it with another --seed")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=list(SHAPE), metavar="N")
    parser.add_argument("--size", type=int, default=64, help="longest side that networks see")
    parser.add_argument("--arch", default="squeezenet1_1", help="of the classifier")
    parser.add_argument("--seed", type=int, default=0, help="of the networks")
    parser.add_argument("--runs", nargs="+", default=["slices"], choices=RUNS, help="networks")
    parser.add_argument("--only", nargs="+", help="methods, such as gradcam-otsu or unet")
    parser.add_argument("--heatmaps", action="store_true", help="write heat and probability, too")
    parser.add_argument("--unpacked", action="store_true", help="a volume that is not gzipped")
    parser.add_argument("--limit", type=float, default=2000, help="MB that it may take")
    parser.add_argument("--folder", type=Path, help="keeps runs and the volume for the next time")
    parser.add_argument("--json", type=Path, help="file for the rows")
    return parser.parse_args()


def trained(root: Path, options: argparse.Namespace) -> list[tuple[Path, str]]:
    """Runs of tiny networks, and the methods of each that are tried."""
    found = []
    for name in options.runs:
        text, manifest, methods = RUNS[name]
        wanted = [m for m in methods if options.only is None or m in options.only]
        run = root / f"{name}-{options.arch}-{options.size}-{options.seed}"
        if wanted and not run.exists():
            if not (root / "set" / manifest).exists():
                write_set(root / "set")
            filled = text.replace("MANIFEST", str(root / "set" / manifest)).replace("NAME", name)
            filled = filled.replace("SIZE", str(options.size)).replace("ARCH", options.arch)
            config = root / f"{run.name}.yaml"
            config.write_text(f"seed: {options.seed}\n{filled}")
            weakseg("compare", config, "--run-dir", run, "--device", "cpu")
        found += [(run, m) for m in wanted]
    return found


def predicted(
    run: Path, method: str, volume: Path, out: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Segment the volume by a method; peak memory, time, and where its slices are."""
    further = ("--heatmaps",) if options.heatmaps else ()
    begun = time.perf_counter()
    peak = weakseg("predict", run, volume, "--out", out, "--method", method, *further)
    took = time.perf_counter() - begun
    mask = nib.load(out / "large.nii.gz")
    with (out / "predictions.csv").open(newline="") as f:
        (said,) = csv.DictReader(f)
    listed = out / "slices.csv"
    rows = None
    if listed.exists():
        with listed.open(newline="") as f:
            rows = len({row["slice"] for row in csv.DictReader(f)})
    return {
        "run": run.name,
        "method": method,
        "peak_mb": round(peak / 1e6),
        "seconds": round(took, 1),
        "slices_in": options.shape[2],
        "slices_out": mask.shape[2],
        "rows": rows,
        "flat": said.get("flat_heatmap") == "True",
        "marked": round(100 * int(said["lesion_pixels"]) / np.prod(options.shape), 2),
    }


def weakseg(*arguments: object) -> int:
    """Run a command in a process of its own; its peak memory in bytes."""
    command = [sys.executable, "-W", "ignore", "-m", "weakseg", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return used.ru_maxrss * 1024


def write_set(folder: Path) -> None:
    """Small volumes, and the manifests: their slices, themselves, and healthy ones as well."""
    slices, volumes = [("image", "slice", "label", "mask", "patient", "split")], []
    volumes.append(("image", "label", "mask", "patient", "split"))
    for k, split in enumerate(("train", "train", "train", "val", "test", "test")):
        name, mask = f"v{k}.nii.gz", f"m{k}.nii.gz"
        lesions = write_volume(folder / name, (64, 64, 16), k, folder / mask)
        volumes.append((name, "tumor", mask, f"P{k}", split))
        for z, marked in enumerate(lesions.any(axis=(0, 1))):
            row = (name, str(z), "tumor" if marked else "normal", mask, f"P{k}", split)
            slices.append(row)
    healthy = []
    for k, split in enumerate(("train", "train", "val", "test")):
        name = f"h{k}.nii.gz"
        write_volume(folder / name, (64, 64, 16), 100 + k, lesion=False)
        healthy.append((name, "normal", "", f"H{k}", split))
    write_csv(folder / "slices.csv", slices)
    write_csv(folder / "volumes.csv", volumes)
    write_csv(folder / "labelled.csv", [*volumes, *healthy])


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """A table."""
    with path.open("w", newline="") as f:
        csv.writer(f).writerows(rows)


def write_volume(
    path: Path, shape: Sequence[int], seed: int, mask: Path | None = None, *, lesion: bool = True
) -> np.ndarray:
    """Noise, and a lesion: a bright ellipsoid in the middle half of the slices."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.empty(shape, np.int16, order="F")
    marked = np.zeros(shape, bool, order="F")
    x, y = np.mgrid[: shape[0], : shape[1]]
    middle = [n * rng.uniform(0.4, 0.6) for n in shape[:2]]
    for z in range(shape[2]):
        deep = (z - shape[2] / 2) / (shape[2] / 4)
        flat = ((x - middle[0]) ** 2 + (y - middle[1]) ** 2) / (min(shape[:2]) / 6) ** 2
        marked[..., z] = lesion & (flat + deep**2 < 1)
        values[..., z] = rng.integers(0, 400, shape[:2]) + 500 * marked[..., z]
    nib.save(nib.Nifti1Image(values, AFFINE), path)
    if mask is not None:
        nib.save(nib.Nifti1Image(marked.astype(np.uint8), AFFINE), mask)
    return marked


if __name__ == "__main__":
    main()
