"""The command: jobs of their own, one made to fail and taken up again, and one table of all."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.report.fake_run import make_run
from tests.tiny import read_rows, weakseg, write_config, write_set
from weakseg.config import load_config
from weakseg.data.fingerprint import data_fingerprint
from weakseg.sweeping.folder import default_folder
from weakseg.sweeping.variations import variations

TINY = """
name: tiny
data: {{manifest: {manifest}, image_size: 64}}
classifier: {{arch: squeezenet1_1, weights: none, epochs: 1, batch_size: 8}}
masks: {{rules: [{{rule: otsu}}]}}
scores: {{bootstrap: 100}}
report: {{gallery: 0}}
"""


COPY = """
import os, shutil, signal, sys
made, to, marks = sys.argv[1:]
if os.path.exists(marks + "/kill"):
    os.kill(os.getpid(), signal.SIGKILL)
shutil.copytree(made, to)
"""


@pytest.mark.thorough
def test_two_jobs_one_killed_and_taken_up_again(tmp_path, capsys, monkeypatch):
    """What the jobs would make lies ready: they only put it where it belongs."""
    monkeypatch.chdir(tmp_path)
    marks = tmp_path / "marks"
    marks.mkdir()

    def command(_compare, experiment, _run_dir, run):
        made = tmp_path / "made" / run.name
        if not made.exists():
            make_run(made, name=run.name, patients=12)
        killed = marks if run.name == "seed-1" else tmp_path / "nothing"
        return (sys.executable, "-S", "-c", COPY, str(made), str(run), str(killed))

    monkeypatch.setattr("weakseg.sweeping.sweep.weakseg_command", command)
    words = ("sweep", "quickstart", "--over", "seed=0,1", "--out", "out")
    (marks / "kill").touch()
    assert weakseg(*words) == 2
    said = capsys.readouterr()
    assert "1 run has failed" in said.err
    assert "seed-1: killed by SIGKILL" in said.err
    assert [(r["run"], r["state"]) for r in read_rows(tmp_path / "out/jobs.csv")] == [
        ("seed-0", "done"),
        ("seed-1", "failed"),
    ]
    page = tmp_path / "out/index.html"
    assert "1 of 2 runs are not in this table: seed-1" in page.read_text()
    assert {r["seed"] for r in read_rows(tmp_path / "out/dice.csv")} == {"0"}
    (marks / "kill").unlink()
    assert weakseg(*words) == 2  # not before it is asked for
    assert "1 of 2 runs are done already" in capsys.readouterr().err
    assert weakseg(*words, "--retry") == 0
    rows = read_rows(tmp_path / "out/dice.csv")
    assert [r["seed"] for r in rows] == ["0", "1"]
    own = {r["method"]: r for r in read_rows(tmp_path / "out/runs/seed-1/scores/summary.csv")}
    joint = [r for r in read_rows(tmp_path / "out/scores.csv") if r["method"] == "gradcam-otsu"]
    for column in ("dice", "dice_low", "dice_high", "patients"):
        assert float(joint[1][column]) == pytest.approx(
            float(own["gradcam-otsu"][column]), abs=1e-4
        )
    assert "not in this table" not in page.read_text()
    # A run that is not what it was is not done any more.
    (tmp_path / "out/runs/seed-0/scores/per_case.csv").write_text("damaged")
    assert weakseg(*words) == 2
    assert "seed-0: its run cannot be read" in capsys.readouterr().err


@pytest.mark.thorough
def test_runs_of_other_data_are_not_done(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manifest = write_set(tmp_path / "data", patients=2)
    config = write_config(tmp_path, manifest, TINY)
    data = data_fingerprint(manifest, load_config(config).data)
    make_run(tmp_path / "out/runs/seed-0", name="seed-0", patients=12, fingerprint=data)
    nothing = (sys.executable, "-S", "-c", "pass")
    monkeypatch.setattr("weakseg.sweeping.sweep.weakseg_command", lambda *_: nothing)
    words = ("sweep", config, "--over", "seed=0", "--out", "out")
    assert weakseg(*words) == 0
    assert weakseg(*words) == 0
    assert "1 of 1 runs are done already" in capsys.readouterr().err
    next((tmp_path / "data/images").iterdir()).write_bytes(b"another")
    assert weakseg(*words) == 2
    said = capsys.readouterr().err
    assert "done already" not in said
    assert "seed-0: its run is of other data" in said
    # Further values of the same keys share the folder, other keys do not.
    make_run(tmp_path / "out/runs/seed-1", name="seed-1", patients=12)
    weakseg("sweep", config, "--over", "seed=1", "--out", "out")
    page = (tmp_path / "out/index.html").read_text()
    assert "not asked for by this sweep: seed-0." in page
    capsys.readouterr()
    assert weakseg("sweep", config, "--folds", 3, "--out", "out") == 2
    said = capsys.readouterr().err
    assert "The folder holds a sweep over something else" in said
    assert "found: seed" in said
    assert "expected: 3 folds" in said
    assert (tmp_path / "out/index.html").read_text() == page
    # A sweep whose run has the same name for something else.
    assert weakseg("sweep", config, "--over", "data.split.seed=0", "--out", "out") == 2
    assert "holds a run seed-0 of another sweep" in capsys.readouterr().err


def test_sweeps_over_other_keys_have_other_folders():
    [two] = variations(["classifier.seeds=0", "classifier.arch=vgg11"])
    assert default_folder("own", two) == Path("runs/own-sweep-seeds-arch")
    keys = ["seed", "data.split.seed", "segmenters.a.lr", "segmenters.b.lr", "classifier.lr"]
    folders = {default_folder("own", variations([f"{key}=1"])[0]).name for key in keys}
    assert folders == {f"own-sweep-{key}" for key in [*keys[:-1], "lr"]}
    assert default_folder("own", variations([], 5)[0]) == Path("runs/own-sweep-5-folds")
    assert default_folder("own", variations(["seed=1"], 5)[0]) == Path(
        "runs/own-sweep-seed-5-folds"
    )


@pytest.mark.slow
def test_a_sweep_over_folds_with_a_run_that_fails_and_is_taken_up_again(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path, write_set(tmp_path / "data", patients=8), TINY)
    command = ("sweep", config, "--folds", 2, "--out", "out")
    # What one fold tests is unreadable while it runs: a run folder that is a file.
    (tmp_path / "out/runs").mkdir(parents=True)
    (tmp_path / "out/runs/fold-1").write_text("in the way")
    assert weakseg(*command) == 2
    said = capsys.readouterr()
    page = tmp_path / "out/index.html"
    assert said.out.split() == ["out/index.html"]
    assert "1 run has failed" in said.err
    assert "fold-1: exit code 2; error: The output folder is a file." in said.err
    jobs = {r["run"]: r for r in read_rows(tmp_path / "out/jobs.csv")}
    assert [(jobs[f"fold-{i}"]["state"]) for i in (0, 1)] == ["done", "failed"]
    assert "1 of 1 settings are not in this table" in page.read_text()
    assert "the experiment (fold-1).</div>" in page.read_text()
    assert not read_rows(tmp_path / "out/scores.csv")
    summary = tmp_path / "out/runs/fold-0/scores/summary.csv"
    before = summary.stat().st_mtime_ns

    # What has failed stays so until it is asked for again.
    assert weakseg(*command) == 2
    assert "1 of 2 runs are done already" in capsys.readouterr().err
    (tmp_path / "out/runs/fold-1").unlink()
    assert weakseg(*command, "--retry") == 0
    assert summary.stat().st_mtime_ns == before
    tested = [
        r["patient"]
        for i in (0, 1)
        for r in read_rows(tmp_path / f"out/runs/fold-{i}/splits.csv")
        if r["split"] == "test"
    ]
    assert sorted(set(tested)) == [f"P{p:02d}" for p in range(8)]
    assert len(tested) == 24
    scores = pd.read_csv(tmp_path / "out/scores.csv")
    otsu = scores[scores["method"] == "gradcam-otsu"].iloc[0]
    assert (otsu["folds"], otsu["patients"], otsu["lesion_images"]) == (2, 8, 12)
    per_case = pd.concat(
        pd.read_csv(tmp_path / f"out/runs/fold-{i}/scores/per_case.csv") for i in (0, 1)
    )
    own = per_case[(per_case["method"] == "gradcam-otsu") & per_case["has_lesion"]]
    assert otsu["dice"] == pytest.approx(own["dice"].mean(), abs=1e-5)
    content = json.loads((tmp_path / "out/sweep.json").read_text())
    assert [r["state"] for r in content["runs"]] == ["done", "done"]
    assert "not in this table" not in page.read_text()
    assert 'href="runs/fold-0/report/index.html"' in page.read_text()

    # A run that is not what it was is not done any more.
    summary.write_text("damaged")
    assert weakseg(*command) == 2
    assert "fold-0: its run cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--over", "classifier.epochs=0,1"], "classifier.epochs"),
        (["--over", "classifier.arch=resnet18,resnet19"], "no classifier 'resnet19'"),
        (["--over", "seed=0,1", "--executor", "slrum"], "slurm"),
        (["--over", "seed=0,1", "--cluster", "no.yaml"], "no.yaml"),
        ([], "Nothing is varied"),
    ],
)
def test_mistakes_are_found_before_a_job_begins(tmp_path, capsys, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    assert weakseg("sweep", "quickstart", "--out", "out", *words) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
