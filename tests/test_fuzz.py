"""A short run of the fuzzer, and what it would notice."""

from __future__ import annotations

import sys
import time

import pytest

from tests import fuzz
from tests.fuzz_kinds import KINDS
from tests.fuzz_seed import Kind, Seed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="counts memory by Unix's means")


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["images", "volumes", "csv", "yaml", "dicom", "series"])
def test_damaged_files_raise_nothing_but_weaksegs_errors(kind):
    tally = fuzz.fuzz([kind], 0, lambda n: n < 60)[kind]
    assert tally.faults == []
    assert tally.tried == tally.read + tally.refused == 60
    assert min(tally.read, tally.refused) > 0


def test_an_input_depends_on_its_number_alone(tmp_path):
    seeds = KINDS["volumes"].seeds(tmp_path)
    made = [fuzz.make(KINDS["volumes"], seeds, 3, n) for n in range(20)]
    assert made == [fuzz.make(KINDS["volumes"], seeds, 3, n) for n in range(20)]
    assert len({data for _, data in made}) == 20
    assert made != [fuzz.make(KINDS["volumes"], seeds, 4, n) for n in range(20)]


def wrong(path, folder):
    raise RuntimeError("not ours")


def endless(path, folder):
    while True:
        time.sleep(0.01)


def slow(path, folder):
    begun = time.process_time()
    while time.process_time() - begun < 0.2:
        pass


def heavy(path, folder):
    """Its peaks stand below."""


@pytest.mark.parametrize(
    ("read", "list_of", "says"),
    [
        (wrong, "foreign", "RuntimeError at test_fuzz.py"),
        (endless, "foreign", ": no end within"),
        (slow, "slow", "0.2 s"),
        (heavy, "heavy", "MB"),
    ],
)
def test_faults_are_noticed(tmp_path, monkeypatch, read, list_of, says):
    monkeypatch.setattr(fuzz, "HANGS", 0.3 if read is endless else 20)
    monkeypatch.setattr(fuzz, "HEAVY", 5)
    peaks = iter([100, 110])
    monkeypatch.setattr(fuzz, "_peak", lambda: next(peaks) if read is heavy else 0)
    tally, seed = fuzz.Tally(), Seed("a", b"abc")
    fuzz.try_one(Kind("x", lambda _: [seed], read, seconds=0.1), seed, b"b", tmp_path, "x:7", tally)
    (fault,) = getattr(tally, list_of)
    assert fault.startswith("x:7 (a)")
    assert says in fault
    assert (tmp_path / "a").read_bytes() == b"abc"
