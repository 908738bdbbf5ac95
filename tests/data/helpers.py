"""Small sets of real files for the tests of manifests, checks and splits."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg.data.formats.reading import read_frame
from weakseg.data.formats.registry import IMAGES


def present(path: Path) -> Path:
    """The path, or a skip where it is not there."""
    if not path.exists():
        pytest.skip(f"no real data: {path} is not there")
    return path


def make_case(shared: Path, name: str, out: Path) -> Path:
    """The manifest of one of the cases beside the checkout, made anew; a skip without them."""
    script = present(shared / "cases" / name / "make.py")
    subprocess.run([sys.executable, script, out], check=True)
    return out / "labels.csv"


def noise(seed: int, shape: tuple[int, ...] = (16, 20)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def blob(shape: tuple[int, int] = (16, 20), value: int = 255) -> np.ndarray:
    mask = np.zeros(shape, dtype=np.uint8)
    mask[4:8, 5:10] = value
    return mask


def write_rows(folder: Path, rows: Sequence[Sequence[str]], delimiter: str = ",") -> Path:
    path = folder / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as f:
        csv.writer(f, delimiter=delimiter).writerows(rows)
    return path


def good_rows(folder: Path) -> list[list[str]]:
    """Four patients with a tumour slice and a normal slice each; nothing is wrong with them."""
    rows = [["image", "label", "mask", "patient"]]
    for i in range(8):
        tumor = i % 2 == 0
        image, mask = f"images/s{i}.png", f"masks/s{i}.png"
        save(folder / image, noise(i))
        save(folder / mask, blob() if tumor else blob(value=0))
        rows.append([image, "tumor" if tumor else "normal", mask, f"p{i // 2}"])
    return rows


def save_volume(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """A NIfTI file of voxels of 1 × 1 × 3 mm, or where the affine says."""
    import nibabel as nib

    path.parent.mkdir(parents=True, exist_ok=True)
    where = np.diag([1.0, 1.0, 3.0, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(values, where, dtype=values.dtype), path)
    return path


def image_size(path: Path) -> tuple[int, ...]:
    """(height, width) of an image, from its header."""
    return read_frame(path, IMAGES).shape[:2]
