"""One colour a method: all differ, and all are told from both pages."""

from __future__ import annotations

import pytest

from weakseg.report.colours import COLOURS, luminance, method_colours


def contrast(one: str, other: str) -> float:
    """By the WCAG, from 1 to 21."""
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_contrast_by_hand():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert luminance("#808080") == pytest.approx(0.2159, abs=1e-4)


@pytest.mark.parametrize("page", ["#ffffff", "#14171a"])
@pytest.mark.parametrize("group", list(COLOURS))
def test_every_shade_is_told_from_the_page(group, page):
    found = method_colours({f"m{i}": group for i in range(12)})
    own = contrast(COLOURS[group], page)
    assert all(contrast(c, page) >= min(3, own) for c in found.values())


def test_no_two_methods_share_a_colour_and_the_first_has_the_groups():
    groups = {f"{group}{i}": group for group in COLOURS for i in range(12)}
    found = method_colours(groups)
    assert len(set(found.values())) == len(groups)
    assert all(found[f"{group}0"] == colour for group, colour in COLOURS.items())
