"""Marks of tests that are common to several files."""

from collections.abc import Iterable
from typing import Any

import pytest


def thorough_but(values: Iterable[Any], quick: Iterable[Any]) -> list[Any]:
    """Values of a parametrised test, all but the quick ones marked `thorough`."""
    quick = list(quick)
    return [v if v in quick else pytest.param(v, marks=pytest.mark.thorough) for v in values]
