"""Calls are counted, and too many broken off."""

import contextlib
import sys

import pytest

from tests.work import TooMuch, calls_at_most


def made_by(count: int) -> int:
    with calls_at_most(1000) as made:
        for _ in range(count):
            len("")
    return made[0]


def test_every_call_counts_once():
    assert made_by(25) - made_by(5) == 20


def test_a_loop_without_end_is_broken_off_whatever_it_catches():
    def endless() -> None:
        while True:
            with contextlib.suppress(Exception):
                len("")

    with pytest.raises(TooMuch, match="more than 100 calls"), calls_at_most(100):
        endless()
    assert sys.getprofile() is None
