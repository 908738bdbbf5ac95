"""Which parts of a path tell who a patient is."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset

from tests import dicom_files
from tests.data.helpers import save_volume
from weakseg.data.case_files import case_truth, read_whole
from weakseg.data.cases import Case
from weakseg.data.formats.dicom.identity import identifiers, tells
from weakseg.data.slices import volume_frame
from weakseg.errors import DataError


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


def test_a_mask_of_another_grid_is_refused_without_whose_it_is(tmp_path):
    from weakseg.config import DataConfig

    folder = tmp_path / dicom_files.NAME
    dicom_files.save_series(folder / "ct", dicom_files.slices(dicom_files.voxels(3, 8, 8)))
    mask = save_volume(folder / "mask.nii.gz", np.ones((8, 8, 4), np.uint8))
    case = Case("a", folder / "ct", "tumor", mask=mask)
    with pytest.raises(DataError, match="another grid than its image") as of_mask:
        case_truth(case, DataConfig(), volume_frame(case.image))
    with pytest.raises(DataError, match="lie on different grids") as of_roi:
        read_whole(Case("a", folder / "ct", "tumor", roi=mask))
    with pytest.raises(DataError, match="another grid than its image") as of_slice:
        case_truth(Case("a", folder / "ct", "tumor", mask=mask, slice=1), DataConfig())
    for told in (of_mask, of_roi, of_slice):
        assert str(tmp_path / "(withheld)" / "mask.nii.gz") in told.value.where
        assert not any(word in str(told.value) for word in dicom_files.TELLING)


@pytest.mark.parametrize("rule", ["nonzero", "half"])
def test_a_mask_that_cannot_be_read_is_refused_without_whose_it_is(tmp_path, rule):
    from weakseg.config import DataConfig

    folder, data = tmp_path / dicom_files.NAME, DataConfig(mask_rule=rule)
    dicom_files.save_series(folder / "ct", dicom_files.slices(dicom_files.voxels(3, 8, 8)))
    mask = save_volume(folder / "mask.nii.gz", np.full((8, 8, 3), 7, np.float32))
    if rule == "nonzero":
        mask.write_bytes(mask.read_bytes()[:40])
    case = Case("a", folder / "ct", "tumor", mask=mask)
    tells = []
    for of in (case, Case("a", folder / "ct", "tumor", mask=mask, slice=1)):
        with pytest.raises(DataError) as told:
            case_truth(of, data)
        tells.append(told)
    if rule == "nonzero":
        for of in ({"roi": mask}, {"more": (mask,)}):
            with pytest.raises(DataError) as told:
                read_whole(Case("a", folder / "ct", "tumor", **of))
            tells.append(told)
    for told in tells:
        assert str(tmp_path / "(withheld)" / "mask.nii.gz") in str(told.value)
        assert not any(word in str(told.value) for word in dicom_files.TELLING)


def test_two_masks_of_one_image_are_refused_without_whose_they_are(tmp_path):
    from weakseg.config import DataConfig

    folder = tmp_path / dicom_files.NAME
    dicom_files.save_series(folder / "ct", dicom_files.slices(dicom_files.voxels(3, 8, 8)))
    masks = tuple(save_volume(folder / f"{n}.nii.gz", np.ones((8, 8, n), np.uint8)) for n in (3, 4))
    case = Case("a", folder / "ct", "tumor", mask=masks)
    with pytest.raises(DataError, match="different sizes") as told:
        case_truth(case, DataConfig())
    assert not any(word in str(told.value) for word in dicom_files.TELLING)
