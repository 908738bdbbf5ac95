"""Every patient is tested once over the folds, on one side in each; a column may say who is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.helpers import write_rows
from tests.data.test_splits import TWO, cases_of, sides
from tests.tiny import write_manifest, write_set
from weakseg.config import DataConfig, LeftOut, SplitConfig, parse_config
from weakseg.data import dealing
from weakseg.data.check import Findings, check_manifest, look_into
from weakseg.data.check_splits import lesion_patients, way_of_testing
from weakseg.data.manifest import read_configured, read_manifest
from weakseg.data.splits import make_splits
from weakseg.errors import ConfigError, DataError


def folds_of(cases, labels=TWO, folds=5, **settings):
    """The cases dealt out for every fold."""
    made = [SplitConfig(folds=folds, fold=i, **settings) for i in range(folds)]
    return [make_splits(cases, labels, s) for s in made]


patients = st.lists(
    st.fixed_dictionaries({"normal": st.integers(1, 6), "tumor": st.integers(0, 6)}),
    min_size=16,
    max_size=40,
).filter(lambda ps: sum(p["tumor"] > 0 for p in ps) >= 8)


@settings(max_examples=7)
@mock.patch.object(dealing, "CANDIDATES", 10)
@given(patients, st.integers(2, 5), st.integers(0, 9), st.floats(0.1, 0.3))
def test_every_patient_is_tested_once_and_none_is_on_two_sides(patients, folds, seed, val):
    cases = cases_of(*patients)
    dealt = folds_of(cases, folds=folds, seed=seed, val=val)
    tested = Counter(p for fold in dealt for p in {c.patient for c in fold if c.split == "test"})
    assert tested == dict.fromkeys({c.patient for c in cases}, 1)
    for fold in dealt:
        assert [replace(c, split=None) for c in fold] == cases
        places = {(c.patient, c.split) for c in fold}
        assert len(places) == len({c.patient for c in cases})
        for name in ("train", "val", "test"):
            assert {c.label for c in fold if c.split == name} == {"normal", "tumor"}
        rest = [c.split for c in fold if c.split != "test"]
        # As near as a patient of 12 images and the need of every class allow.
        assert abs(rest.count("val") / len(rest) - val) < 0.2
    shuffled = [cases[i] for i in np.random.default_rng(seed).permutation(len(cases))]
    assert sides(folds_of(shuffled, folds=folds, seed=seed, val=val)[1]) == sides(dealt[1])


def test_folds_are_of_one_size_and_stratified():
    cases = cases_of(*([{"normal": 10}] * 20 + [{"tumor": 10}] * 10))
    for fold in folds_of(cases):
        for name, share in (("test", 1 / 5), ("val", 0.15 * 4 / 5)):
            part = [c.label for c in fold if c.split == name]
            assert abs(len(part) / len(cases) - share) < 0.07
            assert abs(part.count("tumor") / len(part) - 1 / 3) < 0.12


@pytest.mark.parametrize(("folds", "enough"), [(2, 4), (3, 3), (5, 5)])
@pytest.mark.parametrize("seed", range(3))
def test_the_fewest_patients_of_a_class(folds, enough, seed):
    plenty = [{"normal": 2}] * 20
    dealt = folds_of(cases_of(*plenty, *[{"tumor": 3}] * enough), folds=folds, seed=seed)
    for fold in dealt:
        for name in ("train", "val", "test"):
            assert {c.label for c in fold if c.split == name} == {"normal", "tumor"}
    few = cases_of(*plenty, *[{"tumor": 3}] * (enough - 1))
    with pytest.raises(DataError, match=f"'tumor' has too few patients for {folds} folds") as e:
        make_splits(few, TWO, SplitConfig(folds=folds))
    assert (e.value.found, e.value.expected) == (f"{enough - 1} patients", f"at least {enough}")
    assert "fewer data.split.folds" in str(e.value.fix)


def test_without_folds_the_deal_and_its_fingerprint_are_what_they_were():
    cases = cases_of(*[{"normal": 2, "tumor": 1}] * 20)
    assert sides(make_splits(cases, TWO, SplitConfig())) == sides(
        make_splits([replace(c, group="x") for c in cases], TWO, SplitConfig())
    )
    plain = DataConfig().fingerprint_settings()
    assert plain["split"] == {"val": 0.15, "test": 0.15, "seed": 0}
    keys = [DataConfig(split=SplitConfig(folds=3, fold=i)).fingerprint_settings() for i in range(3)]
    assert plain not in keys
    assert len({str(k) for k in keys}) == 3


def by_site(*sites):
    """Cases of two patients a letter, with both labels each."""
    cases = cases_of(*[{"normal": 1, "tumor": 1}] * (2 * len(sites)))
    return [replace(c, group=sites[int(c.patient[1:]) // 2]) for c in cases]


def test_a_site_is_left_out_whole_and_validation_is_of_the_others():
    cases = by_site("A", "B", "C", "A")
    config = SplitConfig(leave_out=LeftOut(column="site", value="B"), val=0.3)
    dealt = make_splits(cases, TWO, config)
    assert {c.group for c in dealt if c.split == "test"} == {"B"}
    assert {c.group for c in dealt if c.split != "test"} == {"A", "C"}
    assert Counter(c.split for c in dealt) == {"train": 8, "val": 4, "test": 4}


@pytest.mark.parametrize(
    ("change", "says", "found"),
    [
        (lambda c: replace(c, group="A"), "No row has 'B' in the column 'site'", "'A'"),
        (
            lambda c: replace(c, patient="p000") if c.group == "B" else c,
            "'p000' has several values",
            "'A' (row 2), 'B' (row 6)",
        ),
        (
            lambda c: replace(c, group="A") if c.label == "tumor" else c,
            "several values",
            None,
        ),
        (
            lambda c: replace(c, group=" ") if c.patient == "p000" else c,
            "2 of 16 images have no value in the column 'site'",
            "a blank cell in row 2",
        ),
    ],
)
def test_columns_that_do_not_tell_who_is_left_out(change, says, found):
    config = SplitConfig(leave_out=LeftOut(column="site", value="B"))
    with pytest.raises(DataError, match=says) as e:
        make_splits([change(c) for c in by_site("A", "B", "C", "D")], TWO, config)
    assert found is None or e.value.found == found


@pytest.mark.parametrize(
    ("sites", "of", "says"), [("AB", "normal", "tested"), ("BA", "tumor", "left for training")]
)
def test_a_site_without_a_class_is_refused(sites, of, says):
    cases = [
        *cases_of(*[{"normal": 1, "tumor": 1}] * 3),
        *[replace(c, patient=f"q{c.patient}") for c in cases_of(*[{of: 1}] * 3)],
    ]
    cases = [replace(c, group=sites[c.patient.startswith("q")]) for c in cases]
    with pytest.raises(DataError, match=f"Too few patients with '[a-z]+' are {says}"):
        make_splits(cases, TWO, SplitConfig(leave_out=LeftOut(column="site", value="B")))


def test_the_column_is_read_from_the_manifest(tmp_path):
    rows = [r.split(",") for r in write_set(tmp_path, patients=9).read_text().splitlines()[1:]]
    header = ("image", "label", "mask", "patient", "Site")
    path = write_manifest(
        tmp_path / "sites.csv", [(*r, "ABC"[int(r[3][1:]) // 3]) for r in rows], header
    )
    data = DataConfig(split=SplitConfig(leave_out=LeftOut(column="site", value="C")))
    dealt = read_manifest(path, data)
    test = [c for c in make_splits(dealt.cases, dealt.labels, data.split) if c.split == "test"]
    assert {c.patient for c in test} == {"P06", "P07", "P08"}
    assert not check_manifest(path, data)
    wrong = DataConfig(split=SplitConfig(leave_out=LeftOut(column="sites", value="C")))
    with pytest.raises(DataError, match="no column 'sites'") as e:
        read_manifest(path, wrong)
    assert "'Site'" in str(e.value.fix)
    away = DataConfig(split=SplitConfig(leave_out=LeftOut(column="site", value="D")))
    assert [p.kind for p in check_manifest(path, away)] == ["split-impossible"]


def test_a_split_column_and_folds_are_two_answers(tmp_path):
    cases = [replace(c, split="train") for c in cases_of(*[{"normal": 1, "tumor": 1}] * 6)]
    with pytest.raises(DataError, match=r"data\.split\.folds says who is tested, too"):
        make_splits(cases, TWO, SplitConfig(folds=3))
    lines = write_set(tmp_path, patients=6).read_text().splitlines()
    split = ["split", *("train", "val", "test")[:1] * 9, *["val"] * 3, *["test"] * 6]
    path = tmp_path / "given.csv"
    path.write_text("\n".join(f"{a},{b}" for a, b in zip(lines, split, strict=True)) + "\n")
    assert not check_manifest(path, DataConfig())
    folds = DataConfig(split=SplitConfig(folds=3))
    assert "split-twice" in [p.kind for p in check_manifest(path, folds)]


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ({"fold": 1}, "set folds as well"),
        ({"folds": 3, "fold": 3}, "from 0 to 2"),
        ({"folds": 1}, "folds"),
        ({"folds": 3, "leave_out": {"column": "site", "value": "A"}}, "set one of the two"),
        ({"leave_out": {"column": "site", "value": " "}}, "must not be blank"),
    ],
)
def test_settings_that_contradict_each_other(split, says):
    with pytest.raises(ConfigError, match=says):
        parse_config({"data": {"split": split}})


SHARE, COLUMN = "raise data.split.test, or test every", "put more patients into test, or rename"
OUT = "leave data.split.leave_out out and test every"


@pytest.mark.parametrize(
    ("patients", "split", "column", "tested", "advice"),
    [
        (12, {}, None, 2, SHARE),
        (12, {"folds": 5}, None, 12, None),
        (4, {"folds": 2}, None, 4, "another; add patients"),
        (12, {}, "split", 2, COLUMN),
        (12, {"leave_out": {"column": "site", "value": "test"}}, "site", 2, OUT),
    ],
)
def test_advice_on_few_tested_patients_can_be_followed(
    tmp_path, patients, split, column, tested, advice
):
    rows = [["image", "label", "patient", *([column] if column else [])]]
    for k in range(patients):
        where = "test" if k < 2 else "val" if k < 5 else "train"
        for label in ("tumor", "normal"):
            rows.append([f"{label}{k}.png", label, f"p{k}", *([where] if column else [])])
    data = DataConfig(split=SplitConfig(**split))
    table = read_configured(write_rows(tmp_path, rows), data)
    n = lesion_patients(table, data, TWO, None)
    assert n == tested
    said = Findings([], lesion_patients=n, tested_by=way_of_testing(table, data)).few_tested
    assert (said is None) == (advice is None)
    if said and advice:
        assert advice in said
        assert ("data.split.test" in said) == (advice == SHARE)
        assert (", of all folds together," in said) == ("folds" in split)


def test_the_check_knows_who_says_who_is_tested(tmp_path):
    path = write_rows(tmp_path, [["image", "label", "split"], ["a.png", "tumor", "test"]])
    assert look_into(path, DataConfig()).tested_by == "column"
