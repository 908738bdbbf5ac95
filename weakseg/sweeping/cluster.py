"""What a job may take, and where it runs: a small file beside the experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from weakseg.config.yaml_text import read_yaml
from weakseg.errors import ConfigError, nearest
from weakseg.settings import Section

Value = Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$")]
"""A value of an option of sbatch: of one line."""

Option = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]*$")]
"""An option of sbatch, without its dashes."""


class Cluster(Section):
    """Limits of each job, and the queue that it is put in."""

    at_once: int = Field(1, ge=1, le=1000, description="jobs that run beside each other")
    minutes: int = Field(
        1440, ge=1, le=100_000, description="a job that takes longer is ended, and has failed"
    )
    cpus: int | None = Field(None, ge=1, le=4096, description="cores of a job, and its threads")
    gpus: int = Field(0, ge=0, le=64, description="of a job; on a cluster only")
    memory_gb: float | None = Field(None, gt=0, description="of a job; on a cluster only")
    partition: Value | None = None
    account: Value | None = None
    qos: Value | None = None
    constraint: Value | None = None
    setup: list[str] = Field([], description="lines of shell before the job: modules, say")
    extra: dict[Option, Value | int] = Field(
        {}, description="further options of sbatch, without --"
    )


def read_cluster(path: Path | None) -> Cluster:
    """Read a file of limits; none has the defaults.

    Raises
    ------
    ConfigError
        With every problem of the file.
    """
    tree = {} if path is None else read_yaml(path) or {}
    try:
        return Cluster.model_validate(tree)
    except ValidationError as e:
        problems = []
        for error in e.errors():
            key = ".".join(map(str, error["loc"])) or "the file"
            message = f"{key}: {error['msg'][:1].lower()}{error['msg'][1:]}"
            if error["type"] == "extra_forbidden":
                close = nearest(key, Cluster.model_fields)
                known = ", ".join(Cluster.model_fields)
                message = f"unknown key {key!r}; " + (
                    f"did you mean {close!r}?" if close else f"known keys: {known}"
                )
            problems.append(message)
        raise ConfigError(
            "The file of limits cannot be used:\n" + "\n".join(f"  - {p}" for p in problems),
            where=str(path),
        ) from None
