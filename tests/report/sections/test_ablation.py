"""What each step earned, and the lesions that hold the last one back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tests.report.fake_run import make_run
from weakseg.config import parse_config
from weakseg.report.read import read_runs
from weakseg.report.sections.ablation import (
    build,
    gap_to_reference,
    lesion_contrast,
    seconds_of,
    steps_table,
)
from weakseg.report.sections.base import Subject
from weakseg.stages.report import make_report

STEPS = {"report": {"gallery": 0, "steps": ["gradcam-fixed", "gradcam-otsu"]}}
CHAIN = {
    "classifier": {"seeds": [0, 1]},
    "heatmaps": {
        "map": {"layer": "fused", "rules": ["two-tone"]},
        "all": {"ensemble": True, "rules": ["fixed"]},
    },
    "segmenters": {
        "unet": {"seeds": [0]},
        "weak": {"masks": "map-two-tone"},
        "again": {"masks": "weak"},
        "abroad": {"masks": "elsewhere/map-two-tone"},
        "mean": {"masks": "map-two-tone", "ensemble": True},
        "pupil": {"masks": "mean", "seeds": [5]},
        "on-all": {"masks": "all-fixed", "ensemble": True},
        "gated": {"seeds": [5], "gate": 0.5},
    },
}
STAGES = {
    "classifier/resnet18/0": {"seconds": 100},
    "classifier/resnet18/1": {"seconds": 140},
    "heatmaps/resnet18/seed-0/map": {"seconds": 10},
    "heatmaps/resnet18/seed-1/map": {"seconds": 20},
    "heatmaps/resnet18/seed-0/all": {"seconds": 30},
    "segmenter/unet/0": {"seconds": 500},
    "segmenter/weak/0": {"seconds": 200},
    "segmenter/weak/1": {"seconds": 300},
    "segmenter/again/0": {"seconds": 50},
    "segmenter/again/1": {"seconds": 50},
    "segmenter/abroad/0": {"seconds": 7},
    "segmenter/mean/0": {"seconds": 1},
    "segmenter/mean/1": {"seconds": 2},
    "segmenter/pupil/5": {"seconds": 9},
    "segmenter/on-all/0": {"seconds": 3},
    "segmenter/on-all/1": {"seconds": 4},
    "segmenter/gated/5": {"seconds": 6},
}


def test_contrast_by_hand():
    image, mask = np.zeros((21, 21)), np.zeros((21, 21), dtype=bool)
    mask[10, 10] = True
    image[10, 10] = 50
    image[:10] = 20  # a ring of 60 pixels around one: 25 above, 25 below, 10 beside it
    ring = np.abs(np.mgrid[:21, :21] - 10).sum(axis=0)
    inside = (ring <= 5) & ~mask
    expected = (50 - image[inside].mean()) / image[inside].std()
    assert inside.sum() == 60
    assert image[inside].mean() == pytest.approx(20 * 25 / 60)
    assert lesion_contrast(image, mask) == pytest.approx(expected)
    assert lesion_contrast(-image, mask) == pytest.approx(-expected)
    assert lesion_contrast(image * 3 + 7, mask) == pytest.approx(expected)


def test_an_even_ring_and_an_empty_mask_have_no_contrast():
    image, mask = np.zeros((9, 9)), np.zeros((9, 9), dtype=bool)
    assert np.isnan(lesion_contrast(image, mask))
    mask[4, 4] = True
    assert np.isnan(lesion_contrast(image, mask))


@pytest.mark.parametrize(
    ("method", "seconds"),
    [
        ("map-two-tone", 120 + 15),
        ("all-fixed", 240 + 30),  # both classifiers, once
        ("unet", 500),
        ("weak", 250 + 135),
        ("again", 50 + 385),
        ("abroad", 7),  # what another run took is not known here
        ("mean", 1 + 2 + 110 + 160),  # both networks, and the masks of both seeds
        ("pupil", 9 + 273),
        ("on-all", 3 + 4 + 270),  # the one heatmap that both stand on
        ("gated", 6 + 240),  # the gate asks both classifiers
    ],
)
def test_a_step_takes_what_it_and_all_below_it_took(method, seconds):
    assert seconds_of(parse_config(CHAIN), STAGES, method) == seconds


def test_what_the_record_does_not_tell_has_no_seconds():
    assert np.isnan(seconds_of(parse_config(CHAIN), {}, "weak"))


def test_the_table_has_the_paired_gain_of_every_step(tmp_path):
    (run,) = read_runs([make_run(tmp_path / "run", settings=STEPS)])
    table = steps_table(run)
    assert table["step"].tolist() == ["gradcam-fixed", "gradcam-otsu"]
    dice = run.summary.set_index("method")["dice"]
    assert np.isnan(table["gain"].iloc[0])
    difference = dice["gradcam-otsu"] - dice["gradcam-fixed"]
    assert table["gain"].iloc[1] == pytest.approx(difference, abs=1e-5)
    assert table["gain_low"].iloc[1] <= table["gain"].iloc[1] <= table["gain_high"].iloc[1]
    assert table["seconds"].tolist() == [14.0, 14.0]
    (sentence,) = build(Subject(run, "run1")).context["sentences"]
    assert sentence.startswith("gradcam-otsu is ")
    assert "gradcam-fixed" in sentence


def test_no_mark_on_any_healthy_image_has_the_interval_of_the_table_of_methods(tmp_path):
    (run,) = read_runs([make_run(tmp_path / "run", settings=STEPS)])
    per_case = run.per_case.assign(false_alarm=False)
    rate = ["false_positive_rate", "false_positive_rate_low", "false_positive_rate_high"]
    summary = run.summary.assign(**dict.fromkeys(rate, 0.0))
    run = dataclasses.replace(run, per_case=per_case, summary=summary)
    subject = Subject(run, "run1")
    methods = subject.methods.set_index("method")
    for step in steps_table(run).to_dict(orient="records"):
        assert [step[c] for c in rate] == methods.loc[step["step"], rate].tolist()
        assert step["false_positive_rate_high"] > 0.2


@pytest.mark.usefixtures("alone")
def test_the_page_and_the_tables_show_the_steps(tmp_path):
    run = make_run(tmp_path / "run", settings=STEPS)
    page = make_report([run], tmp_path / "out").read_text()
    assert "What each step earned" in page
    written = pd.read_csv(tmp_path / "out" / "tables" / "steps.csv")
    assert written["step"].tolist() == ["gradcam-fixed", "gradcam-otsu"]


@pytest.mark.usefixtures("alone")
def test_without_steps_the_page_says_nothing_of_them(tmp_path):
    run = make_run(tmp_path / "run")
    assert "What each step earned" not in make_report([run], tmp_path / "out").read_text()


def test_without_a_supervised_network_there_is_no_shortfall(tmp_path):
    (run,) = read_runs([make_run(tmp_path / "run", settings=STEPS)])
    assert gap_to_reference(run, "gradcam-otsu").empty


def test_the_shortfall_is_that_of_lesions_by_size_contrast_and_patient(tmp_path):
    settings = STEPS | {"segmenters": {"unet": {}}}
    (run,) = read_runs([make_run(tmp_path / "run", settings=settings)])
    # The fake run holds no segmenter's masks: its scores stand in for them.
    perfect = run.per_case[run.per_case["method"] == "gradcam-fixed"].assign(
        method="unet", kind="supervised"
    )
    perfect.loc[perfect["has_lesion"].astype(bool), "dice"] = 1.0
    run.__dict__["per_case"] = pd.concat([run.per_case, perfect], ignore_index=True)
    table = gap_to_reference(run, "gradcam-fixed")
    lesion = run.per_case[run.per_case["has_lesion"].astype(bool)]
    ours = lesion[lesion["method"] == "gradcam-fixed"].groupby(["patient", "case"])["dice"].mean()
    for by in ("size", "contrast"):
        part = table[table["by"] == by]
        assert part["images"].sum() == len(ours)
        weighed = (part["method"] * part["images"]).sum() / part["images"].sum()
        assert weighed == pytest.approx(ours.mean())
        assert (part["low"].to_numpy()[1:] >= part["high"].to_numpy()[:-1]).all()
    patients = table[table["by"] == "patient"]
    by_patient = ours.groupby("patient").mean().sort_values()
    assert patients["group"].iloc[0] == by_patient.index[0]
    assert (table["reference"] == 1).all()
