"""Manifests of 1,000 to 100,000 rows: reading, splitting, checking.

Run `python benchmarks/scale.py` from the root of the checkout; `--help` lists the options. The
images are links to one tiny PNG in a temporary folder, ten to a patient, so that the rows cost time
and the decoding next to none; `weakseg validate` is therefore told nothing but warnings of copies.

Beside ours stands what a user would write with pandas and scikit-learn: `read_csv` and two
`StratifiedGroupKFold`s. That is quicker, and checks nothing; the script ends with an error where a
split of ours shares a patient or lacks a class.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from machine import describe_machine, print_machine, seconds, table, write_json
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.model_selection import StratifiedGroupKFold

from weakseg.config import DataConfig
from weakseg.data.cases import CaseSet
from weakseg.data.check import check_manifest
from weakseg.data.digests import SETTLED
from weakseg.data.duplicates import group_near_duplicates
from weakseg.data.fingerprint import data_fingerprint, file_digests
from weakseg.data.manifest import read_configured, read_manifest
from weakseg.data.splits import make_splits, write_splits

IMAGES_OF_A_PATIENT = 10
SIDE = 16
CHECKED = 10_000
"""Rows up to which every file is looked at, unless `--check-all`."""


def main() -> None:
    """Measure, print, and write the figures where that was asked for."""
    options = read_options()
    machine = describe_machine(["numpy", "scipy", "pandas", "scikit-learn"])
    print_machine(machine)
    rows = []
    for count in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(Path(folder), count, options))
    steps = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    print("\nSeconds:\n")
    print(table(("step", *(f"{n} rows" for n in options.rows)), _lines(steps, rows)))
    write_json(
        options.json, {"machine": machine, "rows": dict(zip(options.rows, rows, strict=True))}
    )


def _lines(steps: list[str], rows: list[dict[str, float]]) -> list[list[str]]:
    return [[s, *(f"{r[s]:.2f}" if s in r else "–" for r in rows)] for s in steps]


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rows", type=int, nargs="+", default=[1000, 10_000, 100_000], help="manifests' lengths"
    )
    parser.add_argument(
        "--check-all", action="store_true", help=f"look at every file beyond {CHECKED} rows, too"
    )
    parser.add_argument(
        "--duplicates", action="store_true", help="also time near-duplicates of smooth noise"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    if min(options.rows) < 100:
        parser.error("--rows must be at least 100")
    return options


def measure(folder: Path, count: int, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of each step for a manifest of a length."""
    path = write_manifest(folder, count, links=count <= CHECKED or options.check_all)
    data = DataConfig(manifest=str(path))
    found: dict[str, CaseSet] = {}

    def read() -> None:
        found["set"] = read_manifest(path, data)

    def split() -> None:
        whole = found["set"]
        found["split"] = whole.with_cases(make_splits(whole.cases, whole.labels, data.split))

    took = {
        "read the manifest": seconds(read),
        "deal patients out": seconds(split),
        "write splits.csv": seconds(lambda: write_splits(folder / "s.csv", found["split"].cases)),
    }
    off = check_splits(found["split"], data)
    took["pandas and scikit-learn: read and deal out"] = seconds(lambda: deal_by_sklearn(path))
    print(f"{count} rows: no patient shared, largest distance from a wanted share {off:.4f}")
    if count <= CHECKED or options.check_all:
        took["validate: look at every file"] = seconds(lambda: check_manifest(path, data))
        time.sleep(SETTLED / 1e9)  # what has only just been written is not taken for known
        took["fingerprint of every file"] = seconds(lambda: data_fingerprint(path, data))
        known = file_digests(read_configured(path, data)).known
        took["fingerprint of files that are known"] = seconds(
            lambda: data_fingerprint(path, data, known)
        )
    if options.duplicates:
        small = smooth_thumbnails(count)
        took["near-duplicates of thumbnails"] = seconds(lambda: group_near_duplicates(small))
    return took


def smooth_thumbnails(count: int) -> NDArray[np.float32]:
    """Pictures as smooth as thumbnails of images are, ten of each much alike."""
    rng = np.random.default_rng(0)
    kinds = rng.standard_normal((-(-count // 10), 24, 24), dtype=np.float32)
    kinds = np.repeat(gaussian_filter(kinds, (0, 3, 3)), 10, axis=0)[:count]
    noise = gaussian_filter(rng.standard_normal(kinds.shape, dtype=np.float32), (0, 2, 2))
    return np.asarray(20 * kinds + 2 * noise, dtype=np.float32)


def write_manifest(folder: Path, count: int, *, links: bool) -> Path:
    """A manifest, and links to one image for its rows where files shall be looked at."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE)).astype(np.uint8)
    lines = ["image,label,patient"]
    for i in range(count):
        image = Path("images", str(i // 1000), f"{i}.png")
        if links and i % 1000 == 0:  # a file system may allow no more than 65,000 links to one
            (folder / image.parent).mkdir(parents=True)
            one = folder / image
            Image.fromarray(pixels).save(one)
        elif links:
            (folder / image).hardlink_to(one)
        patient = i // IMAGES_OF_A_PATIENT
        # Three to five of a patient's ten slices show the tumour.
        label = "tumor" if i % IMAGES_OF_A_PATIENT < 3 + patient % 3 else "normal"
        lines.append(f"{image.as_posix()},{label},p{patient}")
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def check_splits(cases: CaseSet, data: DataConfig) -> float:
    """The largest distance from a wanted share of the images; an error where a rule is broken."""
    wanted = {"val": data.split.val, "test": data.split.test}
    wanted["train"] = 1 - sum(wanted.values())
    seen: dict[str, str] = {}
    for c in cases.cases:
        if seen.setdefault(c.patient, str(c.split)) != c.split:
            raise SystemExit(f"patient {c.patient} is in two splits")
    for name in wanted:
        if {c.label for c in cases.of(name)} != set(cases.labels.names):
            raise SystemExit(f"the split {name} lacks a class")
    return max(abs(len(cases.of(s)) / len(cases.cases) - w) for s, w in wanted.items())


def deal_by_sklearn(path: Path) -> None:
    """The same by pandas and scikit-learn: two rounds of folds that keep patients whole."""
    rest = pd.read_csv(path)
    for parts in (7, 6):
        folds = StratifiedGroupKFold(parts, shuffle=True, random_state=0)
        kept, _ = next(iter(folds.split(rest, rest["label"], rest["patient"])))
        rest = rest.iloc[kept]


if __name__ == "__main__":
    main()
