"""Which parts of a path tell who a patient is."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from weakseg.data.formats.dicom.identity import identifiers, tells


def header(name, **further):
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.PatientName = name
    for keyword, value in further.items():
        setattr(data, keyword, value)
    return identifiers(data)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("Doe^Jane", "doe_jane"),
        ("Doe^Jane", "CT Jane 3"),
        ("Mustermann^Erika", "scan-mustermann2"),
        ("Lee^Kim", "Lee_Kim"),
        ("Lee^Kim", "2019 kim-lee"),
        ("Li^Na", "Li_Na_2019"),
        ("Li^Na", "NaLi"),
        ("Ng^An^Bo", "bo.ng"),
        ("M\u00fcller^Ute", "Mu\u0308ller"),
        ("Yamada^Tarou=\u5c71\u7530^\u592a\u90ce", "\u5c71\u7530\u592a\u90ce"),
        ("Yamada^Tarou=\u5c71\u7530^\u592a\u90ce", "\u5c71\u7530_CT"),
        ("\u738b^\u5c0f\u660e", "\u738b\u5c0f\u660e"),
    ],
)
def test_names_are_found_in_paths(name, part):
    assert tells(part, header(name))


@pytest.mark.parametrize("part", ["series_1", "lino", "an", "malina", "linalool", "CT"])
def test_other_words_are_not_taken_for_a_short_name(part):
    assert not tells(part, header("Li^Na"))


def test_of_a_patient_without_identity_no_name_is_looked_for():
    assert not tells("Lee_Kim", header("Lee^Kim", PatientIdentityRemoved="YES"))
