"""The plan that `compare` prints, what is expected of each step, and the steps that follow it."""

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.tiny import pixels, read_rows, tree, weakseg, write_config, write_set
from weakseg.config import load_config
from weakseg.report.terminal import methods_as_text
from weakseg.runs import Run, cores, processor, read_json, write_json
from weakseg.scores.stored import read_summary
from weakseg.stages.base import Effort, Stage, perform
from weakseg.stages.effort import of_classifier, of_segmenter
from weakseg.stages.plan import Expected, Piece, Rates, Step, expect_all, follow, in_all
from weakseg.stages.prepare import prepared_run


def piece(stage, kind=None, units=1.0, current=False, alone=False):
    effort = None if kind is None else Effort(kind, units)
    return Piece(stage, effort, lambda: current, alone)


def steps(done):
    return [
        Step(
            "classifiers",
            [piece("c/0", "train", 10), piece("p/0", "say")],
            lambda: done.append("classifiers"),
        ),
        Step("masks", [piece("segment", "masks", 3)], lambda: done.append("masks")),
        Step("report", [piece("report", current=True)], lambda: "page"),
    ]


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "runs/one"
    folder.mkdir(parents=True)
    write_json(folder / "run.json", {"took": {"c/0": 60.0, "p/0": 5.0}})
    return Run(folder)


def test_the_plan_comes_first_and_every_step_is_told(run, capsys):
    done = []
    assert follow(run, steps(done)) == "page"
    assert done == ["classifiers", "masks"]
    assert capsys.readouterr().err.splitlines() == [
        "plan: 3 steps, more than 1:05 on this machine; what is up to date stays as it is",
        "  1 classifiers (1:05 when it was last made)",
        "  2 masks (not made yet)",
        "  3 report (a moment)",  # made anew with what it stands on
        "step 1 of 3: classifiers; more than 1:05 left in all",
        "step 2 of 3: masks",
        "step 3 of 3: report",
    ]


def test_a_dry_run_ends_behind_the_plan(run, capsys):
    done = []
    assert follow(run, steps(done), dry_run=True) is None
    assert done == []
    assert "step 1" not in capsys.readouterr().err


def test_what_was_never_made_is_estimated_from_work_of_its_kind(run):
    run.update(rates={"masks": 2.0, "train": 100.0})
    first, masks, _ = expect_all(run, steps([]))
    # Ten times the last time is a guess from other settings: the rate is of the newest of its kind.
    assert first == Expected(10 * 100.0 + 5.0, guessed=True)
    assert (masks, str(masks)) == (Expected(6.0, guessed=True), "about 0:06, estimated")
    run.update(rates={"masks": 2.0, "train": 6.5})
    assert expect_all(run, steps([]))[0] == Expected(65.0)  # as the last time, but for noise


def test_runs_beside_it_on_the_same_machine_know_too(run):
    beside = run.folder.parent / "two"
    here = {"processor": processor(), "cores": cores()}
    write_json(beside / "run.json", {"environment": here, "rates": {"masks": 4.0}})
    assert expect_all(run, steps([]))[1] == Expected(12.0, guessed=True)
    elsewhere = here | {"cores": cores() + 1}
    write_json(beside / "run.json", {"environment": elsewhere, "rates": {"masks": 4.0}})
    assert expect_all(run, steps([]))[1] == Expected(0.0, unknown=1)
    (beside / "run.json").write_text("{")
    assert expect_all(run, steps([]))[1] == Expected(0.0, unknown=1)


def test_where_nobody_knows_it_is_measured_once(run, capsys):
    calls = []

    def measure():
        calls.append(1)
        return 0.5

    rates = Rates(run)
    for units in (4, 6):
        assert rates.seconds(Effort("net", units, measure)) == units / 2
    assert calls == [1]
    assert "measuring: net" in capsys.readouterr().err

    def broken():
        raise RuntimeError("no memory")

    assert rates.seconds(Effort("large", 1, broken)) is None
    assert rates.seconds(None) is None


def test_what_is_up_to_date_takes_no_time_unless_something_before_it_is_made(run):
    done = Step("first", [piece("a", "x", current=True)], list)
    later = Step("second", [piece("b", "x", current=True)], list)
    run.update(rates={"x": 3.0})
    assert [e.current for e in expect_all(run, [done, later])] == [True, True]
    assert in_all(expect_all(run, [done, later])) == ""
    forced = expect_all(run, [done, later], force=True)
    assert [e.seconds for e in forced] == [3.0, 3.0]
    assert in_all(forced) == "about 0:06"
    new = Step("first", [piece("a", "x")], list)
    assert [e.seconds for e in expect_all(run, [new, later])] == [3.0, 3.0]
    by_itself = Step("second", [piece("b", "x", current=True, alone=True)], list)
    assert [e.current for e in expect_all(run, [new, by_itself])] == [False, True]
    assert [e.seconds for e in expect_all(run, [new, by_itself], force=True)] == [3.0, 3.0]


def test_a_stage_records_how_long_a_unit_of_its_work_takes(run):
    def work(_):
        return {}

    perform(run, Stage("x", "key", (), work, effort=Effort("adding", 4.0)))
    assert set(run.record["rates"]) == {"adding"}
    assert 0 <= run.record["rates"]["adding"] < 1
    assert set(run.record["took"]) == {"c/0", "p/0", "x"}


CONFIG = """
name: planned
data: {{manifest: {manifest}, image_size: 64}}
classifier: {{arch: squeezenet1_1, epochs: 1, batch_size: 8}}
masks: {{rules: [otsu, fixed]}}
scores: {{bootstrap: 100}}
report: {{gallery: 0}}
segmenters:
  unet: {{arch: "encoder-unet:squeezenet1_1", epochs: 1, steps: 2, batch_size: 4, average: none}}
  pupil: {{arch: "encoder-unet:squeezenet1_1", masks: gradcam-otsu, epochs: 1, steps: 2,
          batch_size: 4, average: none}}
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planned")
    return folder, write_config(folder, write_set(folder / "data"), CONFIG)


@pytest.fixture(scope="module")
def made(job):
    """One whole `compare`, and what it said."""
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr("weakseg.stages.plan.say", said.append)
        patch.setattr("weakseg.report.terminal.say", said.append)
        assert weakseg("compare", job[1], "--run-dir", job[0] / "runs/run") == 0
    return job[0] / "runs/run", "\n".join(said)


def test_a_dry_run_checks_everything_and_writes_nothing(job, tmp_path, capsys):
    command = ("compare", job[1], "--run-dir", tmp_path / "runs/r", "--dry-run")
    assert weakseg(*command) == 0
    out, said = capsys.readouterr()
    assert out == ""
    assert re.search(r"plan: 4 steps, more than \d+:\d\d on this machine", said)
    assert re.search(r"1 classifiers: 1 network \(more than \d+:\d\d, estimated\)", said)
    assert not (tmp_path / "runs").exists()
    # As late as hours of training before: no validation mask to choose an epoch by.
    change = ("--set", "segmenters.unet.keep=best", "--set", "data.manifest=")
    assert weakseg(*command, *change) == 2
    missing = ("--set", "segmenters.pupil.masks=../no-run/gradcam-otsu")
    assert weakseg(*command, *missing) == 2
    assert "no such run folder" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_of_the_phantom_leaves_none(tmp_path, capsys):
    config = tmp_path / "phantom.yaml"
    config.write_text(
        "data: {manifest: phantom, image_size: 64, phantom: {patients: 6, size: 64}}\n"
        "classifier: {arch: squeezenet1_1, epochs: 1}\n"
    )
    assert weakseg("compare", config, "--run-dir", tmp_path / "runs/r", "--dry-run") == 0
    assert "plan: 3 steps" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["phantom.yaml"]
    bad = ("--set", "heatmap.layer=no-layer")
    assert weakseg("compare", config, "--run-dir", tmp_path / "runs/r", *bad) == 2
    # It is refused before the images are drawn.
    assert "generating" not in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["phantom.yaml"]


def test_it_ends_with_methods_answer_places_and_the_next_command(made):
    run, said = made
    table = said[said.index("method ") :].splitlines()
    names = [line.split()[0] for line in table[1:] if line]
    assert {"gradcam-otsu", "gradcam-fixed", "unet", "pupil"} <= set(names)
    verdict = read_json(run / "report/report.json")["runs"][0]["verdict"]["sentence"]
    assert verdict in said
    assert f"report: {run / 'report/index.html'}" in said
    assert re.search(r"it took \d+:\d\d", said)
    assert f"next: weakseg predict {run} NEW_IMAGES --out masks/ (by gradcam-otsu)" in said


def test_every_stage_that_is_performed_stands_in_the_plan(made, job):
    from weakseg.stages.compare import steps_of

    run, _ = made
    with prepared_run(load_config(job[1]), run) as prepared:
        planned = {p.stage for step in steps_of(prepared, False) for p in step.pieces}
        expected = expect_all(prepared.run, steps_of(prepared, False))
    stages = set(Run(run).record["stages"])
    # Not spoken of: what every command begins with, copies of targets, and scores, on which no
    # masks or networks stand.
    said = "classifier-scores/squeezenet1_1/0"
    assert stages - planned == {"prepare", "scores", said, "targets/pupil/0"}
    assert planned <= stages
    assert all(e.current for e in expected)


@pytest.fixture
def corrected(job, tmp_path):
    """The experiment with one mask of its data corrected."""
    data = Path(shutil.copytree(job[0] / "data", tmp_path / "data"))
    mask = data / next(r["mask"] for r in read_rows(data / "labels.csv") if r["mask"])
    Image.fromarray(pixels(mask)[::-1].copy()).save(mask)
    return load_config(job[1], [f"data.manifest={data / 'labels.csv'}"])


def test_a_corrected_mask_makes_nothing_again_that_saw_no_mask(made, corrected):
    from weakseg.stages.compare import steps_of

    with prepared_run(corrected, made[0], dry_run=True) as prepared:
        pieces = [p for step in steps_of(prepared, False) for p in step.pieces]
        current = {p.stage for p in pieces if p.current()}
    stands = ("classifier/", "predictions/", "heatmaps/", "segmenter/pupil/")
    assert current == {p.stage for p in pieces if p.stage.startswith(stands)}
    assert {"segment", "floors", "segmenter/unet/0"} <= {p.stage for p in pieces} - current


def test_a_run_from_before_images_had_a_key_keeps_its_networks(made, job, corrected, tmp_path):
    run = Run(tmp_path / "run")
    record = Run(made[0]).record
    data = {k: v for k, v in record["data"].items() if not k.startswith("images_")}
    run.folder.mkdir()
    shutil.copy(made[0] / "splits.csv", run.folder)
    write_json(run.folder / "run.json", {**record, "data": data})
    before = data["splits_key"]
    for config, masks in ((load_config(job[1]), ()), (corrected, (before,))):
        with prepared_run(config, run.folder) as prepared:
            assert prepared.images_key == before
            assert (prepared.key != before) == bool(masks)
            assert prepared.masks_key == (() if not masks else (prepared.key,))


@pytest.mark.thorough
def test_the_report_is_a_stage_like_the_others(made, job, tmp_path, capsys):
    run = shutil.copytree(made[0], tmp_path / "run")
    before = tree(run / "report")
    assert weakseg("compare", job[1], "--run-dir", run) == 0
    said = capsys.readouterr().err
    assert "  4 report (up to date)" in said
    assert "report: up to date" in said
    assert tree(run / "report") == before
    (run / "report/index.html").write_text("mine")
    assert weakseg("compare", job[1], "--run-dir", run) == 0
    assert "report/index.html" in capsys.readouterr().err
    assert (run / "report/index.html").stat().st_size > 1000
    assert weakseg("compare", job[1], "--run-dir", run, "--set", "report.title=Another") == 0
    assert "Another" in (run / "report/index.html").read_text()


def test_the_splits_are_a_stage_like_the_others(made, job, tmp_path, capsys):
    run = shutil.copytree(made[0], tmp_path / "run")
    splits = (run / "splits.csv").read_bytes()
    (run / "splits.csv").write_bytes(splits + b"\n")
    assert weakseg("train-classifier", job[1], "--run-dir", run) == 0
    assert "splits.csv" in capsys.readouterr().err
    assert (run / "splits.csv").read_bytes() == splits


def test_two_runs_of_the_same_name_are_told_apart(made, job, tmp_path, capsys):
    run = shutil.copytree(made[0], tmp_path / "run")
    assert weakseg("heatmap-segment", job[1], "--run-dir", run) == 0
    assert "other settings" not in capsys.readouterr().err
    change = ("--set", "masks.gate=0.25", "--set", "scores.bootstrap=200")
    assert weakseg("heatmap-segment", job[1], "--run-dir", run, *change) == 0
    said = capsys.readouterr().err
    assert f"{run}: goes on with a run of other settings: masks.gate: 0.5 (now 0.25)" in said
    assert "scores.bootstrap: 100 (now 200)" in said
    assert "--run-dir keeps both" in said


def test_networks_are_measured(job, tmp_path):
    with prepared_run(load_config(job[1]), tmp_path / "r", dry_run=True) as prepared:
        for effort in (of_classifier(prepared), of_segmenter(prepared, "unet")):
            assert 0 < effort.measure() < 60
        assert of_classifier(prepared).units == len(prepared.cases.of("train"))
        assert of_segmenter(prepared, "unet").units == 2 * 4


def test_a_long_table_of_methods_is_cut(made):
    table = read_summary(made[0])
    lines = methods_as_text(table.loc[table.index.repeat(20)])
    assert len(lines) == 1 + 12 + 1
    assert lines[-1] == f"and {20 * len(table) - 12} more in scores/summary.csv"
