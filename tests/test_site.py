"""The pages of the site that are made from the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import yaml

import weakseg
from tests.test_commands import ALL
from weakseg.config.reference import all_keys

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site():
    """The module beside the pages, which is in no package."""
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs/site_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_key_has_its_row_or_its_heading(site):
    lines = site.keys_page().splitlines()
    for key in all_keys():
        named = [x for x in lines if x.startswith((f"| `{key.name}` |", f"## `{key.name}`"))]
        named += [x for x in lines if x == f"### `{key.name}`"]
        assert len(named) == 1, key.name
    for line in lines:
        if line.startswith("| `"):
            assert line.replace("\\|", "").count("|") == 5, line


def test_every_command_has_its_help(site):
    text = site.commands_page()
    for path in ALL:
        assert f"\n## {' '.join(('weakseg', *path))}\n" in text
    assert "weakseg compare own-images --data labels.csv" in text


def test_what_the_package_offers_has_its_place(site):
    named = [x.rpartition(".")[2] for x in site.python_page().splitlines() if x.startswith(":::")]
    assert sorted(named) == sorted(weakseg.__all__)


def test_links_to_what_the_site_has_not_become_text(site):
    text = "See [configs/x.yaml](../configs/x.yaml) and [data](data.md)."
    assert site.on_page_markdown(text) == "See configs/x.yaml and [data](data.md)."


def test_every_page_is_in_the_contents():
    contents = (ROOT / "mkdocs.yml").read_text()
    held = yaml.safe_load(contents)
    named = {p for part in held["nav"] for p in _pages(part)}
    pages = {p.name for p in (ROOT / "docs").glob("*.md")}
    pages |= {f"notebooks/{p.stem}.md" for p in (ROOT / "docs/notebooks").glob("*.ipynb")}
    # A page that is new enters `nav` of mkdocs.yml.
    assert named == pages | {f"reference/{n}.md" for n in ("commands", "keys", "python")}


def test_a_notebook_is_a_page_of_its_own(site):
    pages = site.notebooks()
    assert set(pages) == {"explain", "labels_to_masks", "reading_a_run"}
    for name, text in pages.items():
        assert text.startswith("# ")
        assert f"]({name}.ipynb)" in text
        assert text.count("```") % 2 == 0


def _pages(part):
    for value in part.values():
        if isinstance(value, str):
            yield value
        else:
            for inner in value:
                yield from _pages(inner)
