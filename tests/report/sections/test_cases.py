"""Every test case: the Dice that moves with the threshold is the Dice that is scored."""

from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tests.report.fake_run import make_run
from weakseg.report.page import build_report
from weakseg.report.read import read_runs
from weakseg.report.sections.base import Subject
from weakseg.report.sections.cases import STEPS, build, case_rows, dice_curve, pictures
from weakseg.scores import score_case


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A run of one seed."""
    (read,) = read_runs([make_run(tmp_path_factory.mktemp("cases") / "run", seeds=[0])])
    return Subject(read, "run1")


@given(
    heat=hnp.arrays(np.float64, (3, 4), elements=st.floats(0, 1)),
    truth=hnp.arrays(np.bool_, (3, 4)),
    step=st.integers(0, STEPS - 1),
)
def test_the_curve_is_the_score_at_every_threshold(heat, truth, step):
    at = np.linspace(0, 1, STEPS)[step]
    scored = score_case(heat > at, truth)["dice"]
    assert dice_curve(heat, truth)[step] == pytest.approx(scored)
    empty = score_case(np.zeros_like(truth), truth)["dice"]
    assert dice_curve(heat, truth, gated=True)[step] == pytest.approx(empty)


def test_at_the_methods_own_threshold_the_page_holds_the_scores_of_the_run(subject):
    table = subject.run.per_case
    own = table[(table["method"] == "gradcam-fixed") & (table["seed"] == 0)].set_index("case")
    rows, shown = case_rows(subject), pictures(subject)
    assert list(rows["case"]) == sorted(own.index)
    at = [float(p.curve.split()[STEPS // 2]) / 1000 for p in shown]
    assert at == pytest.approx(own.loc[rows["case"], "dice"].tolist(), abs=5e-4)
    assert len(set(at)) > 3


def test_of_seeds_in_any_order_dice_and_pictures_are_those_of_the_first(tmp_path):
    (read,) = read_runs([make_run(tmp_path / "run", seeds=[3, 1], sharp=False)])
    subject = Subject(read, "run1")
    table = read.per_case[read.per_case["method"] == "gradcam-fixed"].set_index("case")
    rows = case_rows(subject)
    first, other = (table[table["seed"] == s].loc[rows["case"], "dice"] for s in (3, 1))
    assert rows["dice"].tolist() == first.tolist() != other.tolist()
    at = [float(p.curve.split()[STEPS // 2]) / 1000 for p in pictures(subject)]
    assert at == pytest.approx(first.tolist(), abs=5e-4)


def test_cases_without_a_true_mask_are_told_apart_from_those_without_room(tmp_path):
    (read,) = read_runs([make_run(tmp_path / "run", seeds=[0], patients=8)])
    gone = sorted(read.per_case["case"].astype(str).unique())[:2]
    fewer = dataclasses.replace(read, per_case=read.per_case[~read.per_case["case"].isin(gone)])
    html = build_report([fewer]).html
    assert "2 test cases without a true mask are not here" in html
    assert "found no room" not in html


def test_pictures_hold_the_truth_and_the_masks_of_the_run(subject):
    rows, shown = case_rows(subject), pictures(subject)
    lesion = rows["lesion_pixels"].to_numpy() > 0
    marked = np.array([(pixels(p.truth) > 127).any() for p in shown])
    assert marked.tolist() == lesion.tolist()
    empty = [not (pixels(p.masks["gradcam-fixed"]) > 127).any() for p in shown]
    assert (np.array(empty) & lesion).tolist() == rows["missed"].astype(bool).tolist()
    assert set(shown[0].masks) == set(subject.run.thresholds)


def test_sizes_are_thirds_of_the_lesions(subject):
    rows = case_rows(subject)
    by_size = rows.groupby("size")["lesion_pixels"].agg(["min", "max"])
    assert set(by_size.index) <= {"healthy", "small", "middle", "large"}
    assert by_size.loc["small", "max"] < by_size.loc["large", "min"]
    assert by_size.loc["healthy", "max"] == 0


def test_two_hundred_cases_stay_within_five_megabytes(subject):
    """By the largest case of the run, at the side that so many get; noise compresses worst."""
    size = max(
        len(p.image) + len(p.heat) + len(p.truth) + len(p.curve) + sum(map(len, p.masks.values()))
        for p in pictures(subject)
    )
    assert 200 * size < 5_000_000


def test_cases_are_listed_without_pictures_where_none_are_wanted(tmp_path):
    run = make_run(tmp_path / "run", seeds=[0], patients=8, settings={"report": {"gallery": 0}})
    (read,) = read_runs([run])
    content = build(Subject(read, "run1"))
    assert len(content.tables["cases"]) == 16
    html = build_report([read]).html
    assert "Every test case" in html
    assert 'class="live"' not in html
    assert "<img" not in html


def pixels(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))


def test_a_case_whose_files_are_gone_says_so(tmp_path):
    folder = make_run(tmp_path / "run", seeds=[0], patients=8)
    for path in (tmp_path / "run-data" / "images").iterdir():
        path.unlink()
    (read,) = read_runs([folder])
    shown = pictures(Subject(read, "run1"))
    assert all(p.problem and not p.image for p in shown)
    assert isinstance(case_rows(Subject(read, "run1")), pd.DataFrame)
