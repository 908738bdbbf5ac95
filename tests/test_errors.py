"""What errors say of errors of others."""

import pytest

from weakseg.errors import count, first_line, is_or_are


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a\nb"), "a"),
        (ValueError("\n  b\n"), "b"),
        (EOFError(), "EOFError"),
        (EOFError("\n"), "EOFError"),
        (KeyError("k"), "'k'"),
    ],
)
def test_an_error_is_said_on_one_line(error, line):
    assert first_line(error) == line


def test_one_is_told_in_the_singular():
    assert [count(n, "mask") for n in (0, 1, 2)] == ["0 masks", "1 mask", "2 masks"]
    assert is_or_are(1, "mask") == "1 mask is"
    assert is_or_are(1, "volume", "without a mask") == "1 volume without a mask is"
    assert is_or_are(2, "case", "of other names") == "2 cases of other names are"
