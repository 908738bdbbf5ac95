"""The page in a real browser: it sorts by keyboard, fits its window, and asks for nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from tests.marks import thorough_but
from tests.report.fake_run import make_run
from weakseg.stages.report import make_report

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for found in map(shutil.which, NAMES) if found), None)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page with"),
    pytest.mark.timeout(300),
    pytest.mark.thorough,
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium of the system."""
    with playwright.sync_playwright() as p:
        held = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield held
        held.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the page of a small run."""
    base = tmp_path_factory.mktemp("browser")
    return Path(make_report([make_run(base / "run", seeds=[0])], base / "out")).as_uri()


@pytest.fixture(params=thorough_but([1200, 390], [390]))
def page(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page at a width; whatever it complains of or asks for fails the test."""
    opened = browser.new_page(viewport={"width": request.param, "height": 900})
    opened.set_default_timeout(60_000)
    troubles: list[str] = []
    opened.on("console", lambda m: troubles.append(m.text))
    opened.on("pageerror", lambda e: troubles.append(str(e)))
    opened.on(
        "request",
        lambda r: None if r.url == address or r.url.startswith("data:") else troubles.append(r.url),
    )
    opened.goto(address)
    yield opened
    opened.close()
    assert troubles == []


def test_nothing_stands_beyond_the_edge(page):
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_table_is_sorted_by_keyboard_and_says_how(page):
    table = page.locator("table.methods")
    head = table.locator("th", has_text="HD95").first
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    falling = floors(table)
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "ascending"
    assert floors(table) == falling[::-1] != falling
    table.locator("th", has_text="method").first.locator("button").click()
    assert head.get_attribute("aria-sort") is None
    assert floors(table) == sorted(falling)


def test_items_are_sorted_by_their_numbers(page):
    table = page.locator("table").filter(has=page.locator("th", has_text="TRIPOD+AI")).first
    head = table.locator("th", has_text="TRIPOD+AI").first
    at = head.evaluate("head => head.cellIndex")
    head.locator("button").evaluate("button => button.click()")
    if head.get_attribute("aria-sort") != "ascending":
        head.locator("button").evaluate("button => button.click()")
    cells = table.locator(f"tbody td:nth-child({at + 1}), tbody th:nth-child({at + 1})")
    said = [c for c in cells.all_text_contents() if c.strip()]
    numbers = [int("".join(takewhile(str.isdigit, c.strip()))) for c in said]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) > 5
    assert any(not c.strip().isdigit() for c in said)


def test_dates_are_sorted_as_dates(page):
    table = page.locator("table").filter(has=page.locator("th", has_text="ended")).first
    head = table.locator("th", has_text="ended").first
    at = head.evaluate("head => head.cellIndex")
    cells = table.locator(f"tbody td:nth-child({at + 1}), tbody th:nth-child({at + 1})")
    date = "`2026-11-${30 - 7 * k % 20}T03:04:05Z`"
    cells.evaluate_all(f"cells => cells.forEach((c, k) => {{ c.textContent = {date} }})")
    before = cells.all_text_contents()
    head.locator("button").evaluate("button => button.click()")
    after = cells.all_text_contents()
    up = head.get_attribute("aria-sort") == "ascending"
    assert after == sorted(before, reverse=not up) != before


def floors(table: Any) -> list[str]:
    names = table.locator("tbody th[scope=row]").all_inner_texts()
    return [n.strip() for n in names if n.strip().startswith("floor")]


def test_the_first_column_stays_when_a_table_is_scrolled(page):
    box = page.locator(".scroll", has=page.locator("table.methods"))
    name = box.locator("tbody th[scope=row]").first
    before = name.bounding_box()["x"]
    moved = box.evaluate("e => { e.scrollLeft = 200; return e.scrollLeft }")
    assert moved > 0
    assert name.bounding_box()["x"] == pytest.approx(before, abs=1)


def test_a_button_holds_its_table(page, tmp_path):
    with page.expect_download() as told:
        page.locator("a[download='methods.csv']").click()
    told.value.save_as(tmp_path / "methods.csv")
    assert (tmp_path / "methods.csv").read_text().startswith("method,kind,")


def test_axe_finds_nothing(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    # The page's policy keeps out what is not its own: axe runs as the test's, not the page's.
    for details in page.locator("details").all():
        details.evaluate("d => { d.open = true }")
    script = Path(axe.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    page.evaluate(script)
    found = page.evaluate("axe.run()")
    assert [(v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found["violations"]] == []


def shown(page: Any) -> list[str]:
    """Cases in sight, in their order."""
    return page.eval_on_selector_all(".case:not([hidden])", "l => l.map(c => c.dataset.case)")


def test_the_threshold_moves_masks_and_dice(page):
    slider, sums = page.locator(".threshold"), page.locator(".sums")
    case = page.locator(".case[data-tags~=small]").first
    case.scroll_into_view_if_needed()
    case.locator("canvas").wait_for()
    painted = "c => Array.from(c.getContext('2d').getImageData(0,0,c.width,c.height).data).join()"
    page.wait_for_function(
        "c => c.getContext('2d').getImageData(0,0,c.width,c.height).data.some(v => v)",
        arg=case.locator("canvas").element_handle(),
    )
    before, words, dice = (
        case.locator("canvas").evaluate(painted),
        sums.inner_text(),
        case.locator(".now").inner_text(),
    )
    assert "mean Dice" in words
    slider.focus()
    page.keyboard.press("Home")
    assert page.locator(".at").inner_text() == "0.00"
    assert sums.inner_text() != words
    assert case.locator(".now").inner_text() != dice
    slider.evaluate("s => { s.value = 1; s.dispatchEvent(new Event('input')) }")
    assert "mean Dice 0.000" in sums.inner_text()
    assert case.locator("canvas").evaluate(painted) != before


def test_cases_are_filtered_sorted_and_searched(page):
    every = shown(page)
    assert every == sorted(every)
    page.locator(".filter").select_option("missed")
    missed = shown(page)
    assert 0 < len(missed) < len(every)
    assert all("missed" in t for t in tags(page))
    page.locator(".filter").select_option("small")
    assert all("small" in t for t in tags(page))
    page.locator(".filter").select_option("")
    page.locator(".order").select_option("dice")
    dice = page.eval_on_selector_all(".case", "l => l.map(c => +c.dataset.dice)")
    assert dice == sorted(dice)
    page.locator(".search").fill("P03")
    assert shown(page)
    assert set(
        page.eval_on_selector_all(".case:not([hidden])", "l => l.map(c => c.dataset.patient)")
    ) == {"P03"}
    assert page.locator(".sums").inner_text().startswith(f"{len(shown(page))} of {len(every)} ")


def tags(page: Any) -> list[str]:
    return page.eval_on_selector_all(".case:not([hidden])", "l => l.map(c => c.dataset.tags)")


def test_a_case_is_enlarged_and_left_by_keyboard(page):
    first = page.locator(".case").first
    first.focus()
    small = first.bounding_box()["width"]
    page.keyboard.press("Enter")
    assert first.bounding_box()["width"] > 1.5 * small
    page.keyboard.press("ArrowRight")
    second = page.locator(".case").nth(1)
    assert second.evaluate("c => c === document.activeElement && c.className.includes('zoomed')")
    page.keyboard.press("Escape")
    assert page.locator(".zoomed").count() == 0
