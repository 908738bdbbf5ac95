"""Slices of volumes as images: scaled by their volume, laid back, and the same as pictures."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.data.helpers import save_volume
from tests.tiny import write_manifest
from weakseg.config import DataConfig, PhantomConfig
from weakseg.data import slices
from weakseg.data.arrays import ImageBatches, channels_of
from weakseg.data.case_files import (
    case_frame,
    case_image,
    case_mask,
    case_spacing,
    case_truth,
    case_values,
    network_input,
    on_file,
    whole_spacing,
)
from weakseg.data.cases import Case, by_file
from weakseg.data.check import check_manifest
from weakseg.data.images import scale_intensity
from weakseg.data.manifest import read_manifest
from weakseg.data.mapped import MappedStore
from weakseg.data.phantom import volume_affine, write_phantom
from weakseg.data.splits import make_splits, read_splits, write_splits
from weakseg.errors import DataError

DATA = DataConfig()
RNG = np.random.default_rng(3)
SHAPE = (11, 9, 5)
WHOLE = RNG.integers(-800, 1500, SHAPE).astype(np.int16)


def slice_of(path: Path, z: int, **more) -> Case:
    return Case(f"v_s{z:03d}", path, "tumor", slice=z, volume="v", **more)


@pytest.mark.parametrize("how", ["auto", "percentile"])
@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "float32"])
def test_slices_are_scaled_by_their_volume(tmp_path, kind, how):
    values = (WHOLE % 251 if kind == "uint8" else WHOLE).astype(kind)
    path = save_volume(tmp_path / "v.nii.gz", values)
    # What reads a whole volume says what a slice of it is.
    expected = scale_intensity(values, how)
    for z in range(SHAPE[2]):
        found = case_image(slice_of(path, z), DataConfig(intensity=how))
        assert found.shape == (9, 11)
        np.testing.assert_allclose(found, expected[:, :, z].T, atol=2e-7)


@pytest.mark.parametrize("slope", [0.5, -2.0])
def test_a_slope_is_no_other_picture_unless_it_turns_it(tmp_path, slope):
    made = nib.Nifti1Image(WHOLE, np.eye(4))
    made.header.set_slope_inter(slope, 3)
    # nibabel would scale anew: the voxels are written as they are.
    path = tmp_path / "v.nii"
    head = made.header.copy()
    head["vox_offset"] = 352
    path.write_bytes(head.binaryblock + bytes(4) + WHOLE.tobytes(order="F"))
    expected = scale_intensity(WHOLE.astype(np.float32) * slope + 3, "percentile")
    found = case_image(slice_of(path, 2), DATA)
    np.testing.assert_allclose(found, expected[:, :, 2].T, atol=1e-6)


def test_floats_of_dtype_have_to_lie_between_0_and_1(tmp_path):
    unit = RNG.random(SHAPE).astype(np.float32)
    data = DataConfig(intensity="dtype")
    path = save_volume(tmp_path / "v.nii.gz", unit)
    np.testing.assert_allclose(case_image(slice_of(path, 1), data), unit[:, :, 1].T, atol=1e-6)
    other = save_volume(tmp_path / "w.nii.gz", unit * 2)
    with pytest.raises(DataError, match="leaves 0 to 1"):
        case_image(slice_of(other, 1), data)


def test_an_even_volume_is_dark(tmp_path):
    path = save_volume(tmp_path / "v.nii.gz", np.full(SHAPE, 7, np.int16))
    assert not case_image(slice_of(path, 0), DATA).any()


def test_neighbours_are_channels_and_ends_stand_for_themselves(tmp_path):
    path = save_volume(tmp_path / "v.nii.gz", (WHOLE % 251).astype(np.uint8))
    data = DataConfig(neighbours=True)
    own = [case_image(slice_of(path, z), data) for z in range(5)]
    for z, expected in ((0, (0, 0, 1)), (2, (1, 2, 3)), (4, (3, 4, 4))):
        found = network_input(slice_of(path, z), data)
        np.testing.assert_array_equal(found, np.stack([own[k] for k in expected], axis=2))
    assert network_input(slice_of(path, 2), DATA).shape == (9, 11)


def test_a_slice_that_is_not_there_is_named(tmp_path):
    path = save_volume(tmp_path / "v.nii.gz", WHOLE)
    with pytest.raises(DataError, match="no such slice") as e:
        case_image(slice_of(path, 5), DATA)
    assert e.value.expected.startswith("0 to 4")


def test_a_volume_is_read_once_and_anew_when_it_changes(tmp_path, monkeypatch):
    path = save_volume(tmp_path / "v.nii.gz", WHOLE)
    read, count = slices.decode_volume, []

    def counted(p):
        count.append(p)
        return read(p)

    monkeypatch.setattr(slices, "decode_volume", counted)
    first = [case_image(slice_of(path, z), DATA) for z in range(5)]
    assert len(count) == 1
    save_volume(path, WHOLE[..., ::-1].copy())
    again = case_image(slice_of(path, 0), DATA)
    assert len(count) == 2
    np.testing.assert_array_equal(again, first[4])


def test_slices_lie_in_their_volumes_frame(tmp_path):
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -3], [0, 0, 4, 9], [0, 0, 0, 1]])
    mask = (WHOLE > 0).astype(np.uint8)
    path = save_volume(tmp_path / "v.nii.gz", WHOLE, affine)
    seg = save_volume(tmp_path / "m.nii.gz", mask, affine)
    cases = [slice_of(path, z, mask=seg) for z in (1, 3)]
    frame = case_frame(cases[1])
    assert frame.shape == (11, 9, 1)
    np.testing.assert_allclose(frame.affine @ [2, 1, 0, 1], affine @ [2, 1, 3, 1])
    assert case_spacing(cases[0]) == (2.0, 1.5)  # rows are the second axis
    assert whole_spacing(cases[0]) == (1.5, 2.0, 4.0)
    truths = [case_truth(c, DATA) for c in cases]
    np.testing.assert_array_equal(truths[1], mask[:, :, 3].T > 0)
    expected = mask > 0
    expected[:, :, [0, 2, 4]] = False
    np.testing.assert_array_equal(on_file(cases, truths), expected)
    np.testing.assert_array_equal(case_mask(cases[0], seg), truths[0])
    assert [len(f) for f in by_file([*cases, Case("o", seg, "")])] == [2, 1]


def test_a_mask_on_another_grid_is_refused(tmp_path):
    path = save_volume(tmp_path / "v.nii.gz", WHOLE)
    seg = save_volume(tmp_path / "m.nii.gz", (WHOLE[:10] > 0).astype(np.uint8))
    with pytest.raises(DataError, match="another grid"):
        case_truth(slice_of(path, 1, mask=seg), DATA)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """The same slices as pictures and as volumes."""
    folder = tmp_path_factory.mktemp("phantoms")
    one = {"patients": 6, "slices_per_patient": 4, "size": 64}
    return [
        write_phantom(folder / name, PhantomConfig(**one, volumes=name == "volumes"))
        for name in ("pictures", "volumes")
    ]


def test_networks_see_slices_of_volumes_as_they_see_pictures(phantoms, tmp_path):
    pictures, volumes = (read_manifest(p, DATA) for p in phantoms)
    assert [c.label for c in volumes.cases] == [c.label for c in pictures.cases]
    assert volumes.sliced
    assert volumes.dims == 2
    data = DataConfig(image_size=64)
    assert channels_of(volumes, data, False) == 1
    assert channels_of(volumes, DataConfig(neighbours=True), False) == 3
    everything = range(len(volumes.cases))
    sets = [ImageBatches(s.cases, data, 1, MappedStore(tmp_path)) for s in (pictures, volumes)]
    shuffled = np.random.default_rng(0).permutation(len(volumes.cases))
    np.testing.assert_array_equal(*(s.images(shuffled).numpy() for s in sets))
    assert sets[0].boxes(everything) == sets[1].boxes(everything)
    for a, b in zip(pictures.cases, volumes.cases, strict=True):
        np.testing.assert_array_equal(case_truth(a, data), case_truth(b, data))


def test_splits_say_which_slice_a_case_is(phantoms, tmp_path):
    found = read_manifest(phantoms[1], DATA)
    assert found.cases[1].id == "P001_s001"
    assert found.cases[1].file == "P001"
    dealt = make_splits(found.cases, found.labels, DATA.split)
    write_splits(tmp_path / "splits.csv", dealt)
    again = read_splits(tmp_path / "splits.csv")
    assert [(c.id, c.image, c.slice, c.split) for c in again] == [
        (c.id, c.image, c.slice, c.split) for c in dealt
    ]


def test_a_phantoms_volume_lies_in_mm(phantoms):
    held = nib.load(phantoms[1].parent / "images/P001.nii.gz")
    np.testing.assert_allclose(held.affine, volume_affine(64, 4))
    assert nib.aff2axcodes(held.affine) == ("L", "P", "S")
    assert held.header.get_zooms() == pytest.approx((3.125, 3.125, 35.0))


@pytest.fixture
def faulty(tmp_path):
    """A row a fault, and what it is called."""
    rows = []
    for p in range(6):
        values = RNG.integers(1, 200, (12, 10, 4)).astype(np.uint8)
        lesion = np.zeros(values.shape, np.uint8)
        lesion[3:6, 3:6, 1] = 1
        save_volume(tmp_path / f"v{p}.nii.gz", values)
        save_volume(tmp_path / f"m{p}.nii.gz", lesion)
        for z, label in enumerate(("normal", "tumor", "normal", "normal")):
            rows.append([f"v{p}.nii.gz", str(z), label, f"m{p}.nii.gz", f"P{p}", ""])
    faults = [
        (["v0.nii.gz", "4", "normal", "", "P0", ""], "slice-outside"),
        (["v0.nii.gz", "", "normal", "", "P0", ""], "slice-blank"),
        (["v0.nii.gz", "2.5", "normal", "", "P0", ""], "slice-unknown"),
        (["v0.nii.gz", "-1", "normal", "", "P0", ""], "slice-unknown"),
        (["v0.nii.gz", "1", "tumor", "m0.nii.gz", "P0", ""], "image-twice"),
        (["v1.nii.gz", "2", "normal", "", "P1", "v0.nii.gz"], "column-for-whole-volumes"),
        (["v1.nii.gz", "3", "normal", "", "P9", ""], "volume-patients"),
        (["none.nii.gz", "2", "normal", "", "P1", ""], "image-missing"),
    ]
    del rows[7]  # slice 3 of v1, which a fault lists
    rows[8][2], rows[13][2] = "normal", "tumor"  # marked, but healthy; a lesion, but not marked
    kinds = {10: "healthy-with-mask", 15: "lesion-without-mask"}
    for row, kind in faults:
        rows.append(row)
        kinds[len(rows) + 1] = kind
    header = ("image", "slice", "label", "mask", "patient", "image2")
    return write_manifest(tmp_path / "labels.csv", rows, header), kinds


def test_every_fault_of_a_manifest_of_slices_is_told_with_its_row(faulty):
    manifest, kinds = faulty
    problems = check_manifest(manifest, DATA)
    errors = {(p.row, p.kind) for p in problems if p.severity == "error"}
    assert {(row, kind) for row, kind in errors if row} >= set(kinds.items())
    assert {row for row, _ in errors if row} == set(kinds)


def test_a_volume_that_cannot_be_read_is_told_once(tmp_path):
    rows = [["v.nii.gz", z, "normal" if z else "tumor", f"P{z}"] for z in range(4)]
    manifest = write_manifest(tmp_path / "m.csv", rows, ("image", "slice", "label", "patient"))
    (tmp_path / "v.nii.gz").write_bytes(b"no volume")
    found = [p for p in check_manifest(manifest, DATA) if p.kind == "image-unreadable"]
    assert [p.row for p in found] == [2]


def test_slices_of_the_glioma_volumes_are_those_of_the_picture_set(shared):
    volumes = shared / "data/lgg_flair3d_dev"
    if not volumes.is_dir():
        pytest.skip("no volumes beside the checkout")
    from PIL import Image

    case = Case("", volumes / "images/TCGA_CS_4941.nii.gz", "", slice=9)
    picture = np.asarray(Image.open(shared / "data/lgg_flair_dev/images/TCGA_CS_4941_010.png"))
    np.testing.assert_array_equal(case_image(case, DATA), scale_intensity(picture))


def test_a_mask_that_lies_on_the_grid_of_one_image_need_not_lie_on_another_s(tmp_path):
    mask = save_volume(tmp_path / "m.nii.gz", (WHOLE > 0).astype(np.uint8), np.diag([1, 2, 3, 1]))
    frames = []
    for k, affine in enumerate((np.diag([1, 2, 3, 1]), np.diag([1, 2, 9, 1]))):
        turned = affine.astype(float)
        turned[0, 3] = 5
        path = save_volume(tmp_path / f"v{k}.nii.gz", WHOLE, turned)
        frames.append(slices.volume_frame(path))
    mask = save_volume(tmp_path / "m.nii.gz", (WHOLE > 0).astype(np.uint8), frames[0].affine)
    assert slices.slice_mask(mask, 2, "nonzero", frames[0]).any()
    with pytest.raises(DataError, match="another grid"):
        slices.slice_mask(mask, 2, "nonzero", frames[1])


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("seed", range(5))
def test_percentiles_by_counting_are_those_by_sorting(kind, seed):
    rng = np.random.default_rng(seed)
    info = np.iinfo(kind)
    ends = sorted(rng.integers(info.min, info.max, 2).tolist())
    raw = rng.integers(ends[0], ends[1] + 1, rng.integers(1, 9, 3)).astype(kind)
    expected = np.percentile(raw.astype(float), slices.STRETCH)
    np.testing.assert_allclose(slices._stretch(raw), expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(
    ("kind", "slope", "inter", "short"),
    [
        ("int16", None, 0, True),
        ("uint8", None, 0, True),
        ("int16", 1.0, -1024, True),  # as CT is stored
        ("int16", 1.0, 31500, False),  # does not fit
        ("int16", 1.0, 0.5, False),
        ("int16", 0.5, 0, False),
        ("int32", None, 0, False),
        ("float32", None, 0, False),
    ],
)
def test_rules_get_the_values_of_the_file_in_a_short_type(
    tmp_path, kind, slope, inter, short, held
):
    made = nib.Nifti1Image((WHOLE % 251 if kind == "uint8" else WHOLE).astype(kind), np.eye(4))
    if slope is not None:
        made.header.set_slope_inter(slope, inter)
    path = tmp_path / "v.nii"
    with path.open("wb") as f:
        made.header["vox_offset"] = 352
        made.header["magic"] = b"n+1"
        made.header.write_to(f)
        f.write(bytes(352 - f.tell()))
        f.write(np.asarray(made.dataobj).tobytes(order="F"))
    case = Case("v", path, "tumor")
    expected = case_image(case, DATA)
    if held:
        slices.held_volume(path, DATA.intensity, DATA.window)
    found = case_values(case, DATA)
    assert found.dtype.itemsize == (np.dtype(kind).itemsize if short else 4)
    np.testing.assert_array_equal(found.astype(np.float32), expected)


def test_values_of_a_volume_that_are_no_numbers_are_refused(tmp_path):
    broken = WHOLE.astype(np.float32)
    broken[1, 2, 3] = np.nan
    case = Case("v", save_volume(tmp_path / "v.nii.gz", broken), "tumor")
    with pytest.raises(DataError, match="no numbers"):
        case_values(case, DATA)


@pytest.mark.parametrize("value", [0, 7])
@pytest.mark.parametrize("kind", ["int16", "uint16", "uint8", "float32"])
@pytest.mark.parametrize("window", ["auto", "percentiles"])
def test_a_volume_of_one_value_is_a_picture_of_numbers(tmp_path, value, kind, window):
    path = save_volume(tmp_path / "v.nii.gz", np.full((4, 3, 2), value, dtype=kind))
    found = slices.slice_image(path, 0, "auto", window)
    assert np.isfinite(found).all()
    assert len(np.unique(found)) == 1


def test_floats_without_a_range_are_refused_with_their_file(tmp_path):
    path = save_volume(
        tmp_path / "v.nii.gz", np.linspace(-1, 3, 24, dtype=np.float32).reshape(4, 3, 2)
    )
    with pytest.raises(DataError, match=r"v\.nii\.gz"):
        case_image(slice_of(path, 0), DataConfig(intensity="dtype"))
