"""A page of the one section that a module is about; whole pages are drawn in tests/report."""

from __future__ import annotations

import pytest

from weakseg.report import page
from weakseg.report.sections.registry import SECTIONS


@pytest.fixture
def alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have no section but that which ``test_NAME.py`` is named for."""
    name = request.module.__name__.rpartition("test_")[2]
    (section,) = (s for s in SECTIONS if s.name == name)
    monkeypatch.setattr(page, "SECTIONS", (section,))
