"""The check of a GPU runs where there is none, so that it is known to run at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_check_of_a_gpu_runs_on_a_processor(tmp_path):
    script = ROOT / "benchmarks/gpu_check.py"
    args = ["--device", "cpu", "--quick", "--json", tmp_path / "found.json"]
    done = subprocess.run(
        [sys.executable, script, *args],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    same = found["differences"]
    # Of a processor and itself only bf16 differs, and it has to.
    assert same["heatmaps, bf16"] > 1e-4
    assert all(v <= 1e-5 for k, v in same.items() if k != "heatmaps, bf16")
    assert found["waits"] is None
    assert len(found["figures"]) == 4
    assert all(row["heatmaps"] > 0 and row["training"] > 0 for row in found["figures"])
    assert [row["precision"] for row in found["volume"]] == ["fp32", "bf16"]
    assert "Differences from the processor" in done.stdout
