"""Labels that mean nothing without an answer: none, negative, uncertain, or several at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.helpers import good_rows, save, write_rows
from tests.tiny import weakseg
from weakseg.config import DataConfig
from weakseg.data.cases import Labels
from weakseg.data.check import check_manifest
from weakseg.data.fingerprint import data_fingerprint
from weakseg.data.labels import asks, findings, plain, reordered, resolve_labels, seeming_sets
from weakseg.data.manifest import read_configured, read_manifest


def relabelled(folder, labels, masks=False):
    """The good set, eight rows, with other labels and without masks."""
    rows = good_rows(folder)
    for row, label in zip(rows[1:], labels, strict=True):
        row[1] = label
        if not masks:
            row[2] = ""
    return write_rows(folder, rows)


def kinds(path, **data):
    found = check_manifest(path, DataConfig(**data))
    return [(p.kind, p.row) for p in found if p.kind != "class-few-patients"]


NO_VALUE = ["nan", "NaN", "NA", "N/A", "n/a", "None", "none", "null", "NULL", "-", "--", "<NA>",
            "#N/A", "NaT", '""', "''", "#REF!"]  # fmt: skip


@pytest.mark.parametrize("label", NO_VALUE)
def test_what_is_written_where_there_is_no_label_is_an_error_of_its_rows(tmp_path, label):
    path = relabelled(tmp_path, ["tumor", label, "tumor", "normal"] * 2)
    assert kinds(path) == [("label-no-value", 3), ("label-no-value", 7)]
    (first, _) = check_manifest(path, DataConfig())
    assert repr(label) in first.message
    assert "data.healthy_labels" in first.fix
    assert kinds(path, healthy_labels=["normal", label]) == []
    assert kinds(path, lesion_labels=["tumor", label]) == []
    assert kinds(path, drop_labels=[label]) == []


def test_a_set_without_any_label_says_so_and_nothing_else(tmp_path):
    path = relabelled(tmp_path, ["nan"] * 8)
    assert kinds(path) == [("label-no-value", row) for row in range(2, 10)]


@pytest.mark.parametrize(
    ("labels", "asked"),
    [
        (["1", "0", "-1", "1"], "-1"),
        (["1.0", "0.0", "-1.0", "1.0"], "-1.0"),
        (["1", "-1", "1", "-1"], "-1"),
        (["1", "0", "uncertain", "1"], "uncertain"),
        (["tumor", "normal", "Not sure", "tumor"], "Not sure"),
        (["tumor", "normal", "?", "tumor"], "?"),
        (["1", "0", "−1", "1"], "−1"),
    ],
)
def test_a_signed_or_uncertain_label_is_a_question(tmp_path, labels, asked):
    path = relabelled(tmp_path, labels * 2)
    (problem,) = check_manifest(path, DataConfig())
    assert problem.kind == "label-uncertain"
    assert repr(asked) in problem.message
    for answer in ("data.healthy_labels", "data.drop_labels", "data.lesion_labels"):
        assert answer in problem.fix


def of_chexpert(tmp_path):
    return relabelled(tmp_path, ["1", "0", "-1", "1", "0", "1", "-1", "0"])


def test_each_answer_to_a_signed_label_has_a_setting(tmp_path):
    path = of_chexpert(tmp_path)
    healthy = read_manifest(path, DataConfig(healthy_labels=["0", "-1"]))
    assert healthy.labels == Labels(("-1", "0"), ("1",))
    dropped = read_manifest(path, DataConfig(drop_labels=["-1"]))
    assert dropped.labels == Labels(("0",), ("1",))
    assert [c.row for c in dropped.cases] == [2, 3, 5, 6, 7, 9]
    own = read_manifest(path, DataConfig(lesion_labels=["1", "-1"]))
    assert own.labels == Labels(("0",), ("-1", "1"))


def test_the_answers_that_are_proposed_work(tmp_path):
    path = of_chexpert(tmp_path)
    (problem,) = check_manifest(path, DataConfig())
    answers = {
        "healthy_labels": ["0", "-1"], "drop_labels": ["-1"], "lesion_labels": ["1", "-1"]
    }  # fmt: skip
    for key, labels in answers.items():
        assert f"data.{key}: {labels}" in problem.fix
        assert kinds(path, **{key: labels}) == []


def test_numbers_in_a_file_of_settings_are_labels(tmp_path):
    data = DataConfig(healthy_labels=[0.0, -1.0], drop_labels=[2])
    assert data.healthy_labels == ["0.0", "-1.0"]
    assert data.drop_labels == ["2"]
    with pytest.raises(ValueError, match="quotation marks"):
        DataConfig(drop_labels=[None])


def test_zero_point_zero_is_healthy_like_zero():
    assert resolve_labels(["0.0", "1.0"]) == Labels(("0.0",), ("1.0",))


def test_one_number_in_two_writings_is_a_misspelling(tmp_path):
    path = relabelled(tmp_path, ["1", "0", "1", "0", "1", "0", "1.0", "0.0"])
    assert kinds(path) == [("label-spelling", 8), ("label-spelling", 9)]


@pytest.mark.parametrize(
    ("label", "text"),
    [("-1", "-1"), ("+1", "1"), ("1.0", "1"), ("01", "1"), ("-0.0", "0"), ("1.50", "1.5"),
     ("Grade -1", "grade1"), ("No_Finding", "nofinding"), ("e\u0301", "\u00e9"), ("-", "")],
)  # fmt: skip
def test_what_does_not_tell_labels_apart(label, text):
    assert plain(label) == text


@pytest.mark.parametrize("label", ["tumor", "0", "1", "2.0", "+1", "benign", "normal", "absent"])
def test_labels_that_need_no_answer(label):
    assert not asks(label)


def test_a_dropped_label_that_does_not_occur_is_told(tmp_path):
    path = relabelled(tmp_path, ["tumor", "normal"] * 4)
    (problem,) = check_manifest(path, DataConfig(drop_labels=["tumour"]))
    assert problem.kind == "label-roles"
    assert "'tumour' does not occur" in problem.message
    assert problem.fix == "did you mean 'tumor'?"


def test_blank_labels_can_be_left_out(tmp_path):
    path = relabelled(tmp_path, ["tumor", "normal"] * 3 + ["", "normal"])
    assert kinds(path) == [("label-blank", 8)]
    assert kinds(path, drop_labels=[""]) == []
    assert len(read_manifest(path, DataConfig(drop_labels=[""])).cases) == 7


def test_files_of_rows_that_are_left_out_are_not_read(tmp_path):
    path = relabelled(tmp_path, ["tumor", "normal"] * 3 + ["nan", "normal"])
    data = DataConfig(drop_labels=["nan"])
    before = data_fingerprint(path, data)
    (tmp_path / "images/s6.png").unlink()
    assert check_manifest(path, data) == []
    assert data_fingerprint(path, data) == before


# Several findings an image


def test_without_a_separator_orders_are_an_error_and_sets_a_warning(tmp_path):
    path = relabelled(tmp_path, ["a|b", "normal", "b|a", "normal", "a", "b", "a", "normal"])
    (problem,) = [p for p in check_manifest(path, DataConfig()) if p.kind == "label-order"]
    assert "'a|b' and 'b|a'" in problem.message
    assert "data.label_separator: '|'" in problem.fix
    path = relabelled(tmp_path, ["a, b", "normal", "a, b", "normal", "a", "b", "a", "normal"])
    (problem,) = [p for p in check_manifest(path, DataConfig()) if p.kind == "label-sets"]
    assert problem.severity == "warning"
    assert problem.message.startswith("the label 'a, b' seems to hold several findings")
    assert "data.label_separator: ','" in problem.fix


def test_with_a_separator_order_and_repeats_do_not_count(tmp_path):
    path = relabelled(tmp_path, ["a|b", "b|a", "normal", "b | a|a", "normal", "a", "normal", "a"])
    data = DataConfig(label_separator="|")
    found = read_manifest(path, data)
    assert [c.label for c in found.cases] == ["a|b", "a|b", "normal", "a|b", "normal", "a",
                                              "normal", "a"]  # fmt: skip
    assert found.labels == Labels(("normal",), ("a", "a|b"))
    assert kinds(path, label_separator="|") == []


def test_an_image_with_any_lesion_label_is_a_lesion():
    labels = resolve_labels(
        ["No Finding", "Device", "Device|No Finding", "Device|Mass", "Mass"],
        ["No Finding", "Device"],
        separator="|",
    )
    assert labels == Labels(("Device", "Device|No Finding", "No Finding"), ("Device|Mass", "Mass"))
    few = resolve_labels(["x|y", "y", "n", "n|z"], ["n"], ["x"], separator="|")
    assert few == Labels(("n",), ("x|y",))


def test_findings_within_a_set_ask_too(tmp_path):
    path = relabelled(tmp_path, ["a|nan", "normal", "a|-1", "normal", "A", "normal", "a", "normal"])
    found = {p.kind: p.row for p in check_manifest(path, DataConfig(label_separator="|"))}
    assert found["label-no-value"] == 2
    assert "label-uncertain" in found
    assert found["label-spelling"] == 6


def test_a_set_is_left_out_by_a_finding_or_as_a_whole(tmp_path):
    path = relabelled(tmp_path, ["a|b", "b", "c|a", "normal", "a", "normal", "b|c", "normal"])

    def left(*labels):
        data = DataConfig(label_separator="|", drop_labels=list(labels))
        return [r.line for r in read_configured(path, data).rows]

    assert left("c") == [2, 3, 5, 6, 7, 9]
    assert left("b|a") == [3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("sign", ["", " ", "a", "1", "a|"])
def test_a_separator_is_a_sign(sign):
    with pytest.raises(ValueError, match="sign"):
        DataConfig(label_separator=sign)


@given(st.lists(st.text("abc", min_size=1, max_size=2), min_size=1, max_size=5), st.randoms())
def test_findings_do_not_depend_on_order(parts, random):
    mixed = list(parts)
    random.shuffle(mixed)
    assert findings("|".join(parts), "|") == findings(" | ".join(mixed) + "|", "|")
    assert set(findings("|".join(parts), "|")) == set(parts)


def test_what_seems_to_be_a_set():
    assert reordered(["a/b", "b/a", "c", "b/c"]) == {"/": [["a/b", "b/a"]]}
    assert reordered(["a/b", "c"]) == {}
    assert seeming_sets(["benign/malignant", "normal"]) == {}
    assert seeming_sets(["x|y", "normal"]) == {"|": ["x|y"]}
    assert seeming_sets(["x+y", "x", "normal"]) == {"+": ["x+y"]}


# One thing never hides another


def test_labels_without_health_and_a_patient_on_two_sides_are_both_told(tmp_path):
    rows = good_rows(tmp_path)
    rows[0].append("split")
    for row, split in zip(rows[1:], ["train", "test", *["val"] * 2, *["test"] * 4], strict=True):
        row[1] = {"tumor": "a", "normal": "b"}[row[1]]
        row.append(split)
    found = check_manifest(write_rows(tmp_path, rows), DataConfig())
    assert [p.kind for p in found] == ["label-roles", "patient-in-two-splits"]
    assert "mean healthy" in found[0].message
    assert "'p0' is in train (row 2), test (row 3)" in found[1].message


def test_masks_are_checked_by_the_labels_that_are_known(tmp_path):
    path = relabelled(tmp_path, ["tumor", "normal"] * 3 + ["nan", "normal"], masks=True)
    save(tmp_path / "masks/s0.png", np.zeros((16, 20), np.uint8))
    assert kinds(path) == [("lesion-without-mask", 2), ("label-no-value", 8)]


def test_the_command_takes_every_answer(tmp_path, capsys):
    path = of_chexpert(tmp_path)
    assert weakseg("validate", path) == 2
    assert "label-uncertain: 1 error" in capsys.readouterr().out
    assert weakseg("validate", path, "--set", "data.drop_labels=[-1]") == 0
    assert weakseg("validate", path, "--healthy", "0", "--healthy=-1") == 2
    assert "\nclass-few-patients: 1 error" in capsys.readouterr().out
