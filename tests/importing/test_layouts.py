"""Layouts of published sets, built small from their descriptions, from `init` to a manifest."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.data.helpers import blob, noise, save, save_volume
from tests.importing.test_init import init
from tests.importing.trees import marked, mask, picture, seed_of, table
from tests.test_commands import parse
from tests.tiny import weakseg
from weakseg.importing.answers import Answers
from weakseg.importing.layouts.isic import ISIC
from weakseg.importing.layouts.registry import LAYOUTS
from weakseg.importing.layouts.table import TABLE
from weakseg.importing.sets.registry import SETS
from weakseg.importing.tree import list_tree


def refused(root, out, capsys, *more):
    assert weakseg("init", root, "--out", out, *more) == 2
    assert not out.exists()
    return capsys.readouterr().err


# --- chest radiographs


def chestxray14(root, patients=8):
    """Wang et al. 2017: PNGs in images_001/images, findings joined by |."""
    rows, lists = [], {"train_val_list.txt": [], "test_list.txt": []}
    findings = ["No Finding", "Mass|Nodule", "Cardiomegaly", "No Finding"]
    for p in range(1, patients + 1):
        for k, finding in enumerate(findings):
            name = f"{p:08d}_{k:03d}.png"
            picture(root / f"images_{1 + p % 2:03d}/images/{name}", seed_of(name), (40, 40))
            rows.append([name, finding, k, p, 50, "M", "PA", 40, 40, 0.1, 0.1])
            lists["test_list.txt" if p > patients - 3 else "train_val_list.txt"].append(name)
    rows.append(["99999999_000.png", "Hernia", 0, 99, 50, "M", "PA", 40, 40, 0.1, 0.1])
    header = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age"]
    header += ["Patient Gender", "View Position", "OriginalImage[Width", "Height]"]
    header += ["OriginalImagePixelSpacing[x", "y]"]
    table(root / "Data_Entry_2017_v2020.csv", header, rows)
    for name, files in lists.items():
        (root / name).write_text("\n".join(files))
    return root


def test_chestxray14_with_any_finding_as_the_lesion(tmp_path, capsys):
    root = chestxray14(tmp_path / "nih", 20)
    rows, config = init(root, tmp_path / "out")
    assert [r["label"] for r in rows[:4]] == ["No Finding", "finding", "finding", "No Finding"]
    assert rows[1]["all_findings"] == "Mass|Nodule"
    assert rows[0]["patient"] == "1"
    assert config.data.healthy_labels == ["No Finding"]
    tests = {r["patient"] for r in rows if r["split"] == "test"}
    assert tests == {"18", "19", "20"}
    assert len({(r["patient"], r["split"]) for r in rows}) == 20
    assert {r["split"] for r in rows} == {"train", "val", "test"}
    said = capsys.readouterr().out
    assert "80 of 81 images are there" in said
    assert "its parts share no patient; it has no validation images" in said


def test_chestxray14_with_one_finding_as_the_lesion(tmp_path, capsys):
    root = chestxray14(tmp_path / "nih")
    rows, config = init(
        root, tmp_path / "out", "--answer", "finding=Nodule", "--answer", "split=anew"
    )
    assert [r["label"] for r in rows[:4]] == ["no Nodule", "Nodule", "no Nodule", "no Nodule"]
    assert config.data.healthy_labels == ["no Nodule"]
    assert "split" not in rows[0]
    assert weakseg("validate", tmp_path / "out/labels.csv", "--healthy", "no Nodule") == 0
    said = refused(root, tmp_path / "b", capsys, "--answer", "finding=Noodle")
    assert "did you mean 'Nodule'?" in said


def test_a_table_without_rows_is_refused(tmp_path, capsys):
    chestxray14(tmp_path / "set", patients=1)
    path = tmp_path / "set/Data_Entry_2017_v2020.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert "0 rows of Data_Entry_2017_v2020.csv" in refused(
        tmp_path / "set", tmp_path / "out", capsys
    )


def test_a_table_without_its_images_is_refused(tmp_path, capsys):
    root = tmp_path / "nih"
    table(
        root / "Data_Entry_2017.csv",
        ["Image Index", "Finding Labels", "Patient ID"],
        [["a.png", "Mass", 1]],
    )
    assert "unpack the archives" in refused(root, tmp_path / "out", capsys)
    table(root / "Data_Entry_2017.csv", ["Image", "Finding Labels", "Patient ID"], [["a", "b", 1]])
    assert "no column 'Image Index'" in refused(root, tmp_path / "out", capsys)


CHEXPERT = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", "Cardiomegaly"]
CHEXPERT += ["Edema", "Support Devices"]


def chexpert(root):
    """Irvin et al. 2019: 1, 0, -1 or blank a finding."""
    rows = []
    said = [["1.0", "", "", "1.0"], ["", "1.0", "", ""], ["", "-1.0", "0.0", ""], ["", "", "", ""]]
    for p in range(1, 13):
        for view in ("view1_frontal", "view2_lateral"):
            part = "valid" if p > 10 else "train"
            path = f"{part}/patient{p:05d}/study1/{view}.jpg"
            picture(root / path, seed_of(path), (40, 40))
            side = "Frontal" if "frontal" in view else "Lateral"
            rows.append([f"CheXpert-v1.0-small/{path}", "M", 60, side, "AP", *said[p % 4]])
    table(root / "train.csv", CHEXPERT, rows[:20])
    table(root / "valid.csv", CHEXPERT, rows[20:])
    return root


def test_chexpert_leaves_uncertain_and_lateral_images_out(tmp_path, capsys):
    rows, config = init(chexpert(tmp_path / "CheXpert-v1.0-small"), tmp_path / "out")
    assert len(rows) == 12
    by = {r["patient"]: r["label"] for r in rows}
    assert [by[f"patient{p:05d}"] for p in range(1, 5)] == [
        "finding",
        "uncertain",
        "uncertain",
        "No Finding",
    ]
    assert config.data.drop_labels == ["uncertain"]
    assert config.data.healthy_labels == ["No Finding"]
    assert {r["published_split"] for r in rows} == {"train", "val"}
    assert "split" not in rows[0]
    assert "12 lateral views are left out" in capsys.readouterr().out


def test_chexpert_with_one_finding(tmp_path):
    rows, config = init(
        chexpert(tmp_path / "x"), tmp_path / "out", "--answer", "finding=Cardiomegaly"
    )
    by = {r["patient"]: r["label"] for r in rows}
    assert [by[f"patient{p:05d}"] for p in range(1, 5)] == [
        "Cardiomegaly",
        "uncertain",
        "no Cardiomegaly",
        "no Cardiomegaly",
    ]
    assert config.data.healthy_labels == ["no Cardiomegaly"]


# --- dermatoscopy


def isic2018(root):
    one_of = ["MEL", "NV", "BCC"]
    rows, groups = [], []
    for k in range(12):
        name = f"ISIC_{k:07d}"
        picture(root / f"ISIC2018_Task3_Training_Input/{name}.jpg", k, (30, 40, 3))
        rows.append([name, *(f"{float(k % 3 == c)}" for c in range(3))])
        groups.append([name, f"HAM_{k // 2:07d}", "histopathology"])
    folder = root / "ISIC2018_Task3_Training_GroundTruth"
    table(folder / "ISIC2018_Task3_Training_GroundTruth.csv", ["image", *one_of], rows)
    header = ["image", "lesion_id", "diagnosis_confirm_type"]
    table(root / "ISIC2018_Task3_Training_LesionGroupings.csv", header, groups)
    return root


def test_isic_2018_with_a_column_a_diagnosis(tmp_path, capsys):
    rows, config = init(isic2018(tmp_path / "isic"), tmp_path / "out", "--answer", "healthy=NV")
    assert [r["label"] for r in rows[:3]] == ["MEL", "NV", "BCC"]
    assert rows[1]["patient"] == rows[0]["patient"] == "HAM_0000000"
    assert config.data.healthy_labels == ["NV"]
    assert weakseg("init", tmp_path / "isic", "--out", tmp_path / "b") == 0
    assert "every image has a lesion" in capsys.readouterr().out


def test_ham10000_with_its_diagnosis_in_a_column(tmp_path):
    root = tmp_path / "ham"
    rows = []
    for k in range(6):
        picture(root / f"HAM10000_images_part_{1 + k % 2}/ISIC_{k:07d}.jpg", k, (30, 40, 3))
        rows.append([f"HAM_{k // 2:07d}", f"ISIC_{k:07d}", "mel" if k % 2 else "nv", "histo", 40])
    table(root / "HAM10000_metadata.csv", ["lesion_id", "image_id", "dx", "dx_type", "age"], rows)
    rows, _ = init(root, tmp_path / "out", "--answer", "healthy=nv")
    assert [r["label"] for r in rows] == ["nv", "mel"] * 3
    assert [r["patient"] for r in rows] == [f"HAM_{k // 2:07d}" for k in range(6)]


def test_isic_images_of_one_name_are_told_apart_by_their_ending_or_refused(tmp_path, capsys):
    root = isic2018(tmp_path / "isic")
    twin = root / "ISIC2018_Task3_Test_Input/ISIC_0000003.png"
    picture(twin, 99, (30, 40, 3))
    assert weakseg("init", root, "--out", tmp_path / "a", "--answer", "healthy=NV") == 2
    said = capsys.readouterr().err
    assert "Several images have the name" in said
    assert "ISIC_0000003" in said
    table_of = next(root.rglob("ISIC2018_Task3_Training_GroundTruth.csv"))
    text = table_of.read_text().replace("ISIC_0000003", "ISIC_0000003.jpg")
    table_of.write_text(text)
    rows, _ = init(root, tmp_path / "b", "--answer", "healthy=NV")
    assert next(r["image"] for r in rows if "0000003" in r["image"]).endswith(".jpg")


def test_isic_2017_whose_rest_is_another_diagnosis(tmp_path):
    root = tmp_path / "isic"
    rows = []
    for k, (a, b) in enumerate([(1, 0), (0, 1), (0, 0)] * 2):
        picture(root / f"ISIC-2017_Training_Data/ISIC_{k:07d}.jpg", k, (30, 40, 3))
        rows.append([f"ISIC_{k:07d}", f"{a}.0", f"{b}.0"])
    header = ["image_id", "melanoma", "seborrheic_keratosis"]
    table(root / "ISIC-2017_Training_Part3_GroundTruth.csv", header, rows)
    rows, _ = init(root, tmp_path / "out", "--answer", "healthy=other")
    assert [r["label"] for r in rows] == ["melanoma", "seborrheic_keratosis", "other"] * 2


def read_isic(root, *tables):
    """Image → its patient, of tables with a header and a row an image; and what is said."""
    for k in range(4):
        picture(root / f"IMG_{k}.jpg", k, (16, 16, 3))
    for n, (header, rows) in enumerate(tables):
        table(root / f"{n}.csv", header, rows)
    made = ISIC.read(list_tree(root), Answers())
    return {i.image.stem: i.patient for i in made.items}, made.found


@pytest.mark.parametrize("name", ["IMG_{}", "IMG_{}.jpg", "img_{}.JPG", "x/IMG_{}.jpeg"])
def test_isic_patients_however_the_table_writes_the_images(tmp_path, name):
    rows = [[name.format(k), f"P{k // 2}", "nevus"] for k in range(4)]
    patients, found = read_isic(tmp_path, (["image_name", "patient_id", "diagnosis"], rows))
    assert patients == {f"IMG_{k}": f"P{k // 2}" for k in range(4)}
    assert any("count as one patient" in f for f in found)


def test_isic_lesions_do_not_part_a_patient_s_images(tmp_path):
    diagnoses = [[f"IMG_{k}", "P0" if k < 3 else "", "nevus"] for k in range(4)]
    lesions = [[f"IMG_{k}", f"L{k // 2}"] for k in range(4)]
    header = ["image_name", "patient_id", "diagnosis"]
    patients, _ = read_isic(tmp_path, (header, diagnoses), (["image_name", "lesion_id"], lesions))
    # The fourth image's patient is not known, but its lesion is that of the third.
    assert patients == dict.fromkeys(patients, "P0")


def test_isic_without_patients_says_nothing_of_them(tmp_path):
    rows = [[f"IMG_{k}", "nevus"] for k in range(4)]
    others = [["IMG_77", "L1"]]
    header = ["image_name", "diagnosis"]
    patients, found = read_isic(tmp_path, (header, rows), (["image_name", "lesion_id"], others))
    assert set(patients.values()) == {""}
    assert not any("count as one patient" in f for f in found)


# --- one file with arrays


def medmnist(root, name="breastmnist", **more):
    rng = np.random.default_rng(1)
    arrays = {}
    for split, n in (("train", 8), ("val", 4), ("test", 6)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 28, 28)).astype(np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % 2).reshape(n, 1).astype(np.uint8)
    root.mkdir(parents=True)
    np.savez(root / f"{name}.npz", **(arrays | more))
    return arrays


def test_medmnist_becomes_pngs_with_its_splits_and_the_names_of_its_classes(tmp_path, capsys):
    arrays = medmnist(tmp_path / "set")
    rows, config = init(tmp_path / "set", tmp_path / "out")
    assert [r["split"] for r in rows] == ["train"] * 8 + ["val"] * 4 + ["test"] * 6
    assert [r["label"] for r in rows[:2]] == ["malignant", "normal, benign"]
    assert config.data.healthy_labels == ["normal, benign"]
    assert config.data.image_size == 64
    from PIL import Image

    for split, rank in (("train", 3), ("test", 5)):
        row = [r for r in rows if r["split"] == split][rank]
        held = np.asarray(Image.open(tmp_path / "out" / row["image"]))
        np.testing.assert_array_equal(held, arrays[f"{split}_images"][rank])
    assert "names no patients" in capsys.readouterr().out


def test_images_of_others_are_not_overwritten(tmp_path, capsys):
    medmnist(tmp_path / "set")
    mine = picture(tmp_path / "out/images/val_000002.png", 5)
    before = mine.read_bytes()
    assert weakseg("init", tmp_path / "set", "--out", tmp_path / "out") == 2
    assert "images/val_000002.png already" in capsys.readouterr().err
    assert mine.read_bytes() == before
    assert [p.name for p in (tmp_path / "out").rglob("*.*")] == [mine.name]
    init(tmp_path / "set", tmp_path / "out", "--force")
    assert mine.read_bytes() != before


def test_a_wrong_answer_is_told_before_images_are_written(tmp_path, capsys):
    medmnist(tmp_path / "set")
    out = tmp_path / "out"
    assert weakseg("init", tmp_path / "set", "--out", out, "--answer", "helthy=0") == 2
    assert "helthy" in capsys.readouterr().err
    assert not list(out.rglob("*.png"))
    init(tmp_path / "set", out)


def test_medmnist_with_several_findings_an_image(tmp_path):
    labels = np.zeros((8, 14), np.uint8)
    labels[1, [0, 13]] = 1
    labels[2, 13] = 1
    medmnist(
        tmp_path / "set",
        "chestmnist",
        train_labels=labels,
        val_labels=labels[:4],
        test_labels=labels[:6],
    )
    rows, config = init(tmp_path / "set", tmp_path / "out")
    assert [r["label"] for r in rows[:3]] == ["no finding", "atelectasis|hernia", "hernia"]
    assert config.data.label_separator == "|"


def test_classes_that_nobody_has_named_are_asked_for(tmp_path, capsys):
    classes = {f"{s}_labels": np.arange(n) % 4 for s, n in (("train", 8), ("val", 4), ("test", 6))}
    medmnist(tmp_path / "set", "bloodmnist", **classes)
    assert weakseg("init", tmp_path / "set", "--out", tmp_path / "a") == 0
    assert "--answer healthy=" in capsys.readouterr().out
    assert not (tmp_path / "a/experiment.yaml").exists()
    _, config = init(tmp_path / "set", tmp_path / "b", "--answer", "healthy=3")
    assert config.data.healthy_labels == ["3"]


def test_the_first_of_several_findings_that_nobody_has_named_is_a_finding(tmp_path):
    labels = np.zeros((8, 3), np.uint8)
    labels[1, 0] = labels[2, :2] = labels[3, 2] = 1
    splits = {f"{s}_labels": labels[:n] for s, n in (("train", 8), ("val", 4), ("test", 6))}
    medmnist(tmp_path / "set", "othermnist", **splits)
    rows, config = init(tmp_path / "set", tmp_path / "out")
    assert [r["label"] for r in rows[:4]] == ["no finding", "0", "0|1", "2"]
    assert config.data.healthy_labels == ["no finding"]


def test_medsegbench_becomes_images_and_masks(tmp_path):
    rng = np.random.default_rng(1)
    arrays = {}
    for split, n in (("train", 6), ("val", 4), ("test", 4)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8)
        masks = np.zeros((n, 32, 32), np.uint8)
        masks[1::2, 4:9, 6:12] = 1
        arrays[f"{split}_label"] = masks
    (tmp_path / "set").mkdir()
    np.savez(tmp_path / "set/busi_256.npz", **arrays)
    rows, _ = init(tmp_path / "set", tmp_path / "out")
    assert [r["label"] for r in rows[:4]] == ["normal", "lesion"] * 2
    assert [marked(tmp_path / "out", r["mask"]) for r in rows[:2]] == [0, 30]
    assert weakseg("validate", tmp_path / "out/labels.csv") == 0


def test_arrays_that_are_no_pictures_are_refused(tmp_path, capsys):
    volumes = np.zeros((8, 5, 28, 28), np.uint8)
    medmnist(tmp_path / "a", train_images=volumes)
    assert weakseg("init", tmp_path / "a", "--out", tmp_path / "out") == 2
    assert "3D sets of MedMNIST are not read" in capsys.readouterr().err
    assert not (tmp_path / "out/labels.csv").exists()
    objects = np.array([{"a": 1}] * 8, dtype=object)
    medmnist(tmp_path / "b", train_labels=objects)
    assert weakseg("init", tmp_path / "b", "--out", tmp_path / "out") == 2
    assert "cannot be read" in capsys.readouterr().err


# --- tables


def test_a_table_with_the_names_of_others_and_images_elsewhere(tmp_path, capsys):
    root = tmp_path / "set"
    rows = []
    for k in range(8):
        picture(root / f"deep/down/{k}.png", k)
        if k % 2:
            mask(root / f"seg/{k}m.png")
        rows.append([f"{k}", "sick" if k % 2 else "healthy", f"{k}m.png" if k % 2 else "", k // 2])
    table(root / "metadata.csv", ["filename", "diagnosis", "mask_path", "subject_id"], rows)
    rows, _ = init(root, tmp_path / "out")
    assert [r["label"] for r in rows[:2]] == ["healthy", "sick"]
    assert marked(tmp_path / "out", rows[1]["mask"]) == 48
    assert rows[3]["patient"] == "1"
    assert "the column 'filename' is taken for image" in capsys.readouterr().out


def test_a_dot_in_a_name_is_no_ending(tmp_path):
    for k in range(4):
        picture(tmp_path / f"scans/scan.{k}.png", k)
    rows = [[f"scan.{k}", "tumor" if k % 2 else "normal"] for k in range(4)]
    table(tmp_path / "labels.csv", ["image", "label"], rows)
    made = TABLE.read(list_tree(tmp_path), Answers())
    assert [i.image.name for i in made.items] == [f"scan.{k}.png" for k in range(4)]


def test_a_mask_that_a_table_names_and_is_not_there_is_told(tmp_path, capsys):
    root = tmp_path / "set"
    rows = []
    for k in range(8):
        picture(root / f"{k}.png", k)
        if k not in (0, 3):
            mask(root / f"{k}m.png", marked=k % 2 == 1)
        rows.append([f"{k}.png", "sick" if k % 2 else "healthy", f"{k}m.png" if k else "", k])
    table(root / "list.csv", ["image", "label", "mask", "patient"], rows)
    rows, _ = init(root, tmp_path / "out")
    assert rows[3]["mask"] == "../set/3m.png"
    said = capsys.readouterr().out
    assert "mask-missing: 1 error" in said
    assert "row 5  ../set/3m.png" in said


def test_a_missing_mask_is_not_another_patients_of_its_name(tmp_path, capsys):
    root = tmp_path / "set"
    rows = []
    for k in range(8):
        picture(root / f"P{k // 2}/{k % 2}.png", k)
        if k % 2:
            mask(root / f"P{k // 2}/{k % 2}_seg{k // 6}.png")  # of P3 by a name that is its own
        row = [
            f"P{k // 2}/{k % 2}.png",
            "sick" if k % 2 else "healthy",
            "1_seg1.png" if k % 2 else "",
        ]
        rows.append([*row, f"P{k // 2}"])
    table(root / "list.csv", ["image", "label", "mask", "patient"], rows)
    rows, _ = init(root, tmp_path / "out")
    assert [r["mask"] for r in rows if r["mask"]] == ["../set/1_seg1.png"] * 3 + [
        "../set/P3/1_seg1.png"
    ]
    assert "mask-missing: 3 errors" in capsys.readouterr().out


def test_masks_in_a_folder_of_any_name_are_found_by_bare_names(tmp_path):
    root = tmp_path / "set"
    rows = []
    for k in range(8):
        picture(root / f"scans/{k}.png", k)
        if k % 2:
            mask(root / f"drawn by me/{k}m.png")
        rows.append([f"{k}.png", "sick" if k % 2 else "healthy", f"{k}m.png" if k % 2 else ""])
    table(root / "list.csv", ["image", "label", "mask"], rows)
    rows, _ = init(root, tmp_path / "out")
    assert [r["mask"] for r in rows[:2]] == ["", "../set/drawn by me/1m.png"]


def twins(root, count=8, folder="masks"):
    """Images, and masks of the same names in a folder of their own."""
    for k in range(count):
        picture(root / f"images/{k}.png", k)
        if k % 2:
            mask(root / f"{folder}/{k}.png")
    return [[f"{k}.png", "sick" if k % 2 else "healthy", f"P{k // 2}"] for k in range(count)]


def test_a_table_of_bare_names_is_read_where_masks_have_the_same_names(tmp_path, capsys):
    root = tmp_path / "set"
    table(root / "labels.csv", ["image", "label", "patient"], twins(root))
    rows, _ = init(root, tmp_path / "out")
    assert [(r["label"], r["patient"]) for r in rows[:3]] == [
        ("healthy", "P0"),
        ("sick", "P0"),
        ("healthy", "P1"),
    ]
    assert all("/images/" in r["image"] for r in rows)
    assert "8 of 8 rows name images" in capsys.readouterr().out


def test_bare_names_of_masks_mean_masks_of_the_same_names(tmp_path):
    root = tmp_path / "set"
    rows = [[n, x, f"{k}.png" if k % 2 else ""] for k, (n, x, _) in enumerate(twins(root))]
    table(root / "labels.csv", ["image", "label", "mask"], rows)
    rows, _ = init(root, tmp_path / "out")
    assert [r["mask"][-11:] for r in rows[:2]] == ["", "masks/1.png"]


def test_a_missing_file_is_no_other_one_of_its_name(tmp_path, capsys):
    root = tmp_path / "set"
    named = twins(root)
    rows = [[f"images/{n}", x, f"masks/{n}" if k % 2 else ""] for k, (n, x, _) in enumerate(named)]
    (root / "images/1.png").unlink()  # whose mask is there
    (root / "masks/3.png").unlink()  # whose image is there
    table(root / "labels.csv", ["image", "label", "mask"], rows)
    rows, _ = init(root, tmp_path / "out")
    assert [r["image"][-12:] for r in rows[:3]] == [f"images/{k}.png" for k in (0, 2, 3)]
    assert rows[2]["mask"].endswith("masks/3.png")
    said = capsys.readouterr().out
    assert "7 of 8 rows name images" in said
    assert "mask-missing: 1 error" in said


@pytest.mark.parametrize("wrong", ["", "tset"])
def test_a_slip_in_somebody_s_own_splits_does_not_deal_them_out_anew(tmp_path, capsys, wrong):
    root = tmp_path / "set"
    splits = ["train", "train", "train", "train", "val", "val", wrong, "test"]
    rows = [[*r, split] for r, split in zip(twins(root), splits, strict=True)]
    table(root / "labels.csv", ["image", "label", "patient", "split"], rows)
    rows, _ = init(root, tmp_path / "out")
    assert [r["split"] for r in rows] == splits
    said = capsys.readouterr().out
    assert "split-" in said
    assert "row 8" in said


def test_splits_without_a_test_part_are_dealt_out_anew_and_that_is_said(tmp_path, capsys):
    root = tmp_path / "set"
    rows = [[*r, "train"] for r in twins(root)]
    table(root / "labels.csv", ["image", "label", "patient", "split"], rows)
    rows, _ = init(root, tmp_path / "out")
    assert {r.get("split", "") for r in rows} == {""}
    assert "its splits are train alone" in capsys.readouterr().out


def test_a_diagnosis_alone_makes_no_table_one_of_isic(tmp_path, capsys):
    root = tmp_path / "set"
    table(root / "labels.csv", ["image", "diagnosis", "patient"], twins(root))
    rows, _ = init(root, tmp_path / "out")
    assert [r["patient"] for r in rows[:3]] == ["P0", "P0", "P1"]
    assert "layout table" in capsys.readouterr().out


def test_a_table_of_slices_stays_one(tmp_path, capsys):
    root = tmp_path / "set"
    rows = []
    for p in range(6):
        values = np.random.default_rng(p).integers(1, 200, (12, 10, 2)).astype(np.uint8)
        lesion = np.zeros(values.shape, np.uint8)
        lesion[3:6, 3:7, 1] = 1
        save_volume(root / f"v{p}.nii.gz", values)
        save_volume(root / f"m{p}.nii.gz", lesion)
        for z, label in enumerate(("normal", "tumor")):
            rows.append([f"v{p}.nii.gz", z, label, f"m{p}.nii.gz", f"P{p}"])
    table(root / "list.csv", ["image", "slice", "label", "mask", "patient"], rows)
    rows, config = init(root, tmp_path / "out")
    assert [r["slice"] for r in rows[:3]] == ["0", "1", "0"]
    assert config.data.healthy_labels == ["normal"]
    assert config.classifier.epochs == 12
    said = capsys.readouterr().out
    assert "12 slices: 6 normal, 6 tumor" in said
    assert "error" not in said


def test_a_table_of_something_else_does_not_hide_the_folders(tmp_path, capsys):
    root = tmp_path / "set"
    for name in ("benign", "normal"):
        for k in range(3):
            picture(root / name / f"{name}{k}.png", seed_of(name, k))
    table(root / "readers.csv", ["image", "label"], [["nowhere.png", "x"], ["no.png", "y"]])
    rows, _ = init(root, tmp_path / "out")
    assert {r["label"] for r in rows} == {"benign", "normal"}
    said = capsys.readouterr().out
    assert "layout class-folders" in said
    assert "pictures.png: look whether the labels are right" in said  # there is no outline


def test_of_several_tables_the_usual_name_is_taken_and_the_others_are_told(tmp_path, capsys):
    root = tmp_path / "a set"
    for name in "abcdef":
        picture(root / f"{name}.png", seed_of(name, 0))
    (root / "a").mkdir()
    lists = {
        "ages.csv": "oyoyoy",
        "a/manifest.csv": "oyoyoy",
        "labels.csv": ["normal", "tumor"] * 3,
    }
    for file, labels in lists.items():
        rows = [[f"{n}.png", label] for n, label in zip("abcdef", labels, strict=True)]
        table(root / file, ["image", "label"], rows)
    rows, _ = init(root, tmp_path / "an out")
    assert {r["label"] for r in rows} == {"normal", "tumor"}
    said = capsys.readouterr().out
    assert "Which table is the set's? Taken: labels.csv." in said
    assert "--answer table=VALUE, or a/manifest.csv, ages.csv" in said
    assert f"weakseg compare '{tmp_path}/an out/experiment.yaml'" in said


def test_a_table_that_is_no_text_is_told(tmp_path, capsys):
    """As a spreadsheet saves it with letters of its own country."""
    root = tmp_path / "set"
    for n in "abc":
        picture(root / f"{n}.png", seed_of(n, 0))
    written = "image;label\r\n" + "".join(f"{n}.png;Läsion\r\n" for n in "abc")
    (root / "list.csv").write_bytes(written.encode("cp1252"))
    (root / "empty.csv").write_bytes(b"")
    for k in range(4):
        (root / f"z{k}.csv").write_bytes(b"\xe4")
    assert "list.csv is no text in UTF-8 (byte 0xe4" in refused(root, tmp_path / "out", capsys)
    mask(root / "a_mask.png")
    for n in "bc":
        mask(root / f"{n}_mask.png", marked=False)
    init(root, tmp_path / "out")
    said = capsys.readouterr().out
    assert "list.csv is no text in UTF-8 (byte 0xe4 in row 2" in said
    assert "and 2 more" in said
    assert "empty.csv" not in said
    assert "in Excel: CSV UTF-8" in said


def test_the_label_without_masks_is_likely_the_healthy_one(tmp_path, capsys):
    rows = []
    for k, n in enumerate("abcdef"):
        picture(tmp_path / f"set/{n}.png", seed_of(n, 0))
        if k % 2:
            mask(tmp_path / f"set/{n}_mask.png")
        rows.append([f"{n}.png", ("gesund", "Läsion")[k % 2], f"{n}_mask.png" if k % 2 else ""])
    table(tmp_path / "set/list.csv", ["image", "label", "mask"], rows)
    _, config = init(tmp_path / "set", tmp_path / "out")
    assert config.data.healthy_labels == ["gesund"]
    said = capsys.readouterr().out
    assert "Taken: gesund (none of the 3 images of gesund has a mask, and all 3 of" in said
    table(tmp_path / "set/list.csv", ["image", "label", "mask"], rows[1:5:2] + rows[:1])
    init(tmp_path / "set", tmp_path / "out1")
    assert "Taken: none" in capsys.readouterr().out
    rows[1][2] = ""
    table(tmp_path / "set/list.csv", ["image", "label", "mask"], rows)
    init(tmp_path / "set", tmp_path / "out2")
    assert "Taken: none" in capsys.readouterr().out


def many_tables(root, name):
    """Images, 101 tables of something else, and two that name them."""
    for n in "abcdef":
        picture(root / f"{n}.png", seed_of(n, 0))
    for k in range(101):
        table(root / f"points/{k}.csv", ["x", "y"], [[k, k]])
    for file, labels in ((name, ["normal", "tumor"]), ("zz/other.csv", ["cyst", "normal"])):
        rows = [[f"{n}.png", labels[k % 2]] for k, n in enumerate("abcdef")]
        table(root / file, ["image", "label"], rows)


def test_of_very_many_tables_the_first_that_fits_is_told_and_another_can_be_named(tmp_path, capsys):
    many_tables(tmp_path / "set", "readings.csv")
    rows, _ = init(tmp_path / "set", tmp_path / "out")
    assert {r["label"] for r in rows} == {"normal", "tumor"}
    said = capsys.readouterr().out
    assert (
        "Which table is the set's? Taken: readings.csv (the first of 103 that names images" in said
    )
    assert "--answer table=VALUE" in said
    rows, _ = init(tmp_path / "set", tmp_path / "out2", "--answer", "table=zz/other.csv")
    assert {r["label"] for r in rows} == {"normal", "cyst"}
    for wrong, why in (("zz/othr.csv", "no such table"), ("points/7.csv", "does not name images")):
        args = ("init", tmp_path / "set", "--out", tmp_path / "no", "--answer", f"table={wrong}")
        assert weakseg(*args) == 2
        assert why in capsys.readouterr().err
    args = ("init", tmp_path / "set", "--out", tmp_path / "no", "--answer", "table=qqqq")
    assert weakseg(*args) == 2
    assert "name one of its 103 tables" in capsys.readouterr().err
    rows, _ = init(tmp_path / "set", tmp_path / "out3", "--answer", "table=zz\\other.csv")
    assert {r["label"] for r in rows} == {"normal", "cyst"}


@pytest.mark.parametrize("answer", ["my tables\\other.csv", "my\\ tables/other.csv ", "'{}'"])
def test_of_few_tables_one_is_named_as_it_is_typed_or_dragged(tmp_path, capsys, answer):
    root = tmp_path / "set"
    for n in "abcdef":
        picture(root / f"{n}.png", seed_of(n, 0))
    for file, labels in (("one.csv", ["normal", "tumor"]), ("my tables/other.csv", ["cyst", "no"])):
        rows = [[f"{n}.png", labels[k % 2]] for k, n in enumerate("abcdef")]
        table(root / file, ["image", "label"], rows)
    said = answer.format(root / "my tables/other.csv")
    args = ("init", root, "--out", tmp_path / "out", "--answer", f"table={said}")
    assert weakseg(*args) == 0, capsys.readouterr().err
    assert "cyst" in (tmp_path / "out/labels.csv").read_text()


def test_of_very_many_tables_the_usual_name_is_taken_unasked(tmp_path, capsys):
    many_tables(tmp_path / "set", "zz/labels.csv")
    shutil.move(tmp_path / "set/zz/other.csv", tmp_path / "set/points/ages.csv")
    rows, _ = init(tmp_path / "set", tmp_path / "out")
    assert {r["label"] for r in rows} == {"normal", "tumor"}
    assert "Which table" not in capsys.readouterr().out


# --- volumes


def nnunet(root, ending=".nii.gz", labels=None, channels=2):
    for k in range(5):
        for c in range(channels):
            save_volume(
                root / f"imagesTr/case_{k:03d}_{c:04d}{ending}", noise(10 * k + c, (8, 9, 8))
            )
        values = np.zeros((8, 9, 8), np.uint8)
        values[2:5, 2:5, 1:3] = 1
        if k != 4:
            values[3:5, 3:5, 1] = 2
        save_volume(root / f"labelsTr/case_{k:03d}{ending}", values)
    save_volume(root / f"imagesTs/case_900_0000{ending}", noise(9, (8, 9, 8)))
    about = {
        "channel_names": {"0": "T1", "1": "FLAIR"},
        "labels": labels or {"background": 0, "liver": 1, "liver tumor": 2},
        "numTraining": 5,
        "file_ending": ending,
    }
    (root / "dataset.json").write_text(json.dumps(about))
    return root


def test_nnunet_with_channels_and_the_tumour_among_its_labels(tmp_path, capsys):
    rows, config = init(nnunet(tmp_path / "Dataset003_Liver"), tmp_path / "out")
    assert len(rows) == 4
    assert rows[0]["image"].endswith("imagesTr/case_000_0000.nii.gz")
    assert rows[0]["image2"].endswith("imagesTr/case_000_0001.nii.gz")
    assert rows[0]["mask"].endswith("labelsTr/case_000.nii.gz")
    assert config.data.mask_rule == [2]
    assert {r["label"] for r in rows} == {"lesion"}
    assert "deepmedic" in config.segmenters
    said = capsys.readouterr().out
    assert "Which of liver, liver tumor is the lesion? Taken: liver tumor" in said
    assert "imagesTs has no masks" in said
    assert "1 volume with an empty mask is left out" in said
    assert weakseg("validate", tmp_path / "out/labels.csv", "--mask-rule", "2") == 0


def test_nnunet_with_every_value_as_the_lesion(tmp_path):
    rows, config = init(nnunet(tmp_path / "x"), tmp_path / "out", "--answer", "lesion=all")
    assert config.data.mask_rule == "nonzero"
    assert {r["label"] for r in rows} == {"lesion"}


def test_nnunet_with_regions(tmp_path):
    labels = {"background": 0, "whole tumor": [1, 2], "core": [2], "ignore": 3}
    _, config = init(nnunet(tmp_path / "x", labels=labels), tmp_path / "out")
    assert config.data.mask_rule == [1, 2]


def test_the_decathlon_whose_images_have_the_masks_names(tmp_path):
    root = nnunet(tmp_path / "Task09", labels={"0": "background", "1": "spleen"}, channels=0)
    for k in range(5):
        save_volume(root / f"imagesTr/case_{k:03d}.nii.gz", noise(k, (8, 9, 8)))
    rows, config = init(root, tmp_path / "out")
    assert [r["image"].rpartition("/")[2] for r in rows] == [
        f"case_{k:03d}.nii.gz" for k in range(5)
    ]
    assert config.data.mask_rule == "nonzero"


def test_nnunet_in_2d(tmp_path):
    root = tmp_path / "Dataset1"
    for k in range(6):
        save(root / f"imagesTr/c_{k}_0000.png", noise(k))
        save(root / f"labelsTr/c_{k}.png", blob(value=k % 2))
    about = {"channel_names": {"0": "US"}, "labels": {"background": 0, "lesion": 1}}
    (root / "dataset.json").write_text(json.dumps(about | {"file_ending": ".png"}))
    rows, config = init(root, tmp_path / "out")
    assert [r["label"] for r in rows] == ["normal", "lesion"] * 3
    assert config.data.healthy_labels == ["normal"]


@pytest.mark.parametrize(
    ("text", "said"), [("{", "cannot be read"), ("[]", "No image of imagesTr")]
)
def test_a_broken_nnunet_folder_is_refused(text, said, tmp_path, capsys):
    root = tmp_path / "x"
    save_volume(root / "imagesTr/a_0000.nii.gz", noise(1, (8, 9, 8)))
    (root / "dataset.json").write_text(text)
    assert said in refused(root, tmp_path / "out", capsys)


def test_volumes_in_patient_folders_with_modalities(tmp_path, capsys):
    """BraTS 2020, and a brain mask as other sets have one."""
    root = tmp_path / "MICCAI_BraTS2020_TrainingData"
    for p in range(1, 4):
        name = f"BraTS20_Training_{p:03d}"
        for k, modality in enumerate(("t1", "t2", "flair", "t1ce")):
            save_volume(root / name / f"{name}_{modality}.nii", noise(10 * p + k, (8, 9, 8)))
        values = np.zeros((8, 9, 8), np.uint8)
        values[2:5, 2:5, 1:3] = 4
        save_volume(root / name / f"{name}_seg.nii", values)
        save_volume(root / name / f"{name}_brainmask.nii", np.ones((8, 9, 8), np.uint8))
    rows, config = init(root, tmp_path / "out")
    assert len(rows) == 3
    first = {k: v.rpartition("_")[2] for k, v in rows[0].items()}
    assert first["image"] == "flair.nii"
    assert [first[f"image{k}"] for k in (2, 3, 4)] == ["t1ce.nii", "t1.nii", "t2.nii"]
    assert first["mask"] == "seg.nii"
    assert first["roi"] == "brainmask.nii"
    assert rows[0]["patient"] == "BraTS20_Training_001"
    assert list(config.segmenters) == ["deepmedic"]
    assert "4 modalities each" in capsys.readouterr().out


def test_volumes_and_masks_in_two_folders(tmp_path):
    root = tmp_path / "x"
    for k in range(3):
        save_volume(root / f"images/{k}.nii.gz", noise(k, (8, 9, 8)))
        save_volume(root / f"labels/{k}.nii.gz", np.ones((8, 9, 8), np.uint8))
    rows, _ = init(root, tmp_path / "out")
    assert all(r["mask"].rpartition("/")[2] == r["image"].rpartition("/")[2] for r in rows)


@pytest.mark.parametrize(
    ("image", "mask_of"),
    [("s{}_FLAIR", "s{}_FLAIR_seg"), ("s{}_dwi", "s{}_dwi_msk"), ("images/c{}_ct", "masks/c{}_ct")],
)
def test_a_modality_in_the_names_of_image_and_mask(tmp_path, image, mask_of):
    for k in range(3):
        save_volume(tmp_path / "x" / f"{image.format(k)}.nii.gz", noise(k, (8, 9, 8)))
        values = np.zeros((8, 9, 8), np.uint8)
        values[2:5, 2:5, 1:3] = 1
        save_volume(tmp_path / "x" / f"{mask_of.format(k)}.nii.gz", values)
    rows, _ = init(tmp_path / "x", tmp_path / "out")
    assert [(r["image"], r["mask"]) for r in rows] == [
        (f"../x/{image.format(k)}.nii.gz", f"../x/{mask_of.format(k)}.nii.gz") for k in range(3)
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_volumes_whose_masks_are_all_empty_are_refused(tmp_path, capsys, count):
    for k in range(count):
        save_volume(tmp_path / f"x/{k}.nii.gz", noise(k, (8, 9, 8)))
        save_volume(tmp_path / f"x/{k}_seg.nii.gz", np.zeros((8, 9, 8), np.uint8))
    said = refused(tmp_path / "x", tmp_path / "out", capsys)
    assert "masks of all volumes are empty" in said
    assert re.search(rf"found: {count} volumes? without a lesion\n", said)


def test_volumes_without_masks_are_refused(tmp_path, capsys):
    save_volume(tmp_path / "x/a.nii.gz", noise(1, (8, 9, 8)))
    assert "No volume has a mask" in refused(tmp_path / "x", tmp_path / "out", capsys)


def test_dicom_is_left_to_the_command_that_reads_it(tmp_path, capsys):
    root = tmp_path / "it's"
    root.mkdir()
    for k in range(3):
        (root / f"IM{k:04d}").write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0\0\0\0\0")
    assert weakseg("init", root, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "3 without an ending" in said
    assert "next: weakseg import dicom '" in said
    assert not (tmp_path / "out").exists()


def test_the_page_names_every_layout_and_every_set():
    page = (Path(__file__).parents[2] / "docs/init.md").read_text()
    for named in (*LAYOUTS, *SETS):
        assert f"| `{named.name}` |" in page


def test_the_command_that_dicom_is_left_to_is_there(tmp_path, capsys):
    root = tmp_path / "scans"
    root.mkdir()
    (root / "IM1").write_bytes(b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0\0\0\0\0")
    assert weakseg("init", root, "--out", tmp_path / "out") == 0
    command = capsys.readouterr().out.rpartition("next: ")[2].strip()
    assert parse(shlex.split(command)).command.name == "dicom"
