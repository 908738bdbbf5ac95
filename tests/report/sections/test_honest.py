"""How a run was kept honest: planted faults are found, and what is clean is called so."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from PIL import Image

from tests.report.fake_run import make_run
from weakseg.config import LeftOut, SplitConfig, parse_config
from weakseg.report import honesty
from weakseg.report.honesty import checklist, checks_of
from weakseg.report.page import build_report
from weakseg.report.read import RunTables, read_runs
from weakseg.report.sections.answer import verdict_of
from weakseg.report.sections.base import Subject
from weakseg.report.sections.honest import build, choices_of

PATIENT, SPELLING, FILES, SPLITS, BOUNDS, SEEN, DROPPED = range(7)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunTables:
    """A clean run of one seed."""
    (read,) = read_runs([make_run(tmp_path_factory.mktemp("honest") / "run", seeds=[0])])
    return read


def with_splits(run: RunTables, **changes: str) -> RunTables:
    """The same run, its first test image changed."""
    splits = run.splits.copy()
    at = splits.index[splits["split"] == "test"][0]
    for column, value in changes.items():
        splits.loc[at, column] = value
    return replace(run, splits=splits)


def trained(run: RunTables) -> pd.Series:
    return run.splits[run.splits["split"] == "train"].iloc[0]


def test_a_clean_run_holds_in_every_point(run):
    found = checks_of(run, True)
    # Which masks the threshold saw has no names here.
    assert [c.holds for c in found] == [True] * 5 + [None, None]
    assert "12 patients, each in one split" in found[PATIENT].found
    assert "48 files compared" in found[FILES].found
    assert found[BOUNDS].found == "gradcam-oracle-image"
    assert found[DROPPED].found.startswith("none is kept")


def test_a_patient_on_two_sides_is_named(run):
    leaked = with_splits(run, patient=trained(run)["patient"])
    check = checks_of(leaked, True)[PATIENT]
    assert (check.holds, check.found) == (False, "in two splits: P00")
    assert checks_of(run, False)[PATIENT].holds is None
    assert checks_of(leaked, False)[PATIENT].holds is False


def test_a_patient_under_two_spellings_is_found(run):
    check = checks_of(with_splits(run, patient="p-0"), True)[SPELLING]
    assert check.holds is False
    assert check.found == "perhaps one person: P00 and p-0"


def test_a_copy_of_a_training_image_in_the_test_split_is_found(run, tmp_path):
    copy = tmp_path / "copy.png"
    shutil.copy(trained(run)["image"], copy)
    check = checks_of(with_splits(run, image=str(copy)), True)[FILES]
    assert check.holds is False
    assert check.found == f"byte for byte the same: {Path(trained(run)['image']).name} and copy.png"
    gone = checks_of(with_splits(run, image=str(tmp_path / "none.png")), True)[FILES]
    assert gone.holds is None


def test_a_file_of_many_rows_is_read_and_counted_once(run, monkeypatch):
    """As a volume is, of whose slices each is a row."""
    many = replace(run, splits=pd.concat([run.splits] * 5, ignore_index=True))
    read = []
    monkeypatch.setattr(honesty, "file_hash", lambda p: read.append(p) or str(p))
    check = checks_of(many, True)[FILES]
    assert check.holds is True
    assert check.found.startswith(f"{len(set(run.splits['image']))} files compared")
    assert len(read) == len(set(read))


def test_folders_of_series_are_no_files(run, tmp_path):
    folders = [tmp_path / str(k) for k in range(len(run.splits))]
    for folder in folders:
        folder.mkdir()
    check = checks_of(replace(run, splits=run.splits.assign(image=list(map(str, folders)))), True)
    assert check[FILES].holds is None
    assert check[FILES].found == "its images are folders of series"


def test_blank_slices_are_no_copies(run, tmp_path):
    splits = run.splits.copy()
    for split in ("train", "test"):
        path = tmp_path / f"{split}.png"
        Image.new("L", (20, 24)).save(path)
        splits.loc[splits.index[splits["split"] == split][0], "image"] = str(path)
    check = checks_of(replace(run, splits=splits), True)[FILES]
    assert check.holds is True
    assert "2 blank ones left out" in check.found


def test_a_classifier_of_other_splits_is_found(run):
    check = checks_of(with_splits(run, split="val"), True)[SPLITS]
    assert (check.holds, check.found) == (False, "other splits: seed 0")


def test_a_choice_on_test_masks_that_calls_itself_a_result_is_found(run):
    entry = run.thresholds["gradcam-oracle-image"]["seed-0"] | {"upper_bound": False}
    loose = replace(run, thresholds=run.thresholds | {"gradcam-oracle-image": {"seed-0": entry}})
    check = checks_of(loose, True)[BOUNDS]
    assert (check.holds, check.found) == (False, "not marked: gradcam-oracle-image")


def test_a_test_mask_that_a_method_saw_is_found_and_lowers_the_light(run):
    method = "gradcam-validation"
    names = run.splits.loc[run.splits["split"] == "test", "case"].tolist()
    others = run.splits.loc[run.splits["split"] == "val", "case"].tolist()

    def saw(cases: list[str], masks: int) -> RunTables:
        entry = run.thresholds[method]["seed-0"] | {"seen": cases, "masks_seen": masks}
        return replace(run, thresholds=run.thresholds | {method: {"seed-0": entry}})

    assert checks_of(saw(others[:2], 2), True)[SEEN].holds is True
    assert checks_of(saw(others[:1], 2), True)[SEEN].holds is None
    by_others = saw(others[:2], 2)
    by_others.thresholds[method]["seed-0"]["elsewhere"] = ["LiteMedSAM"]
    check = checks_of(by_others, True)[SEEN]
    assert check.holds is None
    assert check.found.startswith(f"{method} stand on LiteMedSAM, and whether the test images")
    leaked = saw([others[0], names[0]], 2)
    check = checks_of(leaked, True)[SEEN]
    assert (check.holds, check.found) == (False, f"test masks had a part in {method}")
    made = verdict_of(Subject(leaked, "run1"))
    assert made.light in ("not shown", "worth nothing")
    condition = made.conditions[-1]
    assert not condition.holds
    assert check.what in condition.but


def test_what_cannot_be_told_is_not_shown(run):
    checks = build(Subject(run, "run1")).context["checks"]
    asked = [c["what"] for c in checks if c["holds"] is None and c["asks"]]
    assert asked == [checks[SEEN]["what"]]  # and not the networks that were dropped


def test_networks_that_were_dropped_are_named(run, tmp_path):
    (tmp_path / "superseded" / "resnet18-seed-0-abc").mkdir(parents=True)
    check = checks_of(replace(run, folder=tmp_path), True)[DROPPED]
    assert check.found == "1, kept in superseded/: resnet18-seed-0-abc"


@pytest.mark.parametrize(
    ("split", "says"),
    [
        (SplitConfig(folds=5, fold=2), "fold 2 (counted from 0) of 5 folds"),
        (
            SplitConfig(leave_out=LeftOut(column="site", value="B")),
            "all patients with 'B' in the column 'site'",
        ),
    ],
)
def test_the_checklist_tells_of_folds_and_of_what_is_left_out(run, split, says):
    data = run.config.data.model_copy(update={"split": split})
    dealt = replace(run, config=run.config.model_copy(update={"data": data}))
    answers = {i.question: i.answer for i in checklist(dealt, True, [0])}
    assert says in answers["How data were assigned to splits"]
    assert "test: 24 images" in answers["How data were assigned to splits"]


def test_every_choice_that_the_validation_split_made_has_its_line():
    def chosen(**tree):
        config = parse_config(tree)
        trained = {name: {} for name in config.segmenters}
        run = SimpleNamespace(classifiers={0: {}}, segmenters=trained)
        subject = SimpleNamespace(config=config, run=run, method=None, has_classifier=True)
        return {c["what"]: c["on"] for c in choices_of(subject)}

    labels, masks = "labels of the validation split", "masks of the validation split, counted"
    plain = chosen(segmenters={"net": {}})
    assert list(plain.values()).count(labels) == 1  # the classifier's epoch
    net = {"false_alarms": 0.1, "min_area": "validation"}
    mean = {"ensemble": True, "weighting": "validation", "min_area": "validation"}
    more = chosen(
        heatmap={"layer": "fused", "fusion": "labels"},
        heatmaps={"more": {"scales": [1, 2], "auc_drop": 0.1}},
        segmenters={"net": net, "mean": mean},
    )
    assert {what: on for what, on in more.items() if what not in plain} == {
        "What the layers count of gradcam": labels,
        "The scales of more": labels,
        "The least peak, and the gate if there is one, of net": labels,
        "What each network counts in the mean of mean": masks,
        "The smallest part of net, mean": masks,
    }


@pytest.mark.usefixtures("alone")
def test_the_page_tells_masks_seen_choices_and_the_checklist(run):
    content = build(Subject(run, "run1"))
    seen = content.tables["masks_seen"].set_index("method")
    assert seen["masks_seen"].to_dict() == {
        "gradcam-fixed": 0,
        "gradcam-otsu": 0,
        "gradcam-validation": 12,
        "gradcam-oracle-image": 12,
    }
    assert seen["upper_bound"].sum() == 1
    items = content.tables["checklist"]
    answers = items.set_index("question")["answer"]
    assert answers["What the splits are disjoint by"] == "patient"
    assert "test: 24 images of 6 patients, 24 masks" in answers["How data were assigned to splits"]
    assert answers["Ethical approval"] == ""
    assert "fold" not in answers["How data were assigned to splits"]
    html = build_report([run]).html
    assert "How this was kept honest" in html
    assert "UPPER BOUND" in html
    assert f"{(items['answer'] != '').sum()} of {len(items)} questions" in html
    leaked = build_report([with_splits(run, patient="P00")]).html
    assert '<b class="bad">NO</b>. In two splits: P00.' in leaked
