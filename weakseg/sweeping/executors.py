"""Who performs the jobs of a sweep: processes of this machine, or a cluster by submitit."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from weakseg.errors import UserError
from weakseg.runs import write_json
from weakseg.stored import read_json
from weakseg.sweeping.cluster import Cluster
from weakseg.sweeping.jobs import Begun, Job, Running, hand_over, run_job

INSTALL = "pip install 'weakseg[cluster]'"
SLURM = ("sbatch", "srun", "sacct")
"""Commands of Slurm that submitit calls."""

LOOK_EVERY = 0.3
"""Seconds between two looks at the jobs."""

Executor = Callable[[Sequence[Job], Cluster, Path, Callable[[Job], None]], None]
"""(jobs, limits, folder of its own files, told of each job that has ended); waits for all."""


def run_here(
    jobs: Sequence[Job], cluster: Cluster, folder: Path, ended: Callable[[Job], None]
) -> None:
    """Jobs as processes of this machine, `Cluster.at_once` beside each other.

    They end when this command does.
    """
    left = list(jobs)
    running: dict[Job, Running] = {}
    try:
        while left or running:
            while left and len(running) < cluster.at_once:
                job = left.pop(0)
                hand_over(job, "local")
                running[job] = Running(job.folder)
            for job in [j for j, r in running.items() if r.poll()]:
                del running[job]
                ended(job)
            if running:
                time.sleep(LOOK_EVERY)
    finally:
        for job, r in running.items():  # broken off by whoever reads this, and no failure
            r.stop()
            job.started.unlink(missing_ok=True)


def _by_submitit(kind: str) -> Executor:
    """Jobs that submitit puts in a queue; they go on when this command ends."""

    def run(
        jobs: Sequence[Job], cluster: Cluster, folder: Path, ended: Callable[[Job], None]
    ) -> None:
        submitit = require_submitit()
        of_kind = submitit.SlurmJob if kind == "slurm" else submitit.LocalJob
        executor = submitit.AutoExecutor(folder=folder, cluster=kind)
        executor.update_parameters(**_parameters(cluster, kind))
        running: dict[Job, Any] = {}
        fresh = []
        for job in jobs:
            there = _in_queue(job, of_kind, folder, kind)
            if there is None:
                fresh.append(job)
            else:
                running[job] = there
        for job in fresh:
            hand_over(job, kind)
        if kind == "slurm" and len(fresh) > 1:
            with executor.batch():  # one array, of which so many run at once
                put = [executor.submit(run_job, str(j.folder.absolute())) for j in fresh]
            _write_ids(fresh, put, kind)
            running |= dict(zip(fresh, put, strict=True))
            fresh = []
        while fresh or running:
            while fresh and (kind == "slurm" or len(running) < cluster.at_once):
                job = fresh.pop(0)
                running[job] = executor.submit(run_job, str(job.folder.absolute()))
                _write_ids([job], [running[job]], kind)
            for job in [j for j, r in running.items() if r.done()]:
                del running[job]
                ended(job)
            if running:
                time.sleep(LOOK_EVERY)

    return run


def require_executor(name: str) -> None:
    """Refuse an executor that this machine does not have.

    Raises
    ------
    UserError
        If submitit is not installed, or Slurm's commands are not there.
    """
    if name != "local":
        require_submitit()
    lacks = [c for c in SLURM if shutil.which(c) is None] if name == "slurm" else []
    if lacks:
        raise UserError(
            "There is no Slurm on this machine.",
            where="--executor slurm",
            found=f"no command {', '.join(lacks)}",
            fix="start the sweep where jobs are submitted, or take --executor local",
        )


def require_submitit() -> Any:
    """The library, or how to install it.

    Raises
    ------
    UserError
        If it is not there.
    """
    try:
        import submitit
    except ImportError:
        raise UserError(
            "This executor needs submitit, which is not installed.", fix=INSTALL
        ) from None
    return submitit


def _parameters(cluster: Cluster, kind: str) -> dict[str, Any]:
    """The limits under submitit's names."""
    # A little more than the job's own limit, which is told better.
    shared = {"timeout_min": cluster.minutes + 5, "name": "weakseg"}
    if kind != "slurm":
        return shared | ({"local_setup": cluster.setup} if cluster.setup else {})
    of_slurm = {
        "slurm_partition": cluster.partition,
        "slurm_account": cluster.account,
        "slurm_qos": cluster.qos,
        "slurm_constraint": cluster.constraint,
        "slurm_setup": cluster.setup or None,
        "slurm_additional_parameters": dict(cluster.extra) or None,
    }
    return {
        **shared,
        "cpus_per_task": cluster.cpus or 1,
        "gpus_per_node": cluster.gpus or None,
        # In a unit that Slurm documents: submitit's own mem_gb is written as 32GB.
        "slurm_mem": None if cluster.memory_gb is None else f"{_megabytes(cluster.memory_gb)}M",
        "slurm_array_parallelism": cluster.at_once,
        **{k: v for k, v in of_slurm.items() if v is not None},
    }


def _megabytes(gigabytes: float) -> int:
    """Rounded up: of 0 Slurm gives all the memory of a node."""
    return max(1, math.ceil(1024 * gigabytes))


def _in_queue(job: Job, of_kind: Any, folder: Path, kind: str) -> Any:
    """The job of an earlier command that is still waiting or running in the queue, or None."""
    if not job.started.exists() or job.ended.exists():
        return None
    begun = Begun.model_validate(read_json(job.started, model=Begun))
    if begun.key != job.key or begun.executor != kind or begun.id is None:
        return None
    there = of_kind(folder=folder, job_id=begun.id)
    return None if there.done(force_check=True) else there


def in_queue(job: Job, executor: str, folder: Path) -> bool:
    """Whether a cluster has a job waiting or running from an earlier command."""
    if executor != "slurm" or not job.started.exists():
        return False
    return _in_queue(job, require_submitit().SlurmJob, folder, "slurm") is not None


def _write_ids(jobs: Sequence[Job], put: Sequence[Any], kind: str) -> None:
    for job, there in zip(jobs, put, strict=True):
        begun = Begun(key=job.key, executor=kind, id=str(there.job_id))
        write_json(job.started, begun.model_dump())


EXECUTORS: dict[str, Executor] = {
    "local": run_here,
    "slurm": _by_submitit("slurm"),
    "submitit-local": _by_submitit("local"),
}
"""By name; ``submitit-local`` is for trying a cluster's file without a cluster."""
