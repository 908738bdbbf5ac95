"""Manifests as people and spreadsheets write them, and what is refused."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.helpers import good_rows, noise, present, save, write_rows
from weakseg.config import DataConfig
from weakseg.data.cases import Labels
from weakseg.data.manifest import (
    HEALTHY_NAMES,
    plain,
    read_manifest,
    read_table,
    resolve_labels,
    safe_ids,
)
from weakseg.errors import DataError

DATA = DataConfig()


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_manifest_becomes_cases(tmp_path):
    text = (
        "image,label,mask,patient,split,age\n"
        "a/x.png,tumor,m/x.png,p1,train,50\n\n"
        "/else/y.png,normal,,p2,Test,\n"
    )
    found = read_manifest(write(tmp_path, text), DATA)
    x, y = found.cases
    assert (x.image, x.mask) == (tmp_path / "a/x.png", tmp_path / "m/x.png")
    assert (x.id, x.label, x.patient, x.split, x.row) == ("x", "tumor", "p1", "train", 2)
    assert (y.image, y.mask, y.split, y.row) == (Path("/else/y.png"), None, "test", 4)
    assert found.labels == Labels(("normal",), ("tumor",))
    assert found.patients_known
    assert found.source == str(tmp_path / "labels.csv")
    assert not found.simulated


PLAIN = "image,label,patient\na.png,tumor,p\nb.png,normal,q\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.encode("utf-8-sig"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace(",", "|"),
        "sep=;\n" + PLAIN.replace(",", ";"),
        "sep=,\r\n" + PLAIN.replace("\n", "\r\n"),
        "\ufeffSEP=\t\n" + PLAIN.replace(",", "\t"),
        '"sep=|"\n' + PLAIN.replace(",", "|"),
        "sep=^\n" + PLAIN.replace(",", "^"),
        ("sep=;\n" + PLAIN.replace(",", ";")).encode("utf-16"),
        PLAIN.replace(",", "\t").encode("utf-16"),
        codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-32"),
        ("\ufeff" + PLAIN).encode("utf-8-sig"),
        PLAIN.replace("a.png", "\u200ba.png\ufeff").replace("tumor", "\u00a0tumor\u2060"),
        "Image Index,Finding Labels,Patient ID\na.png,tumor,p\nb.png,normal,q\n",
        "filename;class;subject_id\na.png;tumor;p\nb.png;normal;q\n",
        "Image-Path|DIAGNOSIS|PatientID\na.png|tumor|p\nb.png|normal|q\n",
        "image,class,label,patient,subject\na.png,x,tumor,p,8\nb.png,y,normal,q,9\n",
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.rstrip(),
        "\n" + PLAIN,
        PLAIN.replace("image,label", " Image , LABEL "),
        PLAIN.replace("tumor", '"tumor"').replace("a.png", " a.png "),
        PLAIN.replace("image,label,patient", '"image","label","patient"'),
        PLAIN.replace("p\n", "p,,\n"),
        "note;image;label;patient\n1,5;a.png;tumor;p\n2,5;b.png;normal;q\n",
    ],
    ids=[
        *("bom", "semicolon", "tab", "pipe", "sep=;", "sep=,", "sep=tab", "sep quoted", "sep=^"),
        *("sep utf-16", "utf-16", "utf-16-be", "utf-32", "two boms", "unseen", "nih", "names"),
        *("signs", "own names win"),
        *("crlf", "cr", "no-end", "blank-first", "header-case"),
        *("quotes", "quoted-header", "empty-fields-behind", "comma-between-semicolons"),
    ],
)
def test_the_same_table_in_other_writing(tmp_path, text):
    cases = read_manifest(write(tmp_path, text), DATA).cases
    assert [(c.image.name, c.label, c.patient) for c in cases] == [
        ("a.png", "tumor", "p"),
        ("b.png", "normal", "q"),
    ]


def test_rows_count_as_in_an_editor_also_behind_cells_of_several_lines(tmp_path):
    text = 'image,label,note\na.png,tumor,"one\ntwo\nthree"\nb.png,normal,x\n'
    assert [r.line for r in read_table(write(tmp_path, text)).rows] == [2, 5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ["empty", "image,label"]),
        ("\n\n", ["empty"]),
        ("image,label\n", ["no rows"]),
        ("a.png,tumor\nb.png,normal\n", ["no header", "a.png, tumor", "image,label"]),
        ("imgae,label\na,b\n", ["no column 'image'", "rename 'imgae' to 'image'", "row 1"]),
        ("file,path,label\na,b,c\n", ["2 that may be it", "'file' and 'path'", "to 'image'"]),
        ("image,label,Subject,PID\na,b,c,d\n", ["no column 'patient'", "'Subject' and 'PID'"]),
        ("image,foo\na,b\n", ["no column 'label'", "columns image, foo", "add the column"]),
        ("imgs,clas\na,b\n", ["'image' and no column 'label'", "'imgs'"]),
        (
            "Maske;Dateiname;Befund\nm/a.png;a.png;normal\n;b.png;tumor\n",
            [
                "fix: rename 'Dateiname' to 'image'; rename the column that holds it to 'label', ",
                "no column 'image' and no column 'label'",
            ],
        ),
        ("Maske;Befund\n1;normal\n", ["fix: rename the column that holds it to 'image', or add"]),
        ("image,label,Label\na,b,c\n", ["two columns 'label'", "remove or rename"]),
        ('image,label\na.png,tumor\nb.png,"normal\n', ["not well-formed", "row 3", "quotation"]),
        (PLAIN.encode("utf-16-le"), ["UTF-16 without its mark", "CSV UTF-8"]),
        (b"\x89PNG\r\n\x1a\n", ["a PNG image", "weakseg init FOLDER"]),
        (PLAIN.encode("utf-16-be"), ["UTF-16 without its mark", "CSV UTF-8"]),
        (PLAIN.encode("utf-16")[:-1], ["which is not UTF-16", "CSV UTF-8"]),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", ["old Excel", "CSV UTF-8"]),
        ("image,label\na.png,Gliöm\n".encode("latin-1"), ["0xf6 in row 2", "CSV UTF-8"]),
        (b"PK\x03\x04\0\0", ["Excel", "CSV UTF-8"]),
        (b"image,label\n\0\0", ["binary"]),
    ],
)
def test_structural_errors_say_what_where_and_the_way_out(tmp_path, text, says):
    path = write(tmp_path, text)
    with pytest.raises(DataError) as e:
        read_manifest(path, DATA)
    assert str(path) in str(e.value.where)
    assert e.value.fix
    for part in says:
        assert part in e.value.render()


def test_missing_manifest_and_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist") as e:
        read_manifest(tmp_path / "no.csv", DATA)
    assert e.value.where == str(tmp_path / "no.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path, DATA)


def test_every_row_at_fault_is_listed_at_once(tmp_path):
    text = (
        "image,label,patient,split\n"
        "a.png,tumor,p1,train\n"
        ",tumor,p1,train\n"
        "c.png,,p1,train\n"
        "d.png,Tumor,p1,train\n"
        "e.png,tumor,,train\n"
        "f.png,tumor,p1,\n"
        "g.png,tumor,p1,later\n"
        "h.png,tumor\n"
        "i.png,tumor,p1,train,x,y\n"
        "j.png,normal,p2,test\n"
    )
    with pytest.raises(DataError) as e:
        read_manifest(write(tmp_path, text), DATA)
    message = e.value.render()
    for row in range(3, 11):
        assert f"row {row}:" in message
    assert "row 2:" not in message
    assert "row 11:" not in message


@pytest.mark.parametrize(
    "name",
    [
        *("normal", "healthy", "Negative", "NEG", "no", "Control", "no_tumor", "No-Tumour"),
        *("no lesion", "background", "0", "False", "No Finding", "nofinding"),
    ],
)
def test_usual_names_of_health(name):
    assert resolve_labels([name, "glioma"]) == Labels((name,), ("glioma",))
    assert plain(name) in HEALTHY_NAMES


@pytest.mark.parametrize("name", ["benign", "tumor", "1", "yes", "abnormal", "unhealthy", "nodule"])
def test_names_that_are_not_taken_for_health(name):
    assert plain(name) not in HEALTHY_NAMES


def test_given_label_roles():
    found = ["c", "a", "b", "a", ""]
    assert resolve_labels(found, ["b"]) == Labels(("b",), ("a", "c"))
    assert resolve_labels(found, ["b"], ["a"]) == Labels(("b",), ("a",))
    assert resolve_labels(["normal", "none", "x"], "auto", ["none"]) == Labels(
        ("normal",), ("none",)
    )


@pytest.mark.parametrize(
    ("found", "healthy", "lesion", "says"),
    [
        (["a", "b"], "auto", "auto", ["'a', 'b'", "data.healthy_labels", "healthy"]),
        (["neg", "no"], "auto", "auto", ["'neg', 'no'", "data.healthy_labels", "Every label"]),
        (["a", "b"], ["a", "b"], "auto", ["Every label"]),
        (["normal", "x"], ["nomral"], "auto", ["'nomral'", "did you mean 'normal'"]),
        (["normal", "x"], "auto", ["y"], ["'y'", "data.lesion_labels"]),
        (["normal", "x"], ["x"], ["x", "normal"], ["'x'", "both"]),
        (["normal"], "auto", "auto", ["only one label", "'normal'"]),
        ([], "auto", "auto", ["only one label", "none"]),
    ],
)
def test_roles_that_cannot_be_told(found, healthy, lesion, says):
    with pytest.raises(DataError) as e:
        resolve_labels(found, healthy, lesion)
    assert e.value.fix
    for part in says:
        assert part in e.value.render()


def test_a_label_in_neither_list_is_a_problem_of_its_row(tmp_path):
    text = "image,label,patient\na,x,p\nb,y,p\nc,z,p\n"
    data = DataConfig(healthy_labels=["x"], lesion_labels=["y"])
    with pytest.raises(DataError, match="row 4: the label 'z' is in neither"):
        read_manifest(write(tmp_path, text), data)


@pytest.mark.parametrize(
    ("paths", "ids"),
    [
        (["/d/a.png", "/d/b.png"], ["a", "b"]),
        (["/d/x/a.png", "/d/y/a.png", "/d/y/b.png"], ["x_a", "y_a", "b"]),
        (["/d/x/A.png", "/d/y/a.png"], ["x_A", "y_a"]),
        (["/d/benign (1).png"], ["benign_1_"]),
        (["/d/-rf.png", "/d/..b.png", "/d/c..png"], ["rf", "b", "c"]),
        (["/d/größe.png"], ["gr_e"]),
        (["/d/日本.png", "/d/b.png"], ["_", "b"]),
        (["/d/---.png"], ["case"]),
        (["/d/CON.png", "/d/aux.1.png", "/d/com10.png"], ["case-CON", "case-aux.1", "com10"]),
        (["/d/a:b.png", "/d/x/nul.png", "/d/y/nul.png"], ["a_b", "x_nul", "y_nul"]),
        (["/d/a. .png", "/d/a.png"], ["a._", "a"]),
    ],
)
def test_ids_by_hand(paths, ids):
    assert safe_ids([Path(p) for p in paths]) == ids


def test_ids_with_the_same_path_get_a_hash_and_a_number():
    ids = safe_ids([Path("/d/a.png"), Path("/d/a.jpg"), Path("/d/a.jpg"), Path("/d/c.png")])
    assert ids[3] == "c"
    assert all(re.fullmatch(r"a-[0-9a-f]{8}(-2)?", i) for i in ids[:3])
    assert len(set(ids)) == 4
    assert ids[0] != ids[1] == ids[2].removesuffix("-2")


NAMES = st.text(
    st.one_of(st.sampled_from("aAbB.-_ /(é"), st.characters(exclude_categories=("Cs", "Cc"))),
    min_size=1,
    max_size=130,
).map(lambda t: f"/d/{t}.png")


@given(st.lists(NAMES, max_size=12))
def test_ids_are_unique_and_safe(paths):
    ids = safe_ids([Path(p) for p in paths])
    assert len({i.casefold() for i in ids}) == len(paths) == len(ids)
    for name in ids:
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name)
        assert not name.endswith(".")


@given(st.lists(NAMES, min_size=2, max_size=8, unique=True), st.randoms())
def test_ids_of_different_files_do_not_depend_on_order(paths, random):
    files = [Path(p) for p in paths]
    if len({f.as_posix().casefold() for f in files}) < len(files):
        return
    ids = dict(zip(files, safe_ids(files), strict=True))
    random.shuffle(files)
    assert dict(zip(files, safe_ids(files), strict=True)) == ids


def test_without_patients_look_alikes_stand_for_them(tmp_path):
    rows = [r[:3] for r in good_rows(tmp_path)]
    save(tmp_path / "images/again.png", noise(3)[:, ::-1])
    rows.append(["images/again.png", "normal", ""])
    rows.append(["images/missing.png", "normal", ""])
    found = read_manifest(write_rows(tmp_path, rows), DATA)
    assert not found.patients_known
    patients = {c.id: c.patient for c in found.cases}
    assert patients["again"] == patients["s3"]
    assert len(set(patients.values())) == len(patients) - 1
    turned = read_manifest(write_rows(tmp_path, [rows[0], *rows[:0:-1]]), DATA)
    assert {c.id: c.patient for c in turned.cases} == patients


def test_a_blank_patient_column_counts_as_none(tmp_path):
    rows = [[*r[:3], "" if i else "patient"] for i, r in enumerate(good_rows(tmp_path))]
    assert not read_manifest(write_rows(tmp_path, rows), DATA).patients_known


def test_given_splits_part_look_alikes(tmp_path):
    rows = [["image", "label", "split"]]
    for name, label, split in (("a", "tumor", "train"), ("b", "normal", "test")):
        save(tmp_path / f"{name}.png", noise(0))
        rows.append([f"{name}.png", label, split])
    a, b = read_manifest(write_rows(tmp_path, rows), DATA).cases
    assert a.patient != b.patient


def test_lgg_manifest(shared):
    found = read_manifest(present(shared / "data" / "lgg_flair_dev" / "labels.csv"), DATA)
    assert len(found.cases) == 2935
    assert len({c.patient for c in found.cases}) == 81
    assert found.labels == Labels(("normal",), ("tumor",))
    assert sum(c.label == "tumor" for c in found.cases) == 1032
    assert found.patients_known
    assert found.cases[0].id == "TCGA_CS_4941_001"
    assert all(c.image.exists() and c.mask is not None for c in found.cases)


def test_busi_manifest(shared):
    found = read_manifest(present(shared / "data" / "busi_dev" / "labels.csv"), DATA)
    assert found.labels == Labels(("normal",), ("benign", "malignant"))
    assert [sum(c.label == name for c in found.cases) for name in found.labels.names] == [
        103,
        324,
        155,
    ]
