"""The documentation's code runs, and what it names is there."""

import re
from pathlib import Path

import pytest

from tests.tiny import weakseg, write_config, write_set

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.S)


def test_the_ten_lines_of_the_python_page_give_a_dice(tmp_path, monkeypatch, capsys):
    manifest = write_set(tmp_path / "runs/phantom-28x16-128px-seed0")
    config = write_config(tmp_path, manifest)
    short = ["--set", "classifier.seeds=[0]", "--set", "classifier.epochs=1"]
    run = tmp_path / "runs/quickstart"
    assert weakseg("compare", config, "--run-dir", run, *short) == 0
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    code = blocks("docs/python.md")[0].replace("P001_07", "p00_0")
    exec(compile(code, "docs/python.md", "exec"), {})
    value, probability, pixels = capsys.readouterr().out.split()
    assert 0 <= float(value) <= 1
    assert 0 <= float(probability) <= 1
    assert int(pixels) >= 0


def test_the_example_of_your_own_network_runs(capsys):
    exec(compile(blocks("docs/python.md")[1], "docs/python.md", "exec"), {})
    assert capsys.readouterr().out.strip() == "(2, 7, 7)"


def test_the_example_of_your_own_weights_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("docs/python.md")[2], "docs/python.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["['fc.weight', 'fc.bias']", "first-layer"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_functions_named_in_the_python_page_exist():
    import importlib

    names = re.findall(r"`(weakseg\.[a-z_.]+)`", (ROOT / "docs/python.md").read_text())
    assert len(names) >= 6
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), attribute)), name
