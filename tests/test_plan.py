"""The plan that `compare` prints, and the steps that follow it."""

from weakseg.runs import Run, write_json
from weakseg.stages.plan import Step, follow, last_seconds


def steps(done):
    return [
        Step("classifiers", ("classifier/", "predictions/"), lambda: done.append("classifiers")),
        Step("masks", ("segment",), lambda: done.append("masks")),
        Step("report", ("scores",), lambda: "page"),
    ]


def test_the_plan_comes_first_and_every_step_is_told(tmp_path, capsys):
    write_json(
        tmp_path / "run.json",
        {
            "took": {
                "classifier/resnet18/0": 60.0,
                "predictions/resnet18/0": 5.0,
                "segmenter/u/0": 9,
            }
        },
    )
    done = []
    assert follow(Run(tmp_path), steps(done)) == "page"
    assert done == ["classifiers", "masks"]
    assert capsys.readouterr().err.splitlines() == [
        "plan: 3 steps; what is up to date stays as it is",
        "  1 classifiers (1:05 when it was last made)",
        "  2 masks (not made yet)",
        "  3 report (not made yet)",
        "step 1 of 3: classifiers",
        "step 2 of 3: masks",
        "step 3 of 3: report",
    ]


def test_how_long_it_took_outlives_the_stage_in_the_record(tmp_path):
    run = Run(tmp_path)
    write_json(tmp_path / "run.json", {"took": {"segment": 2.5}, "stages": {}})
    assert last_seconds(run, steps([])[1]) == 2.5
    assert last_seconds(run, steps([])[0]) is None
