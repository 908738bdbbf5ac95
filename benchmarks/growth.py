"""How time and memory of `weakseg heatmap-segment` grow with the number of images.

Run `python benchmarks/growth.py` from the root of the checkout; `--help` lists the options. Each
number of images is a run of its own, in a process of its own, on small generated images: every one
gets a heatmap, and every fifth, the test images, a mask and scores, and a row of the report's
tables. Memory is what the process
holds for itself (Linux: ``RssAnon``; pages of files are the system's to drop), read four times a
second. The script ends with an error where the time of an image grows by more than half, or the
memory by more than `ALLOWED_BYTES` an image.

``--rows`` makes no heatmaps: it measures in seconds what the rows of scores and lesions of so many
test images hold in memory, and what writing their tables takes besides.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine, print_machine
from PIL import Image

ALLOWED_BYTES = 4096
"""The manifest, the splits and a row of scores of each image are in memory, and nothing else."""

PATIENT = 100


def main() -> None:
    """Measure, print the table, and write it where it was asked for."""
    options = read_options()
    if options.child is not None:
        print(json.dumps(child(options.child, options)))
        return
    if options.rows:
        print_rows(options.counts)
        return
    print_machine(describe_machine(["torch"]))
    print(f"{options.arch} at {options.size}²\n")
    print(
        "| images | check, start, s | again, s | heatmaps, masks, scores, s | ms an image "
        "| memory, MiB | report, s | its page, MB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in options.counts:
            root = Path(folder) / str(count)
            write_images(root, count, options.size)
            command = [sys.executable, "-W", "ignore", __file__, "--child", str(root)]
            command += ["--arch", options.arch, "--size", str(options.size)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            row = {"images": count} | json.loads(done.stdout.splitlines()[-1])
            rows.append(row)
            each = 1000 * row["stage_s"] / count
            print(
                f"| {count} | {row['start_s']:.1f} | {row['again_s']:.1f} | {row['stage_s']:.1f} "
                f"| {each:.2f} | {row['peak'] / 2**20:.0f} "
                f"| {row['report_s']:.1f} | {row['page'] / 1e6:.2f} |",
                flush=True,
            )
    print_folders(rows)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    first, last = rows[0], rows[-1]
    slower = (last["stage_s"] / last["images"]) / (first["stage_s"] / first["images"])
    more = last["images"] - first["images"]
    bytes_each = (last["peak"] - first["peak"]) / max(more, 1)
    print(
        f"\ntime of an image: {slower:.2f} times; memory of a further one: {bytes_each:.0f} bytes"
    )
    if len(rows) > 1 and (slower > 1.5 or bytes_each > ALLOWED_BYTES):
        raise SystemExit("it grows faster than the work")


def print_folders(rows: list[dict[str, Any]]) -> None:
    """What a further image adds to each part of the run folder, from the first row to the last."""
    first, last = rows[0], rows[-1]
    more = last["images"] - first["images"]
    if more <= 0:
        return
    print("\n| part of the run folder | files a further image | bytes | bytes on the disk |")
    print("|---|---|---|---|")
    for top, sizes in sorted(last["folder"].items()):
        before = first["folder"].get(top, [0, 0, 0])
        files, size, blocks = ((b - a) / more for a, b in zip(before, sizes, strict=True))
        if size > 1:
            print(f"| {top} | {files:.2f} | {size:.0f} | {blocks:.0f} |")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--arch", default="squeezenet1_1")
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--json", type=Path, help="file for the rows, with the curves of memory")
    parser.add_argument("--rows", action="store_true", help="rows of so many test images alone")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def write_images(root: Path, count: int, size: int) -> None:
    """Noise, with a bright disc in every second image, which is its lesion."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    (root / "images").mkdir(parents=True)
    lines = ["image,label,mask,patient,split"]
    for k in range(count):
        image = rng.integers(0, 120, (size, size), dtype=np.uint8)
        label, mask = "normal", ""
        if k % 2:
            top, left, radius = (*rng.integers(10, size - 10, 2).tolist(), rng.integers(4, 9))
            disc = (y - top) ** 2 + (x - left) ** 2 <= radius**2
            image[disc] += 100
            label, mask = "tumor", f"images/{k}-mask.png"
            Image.fromarray(disc.astype(np.uint8) * 255).save(root / mask)
        Image.fromarray(image).save(root / "images" / f"{k}.png")
        patient = k // PATIENT
        split = "train" if patient == 0 else "test" if patient % 5 == 1 else "val"
        lines.append(f"images/{k}.png,{label},{mask},p{patient},{split}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


def child(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The stage on one set of images; seconds and memory."""
    from weakseg.config import Config
    from weakseg.stages.heatmap_segment import heatmap_segment
    from weakseg.stages.prepare import prepared_run
    from weakseg.stages.report import make_report
    from weakseg.stages.train_classifier import train_classifiers

    config = Config.model_validate(
        {
            "data": {
                "manifest": str(root / "labels.csv"),
                "healthy_labels": ["normal"],
                "lesion_labels": ["tumor"],
                "image_size": options.size,
            },
            "classifier": {"arch": options.arch, "epochs": 1, "batch_size": 16},
            "heatmap": {"method": "layercam"},  # whose maps are never flat
            "masks": {"rules": ["fixed"], "gate": "none"},
            "scores": {"bootstrap": 100, "floors": False},
            "device": "cpu",
        }
    )
    start = time.perf_counter()
    with prepared_run(config, root / "run") as prepared:
        ready = time.perf_counter()
        train_classifiers(prepared)
        with Watch() as watch:
            begun = time.perf_counter()
            heatmap_segment(prepared)
            ended = time.perf_counter()
    again = time.perf_counter()
    with prepared_run(config, root / "run"):
        again = time.perf_counter() - again
    drawn = time.perf_counter()
    page = make_report([root / "run"], root / "page")
    step = max(1, len(watch.seen) // 100)
    return {
        "start_s": ready - start,
        "again_s": again,
        "stage_s": ended - begun,
        "report_s": time.perf_counter() - drawn,
        "page": page.stat().st_size,
        "peak": max(held for _, held in watch.seen),
        "memory": [*watch.seen[::step], watch.seen[-1]],
        "folder": folder_sizes(root / "run"),
    }


def print_rows(counts: list[int]) -> None:
    """Memory of the rows of test images, each count in a process of its own."""
    print("| test images | rows held, MiB | with their tables written, MiB |\n|---|---|---|")
    for count in counts:
        call = f"import growth; growth.rows_of({count})"
        path = str(Path(__file__).parent)
        subprocess.run([sys.executable, "-W", "ignore", "-c", call], check=True, cwd=path)


def rows_of(count: int) -> None:
    """Rows of a method as the stage gathers them, a case and four lesions an image; written."""
    from types import SimpleNamespace
    from typing import cast

    from weakseg.methods.prepared import Prepared
    from weakseg.methods.rows import Rows
    from weakseg.scores import score_case
    from weakseg.stages.scoring import LESION_COLUMNS, write_part

    rng = np.random.default_rng(0)
    heat = rng.random((64, 64))
    scores = score_case(heat > 0.9, np.tri(64, dtype=bool), heatmap=heat)
    before = own_memory()
    with tempfile.TemporaryDirectory() as folder, Watch() as watch:
        rows = Rows()
        for k in range(count):
            entry = {"method": "layercam-fixed", "seed": 0, "case": str(k), "patient": f"p{k}"}
            made = Rows()
            made.cases += [entry | {n: v * rng.random() for n, v in scores.items()}]
            made.lesions += [
                entry | {n: rng.random() for n in LESION_COLUMNS if n not in entry}
                for _ in range(4)
            ]
            rows += made
        held = own_memory()
        run = SimpleNamespace(folder=Path(folder))
        prepared = SimpleNamespace(run=run, cases=SimpleNamespace(sliced=False))
        write_part(cast(Prepared, prepared), "heatmap", rows)
    peak = max(seen for _, seen in watch.seen)
    print(
        f"| {count} | {(held - before) / 2**20:.1f} | {(peak - before) / 2**20:.1f} |", flush=True
    )


def folder_sizes(run: Path) -> dict[str, list[int]]:
    """Files, bytes, and bytes on the disk of each part of a run folder."""
    sizes: dict[str, list[int]] = {}
    for path in run.rglob("*"):
        if path.is_file():
            top = path.relative_to(run).parts[0]
            known = sizes.setdefault(top, [0, 0, 0])
            stat = path.stat()
            for k, n in enumerate((1, stat.st_size, 512 * stat.st_blocks)):
                known[k] += n
    return sizes


class Watch:
    """Notes the memory of the process until it is left."""

    def __enter__(self) -> Watch:
        self.seen: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._note)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _note(self) -> None:
        start = time.monotonic()
        while True:
            self.seen.append((round(time.monotonic() - start, 2), own_memory()))
            if self._over.wait(0.25):
                return


def own_memory() -> int:
    """Bytes that the process holds for itself."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this needs Linux")


if __name__ == "__main__":
    main()
