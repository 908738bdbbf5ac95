"""A real but tiny set and experiment, and the command line in this process."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from weakseg.cli import main

# Of the 12 patients of `write_set` 8 train (24 images, 12 lesions), 1 validates (3 and 2) and 3
# test (9 and 4): where two splits are mixed up, a count tells.
# The lightest network, for as long as it takes to tell lesions apart: some images pass the gate.
CONFIG = """
name: tiny
data: {{manifest: {manifest}, image_size: 64, split: {{val: 0.08, test: 0.25}}}}
classifier: {{arch: squeezenet1_1, epochs: 6, batch_size: 8, seeds: [0, 1]}}
scores: {{bootstrap: 100}}
report: {{gallery: 2}}
"""


def write_set(folder: Path, patients: int = 12, slices: int = 3) -> Path:
    """Grey squares of noise, not square in shape; tumours are bright discs. With masks."""
    rng = np.random.default_rng(5)
    for sub in ("images", "masks"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    rows = []
    for p in range(patients):
        for s in range(slices):
            name, tumor = f"p{p:02d}_{s}", (p + s) % 2 == 0
            image = rng.integers(0, 90, (48, 40)).astype(np.uint8)
            y, x = np.mgrid[:48, :40]
            cy, cx = rng.integers(10, 30, 2)
            mask = ((y - cy) ** 2 + (x - cx) ** 2 < 36) & tumor
            image[mask] += 140
            Image.fromarray(image).save(folder / "images" / f"{name}.png")
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{name}.png")
            label = "tumor" if tumor else "normal"
            rows.append((f"images/{name}.png", label, f"masks/{name}.png", f"P{p:02d}"))
    return write_manifest(folder / "labels.csv", rows)


def write_manifest(path: Path, rows, header=("image", "label", "mask", "patient")) -> Path:
    with path.open("w", newline="") as f:
        csv.writer(f).writerows([header, *rows])
    return path


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as f:
        return list(csv.DictReader(f))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def cases(run: Path, split: str) -> list[str]:
    """The cases of a run's split."""
    return [r["case"] for r in read_rows(run / "splits.csv") if r["split"] == split]


def tumours(run: Path, split: str) -> list[str]:
    """Those of them with a lesion."""
    rows = read_rows(run / "splits.csv")
    return [r["case"] for r in rows if r["split"] == split and r["label"] == "tumor"]


def only_test_masks(data: Path, run: Path, path: Path) -> Path:
    """Write a manifest of the same images that names the masks of a run's test split alone."""
    test = set(cases(run, "test"))
    rows = [
        (data / r["image"], r["label"], data / r["mask"] if named else "", r["patient"])
        for r in read_rows(data / "labels.csv")
        for named in [Path(r["image"]).stem in test]
    ]
    return write_manifest(path, rows)


def write_config(folder: Path, manifest: Path, text: str = CONFIG) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text.format(manifest=manifest))
    return path


def weakseg(*args: object) -> int:
    """Run a command; its exit code."""
    try:
        main([str(a) for a in args])
    except SystemExit as e:
        return int(e.code or 0)
    return 0


def tree(folder: Path) -> dict[str, int]:
    """Every file below a folder and when it was written."""
    return {
        str(p.relative_to(folder)): p.stat().st_mtime_ns
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }
