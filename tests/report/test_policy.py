"""The page's Content-Security-Policy: its own script by hash, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.report.fake_run import make_run
from weakseg.stages.report import make_report

LABELS = (
    'a & $x_1^ "onload="x()" <img src=x onerror=alert(1)>',
    "</script><script>alert(2)</script>",
)
PATIENT = "\"'><style>*{display:none}</style><svg/onload=alert(3)>"


class Parts(HTMLParser):
    """The policy, and what of a page a policy speaks of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.policy: dict[str, list[str]] = {}
        self.held: dict[str, list[str]] = {"script": [], "style": []}
        self.handlers: list[str] = []
        self.pictures: list[str] = []
        self.before: list[str] = []
        self.text, self._in = "", ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = {k: str(v) for k, v in attrs}
        if held.get("http-equiv") == "Content-Security-Policy":
            rules = [r.split() for r in held["content"].split(";")]
            self.policy = {name: sources for name, *sources in rules}
        elif not self.policy:
            self.before.append(tag)
        self.handlers += [k for k in held if k.startswith("on")]
        self.pictures += [held["src"]] if tag == "img" else []
        self._in = tag
        if tag in self.held:
            self.held[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in in self.held:
            self.held[self._in][-1] += data
        else:
            self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of a run whose names are markup."""
    base = tmp_path_factory.mktemp("policy")
    title = {"report": {"gallery": 2, "title": LABELS[1]}}
    run = make_run(base / "run", labels=LABELS, patient_prefix=PATIENT, settings=title)
    return Path(make_report([run], base / "out")).read_text(encoding="utf-8")


def hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_names_the_pages_own_script_and_style_and_no_more(page):
    parts = Parts(page)
    (script,), (style,) = parts.held["script"], parts.held["style"]
    assert len(script) > 100
    assert len(style) > 100
    assert parts.policy == {
        "default-src": ["'none'"],
        "script-src": [hash_of(script)],
        "style-src": ["'unsafe-inline'"],
        "style-src-elem": [hash_of(style)],
        "style-src-attr": ["'unsafe-inline'"],
        "img-src": ["data:"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }
    # It holds for what stands behind it.
    assert set(parts.before) == {"html", "head", "meta"}


def test_names_of_markup_are_text(page):
    parts = Parts(page)
    assert parts.handlers == []
    assert all(p.startswith("data:image/") for p in parts.pictures)
    assert len(parts.pictures) >= 2
    for name in (*LABELS, PATIENT):
        assert name not in page
    assert LABELS[0] in parts.text
    assert LABELS[1] in parts.text
    assert "&lt;/script&gt;&lt;script&gt;alert(2)" in page
    assert not re.search(r"alert\(\d\)", "".join(parts.held["script"]))
