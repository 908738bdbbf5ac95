"""The documentation's code runs, and what it names is there."""

import re
from pathlib import Path

import pytest

from tests.marks import thorough_but

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.S)


@pytest.mark.parametrize("page", thorough_but(["README.md", "docs/python.md"], ["README.md"]))
def test_the_python_of_a_page_runs_as_it_stands_from_top_to_bottom(
    page, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    found = blocks(page)
    for number, code in enumerate(found, 1):
        exec(compile(code, f"{page}, example {number}", "exec"), names)
    said = capsys.readouterr().out
    if page == "README.md":
        return
    assert len(found) >= 8
    assert "(2, 7, 7)" in said.splitlines()
    assert said.splitlines()[-3:-1] == ["['fc.weight', 'fc.bias']", "first-layer"]
    # The example of the pieces: an image with a lesion, and a mask that meets it.
    value, probability, pixels = next(
        m for m in (re.fullmatch(r"([\d.]+) ([\d.]+) (\d+)", x) for x in said.splitlines()) if m
    ).groups()
    assert 0 < float(value) <= 1
    assert 0 <= float(probability) <= 1
    assert int(pixels) > 0


def console_lines(page):
    """The `weakseg …` lines of a page's blocks of commands, without comments."""
    text = (ROOT / page).read_text()
    # Whole blocks: the fence that ends one of another language would begin the next here.
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.M | re.S):
        for line in [] if language else block.replace("\\\n", " ").splitlines():
            command = re.sub(
                r"^(pip install uv && )?(uv run )?", "", re.split(r" [#>]", line)[0].strip()
            )
            if command.startswith("weakseg "):
                yield command


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_are_understood_as_they_stand(page):
    import shlex

    import typer.main

    from weakseg.cli import app

    for line in console_lines(page):
        command, words = typer.main.get_command(app), shlex.split(line)[1:]
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command, words = command.commands[words[0]], words[1:]
        assert not hasattr(command, "commands"), line
        if "--help" not in words:
            command.make_context(line, list(words), resilient_parsing=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_to_headings_lead_somewhere(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        held = (page.parent / target if target else page).read_text()
        code = re.sub(r"```.*?```", "", held, flags=re.S)
        headings = re.findall(r"^#+ (.+)$", code, flags=re.M)
        named = {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings}
        assert anchor in named, f"{target}#{anchor}"


def test_functions_named_in_the_python_page_exist():
    import importlib

    names = re.findall(r"`(weakseg\.[a-z_.]+)`", (ROOT / "docs/python.md").read_text())
    assert len(names) >= 6
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), attribute)), name
