"""What a DICOM image looks like: windows and LUTs against pydicom's, and cases by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi_lut, apply_windowing
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from tests.dicom_files import CR, US, header, save, voxels, with_pixels
from weakseg.data.formats.dicom import codecs
from weakseg.data.formats.dicom.display import shown_samples
from weakseg.data.images import read_image
from weakseg.errors import DataError

RAMP = np.linspace(0, 4095, 48 * 40).astype(np.uint16).reshape(48, 40)


def radiograph(values=RAMP, photometric="MONOCHROME2", **elements) -> Dataset:
    data = with_pixels(header(CR), values, photometric)
    data.BitsStored, data.HighBit = 12, 11
    for name, value in elements.items():
        setattr(data, name, value)
    return data


def lut(values, first: int, bits: int) -> Items:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(values), first, bits], list(values)
    return Items([item])


@given(
    st.integers(-500, 4500),
    st.integers(2, 5000),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_windows_equal_those_of_pydicom(centre, width, function):
    data = radiograph(WindowCenter=centre, WindowWidth=width, VOILUTFunction=function)
    expected = apply_windowing(RAMP, data) / 4095
    shown = shown_samples(data, RAMP, "")
    assert shown.dtype == np.uint16
    np.testing.assert_allclose(shown / 65535, expected, atol=1 / 65535)


def test_a_window_is_of_rescaled_values_and_the_first_of_several():
    stored = np.array([[0, 1000, 1040, 1080, 2000]], np.uint16)
    data = radiograph(
        stored, RescaleSlope=1, RescaleIntercept=-1000, WindowCenter=[40.5, 9], WindowWidth=[81, 2]
    )
    np.testing.assert_array_equal(
        shown_samples(data, stored, ""), np.rint([[0, 0, 65535 / 2, 65535, 65535]])
    )


def test_a_voi_lut_goes_before_a_window_as_pydicom_has_it():
    table = (np.arange(4096) ** 2 // 4096).astype(np.uint16)
    data = radiograph(VOILUTSequence=lut(table, 0, 12), WindowCenter=9, WindowWidth=5)
    expected = apply_voi_lut(RAMP, data) / 4095
    np.testing.assert_allclose(shown_samples(data, RAMP, "") / 65535, expected, atol=1 / 65535)


def test_a_modality_lut_goes_before_all():
    table = np.arange(4096)[::-1].astype(np.uint16)
    data = radiograph(ModalityLUTSequence=lut(table, 0, 16))
    np.testing.assert_array_equal(shown_samples(data, RAMP, ""), 4095 - RAMP)


def test_monochrome1_is_turned_round_with_and_without_a_window():
    for more in ({"WindowCenter": 2000, "WindowWidth": 3000}, {}):
        plain = shown_samples(radiograph(**more), RAMP, "")
        turned = shown_samples(radiograph(photometric="MONOCHROME1", **more), RAMP, "")
        top = 65535 if more else 4095
        np.testing.assert_array_equal(turned, np.float32(top) - plain)
    assert shown_samples(radiograph(), RAMP, "").dtype == np.uint16  # as stored


def test_a_window_may_be_asked_for_and_none(tmp_path):
    data = radiograph(WindowCenter=2000, WindowWidth=3000)
    np.testing.assert_array_equal(shown_samples(data, RAMP, "", "none"), RAMP)
    given_ends = shown_samples(data, RAMP, "", (100.0, 300.0))
    np.testing.assert_allclose(
        given_ends / 65535, np.clip((RAMP - 100.0) / 200, 0, 1), atol=1 / 65535
    )


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless], ids=lambda u: u.name
)
def test_syntaxes_change_nothing(tmp_path, syntax):
    values = voxels(1)[0]
    data = with_pixels(header(), values)
    if syntax == RLELossless:
        save(tmp_path / "plain.dcm", data)
        data.compress(RLELossless)
    elif syntax == ExplicitVRBigEndian:
        data.PixelData = values.astype(">i2").tobytes()
    path = save(tmp_path / "a.dcm", data, syntax=syntax)
    np.testing.assert_array_equal(read_image(path), values.astype(np.float32))


def test_a_file_without_preamble_and_meta_information_is_read(tmp_path):
    data = with_pixels(header(US), np.full((4, 6, 3), (250, 3, 40), np.uint8))
    path = save(tmp_path / "a.dcm", data, syntax=ImplicitVRLittleEndian)
    whole = path.read_bytes()
    at = whole.index(b"\x08\0\x08\0", 132)  # the first element behind the meta information
    path.write_bytes(whole[at:])
    np.testing.assert_array_equal(read_image(path)[2, 2], (250, 3, 40))


def test_bits_above_those_stored_are_no_part_of_a_sample(tmp_path):
    values = (RAMP | 0xF000).astype(np.uint16)  # where old files keep overlays
    path = save(tmp_path / "a.dcm", radiograph(values))
    np.testing.assert_array_equal(read_image(path), RAMP)


@pytest.mark.parametrize("width", [0, -4, "1e999"])
def test_a_window_without_width_counts_as_none(tmp_path, width):
    path = save(tmp_path / "a.dcm", radiograph(WindowCenter=4, WindowWidth=width))
    np.testing.assert_array_equal(read_image(path), RAMP)


def test_words_for_a_window_are_refused_and_not_repeated(tmp_path):
    data = radiograph(WindowCenter=4, WindowWidth=5)
    data["WindowWidth"]._value = "Ottilie"
    with pytest.raises(DataError) as e:
        read_image(save(tmp_path / "a.dcm", data))
    assert "Ottilie" not in e.value.render()


def test_a_codec_that_lacks_is_named_with_its_command(tmp_path, monkeypatch):
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEG2000Lossless

    values = voxels(1, 80, 70)[0]
    data = with_pixels(header(), values)
    save(tmp_path / "plain.dcm", data)
    data.compress(JPEG2000Lossless)
    path = save(tmp_path / "a.dcm", data, syntax=JPEG2000Lossless)
    np.testing.assert_array_equal(read_image(path), values)
    monkeypatch.setattr(get_decoder(JPEG2000Lossless), "_available", {})
    with pytest.raises(DataError, match="JPEG 2000") as e:
        read_image(path)
    assert e.value.fix == codecs.INSTALL == "pip install 'weakseg[dicom]'"


def test_a_film_s_syntax_is_refused(tmp_path):
    data = with_pixels(header(US), np.zeros((4, 4), np.uint8))
    path = save(tmp_path / "a.dcm", data)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"))
    with pytest.raises(DataError, match="not decoded") as e:
        read_image(path)
    assert "Explicit VR Little Endian" in str(e.value.fix)


def test_bits_that_do_not_begin_at_the_lowest_are_refused(tmp_path):
    data = radiograph()
    data.HighBit = 15
    with pytest.raises(DataError, match="lowest bits"):
        read_image(save(tmp_path / "a.dcm", data))
