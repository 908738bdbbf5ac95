"""A job is done when its command ended well and that was written down; whatever else, it is not."""

from __future__ import annotations

import os
import signal
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from weakseg.errors import RunError, UserError
from weakseg.interruption import InterruptedCommand, signals_raise
from weakseg.sweeping import executors
from weakseg.sweeping.cluster import Cluster
from weakseg.sweeping.executors import EXECUTORS, in_queue
from weakseg.sweeping.jobs import Job, hand_over, refuse_other, state_of


def job(tmp_path: Path, name: str, code: str, **settings: object) -> Job:
    command = (sys.executable, "-S", "-c", code)
    return Job(name, tmp_path / name, command, f"key of {name}", **settings)


def perform(tmp_path, *jobs, executor="local", **limits):
    told = []
    EXECUTORS[executor](jobs, Cluster(**limits), tmp_path / "own", told.append)
    assert sorted(j.name for j in told) == sorted(j.name for j in jobs)
    return [state_of(j) for j in jobs]


KILL = "import os, signal; print('here', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
FAIL = "import sys; print('error: no such file'); print('  fix: x'); sys.exit(2)"


def test_done_failed_and_killed_on_this_machine(tmp_path):
    jobs = [job(tmp_path, n, c) for n, c in (("a", "print(1)"), ("b", FAIL), ("c", KILL))]
    assert [state_of(j).name for j in jobs] == ["waiting"] * 3
    a, b, c = perform(tmp_path, *jobs, at_once=2)
    assert (a.name, b.name, c.name) == ("done", "failed", "failed")
    assert b.why == "exit code 2; error: no such file"
    assert c.why == "killed by SIGKILL; here"
    assert jobs[0].log.read_text() == "1\n"
    # Of another experiment nothing is known yet.
    assert state_of(replace(jobs[0], key="other")).name == "waiting"
    assert state_of(replace(jobs[1], key="other")).name == "waiting"


def test_a_run_of_another_sweep_is_not_written_over(tmp_path):
    first = replace(job(tmp_path, "seeds-0", "print(1)"), varies=("classifier.seeds=[0]",))
    refuse_other(first)  # nothing is there
    hand_over(first, "local")
    refuse_other(replace(first, key="of an experiment that was changed since"))
    with pytest.raises(RunError, match="holds a run seeds-0 of another sweep") as e:
        refuse_other(replace(first, varies=("segmenters.unet.seeds=[0]",)))
    assert e.value.found == "classifier.seeds=[0]"
    assert "--out" in str(e.value.fix)


def test_a_job_that_began_and_of_which_nothing_is_written_has_failed(tmp_path):
    lost = job(tmp_path, "a", "print(1)")
    hand_over(lost, "local")
    assert state_of(lost).name == "failed"
    assert "never ended" in state_of(lost).why
    lost.ended.write_text("{")
    with pytest.raises(RunError, match="damaged"):
        state_of(lost)


def test_a_job_over_its_limit_is_ended_and_has_failed(tmp_path, monkeypatch):
    slow = job(tmp_path, "a", "import time; time.sleep(60)", minutes=1)
    clock = time.monotonic
    began = clock()
    monkeypatch.setattr(
        "weakseg.sweeping.jobs.time.monotonic", lambda: began + 200 * (clock() - began)
    )
    [state] = perform(tmp_path, slow)
    assert (state.name, state.why) == ("failed", "it took longer than 1 minutes")
    assert clock() - began < 30


def test_threads_of_a_job_are_its_cores(tmp_path):
    told = job(tmp_path, "a", "import os; print(os.environ['OMP_NUM_THREADS'])", cpus=3)
    perform(tmp_path, told)
    assert told.log.read_text() == "3\n"


def test_no_more_at_once_than_was_said(tmp_path):
    code = (
        "import os, sys, time; open(sys.argv[0] or 'x', 'a') if 0 else None;"
        f"d = {str(tmp_path)!r}; n = len(os.listdir(d + '/busy')); print(n);"
        "p = d + '/busy/' + str(os.getpid()); open(p, 'w').close(); time.sleep(.2); os.remove(p)"
    )
    (tmp_path / "busy").mkdir()
    jobs = [job(tmp_path, f"j{i}", code) for i in range(4)]
    perform(tmp_path, *jobs, at_once=2)
    assert max(int(j.log.read_text()) for j in jobs) <= 1


def test_an_interrupted_sweep_ends_its_jobs_which_then_wait(tmp_path, monkeypatch):
    jobs = [job(tmp_path, n, "import time; time.sleep(60)") for n in "ab"]

    def ended(_: Job) -> None:
        raise AssertionError("none ends")

    def interrupted(_: float) -> None:  # where it waits; once, as ending jobs waits as well
        monkeypatch.undo()
        assert all(j.started.exists() for j in jobs)
        signal.raise_signal(signal.SIGTERM)

    began = time.monotonic()
    with pytest.raises(InterruptedCommand), signals_raise():
        monkeypatch.setattr(time, "sleep", interrupted)
        EXECUTORS["local"](jobs, Cluster(at_once=2), tmp_path / "own", ended)
    assert time.monotonic() - began < 30
    assert [state_of(j).name for j in jobs] == ["waiting", "waiting"]


def test_by_submitit_on_this_machine(tmp_path):
    pytest.importorskip("submitit")
    jobs = [job(tmp_path, n, c) for n, c in (("a", "print(1)"), ("b", KILL))]
    a, b = perform(tmp_path, *jobs, executor="submitit-local", at_once=2)
    assert a.name == "done"
    assert (b.name, b.why) == ("failed", "killed by SIGKILL; here")


SBATCH = """#!/bin/bash
cat "${{@: -1}}" >> {folder}/asked.txt
export SLURM_JOB_ID={id} SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NTASKS=1
export SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=n1
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "${{@: -1}}")
[[ -z $last ]] || export SLURM_ARRAY_JOB_ID={id}
(for k in $(seq 0 ${{last:-0}}); do
  [[ -z $last ]] || export SLURM_ARRAY_TASK_ID=$k
  bash "${{@: -1}}" > /dev/null 2>> {folder}/said.txt
done; touch {folder}/over) > /dev/null 2>&1 &
echo "Submitted batch job {id}"
"""
SRUN = """#!/bin/bash
while [[ "$1" == -* ]]; do
  if [[ "$1" == "--output" || "$1" == "--error" ]]; then shift; fi
  shift
done
exec "$@"
"""
SACCT = """#!/bin/bash
echo "JobID|State|NodeList"
for id in {id} {id}_0 {id}_1; do
  if [[ -e {folder}/over ]]; then echo "$id|COMPLETED|n1"; else echo "$id|{state}|n1"; fi
done
"""


def fake_slurm(folder: Path, monkeypatch, id: int, state: str = "RUNNING") -> None:
    """A queue of one job, which is this machine's."""
    (folder / "bin").mkdir(exist_ok=True)
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        path = folder / "bin" / name
        of = {"folder": folder, "id": id, "state": state}
        path.write_text(text if name == "srun" else text.format(**of))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


def test_what_slurm_is_asked_for_and_what_becomes_of_it(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    fake_slurm(tmp_path, monkeypatch, 7)
    limits = {"minutes": 30, "partition": "gpu", "gpus": 2, "cpus": 4, "memory_gb": 16.0}
    limits |= {"setup": ["echo ready"], "extra": {"exclude": "node7"}}
    one = job(tmp_path, "a", "print(1)")
    [state] = perform(tmp_path, one, executor="slurm", **limits)
    asked = (tmp_path / "asked.txt").read_text()
    assert state.name == "done", (tmp_path / "said.txt").read_text()
    for line in ("--time=35", "--partition=gpu", "--gpus-per-node=2", "--cpus-per-task=4"):
        assert f"#SBATCH {line}" in asked
    assert "#SBATCH --mem=16384M" in asked
    assert "#SBATCH --exclude=node7" in asked
    assert "\necho ready\n" in asked


def test_several_jobs_are_one_array_of_slurm(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    fake_slurm(tmp_path, monkeypatch, 9)
    jobs = [job(tmp_path, n, c) for n, c in (("a", "print(1)"), ("b", FAIL))]
    a, b = perform(tmp_path, *jobs, executor="slurm", at_once=5)
    assert (a.name, b.name) == ("done", "failed"), (tmp_path / "said.txt").read_text()
    assert "#SBATCH --array=0-1%2" in (tmp_path / "asked.txt").read_text()


def test_a_job_that_the_queue_lost_has_failed_and_one_that_waits_is_looked_after(
    tmp_path, monkeypatch
):
    pytest.importorskip("submitit")
    fake_slurm(tmp_path, monkeypatch, 8, "PENDING")
    lost = job(tmp_path, "a", "print(1)")
    hand_over(lost, "slurm")
    executors._write_ids([lost], [type("There", (), {"job_id": "8"})], "slurm")
    assert in_queue(lost, "slurm", tmp_path / "own")
    assert not in_queue(replace(lost, key="other"), "slurm", tmp_path / "own")
    assert not in_queue(lost, "local", tmp_path / "own")
    fake_slurm(tmp_path, monkeypatch, 8, "NODE_FAIL")
    assert not in_queue(lost, "slurm", tmp_path / "own")
    assert state_of(lost).name == "failed"


def test_without_submitit_the_way_to_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError) as e:
        EXECUTORS["slurm"]([], Cluster(), Path(), lambda _: None)
    assert "pip install 'weakseg[cluster]'" in str(e.value)
