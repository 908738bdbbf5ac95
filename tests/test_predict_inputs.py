"""What `predict` takes for images of patients, and how it names what it cannot read."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import dicom_files
from tests.data.helpers import noise, save, save_volume
from weakseg.data.cases import Case
from weakseg.data.formats.registry import VOLUMES
from weakseg.data.scan_names import why_no_scan
from weakseg.errors import DataError, UserError
from weakseg.importing.tree import list_tree
from weakseg.predicting.inputs import collect_inputs, readable, together
from weakseg.predicting.slices import slices_named, slices_of

SCANS = ["a.png", "p1/b.jpg", "benign (1).png", "masked.png", "segment_3.png", "t1/gtx.tif"]
JUNK = {
    "a_mask.png": "mask",
    "a_mask_1.png": "mask",
    "benign (1)_mask.png": "mask",
    "benign (1)_mask_2.png": "mask",
    "a-MASK.png": "mask",
    "seg.png": "mask",
    "a_seg.nii.gz": "mask",
    "a.segmentation.nii": "mask",
    "a_brainmask.nii.gz": "mask",
    "a_gt.tif": "mask",
    "masks/a.png": "mask",
    "labelsTr/a.nii.gz": "mask",
    "._a.png": "operating system",
    "__MACOSX/a.png": "operating system",
    "Thumbs.db": "operating system",
    "p1/.ipynb_checkpoints/a-checkpoint.png": "operating system",
    ".DS_Store": "hidden",
    ".hidden.png": "hidden",
    ".cache/a.png": "hidden",
}


@pytest.mark.parametrize("name", SCANS)
def test_scans_are_taken(name):
    assert why_no_scan(Path(name)) is None


@pytest.mark.parametrize(("name", "why"), JUNK.items())
def test_what_is_no_scan_is_left_out(name, why):
    assert why in (why_no_scan(Path(name)) or "")


def names(cases):
    return sorted(str(c.image.name) for c in cases)


def test_a_folder_gives_its_scans_and_counts_the_rest(tmp_path, capsys):
    for name in ("a.png", "p1/b.png", "a_mask.png", "masks/b.png", "._a.png", ".x.png"):
        save(tmp_path / name, noise(1))
    (tmp_path / "old").mkdir()
    save(tmp_path / "old/a.png", noise(1))
    (tmp_path / "old/predictions.csv").write_text("file,mask\n")
    out = tmp_path / "out"
    assert names(collect_inputs([tmp_path], out)) == ["a.png", "b.png"]
    said = capsys.readouterr().err
    for part in ("2 named as a mask", "1 hidden (.x.png)", "1 of the operating", "1 of an earlier"):
        assert part in said
    # A file, or a folder, that is named is taken at its word.
    assert names(collect_inputs([tmp_path / "a_mask.png", tmp_path / "._a.png"], out)) == [
        *("._a.png", "a_mask.png"),
    ]
    assert names(collect_inputs([tmp_path / "masks"], out)) == ["b.png"]
    assert names(collect_inputs([tmp_path / "old"], out)) == ["a.png"]
    assert "left out" not in capsys.readouterr().err


def test_a_folder_of_volumes_gives_its_scans(tmp_path):
    for name in ("a.nii.gz", "a_seg.nii.gz", "labels/a.nii.gz"):
        save_volume(tmp_path / name, np.zeros((8, 8, 8), np.uint8))
    assert names(collect_inputs([tmp_path], tmp_path / "out", VOLUMES)) == ["a.nii.gz"]


def test_a_folder_with_nothing_else_says_what_it_holds(tmp_path):
    save(tmp_path / "m/a_mask.png", noise(1))
    with pytest.raises(DataError, match="but what was left out") as e:
        collect_inputs([tmp_path / "m"], tmp_path / "out")
    assert "1 named as a mask (a_mask.png)" in e.value.render()
    (tmp_path / "d").mkdir()
    (tmp_path / "d/IM0001").write_bytes(bytes(128) + b"DICM" + bytes(50))
    (tmp_path / "d/notes.txt").write_text("x")
    with pytest.raises(DataError, match="no image") as e:
        collect_inputs([tmp_path / "d"], tmp_path / "out")
    assert "1 that hold no image: an object without pixels" in e.value.render()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".TSV"])
def test_manifests_of_any_delimiter_are_read(tmp_path, suffix):
    save(tmp_path / "a.png", noise(1))
    path = tmp_path / f"new{suffix}"
    path.write_text("note\timage\nx\ta.png\n")
    assert [c.image for c in collect_inputs([path], tmp_path / "out")] == [tmp_path / "a.png"]


def test_unreadable_files_are_told_with_cause_limit_and_way_out(tmp_path, capsys):
    large, good = tmp_path / "large.png", save(tmp_path / "good.png", noise(1))
    Image.new("1", (10000, 9000)).save(large)
    bad = tmp_path / "bad.png"
    bad.write_bytes(bytes(128) + b"DICM" + bytes(50))
    cases = [Case(p.stem, p, "") for p in (large, good, bad)]
    with pytest.raises(DataError) as e:
        readable(cases, False)
    said = e.value.render()
    told = ("2 of 3", "9000 × 10000 pixels", "limit is 89 million", "shrink", "holds no image")
    for part in told:
        assert part in said
    assert "--skip-unreadable" in said
    with pytest.raises(DataError) as e:
        readable(cases[::2], True)  # nothing would be left
    assert "--skip-unreadable" not in e.value.render()
    assert [c.id for c in readable(cases, True)] == ["good"]
    assert "limit is 89 million" in capsys.readouterr().err


def test_large_images_are_taken_a_few_at_a_time(tmp_path):
    cases = [Case(f"s{i}", save(tmp_path / f"s{i}.png", noise(i)), "") for i in range(5)]
    sizes = [
        [len(some) for some in together(cases, *how)] for how in ((2,), (9,), (9, 640), (9, 1))
    ]
    assert sizes == [[2, 2, 1], [5], [2, 2, 1], [1] * 5]


def test_modalities_without_a_place_are_counted(tmp_path, capsys):
    where = np.diag([-1.0, -1.0, 2.0, 1.0])
    where[:3, 3] = (5, 6, 7)
    values = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    image = save_volume(tmp_path / "a.nii.gz", values, where)
    more = save_volume(tmp_path / "b.nii.gz", values, np.eye(4))
    cases = [Case("a", image, "", more=(more,), roi=save_volume(tmp_path / "r.nii", values, where))]
    assert readable(cases, False, VOLUMES) == cases
    said = "1 of 2 further modalities and regions has another affine than their image and is taken"
    assert said in capsys.readouterr().err


def test_a_series_is_named_by_its_folder_by_a_file_or_by_a_folder_above(tmp_path, monkeypatch):
    monkeypatch.setenv("WEAKSEG_DICOM_KEY", str(tmp_path / "key"))
    tree = tmp_path / "tree"
    first = dicom_files.save_series(tree / "a", dicom_files.slices(dicom_files.voxels(3)))
    second = dicom_files.save_series(tree / "b", dicom_files.slices(dicom_files.voxels(3)), "{}")
    frames = dicom_files.enhanced(dicom_files.voxels(3))
    enhanced = dicom_files.save(tree / "c" / "frames.dcm", frames)
    dicom_files.save(tree / "report", dicom_files.header(dicom_files.SR))
    out = tmp_path / "out"
    for given, expected in {
        tree: [enhanced, first, second],
        first: [first],
        next(first.iterdir()): [first],
        enhanced: [enhanced],
    }.items():
        found = collect_inputs([given], out, VOLUMES)
        assert sorted(c.image for c in found) == sorted(expected)
    assert len(collect_inputs(sorted(first.iterdir()), out, VOLUMES)) == 1
    slices = collect_inputs([tree / "a"], out)
    assert [c.image.name for c in slices] == ["00.dcm", "01.dcm", "02.dcm"]
    telling = (tmp_path / dicom_files.NAME).absolute()
    first.rename(telling)
    (case,) = collect_inputs([telling], out, VOLUMES)
    assert case.image == telling
    assert len(case.id) == 16
    assert case.shown == str(tmp_path / "(withheld)")


def test_a_volume_that_is_named_itself_and_by_slices_is_one_and_whole(tmp_path, monkeypatch):
    for name in ("a", "b", "in/c"):
        save_volume(tmp_path / f"{name}.nii.gz", np.ones((3, 4, 5), np.int16))
    table = tmp_path / "slices.csv"
    table.write_text("image,slice\na.nii.gz,1\nb.nii.gz,2\nin/c.nii.gz,3\n")
    monkeypatch.chdir(tmp_path)  # one path is relative, the other is not
    inputs = [table, Path("a.nii.gz"), Path("in")]
    cases = collect_inputs(inputs, tmp_path / "out", VOLUMES)
    assert sorted(c.image.name for c in cases) == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]
    named = slices_named(inputs)
    found = {c.image.name: [s.slice for s in slices_of(c, named)] for c in cases}
    assert found == {"a.nii.gz": [0, 1, 2, 3, 4], "b.nii.gz": [2], "c.nii.gz": [0, 1, 2, 3, 4]}


def test_a_package_that_lacks_for_segmentations_is_told_before_anything_is_read(
    tmp_path, monkeypatch
):
    from weakseg.predicting import predict as module

    def lacks():
        raise UserError("highdicom is not installed")

    monkeypatch.setattr(module, "refuse_without_highdicom", lacks)
    with pytest.raises(UserError, match="highdicom is not installed"):
        module.predict(tmp_path / "no run", [tmp_path], tmp_path / "out", dicom_seg=True)


def linked(tmp_path):
    """A folder that holds a link to another, one to itself, and one that leads nowhere."""
    save(tmp_path / "elsewhere/in/a.png", noise(1))
    save(tmp_path / "set/own/b.png", noise(2))
    (tmp_path / "set/there").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/again").symlink_to(tmp_path / "elsewhere/in")
    (tmp_path / "set/loop").symlink_to(tmp_path / "set")
    (tmp_path / "set/an-own").symlink_to(tmp_path / "set/own")
    (tmp_path / "set/nowhere").symlink_to(tmp_path / "not-there")
    return tmp_path / "set"


def test_masks_may_go_into_a_folder_above_the_images(tmp_path, monkeypatch):
    save(tmp_path / "data/images/a.png", noise(1))
    save(tmp_path / "data/a.png", noise(2))  # the mask of an earlier call
    images = tmp_path / "data/images"
    for out in (tmp_path / "data", tmp_path):
        assert [c.image for c in collect_inputs([images], out)] == [images / "a.png"]
    monkeypatch.chdir(tmp_path)
    (case,) = collect_inputs([Path("data/images")], Path())
    assert case.image == Path("data/images/a.png")


def test_masks_below_the_images_are_no_images_whatever_leads_to_them(tmp_path):
    save(tmp_path / "set/a.png", noise(1))
    save(tmp_path / "set/out/a.png", noise(2))
    save(tmp_path / "set/out/overlays/a.png", noise(2))
    save(tmp_path / "away/a.png", noise(2))
    (tmp_path / "set/link.png").symlink_to(tmp_path / "set/out/a.png")
    (tmp_path / "set/link").symlink_to(tmp_path / "set/out/overlays")
    (tmp_path / "set/there").symlink_to(tmp_path / "away")
    expected = {
        "set/out": ["a.png", "there/a.png"],
        "away": ["a.png", "link.png", "out/overlays/a.png"],  # the second is out/a.png
    }
    for out, names_of in expected.items():
        found = collect_inputs([tmp_path / "set"], tmp_path / out)
        below = sorted(c.image.relative_to(tmp_path / "set").as_posix() for c in found)
        assert below == names_of


def test_masks_among_the_images_of_a_folder_are_refused(tmp_path):
    save(tmp_path / "set/a.png", noise(1))
    (tmp_path / "link").symlink_to(tmp_path / "set")
    for out in ("set", "link", "set/../set"):
        with pytest.raises(UserError, match="would lie among the images") as e:
            collect_inputs([tmp_path / "set"], tmp_path / out)
        assert "fix: name another folder with --out" in e.value.render()
    # What is named itself is no folder whose masks a second call would take.
    assert names(collect_inputs([tmp_path / "set/a.png"], tmp_path / "set")) == ["a.png"]


def test_images_where_the_masks_go_are_left_out_and_that_is_said(tmp_path, capsys):
    for name in ("set/a.png", "set/images/b.png", "set/images/c.png"):
        save(tmp_path / name, noise(1))
    out = tmp_path / "set/images"
    assert names(collect_inputs([tmp_path / "set"], out)) == ["a.png"]
    assert "images: 2 images left out, as the masks go there" in capsys.readouterr().err
    (out / "predictions.csv").write_text("file,mask")  # the masks of an earlier call
    assert names(collect_inputs([tmp_path / "set"], out)) == ["a.png"]
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("name", [b"caf\xe9.png", b"caf\xe9/a.png"])
def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_made(name, tmp_path):
    bad = tmp_path / "set" / os.fsdecode(name)
    save(tmp_path / "set/first.png", noise(1))
    bad.parent.mkdir(exist_ok=True)
    bad.write_bytes((tmp_path / "set/first.png").read_bytes())
    for look in (
        lambda: collect_inputs([tmp_path / "set"], tmp_path / "out"),
        lambda: collect_inputs([bad], tmp_path / "out"),
        lambda: list_tree(tmp_path / "set"),
    ):
        with pytest.raises(DataError, match="name cannot be written") as e:
            look()
        said = e.value.render()
        assert r"caf\xe9" in said
        assert "found: a name that is not UTF-8" in said
        assert said.encode()
    bad.rename(tmp_path / "set/caf\u00e9.png")
    assert list_tree(tmp_path / "set").images == ("café.png", "first.png")
    assert len(collect_inputs([tmp_path / "set"], tmp_path / "out")) == 2


@pytest.mark.parametrize("index", ["12.5", "-1", "two"])
def test_a_slice_that_is_no_index_is_refused_and_a_blank_one_is_the_whole(index, tmp_path):
    for name in "ab":
        save_volume(tmp_path / f"{name}.nii.gz", np.ones((3, 4, 5), np.int16))
    table = tmp_path / "slices.csv"
    table.write_text(f"image,slice\na.nii.gz,1\nb.nii.gz,{index}\n")
    with pytest.raises(DataError, match=f"The slice '{index}' is no index") as e:
        slices_named([table])
    assert f"where: {table}, row 3\n" in e.value.render()
    table.write_text("image,slice\na.nii.gz,1.0\nb.nii.gz,\n")  # as pandas writes it
    assert slices_named([table]) == {tmp_path / "a.nii.gz": [1]}


def test_links_to_folders_are_followed_and_each_folder_is_listed_once(tmp_path):
    root = linked(tmp_path)
    found = [c.image for c in collect_inputs([root], tmp_path / "out")]
    assert found == [root / "again/a.png", root / "own/b.png"]
    assert list_tree(root).files == ("again/a.png", "nowhere", "own/b.png")
    assert list_tree(root, root).images == ("again/a.png", "own/b.png")
    assert list_tree(root, tmp_path / "elsewhere/in").images == ("own/b.png",)


def test_a_volume_in_a_linked_folder_is_whole_whatever_a_manifest_says(tmp_path):
    for name in ("far/a", "far/b", "away/c"):
        save_volume(tmp_path / f"{name}.nii.gz", np.ones((3, 4, 5), np.int16))
    table = tmp_path / "slices.csv"
    table.write_text("image,slice\nfar/a.nii.gz,1\naway/c.nii.gz,3\n")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/link").symlink_to(tmp_path / "far")
    assert list(slices_named([table])) == [tmp_path / "far/a.nii.gz", tmp_path / "away/c.nii.gz"]
    assert list(slices_named([table, tmp_path / "set"])) == [tmp_path / "away/c.nii.gz"]
    (tmp_path / "set/c.nii.gz").symlink_to(tmp_path / "away/c.nii.gz")
    assert slices_named([table, tmp_path / "set"]) == {}


def test_a_file_that_two_paths_lead_to_is_taken_as_it_was_named_first(tmp_path, capsys):
    first = save(tmp_path / "a.png", noise(1))
    link = tmp_path / "link.png"
    link.symlink_to(first)
    for named in ([first, link], [link, first], [link, first, link, tmp_path]):
        (case,) = collect_inputs(named, tmp_path / "out")
        assert case.image == named[0]
        assert "1 of 2 inputs are files, or links to files" in capsys.readouterr().err
    collect_inputs([first, first], tmp_path / "out")
    assert capsys.readouterr().err == ""


def test_what_is_named_beside_a_volume_counts_wherever_it_is_named(tmp_path):
    for name in ("a", "t2"):
        save_volume(tmp_path / f"{name}.nii.gz", np.ones((3, 4, 5), np.int16))
    table = tmp_path / "modalities.csv"
    table.write_text("image,image2\na.nii.gz,t2.nii.gz\n")
    for named in ([tmp_path / "a.nii.gz", table], [table, tmp_path / "a.nii.gz"]):
        (case,) = collect_inputs(named, tmp_path / "out", VOLUMES)
        assert case.more == (tmp_path / "t2.nii.gz",)


def test_a_row_without_an_image_is_refused_with_its_line(tmp_path):
    save(tmp_path / "a.png", noise(1))
    table = tmp_path / "labels.csv"
    table.write_text("image,label\na.png,x\n,y\n")
    with pytest.raises(DataError, match="row 3") as e:
        collect_inputs([table], tmp_path / "out")
    assert "a blank cell in 1 of 2 rows" in e.value.render()


def test_an_input_that_is_not_there_is_told_before_a_network_is_loaded(tmp_path):
    from weakseg.predicting import predict as module

    with pytest.raises(DataError, match="The input does not exist"):
        module.predict(tmp_path / "no run", [tmp_path / "none.png"], tmp_path / "out")
