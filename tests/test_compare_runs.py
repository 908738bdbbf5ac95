"""`weakseg compare-runs`: who trained again learns whether it helped, on the same images only."""

import json
import shutil
from types import SimpleNamespace
from unittest.mock import Mock

import pandas as pd
import pytest

from tests.report.fake_run import make_run
from tests.tiny import read_rows, weakseg, write_manifest
from weakseg.layout import report_folder, report_page, report_summary
from weakseg.report.read import RunTables, read_runs
from weakseg.scores.two_runs import compare_two_runs
from weakseg.stages.report import make_report


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Six test patients of four images; the manifest names hospitals."""
    made = make_run(tmp_path_factory.mktemp("two") / "plain", name="plain", seeds=(0,))
    manifest = made.with_name("plain-data") / "labels.csv"
    rows = [list(r.values()) for r in read_rows(manifest)]
    sites = ["", "north", "south"]
    header = ["image", "label", "patient", "mask", "site"]
    write_manifest(manifest, [[*r, sites[int(r[2][1:]) // 4]] for r in rows], header)
    return made


def again(run, folder, change=lambda table: table, name="again"):
    """A second run: the first one with other scores."""
    copy = folder / "again"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("heatmaps", "masks"))
    shutil.copytree(run / "masks", copy / "masks")
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(record | {"name": name}))
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("epochs: 3", "epochs: 4"))
    path = copy / "scores/per_case.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)
    return copy


def halved(table):
    return table.assign(dice=table["dice"].where(~table["has_lesion"], table["dice"] / 2))


def test_it_is_told_and_written_by_site(run, tmp_path, capsys):
    other = again(run, tmp_path, halved)
    files = tmp_path / "out.csv", tmp_path / "out.json"
    asked = ["--method", "gradcam-otsu", "--by", "Site"]
    assert weakseg("compare-runs", run, other, *asked, "--out", files[0], "--out", files[1]) == 0
    out = capsys.readouterr().out
    assert "A: plain, gradcam-otsu, 0 masks seen" in out
    assert "classifier.epochs: 3 (now 4)" in out
    assert "B is worse than A: the difference is" in out
    assert "chosen on 12 of their masks" in out
    assert "not with another training: A has 1 seed, B 1 seed" in out
    assert "can be trusted for: (blank), north, south" in out
    written = read_rows(files[0])
    assert [(r["group"], r["images"], r["patients"]) for r in written] == [
        ("all", "24", "6"), ("(blank)", "8", "2"), ("north", "8", "2"), ("south", "8", "2"),
    ]  # fmt: skip
    tables = [pd.read_csv(r / "scores/per_case.csv") for r in (run, other)]
    expected = compare_two_runs(*(t[t["method"] == "gradcam-otsu"] for t in tables), bootstrap=200)
    told = json.loads(files[1].read_text())
    assert told["scores"][0] == pytest.approx(expected.iloc[0].to_dict())
    assert told["scores"][0]["difference"] < 0
    assert told["runs"][1] == {
        "name": "again", "method": "gradcam-otsu", "masks_seen": 0, "on_labels": None,
    }  # fmt: skip
    assert "By validation labels" not in out


def test_validation_labels_tell_where_they_tell_of_every_seed():
    """Of seeds added to a run of an earlier version some do not: nor does their mean."""
    told = {"on_labels": {"found": 7, "lesions": 9, "marked": 1, "healthy": 4}}
    entries = {"whole": {"seed-0": told, "seed-1": told}, "half": {"seed-0": {}, "seed-1": told}}
    found = RunTables.on_labels.fget(SimpleNamespace(thresholds=entries))
    assert {k: (v.found, v.healthy) for k, v in found.items()} == {"whole": (14, 8)}


def test_what_validation_labels_say_of_both_is_told(run, tmp_path, capsys):
    """No mask has a part in it, so that it may choose where test masks may not."""
    other, third = again(run, tmp_path), again(run, tmp_path / "third")

    def put(folder, found):
        path = folder / "masks/gradcam-otsu/threshold.json"
        entries = json.loads(path.read_text())
        for entry in entries.values():
            entry["on_labels"] = {"found": found, "lesions": 9, "marked": 1, "healthy": 4}
        path.write_text(json.dumps(entries))

    put(other, 7)
    put(third, 8)
    assert weakseg("compare-runs", other, third, "--method", "gradcam-otsu") == 0
    assert (
        "By validation labels, without a mask, B is the better one: A finds 7 of 9 lesions, marks "
        "1 of 4 healthy images; B finds 8 of 9 lesions, marks 1 of 4 healthy images."
    ) in capsys.readouterr().out
    put(third, 7)
    assert weakseg("compare-runs", other, third, "--method", "gradcam-otsu") == 0
    assert "labels, without a mask, they are equally good: A finds" in capsys.readouterr().out
    splits = pd.read_csv(third / "splits.csv")
    first = splits.index[splits["split"] == "val"][0]
    splits.drop(index=first).to_csv(third / "splits.csv", index=False)
    assert weakseg("compare-runs", other, third, "--method", "gradcam-otsu") == 0
    assert "By validation labels" not in capsys.readouterr().out  # of other images
    put(third, 10)
    assert weakseg("compare-runs", other, third, "--method", "gradcam-otsu") == 2
    assert "found is above lesions" in capsys.readouterr().err


@pytest.mark.thorough
def test_by_a_part_of_the_patients_names(run, tmp_path, capsys):
    other = again(run, tmp_path)
    assert weakseg("compare-runs", run, other, "--by-patient", "P(.)") == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    # P02, P03, P06 and P07 are tested, P10 and P11: two lesions each.
    assert [x[:3] for x in lines if x and x[0] in ("all", "0", "1")] == [
        ["all", "12", "6"], ["0", "8", "4"], ["1", "4", "2"],
    ]  # fmt: skip
    assert "Whether B is better than A cannot be told: the difference is 0.000" in out


@pytest.mark.thorough
def test_two_methods_of_one_run(run, capsys):
    asked = ["--method", "floor-everything", "--other", "gradcam-oracle-image", "--by", "label"]
    assert weakseg("compare-runs", run, run, *asked) == 0
    out = capsys.readouterr().out
    assert "B: plain, gradcam-oracle-image, 12 masks seen" in out
    assert "An upper bound" in out
    assert "B is better than A" in out
    assert "Of fewer patients" not in out  # a group without a lesion claims nothing


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--by-patient", "("], "no regular expression"),
        (["--by-patient", "(P)(.)"], "several groups"),
        (["--by", "site", "--by-patient", "P"], "--by and --by-patient"),
        (["--out", "x.txt"], ".csv or .json"),
    ],
)
def test_what_is_asked_wrongly_is_refused_before_anything_is_read(
    run, args, words, monkeypatch, capsys
):
    monkeypatch.setattr("weakseg.report.two_runs.read_runs", None)
    assert weakseg("compare-runs", run, run, *args) == 2
    assert words in capsys.readouterr().err


def moved(table):
    return table.assign(case=table["case"].replace("c02_0", "c99_0"))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("change", "args", "words"),
    [
        (moved, [], ["1 only in A (c02_0); 1 only in B (c99_0)"]),
        (
            lambda t: t.assign(patient=t["patient"].replace("P02", "P03")),
            [],
            ["other patients in one run", "4 of 24 images (c02_0,"],
        ),
        (
            lambda t: t.assign(lesion_pixels=t["lesion_pixels"] + (t["case"] == "c02_0")),
            [],
            ["other true masks", "1 of 24"],
        ),
        (None, ["--method", "gradcam-otsi"], ["not scored in plain", "gradcam-otsu"]),
        (None, ["--other", "unet"], ["unet was not scored in again"]),
        (None, ["--by", "hospital"], ["no column 'hospital', which is asked for", "in --by"]),
        (None, ["--by-patient", "TCGA"], ["patients P02, P03"]),
    ],
)
def test_what_is_refused(run, tmp_path, capsys, change, args, words):
    other = again(run, tmp_path, change or (lambda t: t))
    assert weakseg("compare-runs", run, other, *args) == 2
    err = capsys.readouterr().err
    for word in words:
        assert word in err


@pytest.mark.thorough
def test_other_data_or_splits_are_refused_with_what_differs(run, tmp_path, capsys):
    other = again(run, tmp_path)
    splits = pd.read_csv(other / "splits.csv")
    for change, words in [
        (
            {"P02": "train"},
            ["their test splits differ", "4 only in A (c02_0, c02_1, c02_2, c02_3)"],
        ),
        ({"P04": "val"}, None),
    ]:
        new = splits["patient"].map(change).fillna(splits["split"])
        splits.assign(split=new).to_csv(other / "splits.csv", index=False)
        assert weakseg("compare-runs", run, other) == (0 if words is None else 2)
        said = capsys.readouterr()
        for word in words or ["training or validation images differ: 4 in train of A and val of B"]:
            assert word in said.out + said.err
    record = json.loads((other / "run.json").read_text())
    record["data"]["fingerprint"] = "another"
    (other / "run.json").write_text(json.dumps(record))
    assert weakseg("compare-runs", run, other) == 2
    assert "their data differ" in capsys.readouterr().err


def test_nothing_is_compared_with_itself_or_written_into_a_run(run, capsys):
    assert weakseg("compare-runs", run, run) == 2
    assert "with itself" in capsys.readouterr().err
    two = ("compare-runs", run, run, "--method", "gradcam-otsu", "--other", "floor-everything")
    for out, words in (
        (run / "scores/x.csv", "would lie in a run folder"),
        (read_runs([run], look_at_data=False)[0].manifest, "would overwrite the manifest"),
    ):
        before = out.read_bytes() if out.exists() else None
        assert weakseg(*two, "--out", out) == 2
        assert words in capsys.readouterr().err
        assert (out.read_bytes() if out.exists() else None) == before


def test_a_report_is_not_written_over_somebody_elses_page(run, tmp_path, capsys, monkeypatch):
    page = tmp_path / "site/index.html"
    page.parent.mkdir()
    page.write_text("mine")
    assert weakseg("report", run, "--out", page.parent, "--gallery", 0) == 2
    assert "a page that is no report of weakseg" in capsys.readouterr().err
    assert page.read_text() == "mine"
    assert list(page.parent.iterdir()) == [page]
    # But a run's own, of which a part was lost, is made again.
    own = report_page(report_folder(again(run, tmp_path)))
    own.parent.mkdir(exist_ok=True)
    own.write_text("half")
    report_summary(own.parent).unlink(missing_ok=True)
    monkeypatch.setattr("weakseg.report.page.build_report", Mock(side_effect=InterruptedError))
    with pytest.raises(InterruptedError):
        make_report(own.parents[1], own.parent, look_at_data=False)
