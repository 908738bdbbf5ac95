"""`weakseg import dicom` on a tree as hospitals export them: what is written, and what never is."""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import stat
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pytest

from tests import dicom_files as made
from tests.dicom_files import TELLING, save, save_series, slices, voxels, with_pixels
from weakseg.cli import main
from weakseg.data.formats.reading import read_frame
from weakseg.data.pseudonyms import read_pseudonyms
from weakseg.data.volumes import read_volume
from weakseg.errors import UserError


def study(folder: Path) -> Path:
    """A CT, two echoes of an MR, a film, a radiograph, and what is no image, all in one tree."""
    whole = folder / f"{made.NAME} {made.BIRTH}"
    save_series(whole / "ct", slices(voxels(), intercept=-1024), "IM{:04}")
    echoes = slices(voxels(5), kind=made.MR, series=2)
    later = slices(voxels(5, seed=2), kind=made.MR, series=2)
    for k, data in enumerate(echoes + later):
        data.EchoTime, data.SOPInstanceUID = 10 + 10 * (k // 5), f"{made.ROOT}.4.2.{k}"
    save_series(whole / "mr", echoes + later, "{:02}")
    film = np.random.default_rng(3).integers(0, 256, (3, 14, 12, 3)).astype(np.uint8)
    data = with_pixels(made.header(made.US, series=3), film[0])
    data.NumberOfFrames, data.PixelData = 3, film.tobytes()
    data.BurnedInAnnotation = "YES"
    save(whole / "film", data)
    ramp = np.arange(120, dtype=np.uint16).reshape(12, 10) * 30
    radiograph = with_pixels(made.header(made.CR, series=4), ramp, "MONOCHROME1")
    radiograph.WindowCenter, radiograph.WindowWidth = 1800, 3000
    save(whole / made.PATIENT / "cr.dcm", radiograph)
    save(whole / "report", made.header(made.SR, series=5))
    scout = with_pixels(made.header(series=6), voxels(1)[0])
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    save(whole / "scout", scout)
    gap = slices(voxels(), series=7)
    save_series(whole / "gap", gap[:3] + gap[4:], "{}")
    (whole / f"{made.NAME}.pdf").write_bytes(b"%PDF-1.4 Ottilie")
    return folder


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> tuple[Path, Path, Path]:
    """The tree, the output and the owner's folder."""
    root = tmp_path_factory.mktemp("import")
    owner = root / "owner"
    tree, out = study(root / "export"), root / "out"
    call(tree, "--out", out, "--key", owner / "key", "--who", owner / "who.csv")
    return tree, out, owner


def call(*arguments: object) -> None:
    with pytest.raises(SystemExit) as e:
        main(["import", "dicom", *map(str, arguments)])
    assert not e.value.code


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def telling_in(folder: Path) -> list[tuple[str, str]]:
    """Files of a folder whose name or content holds a piece of what tells who."""
    found = []
    for file in folder.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        if file.name.endswith(".gz"):
            content += nib.load(file).to_bytes()
        found += [(file.name, w) for w in TELLING if w.encode() in content or w in file.name]
    return found


def test_volumes_hold_the_values_and_the_place_of_their_series(imported):
    tree, out, _ = imported
    listed = rows(out / "labels-volumes.csv")
    assert len(listed) == 3
    assert {r["label"] for r in listed} == {""}
    ct = [r for r in listed if r["modality"] == "CT"]
    volume = out / ct[0]["image"]
    series = next(tree.rglob("ct"))
    np.testing.assert_array_equal(read_volume(volume).values, read_volume(series).values)
    assert nib.load(volume).get_data_dtype() == np.int16
    np.testing.assert_allclose(read_frame(volume).affine, read_frame(series).affine, atol=1e-3)
    echoes = [read_volume(out / r["image"]).values for r in listed if r["modality"] == "MR"]
    expected = [voxels(5).transpose(2, 1, 0), voxels(5, seed=2).transpose(2, 1, 0)]
    assert sorted(e.sum() for e in echoes) == sorted(e.sum() for e in expected)


def test_films_and_radiographs_are_pictures_as_they_are_shown(imported):
    _, out, _ = imported
    listed = rows(out / "labels-images.csv")
    assert [r["modality"] for r in sorted(listed, key=lambda r: r["modality"])] == [
        "CR",
        *["US"] * 3,
    ]
    film = sorted(r["image"] for r in listed if r["modality"] == "US")
    frames = np.random.default_rng(3).integers(0, 256, (3, 14, 12, 3)).astype(np.uint8)
    for name, frame in zip(film, frames, strict=True):
        np.testing.assert_array_equal(cv2.imread(str(out / name))[..., ::-1], frame)
    (radiograph,) = (r["image"] for r in listed if r["modality"] == "CR")
    shown = cv2.imread(str(out / radiograph), cv2.IMREAD_UNCHANGED)
    assert shown.dtype == np.uint16
    assert shown[0, 0] == 65535
    assert shown[-1, -1] == 0


def test_what_is_not_imported_is_listed_with_its_reason(imported):
    _, out, owner = imported
    why = {r["why"].partition(" (")[0]: r["files"] for r in rows(out / "not-imported.csv")}
    assert why == {
        "a structured report": "1",
        "a localiser": "1",
        "no DICOM file": "1",
        "The series lacks 1 slice": "8",
    }
    told = {r["not imported"] for r in rows(owner / "who.csv")}
    assert {"", "a localiser", "no DICOM file"} <= told


def test_nothing_tells_who_a_patient_is(imported, capfd, tmp_path):
    tree, out, owner = imported
    assert telling_in(out) == []
    assert len(telling_in(tree)) > 20  # what is looked for is there
    call(tree, "--out", tmp_path / "out", "--key", owner / "key")
    printed = "".join(capfd.readouterr())
    assert "3 volumes and 4 images of 1 patient in" in printed
    assert "3 files say that text is burned into their pixels" in printed
    assert not [w for w in TELLING if w in printed.replace(str(tree), "")]


def test_the_same_key_gives_the_same_names_and_another_others(imported, tmp_path):
    tree, out, owner = imported
    call(tree, "--out", tmp_path / "again", "--key", owner / "key")
    call(tree, "--out", tmp_path / "other", "--key", tmp_path / "key")

    def patients(folder: Path) -> set[str]:
        return {r["patient"] for r in rows(folder / "labels-volumes.csv")}

    assert patients(out) == patients(tmp_path / "again") != patients(tmp_path / "other")
    names = [sorted(f.name for f in folder.rglob("*.*")) for folder in (out, tmp_path / "again")]
    assert names[0] == names[1]


def test_key_and_table_are_for_their_owner_alone(imported):
    _, out, owner = imported
    for name in ("key", "who.csv"):
        assert stat.S_IMODE((owner / name).stat().st_mode) == 0o600
    (patient,) = {r["patient"] for r in rows(owner / "who.csv") if r["PatientID"]}
    assert {r["PatientID"] for r in rows(owner / "who.csv")} == {made.PATIENT, ""}
    assert {r["patient"] for r in rows(out / "labels-volumes.csv")} == {patient}


def test_a_table_that_others_could_read_is_theirs_no_more_once_it_is_written_anew(
    imported, tmp_path
):
    tree, _, owner = imported
    who = tmp_path / "who.csv"
    who.write_text("old")
    who.chmod(0o644)
    with who.open() as read_on:
        ct = next(tree.rglob("ct"))
        call(ct, "--out", tmp_path / "o", "--key", owner / "key", "--who", who, "--force")
        assert read_on.read() == "old"
    assert stat.S_IMODE(who.stat().st_mode) == 0o600
    assert made.PATIENT in who.read_text()
    assert [p.name for p in tmp_path.iterdir() if "who" in p.name] == ["who.csv"]


def test_a_patient_is_one_with_and_without_the_issuer_of_the_number(imported, tmp_path, capsys):
    _, _, owner = imported
    for series, issuer in ((1, None), (2, "HOSP")):
        told = {} if issuer is None else {"IssuerOfPatientID": issuer}
        save_series(tmp_path / f"in/{series}", slices(voxels(), series=series, **told))
    call(tmp_path / "in", "--out", tmp_path / "o", "--key", owner / "key")
    assert len({r["patient"] for r in rows(tmp_path / "o/labels.csv")}) == 1
    assert "several issuers" not in capsys.readouterr().out
    other = slices(voxels(), series=3, IssuerOfPatientID="ELSEWHERE")
    save_series(tmp_path / "in/3", other)
    call(tmp_path / "in", "--out", tmp_path / "p", "--key", owner / "key")
    assert len({r["patient"] for r in rows(tmp_path / "p/labels.csv")}) == 1
    told_of = capsys.readouterr().out
    assert "1 patients' numbers come from several issuers" in told_of
    assert "ELSEWHERE" not in told_of


def test_spacings_that_are_rounded_otherwise_are_of_one_volume(imported, tmp_path):
    _, _, owner = imported
    series = slices(voxels())
    for k, data in enumerate(series):  # either side of where two decimals part
        data.PixelSpacing = ["0.8", "0.70499" if k % 2 else "0.70501"]
    save_series(tmp_path / "in", series)
    call(tmp_path / "in", "--out", tmp_path / "o", "--key", owner / "key")
    (only,) = rows(tmp_path / "o/labels.csv")
    assert read_frame(tmp_path / "o" / only["image"]).shape == (10, 12, 9)
    for data in series[:4]:
        data.PixelSpacing = ["0.8", "0.9"]
    save_series(tmp_path / "two", series)
    call(tmp_path / "two", "--out", tmp_path / "p", "--key", owner / "key")
    assert len(rows(tmp_path / "p/labels.csv")) == 2


def test_hashes_are_those_of_hmac(tmp_path):
    (tmp_path / "key").write_text("0b" * 32)
    (tmp_path / "key").chmod(0o600)
    names = read_pseudonyms(tmp_path / "key")
    digest = hmac.digest(b"\x0b" * 32, b"patient\0\0MRN-1", hashlib.sha256).hex()
    assert names.of("patient", "", "MRN-1") == digest[:16]


def test_slices_become_pictures_where_that_is_asked_for(imported, tmp_path):
    tree, _, owner = imported
    ct = next(tree.rglob("ct"))
    call(ct, "--out", tmp_path, "--key", owner / "key", "--as-images", "--window=-1024,976")
    listed = rows(tmp_path / "labels.csv")
    assert len(listed) == 9
    for k, row in enumerate(sorted(listed, key=lambda r: r["image"])):
        shown = cv2.imread(str(tmp_path / row["image"]), cv2.IMREAD_UNCHANGED)
        share = np.clip((voxels()[k] - 1024.0 + 1024) / 2000, 0, 1)
        np.testing.assert_array_equal(shown, np.rint(share * 65535))
        assert f"-{k + 1:04}-" in row["image"]


def test_the_manifest_is_ready_once_it_has_labels(imported, tmp_path, capsys):
    tree, _, owner = imported
    ct, echoes = next(tree.rglob("ct")), next(tree.rglob("mr"))
    call(ct, echoes, "--out", tmp_path, "--key", owner / "key")
    text = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text(text.replace("nii.gz,,", "nii.gz,tumour,"))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["validate", str(tmp_path / "labels.csv"), "--json"])
    problems = json.loads(capsys.readouterr().out)
    errors = {p["kind"] for p in problems if p["severity"] == "error"}
    assert errors == {"class-few-patients", "image-small"}  # one patient, and volumes of 5 slices


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("TREE", "--out", "OUT"), "holds labels-volumes.csv and labels-images.csv already"),
        (("TREE", "--out", "TREE/new"), "lies in the folder that is imported"),
        (("TREE", "--out", "NEW", "--key", "NEW/key"), "must not lie beside what it protects"),
        (("TREE", "--out", "NEW", "--who", "NEW/who.csv"), "must not lie in the output"),
        (("TREE", "--out", "NEW", "--window", "5"), "--window is not understood"),
        (("NONE", "--out", "NEW"), "does not exist"),
        (("EMPTY", "--out", "NEW"), "holds no DICOM image"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(
    imported, tmp_path, capsys, arguments, said
):
    tree, out, owner = imported
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("a")
    places = {"TREE": tree, "OUT": out, "NEW": tmp_path / "new", "NONE": tmp_path / "none"}
    places["EMPTY"] = tmp_path / "empty"
    filled = list(arguments)
    for name, place in places.items():
        filled = [a.replace(name, str(place)) for a in filled]
    if "--key" not in filled:
        filled += ["--key", str(owner / "key")]
    with pytest.raises(SystemExit) as e:
        main(["import", "dicom", *filled])
    assert e.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_keys_that_others_may_read_and_files_that_are_none_are_refused(tmp_path):
    key = tmp_path / "key"
    read_pseudonyms(key)
    key.chmod(0o644)
    with pytest.raises(UserError, match="read by others") as e:
        read_pseudonyms(key)
    assert e.value.fix == f"chmod 600 {key}"
    key.write_text("abc")
    key.chmod(0o600)
    with pytest.raises(UserError, match="holds no key"):
        read_pseudonyms(key)
    with pytest.raises(UserError, match="cannot be read or written"):
        read_pseudonyms(key / "below")


def test_the_key_s_usual_place_is_the_user_s_own(tmp_path, monkeypatch):
    monkeypatch.delenv("WEAKSEG_DICOM_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    first = read_pseudonyms()
    file = tmp_path / "weakseg" / "dicom.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_pseudonyms() == first
    monkeypatch.setenv("WEAKSEG_DICOM_KEY", str(tmp_path / "other"))
    assert read_pseudonyms() != first


@pytest.mark.parametrize("number", ["", f"{made.ROOT}.2.1"])
def test_series_of_two_studies_without_a_number_of_their_own_are_two_volumes(tmp_path, number):
    """As anonymisers leave them."""
    for k in range(2):
        some = slices(voxels(seed=k))
        for n, data in enumerate(some):
            data.StudyInstanceUID, data.SeriesInstanceUID = f"{made.ROOT}.1.{k}", number
            data.SOPInstanceUID = f"{made.ROOT}.4.{k}.{n}"
        save_series(tmp_path / f"export/{k}", some, "{}")
    call(tmp_path / "export", "--out", tmp_path / "out", "--key", tmp_path / "key")
    listed = rows(tmp_path / "out/labels.csv")
    assert len({r["image"] for r in listed}) == len({r["series"] for r in listed}) == 2
    held = [read_volume(tmp_path / "out" / r["image"]).values for r in listed]
    assert not np.array_equal(*held)


def test_what_is_not_imported_tells_no_patient_of_the_set(tmp_path, capsys):
    save_series(tmp_path / "export/ct", slices(voxels()), "{}")
    nobody = {"PatientID": "", "PatientName": "", "PatientBirthDate": ""}
    save(tmp_path / "export/report", made.header(made.SR, series=5, **nobody))
    call(tmp_path / "export", "--out", tmp_path / "out", "--key", tmp_path / "key")
    said = capsys.readouterr().out
    assert "1 volume of 1 patient" in said
    assert "tell no patient" not in said
