"""Faults on purpose: what mutmut changed in the code without any test noticing.

`uv run --group mutation python -m tests.mutants` puts small faults, one at a time, into what
carries the promise (`[tool.mutmut]` in pyproject.toml says which files), runs the tests that reach
them, and prints how many were noticed, a file a line. What lives and stands in MUTANTS.md is
explained; anything else is shown, and makes the exit code 1. Name files to try these alone;
`--told` tells of the last run again. It takes about an hour, goes on where it was broken off, and
writes `mutants/`.
"""

import gc
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

MADE = Path("mutants")
EXPLAINED = Path(__file__).with_name("MUTANTS.md")
KILLED, SURVIVED, NOT_REACHED = (1, 3), 0, 33
"""Exit codes of pytest, as mutmut keeps them, and its own for code that no test calls."""
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


def tell(wanted: list[str]) -> int:
    """Print the figures, and what lives without an explanation; how many that are."""
    known, counts, living = explained(), {}, []
    for source, name, code in results():
        if code is None or (wanted and source not in wanted):
            continue
        kind = "killed" if code in KILLED else "other"
        kind = "not reached" if code == NOT_REACHED else kind
        if code == SURVIVED:
            line = f"{source} {function(name)}: {changed(source, name)}"
            kind = "explained" if line in known else "lives"
            living += [line] if kind == "lives" else []
        counts.setdefault(source, Counter())[kind] += 1
    print(f"{'':40} {'tried':>7}", *(f"{k:>11}" for k in KINDS))
    total = sum(counts.values(), Counter())
    for source, found in [*counts.items(), ("all", total)]:
        print(f"{source:40} {found.total():7}", *(f"{found[k]:11}" for k in KINDS))
    print(*living, sep="\n")
    return len(living)


def main(arguments: list[str]) -> int:
    wanted = [a for a in arguments if a != "--told"]
    if "--told" not in arguments:
        run([f"{f.removesuffix('.py').replace('/', '.')}.*" for f in wanted])
    return 1 if tell(wanted) else 0


def run(names: list[str]) -> None:
    """`mutmut run`, in this process: every mutant is a fork of it.

    What is in memory by then is put out of the garbage collector's sight. pytest collects five
    times at its end, which took a fork longer than its tests.
    """
    from mutmut.__main__ import cli

    os.register_at_fork(before=gc.freeze)
    cli(["run", *names], standalone_mode=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
