"""The whole report, from small run folders."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.report.fake_run import make_run
from weakseg.config import load_config
from weakseg.errors import RunError
from weakseg.report.figures import dice_figure, shorten
from weakseg.report.verdict import RULES
from weakseg.report.words import number
from weakseg.stages.report import make_report


class Page(HTMLParser):
    """What a browser would take from a page: elements, ids, addresses and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.pictures = 0
        self.text = ""
        self._hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._hidden = tag in ("script", "style")
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("src", "href", "xlink:href", "srcset", "poster", "data", "action"):
                self.targets.append(str(value))
        self.pictures += tag == "img"

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data


def no_constants(text: str) -> None:
    raise AssertionError(f"JSON holds {text}, which is not JSON")


def read_json(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text(), parse_constant=no_constants)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A run, the folder of its report and the page."""
    base = tmp_path_factory.mktemp("report")
    run = make_run(base / "run")
    page = make_report([run], base / "out")
    assert page == base / "out" / "index.html"
    return run, base / "out", page.read_text()


def test_the_page_needs_nothing_outside_itself(made):
    page = Page(made[2])
    outside = [t for t in page.targets if not t.startswith(("#", "data:image/", "data:text/csv;"))]
    assert outside == []
    assert "://" not in re.sub(r"data:[^\"]+", "", made[2])
    assert "@import" not in made[2]
    assert not re.search(r"url\((?!#)", made[2])
    assert not {"link", "iframe", "object", "embed", "base"} & set(page.tags)


def test_every_reference_inside_the_page_leads_somewhere_and_ids_are_unique(made):
    page = Page(made[2])
    assert len(page.ids) == len(set(page.ids))
    wanted = {t[1:] for t in page.targets if t.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", made[2]))
    assert wanted
    assert wanted <= set(page.ids)


def test_the_numbers_are_those_of_the_summary(made):
    run, _, html = made
    text = Page(html).text
    summary = pd.read_csv(run / "scores" / "summary.csv")
    for _, row in summary.iterrows():
        assert row["method"] in text
        for column in ("dice", "dice_low", "dice_high", "dice_all", "iou", "ap", "energy"):
            assert number(row[column]) in text
        assert number(row["hd95"], 1) in text


def test_the_answer_comes_first_and_speaks_of_the_first_method_without_masks(made):
    run, out, html = made
    summary = pd.read_csv(run / "scores" / "summary.csv")
    weak = summary[(summary["kind"] == "heatmap") & (summary["masks_seen"] == 0)]
    rules = [f"gradcam-{r.rule}" for r in load_config(run / "config.yaml").masks.rules]
    best = weak.set_index("method", drop=False).loc[next(m for m in rules if m in set(weak.method))]
    report = read_json(out)["runs"][0]
    assert report["headline"] == best["method"]
    assert f"reaches a Dice of {number(best['dice'])}" in report["answer"][0]
    assert "above the best trivial floor" in report["answer"][1]
    text = Page(html).text
    assert text.index("Without seeing a mask") < text.index("Methods that saw no masks")


def test_the_first_screen_holds_verdict_numbers_and_three_pictures(made):
    run, out, html = made
    report = read_json(out)["runs"][0]
    verdict = report["verdict"]
    text = Page(html).text
    summary = pd.read_csv(run / "scores" / "summary.csv").set_index("method")
    row = summary.loc[report["headline"]]
    assert verdict["sentence"].startswith("Better than nothing: Grad-CAM with a fixed threshold")
    assert f"Dice of {number(row['dice'], 2)} (95" in verdict["sentence"]
    assert "only 6 patients" in verdict["sentence"]
    assert [c["holds"] for c in verdict["conditions"]] == [True, False, False, True, True]
    first = text[: text.index("How the light is decided")]
    places = [
        first.index(w) for w in ("Grad-CAM with", "lesions missed", "Typical", "Best", "Failed")
    ]
    assert places == sorted(places)
    for rule in RULES.values():
        assert rule in text


def test_the_page_speaks_of_the_method_that_is_asked_for(tmp_path):
    settings = {"report": {"gallery": 1, "method": "gradcam-validation"}}
    run = make_run(tmp_path / "run", seeds=[0], settings=settings)
    text = Page(make_report([run], tmp_path / "out").read_text()).text
    assert read_json(tmp_path / "out")["runs"][0]["headline"] == "gradcam-validation"
    assert "masks, Grad-CAM with a threshold chosen on validation masks reaches a Dice of" in text


def test_upper_bounds_and_floors_stand_apart_below_the_methods(made):
    text = Page(made[2]).text
    headings = [
        "Methods that saw no masks",
        "Methods that saw some masks, to choose a threshold",
        "Trivial floors",
        "Upper bounds: chosen on the test masks",
    ]
    places = [text.index(h) for h in headings]
    assert places == sorted(places)
    rows = text[places[-1] :]
    assert "gradcam-oracle-image" in rows[: rows.index("Small figures in brackets")]
    assert "scores a Dice of 1" in text
    assert "charged the diagonal" in text


def test_a_run_of_real_images_and_known_patients_has_no_banner(made):
    text = Page(made[2]).text
    assert "SIMULATED" not in text
    assert "Patients are unknown" not in text


def test_what_was_done_is_told(made):
    text = Page(made[2]).text
    for told in (
        "weakseg compare ", "layer4", "a processor", "torch 2.9", "f" * 12, "3 of 48",
        "masks of the validation split", "bootstrap: 200", "2026-01-02T03:04:05Z", "2 of 3",
    ):  # fmt: skip
        assert told in text, told


def test_all_figures_are_drawn_and_all_pictures_shown(made):
    page = Page(made[2])
    assert page.tags.count("svg") == 7
    gallery = pd.read_csv(made[1] / "tables" / "gallery.csv")
    cases = pd.read_csv(made[1] / "tables" / "cases.csv")
    assert page.pictures == len(gallery) + len(cases) + 3 > 30
    assert gallery["problem"].isna().all()
    assert not gallery["case"].duplicated().any()
    mean = gallery.groupby("row")["dice"].mean()
    assert mean["best"] > mean["median"] > mean["worst"] > mean["missed"] == 0


def test_tables_are_written_as_csv_and_as_json_without_nan(made):
    run, out, _ = made
    report = read_json(out)
    names = {p.stem for p in (out / "tables").glob("*.csv")}
    assert names == set(report["tables"])
    methods = pd.read_csv(out / "tables" / "methods.csv")
    assert len(methods) == len(pd.read_csv(run / "scores" / "summary.csv"))
    assert (methods["run"] == "fake").all()
    floors = [m for m in report["tables"]["methods"] if m["kind"] == "floor"]
    assert floors[0]["ap"] is None
    assert report["runs"][0]["record"]["data"]["fingerprint"] == "f" * 12


def test_a_report_made_again_is_the_same_and_leaves_other_files_alone(made, tmp_path):
    run, out, html = made
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "index.html").write_text("an earlier report")
    (tmp_path / "report.json").write_text("its summary")
    make_report([run], tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "index.html").read_text() == html
    assert (tmp_path / "report.json").read_text() == (out / "report.json").read_text()
    assert not list(tmp_path.rglob(".part-*"))


def test_simulated_images_and_unknown_patients_are_announced(tmp_path):
    run = make_run(tmp_path / "run", simulated=True, patients_known=False, seeds=[0], patients=8)
    text = Page(make_report([run], tmp_path / "out").read_text()).text
    assert text.index("SIMULATED images") < text.index("Without seeing a mask")
    assert "says nothing about real ones" in text
    assert "Near-duplicate images are kept on one side" in text
    assert "intervals may be too narrow" in text


def test_heat_beside_the_lesion_is_called_worth_nothing(tmp_path):
    run = make_run(tmp_path / "run", sharp=False, seeds=[0])
    out = tmp_path / "out"
    make_report([run], out)
    assert "worth nothing" in read_json(out)["runs"][0]["answer"][1]


def test_without_masks_the_report_says_that_nothing_could_be_scored(tmp_path):
    run = make_run(tmp_path / "run", scored=False, seeds=[0])
    out = tmp_path / "out"
    page = Page(make_report([run], out).read_text())
    assert "Nothing could be scored" in page.text
    assert "rule validation was left out: no lesion image of the val split" in page.text
    assert "AUC" in page.text
    assert page.pictures == 6
    assert page.tags.count("svg") == 3
    report = read_json(out)
    assert report["tables"]["methods"] == []
    assert report["runs"][0]["headline"] is None
    assert (out / "tables" / "methods.csv").read_text().startswith("run,")


@pytest.mark.thorough
def test_several_runs_share_a_table_and_are_held_against_each_other(tmp_path):
    good = make_run(tmp_path / "good", name="good", seeds=[0])
    bad = make_run(tmp_path / "bad", name="bad", seeds=[0], sharp=False)
    out = tmp_path / "out"
    html = make_report([bad, good], out).read_text()
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    report = read_json(out)
    assert report["comparison"]["comparable"] is True
    (sentence,) = report["comparison"]["sentences"]
    assert re.match(r"good \(gradcam-\w+\) is better than bad \(gradcam-\w+\): .* \+", sentence)
    assert sentence in page.text
    assert {r["run"] for r in report["tables"]["methods"]} == {"good", "bad"}
    assert page.tags.count("svg") == 2 * 7 + 1
    assert page.text.index("All methods") < page.text.index("Threshold and lesion size")


@pytest.mark.thorough
def test_runs_of_different_data_are_not_compared(tmp_path):
    runs = [make_run(tmp_path / n, name=n, fingerprint=n, seeds=[0], patients=8) for n in "ab"]
    out = tmp_path / "out"
    page = Page(make_report(runs, out).read_text())
    assert "cannot be compared: their data differ" in page.text
    assert read_json(out)["comparison"]["sentences"] == []
    assert page.tags.count("svg") == 2 * 7


def test_a_classifier_of_other_splits_is_a_warning(tmp_path):
    run = make_run(tmp_path / "run", seeds=[0], patients=8)
    splits = pd.read_csv(run / "splits.csv")
    splits.loc[splits["split"] == "train", "split"] = "val"
    splits.to_csv(run / "splits.csv", index=False)
    out = tmp_path / "out"
    make_report([run], out)
    assert "test images may have been trained on" in read_json(out)["runs"][0]["warnings"][0]


def test_images_that_are_gone_cost_their_pictures_only(tmp_path):
    run = make_run(tmp_path / "run", seeds=[0], patients=8)
    for path in (tmp_path / "run-data" / "images").iterdir():
        path.unlink()
    (tmp_path / "run-data" / "labels.csv").unlink()
    page = Page(make_report([run], tmp_path / "out").read_text())
    assert page.pictures == 0
    assert "No picture: " in page.text
    assert "Without seeing a mask" in page.text


def test_every_section_has_a_place_in_the_contents_and_holds_its_tables_as_csv(made):
    _, out, html = made
    links = dict(re.findall(r'<li><a href="#(run1-[\w-]+)">([^<]+)</a></li>', html))
    headings = re.findall(r"<h2>([^<]+)</h2>", html)
    assert list(links.values()) == headings
    assert len(headings) > 6
    held = dict(re.findall(r'download="(\w+).csv" href="data:text/csv;base64,([^"]+)"', html))
    for path in (out / "tables").glob("*.csv"):
        table = pd.read_csv(path).drop(columns="run")
        if len(table):
            text = base64.b64decode(held[path.stem]).decode()
            pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(text)), table)
    assert len(held) > 6


def test_every_figure_has_a_name_for_screen_readers(made):
    assert html_figures(made[2]) == re.findall(r'<svg[^>]* aria-label="([^"]{20,})"', made[2])
    assert len(html_figures(made[2])) == 7


def html_figures(html: str) -> list[str]:
    return re.findall(r"</svg>\s*<figcaption>([^<]+)</figcaption>", html)


def test_no_gallery_is_made_where_none_is_wanted(tmp_path):
    run = make_run(tmp_path / "run", seeds=[0], patients=8, settings={"report": {"gallery": 0}})
    page = Page(make_report([run], tmp_path / "out").read_text())
    assert page.pictures == 0
    assert "Typical" not in page.text
    assert "asked to have none (report.gallery: 0, or --gallery 0)" in page.text


def test_folders_that_are_no_whole_runs_are_refused(tmp_path):
    with pytest.raises(RunError, match="no such run folder"):
        make_report([tmp_path / "none"], tmp_path / "out")
    run = make_run(tmp_path / "run", seeds=[0], patients=8)
    with pytest.raises(RunError, match="stands twice"):
        make_report([run, tmp_path / "." / "run"], tmp_path / "out")
    (run / "splits.csv").unlink()
    with pytest.raises(RunError, match="not complete"):
        make_report([run], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("error")
def test_long_names_of_runs_leave_room_for_the_figure():
    assert shorten("a" * 44) == "a" * 44
    assert shorten("x" * 60 + "/run: gradcam-otsu") == "…" + "x" * 25 + "/run: gradcam-otsu"
    methods = pd.DataFrame(
        {
            "method": ["gradcam-otsu"],
            "group": ["no-masks"],
            "dice": [0.4],
            "dice_low": [0.3],
            "dice_high": [0.5],
            "floor": [""],
        }
    )
    assert "gradcam-otsu" in dice_figure(methods, ["/very/long" * 30 + ": gradcam-otsu"])


def test_a_missing_template_ends_before_any_work(tmp_path, monkeypatch):
    from jinja2 import DictLoader

    from weakseg.errors import WeaksegError
    from weakseg.report import page

    fresh = page._environment.__wrapped__  # not the one that all pages share

    def broken():
        held = fresh()
        held.loader = DictLoader({"macros.html.jinja": ""})
        return held

    monkeypatch.setattr(page, "_environment", broken)
    monkeypatch.setattr(page, "_part", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(WeaksegError, match="template of the report is missing") as e:
        make_report([make_run(tmp_path / "run")], tmp_path / "out")
    assert e.value.where == "page.html.jinja"
    assert e.value.fix == "install weakseg again"
