"""What the page asks of every section."""

import re

import pytest
from jinja2 import meta, nodes

from tests.report.fake_run import make_run
from weakseg.report.page import MACROS, _environment, build_report
from weakseg.report.read import read_runs
from weakseg.report.sections.base import Subject
from weakseg.report.sections.registry import SECTIONS


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    runs = (make_run(folder / "a", name="a"), make_run(folder / "b", name="b", scored=False))
    return [Subject(run, f"run{i}") for i, run in enumerate(read_runs(runs))]


def test_names_differ():
    assert len({s.name for s in SECTIONS}) == len(SECTIONS)


@pytest.mark.thorough
@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.name)
def test_its_tables_have_the_same_names_whether_it_has_something_to_say_or_not(section, subjects):
    first, second = (section.build(s) for s in subjects)
    assert first.tables.keys() == second.tables.keys()
    assert all(re.fullmatch(r"[a-z_]+", name) for name in first.tables)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.name)
def test_its_template_names_nothing_that_it_is_not_given(section, subjects):
    # Of runs, too, whose section is not shown by any made-up one.
    environment = _environment()
    parsed = environment.parse(MACROS + section.template)
    named = meta.find_undeclared_variables(parsed)
    named -= {n.name for n in parsed.find_all(nodes.Name) if n.ctx == "store"}
    given = {"r", "figures", *environment.globals}
    context = section.build(subjects[0]).context
    if context:
        assert named - given <= context.keys()


def test_no_two_sections_write_one_table(subjects):
    names = [name for s in SECTIONS for name in s.build(subjects[0]).tables]
    assert len(set(names)) == len(names)


@pytest.mark.thorough
def test_what_is_shown_is_on_the_page_in_its_order(subjects):
    shown = [s for s in SECTIONS if s.build(subjects[0]).shown]
    html = build_report([subjects[0].run]).html
    headings = [re.search(r"<h2>([^<{]+)</h2>", s.template) for s in shown]
    places = [html.index(f"<h2>{h[1]}</h2>") for h in headings if h]
    assert len(places) >= 5
    assert places == sorted(places)
