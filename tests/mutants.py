"""Faults on purpose: what mutmut changed in the code without any test noticing.

`uv run --group mutation python -m tests.mutants` puts small faults, one at a time, into what
carries the promise (`[tool.mutmut]` in pyproject.toml says which files), runs the tests that reach
them, and prints how many were noticed, a file a line. What lives and stands in MUTANTS.md is
explained; anything else is shown, and makes the exit code 1. Name files to try these alone;
`--tests FILE…` tries by these alone, which is quick while they are written; `--children N` takes N
cores, not all; `--told` tells of the last run again. What was killed once is not tried again unless
its function changes: it goes on where it was broken off. It writes `mutants/`; without that folder
everything is tried again.

mutmut makes the mutants, and `[tool.mutmut]` is its own. Its `run` starts pytest anew for each of
them, which took longer than the tests: here pytest starts once, runs all tests once to see which
functions each reaches, and forks for every mutant. A mutant of `weakseg/scores/overlap.py` is tried
by `tests/scores/test_overlap.py` and what is quick in `tests/scores/`: what makes a promise is held
beside it, and tests of whole runs take minutes. Where a room has no tests, all that reach it try.
"""

import argparse
import contextlib
import gc
import io
import json
import os
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from mutmut.mutation.data import SourceFileMutationData

MADE = Path("mutants")
EXPLAINED = Path(__file__).with_name("MUTANTS.md")
KILLED, SURVIVED, NOT_REACHED = (1, 3), 0, 33
"""Exit codes of pytest, as mutmut keeps them, and its own for code that no test calls."""
QUICK = 0.1
"""Seconds of the processor that a test of another file may take, where a file has its own."""
LEAST_SECONDS, SLOWER = 5, 4
"""Of the processor, and times those of its tests: more, and a mutant is taken to run for ever."""
SAVE_EVERY = 5.0
"""Seconds."""
KINDS = ("killed", "explained", "lives", "not reached", "other")


def results() -> Iterator[tuple[str, str, int | None]]:
    """File, name and exit code of every mutant; None for those that were not tried."""
    for meta in sorted(MADE.rglob("*.py.meta")):
        source = meta.relative_to(MADE).with_suffix("").as_posix()
        for name, code in json.loads(meta.read_text())["exit_code_by_key"].items():
            yield source, name, code


def changed(source: str, name: str) -> str:
    """The lines of a mutant that the code does not have, without what surrounds them."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    lines = get_diff_for_mutant(name, path=source).splitlines()[2:]
    kept = [line[1:].strip() for line in lines if line[0] == "+"]
    return " ".join(kept) or " ".join(["without", *(x[1:].strip() for x in lines if x[0] == "-")])


def function(name: str) -> str:
    """`weakseg.scores.overlap.x_dice__mutmut_3` is of `dice`."""
    own = name.rpartition(".")[2].rpartition("__mutmut_")[0]
    return own.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")


def explained() -> set[str]:
    """The lines of MUTANTS.md that name a mutant: file, function and what it was changed to."""
    lines = EXPLAINED.read_text().splitlines() if EXPLAINED.exists() else []
    return {line.strip() for line in lines if line.startswith("    weakseg/")}


def line(source: str, name: str) -> str:
    """How a mutant is told of."""
    return f"{source} {function(name)}: {changed(source, name)}"


def done(source: str, name: str, code: int | None) -> bool:
    """Whether nothing is to be learnt of a mutant that would not have been known before."""
    return code in KILLED or (code == SURVIVED and line(source, name) in explained())


def tell(wanted: list[str]) -> int:
    """Print the figures, and what lives without an explanation; how many that are."""
    known, counts, living = explained(), {}, []
    for source, name, code in results():
        if code is None or (wanted and source not in wanted):
            continue
        kind = "killed" if code in KILLED else "other"
        kind = "not reached" if code == NOT_REACHED else kind
        if code == SURVIVED:
            told = line(source, name)
            kind = "explained" if told in known else "lives"
            living += [told] if kind == "lives" else []
        counts.setdefault(source, Counter())[kind] += 1
    print(f"{'':40} {'tried':>7}", *(f"{k:>11}" for k in KINDS))
    total = sum(counts.values(), Counter())
    for source, found in [*counts.items(), ("all", total)]:
        print(f"{source:40} {found.total():7}", *(f"{found[k]:11}" for k in KINDS))
    print(*living, sep="\n")
    return len(living)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--tests", nargs="+")
    parser.add_argument("--told", action="store_true")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    if not given.told:
        make()
        named = [m for m in results() if not given.files or m[0] in given.files]
        named.sort(key=lambda m: given.files.index(m[0]) if given.files else 0)
        untried = [(s, name) for s, name, code in named if not done(s, name, code)]
        run(untried, given.tests, given.children)
    return 1 if tell(given.files) else 0


def make() -> None:
    """Write the mutants of every file that has changed, and copy what the tests need."""
    from mutmut.__main__ import create_mutants
    from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir

    MADE.mkdir(exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        copy_src_dir()
        copy_also_copy_files()
        create_mutants(1)


def run(mutants: list[tuple[str, str]], tests: list[str] | None, children: int) -> None:
    """Try mutants of (file, name) in forks of one pytest."""
    from mutmut.configuration import config
    from mutmut.utils.file_utils import setup_source_paths

    if not mutants:
        return
    setup_source_paths()
    os.environ["PY_IGNORE_IMPORTMISMATCH"] = "1"
    selection = tests or config().pytest_add_cli_args_test_selection
    rooms = {room(source) for source, _ in mutants}
    if not tests and rooms <= {room(t) for t in selection}:
        selection = [t for t in selection if room(t) in rooms]
    campaign = Campaign(mutants, children)
    with contextlib.chdir(MADE):
        code = pytest.main(
            ["--rootdir=.", "--tb=short", *config().pytest_add_cli_args, *selection],
            plugins=[campaign],
        )
    if code:
        sys.exit("the tests fail without any mutant")


def room(path: str) -> str:
    """Of `weakseg/scores/overlap.py` and of `tests/scores/test_overlap.py` alike it is `scores`."""
    return path.split("/")[1]


def tried_by(
    source: str, reached: list[pytest.Item], seconds: dict[pytest.Item, float]
) -> list[pytest.Item]:
    """The tests that a mutant is tried by, of all that reach its function: the quickest first."""
    file = f"tests/{room(source)}/test_{Path(source).stem}.py::"
    neighbours = [t for t in reached if t.nodeid.startswith(f"tests/{room(source)}/")]
    own = [t for t in neighbours if t.nodeid.startswith(file)]
    if own:
        neighbours = [t for t in neighbours if t in own or seconds[t] < QUICK]
    return sorted(neighbours or reached, key=lambda t: seconds[t])


def rank(last: list[str], test: str) -> int:
    """Where it stands in a list of which the last is the best; -1 where it does not."""
    return last.index(test) if test in last else -1


class Campaign:
    """A plugin of pytest: its loop over the tests, once as they are, then with each mutant."""

    def __init__(self, mutants: list[tuple[str, str]], children: int) -> None:
        self.mutants, self.children = mutants, children
        self.data = {source: self._data(source) for source, _ in mutants}
        self.running: dict[int, tuple[str, str, int]] = {}
        self.saved = time.monotonic()
        self.killers: dict[str, list[str]] = defaultdict(list)
        # pytest takes hold of the process's own.
        self.terminal = Console(file=os.fdopen(os.dup(sys.stderr.fileno()), "w"))

    def pytest_sessionstart(self) -> None:
        """Hypothesis stops at what fails; what the smallest such case is, nobody will read."""
        phases = [Phase.explicit, Phase.generate]
        settings.register_profile(
            "mutants", deadline=None, database=None, phases=phases, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        settings.load_profile("mutants")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        reach, seconds = self._learn(session)
        if session.testsfailed:
            return True
        gc.freeze()  # What forks look through and do not write to, they share.
        session.config.pluginmanager.unregister(name="terminalreporter")  # a dot for every test
        # Without a thread of its own, for a fork takes no threads along.
        with Progress(console=self.terminal, auto_refresh=False) as progress:
            task = progress.add_task("Mutants", total=len(self.mutants))
            for source, name in self.mutants:
                of = name.rpartition("__mutmut_")[0]
                tests = tried_by(source, reach[of], seconds)
                if tests:
                    # What has killed a mutant of this function is likely to kill the next.
                    tests.sort(key=lambda t: -1 - rank(self.killers[of], t.nodeid))
                    self._try(session, source, name, tests, sum(seconds[t] for t in tests))
                else:
                    self._keep(source, name, NOT_REACHED)
                progress.update(task, advance=1, refresh=True)
            while self.running:
                self._wait()
        return True

    def pytest_sessionfinish(self) -> None:
        """After the last mutant, or where somebody breaks it off."""
        self._save()

    def _learn(
        self, session: pytest.Session
    ) -> tuple[dict[str, list[pytest.Item]], dict[pytest.Item, float]]:
        """The tests that reach each function, and how long every test takes."""
        from mutmut.mutation.trampoline import set_mutant_under_test
        from mutmut.state import state

        set_mutant_under_test("stats")
        reach: dict[str, list[pytest.Item]] = defaultdict(list)
        seconds = {}
        for item, after in zip(session.items, [*session.items[1:], None], strict=True):
            state()._stats.clear()
            start = time.process_time()
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            seconds[item] = time.process_time() - start
            for reached in state()._stats:
                reach[reached].append(item)
        set_mutant_under_test("")
        return reach, seconds

    def _try(
        self, session: pytest.Session, source: str, name: str, tests: list[pytest.Item], took: float
    ) -> None:
        """Fork, and leave it to run the tests until one fails."""
        from mutmut.mutation.trampoline import set_mutant_under_test

        while len(self.running) >= self.children:
            self._wait()
        sys.stdout.flush()
        told, tells = os.pipe()
        child = os.fork()
        if child:
            os.close(tells)
            self.running[child] = (source, name, told)
            return
        set_mutant_under_test(name)
        limit = ceil(time.process_time() + LEAST_SECONDS + SLOWER * took)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stdout = sys.stderr = io.StringIO()
        session.config.option.tbstyle = "no"
        code = KILLED[0]
        with contextlib.suppress(BaseException):
            for test, after in zip(tests, [*tests[1:], None], strict=True):
                session.config.hook.pytest_runtest_protocol(item=test, nextitem=after)
                if session.testsfailed:
                    os.write(tells, test.nodeid.encode())
                    break
            else:
                code = SURVIVED
        os._exit(code)

    def _wait(self) -> None:
        child, status = os.wait()
        source, name, told = self.running.pop(child)
        with os.fdopen(told) as said:
            killer = said.read()
        if killer:
            killers = self.killers[name.rpartition("__mutmut_")[0]]
            killers[:] = [*(k for k in killers if k != killer), killer]
        self._keep(source, name, os.waitstatus_to_exitcode(status))

    def _keep(self, source: str, name: str, code: int) -> None:
        self.data[source].exit_code_by_key[name] = code
        if time.monotonic() > self.saved + SAVE_EVERY:
            self._save()

    def _save(self) -> None:
        for data in self.data.values():
            data.save()
        self.saved = time.monotonic()

    @staticmethod
    def _data(source: str) -> "SourceFileMutationData":
        """What mutmut keeps of the mutants of a file."""
        from mutmut.mutation.data import SourceFileMutationData

        data = SourceFileMutationData(path=source)
        data.load()
        data.meta_path = data.meta_path.resolve()
        return data


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
