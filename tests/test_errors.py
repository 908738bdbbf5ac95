"""What errors say of errors of others."""

import pytest

from weakseg.errors import first_line


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
