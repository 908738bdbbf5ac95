"""Patients whose names differ only in writing: one person, or two, but never unasked."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.helpers import good_rows, write_rows
from tests.tiny import weakseg
from weakseg.config import DataConfig, SplitConfig
from weakseg.data.check import check_manifest
from weakseg.data.fingerprint import data_fingerprint
from weakseg.data.manifest import read_manifest
from weakseg.data.people import one_name_each, person_key, similar_names
from weakseg.data.splits import make_splits
from weakseg.errors import DataError

SAME, DIFFERENT = (DataConfig(similar_patients=a) for a in ("same", "different"))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("007", "7"),
        ("7.0", "7"),
        ("7,00", "007"),
        ("Pat-1", "pat_1"),
        ("P 1", "P1"),
        ("P1", "p01"),
        ("P\u00a01 ", "P1"),
        ("M\u00fcller", "Mu\u0308ller"),
        ("STRASSE", "straße"),
        ("\uff11\uff12", "12"),
        ("site1/scan02", "site1_scan2"),
        ("#12", "12"),
        ("de Vries", "DeVries"),
        ("P–3", "P-3"),
        ("0", "000"),
        ("0.0", "0"),
    ],
)
def test_one_person_in_two_writings(a, b):
    assert person_key(a) == person_key(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("1-11", "11-1"),
        ("1-1", "11"),
        ("P1", "P10"),
        ("7", "70"),
        ("7.5", "7"),
        ("7.0", "70"),
        ("A1", "B1"),
        ("TCGA_HT_7860", "TCGA_HT_7861"),
        ("***", "###"),
        ("Müller", "Muller"),
    ],
)
def test_two_people(a, b):
    assert person_key(a) != person_key(b)


WORDS = st.lists(
    st.one_of(st.integers(0, 9999).map(str), st.text("abcxyzäé", min_size=1, max_size=5)),
    min_size=1,
    max_size=4,
)


@given(
    WORDS,
    st.sampled_from(["-", "_", " ", ".", "/"]),
    st.sampled_from(["-", "_", " ", "\u00a0"]),
    st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]),
    st.integers(0, 3),
)
def test_case_signs_accents_and_zeros_do_not_count(words, one, other, form, zeros):
    written = [("0" * zeros + w if w.isdecimal() else w) for w in words]
    again = unicodedata.normalize(form, other.join(written).upper())
    decimal = len(words) == 2 and one == "." and words[1].strip("0") == "" and words[0].isdecimal()
    if not decimal:  # 7.0 is the number 7, not two numbers
        assert person_key(one.join(words)) == person_key(again)


@given(st.lists(st.integers(0, 999), min_size=1, max_size=4), st.lists(st.integers(0, 999)))
def test_other_numbers_are_other_people(a, b):
    assert (person_key("P" + "-".join(map(str, a))) == person_key("P" + "-".join(map(str, b)))) == (
        a == b
    )


@given(st.lists(st.text(max_size=6)))
def test_one_name_each_is_one_of_the_names_and_stays_with_its_key(names):
    out = one_name_each(names)
    for name, chosen in zip(names, out, strict=True):
        assert chosen in names
        assert person_key(chosen) == person_key(name)
    assert similar_names(n for n in out if n) == []
    assert one_name_each(out) == out


def test_the_most_frequent_writing_is_kept():
    assert one_name_each(["7", "007", "007", "8", ""]) == ["007", "007", "007", "8", ""]
    assert one_name_each(["b", "B"]) == ["B", "B"]


def spelt(folder, **splits):
    """A good set whose second patient is written p1, P-1."""
    rows = good_rows(folder)
    rows[3][3], rows[4][3] = "P-1", "p1"
    return write_rows(folder, rows)


def test_the_pairs_are_listed_until_it_is_said_who_is_who(tmp_path):
    path = spelt(tmp_path)
    (problem,) = check_manifest(path, DataConfig())
    assert (problem.kind, problem.severity) == ("patient-similar", "error")
    assert "'P-1' (row 4) and 'p1' (row 5)" in problem.message
    assert "data.similar_patients: same" in problem.fix
    assert check_manifest(path, SAME) == []
    assert check_manifest(path, DIFFERENT) == []
    with pytest.raises(DataError, match="P-1"):
        read_manifest(path, DataConfig())


def test_every_pair_and_every_row_count(tmp_path):
    rows = good_rows(tmp_path)
    for k, name in enumerate(["1", "01", "001", "2", "2.0", "2.0", "3", "4"], 1):
        rows[k][3] = name
    found = check_manifest(write_rows(tmp_path, rows), DataConfig())
    assert [p.message.partition(" differ")[0] for p in found] == [
        "patients '001' (row 4) and '01' (row 3) and '1' (row 2)",
        "patients '2' (row 5) and '2.0' (2 rows, the first is row 6)",
    ]


def test_one_person_goes_into_one_split(tmp_path):
    rows = good_rows(tmp_path)
    for row, name in zip(rows[1:], ["001", "1", "002", "2", "003", "3", "004", "4"], strict=True):
        row[3] = name
    path = write_rows(tmp_path, rows)
    found = read_manifest(path, SAME)
    assert [c.patient for c in found.cases] == [
        n for n in ("001", "002", "003", "004") for _ in range(2)
    ]
    sides: dict[str, set] = {}
    for c in make_splits(found.cases, found.labels, SplitConfig()):
        sides.setdefault(c.patient, set()).add(c.split)
    assert all(len(s) == 1 for s in sides.values())
    assert len({c.patient for c in read_manifest(path, DIFFERENT).cases}) == 8


def test_given_splits_that_part_one_person_are_refused(tmp_path):
    rows = good_rows(tmp_path)
    rows[0].append("split")
    for row, split in zip(rows[1:], ["train"] * 2 + ["val"] * 2 + ["test"] * 4, strict=True):
        row.append(split)
    rows[1][3], rows[2][3], rows[3][3], rows[4][3] = "007", "007", "7", "7"
    path = write_rows(tmp_path, rows)
    assert {p.kind for p in check_manifest(path, DataConfig())} == {"patient-similar"}
    (problem,) = check_manifest(path, SAME)
    assert problem.kind == "patient-in-two-splits"
    assert "'007' is in train (row 2), val (row 4)" in problem.message
    assert check_manifest(path, DIFFERENT) == []


@pytest.mark.parametrize("name", ["nan", "NaN", "N/A", "None", "null", "-", "?-"])
def test_a_patient_that_is_no_name(tmp_path, name):
    rows = good_rows(tmp_path)
    rows[3][3] = rows[5][3] = name
    found = check_manifest(write_rows(tmp_path, rows), DataConfig())
    if name == "?-":
        assert found == []
    else:
        assert [p.row for p in found] == [4, 6]
        assert {p.kind for p in found} == {"patient-no-value"}


def test_the_answer_counts_in_the_fingerprint_and_silence_does_not(tmp_path):
    path = write_rows(tmp_path, good_rows(tmp_path))
    assert data_fingerprint(path, SAME) != data_fingerprint(path, DataConfig())
    assert DataConfig().fingerprint_settings() != SAME.fingerprint_settings()


def test_the_command_takes_the_answer(tmp_path, capsys):
    path = spelt(tmp_path)
    assert weakseg("validate", path) == 2
    assert "patient-similar: 1 error" in capsys.readouterr().out
    assert weakseg("validate", path, "--set", "data.similar_patients=same") == 0
    assert weakseg("validate", path, "--set", "data.similar_patients=perhaps") == 2
    assert "'ask', 'same' or 'different'" in capsys.readouterr().err
