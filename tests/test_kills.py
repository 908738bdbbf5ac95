"""A `compare` that is killed in each of its stages, again and again, ends as one that never was.

Run `python -m tests.test_kills` from the root of the checkout for the table; as a test it is slow.
In each pass over the stages the command is killed (SIGKILL) once in every stage, at a random moment
of it or shortly after its end, and started again each time; at last it runs to its end, and every
file is compared with that of a run that was never broken off. Files that two unbroken runs do not
have alike (times are in them) are left out, and named.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.layout_of_run import files_of
from tests.tiny import write_config, write_set
from weakseg.config import load_config
from weakseg.runs import Run
from weakseg.stages import base, compare
from weakseg.stages.base import Stage
from weakseg.stages.prepare import prepared_run
from weakseg.training import checkpoints

CONFIG = """
name: tiny
device: cpu
data: {{manifest: {manifest}, image_size: 64}}
classifier: {{arch: squeezenet1_1, epochs: 3, batch_size: 8, seeds: [0]}}
masks: {{rules: [{{rule: otsu}}, {{rule: fixed, at: 0.3}}], gate: none}}
scores: {{bootstrap: 100}}
report: {{gallery: 1}}
segmenters:
  net: {{arch: "encoder-unet:squeezenet1_1", epochs: 3, steps: 2, seeds: [0]}}
  pupil:
    {{arch: "encoder-unet:squeezenet1_1", epochs: 2, steps: 2, seeds: [0], masks: gradcam-fixed}}
equivalence: {{segmenter: net, patients: [1, 2], draws: 1}}
filtered: {{filters: [hard], fills: [zero], controls: [], epochs: 2, faithfulness: {{images: 4}}}}
"""
TIMES = ("run.json", "outputs/", "report/")
"""Where files may hold times."""

Signal = Callable[[str], None]


def run_to_end(config: Path, run: Path, tell: Signal) -> None:
    """One `compare`, that tells of each stage when it begins and when it has ended."""
    checkpoints.SHARE = 1e9  # a checkpoint after every epoch
    perform = base._finish

    def begin(stage: Stage) -> Stage:
        tell(stage.name)
        return stage

    original = Stage.__init__

    def init(self: Stage, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[misc]
        work = self.run
        object.__setattr__(self, "run", lambda ready: (begin(self), work(ready))[1])

    def finish(run_: object, stage: Stage, *rest: object) -> None:
        perform(run_, stage, *rest)  # type: ignore[arg-type]
        tell(f"end of {stage.name}")

    Stage.__init__ = init  # type: ignore[method-assign]
    base._finish = finish  # type: ignore[assignment]
    tell("prepare")
    with prepared_run(load_config(config), run) as prepared:
        tell("end of prepare")
        compare.compare(prepared)


class Child:
    """A `compare` in a process of its own, forked, so that libraries are loaded once."""

    def __init__(self, config: Path, run: Path) -> None:
        run.parent.mkdir(parents=True, exist_ok=True)
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            log = os.open(run.with_name("log.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 2)
            code = 1
            try:
                run_to_end(config, run, lambda text: _send(write, text))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(write)
        self.told = os.fdopen(read)

    def follow(self, until: str | None = None) -> list[tuple[str, float]]:
        """What it tells, with the time of each, up to a word or to its end."""
        heard = []
        for line in self.told:
            heard.append((json.loads(line), time.monotonic()))
            if heard[-1][0] == until:
                break
        return heard

    def end(self) -> int:
        """How it ended."""
        self.told.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _send(pipe: int, text: str) -> None:
    os.write(pipe, (json.dumps(text) + "\n").encode())


def whole(config: Path, run: Path) -> dict[str, float]:
    """Run to the end; stage → its seconds, in their order."""
    child = Child(config, run)
    heard = child.follow()
    assert child.end() == 0, run.with_name("log.txt").read_text()[-3000:]
    seconds: dict[str, float] = {}
    began: dict[str, float] = {}
    for text, at in heard:  # some stages are performed twice: the first time counts
        name = text.removeprefix("end of ")
        if name == text:
            began.setdefault(name, at)
        else:
            seconds.setdefault(name, at - began[name])
    return seconds


def kill_in(config: Path, run: Path, stage: str, after: float) -> bool:
    """Kill a `compare` so many seconds after a stage began; whether it was killed.

    A stage that the run before has finished, between its kill and now, is forgotten first: else
    nobody would begin it.
    """
    Run(run).forget(stage)
    child = Child(config, run)
    heard = child.follow(stage)
    if heard and heard[-1][0] == stage:
        time.sleep(after)
    os.kill(child.pid, signal.SIGKILL)
    return child.end() == -signal.SIGKILL


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run."""
    return {name: (run / name).read_bytes() for name in sorted(files_of(run))}


def unlike(a: dict[str, bytes], b: dict[str, bytes]) -> set[str]:
    """Files that are missing in one, or not the same."""
    return {n for n in a.keys() | b.keys() if a.get(n) != b.get(n)}


def try_kills(folder: Path, passes: int, seed: int = 0) -> tuple[Counter[str], list[set[str]]]:
    """Kills by stage, and the files that are not as in an unbroken run, by pass."""
    config = write_config(folder, write_set(folder / "data"), CONFIG)
    seconds = whole(config, folder / "unbroken" / "run")
    expected = contents(folder / "unbroken" / "run")
    whole(config, folder / "second" / "run")
    times = unlike(expected, contents(folder / "second" / "run"))
    assert all(n.startswith(TIMES) for n in times), times
    print(f"left out, for two unbroken runs differ in them: {', '.join(sorted(times))}\n")
    rng, kills, differences = random.Random(seed), Counter[str](), []
    for n in range(passes):
        run = folder / f"pass-{n}" / "run"
        for stage, took in seconds.items():
            kills[stage] += kill_in(config, run, stage, rng.uniform(0, 1.1) * took)
        whole(config, run)
        differences.append(unlike(expected, contents(run)) - times)
        unlike_it = sorted(differences[-1]) or "no difference"
        print(f"pass {n + 1}, {sum(kills.values())} kills so far: {unlike_it}", flush=True)
    return kills, differences


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_in_every_stage_ends_as_an_unbroken_one(tmp_path):
    kills, differences = try_kills(tmp_path, passes=1)
    assert sum(kills.values()) >= len(kills) - 2  # the last stages may have ended before
    assert differences == [set()]


def main() -> None:
    """Print the table of kills."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kills, differences = try_kills(Path(folder), options.passes, options.seed)
    print("\n| stage | kills |\n|---|---|")
    for stage, count in kills.items():
        print(f"| {stage} | {count} |")
    print(f"\n{sum(kills.values())} kills, {sum(map(len, differences))} files that differ")
    if any(differences):
        raise SystemExit("a killed run does not end as an unbroken one")


if __name__ == "__main__":
    main()
