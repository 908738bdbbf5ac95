"""Lesions of files that tell their spacing, and of files that do not, have no common median."""

from types import SimpleNamespace

import pandas as pd
import pytest

from weakseg.report.page import _template
from weakseg.report.sections.lesions import OF_METHODS, SPOKEN, TEMPLATE, build


def content(*lesions):
    columns = ("method", "case", "unit", "size", "diameter")
    table = pd.DataFrame(lesions, columns=columns).assign(seed=0, key_slice=None)
    return build(SimpleNamespace(run=SimpleNamespace(lesions=table), method="m", groups={}))


def test_units_stand_apart():
    made = content(
        ("m", "a", "mm", 9.0, 3.0), ("m", "a", "mm", 3.0, 1.0), ("m", "b", "pixels", 400.0, 30.0)
    )
    table = made.tables[OF_METHODS]
    assert table[["unit", "lesions", "files", "size"]].to_numpy().tolist() == [
        ["mm", 2, 1, 6.0],
        ["pixels", 1, 1, 400.0],
    ]
    assert made.tables[SPOKEN]["size"].tolist() == [9.0, 3.0, 400.0]
    assert made.context["units"] == ["mm", "pixels"]


def test_of_one_unit_the_largest_comes_first():
    made = content(("m", "a", "mm", 3.0, 1.0), ("m", "b", "mm", 9.0, 3.0))
    assert made.tables[SPOKEN]["size"].tolist() == [9.0, 3.0]
    assert made.context["units"] == ["mm"]


@pytest.mark.parametrize(
    ("unit", "head", "cells"),
    [
        ("pixels", "median size, pixels", "<td>400</td><td>300</td><td>500</td><td>25.5</td>"),
        ("mm", "median size, mm²", "<td>400.0</td><td>300.0</td><td>500.0</td><td>25.5</td>"),
    ],
)
def test_pixels_are_counted_in_whole_numbers(unit, head, cells):
    made = content(("m", "a", unit, 300.0, 21.0), ("m", "b", unit, 500.0, 30.0))
    told = {"spoken": str}
    html = _template(TEMPLATE).render({**made.context, "r": told})
    assert f"<th>{head}</th>" in html
    assert cells in html
