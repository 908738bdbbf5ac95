"""A job: one run of a sweep, what it was told, and what became of it.

All that is known of a job lies in its folder, so that another process, or another machine of a
cluster, can say the same of it. A job is done when its command ended with 0 and that was written
down; one that began and of which nothing is written has failed, whatever ended it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from weakseg.errors import RunError
from weakseg.runs import inside, make_folder, write_json, write_text
from weakseg.stored import read_json

MOST_SAID = 200
"""Letters of a log's last line that are repeated."""


class Told(BaseModel):
    """``job.json``; ``varies`` is what the sweep changes, None in those of earlier versions."""

    model_config = ConfigDict(strict=True)

    command: list[str]
    folder: str
    key: str
    minutes: int
    cpus: int | None
    varies: list[str] | None = None


class Begun(BaseModel):
    """``started.json``; ``id`` is a cluster's name of the job."""

    model_config = ConfigDict(strict=True)

    key: str
    executor: str
    id: str | None


class Ended(BaseModel):
    """``ended.json``; a negative code is the signal that ended the command."""

    model_config = ConfigDict(strict=True)

    key: str
    code: int
    seconds: float
    why: str | None = None


@dataclass(frozen=True)
class Job:
    """A command and the folder that tells of it.

    Attributes
    ----------
    name : str
    folder : Path
    command : tuple of str
    key : str
        Fingerprint of what is asked for: what became of another one is forgotten.
    minutes : int
        How long it may take.
    cpus : int or None
        Its threads; None as the machine has it.
    varies : tuple of str
        What the sweep changes for it, as ``--set`` takes it.
    """

    name: str
    folder: Path
    command: tuple[str, ...]
    key: str
    minutes: int = 1440
    cpus: int | None = None
    varies: tuple[str, ...] = ()

    @property
    def log(self) -> Path:
        """What the command said."""
        return inside(self.folder, "log.txt")

    @property
    def told(self) -> Path:
        """The command, for whoever performs it."""
        return inside(self.folder, "job.json")

    @property
    def started(self) -> Path:
        """Written when it is given away."""
        return inside(self.folder, "started.json")

    @property
    def ended(self) -> Path:
        """Written when its command has ended."""
        return inside(self.folder, "ended.json")


@dataclass(frozen=True)
class State:
    """What became of a job; why, where it failed."""

    name: Literal["waiting", "done", "failed"]
    why: str = ""
    seconds: float | None = None


def state_of(job: Job) -> State:
    """What became of a job that is not running now.

    Raises
    ------
    RunError
        If what it wrote is damaged.
    """
    if job.ended.exists():
        ended = Ended.model_validate(read_json(job.ended, _AGAIN, Ended))
        if ended.key != job.key:
            return State("waiting")
        if ended.code == 0:
            return State("done", seconds=ended.seconds)
        return State("failed", _in_words(ended, job.log), ended.seconds)
    if job.started.exists():
        begun = Begun.model_validate(read_json(job.started, _AGAIN, Begun))
        if begun.key == job.key:
            return State(
                "failed", f"it began and never ended: killed, or its machine{_last(job.log)}"
            )
    return State("waiting")


def refuse_other(job: Job) -> None:
    """Refuse to write over a run of another sweep that has the same name.

    Raises
    ------
    RunError
        Also if what was written of the job is damaged.
    """
    if not job.told.exists():
        return
    told = Told.model_validate(read_json(job.told, _AGAIN, Told))
    if told.varies is not None and told.varies != list(job.varies):
        raise RunError(
            f"The folder holds a run {job.name} of another sweep.",
            where=str(job.folder),
            found=", ".join(told.varies),
            expected=", ".join(job.varies),
            fix="name another folder with --out",
        )


def hand_over(job: Job, executor: str, *, id: str | None = None) -> None:
    """Write down that a job begins, and forget what became of it before."""
    make_folder(job.folder)
    told = Told(
        command=list(job.command),
        folder=str(Path.cwd()),
        key=job.key,
        minutes=job.minutes,
        cpus=job.cpus,
        varies=list(job.varies),
    )
    write_json(job.told, told.model_dump())
    job.ended.unlink(missing_ok=True)
    write_json(job.started, Begun(key=job.key, executor=executor, id=id).model_dump())


class Running:
    """The command of a job, in a process of its own.

    Parameters
    ----------
    folder : Path
        Of a job that was handed over.
    """

    def __init__(self, folder: Path) -> None:
        job = Job("", folder, (), "")
        told = Told.model_validate(read_json(job.told, _AGAIN, Told))
        self._ended, self._told, self._began = job.ended, told, time.monotonic()
        threads = {} if told.cpus is None else {"OMP_NUM_THREADS": str(told.cpus)}
        with job.log.open("ab") as log:
            self._process = subprocess.Popen(
                told.command,
                cwd=told.folder,
                env={**os.environ, **threads},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def poll(self) -> bool:
        """Whether it has ended; that is written down then."""
        seconds = time.monotonic() - self._began
        why = None
        code = self._process.poll()
        if code is None and seconds > 60 * self._told.minutes:
            self.stop()
            code, why = self._process.wait(), f"it took longer than {self._told.minutes} minutes"
            code = code or -int(signal.SIGTERM)  # however it took its end, it is not done
        if code is None:
            return False
        ended = Ended(key=self._told.key, code=code, seconds=round(seconds, 1), why=why)
        write_json(self._ended, ended.model_dump())
        return True

    def stop(self) -> None:
        """End the command: asked first, then forced."""
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def run_job(folder: str) -> int:
    """Perform a job that was handed over, and wait for it; its exit code.

    What a cluster's machine calls.
    """
    running = Running(Path(folder))
    try:
        while not running.poll():
            time.sleep(0.2)
    except BaseException:
        running.stop()
        raise
    return Ended.model_validate(read_json(Job("", Path(folder), (), "").ended, model=Ended)).code


def weakseg_command(*arguments: str | Path) -> tuple[str, ...]:
    """A command of weakseg by the Python that runs this one."""
    return (sys.executable, "-m", "weakseg", *map(str, arguments))


def write_experiment(job: Job, text: str) -> None:
    """The experiment of a job, in its folder."""
    write_text(experiment_file(job.folder), text)


def experiment_file(folder: Path) -> Path:
    """The experiment of a job."""
    return inside(folder, "experiment.yaml")


_AGAIN = "delete it: the job then counts as not begun"


def _in_words(ended: Ended, log: Path) -> str:
    if ended.why is not None:
        return ended.why
    if ended.code < 0:
        try:
            name = signal.Signals(-ended.code).name
        except ValueError:
            name = f"signal {-ended.code}"
        return f"killed by {name}{_last(log)}"
    return f"exit code {ended.code}{_last(log)}"


def _last(log: Path) -> str:
    """The line of a log that tells most: the last error, else the last line."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-200:]
    except OSError:
        return ""
    errors = [x for x in lines if x.startswith("error:")] or [x for x in lines if x.strip()]
    return f"; {errors[-1].strip()[:MOST_SAID]}" if errors else ""


def as_json(state: State) -> dict[str, Any]:
    """For the table of jobs."""
    return {"state": state.name, "why": state.why, "seconds": state.seconds}
