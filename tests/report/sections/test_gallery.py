"""Which cases the first screen and the gallery show."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from tests.report.fake_run import make_run
from weakseg.report.read import read_runs
from weakseg.report.sections.base import Subject
from weakseg.report.sections.gallery import first_pictures, shown_cases, typical_case


def table(dice: list[float], healthy: int = 2) -> pd.DataFrame:
    """Lesions of these Dice, 0 for a missed one, and healthy images."""
    lesions = [
        {"case": f"l{k}", "has_lesion": True, "missed": d == 0, "dice": d}
        for k, d in enumerate(dice)
    ]
    others = [
        {"case": f"h{k}", "has_lesion": False, "missed": False, "dice": 1.0} for k in range(healthy)
    ]
    return pd.DataFrame([*others, *lesions], columns=["case", "has_lesion", "missed", "dice"])


@pytest.mark.parametrize(
    ("dice", "expected", "row"),
    [
        ([0.1, 0.9, 0.5], 0.5, "median"),
        ([0.1, 0.9, 0.5, 0.7], 0.5, "median"),
        ([0.0, 0.8, 0.0, 0.9, 0.0], 0.0, "missed"),
        ([0.4], 0.4, "median"),
    ],
)
def test_the_typical_case_is_the_median_of_all_lesions(dice, expected, row):
    (chosen,) = typical_case(table(dice)).to_dict(orient="records")
    assert (chosen["dice"], chosen["row"]) == (expected, row)
    assert chosen["has_lesion"]


def test_without_a_lesion_none_is_typical():
    assert typical_case(table([])).empty


@pytest.mark.parametrize("gallery", [1, 2, 4])
def test_the_first_screen_shows_it_whatever_the_gallery_shows(tmp_path, gallery):
    settings = {"report": {"gallery": gallery}}
    (run,) = read_runs([make_run(tmp_path / "run", seeds=[0], settings=settings)])
    subject = Subject(run, "run1")
    own = run.per_case[run.per_case["method"] == subject.method]
    lesions = own[own["has_lesion"].astype(bool)]["dice"].sort_values()
    shown = first_pictures(subject)
    assert shown["median"].dice == lesions.iloc[(len(lesions) - 1) // 2]
    assert shown["median"].picture
    assert shown["best"].dice == lesions.max()
    assert len(shown_cases(subject)) >= 3


def test_no_case_is_typical_and_failed_where_another_has_failed(tmp_path):
    (run,) = read_runs([make_run(tmp_path / "run", seeds=[0])])
    lost = run.per_case["has_lesion"].astype(bool) & (run.per_case["method"] == "gradcam-fixed")
    names = sorted(run.per_case.loc[lost, "case"])
    gone = lost & run.per_case["case"].isin(names[: len(names) - 1])
    per_case = run.per_case.copy()
    per_case.loc[gone, ["dice", "missed"]] = [0.0, True]
    typical = names[(len(names) - 1) // 2]
    per_case.loc[gone & (per_case["case"] == typical), "lesion_pixels"] = 10**6
    subject = Subject(dataclasses.replace(run, per_case=per_case), "run1")
    shown = first_pictures(subject)
    assert shown["median"].case == typical
    assert shown["failed"].row == "missed"
    assert shown["failed"].case != typical
