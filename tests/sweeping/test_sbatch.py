"""The file that Slurm is given, against what Slurm documents of its options (man sbatch)."""

from __future__ import annotations

import re
import shlex
import stat
from pathlib import Path

import pytest

from tests.tiny import weakseg
from weakseg.errors import ConfigError
from weakseg.sweeping.cluster import Cluster, read_cluster
from weakseg.sweeping.executors import _parameters

NAME = r"[\w.-]+"
DOCUMENTED = {
    "account": NAME,
    "array": r"\d+-\d+%\d+",
    "constraint": r"[\w&|*\[\]()]+",
    "cpus-per-task": r"\d+",
    "error": r"/.*%[Aj].*",
    "exclude": r"[\w,\[\]-]+",
    "gpus-per-node": rf"({NAME}:)?\d+",
    "job-name": NAME,
    "mail-type": "NONE|BEGIN|END|FAIL|REQUEUE|ALL",
    "mem": r"\d+[KMGT]?",
    "nice": r"-?\d+",
    "nodes": r"\d+(-\d+)?",
    "open-mode": "append|truncate",
    "output": r"/.*%[Aj].*",
    "partition": rf"{NAME}(,{NAME})*",
    "qos": NAME,
    "requeue": "",
    "signal": r"([RB]+:)?\w+(@\d+)?",
    "time": r"\d+|(\d+-)?\d+:\d+(:\d+)?",
    "wckey": NAME,
}
"""Option of sbatch → the form of its value; of those that a sweep may ask for."""

FULL = """
at_once: 3
minutes: 600
cpus: 4
gpus: 2
memory_gb: 31.5
partition: gpu
account: my-lab
qos: normal
constraint: a100&ib
setup: [module load cuda, 'echo "#SBATCH --no-option"']
extra: {exclude: 'node[1-7]', nice: 100, mail-type: END}
"""


@pytest.mark.parametrize(
    ("gigabytes", "megabytes"), [(1e-6, 1), (0.0004, 1), (31.5, 32256), (0.0021, 3)]
)
def test_little_memory_is_not_all_of_a_node(gigabytes, megabytes):
    asked = _parameters(Cluster(memory_gb=gigabytes), "slurm")
    assert asked["slurm_mem"] == f"{megabytes}M"


def sbatch_file(folder: Path, cluster: Cluster, monkeypatch, array: int | None = None) -> str:
    """What submitit would hand to sbatch, which is not called."""
    submitit = pytest.importorskip("submitit")
    there = folder / "bin/srun"
    there.parent.mkdir()
    there.write_text("#!/bin/bash\nexit 1\n")
    there.chmod(there.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{there.parent}:/usr/bin:/bin")
    executor = submitit.AutoExecutor(folder=folder / "of a sweep", cluster="slurm")
    executor.update_parameters(**_parameters(cluster, "slurm"))
    of_slurm = executor._executor
    if array is not None:
        of_slurm.parameters["map_count"] = array
    return of_slurm._make_submission_file_text("python -m job", "uid")


def options(text: str) -> dict[str, str]:
    """As sbatch reads them: up to the first line that is a command, quotes taken off."""
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    commands = (i for i, line in enumerate(lines) if line and not line.startswith("#"))
    first = next(commands, len(lines))
    asked = {}
    for line in lines[:first]:
        if line.startswith("#SBATCH"):
            [word] = shlex.split(line.removeprefix("#SBATCH"))
            name, _, value = word.removeprefix("--").partition("=")
            assert word.startswith("--")
            assert name not in asked
            asked[name] = value
    return asked


@pytest.mark.parametrize("array", [None, 6])
def test_every_option_is_documented_and_has_a_value_of_its_form(tmp_path, monkeypatch, array):
    path = tmp_path / "limits.yaml"
    path.write_text(FULL)
    text = sbatch_file(tmp_path, read_cluster(path), monkeypatch, array)
    asked = options(text)
    for name, value in asked.items():
        assert re.fullmatch(DOCUMENTED[name], value), f"--{name}={value}"
    expected = {
        "time": "605",
        "cpus-per-task": "4",
        "gpus-per-node": "2",
        "mem": "32256M",
        "partition": "gpu",
        "account": "my-lab",
        "qos": "normal",
        "constraint": "a100&ib",
        "exclude": "node[1-7]",
        "nice": "100",
        "mail-type": "END",
        "nodes": "1",
        "job-name": "weakseg",
    }
    assert expected.items() <= asked.items()
    assert asked.get("array") == (None if array is None else "0-5%3")
    body = text.splitlines()
    begin = body.index("module load cuda")
    assert body[begin + 1] == 'echo "#SBATCH --no-option"'
    run = next(i for i, line in enumerate(body) if line.startswith("srun "))
    assert begin < run
    assert body[run].endswith("python -m job")


def test_without_a_file_of_limits_nothing_is_asked_for_that_a_cluster_may_not_have(
    tmp_path, monkeypatch
):
    asked = options(sbatch_file(tmp_path, Cluster(), monkeypatch))
    for name, value in asked.items():
        assert re.fullmatch(DOCUMENTED[name], value), f"--{name}={value}"
    absent = {"partition", "account", "qos", "constraint", "gpus-per-node", "mem", "array"}
    assert not absent & asked.keys()


@pytest.mark.parametrize("key", ["--exclude", "exclude node7", "exclude=node7", ""])
def test_what_is_no_name_of_an_option_is_refused(tmp_path, key):
    path = tmp_path / "limits.yaml"
    path.write_text(f"extra: {{{key!r}: node7}}")
    with pytest.raises(ConfigError, match="extra"):
        read_cluster(path)


def test_a_line_break_in_an_option_is_refused(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text('partition: "gpu\\n#SBATCH --exclusive"')
    with pytest.raises(ConfigError, match="partition"):
        read_cluster(path)


def test_where_there_is_no_slurm_a_sweep_says_so_before_it_begins(tmp_path, monkeypatch, capsys):
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert weakseg("sweep", "quickstart", "--over", "seed=0,1", "--executor", "slurm") == 2
    said = capsys.readouterr().err
    assert "There is no Slurm on this machine" in said
    assert "sbatch, srun, sacct" in said
    assert not (tmp_path / "runs").exists()
