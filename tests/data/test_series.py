"""Neighbours among images and slices."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakseg.data.cases import Case
from weakseg.data.series import come_in_series, neighbours, series, with_company


def images(*names, patient="", folder="/data"):
    return [Case(n, Path(folder) / n, "", patient=patient) for n in names]


def test_images_follow_each_other_by_the_last_number_of_their_name():
    cases = images("p1_9.png", "p1_10.png", "p2_11.png", "p1_011.png", "p1_13.png", "p1_8.jpg")
    assert neighbours(cases) == [(1,), (0, 3), (), (1,), (), ()]
    assert series(cases) == [[0, 1, 3], [2], [4], [5]]


def test_what_stands_behind_the_number_counts():
    cases = images("007_flair.png", "008_flair.png", "008_t1.png", "overview.png")
    assert neighbours(cases) == [(1,), (0,), (), ()]


def test_other_patients_and_other_folders_are_no_neighbours():
    cases = [*images("x1.png", patient="A"), *images("x2.png", patient="B")]
    cases += images("x3.png", patient="B", folder="/elsewhere")
    assert neighbours(cases) == [(), (), ()]


def test_where_two_files_claim_one_place_neither_has_neighbours():
    cases = images("x1.png", "x01.png", "x2.png", "x3.png")
    assert neighbours(cases) == [(), (), (3,), (2,)]


def test_slices_follow_each_other_in_their_volume_and_volumes_stand_alone():
    def of(z, name="v1.nii.gz"):
        return Case(f"{name}-{z}", Path(name), "", slice=z, volume=name)

    cases = [of(3), of(1), of(2), of(2, "v2.nii.gz"), of(5)]
    assert neighbours(cases) == [(2,), (2,), (1, 0), (), ()]
    assert series(cases) == [[1, 2, 0], [3], [4]]
    whole = [Case(n, Path(n), "", patient="A") for n in ("v1.nii.gz", "v2.nii.gz")]
    assert neighbours(whole) == [(), ()]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([("A", "a1"), ("A", "a2"), ("B", "b1"), ("B", "b2")], True),
        ([("A", "x1"), ("A", "x2"), ("B", "x4"), ("B", "x5")], True),
        ([("A", "x1"), ("A", "x2"), ("B", "x3"), ("B", "x4")], False),  # they run on
        ([("A", "a1"), ("A", "a3"), ("B", "b1"), ("B", "b2")], False),  # half have none
        ([("A", "x1"), ("B", "x2"), ("C", "x3"), ("D", "x4")], False),
    ],
)
def test_a_set_comes_in_series_where_names_alone_tell_them(names, told):
    cases = [Case(n, Path(f"{n}.png"), "", patient=p) for p, n in names]
    assert come_in_series(cases) == told


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 12)), max_size=20))
def test_neighbours_are_mutual_and_series_hold_every_case_once(names):
    cases = images(*(f"{a}{n}.png" for a, n in names))
    beside = neighbours(cases)
    assert all(i in beside[j] for i, of in enumerate(beside) for j in of)
    chains = series(cases)
    assert sorted(i for chain in chains for i in chain) == list(range(len(cases)))
    for chain in chains:
        assert all(b in beside[a] for a, b in zip(chain, chain[1:], strict=False))


@given(
    st.lists(st.tuples(st.sampled_from(["a", "a0", "b"]), st.integers(0, 6)), max_size=20),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_some_cases_in_company_have_the_neighbours_that_they_have_among_all(names, first, last):
    cases = images(*dict.fromkeys(f"{a}{n}.png" for a, n in names))
    own = cases[first:last]
    company = with_company(cases, own)

    def beside(some):
        return {
            c.id: [some[j].id for j in of] for c, of in zip(some, neighbours(some), strict=True)
        }

    among_all, here = beside(cases), beside(company)
    assert {c.id: here[c.id] for c in own} == {c.id: among_all[c.id] for c in own}
    assert company == [c for c in cases if c in company]
    assert with_company(cases, cases) == cases
