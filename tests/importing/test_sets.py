"""Published sets, built small from their descriptions, from the command line to a manifest."""

from __future__ import annotations

import pytest

from tests.importing.trees import marked, mask, picture, table
from tests.tiny import read_rows, weakseg
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
