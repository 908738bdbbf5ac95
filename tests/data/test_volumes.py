"""Volumes: nibabel reads and writes the same, and what is no volume is refused."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.data.helpers import present, save_volume
from weakseg.data.cases import Case, CaseSet, Labels
from weakseg.data.formats import base
from weakseg.data.formats.grids import grid_difference, grid_leeway
from weakseg.data.formats.reading import read_frame
from weakseg.data.formats.registry import VOLUMES
from weakseg.data.formats.writing import write_mask
from weakseg.data.volumes import (
    open_volume_mask,
    read_case,
    read_volume,
    read_volume_mask,
    write_volume,
)
from weakseg.data.zscore import zscore
from weakseg.errors import DataError

SHAPE = (9, 10, 11)
TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


def affine(directions: np.ndarray, spacing: tuple[float, ...], origin: tuple[float, ...]):
    whole = np.eye(4)
    whole[:3, :3] = directions * np.array(spacing)
    whole[:3, 3] = origin
    return whole


AFFINES = {
    "isotropic": affine(np.eye(3), (2, 2, 2), (-49.5, 197.5, 8.5)),
    "thick slices": affine(np.eye(3), (0.9, 0.9, 5.5), (3, 4, 5)),
    "LPS": affine(np.diag([-1, -1, 1]), (1, 1.5, 3), (90, 100, -60)),
    "oblique": affine(TURN, (0.7, 0.7, 3), (-12.25, 7, 40)),
    "axes in another order": affine(np.eye(3)[[2, 0, 1]], (1, 2, 3), (1, 2, 3)),
}


def numbers(seed: int = 0, kind: type = np.float32) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=SHAPE) * 40 + 60).astype(kind)


def image(values: np.ndarray, where: np.ndarray | None, form: str, kind: type = nib.Nifti1Image):
    """A file whose place is in its sform, its qform, in both, or nowhere."""
    made = kind(values, None)
    if form != "none":
        made.header.set_zooms((*nib.affines.voxel_sizes(where), *[1] * (values.ndim - 3)))
    made.set_sform(where if "s" in form else None, 1 if "s" in form else 0)
    made.set_qform(where if "q" in form else None, 2 if "q" in form else 0)
    return made


FORMS = ("s", "q", "sq")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", AFFINES)
def test_place_and_values_are_as_nibabel_reads_them(tmp_path, name, form):
    path = tmp_path / "a.nii.gz"
    nib.save(image(numbers(), AFFINES[name], form), path)
    volume, theirs = read_volume(path), nib.load(path)
    np.testing.assert_array_equal(volume.values, theirs.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(volume.affine, theirs.affine, atol=1e-6)
    np.testing.assert_allclose(volume.affine, AFFINES[name], atol=1e-4)
    np.testing.assert_allclose(volume.spacing, nib.affines.voxel_sizes(AFFINES[name]), rtol=1e-5)
    assert volume.known_spacing
    assert volume.values.dtype == np.float32
    assert volume.frame.shape == SHAPE
    assert grid_difference(read_frame(path), volume.frame) is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", AFFINES)
def test_masks_and_maps_are_written_where_their_image_lies(tmp_path, name, form):
    source = image(numbers(kind=np.int16), AFFINES[name], form)
    source.header.set_slope_inter(0.002, 3)
    source.header.set_xyzt_units("mm", "sec")
    nib.save(source, tmp_path / "image.nii.gz")
    mask = np.random.default_rng(1).random(SHAPE) > 0.7
    values = np.random.default_rng(2).random(SHAPE, dtype=np.float32)
    write_mask(tmp_path / "out/mask.nii.gz", mask, tmp_path / "image.nii.gz")
    write_volume(tmp_path / "out/map.nii.gz", values, tmp_path / "image.nii.gz")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["map.nii.gz", "mask.nii.gz"]
    for file, kind, wanted in (("mask", np.uint8, mask), ("map", np.float32, values)):
        path = tmp_path / f"out/{file}.nii.gz"
        theirs, like = nib.load(path), nib.load(tmp_path / "image.nii.gz")
        assert theirs.get_data_dtype() == kind
        assert np.array_equal(np.asarray(theirs.dataobj), wanted)
        assert (theirs.dataobj.slope, theirs.dataobj.inter) == (1, 0)
        np.testing.assert_array_equal(theirs.affine, like.affine)
        for form_of in ("get_sform", "get_qform"):
            (a, code), (b, wanted_code) = (getattr(i, form_of)(coded=True) for i in (theirs, like))
            assert code == wanted_code
            if code:
                np.testing.assert_array_equal(a, b)
        assert theirs.header.get_zooms() == like.header.get_zooms()
        assert theirs.header.get_xyzt_units() == ("mm", "sec")
    np.testing.assert_array_equal(read_volume_mask(tmp_path / "out/mask.nii.gz"), mask)
    np.testing.assert_array_equal(read_volume(tmp_path / "out/map.nii.gz").values, values)


def test_the_same_mask_is_the_same_file(tmp_path):
    like = save_volume(tmp_path / "a.nii.gz", numbers())
    for name in ("x", "y"):
        write_mask(tmp_path / f"{name}.nii.gz", numbers() > 60, like)
    assert (tmp_path / "x.nii.gz").read_bytes() == (tmp_path / "y.nii.gz").read_bytes()


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    like = save_volume(tmp_path / "a.nii.gz", numbers())
    nan = np.full(SHAPE, np.nan)
    for write, name, values in (
        (write_mask, "b.nii.gz", np.ones((9, 10, 12))),
        (write_mask, "b.png", np.ones(SHAPE)),
        (write_volume, "b.nii.gz", nan),
    ):
        with pytest.raises(ValueError):
            write(tmp_path / name, values, like)
    with pytest.raises(DataError, match="does not exist"):
        write_mask(tmp_path / "b.nii.gz", np.ones(SHAPE), tmp_path / "none.nii.gz")
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("made", [nib.Nifti1Image, nib.Nifti2Image])
def test_every_type_order_and_version(tmp_path, kind, order, made):
    values = np.random.default_rng(0).integers(0, 100, SHAPE).astype(kind)
    file = made(values, AFFINES["oblique"], made.header_class(endianness=order), dtype=kind)
    path = tmp_path / "a.nii"
    nib.save(file, path)
    assert (path.read_bytes()[:1] in b"\x00\x01\x02") == (order == ">")
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.values, values.astype(np.float32))
    np.testing.assert_allclose(volume.affine, AFFINES["oblique"], atol=1e-6)
    write_mask(tmp_path / "m.nii.gz", values > 50, path)
    theirs = nib.load(tmp_path / "m.nii.gz")
    assert type(theirs) is made
    np.testing.assert_array_equal(np.asarray(theirs.dataobj), values > 50)
    np.testing.assert_array_equal(theirs.affine, nib.load(path).affine)


def test_slope_and_intercept_are_applied(tmp_path):
    file = image(numbers(kind=np.int16), AFFINES["LPS"], "s")
    path = tmp_path / "a.nii.gz"
    nib.save(file, path)
    spoil(path, 112, struct.pack("<ff", 1 / 500, -1.5))
    wanted = numbers(kind=np.int16) * np.float64(np.float32(1 / 500)) - 1.5
    np.testing.assert_array_equal(read_volume(path).values, wanted.astype(np.float32))
    np.testing.assert_array_equal(
        read_volume(path).values,
        nib.load(path).get_fdata("unchanged", dtype=np.float64).astype(np.float32),
    )
    for slope in (0.0, float("nan"), float("inf")):  # these mean: not scaled
        spoil(path, 112, struct.pack("<ff", slope, 7))
        np.testing.assert_array_equal(read_volume(path).values, numbers(kind=np.int16))


def test_trailing_axes_of_length_one_are_dropped(tmp_path):
    path = tmp_path / "a.nii"
    nib.save(image(numbers()[..., None, None], AFFINES["LPS"], "s"), path)
    np.testing.assert_array_equal(read_volume(path).values, numbers())
    write_mask(tmp_path / "m.nii.gz", numbers() > 60, path)
    assert nib.load(tmp_path / "m.nii.gz").shape == SHAPE


def test_extensions_are_skipped(tmp_path):
    file = image(numbers(), AFFINES["LPS"], "s")
    file.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    nib.save(file, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").values, numbers())


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("micron", 1e-3), ("meter", 1e3)])
def test_spacing_is_in_mm(tmp_path, unit, factor):
    file = image(numbers(), AFFINES["thick slices"], "sq")
    file.header.set_xyzt_units(unit)
    nib.save(file, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.spacing, np.multiply((0.9, 0.9, 5.5), factor), rtol=1e-5)
    np.testing.assert_allclose(volume.affine[:3, 3], np.multiply((3, 4, 5), factor))


@pytest.mark.parametrize(
    ("where", "form", "zooms", "known"),
    [
        (np.eye(4), "s", (1, 1, 1), False),
        (np.diag([-1, -1, 1, 1]), "sq", (1, 1, 1), False),
        (None, "none", (1, 1, 1), False),
        (None, "none", (0.5, 0.5, 4), True),
        (affine(np.eye(3), (1, 1, 1), (-90, -126, -72)), "s", (1, 1, 1), True),
        (affine(np.eye(3), (1, 1, 2), (0, 0, 0)), "q", (1, 1, 2), True),
    ],
)
def test_whether_the_spacing_is_known(tmp_path, where, form, zooms, known):
    nib.save(image(numbers(), where, form), tmp_path / "a.nii")
    if form == "none":
        spoil(tmp_path / "a.nii", 80, struct.pack("<fff", *zooms))
    volume = read_volume(tmp_path / "a.nii")
    assert volume.known_spacing is known
    assert volume.spacing == zooms


def test_a_header_without_voxel_sizes_is_mended_quietly(tmp_path, capfd):
    path = tmp_path / "a.nii"
    nib.save(image(numbers(), None, "none"), path)
    spoil(path, 80, struct.pack("<fff", 0, 0, 0))
    assert read_volume(path).spacing == (1, 1, 1)
    assert not read_volume(path).known_spacing
    assert capfd.readouterr() == ("", "")


# Masks

PARTS = np.zeros(SHAPE, dtype=np.uint8)
PARTS[2:6, 3:5, 1:9] = 1
PARTS[3, 3, 2:4] = 4


@pytest.mark.parametrize("kind", ["u1", "i2", "i8", "f4", "f8"])
def test_mask_rules(tmp_path, kind):
    path = save_volume(tmp_path / "m.nii.gz", PARTS.astype(kind))
    np.testing.assert_array_equal(read_volume_mask(path), PARTS > 0)
    np.testing.assert_array_equal(read_volume_mask(path, [4]), PARTS == 4)
    np.testing.assert_array_equal(read_volume_mask(path, [1, 4]), PARTS > 0)
    file = open_volume_mask(path, [1])
    mask, values, grid = file.marked([1]), file.values, file.frame
    np.testing.assert_array_equal(mask, PARTS == 1)
    assert values.tolist() == [0, 1, 4]
    assert grid.shape == SHAPE


def test_half_of_the_range(tmp_path):
    soft = np.linspace(0, 1, PARTS.size, dtype=np.float32).reshape(SHAPE)
    np.testing.assert_array_equal(
        read_volume_mask(save_volume(tmp_path / "f.nii", soft), "half"), soft > 0.5
    )
    bytes_ = (soft * 255).astype(np.uint8)
    np.testing.assert_array_equal(
        read_volume_mask(save_volume(tmp_path / "b.nii", bytes_), "half"), bytes_ > 127
    )
    with pytest.raises(DataError, match="Half of this mask's range is not known"):
        read_volume_mask(save_volume(tmp_path / "g.nii", soft * 3), "half")


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4"])
def test_masks_of_floats_that_a_program_has_spread_over_integers(tmp_path, kind):
    file = nib.Nifti1Image((PARTS > 0).astype(np.float64), AFFINES["LPS"])
    file.header.set_data_dtype(kind)
    path = tmp_path / "m.nii.gz"
    nib.save(file, path)
    for rule in ("nonzero", "half", [1]):
        np.testing.assert_array_equal(read_volume_mask(path, rule), PARTS > 0, err_msg=str(rule))
    assert open_volume_mask(path, "nonzero").values.tolist() == [0, 1]


def test_lists_take_floats_near_their_values(tmp_path):
    path = save_volume(tmp_path / "m.nii", PARTS.astype(np.float32) * np.float32(1.00001))
    np.testing.assert_array_equal(read_volume_mask(path, [4]), PARTS == 4)
    path = save_volume(tmp_path / "n.nii", PARTS.astype(np.float32) + np.float32(0.3))
    assert not read_volume_mask(path, [1, 4]).any()


def test_a_mask_on_another_grid_is_refused(tmp_path):
    grid = read_frame(save_volume(tmp_path / "a.nii.gz", numbers(), AFFINES["LPS"]))
    same = save_volume(tmp_path / "m.nii", PARTS, AFFINES["LPS"])
    np.testing.assert_array_equal(read_volume_mask(same, "nonzero", grid), PARTS > 0)
    other = save_volume(tmp_path / "n.nii", PARTS, AFFINES["oblique"])
    with pytest.raises(DataError, match=r"n\.nii") as e:
        read_volume_mask(other, "nonzero", grid)
    assert "another grid" in e.value.render()


# Cases


def write_case(folder: Path, **other: np.ndarray) -> Case:
    """A case of two modalities and a region, all on one grid but for `other` affines."""
    for k, name in enumerate(("flair", "t1c")):
        where = other.get(name, AFFINES["oblique"])
        save_volume(folder / f"{name}.nii.gz", numbers(k, np.int16), where)
    save_volume(folder / "roi.nii.gz", PARTS, other.get("roi", AFFINES["oblique"]))
    return Case(
        "a",
        folder / "flair.nii.gz",
        "tumor",
        more=(folder / "t1c.nii.gz",),
        roi=folder / "roi.nii.gz",
    )


def test_the_modalities_of_a_case_are_stacked(tmp_path):
    case = write_case(tmp_path)
    found = read_case(case)
    assert found.values.shape == (2, *SHAPE)
    assert found.values.dtype == np.float32
    for k in range(2):
        np.testing.assert_array_equal(found.values[k], numbers(k, np.int16))
    np.testing.assert_array_equal(found.roi, PARTS > 0)
    np.testing.assert_allclose(found.spacing, (0.7, 0.7, 3), rtol=1e-5)
    np.testing.assert_allclose(found.affine, AFFINES["oblique"], atol=1e-5)
    assert found.known_spacing
    assert read_case(Case("b", case.image, "tumor")).roi is None
    assert (case.dims, Case("c", tmp_path / "c.png", "x").dims) == (3, 2)
    assert CaseSet((case,), Labels((), ("tumor",)), "x").dims == 3


def shifted(by: float) -> np.ndarray:
    whole = AFFINES["oblique"].copy()
    whole[0, 3] += by
    return whole


@pytest.mark.parametrize("name", ["t1c", "roi"])
@pytest.mark.parametrize(
    ("where", "says"),
    [
        (shifted(0.2), "an origin of (-12.05, 7, 40) mm, not (-12.25, 7, 40) mm"),
        (affine(TURN, (0.7, 0.7, 2), (-12.25, 7, 40)), "spacing of (0.7, 0.7, 2) mm"),
        (affine(TURN.T, (0.7, 0.7, 3), (-12.25, 7, 40)), "axes towards R (0.8, -0.6, 0)"),
        (affine(np.diag([-1, 1, 1]), (0.7, 0.7, 3), (-12.25, 7, 40)), "axes towards L (-1, 0, 0)"),
    ],
)
def test_files_of_a_case_on_different_grids_are_refused(tmp_path, name, where, says):
    with pytest.raises(DataError) as e:
        read_case(write_case(tmp_path, **{name: where}))
    assert says in e.value.render()
    assert f"{name}.nii.gz" in e.value.render()
    assert "flair.nii.gz" in e.value.render()


def test_rounding_of_an_affine_is_no_difference(tmp_path):
    assert read_case(write_case(tmp_path, t1c=shifted(3e-4))).values.shape == (2, *SHAPE)


def test_another_shape_is_refused(tmp_path):
    case = write_case(tmp_path)
    save_volume(tmp_path / "t1c.nii.gz", numbers()[:-1], AFFINES["oblique"])
    with pytest.raises(DataError, match="8 × 10 × 11 voxels, not 9 × 10 × 11"):
        read_case(case)


# Normalisation

CHANNELS = st.integers(1, 3)


@given(st.data())
def test_zscore_gives_mean_0_and_sd_1_in_the_region(data):
    size = data.draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=5))
    finite = st.floats(-1e6, 1e6, width=32)
    values = data.draw(hnp.arrays(np.float32, (data.draw(CHANNELS), *size), elements=finite))
    region = data.draw(st.none() | hnp.arrays(bool, size))
    if region is not None and not region.any():
        with pytest.raises(ValueError, match="holds nothing"):
            zscore(values, region)
        return
    found = zscore(values, region)
    assert found.shape == values.shape
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    where = np.ones(size, bool) if region is None else region
    for channel, was in zip(found, values, strict=True):
        if len(np.unique(was[where])) == 1:
            assert not channel.any()
            continue
        assert abs(channel[where].mean(dtype=np.float64)) < 1e-4
        assert channel[where].std(dtype=np.float64) == pytest.approx(1, abs=1e-4)
        # The order of values stays, outside as well, up to rounding.
        assert (np.diff(channel.ravel()[np.argsort(was.ravel(), kind="stable")]) >= 0).all()


@given(
    hnp.arrays(np.float32, (1, 3, 4), elements=st.floats(-1000, 1000, width=32)),
    st.floats(0.5, 4),
    st.floats(-50, 50),
)
def test_zscore_does_not_see_scale_and_offset(values, scale, offset):
    if np.ptp(values) < 1:
        return
    moved = values.astype(np.float64) * scale + offset
    np.testing.assert_allclose(zscore(moved), zscore(values), atol=2e-3)


def test_zscore_by_hand():
    values = np.array([[[1.0, 3.0], [100.0, 5.0]], [[7.0, 7.0], [9.0, 7.0]]])
    region = np.array([[True, True], [False, True]])
    sd = np.sqrt(8 / 3)
    np.testing.assert_allclose(
        zscore(values, region),
        [[[-2 / sd, 0], [97 / sd, 2 / sd]], [[0, 0], [0, 0]]],
        rtol=1e-6,
    )
    # A tenth is no binary number: its mean differs from it by rounding.
    assert not zscore(np.full((1, 7, 7, 7), 0.1)).any()
    tiny = np.array([[[1e-45, 0.0, 3e38, -3e38]]], dtype=np.float32)
    assert np.isfinite(zscore(tiny, np.array([[True, True, False, False]]))).all()
    with pytest.raises(ValueError, match="shape"):
        zscore(values, np.ones((2, 3), bool))


# Refusals


def spoil(path: Path, at: int, data: bytes) -> Path:
    """Write bytes into a file, which may be gzipped."""
    packed = path.name.endswith(".gz")
    whole = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    whole[at : at + len(data)] = data
    path.write_bytes(gzip.compress(bytes(whole)) if packed else bytes(whole))
    return path


def made(values: np.ndarray = PARTS, at: int = 0, data: bytes = b"", kind=nib.Nifti1Image) -> bytes:
    whole = bytearray(kind(values, AFFINES["LPS"]).to_bytes())
    whole[at : at + len(data)] = data
    return bytes(whole)


def packed(cut: int | None = None, flip: int | None = None) -> bytes:
    data = bytearray(gzip.compress(made(numbers())))
    if flip is not None:
        data[flip] ^= 0xFF
    return bytes(data[:cut])


def with_nan(value: float) -> bytes:
    values = numbers()
    values[1, 2, 3] = value
    return made(values)


RGB = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
HUGE = made(at=40, data=struct.pack("<4h", 3, 30000, 30000, 30000))
FLAT = struct.pack("<12f", 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)

BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "empty gzip": (lambda: gzip.compress(b""), "empty"),
    "text": (lambda: b"image,label\n", "not a NIfTI or DICOM"),
    "packed text": (lambda: gzip.compress(b"image,label\n"), "not a NIfTI or DICOM"),
    "html": (lambda: b"<!DOCTYPE html>", "HTML"),
    "lfs pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "png": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(400), "a 2D image"),
    "dicom": (lambda: bytes(128) + b"DICM" + bytes(500), "holds no image"),
    "nrrd": (lambda: b"NRRD0004\n" + bytes(500), "NRRD"),
    "pickle": (lambda: b"\x80\x04cos\nsystem\n(S'echo'\ntR." + bytes(400), "not a NIfTI or DICOM"),
    "pair": (lambda: made(at=344, data=b"ni1\0"), "half of a NIfTI pair"),
    "analyze": (lambda: made(at=344, data=bytes(4)), "Analyze 7.5"),
    "header only": (lambda: made()[:348], "truncated"),
    "more bytes than may be": (
        lambda: made(numbers().astype(np.float64), 40, struct.pack("<4h", 3, 600, 600, 400)),
        "600 × 600 × 400 voxels take 1152 MB, and the limit is 268 million voxels and 1074 MB",
    ),
    "another type than bits": (
        lambda: made(at=70, data=struct.pack("<h", 4)),
        "8 bits a voxel beside voxels of the type int16",
    ),
    "header cut": (lambda: made()[:200], "Analyze 7.5"),
    "truncated": (lambda: made()[:-1], "expected: 990 for 9 × 10 × 11 voxels of uint8"),
    "truncated v2": (lambda: made(kind=nib.Nifti2Image)[:-20], "truncated"),
    "gzip truncated": (lambda: packed(cut=2000), "gzip"),
    "gzip without its end": (lambda: packed(cut=-4), "gzip"),
    "gzip with wrong sum": (lambda: packed(flip=-6), "CRC"),
    "gzip damaged inside": (lambda: packed(flip=1500), "gzip"),
    "4D": (lambda: made(np.zeros((*SHAPE, 3), np.uint8)), "is 4D"),
    "vectors": (lambda: made(np.zeros((*SHAPE, 1, 3), np.uint8)), "image2"),
    "2D": (lambda: made(np.zeros((9, 10), np.uint8)), "is 2D"),
    "no dimensions": (lambda: made(at=40, data=struct.pack("<h", 0)), "damaged"),
    "a side of 0": (lambda: made(at=40, data=struct.pack("<4h", 3, 9, 0, 11)), "damaged"),
    "a negative side": (lambda: made(at=40, data=struct.pack("<4h", 3, 9, -4, 11)), "damaged"),
    "too large": (lambda: HUGE, "too large"),
    "too large, packed": (lambda: gzip.compress(HUGE), "too large"),
    "complex": (lambda: made(np.zeros(SHAPE, np.complex64)), "complex numbers"),
    "colours": (lambda: made(RGB), "colours"),
    "type unknown": (lambda: made(at=70, data=struct.pack("<h", 1537)), "1537"),
    "type none": (lambda: made(at=70, data=struct.pack("<h", 0)), "damaged"),
    "nan": (lambda: with_nan(np.nan), "1 of 990 values"),
    "infinite": (lambda: with_nan(-np.inf), "infinity"),
    "intercept infinite": (lambda: made(at=112, data=struct.pack("<ff", 2, np.inf)), "intercept"),
    "offset far": (lambda: made(at=108, data=struct.pack("<f", 1e30)), "begin at byte"),
    "offset nan": (lambda: made(at=108, data=struct.pack("<f", np.nan)), "NaN"),
    "offset in header": (lambda: made(at=108, data=struct.pack("<f", 16)), "damaged"),
    "affine flat": (lambda: made(at=280, data=FLAT), "affine"),
    "affine nan": (lambda: made(at=280, data=struct.pack("<f", np.nan)), "affine"),
    "affine zero": (lambda: made(at=280, data=bytes(48)), "affine"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_with_their_name_and_a_remedy(tmp_path, kind, capfd):
    make, says = BAD[kind]
    path = tmp_path / "case 17.nii.gz"
    path.write_bytes(make())
    for read in (read_volume, read_volume_mask):
        with pytest.raises(DataError) as e:
            read(path)
        assert e.value.where == str(path)
        assert says in e.value.render()
        assert e.value.fix
    assert capfd.readouterr() == ("", "")


def test_what_float32_does_not_hold_is_refused(tmp_path):
    with pytest.raises(DataError, match="infinity"):
        read_volume(save_volume(tmp_path / "a.nii", np.full(SHAPE, 1e300)))


@pytest.mark.parametrize("read", [read_volume, read_volume_mask, read_frame])
def test_missing_files_and_folders(tmp_path, read):
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "none.nii.gz")
    with pytest.raises(DataError, match="folder"):
        read(tmp_path)


def test_a_small_file_that_unpacks_to_much_is_not_read_to_its_end(tmp_path, monkeypatch):
    read = []

    class Counting(gzip.GzipFile):
        def read(self, size=-1):
            data = super().read(size)
            read.append(len(data))
            return data

    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(made() + bytes(2**27)))
    monkeypatch.setattr(base.gzip, "GzipFile", Counting)
    with pytest.raises(DataError, match="behind the voxels"):
        read_volume(path)
    path.write_bytes(gzip.compress(made() + bytes(2**20)))
    np.testing.assert_array_equal(read_volume(path).values, PARTS)
    assert sum(read) < 2**26 + 2**21


@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_break_the_reader(tmp_path_factory, data, with_header):
    path = tmp_path_factory.getbasetemp() / "fuzz.nii"
    path.write_bytes((made()[:344] + b"n+1\0" if with_header else b"") + data)
    with pytest.raises(DataError):
        read_volume(path)


@given(st.integers(0, 347), st.binary(min_size=1, max_size=4))
def test_headers_with_wrong_bytes_are_read_or_refused(tmp_path_factory, at, data):
    path = tmp_path_factory.getbasetemp() / "fuzz-header.nii"
    path.write_bytes(made(at=at, data=data))
    try:
        volume = read_volume(path)
    except DataError as e:
        assert e.fix  # noqa: PT017
    else:
        assert np.isfinite(volume.values).all()
        assert np.isfinite(volume.affine).all()


def test_names_of_volumes():
    assert VOLUMES.named(Path("a/b.nii"))
    assert VOLUMES.named("B.NII.GZ")
    assert not VOLUMES.named("a.nii.png")
    assert not VOLUMES.named("a.gz")


def test_nibabel_is_imported_only_where_a_volume_is_read():
    code = (
        "import sys, weakseg.cli, weakseg.data.check, weakseg.data.volumes\n"
        "sys.exit('nibabel' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Real data


def test_brats_volumes_are_as_nibabel_reads_them(shared):
    folder = present(shared / "data/brats2013_3d_2mm")
    for path in sorted((folder / "images").iterdir())[::3]:
        volume, theirs = read_volume(path), nib.load(path)
        np.testing.assert_array_equal(volume.values, theirs.get_fdata().astype(np.float32))
        np.testing.assert_array_equal(volume.affine, theirs.affine)
        assert volume.spacing == (2, 2, 2)
        assert volume.known_spacing
        assert theirs.dataobj.slope == pytest.approx(1 / 500)
    name = "brats_2013_pat0001_1"
    case = Case(
        "a",
        folder / f"images/{name}_flair.nii.gz",
        "tumor",
        more=(folder / f"images/{name}_t1c.nii.gz",),
        roi=folder / f"brainmasks/{name}_brain.nii.gz",
    )
    found = read_case(case)
    inside = zscore(found.values, found.roi)[:, found.roi]
    np.testing.assert_allclose(inside.mean(axis=1, dtype=np.float64), 0, atol=1e-4)
    np.testing.assert_allclose(inside.std(axis=1, dtype=np.float64), 1, atol=1e-4)
    # The source says that it normalised inside the brain, at 1 mm.
    assert np.abs(found.values[:, found.roi].mean(axis=1)).max() < 0.2
    mask = read_volume_mask(folder / f"labels/{name}_seg.nii.gz", "nonzero", found.frame)
    theirs = nib.load(folder / f"labels/{name}_seg.nii.gz").get_fdata() > 0
    np.testing.assert_array_equal(mask, theirs)
    assert (mask & found.roi).sum() / mask.sum() > 0.95


def test_glioma_stacks_do_not_tell_their_spacing(shared):
    folder = present(shared / "data/lgg_flair3d_dev/images")
    for path in sorted(folder.iterdir())[::20]:
        volume = read_volume(path)
        assert not volume.known_spacing
        assert volume.spacing == (1, 1, 1)
        assert volume.values.shape[:2] == (128, 128)


# Masks whose affine is not their image's, and which lie on its voxels all the same

SCANNER = affine(np.diag([-1, -1, 1]), (1.5, 1.5, 2), (20, 30, -40))
TURNED = affine(TURN, (1.5, 1.5, 2), (20, 30, -40))


def two_forms(path, sform, qform, values=PARTS):
    made = nib.Nifti1Image(values.astype(np.int16), None)
    made.set_sform(sform, 2)
    made.set_qform(qform, 1)
    nib.save(made, path)
    return read_frame(path)


def one_form(path, where, shape=SHAPE):
    return read_frame(save_volume(path, np.zeros(shape, np.uint8), where))


def without_form(path, zooms):
    made = nib.Nifti1Image(PARTS.astype(np.uint8), None)
    made.header.set_zooms(zooms)
    made.header["sform_code"] = made.header["qform_code"] = 0
    nib.save(made, path)
    return read_frame(path)


def moved(by):
    """The scanner's affine, its origin moved so many voxels along the first axis."""
    where = SCANNER.copy()
    where[:3, 3] += by * SCANNER[:3, 0]
    return where


def longer(share):
    """The scanner's affine with longer voxels along the first axis."""
    return SCANNER @ np.diag([1 + share, 1, 1, 1])


def test_the_forms_of_a_file_are_its_frames(tmp_path):
    grid = two_forms(tmp_path / "a.nii.gz", TURNED, SCANNER)
    np.testing.assert_allclose(grid.affine, TURNED, atol=1e-5)
    (other,) = grid.further
    np.testing.assert_allclose(other, SCANNER, atol=1e-5)
    assert two_forms(tmp_path / "b.nii.gz", SCANNER, SCANNER).orientation == "LPS"
    assert grid_difference(grid, grid) is None
    assert grid_leeway(grid, grid) is None


LEEWAYS = {
    "mask in the qform's frame": (lambda f: one_form(f / "m.nii", SCANNER), "other-frame"),
    "mask in the sform's frame": (lambda f: one_form(f / "m.nii", TURNED), None),
    "mask of both, the other way round": (
        lambda f: two_forms(f / "m.nii", SCANNER, TURNED), "other-frame",
    ),
    "identity": (lambda f: one_form(f / "m.nii", np.eye(4)), "no-place"),
    "identity in ITK's directions": (
        lambda f: one_form(f / "m.nii", np.diag([-1.0, -1, 1, 1])), "no-place",
    ),
    "no form": (lambda f: without_form(f / "m.nii", (1, 1, 1)), "no-place"),
    "no form, but sizes": (lambda f: without_form(f / "m.nii", (1.5, 1.5, 2)), "no-place"),
    "sizes alone": (lambda f: one_form(f / "m.nii", np.diag([1.5, 1.5, 2, 1])), "no-place"),
    "origin 0.005 mm off": (lambda f: one_form(f / "m.nii", moved(0.005 / 1.5)), "nearly"),
    "a tenth of a voxel off": (lambda f: one_form(f / "m.nii", moved(0.099)), "nearly"),
    "sizes rounded": (lambda f: one_form(f / "m.nii", longer(0.09 / SHAPE[0])), "nearly"),
}  # fmt: skip
REFUSED = {
    "no form, other sizes": (lambda f: without_form(f / "m.nii", (3, 3, 2)), "spacing"),
    "other sizes alone": (lambda f: one_form(f / "m.nii", np.diag([3.0, 3, 2, 1])), "spacing"),
    "a fifth of a voxel off": (lambda f: one_form(f / "m.nii", moved(0.2)), "origin"),
    "a voxel off": (lambda f: one_form(f / "m.nii", moved(1)), "origin"),
    "at the last voxel a fifth off": (lambda f: one_form(f / "m.nii", longer(0.2 / (SHAPE[0] - 1))),
        "spacing"),
    "mirrored": (lambda f: one_form(f / "m.nii", SCANNER @ np.diag([-1, 1, 1, 1.0])), "axes"),
    "identity of another shape": (
        lambda f: one_form(f / "m.nii", np.eye(4), SHAPE[::-1]), "voxels, not",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEEWAYS)
def test_a_mask_that_means_its_images_voxels_is_accepted(tmp_path, name):
    image = two_forms(tmp_path / "image.nii", TURNED, SCANNER)
    plain = one_form(tmp_path / "plain.nii", SCANNER)
    make, how = LEEWAYS[name]
    grid = make(tmp_path)
    beside = plain if "off" in name or "rounded" in name else image
    assert grid_leeway(grid, beside) == how
    assert grid_difference(grid, beside) is None
    assert read_volume_mask(tmp_path / "m.nii", "nonzero", beside).shape == SHAPE


@pytest.mark.parametrize("name", REFUSED)
def test_a_mask_on_a_really_different_grid_is_refused(tmp_path, name):
    image = one_form(tmp_path / "image.nii", SCANNER)
    make, says = REFUSED[name]
    grid = make(tmp_path)
    assert grid_leeway(grid, image) is None
    assert says in (grid_difference(grid, image) or "")
    with pytest.raises(DataError, match="another grid"):
        read_volume_mask(tmp_path / "m.nii", "nonzero", image)


def test_a_mask_with_a_place_fits_an_image_without_one(tmp_path):
    for image in (
        one_form(tmp_path / "i.nii", np.eye(4)),
        without_form(tmp_path / "j.nii", (1,) * 3),
    ):
        assert grid_leeway(one_form(tmp_path / "m.nii", SCANNER), image) == "no-place"


def test_a_broken_qform_is_no_reason_to_refuse(tmp_path):
    two_forms(tmp_path / "a.nii", SCANNER, TURNED)
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[256:268] = struct.pack("<3f", 2, 2, 2)  # quaternions longer than 1
    (tmp_path / "a.nii").write_bytes(data)
    grid = read_frame(tmp_path / "a.nii")
    np.testing.assert_allclose(grid.affine, SCANNER, atol=1e-5)
    assert grid.further == ()


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("kind", [">i2", "<f4", "u1"])
def test_voxels_that_are_read_some_slices_at_a_time_are_all_there(
    tmp_path, monkeypatch, name, kind
):
    values = np.random.default_rng(0).integers(0, 99, (5, 4, 7)).astype(kind)
    path = tmp_path / name
    nib.save(nib.Nifti1Image(values, np.eye(4), dtype=np.dtype(kind)), path)
    monkeypatch.setattr("weakseg.data.formats.nifti._SLAB", 3 * 5 * 4 * np.dtype(kind).itemsize)
    np.testing.assert_array_equal(read_volume(path).values, values)
    if name == "v.nii":
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(DataError, match="truncated") as e:
            read_volume(path)
        assert e.value.found == f"{values.nbytes - 1} bytes of voxels"
