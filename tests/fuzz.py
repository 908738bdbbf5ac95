"""Damage valid files at random and read them: only weakseg's own errors may come out.

``python -m tests.fuzz --seconds 300`` tries all kinds. An input depends on the seed, the
kind and its number alone: ``--again images:17`` makes one again, and shows its whole traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.fuzz_damage import damage
from tests.fuzz_kinds import KINDS
from tests.fuzz_seed import Kind, Seed
from weakseg.errors import WeaksegError

HANGS = 20
"""Seconds after which an input is given up."""
HEAVY = 300
"""MB by which one input may raise the highest memory of this process."""


class Hang(BaseException):
    """An input took longer than `HANGS`."""


@dataclass
class Tally:
    """What became of the inputs of a kind."""

    tried: int = 0
    read: int = 0
    refused: int = 0
    foreign: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    heavy: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        return [*self.foreign, *self.slow, *self.heavy]


def make(kind: Kind, seeds: Sequence[Seed], seed: int, number: int) -> tuple[Seed, bytes]:
    """The input of a number: which seed was damaged, and its new content."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind.name), number])
    first, other = (seeds[int(i)] for i in rng.integers(0, len(seeds), 2))
    return first, damage(first.name, first.data, rng, other.data, kind.words)


def try_one(kind: Kind, source: Seed, data: bytes, folder: Path, name: str, tally: Tally) -> None:
    """Read one input, and note what became of it."""
    target = folder / source.name
    target.write_bytes(data)
    begun, before = time.process_time(), _peak()
    tally.tried += 1
    try:
        with _quiet(), _limit():
            kind.read(target, folder)
    except WeaksegError:
        tally.refused += 1
    except (Exception, Hang, SystemExit) as e:
        where = traceback.extract_tb(e.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        says = " ".join(f"{e}".split())[:160]
        tally.foreign.append(f"{name} ({source.name}): {type(e).__name__} at {place}: {says}")
    else:
        tally.read += 1
    taken, grown = time.process_time() - begun, _peak() - before
    if taken > kind.seconds:
        tally.slow.append(f"{name} ({source.name}): {taken:.1f} s")
    if grown > HEAVY:
        tally.heavy.append(f"{name} ({source.name}): {grown:.0f} MB")
    target.write_bytes(source.data)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What readers print is no matter here."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    def end(*_: object) -> None:
        raise Hang(f"no end within {HANGS} s")

    before = signal.signal(signal.SIGALRM, end)
    left, _ = signal.setitimer(signal.ITIMER_REAL, HANGS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)
        signal.signal(signal.SIGALRM, before)


def fuzz(
    kinds: Sequence[str],
    seed: int,
    goes_on: Callable[[int], bool],
    tell: Callable[[str], object] = lambda _: None,
) -> dict[str, Tally]:
    """Try inputs as long as ``goes_on`` of their number so far; all kinds get the same time."""
    tallies = {name: Tally() for name in kinds}
    with tempfile.TemporaryDirectory() as top, contextlib.ExitStack() as stack:
        made = {}
        for name in kinds:
            (folder := Path(top) / name).mkdir()
            made[name] = (folder, stack.enter_context(_prepared(KINDS[name], folder)))
            for source in (s for s in made[name][1] if s.valid):
                try_whole(KINDS[name], source, folder)
        spent = dict.fromkeys(kinds, 0.0)
        while goes_on(sum(t.tried for t in tallies.values())):
            name = min(spent, key=lambda n: spent[n])
            folder, seeds = made[name]
            tally, begun = tallies[name], time.monotonic()
            source, data = make(KINDS[name], seeds, seed, tally.tried)
            known = len(tally.faults)
            try_one(KINDS[name], source, data, folder, f"{name}:{tally.tried}", tally)
            for fault in tally.faults[known:]:
                tell(fault)
            spent[name] += time.monotonic() - begun
    return tallies


@contextlib.contextmanager
def _prepared(kind: Kind, folder: Path) -> Iterator[list[Seed]]:
    with _quiet():
        seeds = kind.seeds(folder)
    for source in seeds:
        (folder / source.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / source.name).write_bytes(source.data)
    try:
        yield seeds
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def try_whole(kind: Kind, source: Seed, folder: Path) -> None:
    """Read a file that is not damaged, and raise what comes out."""
    with _quiet(), _limit():
        kind.read(folder / source.name, folder)


def again(name: str, seed: int) -> None:
    """Make one input again and read it without a net; the file is kept."""
    kind, number = KINDS[name.partition(":")[0]], int(name.partition(":")[2])
    folder = Path(tempfile.mkdtemp())
    seeds = kind.seeds(folder)
    for each in seeds:
        (folder / each.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / each.name).write_bytes(each.data)
    source, data = make(kind, seeds, seed, number)
    target = folder / source.name
    target.write_bytes(data)
    print(target)
    kind.read(target, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, separated by commas")
    parser.add_argument("--again", help="one input, such as images:17")
    given = parser.parse_args()
    if given.again:
        again(given.again, given.seed)
        return 0
    end = time.monotonic() + given.seconds
    tallies = fuzz(given.only.split(","), given.seed, lambda _: time.monotonic() < end, print)
    print("kind      tried   read  refused  foreign  slow  heavy")
    for name, t in tallies.items():
        print(
            f"{name:8} {t.tried:6} {t.read:6} {t.refused:8} {len(t.foreign):8} {len(t.slow):5} "
            f"{len(t.heavy):6}"
        )
    for text, count in Counter(
        f.split(": ", 1)[1] for t in tallies.values() for f in t.foreign
    ).most_common():
        print(f"{count} × {text}")
    return int(any(t.faults for t in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
