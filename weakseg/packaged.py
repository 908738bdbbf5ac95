"""Experiments that come with weakseg, by name: ``weakseg compare quickstart``."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from weakseg.errors import ConfigError, near_names
from weakseg.progress import say

SUFFIX = ".yaml"
_PACKAGE = Path(__file__).parent


def configs_folder() -> Path:
    """Where they lie: in the installed package, or at the top of a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def config_names() -> list[str]:
    """The names of the experiments that come with weakseg, sorted."""
    return sorted(p.stem for p in configs_folder().glob(f"*{SUFFIX}"))


def config_file(name: str) -> Path:
    """The file of an experiment that comes with weakseg.

    Raises
    ------
    ConfigError
        With names that are near, for one that is not there.
    """
    names = config_names()
    if name not in names:
        raise _unknown(name, names)
    return configs_folder() / f"{name}{SUFFIX}"


def find_config(given: Path) -> Path:
    """The file that an argument means: a file, else an experiment that comes with weakseg.

    Raises
    ------
    ConfigError
        For what is neither.
    """
    name = str(given)
    if given.is_dir():
        if name not in config_names():
            raise _a_folder(given)
        say(f"{name}: the experiment that comes with weakseg is taken, not the folder of that name")
        return config_file(name)
    if given.exists() or given.is_symlink():
        if name in config_names():
            say(
                f"{name}: the file of this folder is taken, not the experiment of that name that "
                f"comes with weakseg; `weakseg config show {name}` prints that one"
            )
        return given
    if given.suffix not in (SUFFIX, ".yml") and given.name == name:
        return config_file(name)
    if given.stem in config_names():
        fix = f"weakseg has one of that name: write {given.stem} instead of {given}"
    else:
        fix = "check the path; `weakseg config list` names those of weakseg"
    raise ConfigError("The experiment file does not exist.", where=name, fix=fix)


def _a_folder(given: Path) -> ConfigError:
    """What is meant, perhaps, by a folder: what `weakseg init` wrote there, or a run's settings."""
    files = (given / f"{n}{SUFFIX}" for n in ("experiment", "config"))
    there = next((f for f in files if f.exists()), None)
    return ConfigError(
        "An experiment is a file, and this is a folder.",
        where=str(given),
        expected="the path of a YAML file, or a name of `weakseg config list`",
        fix=f"write {there}" if there else None,
    )


def _unknown(name: str, names: list[str]) -> ConfigError:
    near = near_names(name, names)
    return ConfigError(
        "There is neither a file nor an experiment of weakseg of that name.",
        where=name,
        fix=f"did you mean {' or '.join(near)}?" if near else None,
        expected=f"the path of a YAML file, or one of {', '.join(names)}",
    )


def summary(name: str) -> str:
    """What an experiment is for: the first sentence of the comments at its head."""
    text = config_file(name).read_text(encoding="utf-8")
    head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    words = " ".join(line.lstrip("# ") for line in head)
    return re.split(r"(?<!\bal)\.\s|\s+weakseg ", words, maxsplit=1)[0].rstrip(".;:")
