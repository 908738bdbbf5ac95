"""Tables of the written pages are tables: a blank line in one would end it."""

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pages():
    """All pages that are committed; in a folder without its history, all that are there."""
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0 and listed.stdout:
        return [ROOT / name for name in listed.stdout.splitlines()]
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def rows_without_a_head(text):
    """Numbers of the lines with a row that begins a table and is followed by no ``|---``."""
    lines = ["", *text.splitlines(), ""]
    lost, code = [], False
    for number, (before, line) in enumerate(pairwise(lines), 1):
        code ^= line.lstrip().startswith("```")
        begins = line.lstrip().startswith("|") and not before.strip() and not code
        if begins and not lines[number + 1].lstrip().startswith(("|---", "|:--", "| ---", "| :--")):
            lost.append(number)
    return lost


def test_a_row_after_a_blank_line_is_found():
    table = "text\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert rows_without_a_head(table) == []
    assert rows_without_a_head(f"{table}\n| 3 | 4 |\n| 5 | 6 |\n") == [7]
    assert rows_without_a_head(f"{table}\n| 3 | 4 |") == [7]
    assert rows_without_a_head(f"```\n{table}\n| 3 | 4 |\n```\n") == []


@pytest.mark.parametrize("page", pages(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_table_is_broken_by_a_blank_line(page):
    assert rows_without_a_head(page.read_text(encoding="utf-8")) == []
