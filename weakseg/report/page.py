"""From run folders to one page, and to the same tables for machines."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template, TemplateError
from markupsafe import Markup

from weakseg.errors import WeaksegError, first_line
from weakseg.report import figures, words
from weakseg.report.comparison import named, side_by_side
from weakseg.report.policy import own, own_script, page_policy
from weakseg.report.read import RunTables
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.sections.registry import SECTIONS
from weakseg.report.tables import GROUPS
from weakseg.scores import DISTANCE_RULE, EMPTY_RULE
from weakseg.scores.metrics import SHOWN
from weakseg.spreadsheets import csv_text

TEMPLATE, MACROS_FILE = "page.html.jinja", "macros.html.jinja"
MACROS = (
    '{% from "macros.html.jinja" import value, share, key, figure, method_table with context %}\n'
)


@dataclass(frozen=True)
class Report:
    """A report that is ready to be written.

    Attributes
    ----------
    html : str
        The page, with nothing outside itself.
    tables : dict
        Name → table, each with the column ``run`` first.
    summary : dict
        What ``report.json`` holds.
    """

    html: str
    tables: dict[str, pd.DataFrame]
    summary: dict[str, Any]


@dataclass(frozen=True)
class _Shown:
    """A section as it stands on the page: its place, heading, HTML, and tables as addresses."""

    id: str
    heading: str
    html: Markup
    downloads: dict[str, str]


@dataclass(frozen=True)
class _Part:
    """What a page says of one run: its sections as HTML, their tables and summaries."""

    subject: Subject
    sections: list[_Shown]
    tables: dict[str, pd.DataFrame]
    summary: dict[str, Any]


def build_report(runs: Sequence[RunTables], gallery_size: int | None = None) -> Report:
    """The page and the tables of one run or several.

    Parameters
    ----------
    runs : sequence of RunTables
    gallery_size : int, optional
        Cases a row of the galleries; default: as each run's experiment says.
    """
    if gallery_size is not None:
        runs = [_with_gallery(r, gallery_size) for r in runs]
    # Before any picture is drawn: of a broken installation nothing could be made.
    template, style, script = require_page(), own("page.css"), own_script()
    parts = [_part(Subject(run, f"run{i}")) for i, run in enumerate(runs, 1)]
    tables = {
        name: pd.concat(
            [named(p.tables[name], r.name) for p, r in zip(parts, runs, strict=True)],
            ignore_index=True,
        )
        for name in parts[0].tables
    }
    titles = [r.config.report.title or r.name for r in runs]
    title = titles[0] if len(runs) == 1 else "Comparison of " + ", ".join(titles)
    subjects = [p.subject for p in parts]
    together = (
        side_by_side(runs, [s.methods for s in subjects], [s.method for s in subjects])
        if len(runs) > 1
        else None
    )
    html = template.render(
        title=title,
        policy=page_policy(),
        style=style,
        script=script,
        runs=[
            {
                "name": p.subject.run.name,
                "anchor": p.subject.anchor,
                "simulated": p.subject.simulated,
                "sections": p.sections,
            }
            for p in parts
        ],
        together=together,
        weakseg=runs[0].record.get("environment", {}).get("versions", {}).get("weakseg", ""),
    )
    summary = {
        "title": title,
        "empty_rule": EMPTY_RULE,
        "distance_rule": DISTANCE_RULE,
        "runs": [p.summary for p in parts],
        "comparison": None
        if together is None
        else {k: together[k] for k in ("comparable", "note", "sentences")},
        "tables": {name: t.to_dict(orient="records") for name, t in tables.items()},
    }
    return Report(html, tables, summary)


def require_page() -> Template:
    """The page's template; every section's is compiled, too.

    Raises
    ------
    WeaksegError
        If one is missing or damaged.
    """
    environment = _environment()
    try:
        environment.get_template(MACROS_FILE)
        for section in SECTIONS:
            _template(section.template)
        page_policy()
        return environment.get_template(TEMPLATE)
    except (TemplateError, OSError) as e:
        raise WeaksegError(
            "A template of the report is missing or damaged.",
            where=str(getattr(e, "name", None) or getattr(e, "filename", None) or TEMPLATE),
            found=first_line(e),
            fix="install weakseg again",
        ) from e


def _with_gallery(run: RunTables, size: int) -> RunTables:
    report = run.config.report.model_copy(update={"gallery": size})
    return replace(run, config=run.config.model_copy(update={"report": report}))


def _part(subject: Subject) -> _Part:
    sections: list[_Shown] = []
    tables: dict[str, pd.DataFrame] = {}
    summary: dict[str, Any] = {
        "name": subject.run.name,
        "simulated": subject.simulated,
        "patients_known": subject.patients_known,
        "headline": subject.method,
        "record": subject.run.record,
    }
    for section in SECTIONS:
        content = section.build(subject)
        tables |= content.tables
        summary |= content.summary
        if content.shown:
            html = _rendered(section, content, subject)
            heading = re.search(r"<h2>(.*?)</h2>", html)
            sections.append(
                _Shown(
                    f"{subject.anchor}-{section.name.replace(' ', '-')}",
                    Markup(heading[1]).striptags() if heading else "",
                    html,
                    {n: _csv_address(t) for n, t in content.tables.items() if len(t)},
                )
            )
    return _Part(subject, sections, tables, summary)


def _rendered(section: Section, content: Content, subject: Subject) -> Markup:
    drawn: Mapping[str, Markup] = {
        name: Markup(figures.in_page(svg, subject.anchor)) for name, svg in content.figures.items()
    }
    context = {**content.context, "r": subject, "figures": drawn}
    return Markup(_template(section.template).render(context))


def _csv_address(table: pd.DataFrame) -> str:
    """A table as an address that holds all of it."""
    text = csv_text(table, float_format="%.6g")
    return "data:text/csv;base64," + base64.b64encode(text.encode("utf-8")).decode("ascii")


@functools.cache
def _template(source: str) -> Template:
    """A section's template, compiled once for all runs and pages."""
    return _environment().from_string(MACROS + source)


@functools.cache
def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("weakseg", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "num": words.number,
        "signed": words.signed,
        "pct": words.percent,
        "labelled": lambda svg, label: Markup(figures.labelled(svg, label)),
        "given": lambda v: v is not None and not pd.isna(v),
    }
    env.globals |= {
        "interval": words.interval,
        "count": words.count,
        "groups": GROUPS,
        "metrics": SHOWN,
    }
    return env
