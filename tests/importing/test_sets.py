"""Published sets, built small from their descriptions, from the command line to a manifest."""

from __future__ import annotations

import importlib.util
import shutil
import zlib

import numpy as np
import pytest

from tests.data.helpers import noise, save_volume
from tests.importing.trees import marked, mask, picture, table
from tests.tiny import read_rows, weakseg
from weakseg.config import load_config
from weakseg.data.images import read_image
from weakseg.data.truth import read_true_mask
from weakseg.importing.sets.registry import SETS


def bus_bra(root):
    rows = []
    for k in range(1, 5):
        for side in "lr":
            name = f"{k:04d}-{side}"
            picture(root / f"Images/bus_{name}.png", 10 * k + ord(side))
            mask(root / f"Masks/mask_{name}.png", at=k)
            pathology = "malignant" if k % 2 else "benign"
            rows.append([f"bus_{name}", k, "Cyst", pathology, 3, "GE", 32, 24, side, "[1,2,3,4]"])
    header = [
        "ID",
        "Case",
        "Histology",
        "Pathology",
        "BIRADS",
        "Device",
        "Width",
        "Height",
        "Side",
        "BBOX",
    ]
    table(root / "bus_data.csv", header, rows)
    return root


def test_bus_bra_names_patients_and_masks(tmp_path, capsys):
    raw, out = bus_bra(tmp_path / "BUSBRA"), tmp_path / "out"
    assert weakseg("import", "bus-bra", raw, "--out", out) == 0
    said = capsys.readouterr().out
    assert "every image has a lesion" in said
    rows = read_rows(out / "labels.csv")
    assert [r["label"] for r in rows] == ["malignant"] * 2 + ["benign"] * 2 + ["malignant"] * 2 + [
        "benign"
    ] * 2
    assert {r["patient"] for r in rows} == {f"case-{k}" for k in range(1, 5)}
    assert rows[0]["birads"] == "3"
    for r in rows:
        assert (out / r["image"]).name.removeprefix("bus_") in r["mask"]
        assert marked(out, r["mask"]) == 48
    source = (out / "SOURCE.txt").read_text()
    assert source in said
    assert "licence: CC BY 4.0" in source
    assert "cite: Gómez-Flores" in source


def test_what_is_there_is_not_overwritten_unless_forced(tmp_path, capsys):
    raw, out = bus_bra(tmp_path / "BUSBRA"), tmp_path / "out"
    out.mkdir()
    (out / "labels.csv").write_text("mine")
    assert weakseg("import", "bus-bra", raw, "--out", out) == 2
    assert "--force" in capsys.readouterr().err
    assert (out / "labels.csv").read_text() == "mine"
    assert weakseg("import", "bus-bra", raw, "--out", out, "--force") == 0
    assert (out / "labels.csv").read_text() != "mine"


@pytest.mark.parametrize("published", SETS, ids=lambda s: s.name)
def test_a_folder_without_the_set_is_refused_and_nothing_is_written(published, tmp_path, capsys):
    picture(tmp_path / "raw/a.png", 1)
    assert weakseg("import", published.name, tmp_path / "raw", "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "raw") in said
    assert "fix:" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("published", SETS, ids=lambda s: s.name)
def test_every_set_says_where_it_is_from_and_how_it_may_be_used(published):
    assert published.address.startswith("https://")
    assert published.licence
    assert "(20" in published.citation or ", 20" in published.citation


def test_an_answer_to_nothing_is_refused(tmp_path, capsys):
    raw, out = bus_bra(tmp_path / "BUSBRA"), tmp_path / "out"
    assert weakseg("import", "bus-bra", raw, "--out", out, "--answer", "colour=red") == 2
    assert "answers to healthy" in capsys.readouterr().err
    assert not (out / "labels.csv").exists()


CLASSES = {"gl": "glioma", "me": "meningioma", "pi": "pituitary", "no": "no_tumor"}


def brisc(root):
    number = 0
    for part, count in (("train", 6), ("test", 3)):
        for code, label in CLASSES.items():
            for _ in range(count):
                number += 1
                name = f"brisc2025_{part}_{number:05d}_{code}_ax_t1"
                picture(root / f"classification_task/{part}/{label}/{name}.jpg", number)
                if code != "no":
                    picture(root / f"segmentation_task/{part}/images/{name}.jpg", number)
                    mask(root / f"segmentation_task/{part}/masks/{name}.png")
    return root


def test_brisc_takes_each_image_once_with_its_mask(tmp_path, capsys):
    raw, out = brisc(tmp_path / "brisc2025"), tmp_path / "out"
    assert weakseg("import", "brisc", raw, "--out", out) == 0
    rows = read_rows(out / "labels.csv")
    assert len(rows) == 36
    for r in rows:
        assert f"/{r['label']}/" in r["image"]
        assert bool(r["mask"]) == (r["label"] != "no_tumor")
        assert r["plane"] == "ax"
        assert r["published_split"] in r["image"]
    assert "split" not in rows[0]
    config = load_config(out / "experiment.yaml")
    assert config.data.healthy_labels == ["no_tumor"]
    assert "no independent test" in capsys.readouterr().out
    assert weakseg("validate", out / "labels.csv") == 0


def bmad(root, masks="label"):
    for part in ("train", "valid", "test"):
        for side in ("good",) if part == "train" else ("good", "Ungood"):
            for p in range(4):
                for k in (60, 61):
                    number = {"train": 0, "valid": 10, "test": 13}[part] + p
                    name = f"{number:05d}_{k}.png"
                    folder = root / part / side
                    inner = folder if part == "train" else folder / "img"
                    picture(inner / name, zlib.crc32(f"{part}{side}{name}".encode()))
                    if part != "train":
                        mask(folder / masks / name, marked=side == "Ungood")
                        mask(folder / "bodymask" / name)
    return root


@pytest.mark.parametrize("masks", ["label", "anomaly_mask"])
def test_bmad_is_dealt_out_anew_by_patient(masks, tmp_path, capsys):
    raw, out = bmad(tmp_path / "data/Brain_AD", masks), tmp_path / "out"
    assert weakseg("import", "bmad", raw, "--out", out) == 0
    rows = read_rows(out / "labels.csv")
    assert len(rows) == 8 + 16 + 16
    for r in rows:
        side = "abnormal" if "/Ungood/" in r["image"] else "normal"
        assert r["label"] == side
        assert f"/{r['patient']}_" in r["image"]
        assert "bodymask" not in r["mask"]
        if r["mask"]:
            assert marked(out, r["mask"]) == (48 if side == "abnormal" else 0)
    assert "split" not in rows[0]
    assert load_config(out / "experiment.yaml").data.healthy_labels == ["normal"]
    assert "holds no abnormal image" in capsys.readouterr().out


def test_two_collections_of_bmad_at_once_are_refused(tmp_path, capsys):
    bmad(tmp_path / "data/Brain_AD")
    bmad(tmp_path / "data/Liver_AD")
    assert weakseg("import", "bmad", tmp_path / "data", "--out", tmp_path / "out") == 2
    assert "Brain_AD, Liver_AD" in capsys.readouterr().err


def brats(root, names, tails, enhancing):
    for k, name in enumerate(names):
        for c, tail in enumerate(tails):
            sep = "-" if "-" in name else "_"
            save_volume(root / name / f"{name}{sep}{tail}.nii.gz", noise(10 * k + c, (9, 9, 8)))
        values = np.zeros((9, 9, 8), np.uint8)
        values[2:6, 2:6, 2:4] = 2
        values[3:5, 3:5, 2] = 1
        values[4, 4, 2] = enhancing
        save_volume(root / name / f"{name}{sep}seg.nii.gz", values)
    return root


def test_brats_of_2023_whose_patients_come_twice(tmp_path):
    names = ["BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00002-000"]
    raw = brats(tmp_path / "raw", names, ("t1c", "t1n", "t2f", "t2w"), 3)
    out = tmp_path / "out"
    assert weakseg("import", "brats", raw, "--out", out, "--answer", "region=core") == 0
    rows = read_rows(out / "labels.csv")
    assert [r["patient"] for r in rows] == ["BraTS-GLI-00000"] * 2 + ["BraTS-GLI-00002"]
    assert rows[0]["image"].endswith("-t2f.nii.gz")
    assert load_config(out / "experiment.yaml").data.mask_rule == [1, 3]


def test_brats_of_2020_whose_enhancing_tumour_is_4(tmp_path, capsys):
    names = [f"BraTS20_Training_{k:03d}" for k in range(1, 5)]
    raw = brats(tmp_path / "raw", names, ("flair", "t1", "t1ce", "t2"), 4)
    out = tmp_path / "out"
    assert weakseg("import", "brats", raw, "--out", out, "--answer", "region=enhancing") == 0
    rows = read_rows(out / "labels.csv")
    assert [r["patient"] for r in rows] == names
    assert load_config(out / "experiment.yaml").data.mask_rule == [4]
    assert weakseg("import", "brats", raw, "--out", tmp_path / "b") == 0
    assert load_config(tmp_path / "b/experiment.yaml").data.mask_rule == "nonzero"
    assert "--answer region=VALUE" in capsys.readouterr().out


def test_cases_that_are_not_called_as_those_of_brats_are_told(tmp_path, capsys):
    raw = brats(tmp_path / "raw", ["BraTS20_Training_001", "BraTS_odd"], ("flair", "t1"), 4)
    (raw / "BraTS_odd").rename(raw / "odd")
    for f in (raw / "odd").iterdir():
        f.rename(f.with_name(f.name.replace("BraTS_odd", "BraTSodd")))
    assert weakseg("import", "brats", raw, "--out", tmp_path / "out") == 0
    assert len(read_rows(tmp_path / "out/labels.csv")) == 1
    assert "1 case of other names is left out: BraTSodd_flair.nii.gz" in capsys.readouterr().out
    shutil.rmtree(raw / "BraTS20_Training_001")
    assert weakseg("import", "brats", raw, "--out", tmp_path / "b") == 2
    assert "No case is called as those of BraTS are" in capsys.readouterr().err


def cbis(root):
    header = ["patient_id", "breast_density", "left or right breast", "image view"]
    header += ["abnormality id", "pathology", "image file path", "ROI mask file path"]
    tables = {}
    for kind, split in (("mass", "train"), ("calc", "test")):
        rows = []
        for p in range(3):
            whole = f"1.2.{kind == 'mass':d}{p}"
            picture(root / f"jpeg/{whole}/1-1.jpg", 10 * p + len(kind), (40, 30))
            for a in range(2 if p == 0 else 1):
                series = f"1.3.{kind == 'mass':d}{p}{a}"
                picture(root / f"jpeg/{series}/1-1.jpg", 7, (12, 10))  # the cropped image
                mask(root / f"jpeg/{series}/2-1.jpg", shape=(40, 30), at=4 + 10 * a)
                case = f"{kind.title()}-{split}_P_{p:05d}_LEFT_CC"
                pathology = ("BENIGN_WITHOUT_CALLBACK", "MALIGNANT")[a or p % 2]
                files = [f"{case}/9.9/{whole}/0.dcm", f"{case}_{a + 1}/9.9/{series}/1.dcm\n"]
                rows.append([f"P_{p:05d}", 3, "LEFT", "CC", a + 1, pathology, *files])
        tables[f"{kind}_case_description_{split}_set.csv"] = rows
    for name, rows in tables.items():
        table(root / "csv" / name, header, rows)
    return root


def test_cbis_ddsm_joins_the_masks_of_a_mammogram(tmp_path, capsys):
    raw, out = cbis(tmp_path / "cbis"), tmp_path / "out"
    assert weakseg("import", "cbis-ddsm", raw, "--out", out, "--answer", "split=anew") == 0
    rows = read_rows(out / "labels.csv")
    assert len(rows) == 6
    assert [r["label"] for r in rows[:3]] == ["malignant", "malignant", "benign"]
    masks = rows[0]["mask"].split(";")
    assert [m[-7:] for m in masks] == ["2-1.jpg"] * 2
    assert {r["patient"] for r in rows} == {"P_00000", "P_00001", "P_00002"}
    assert {r["abnormality"] for r in rows} == {"mass", "calc"}
    assert "6 mammograms, of 8 abnormalities" in capsys.readouterr().out


def figshare(root, **wrong):
    h5py = pytest.importorskip("h5py")
    root.mkdir()
    rng = np.random.default_rng(3)
    held = {}
    for k in range(1, 5):
        image = rng.integers(0, 900, (40, 30)).astype(np.int16)
        marked_at = np.zeros((40, 30), np.uint8)
        marked_at[5:9, 20:23] = 1
        held[k] = image
        with h5py.File(root / f"{k}.mat", "w", userblock_size=512) as f:
            group = f.create_group("cjdata")
            group["image"] = wrong.get("image", image).T
            group["tumorMask"] = marked_at.T
            group["label"] = np.array([[float(wrong.get("label", 1 + k % 3))]])
            group["PID"] = np.array([[ord(c)] for c in f"10036{k // 2}"], np.uint16)
    with h5py.File(root / "cvind.mat", "w") as f:
        f["cvind"] = np.zeros(4)
    return held


def test_figshare_becomes_16_bit_pngs_the_right_way_round(tmp_path):
    held, out = figshare(tmp_path / "mat"), tmp_path / "out"
    assert weakseg("import", "figshare-brain", tmp_path / "mat", "--out", out) == 0
    rows = read_rows(out / "labels.csv")
    assert [r["label"] for r in rows] == ["glioma", "pituitary", "meningioma", "glioma"]
    assert [r["patient"] for r in rows] == ["100360", "100361", "100361", "100362"]
    for k, r in enumerate(rows, start=1):
        np.testing.assert_array_equal(read_image(out / r["image"]), held[k])
        mask = read_true_mask(out / r["mask"])
        assert mask[5:9, 20:23].all()
        assert mask.sum() == 12


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"label": 7}, "expected: 1 (meningioma)"),
        ({"image": np.zeros((2, 3, 4))}, "an array of the shape"),
    ],
)
def test_a_file_that_is_none_of_figshare_is_refused(wrong, said, tmp_path, capsys):
    figshare(tmp_path / "mat", **wrong)
    out = tmp_path / "out"
    assert weakseg("import", "figshare-brain", tmp_path / "mat", "--out", out) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_without_h5py_the_command_that_brings_it_is_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "mat").mkdir()
    (tmp_path / "mat/1.mat").write_bytes(b"MATLAB 7.3")
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "h5py" else there(n, *a)
    )
    out = tmp_path / "out"
    assert weakseg("import", "figshare-brain", tmp_path / "mat", "--out", out) == 2
    assert "pip install 'weakseg[matlab]'" in capsys.readouterr().err


def test_a_damaged_mat_file_is_refused(tmp_path, capsys):
    pytest.importorskip("h5py")
    (tmp_path / "mat").mkdir()
    (tmp_path / "mat/1.mat").write_bytes(b"MATLAB 7.3 MAT-file" + bytes(600))
    out = tmp_path / "out"
    assert weakseg("import", "figshare-brain", tmp_path / "mat", "--out", out) == 2
    assert "MATLAB v7.3 (HDF5) with cjdata" in capsys.readouterr().err
