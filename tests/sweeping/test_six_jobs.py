"""A whole sweep of six real runs, one of which is killed from outside while it works."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.tiny import read_rows, weakseg

TINY = """
name: tiny
data: {manifest: phantom, phantom: {patients: 6, slices_per_patient: 4, size: 64}, image_size: 64}
classifier: {arch: squeezenet1_1, weights: none, epochs: 1, batch_size: 8}
heatmap: {layer: features.7}
masks: {rules: [otsu], gate: none}
scores: {bootstrap: 100}
report: {gallery: 0}
"""
KILLED = "seed-3"


def processes_of(experiment: str) -> list[int]:
    """Processes whose command names an experiment file."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if any(w.endswith(experiment) for w in words):
            found.append(int(path.name))
    return found


def kill_at_work(run: Path, killed: list[int]) -> None:
    """Send SIGKILL to the job of a run when it has begun to write."""
    until = time.monotonic() + 600
    while time.monotonic() < until:
        at_work = processes_of(f"jobs/{KILLED}/experiment.yaml")
        if (run / "run.json").exists() and at_work:
            for pid in at_work:
                os.kill(pid, signal.SIGKILL)
            killed.extend(at_work)
            return
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux")
def test_six_jobs_of_which_one_is_killed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "limits.yaml").write_text("{at_once: 3, cpus: 1}")
    out = tmp_path / "runs/tiny-sweep-seed"
    words = ("sweep", "tiny.yaml", "--over", "seed=0..5", "--cluster", "limits.yaml")
    killed: list[int] = []
    killer = threading.Thread(target=kill_at_work, args=(out / "runs" / KILLED, killed))
    killer.start()
    assert weakseg(*words) == 2
    killer.join()
    said = capsys.readouterr()
    print(said.err)
    assert len(killed) == 1
    assert said.out.split() == ["runs/tiny-sweep-seed/index.html"]
    assert "1 run has failed" in said.err
    assert f"{KILLED}: killed by SIGKILL" in said.err
    assert states(out) == {f"seed-{k}": "failed" if k == 3 else "done" for k in range(6)}
    ended = json.loads((out / "jobs" / KILLED / "ended.json").read_text())
    assert ended["code"] == -signal.SIGKILL
    assert seeds(out) == [0, 1, 2, 4, 5]  # never counted as done
    assert f"1 of 6 runs are not in this table: {KILLED}" in (out / "index.html").read_text()
    before = summaries(out)

    # It stays failed until it is asked for again; then it alone is performed.
    assert weakseg(*words) == 2
    assert "5 of 6 runs are done already" in capsys.readouterr().err
    assert weakseg(*words, "--retry") == 0
    said = capsys.readouterr()
    print(said.err)
    assert f"{KILLED}: done" in said.err
    assert states(out) == {f"seed-{k}": "done" for k in range(6)}
    assert {k: v for k, v in summaries(out).items() if k != KILLED} == before

    # The joint report has each run's own scores.
    assert seeds(out) == list(range(6))
    joint = pd.read_csv(out / "scores.csv")
    for seed in range(6):
        own = pd.read_csv(out / f"runs/seed-{seed}/scores/summary.csv").set_index("method")
        mine = joint[joint["seed"] == seed].set_index("method")
        assert list(mine.index) == list(own.index)
        for column in ("dice", "dice_low", "dice_high"):
            pd.testing.assert_series_equal(mine[column], own[column], atol=1e-4, rtol=1e-4)
    page = (out / "index.html").read_text()
    assert "not in this table" not in page
    assert page.count("report/index.html") == 6


def states(out: Path) -> dict[str, str]:
    return {r["run"]: r["state"] for r in read_rows(out / "jobs.csv")}


def seeds(out: Path) -> list[int]:
    return sorted({int(r["seed"]) for r in read_rows(out / "dice.csv")})


def summaries(out: Path) -> dict[str, int]:
    """When the scores of each run were written."""
    paths = sorted(out.glob("runs/*/scores/summary.csv"))
    return {p.parts[-3]: p.stat().st_mtime_ns for p in paths}
