"""From a folder as its owners lay it out to a manifest, an experiment and a sheet of pictures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from tests.importing.trees import marked, mask, picture, seed_of
from tests.tiny import read_rows, weakseg
from weakseg.config import load_config
from weakseg.config.yaml_text import parse
from weakseg.importing.answers import Answers
from weakseg.importing.experiment import experiment_text
from weakseg.importing.folders import Place
from weakseg.importing.layouts.registry import LAYOUTS
from weakseg.importing.names import labelled_by_name


def init(root, out, *more):
    """The rows and the experiment that a folder becomes."""
    assert weakseg("init", root, "--out", out, *more) == 0
    return read_rows(out / "labels.csv"), load_config(out / "experiment.yaml")


def busi(root, count=4):
    """Al-Dhabyani et al. 2020: class folders, a second lesion's mask is numbered."""
    for name in ("benign", "malignant", "normal"):
        for k in range(1, count + 1):
            stem = root / name / f"{name} ({k})"
            picture(stem.with_name(f"{stem.name}.png"), seed_of(name, k))
            mask(stem.with_name(f"{stem.name}_mask.png"), marked=name != "normal")
    mask(root / "benign/benign (2)_mask_1.png", at=14)
    return root


def lgg(root, patients=4, slices=4):
    """Buda et al. 2019 as on Kaggle: a folder a patient, TIFF; labels stand nowhere."""
    for p in range(patients):
        name = f"TCGA_CS_49{p:02d}_1997022{p}"
        for k in range(1, slices + 1):
            folder = root / "kaggle_3m" / name
            picture(folder / f"{name}_{k}.tif", 100 * p + k, (24, 24, 3))
            mask(folder / f"{name}_{k}_mask.tif", marked=k == 2, shape=(24, 24))
    (root / "kaggle_3m/data.csv").write_text("Patient;gender\nTCGA_CS_4900;2\n")
    return root


def test_busi_with_its_second_mask_joined(tmp_path, capsys):
    rows, config = init(busi(tmp_path / "Dataset_BUSI_with_GT"), tmp_path / "out")
    assert len(rows) == 12
    assert [r["label"] for r in rows[:5]] == ["benign"] * 4 + ["malignant"]
    two = rows[1]["mask"].split(";")
    assert [m.rpartition("/")[2] for m in two] == ["benign (2)_mask.png", "benign (2)_mask_1.png"]
    assert marked(tmp_path / "out", rows[1]["mask"]) == 96
    assert marked(tmp_path / "out", rows[0]["mask"]) == 48
    assert "patient" not in rows[0]
    assert config.data.healthy_labels == ["normal"]
    assert "unet" in config.segmenters
    said = capsys.readouterr().out
    assert "layout masks-beside" in said
    assert "1 of them with several, which are joined" in said
    assert "no patients are known" in said
    assert "look whether the outlines lie on the lesions" in said
    assert "unsure" not in said
    with Image.open(tmp_path / "out/pictures.png") as sheet:
        assert sheet.size[0] > 1000


def test_lgg_with_patients_from_folders_and_labels_from_masks(tmp_path, capsys):
    rows, _ = init(lgg(tmp_path / "lgg-mri-segmentation"), tmp_path / "out")
    assert len(rows) == 16
    assert [r["label"] for r in rows[:4]] == ["normal", "lesion", "normal", "normal"]
    assert {r["patient"] for r in rows} == {f"TCGA_CS_49{p:02d}_1997022{p}" for p in range(4)}
    assert all(r["patient"] in r["image"] for r in rows)
    said = capsys.readouterr().out
    assert "every image's label has seen its mask" in said
    assert f"next: weakseg compare {tmp_path / 'out/experiment.yaml'}" in said


def test_what_is_written_passes_the_check_and_is_what_compare_takes(tmp_path, capsys):
    init(lgg(tmp_path / "set"), tmp_path / "out")
    assert weakseg("validate", tmp_path / "out/labels.csv") == 0
    text = (tmp_path / "out/experiment.yaml").read_text()
    assert "# labels are read off the masks" in text.replace("#   no folder a class: ", "# ")


def test_folders_of_masks_that_mirror_folders_of_images(tmp_path, capsys):
    """Kvasir-SEG: images/ and masks/ of the same names; here with class folders inside."""
    root = tmp_path / "set"
    for k in range(8):
        name = "sick" if k % 2 else "healthy"
        picture(root / f"images/{name}/{k}.jpg", k)
        if k % 2:
            mask(root / f"masks/{name}/{k}.png")
    rows, _ = init(root, tmp_path / "out")
    assert [(r["label"], bool(r.get("mask"))) for r in rows] == [("healthy", False)] * 4 + [
        ("sick", True)
    ] * 4
    for r in rows[4:]:
        assert r["mask"].rpartition("/")[2] == r["image"].rpartition("/")[2].replace("jpg", "png")
    assert "4 masks in folders of masks" in capsys.readouterr().out


def test_the_same_name_in_two_folders_gets_its_own_mask(tmp_path):
    root = tmp_path / "set"
    for k, name in enumerate(("benign", "healthy")):
        for i in range(3):
            picture(root / name / f"images/{i}.png", 10 * k + i)
            mask(root / name / f"labels/{i}.png", marked=k == 0)
    rows, _ = init(root, tmp_path / "out")
    for r in rows:
        assert f"/{r['label']}/labels/" in r["mask"]
        assert f"/{r['label']}/images/" in r["image"]


def test_a_mask_whose_image_lacks_is_not_joined_to_that_of_another_patient(tmp_path, capsys):
    root = tmp_path / "set"
    for patient, first in (("pat101", 0), ("pat102", 1), ("pat103", 1)):
        for k in range(3):
            if k >= first:
                picture(root / f"images/{patient}/{k:03d}.png", seed_of(patient, k))
            mask(root / f"masks/{patient}/{k:03d}.png", marked=k != 2)
    rows, _ = init(root, tmp_path / "out")
    assert len(rows) == 7
    for r in rows:
        assert r["mask"] == r["image"].replace("/images/", "/masks/")
    assert "2 masks without an image, left out: masks/pat102/000.png" in capsys.readouterr().out


def test_isic_task_1_whose_folders_have_other_names(tmp_path, capsys):
    root = tmp_path / "isic"
    for k in range(4):
        picture(root / f"ISIC2018_Task1-2_Training_Input/ISIC_{k:07d}.jpg", k)
        mask(root / f"ISIC2018_Task1_Training_GroundTruth/ISIC_{k:07d}_segmentation.png")
    assert weakseg("init", root, "--out", tmp_path / "out") == 0
    rows = read_rows(tmp_path / "out/labels.csv")
    assert all(r["mask"].endswith("_segmentation.png") for r in rows)
    assert {r["label"] for r in rows} == {"lesion"}
    config = load_config(tmp_path / "out/experiment.yaml")
    assert config.data.healthy_labels == []
    assert [s.weak for s in config.segmenters.values()] == [False]
    said = capsys.readouterr().out
    assert "every image has a lesion" in said
    assert "weakseg predict RUN" in said


def test_images_without_a_mask_are_left_out_unless_said_to_be_healthy(tmp_path, capsys):
    root = tmp_path / "set"
    for k in range(6):
        picture(root / f"images/{k}.png", k)
        if k < 4:
            mask(root / f"masks/{k}_mask.png", marked=k < 3)
    rows, _ = init(root, tmp_path / "a")
    assert [r["label"] for r in rows] == ["lesion"] * 3 + ["normal"]
    said = capsys.readouterr().out
    assert "unsure:" in said
    assert "--answer unmasked=VALUE" in said
    rows, _ = init(root, tmp_path / "b", "--answer", "unmasked=healthy")
    assert [r["label"] for r in rows] == ["lesion"] * 3 + ["normal"] * 3
    assert "unsure:" not in capsys.readouterr().out


def training_testing(root):
    """Nickparvar's brain tumour set: Training and Testing, a folder a class."""
    for part, count in (("Training", 40), ("Testing", 5)):
        for name in ("glioma", "meningioma", "notumor", "pituitary"):
            for k in range(count):
                short = f"{'Tr' if part == 'Training' else 'Te'}-{name[:2]}_{k:04d}.jpg"
                picture(root / part / name / short, seed_of(part, name, k))
    return root


def test_training_and_testing_are_dealt_out_anew_unless_said_otherwise(tmp_path, capsys):
    root = training_testing(tmp_path / "set")
    rows, config = init(root, tmp_path / "a")
    assert "split" not in rows[0]
    assert {r["published_split"] for r in rows} == {"train", "test"}
    assert config.data.healthy_labels == ["notumor"]
    assert "published or anew" not in capsys.readouterr().out
    rows, _ = init(root, tmp_path / "b", "--answer", "split=published")
    assert {r["split"] for r in rows if "/Testing/" in r["image"]} == {"test"}
    inside = [r["split"] for r in rows if "/Training/" in r["image"]]
    assert 0.08 < inside.count("val") / len(inside) < 0.25
    assert set(inside) == {"train", "val"}
    assert config.segmenters == {}


def test_a_split_in_three_parts_is_kept(tmp_path):
    root = tmp_path / "set"
    for part in ("train", "valid", "test"):
        for name in ("normal", "pneumonia"):
            for k in range(3):
                picture(root / part / name / f"{part}{k}.png", seed_of(part, name, k))
    rows, _ = init(root, tmp_path / "out")
    assert [r["split"] for r in rows[:6]] == ["test"] * 6
    assert {r["split"] for r in rows if "/valid/" in r["image"]} == {"val"}


def test_folders_whose_names_leave_it_open_are_asked_for(tmp_path, capsys):
    root = tmp_path / "set"
    for name in ("a", "b", "c", "d", "e", "f", "g"):
        for k in range(2):
            picture(root / name / "images" / f"{name}{k}.png", ord(name) + k)
            mask(root / name / "masks" / f"{name}{k}.png", marked=k == 0)
    rows, _ = init(root, tmp_path / "a", "--answer", "folders=patients")
    assert {r["patient"] for r in rows} == set("abcdefg")
    assert weakseg("init", root, "--out", tmp_path / "b") == 0
    said = capsys.readouterr().out
    assert "Are the 7 folders a, b, c, d, … (7 in all) classes or patients? Taken: classes" in said


def test_patients_from_names_are_an_assumption_that_is_told(tmp_path, capsys):
    root = tmp_path / "set"
    for p in range(4):
        for k in range(2):
            name = "normal" if k else "cyst"
            picture(root / name / f"patient{p}_{k}.png", 10 * p + k)
    rows, _ = init(root, tmp_path / "a")
    assert {r["patient"] for r in rows} == {f"patient{p}" for p in range(4)}
    assert "--answer patients=VALUE" in capsys.readouterr().out
    rows, _ = init(root, tmp_path / "b", "--answer", "patients=no")
    assert "patient" not in rows[0]


def test_a_label_that_nobody_knows_is_asked_for(tmp_path, capsys):
    root = tmp_path / "set"
    for name in ("A", "B"):
        for k in range(3):
            picture(root / name / f"{k}.png", ord(name) + 7 * k)
            mask(root / name / f"{k}_mask.png", marked=name == "B")
    _, config = init(root, tmp_path / "out", "--answer", "healthy=A")
    assert config.data.healthy_labels == ["A"]
    assert weakseg("init", root, "--out", tmp_path / "b", "--answer", "healthy=C") == 2
    assert "none of those that there are" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_what_systems_leave_behind_is_no_image(tmp_path):
    root = busi(tmp_path / "set", 3)
    for name in ("__MACOSX/benign/._benign (1).png", "benign/.hidden.png", "benign/Thumbs.db"):
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"junk")
    rows, _ = init(root, tmp_path / "out")
    assert len(rows) == 9


def test_names_that_a_spreadsheet_would_compute_stay_text(tmp_path):
    root = tmp_path / "set"
    for name in ("=cmd", "normal"):
        for k in range(3):
            picture(root / name / f"={k}.png", ord(name[0]) + k)
    rows, _ = init(root, root / "out")
    assert {r["label"] for r in rows} == {"'=cmd", "normal"}
    assert all(not r["image"].startswith("=") for r in rows)
    assert all((root / "out" / r["image"]).is_file() for r in rows)


def test_paths_are_relative_where_the_files_are_near(tmp_path):
    rows, _ = init(busi(tmp_path / "project/data", 3), tmp_path / "project/start")
    assert rows[0]["image"] == "../data/benign/benign (1).png"
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "project", moved)
    assert weakseg("validate", moved / "start/labels.csv") == 0
    rows, _ = init(moved / "data", tmp_path / "far/away/start")
    assert rows[0]["image"] == str(moved / "data/benign/benign (1).png")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: None, "does not exist"),
        (lambda root: root.mkdir(), "an empty folder"),
        (lambda root: root.write_text("x"), "A folder was expected"),
        (lambda root: (root.mkdir(), (root / "a.txt").write_text("x")), "1 .txt"),
    ],
)
def test_a_folder_that_is_none_is_refused(make, said, tmp_path, capsys):
    make(tmp_path / "set")
    assert weakseg("init", tmp_path / "set", "--out", tmp_path / "out") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_images_of_which_nothing_is_known_are_refused(tmp_path, capsys):
    for k in range(3):
        picture(tmp_path / "set" / f"{k}.png", k)
    assert weakseg("init", tmp_path / "set", "--out", tmp_path / "out") == 2
    assert "Nothing tells the images' labels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_layout_that_does_not_fit_is_refused_with_those_that_there_are(tmp_path, capsys):
    root = busi(tmp_path / "set", 1)
    assert weakseg("init", root, "--out", tmp_path / "out", "--layout", "mask-folders") == 2
    assert "do not lie as mask-folders" in capsys.readouterr().err
    assert weakseg("init", root, "--out", tmp_path / "out", "--layout", "mask-folder") == 2
    assert "did you mean 'mask-folders'?" in capsys.readouterr().err


def test_names_of_layouts_differ():
    assert len({x.name for x in LAYOUTS}) == len(LAYOUTS)


def test_real_ultrasound_with_two_lesions(shared, tmp_path, capsys):
    root = shared / "data/raw_samples/Dataset_BUSI_with_GT"
    if not root.is_dir():
        pytest.skip("no raw samples")
    rows, _ = init(root, tmp_path / "out")
    assert [r["label"] for r in rows] == ["benign"] * 3 + ["malignant"] + ["normal"] * 2
    assert [len(r["mask"].split(";")) for r in rows] == [2, 2, 2, 2, 1, 1]
    for r in rows[:4]:
        first, second = r["mask"].split(";")
        together = marked(tmp_path / "out", r["mask"])
        assert together > max(marked(tmp_path / "out", m) for m in (first, second))


def test_real_glioma_slices(shared, tmp_path, capsys):
    root = shared / "data/raw_samples/lgg-mri-segmentation"
    if not root.is_dir():
        pytest.skip("no raw samples")
    rows, _ = init(root, tmp_path / "out")
    assert len(rows) == 40
    assert {r["patient"] for r in rows} == {"TCGA_CS_4942_19970222", "TCGA_CS_4943_20000902"}
    for r in rows:
        assert (marked(tmp_path / "out", r["mask"]) > 0) == (r["label"] == "lesion")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_person_at_a_terminal_is_asked_until_the_answer_is_one(tmp_path):
    import pty

    root = tmp_path / "set"
    for name in ("A", "B"):
        for k in range(3):
            picture(root / name / f"{k}.png", ord(name) + 7 * k)
    person, terminal = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "weakseg", "init", str(root), "--out", str(tmp_path / "out")],
        stdin=terminal,
        stderr=terminal,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(terminal)
    os.write(person, b"neither\nA\n")
    said = done.communicate(timeout=120)[0]
    os.close(person)
    assert done.returncode == 0
    assert "unsure" not in said
    assert load_config(tmp_path / "out/experiment.yaml").data.healthy_labels == ["A"]


@pytest.mark.parametrize("name", ["2024", "no", "null", "1e3", "0x1F"])
def test_whatever_the_folder_is_called_is_the_run_s_name(name):
    text = experiment_text(name, "heatmaps", {}, source="x", remarks=[], masks=False, image_size=64)
    assert parse(text)["name"] == name


def test_classes_from_the_names_of_files(tmp_path, capsys):
    root = tmp_path / "set"
    for k in range(8):
        name = "No_Tumour" if k % 2 else "tumour"
        picture(root / f"p{k // 2:02d}_{name}_{k:03d}.png", k)
    (root / "slice.dcm").write_bytes(b"x")
    rows, config = init(root, tmp_path / "out")
    assert sorted(r["label"] for r in rows) == ["No_Tumour"] * 4 + ["tumour"] * 4
    assert all(r["label"] in r["image"] for r in rows)
    assert config.data.healthy_labels == ["No_Tumour"]
    said = capsys.readouterr().out
    assert "classes from the files' names: No_Tumour, tumour" in said
    assert "1 image of another kind, left out: slice.dcm" in said
    assert "--answer names=VALUE, or yes, no" in said
    assert weakseg("init", root, "--out", tmp_path / "other", "--answer", "names=no") == 2
    assert "Nothing tells the images' labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    "names",
    [
        ("tumour_normal_1", "normal_2", "normal_3"),  # two classes in one name
        ("tumour_1", "normal_2", "scan_3"),  # none
        ("tumour_1", "tumour_2", "tumour_3"),  # the same everywhere
    ],
)
def test_names_that_do_not_all_tell_one_class_tell_none(names, tmp_path, capsys):
    for k, name in enumerate(names):
        picture(tmp_path / f"set/{name}.png", k)
    assert weakseg("init", tmp_path / "set", "--out", tmp_path / "out") == 2
    assert "Nothing tells the images' labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        *("tumour_absent_001", "without_tumour_1", "case1_tumour_free", "img_without_lesion"),
        *("non_malignant_2", "not_malignant_2", "Non-Malignant 2", "tumour_negative_1"),
        *("tumour_no_1", "not_no_tumour_1", "tumour_1_absent"),
    ],
)
def test_a_negated_class_is_none(name):
    places = {f"{k}.png": Place() for k in ("tumour_1", "normal_2", name)}
    answers = Answers()
    assert labelled_by_name(places, answers) == places
    assert answers.asked == {}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("no_tumour_1", "no_tumour"),
        ("x_No-Lesion", "No-Lesion"),
        ("negative_1", "negative"),
        ("case_no_3_tumour", "tumour"),
        ("free_breathing_tumour_1", "tumour"),
    ],
)
def test_words_that_negate_nothing_leave_the_class(name, label):
    places = {f"{k}.png": Place() for k in ("tumour_1", "normal_2", name)}
    assert labelled_by_name(places, Answers())[f"{name}.png"].label == label
