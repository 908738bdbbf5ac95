"""Rows are settings; folds of one are taken together, and every patient counts once."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from weakseg.errors import RunError
from weakseg.scores import summarise
from weakseg.scores.on_labels import OnLabels
from weakseg.sweeping.joint import (
    Read,
    dice_table,
    joint_table,
    labels_table,
    methods_without_row,
    said_of_labels,
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


def of_labels(*counts, method="best-weak"):
    return [Read(pd.DataFrame(), 200, 0, {method: OnLabels(*c)}) for c in counts]


def test_validation_labels_choose_among_the_settings_of_a_method():
    """Folds are added up: 0.7 less 0.1 of the first setting, 0.9 less 0.1 of the second."""
    runs = variations(["classifier.augment=auto,ultrasound-look"], folds=2)
    reads = of_labels((3, 5, 0, 5), (4, 5, 1, 5), (5, 5, 1, 5), (4, 5, 0, 5))
    table = labels_table(runs, {v.name: r for v, r in zip(runs, reads, strict=True)})
    assert table.to_dict("records") == [
        {"method": "best-weak", "classifier.augment": of, "found": found, "lesions": 10}
        | {"marked": 1, "healthy": 10, "youden": pytest.approx(youden), "chosen": chosen}
        for of, found, youden, chosen in [
            ("auto", 7, 0.6, False),
            ("ultrasound-look", 9, 0.8, True),
        ]
    ]
    told = said_of_labels(table, ["classifier.augment"])
    assert told == [
        "best-weak: classifier.augment=ultrasound-look (finds 9 of 10 lesions, marks 1 of 10 "
        "healthy images)"
    ]
    page, *_ = shown(pd.DataFrame(columns=["patients"]), labels=table, by_labels=told)
    assert "What validation labels say" in page
    assert f"Best by them: {told[0]}." in page
    assert "<td><strong>9 of 10</strong></td><td><strong>1 of 10</strong></td>" in page
    # A fold that is missing, or lacks the method: no row, and of one row nothing is chosen.
    some = {v.name: r for v, r in zip(runs[:3], reads[:3], strict=True)}
    assert labels_table(runs, some).empty
    some[runs[3].name] = of_labels((4, 5, 0, 5), method="another")[0]
    assert labels_table(runs, some).empty
    some[runs[3].name] = replace(reads[3], validated=frozenset({"other images"}))
    assert labels_table(runs, some).empty
    some[runs[1].name] = replace(reads[1], validated=frozenset({"other images"}))
    assert len(labels_table(runs, some)) == 2
    assert said_of_labels(labels_table(runs, {}), ["classifier.augment"]) == []


def test_of_equally_good_settings_the_first_is_chosen_and_each_method_has_its_own():
    runs = variations(["seed=0,1"])
    both = [
        Read(pd.DataFrame(), 200, 0, {"a": OnLabels(4, 5, 0, 5), "b": OnLabels(k, 5, 0, 5)})
        for k in (3, 4)
    ]
    table = labels_table(runs, {v.name: r for v, r in zip(runs, both, strict=True)})
    assert list(zip(table["method"], table["seed"], table["chosen"], strict=True)) == [
        ("a", "0", True),
        ("b", "0", False),
        ("a", "1", False),
        ("b", "1", True),
    ]
    first, second = said_of_labels(table, ["seed"])
    assert first.endswith(
        "seed=0 (finds 4 of 5 lesions, marks 0 of 5 healthy images; as good: seed=1)"
    )
    assert second.endswith("seed=1 (finds 4 of 5 lesions, marks 0 of 5 healthy images)")
