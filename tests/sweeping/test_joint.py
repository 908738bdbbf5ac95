"""Rows are settings; folds of one are taken together, and every patient counts once."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from weakseg.errors import RunError
from weakseg.scores import summarise
from weakseg.sweeping.joint import (
    Read,
    dice_table,
    joint_table,
    methods_without_row,
    without_row,
)
from weakseg.sweeping.page import sweep_page
from weakseg.sweeping.variations import variations


def rows(patients, seed=0, methods=("gradcam-otsu", "floor-all")):
    """Scores of three images a patient, two of them with a lesion."""
    rng = np.random.default_rng(seed)
    table = []
    for method in methods:
        for p in patients:
            for i in range(3):
                table.append(
                    {
                        "case": f"{p}-{i}",
                        "patient": p,
                        "split": "test",
                        "label": "tumor" if i else "normal",
                        "method": method,
                        "kind": "floor" if method.startswith("floor") else "classifier",
                        "seed": 0,
                        "masks_seen": 0,
                        "dice": float(rng.random()) if i else 1.0,
                        "has_lesion": bool(i),
                        "flat": False,
                        "gated": False,
                    }
                )
    return pd.DataFrame(table)


def read(table):
    return Read(table, bootstrap=200, seed=0)


def test_folds_are_taken_together_and_the_interval_is_over_all_patients():
    runs = variations(["classifier.epochs=1,2"], folds=3)
    parts = {v.name: rows([f"p{v.fold}{k}" for k in range(4)], seed=i) for i, v in enumerate(runs)}
    table = joint_table(runs, {n: read(t) for n, t in parts.items()})
    assert list(table["classifier.epochs"]) == ["1", "1", "2", "2"]
    assert set(table["folds"]) == {3}
    assert set(table["patients"]) == {12}
    whole = pd.concat([parts[v.name] for v in runs[3:]], ignore_index=True)
    expected = summarise(whole, bootstrap=200, seed=0)
    pd.testing.assert_frame_equal(
        table[table["classifier.epochs"] == "2"][expected.columns].reset_index(drop=True), expected
    )
    # Twelve patients tell more than the four of a fold.
    one = summarise(parts[runs[3].name], bootstrap=200, seed=0).iloc[0]
    assert expected.iloc[0].dice_high - expected.iloc[0].dice_low < one.dice_high - one.dice_low


def test_a_setting_without_one_of_its_folds_has_no_row():
    runs = variations(["classifier.epochs=1,2"], folds=2)
    done = {v.name: read(rows([f"p{v.fold}"])) for v in runs if v != runs[2]}
    assert set(joint_table(runs, done)["classifier.epochs"]) == {"1"}
    assert without_row(runs, done) == ["classifier.epochs=2 (epochs-2_fold-0)"]
    assert joint_table(runs, {}).empty
    page = sweep_page(
        "Sweep",
        dice_table(joint_table(runs, done), ["classifier.epochs"]),
        [],
        simulated=False,
        folds=2,
        settings=2,
        left=without_row(runs, done),
        methods_left=[],
    )
    assert "1 of 2 settings are not in this table, which takes those of which all folds" in page
    assert "classifier.epochs=2 (epochs-2_fold-0).</div>" in page


def test_a_method_that_a_fold_left_out_has_no_row():
    runs = variations(["classifier.epochs=1,2"], folds=2)
    done = {v.name: read(rows([f"p{v.fold}"])) for v in runs}
    done[runs[1].name] = read(rows(["p1"], methods=("floor-all",)))
    table = joint_table(runs, done)
    assert list(zip(table["classifier.epochs"], table["method"], strict=True)) == [
        ("1", "floor-all"),
        ("2", "gradcam-otsu"),
        ("2", "floor-all"),
    ]
    assert set(table["patients"]) == {2}
    assert methods_without_row(runs, done) == [
        "gradcam-otsu of classifier.epochs=1 (not in epochs-1_fold-1)"
    ]
    assert without_row(runs, done) == []
    done[runs[1].name] = read(pd.DataFrame())
    assert set(joint_table(runs, done)["classifier.epochs"]) == {"2"}
    assert without_row(runs, done) == ["classifier.epochs=1 (nothing was scored)"]


@pytest.mark.parametrize("column", ["case", "patient"])
def test_folds_that_test_somebody_twice_are_refused(column):
    runs = variations([], folds=2)
    tables = [rows(["a", "b"]), rows(["c", "d"])]
    tables[1].loc[0, column] = tables[0].loc[0, column]
    with pytest.raises(RunError, match=f"A {column} was tested in two folds") as e:
        joint_table(runs, {v.name: read(t) for v, t in zip(runs, tables, strict=True)})
    assert e.value.where == "fold-0 and fold-1"


def test_the_table_for_reading_has_a_row_a_setting_and_a_column_a_method():
    runs = variations(["seed=0,1", "classifier.arch=resnet18"])
    tables = {
        runs[0].name: read(rows(["a", "b", "c"])),
        runs[1].name: read(rows(["a", "b", "c"], methods=("gradcam-otsu",))),
    }
    joint = joint_table(runs, tables)
    shown = dice_table(joint, list(runs[0].shown))
    assert list(shown.columns) == [
        "seed",
        "classifier.arch",
        "patients",
        "gradcam-otsu",
        "floor-all",
    ]
    assert list(shown["seed"]) == ["0", "1"]
    entry = joint.iloc[0]
    assert shown["gradcam-otsu"][0] == (
        f"{entry.dice:.3f} [{entry.dice_low:.3f}, {entry.dice_high:.3f}]"
    )
    assert shown["floor-all"][1] == ""


def test_a_run_in_which_nothing_could_be_scored_has_no_row():
    runs = variations(["seed=0"])
    assert joint_table(runs, {runs[0].name: read(pd.DataFrame())}).empty


def shown(dice, **more):
    how = {"simulated": False, "folds": 2, "settings": 1, "left": [], "methods_left": []} | more
    page = sweep_page("Sweep", dice, [], **how)
    head, body = page.partition("</tbody>")[0].split("<tbody>")
    cells = [
        re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", t) for t in re.findall("<tr>.*?</tr>", body)
    ]
    return page, re.findall(r"<th[^>]*>([^<]*)</th>", head), cells


def test_many_methods_of_few_settings_have_a_row_each():
    runs = variations([], folds=2)
    methods = [f"method-{k}" for k in range(5)]

    def table(count):
        of = {v.name: read(rows([f"p{v.fold}"], methods=methods[:count])) for v in runs}
        return dice_table(joint_table(runs, of), [])

    dice = table(5)
    page, head, cells = shown(dice, others=["fold-7"])
    assert head == ["folds", "2", "patients", "2"]
    assert cells == [[m, dice[m][0]] for m in methods]
    assert "Each column is of 2 folds" in page
    assert "not asked for by this sweep: fold-7." in page
    page, head, cells = shown(table(4))
    assert head == ["folds", "patients", *methods[:4]]
    assert len(cells) == 1
    assert "Each row is of 2 folds" in page
    assert "not asked for" not in page
