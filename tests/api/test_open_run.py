"""`weakseg.open_run`: a run folder as frames, cases and pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import weakseg
from tests.report.fake_run import RULES, make_run
from weakseg.errors import RunError
from weakseg.report.read import read_runs
from weakseg.report.sections.answer import verdict_of
from weakseg.report.sections.base import Subject


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "fake")


@pytest.fixture
def run(folder):
    return weakseg.open_run(folder)


def test_frames_are_those_of_the_report(run, folder):
    (read,) = read_runs([folder], look_at_data=False)
    subject = Subject(read, "run1")
    assert list(run.scores.index) == list(subject.methods["method"])
    columns = [c for c in subject.methods.columns if c != "method"]
    pd.testing.assert_frame_equal(
        run.scores[columns].reset_index(drop=True), subject.methods[columns]
    )
    assert run.scores.loc["gradcam-otsu", "name"] == "Grad-CAM with Otsu's threshold"
    pd.testing.assert_frame_equal(run.per_case, read.per_case)
    assert run.verdict == verdict_of(subject)
    assert list(run.methods.index) == [f"gradcam-{r}" for r in RULES]
    assert run.methods.loc["gradcam-otsu", "seeds"] == [0, 1]
    assert run.methods.loc["gradcam-validation", "masks_seen"] > 0
    assert bool(run.methods.loc["gradcam-oracle-image", "upper_bound"])


def test_nothing_is_read_before_it_is_asked_for(folder, monkeypatch):
    import weakseg.api.opened as opened

    def refuse(*_, **__):
        raise AssertionError("read")

    monkeypatch.setattr(opened, "read_runs", refuse)
    run = opened.open_run(folder)
    assert "fake" in repr(run)
    with pytest.raises(AssertionError, match="read"):
        _ = run.scores


def test_a_case_has_its_image_truth_masks_and_heat(run, folder):
    assert len(run.cases) == len(run.splits) == 48
    name = run.per_case.loc[run.per_case["has_lesion"], "case"].iloc[0]
    case = run.cases[name]
    row = run.splits.set_index("case").loc[name]
    assert (case.label, case.patient, case.split) == (row["label"], row["patient"], "test")
    np.testing.assert_array_equal(case.image, weakseg.read_image(row["image"]))
    assert case.truth.sum() > 0
    assert set(case.masks) == {f"gradcam-{r}" for r in RULES}
    assert set(case.heatmaps) == set(case.masks)
    scores = case.scores[case.scores["method"] == "gradcam-otsu"].set_index("seed")
    for seed in (0, 1):
        mask = case.mask("gradcam-otsu", seed)
        assert weakseg.dice(mask, case.truth) == pytest.approx(scores.loc[seed, "dice"])
        assert case.heatmap("gradcam-otsu", seed).shape == case.image.shape
    np.testing.assert_array_equal(case.masks["gradcam-otsu"], case.mask("gradcam-otsu", 0))


def test_pictures(run):
    case = run.cases[run.per_case["case"].iloc[0]]
    figure = case.plot(["gradcam-otsu", "gradcam-fixed"])
    assert [a.get_title() for a in figure.axes] == ["truth", "gradcam-otsu", "gradcam-fixed"]
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert "data:image/png;base64," in case._repr_html_()
    assert "gradcam-otsu" in run._repr_html_()


def test_what_is_not_there_is_told(run, tmp_path):
    name = run.per_case["case"].iloc[0]
    with pytest.raises(KeyError, match="did you mean"):
        run.cases[name[:-1]]
    with pytest.raises(RunError, match="did you mean 'gradcam-otsu'"):
        run.cases[name].mask("gradcam-otzu")
    with pytest.raises(RunError, match="no masks of seed 7"):
        run.cases[name].mask("gradcam-otsu", 7)
    train = run.splits.loc[run.splits["split"] == "train", "case"].iloc[0]
    with pytest.raises(RunError, match=r"load_method\(.*\.predict"):
        run.cases[train].mask()
    with pytest.raises(RunError, match="no such run folder"):
        weakseg.open_run(tmp_path / "none")
    with pytest.raises(RunError, match="not a weakseg run"):
        weakseg.open_run(tmp_path)


def test_a_run_is_found_by_its_name(folder, monkeypatch):
    monkeypatch.chdir(folder.parent.parent)
    folder.parent.rename("runs")
    try:
        assert weakseg.open_run("fake").folder.as_posix() == "runs/fake"
    finally:
        folder.parent.with_name("runs").rename(folder.parent)


def test_a_damaged_run_is_refused_as_the_report_refuses_it(tmp_path):
    folder = make_run(tmp_path / "fake")
    (folder / "splits.csv").unlink()
    with pytest.raises(RunError, match="not complete"):
        _ = weakseg.open_run(folder).scores


def test_a_run_without_truth_has_no_scores_and_yet_cases(tmp_path):
    run = weakseg.open_run(make_run(tmp_path / "fake", scored=False, labels=("<i>no", "<b>x")))
    assert run.scores.empty
    assert run.method == "gradcam-fixed"
    case = next(c for c in run.cases.values() if c.split == "test")
    assert case.truth is None
    assert "<b>x" not in case._repr_html_()
    assert "no test image with a lesion" in run._repr_html_()
