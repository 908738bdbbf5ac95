"""What the quick commands leave alone, and that a long manifest does not take its square."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.helpers import blob, good_rows, save, write_rows
from tests.tiny import CONFIG, weakseg, write_set
from tests.work import calls_at_most
from weakseg.config import DataConfig
from weakseg.data.check import check_manifest
from weakseg.data.manifest import read_manifest, read_table, safe_ids
from weakseg.data.splits import make_splits

HEAVY = {"torch", "torchvision", "lightning", "pytorch_grad_cam", "pandas", "matplotlib"}
SCIENTIFIC = {"scipy", "sklearn", "skimage", "cv2", "numpy"}
RUN = """
import runpy, sys
sys.argv = ["weakseg", *sys.argv[1:]]
try:
    runpy.run_module("weakseg", run_name="__main__")
except SystemExit as e:
    assert not e.code, e.code
print("modules:", *{name.partition(".")[0] for name in sys.modules})
"""


def imported_by(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("modules:")[2].split())


@pytest.mark.parametrize("arguments", [["--help"], ["validate", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    found = imported_by(*arguments)
    assert "typer" in found
    assert not found & (HEAVY | SCIENTIFIC | {"PIL"})


def test_validate_imports_no_torch(tmp_path):
    found = imported_by("validate", str(write_rows(tmp_path, good_rows(tmp_path))))
    assert {"numpy", "PIL"} <= found
    assert not found & (HEAVY | SCIENTIFIC - {"numpy", "cv2"})  # cv2 decodes grey PNGs


def test_without_patients_validate_takes_what_finds_look_alikes_and_no_more(tmp_path):
    rows = [row[:-1] for row in good_rows(tmp_path)]
    found = imported_by("validate", str(write_rows(tmp_path, rows)))
    assert {"cv2", "scipy"} <= found
    assert not found & (HEAVY | {"sklearn", "skimage"})


def test_a_run_that_is_not_there_is_told_before_anything_heavy_is_loaded(tmp_path):
    code = RUN.replace("assert not e.code, e.code", "assert e.code == 2")
    command = [sys.executable, "-c", code, "report", str(tmp_path / "no"), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "no such run folder" in done.stderr
    assert not set(done.stdout.rpartition("modules:")[2].split()) & HEAVY


@pytest.mark.thorough
def test_heatmaps_and_predictions_do_without_lightning(tmp_path):
    manifest = write_set(tmp_path / "set", patients=6)
    config, run = tmp_path / "tiny.yaml", str(tmp_path / "run")
    config.write_text(CONFIG.format(manifest=manifest))
    small = ["--set", "classifier.epochs=1", "--set", "classifier.seeds=[0]", "--run-dir", run]
    assert weakseg("train-classifier", config, *small) == 0
    out = ["--out", str(tmp_path / "out"), "--method", "gradcam-otsu"]
    for asked in (
        ["heatmap-segment", str(config), *small],
        ["predict", run, str(tmp_path / "set" / "images"), *out],
    ):
        found = imported_by(*asked)
        assert "torch" in found
        assert not found & {"lightning", "torchmetrics"}


def long_manifest(folder: Path, count: int) -> Path:
    """With a blank column of splits: whoever looks for one has to read all rows."""
    rows = [["image", "label", "patient", "split"]]
    rows += [[f"i/{i}.png", "tumor" if i % 3 else "normal", f"p{i // 4}", ""] for i in range(count)]
    return write_rows(folder, rows)


def calls(run) -> int:
    """Functions called once imports are done.

    What calls nothing, as a list looked through, is timed in benchmarks/growth.py.
    """
    run()
    with calls_at_most(10**8) as made:
        run()
    return made[0]


def test_reading_and_dealing_out_grow_with_the_rows(tmp_path):
    def of(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        path = long_manifest(folder, count)
        data = DataConfig(manifest=str(path))

        def run():
            found = read_manifest(path, data)
            make_splits(found.cases, found.labels, data.split)

        return calls(run)

    # Four times the rows: a square would take sixteen times as many.
    assert of(8000) < 5 * of(2000)


def test_the_same_file_in_all_rows_grows_with_the_rows(tmp_path):
    def of(count: int) -> int:
        return calls(lambda: safe_ids([tmp_path / "a.png"] * count))

    assert of(8000) < 5 * of(2000)
    assert len(set(safe_ids([tmp_path / "a.png"] * 500))) == 500


def test_a_table_without_patients_and_splits_is_asked_once(tmp_path):
    rows = [["image", "label"]] + [[f"{i}.png", "ab"[i % 2]] for i in range(50)]
    table = read_table(write_rows(tmp_path, rows))
    assert not table.has_patients
    assert not table.has_splits
    assert {"has_patients", "has_splits"} <= table.__dict__.keys()


def test_links_lead_to_the_file_itself(tmp_path):
    """A link to a file, and a link to a folder, of which the file's own path knows nothing."""
    rows = good_rows(tmp_path)
    save(tmp_path / "elsewhere" / "x.png", blob())
    (tmp_path / "images" / "s0.png").unlink()
    (tmp_path / "images" / "s0.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    rows.append(["linked/x.png", "tumor", "", "p0"])
    rows.append(["images/s7.png", "tumor", "images/../linked/./x.png", "p3"])
    path = write_rows(tmp_path, rows)
    table = read_table(path)
    real = str((tmp_path / "elsewhere" / "x.png").resolve())
    assert {table.real(c) for c in ("images/s0.png", "linked/x.png", rows[-1][2])} == {real}
    kinds = {(p.kind, p.row) for p in check_manifest(path, DataConfig(manifest=str(path)))}
    assert {("image-twice", 10), ("image-twice", 11), ("mask-is-image", 11)} <= kinds
