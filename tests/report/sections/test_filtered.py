"""What a page says and draws of heatmap-filtered retraining, from tables written by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from tests.report.fake_filtered import (
    AUCS,
    add_filtered,
    conditions,
    control,
    dark,
    ends,
    faithfulness,
    tumour,
)
from tests.report.fake_run import make_run
from tests.report.test_page import Page, read_json
from weakseg.config import parse_condition
from weakseg.report.sections.filtered import (
    FAITHFULNESS_COLUMNS,
    FILTERED_COLUMNS,
    condition_rows,
    is_curve,
)
from weakseg.report.sections.filtered_figures import (
    conditions_figure,
    curves_figure,
    faithfulness_figure,
)
from weakseg.report.sections.filtered_words import answered, condition_words, grouped
from weakseg.runs import read_json as read_record
from weakseg.runs import write_json
from weakseg.stages.report import make_report

HOSTILE = "<script>alert('x')</script>"

HEADING = "Does the classifier need what the heatmap shows?"


def said(*questions: dict[str, Any]) -> list[str]:
    found = answered({"questions": list(questions)}, conditions())
    return [f["sentence"].replace("\N{NO-BREAK SPACE}", " ") for f in found]


def cautions(*questions: dict[str, Any]) -> list[str]:
    groups = grouped(answered({"questions": list(questions)}, conditions()))
    return [c for g in groups for c in g["cautions"]]


def test_a_lesion_that_is_needed_is_a_yes_with_its_numbers():
    (sentence,) = said(tumour())
    assert sentence.startswith(
        "Yes: without the lesion a freshly trained network loses 84 % [70, 95] of its lead over "
        "chance (AUC 0.930 → 0.560 [0.520, 0.600])."
    )
    assert "The lesion alone reaches an AUC of 0.880 [0.840, 0.920]." in sentence
    assert "goes from 0.930 to 0.460 [0.420, 0.500] on them." in sentence


def test_a_lesion_that_can_be_missed_is_a_no():
    (sentence,) = said(tumour("no", share_lost={"value": 0.2, "low": 0.1, "high": 0.3}))
    assert sentence.startswith("No: a fresh network can do without it.")
    assert "less than half of its lead over chance, 20 % [10, 30] (AUC" in sentence
    assert "Yes" not in sentence


@pytest.mark.parametrize(
    ("reason", "share", "told"),
    [
        ("interval", {"value": 0.6, "low": 0.3, "high": 0.8}, "one half lies within that"),
        ("too few", ends(0.6, None), "loses 60 % of its lead"),
        ("too few", ends(0.6, None), "of too few patients"),
        ("chance", ends(None), "not clearly better than chance"),
    ],
)
def test_an_open_question_of_the_lesion_says_why(reason, share, told):
    (sentence,) = said(tumour("cannot tell", reason, share_lost=share))
    assert sentence.startswith("Cannot be told: ")
    assert told in sentence
    assert "nan" not in sentence.lower()
    assert "None" not in sentence


def test_what_was_not_tried_is_not_spoken_of():
    (sentence,) = said(tumour(fill="zero", alone=None, shape=None))
    assert "lesion alone" not in sentence
    assert "original" not in sentence  # the table has no truth-remove-zero


@pytest.mark.parametrize(
    ("verdict", "reason", "start", "told"),
    [
        ("yes", "beyond shape", "Yes: ", "difference is +0.050 [0.030, 0.070]."),
        ("yes", "no control", "Yes: ", "shape was not tried alone"),
        ("no", "chance", "No: ", "That is chance, or less than 0.05 above it."),
        ("no", "only shape", "No: ", "add to the shape is less than 0.05"),
        ("cannot tell", "shape", "Cannot be told: ", "0.930 [0.890, 0.970]"),
        ("cannot tell", "interval", "Cannot be told: ", "too wide"),
        ("cannot tell", "too few", "Cannot be told: ", "of too few patients"),
    ],
)
def test_the_dark_regions_in_words(verdict, reason, start, told):
    changes = {"shape": None, "beyond_shape": None} if reason == "no control" else {}
    (sentence,) = said(dark(verdict, reason, **changes))
    assert sentence.startswith(start)
    assert told in sentence
    assert "leaves dark reaches an AUC of 0.750 [0.710, 0.790]" in sentence
    assert ("shape alone 0.700" in sentence) == (reason != "no control")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("random", "random pixels"),
        ("gaussian", "a centred Gaussian"),
        ("shuffled", "another image's heatmap"),
        ("truth", "the true mask, grown or shrunk"),
    ],
)
@pytest.mark.parametrize(
    ("verdict", "start"),
    [
        ("more", "More than {}: "),
        ("less", "Less than {}: "),
        ("as much", "As much as {}: "),
        ("cannot tell", "Cannot be told for {}: "),
    ],
)
def test_the_controls_in_words(verdict, start, source, name):
    reason = "interval" if verdict == "cannot tell" else "clear"
    (sentence,) = said(control(verdict, reason, control=source, lead=ends(-0.2)))
    assert sentence.startswith(start.format(name))
    assert "AUC 0.900 [0.860, 0.940] against 0.700 [0.660, 0.740]" in sentence
    assert "difference −0.200 [−0.240, −0.160]" in sentence
    assert ("within 0.05" in sentence) == (verdict == "as much")


def test_a_control_without_an_interval_says_so():
    (sentence,) = said(control("cannot tell", "too few", lead=ends(0.2, None)))
    assert "difference +0.200; the test images are of too few patients" in sentence


def test_a_shape_that_tells_the_class_is_a_caution_once_and_only_if_its_interval_says_so():
    assert cautions(tumour(shape=ends(0.52)), control(shape=ends(0.54))) == []
    assert cautions(tumour(shape=ends(0.8, None)), control(shape=None)) == []
    (one,) = cautions(control(shape=ends(0.7)), control("less", shape=ends(0.7)))
    assert "hands over that network's verdict: shape alone gives an AUC of 0.700 [0.660" in one
    (other,) = cautions(tumour(shape=ends(0.6)))
    assert "The true mask's shape alone" in other
    assert "0.600 [0.560, 0.640]" in other


def test_fills_and_sizes_are_named_where_several_were_tried():
    first, second = said(tumour(fill="zero"), tumour("no", fill="linear"))
    assert first.startswith("Yes (filled with zero): ")
    assert second.startswith("No (filled with imputation): ")
    first, second = said(dark(), dark(size="soft"))
    assert first.startswith("Yes (hard filter): ")
    assert second.startswith("Yes (soft filter): ")
    assert said(dark())[0].startswith("Yes: ")


def test_conditions_in_words():
    def told(name: str, *fill: bool) -> str:
        row = {k: getattr(parse_condition(name), k) for k in ("source", "size", "side", "fill")}
        return condition_words(row, *fill).replace("\N{NO-BREAK SPACE}", " ")

    assert told("raw", True) == "the whole image"
    assert told("heat-hard-keep-mean") == "only the heatmap's region"
    assert told("heat-soft-remove-zero") == "all but the heatmap's region, softly"
    assert told("heat-hard-shape") == "shape alone of the heatmap's region"
    assert told("truth-remove-linear", True) == "all but the lesion; rest: imputation"
    assert told("truth-hard-keep-mean") == "only the true mask, equal area"
    assert told("box-keep-mean") == "only the lesion's box"
    assert told("heat-top30-remove-mean") == "all but the hottest 30 %"
    names = {told(n) for n in AUCS}
    assert len(names) == len(AUCS)


def test_beside_the_retrained_networks_stands_the_original():
    rows = {r["condition"]: r for r in condition_rows(conditions())}
    assert list(rows) == list(AUCS)
    row = rows["truth-remove-mean"]
    assert (row["auc"], row["original_auc"]) == pytest.approx((0.56, 0.46))
    assert (row["original_auc_low"], row["original_auc_high"]) == pytest.approx((0.42, 0.5))
    alone = condition_rows(conditions().query("network == 'retrained'"))
    assert pd.isna(alone[0]["original_auc"])


def labels(svg: str) -> list[str]:
    return ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter("text")]


def namespaced(svg: str) -> str:
    """The page declares nothing, for a parser of HTML needs nothing."""
    return svg.replace("<svg", '<svg xmlns:xlink="x"', 1)


@pytest.mark.filterwarnings("error")
def test_one_share_of_all_controls_is_no_curve():
    from weakseg.report.sections.filtered import is_curve

    sizes = {"size": ["own", "top10", "top10", "hard"], "fill": ["mean", "mean", "shape", "mean"]}
    assert not is_curve(pd.DataFrame(sizes)).any()
    sizes["size"][3] = "top30"
    assert is_curve(pd.DataFrame(sizes)).tolist() == [False, True, False, True]


@pytest.mark.thorough
@pytest.mark.parametrize("half", [0.04, None])
def test_figures_are_drawn_with_and_without_intervals(half):
    table = conditions(half=half)
    table["in_words"] = [condition_words(r) for r in table.to_dict(orient="records")]
    drawn = labels(namespaced(conditions_figure(table[~is_curve(table)])))
    assert "all but the lesion" in drawn
    assert {"retrained network", "original network", "chance"} <= set(drawn)
    svg = curves_figure(table)
    assert {"pixels removed, %", "pixels kept, %", "the heatmap"} <= set(labels(namespaced(svg)))
    bands = svg.count("FillBetweenPolyCollection")
    assert bands == (4 if half else 0)
    rows = pd.DataFrame(faithfulness(half))
    drawn = labels(namespaced(faithfulness_figure(rows.astype({"low": float, "high": float}))))
    assert {"ROAD", "deletion", "insertion", "coldest first"} <= set(drawn)


def test_a_curve_of_one_side_and_without_the_original_networks_is_drawn():
    table = conditions()
    table = table[(table["side"] == "remove") | (table["source"] == "raw")]
    drawn = labels(namespaced(curves_figure(table[table["network"] == "retrained"])))
    assert "pixels removed, %" in drawn
    assert "pixels kept, %" not in drawn


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Page]:
    """A run with results, the folder of its report and the page."""
    base = tmp_path_factory.mktemp("filtered")
    run = make_run(base / "run", patients=8)
    add_filtered(
        run,
        cautions=["Only <i>two</i> seeds."],
        left_out={"filters of <true> masks": "2 images have none"},
        target=HOSTILE,
    )
    page = Page(make_report([run], base / "out").read_text())
    return run, base / "out", page


@pytest.mark.thorough
def test_the_section_holds_answers_conditions_and_notes(made):
    text = made[2].text.replace("\N{NO-BREAK SPACE}", " ")
    assert text.count(HEADING) == 2  # in the contents, and above the section
    assert text.index("false-positive rate") < text.rindex(HEADING) < text.rindex("Pictures")
    for sentence in said(tumour(), dark(), control()):
        assert sentence in text
    for name, auc in AUCS.items():
        assert name in text
        assert f"{auc:.3f}" in text
    for told in (
        "24 test images, 6 patients, 2 seeds", "fixed (at 0.5)", "grown by 2 pixels",
        "gate on the classifier's probability is not applied", "borrows the true mask",
        "the training mean", "0.311", "0.622", "85 % [80 %, 90 %]", "definitions are ours",
        "40 pairs of a test image and a seed", "9 patients", "The curves as a table",
    ):  # fmt: skip
        assert told in text, told


def test_conditions_of_the_curves_stand_below_them_only(made):
    text = made[2].text
    rows = text[text.index("All conditions") : text.index("24 test images")]
    assert "truth-remove-mean" in rows
    assert "-top" not in rows
    assert "heat-top10-remove-mean" in text[text.index("The curves as a table") :]


def test_whatever_the_files_say_is_text(made):
    page = made[2]
    assert page.tags.count("script") == 1
    for told in (HOSTILE, "Only <i>two</i> seeds.", "filters of <true> masks", "2 images have"):
        assert told in page.text


def other_pictures(out: Path) -> int:
    """Three on the first screen, those of the gallery, and one of every test case."""
    return 3 + sum(len(pd.read_csv(out / "tables" / f"{n}.csv")) for n in ("gallery", "cases"))


def test_figures_and_pictures_are_in_the_page(made):
    _, out, page = made
    main = [n for n in AUCS if "-top" not in n]
    assert page.pictures == other_pictures(out) + len(main)
    assert page.tags.count("svg") == 7 + 3
    assert len(page.ids) == len(set(page.ids))
    outside = [t for t in page.targets if not t.startswith(("#", "data:image/", "data:text/csv"))]
    assert outside == []


def test_the_same_answers_and_tables_are_for_machines(made):
    report = read_json(made[1])
    told = report["runs"][0]["filtered"]
    assert [q["verdict"] for q in told["questions"]] == ["yes", "yes", "more"]
    assert told["questions"][0]["sentence"].startswith("Yes: without the lesion")
    table = pd.read_csv(made[1] / "tables" / "filtered.csv")
    assert table.columns.tolist() == ["run", *FILTERED_COLUMNS]
    assert len(table) == 2 * len(AUCS)
    scored = pd.read_csv(made[1] / "tables" / "faithfulness.csv")
    assert scored.columns.tolist() == ["run", *FAITHFULNESS_COLUMNS]
    assert len(scored) == len(report["tables"]["faithfulness"]) == len(faithfulness())


@pytest.mark.usefixtures("alone")
def test_a_run_without_it_has_no_section_and_empty_tables(tmp_path):
    run = make_run(tmp_path / "run", seeds=[0], patients=8)
    out = tmp_path / "out"
    assert HEADING not in make_report([run], out).read_text()
    assert read_json(out)["runs"][0]["filtered"] is None
    header = (out / "tables" / "filtered.csv").read_text()
    assert header.strip() == ",".join(["run", *FILTERED_COLUMNS])


def test_a_run_without_true_masks_one_seed_and_nothing_else_has_a_section(tmp_path):
    """Neither scores of masks, nor intervals, curves, faithfulness or pictures."""
    run = make_run(
        tmp_path / "run", seeds=[0], patients=8, scored=False, settings={"report": {"gallery": 0}}
    )
    table = conditions({"raw": 0.9, "heat-hard-keep-zero": 0.8}, half=None)
    add_filtered(run, [dark("cannot tell", "too few", dark=ends(0.7, None))], table=table,
                 scored=False)  # fmt: skip
    (run / "filtered" / "resnet18" / "seed-0" / "raw" / "examples.png").write_text("damaged")
    page = Page(make_report([run], tmp_path / "out").read_text())
    assert HEADING in page.text
    assert "Cannot be told: " in page.text
    assert "against its own network" not in page.text
    assert "The curves as a table" not in page.text
    assert "borrows" not in page.text
    assert page.pictures == 0
    assert not re.search(r"\bnan\b", page.text, re.IGNORECASE)


def test_a_rule_that_stands_on_other_masks_is_told(tmp_path):
    """Its masks of this set are counted, and make no filter of true masks."""
    table = conditions({"raw": 0.9, "heat-hard-keep-mean": 0.8, "heat-top10-keep-mean": 0.7})
    table.loc[table["size"] == "hard", "masks_used"] = 20
    run = make_run(tmp_path / "run", seeds=[0], patients=8, settings={"report": {"gallery": 0}})
    add_filtered(run, [dark()], table=table, rule={"rule": "box-prompt"}, elsewhere=["LiteMedSAM"])
    text = Page(make_report([run], tmp_path / "out").read_text()).text
    assert "masks seen elsewhere, by LiteMedSAM" in text
    assert text.count("20 + elsewhere") == 1
    assert text.count("+ elsewhere") == 1
    assert "borrows" not in text


@pytest.mark.thorough
def test_pictures_that_are_gone_or_damaged_are_left_out(tmp_path):
    run = add_filtered(make_run(tmp_path / "run", seeds=[0], patients=8))
    folder = run / "filtered" / "resnet18" / "seed-0"
    (folder / "raw" / "examples.png").write_text("damaged")
    (folder / "truth-shape" / "examples.png").unlink()
    out = tmp_path / "out"
    page = Page(make_report([run], out).read_text())
    main = [n for n in AUCS if "-top" not in n]
    assert page.pictures == other_pictures(out) + len(main) - 2


@pytest.mark.thorough
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    "stale",
    [
        {"data": "other splits"},
        {"arch": "resnet50"},
        {"seeds": [0, 1]},
    ],
)
def test_results_of_other_splits_networks_or_seeds_are_not_shown(tmp_path, stale):
    run = make_run(tmp_path / "run", seeds=[0], patients=8)
    add_filtered(run, **stale)
    out = tmp_path / "out"
    assert HEADING not in make_report([run], out).read_text()
    assert read_json(out)["tables"]["filtered"] == []


@pytest.mark.usefixtures("alone")
def test_results_that_no_finished_stage_vouches_for_are_not_shown(tmp_path):
    run = add_filtered(make_run(tmp_path / "run", seeds=[0], patients=8))
    record = read_record(run / "run.json")
    stage = record["stages"].pop("filtered")
    write_json(run / "run.json", record)
    assert HEADING not in make_report([run], tmp_path / "one").read_text()
    record["stages"]["filtered"] = stage
    write_json(run / "run.json", record)
    assert HEADING in make_report([run], tmp_path / "two").read_text()
    (run / "scores" / "filtered.json").unlink()
    assert HEADING not in make_report([run], tmp_path / "three").read_text()


@pytest.mark.usefixtures("alone")
def test_results_of_networks_that_were_trained_again_are_not_shown(tmp_path):
    run = add_filtered(make_run(tmp_path / "run", seeds=[0], patients=8))
    record = read_record(run / "run.json")
    record["stages"]["filtered"]["weights"] = {"0": "of an earlier network"}
    write_json(run / "run.json", record)
    assert HEADING not in make_report([run], tmp_path / "out").read_text()
