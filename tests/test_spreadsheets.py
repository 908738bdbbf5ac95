"""Text in tables that people open in spreadsheets is never a formula, and comes back as it was."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.fake_run import make_run
from weakseg.data.cases import Case, Labels
from weakseg.data.splits import read_splits, write_splits
from weakseg.layout import PREDICTIONS
from weakseg.methods.classifiers import predictions_table, read_predictions
from weakseg.report.read import read_runs
from weakseg.runs import write_text
from weakseg.spreadsheets import as_written, csv_text, plain_cell, safe_cell
from weakseg.stages.report import make_report

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "=cmd|' /C calc'!A0", "＝1", "-", "--"]
HARMLESS = ["tumor", "1", "", "a=b", "'", "'x", "''", "a-1", "p_@", "(-1)"]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_get_an_apostrophe(text):
    assert safe_cell(text) == "'" + text
    assert plain_cell(safe_cell(text)) == text
    assert safe_cell("'" + text) == "''" + text


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_stays(text):
    assert safe_cell(text) == text
    assert plain_cell(text) == text


TEXTS = st.one_of(st.text(), st.text("'=+-@\t\r\n,\"x1", max_size=5))


@given(TEXTS)
def test_every_text_comes_back(text):
    assert plain_cell(safe_cell(text)) == text
    assert not safe_cell(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


LINES = TEXTS.filter(lambda t: "\0" not in t)


@given(st.lists(st.tuples(LINES, st.floats(-9, 9)), min_size=1, max_size=4))
def test_tables_come_back_through_a_file(rows):
    table = pd.DataFrame(rows, columns=["label", "dice"])
    text = csv_text(table)
    again = as_written(
        pd.read_csv(io.StringIO(text, newline=""), dtype={"label": str}, keep_default_na=False)
    )
    assert again["label"].tolist() == table["label"].tolist()
    np.testing.assert_allclose(again["dice"].astype(float), table["dice"])


@given(st.lists(st.tuples(LINES, LINES), min_size=1, max_size=3))
def test_splits_come_back_through_a_file(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("splits") / "splits.csv"
    cases = [
        Case(f"c{k}", Path(f"/i/{k}.png"), label, None, patient, "train", k)
        for k, (label, patient) in enumerate(names, 2)
    ]
    write_splits(path, cases)
    assert read_splits(path) == cases


def test_numbers_stay_numbers_and_tables_without_formulas_are_as_pandas_writes_them():
    table = pd.DataFrame(
        {
            "case": ["a", "b"],
            "x": [-1.5, np.nan],
            "n": [-2, 3],
            "seed": [None, 1],
            "ok": [True, False],
        }
    )
    assert csv_text(table, float_format="%.6g") == table.to_csv(index=False, float_format="%.6g")
    assert as_written(table) is table
    mixed = pd.DataFrame({"v": ["=1", -1, None, -0.5]}, dtype=object)
    assert csv_text(mixed) == 'v\n\'=1\n-1\n""\n-0.5\n'


def test_empty_tables():
    assert csv_text(pd.DataFrame()) == pd.DataFrame().to_csv(index=False)
    assert as_written(pd.DataFrame(columns=["a"])).empty


def test_predictions_of_hostile_labels_come_back(tmp_path):
    labels = Labels(("-1",), ("=1+1",))
    cases = [Case("a", Path("/a.png"), "-1", None, "@p", "test"),
             Case("b", Path("/b.png"), "=1+1", None, "'+q", "test")]  # fmt: skip
    table = predictions_table(cases, labels, np.array([[0.9, 0.1], [0.2, 0.8]]))
    write_text(tmp_path / PREDICTIONS, csv_text(table))
    text = (tmp_path / PREDICTIONS).read_text()
    assert not any(
        c.startswith(("=", "@", "+")) for line in text.splitlines() for c in line.split(",")
    )
    found = read_predictions(tmp_path)
    for column in ("label", "predicted", "patient"):
        assert found[column].tolist() == table[column].tolist()


def test_probabilities_come_back_to_the_last_of_their_32_bits(tmp_path):
    sure = np.float32([1e-9, 3.1e-8, 0.123456789, 0.97421509, 1 - 6e-8, 1 - 1.2e-7])
    p = np.stack([1 - sure, sure], axis=1)
    labels = Labels(("normal",), ("tumor",))
    cases = [Case(f"c{k}", Path("/c.png"), "tumor", None, f"p{k}", "test") for k in range(6)]
    write_text(tmp_path / PREDICTIONS, csv_text(predictions_table(cases, labels, p)))
    found = read_predictions(tmp_path)
    for column in ("lesion_probability", "p(tumor)"):
        np.testing.assert_array_equal(found[column].to_numpy().astype(np.float32), sure)
    np.testing.assert_array_equal(found["p(normal)"].to_numpy().astype(np.float32), p[:, 0])


def test_a_run_with_hostile_names_is_reported_and_its_tables_are_safe(tmp_path):
    run = make_run(
        tmp_path / "run",
        labels=("-healthy", "'=tumor"),
        patients=4,
        seeds=(0,),
        patient_prefix="@P",
    )
    assert "'@P00" in (run / "splits.csv").read_text()
    (read,) = read_runs([run])
    assert set(read.splits["label"]) == {"-healthy", "'=tumor"}
    assert (
        set(read.per_case["patient"])
        <= set(read.splits["patient"])
        == {f"@P{k:02d}" for k in range(4)}
    )
    headings = pd.DataFrame({"=a": [1], "b": [2]})
    assert csv_text(headings) == "'=a,b\n1,2\n"
    assert list(as_written(pd.read_csv(io.StringIO(csv_text(headings))))) == ["=a", "b"]
    make_report([run], tmp_path / "out", gallery=0)
    for path in (tmp_path / "out/tables").glob("*.csv"):
        cells = [c for line in path.read_text().splitlines() for c in line.split(",")]
        assert not any(c.startswith(("=", "@")) for c in cells), path.name
