"""Commands that are killed in each of their stages, again and again, end as if they never were.

Run `python -m tests.test_kills` from the root of the checkout for the table; as a test it is slow.
There are two chains of commands: a `compare`; and one with an engine in shards, whose graphs are
kept, with a sweep of methods and an explained segmenter. In each pass over the stages the command
at work is killed (SIGKILL) once in every stage, at a random moment of it or shortly after its end,
and repeated each time; at last the chain runs to its end, and every file is compared with that of a
run that was never broken off. Files that two unbroken runs do not have alike (times are in them)
are left out, and named.
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
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.layout_of_run import files_of, named_files
from tests.tiny import write_config, write_set
from weakseg.config import Config, load_config
from weakseg.runs import Run
from weakseg.shards import Shard
from weakseg.stages import base, compare
from weakseg.stages.base import Stage
from weakseg.stages.explain_segmenter import explain_run
from weakseg.stages.heatmap_segment import fit_for_shards, heatmap_segment, heatmap_shard
from weakseg.stages.prepare import prepared_run
from weakseg.stages.sweep import sweep
from weakseg.stages.train_classifier import train_classifiers
from weakseg.stages.train_segmenter import fit_segmenters, segmenters_shard, train_segmenters
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
TIMES = ("run.json", "data-files.json", "outputs/", "report/")
"""Where files may hold times."""

COMMAND = "command "
"""How what is told of a command begins; its number follows."""

SHARDS = """
name: tiny
device: cpu
engine: onnxruntime
data: {{manifest: {manifest}, image_size: 64}}
classifier: {{arch: squeezenet1_1, epochs: 2, batch_size: 8, seeds: [0]}}
masks: {{rules: [{{rule: otsu}}, {{rule: fixed, at: 0.3}}], gate: none}}
scores: {{bootstrap: 100}}
report: {{gallery: 1}}
segmenters:
  net: {{arch: "encoder-unet:squeezenet1_1", epochs: 2, steps: 2, seeds: [0]}}
  pupil: {{arch: "encoder-unet:squeezenet1_1", epochs: 1, steps: 2, seeds: [0], masks: net}}
consensus: {{agreed: {{methods: [gradcam-otsu, net, pupil]}}}}
"""

Signal = Callable[[str], None]

Command = Callable[[Config, Path], object]


def with_run(work: Callable[..., object]) -> Command:
    """A command that works on a run; ``work`` gets it prepared."""

    def command(config: Config, run: Path) -> None:
        with prepared_run(config, run) as prepared:
            work(prepared)

    return command


def in_shards(work: Callable[..., object]) -> list[Command]:
    """Commands that each make one of two shards."""

    def command(config: Config, run: Path, shard: Shard) -> None:
        with prepared_run(config, run, shard=shard) as prepared:
            work(prepared, shard)

    return [partial(command, shard=Shard(part, 2)) for part in (1, 2)]


CHAINS: dict[str, tuple[str, list[Command]]] = {
    "compare": (CONFIG, [with_run(compare.compare)]),
    "shards": (
        SHARDS,
        [
            with_run(train_classifiers),
            *in_shards(heatmap_shard),
            with_run(fit_for_shards),
            *in_shards(heatmap_shard),
            with_run(heatmap_segment),
            with_run(fit_segmenters),
            *in_shards(segmenters_shard),
            with_run(train_segmenters),
            with_run(sweep),
            lambda config, run: explain_run(run, "net", images=2, device="cpu"),
            with_run(compare.compare),
        ],
    ),
}
"""An experiment, and the commands that work on it one after the other."""


def run_to_end(chain: str, config: Path, run: Path, first: int, tell: Signal) -> None:
    """The commands of a chain from one on, telling of each stage when it begins and has ended."""
    checkpoints.SHARE = 1e9  # a checkpoint after every epoch
    perform = base._finish

    def told(stage: Stage) -> str:
        """Its name; of a shard's with the shard."""
        below = stage.outputs[0].relative_to(run).parts
        return f"{stage.name}, {below[1]}" if below[0] == "shards" else stage.name

    def begin(stage: Stage) -> Stage:
        tell(told(stage))
        return stage

    original = Stage.__init__

    def init(self: Stage, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[misc]
        work = self.run
        object.__setattr__(self, "run", lambda ready: (begin(self), work(ready))[1])

    def finish(run_: object, stage: Stage, *rest: object) -> None:
        perform(run_, stage, *rest)  # type: ignore[arg-type]
        tell(f"end of {told(stage)}")

    Stage.__init__ = init  # type: ignore[method-assign]
    base._finish = finish  # type: ignore[assignment]
    for number, command in list(enumerate(CHAINS[chain][1]))[first:]:
        tell(f"{COMMAND}{number}")
        command(load_config(config), run)


class Child:
    """A chain in a process of its own, forked, so that libraries are loaded once."""

    def __init__(self, chain: str, config: Path, run: Path, first: int = 0) -> None:
        run.parent.mkdir(parents=True, exist_ok=True)
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            log = os.open(run.with_name("log.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 2)
            code = 1
            try:
                run_to_end(chain, config, run, first, lambda text: _send(write, text))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(write)
        self.told = os.fdopen(read)

    def follow(self, *until: str) -> list[tuple[str, float]]:
        """What it tells, with the time of each, up to a word of these or to its end."""
        heard = []
        for line in self.told:
            heard.append((json.loads(line), time.monotonic()))
            if heard[-1][0] in until:
                break
        return heard

    def end(self) -> int:
        """How it ended."""
        self.told.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _send(pipe: int, text: str) -> None:
    os.write(pipe, (json.dumps(text) + "\n").encode())


class Place(NamedTuple):
    """A stage of an unbroken chain: which command performs it, and for how many seconds."""

    command: int
    seconds: float


def whole(chain: str, config: Path, run: Path, first: int = 0) -> dict[str, Place]:
    """Run to the end; the stages in their order."""
    child = Child(chain, config, run, first)
    heard = child.follow()
    assert child.end() == 0, run.with_name("log.txt").read_text()[-3000:]
    places: dict[str, Place] = {}
    began: dict[str, tuple[int, float]] = {}
    command = first
    for text, at in heard:  # some stages are performed twice: the first time counts
        name = text.removeprefix("end of ")
        if text.startswith(COMMAND):
            command = int(text.removeprefix(COMMAND))
        elif name == text:
            began.setdefault(name, (command, at))
        else:
            places.setdefault(name, Place(began[name][0], at - began[name][1]))
    return places


class Broken:
    """A run whose commands are killed, and repeated by who cannot know how far they came."""

    def __init__(self, chain: str, config: Path, run: Path) -> None:
        self.chain, self.config, self.run, self.at = chain, config, run, 0

    def kill_in(self, stage: str, place: Place, after: float) -> bool:
        """Kill the command so many seconds after a stage began; whether it was killed.

        A stage that was finished between its kill and now is forgotten first: else nobody would
        begin it.
        """
        name, _, shard = stage.partition(", ")
        of = self.run / "shards" / shard if shard and shard != "fitted" else self.run
        if of.exists():
            Run(of).forget(name)
        child = Child(self.chain, self.config, self.run, min(self.at, place.command))
        # A stage that is joined is not begun: then not much further.
        heard = child.follow(stage, f"{COMMAND}{place.command + 2}")
        if heard and heard[-1][0] == stage:
            time.sleep(after)
        os.kill(child.pid, signal.SIGKILL)
        heard += child.follow()  # what it still said
        commands = [int(t.removeprefix(COMMAND)) for t, _ in heard if t.startswith(COMMAND)]
        self.at = max([self.at, *commands])
        code = child.end()
        if code != -signal.SIGKILL:
            print(f"{stage}: not killed, the commands ended with {code}", flush=True)
        return code == -signal.SIGKILL

    def end(self) -> None:
        """Run to the end."""
        whole(self.chain, self.config, self.run, self.at)


def contents(run: Path) -> dict[str, bytes]:
    """Every file of a run."""
    return {name: (run / name).read_bytes() for name in sorted(files_of(run))}


def unlike(a: dict[str, bytes], b: dict[str, bytes]) -> set[str]:
    """Files that are missing in one, or not the same."""
    return {n for n in a.keys() | b.keys() if a.get(n) != b.get(n)}


def try_kills(
    chain: str, folder: Path, passes: int, seed: int = 0
) -> tuple[Counter[str], list[set[str]]]:
    """Kills by stage, and the files that are not as in an unbroken run, by pass."""
    config = write_config(folder, write_set(folder / "data"), CHAINS[chain][0])
    places = whole(chain, config, folder / "unbroken" / "run")
    expected = contents(folder / "unbroken" / "run")
    assert set(expected) == named_files(folder / "unbroken" / "run")
    whole(chain, config, folder / "second" / "run")
    times = unlike(expected, contents(folder / "second" / "run"))
    assert all(n.startswith(TIMES) for n in times), times
    print(f"left out, for two unbroken runs differ in them: {', '.join(sorted(times))}\n")
    rng, kills, differences = random.Random(seed), Counter[str](), []
    for n in range(passes):
        broken = Broken(chain, config, folder / f"pass-{n}" / "run")
        for stage, place in places.items():
            kills[stage] += broken.kill_in(stage, place, rng.uniform(0, 1.1) * place.seconds)
        broken.end()
        differences.append(unlike(expected, contents(broken.run)) - times)
        unlike_it = sorted(differences[-1]) or "no difference"
        print(f"pass {n + 1}, {sum(kills.values())} kills so far: {unlike_it}", flush=True)
        found = contents(broken.run)
        for name in differences[-1]:
            texts = [of.get(name, b"").decode(errors="replace")[:2000] for of in (expected, found)]
            print(f"{name}, unbroken:\n{texts[0]}\n{name}, killed:\n{texts[1]}", flush=True)
    return kills, differences


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("chain", CHAINS)
def test_a_run_that_is_killed_in_every_stage_ends_as_an_unbroken_one(tmp_path, chain):
    kills, differences = try_kills(chain, tmp_path, passes=1)
    assert sum(kills.values()) >= len(kills) - 2  # the last stages may have ended before
    assert differences == [set()]


def main() -> None:
    """Print the table of kills."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chain", choices=CHAINS, help="default: all")
    options = parser.parse_args()
    differ = 0
    for chain in [options.chain] if options.chain else CHAINS:
        with tempfile.TemporaryDirectory() as folder:
            found = try_kills(chain, Path(folder), options.passes, options.seed)
        kills, differences = found
        print(f"\n| stage of {chain} | kills |\n|---|---|")
        for stage, count in kills.items():
            print(f"| {stage} | {count} |")
        differ += sum(map(len, differences))
        print(f"\n{sum(kills.values())} kills, {sum(map(len, differences))} files that differ\n")
    if differ:
        raise SystemExit("a killed run does not end as an unbroken one")


if __name__ == "__main__":
    main()
