"""A run folder for `tests.fuzz`, and what reports and predictions read of it."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from tests.fuzz_seed import Seed
from tests.tiny import CONFIG, weakseg, write_config, write_set

RUN = "run"
SUFFIXES = (".json", ".csv", ".yaml", ".safetensors")
PAGES = 8
"""One of so many damaged runs is made a page of, which takes seconds."""

_TEXT = (
    CONFIG.replace("epochs: 6", "epochs: 1").replace("seeds: [0, 1]", "seeds: [0]")
    + """
masks: {{rules: [otsu, train-quantile]}}
segmenters:
  net: {{arch: "encoder-unet:squeezenet1_1", epochs: 1, batch_size: 6, seeds: [0]}}
"""
)


def run_seeds(folder: Path) -> list[Seed]:
    """A tiny run, made here; half a minute. Its small files, and its weights."""
    config = write_config(folder, write_set(folder / "data", 6, 2), _TEXT)
    code = weakseg("compare", config, "--run-dir", folder / RUN, "--device", "cpu")
    assert code == 0
    files = sorted(p for p in (folder / RUN).rglob("*") if p.suffix in SUFFIXES)
    files = [p for p in files if "report" not in p.parts and p.name != "last.safetensors"]
    return [Seed(os.fspath(p.relative_to(folder)), p.read_bytes()) for p in files]


def read_a_run(path: Path, folder: Path) -> None:
    """As `report` and `predict` read it."""
    from weakseg.methods.find import load_method
    from weakseg.report.page import build_report
    from weakseg.report.read import read_runs

    runs = read_runs([folder / RUN])
    if zlib.crc32(path.read_bytes()) % PAGES == 0:
        build_report(runs, 0)
    for method in (None, "net"):
        load_method(folder / RUN, method, device="cpu")
