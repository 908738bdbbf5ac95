"""How much a test's subject does, counted and not timed.

A clock tells of the machine as well: a pause of the collector or a neighbour's load is time too.
Calls of Python and of C functions are the same on each machine.
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


class TooMuch(BaseException):
    """More calls than allowed: not an `Exception`, that nobody may take it for damage."""


@contextlib.contextmanager
def calls_at_most(most: int) -> Iterator[list[int]]:
    """Break off what calls more than `most` functions, so that a loop without end ends as well.

    Yields
    ------
    list of one int
        The calls so far.
    """
    made = [0]

    def counted(frame: Any, event: str, arg: Any) -> None:
        if event in ("call", "c_call"):
            made[0] += 1
            if made[0] > most:
                sys.setprofile(None)
                raise TooMuch(f"more than {most} calls")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        yield made
    finally:
        sys.setprofile(before)
