"""Arguments and options that several commands have, and how their help ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weakseg.errors import ConfigError

if TYPE_CHECKING:
    from weakseg.config import Config
    from weakseg.importing.answers import Answers, Question


def complete_config(incomplete: str) -> list[str]:
    """Names of experiments that begin so, for the shell; it adds files by itself."""
    from weakseg.packaged import config_names

    return [n for n in config_names() if n.startswith(incomplete)]


ConfigPath = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG",
        help="An experiment: a YAML file, or a name of `weakseg config list`.",
        autocompletion=complete_config,
    ),
]
Manifest = Annotated[
    Path | None,
    typer.Option("--data", metavar="CSV", help="The manifest; short for --set data.manifest=CSV."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key, e.g. classifier.epochs=5."),
]
RunDir = Annotated[Path | None, typer.Option("--run-dir", help="Run folder [default: runs/NAME].")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Seed = Annotated[int | None, typer.Option("--seed", help="The run's seed.")]
Force = Annotated[bool, typer.Option("--force", help="Make again what is up to date.")]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only the I-th of N parts of the images; rank: as torchrun or Slurm says.",
    ),
]
OutDir = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="The output folder [default: NAME-weakseg]."),
]
Answered = Annotated[
    list[str] | None,
    typer.Option(
        "--answer",
        metavar="KEY=VALUE",
        help="Answers a question beforehand; may be repeated. What was not answered is told.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--force", help="Overwrite what an earlier call has written.")
]


def load_experiment(
    config: Path,
    manifest: Path | None,
    overrides: Sequence[str] | None,
    device: str | None,
    seed: int | None,
) -> Config:
    """The experiment that the options of a command say."""
    from weakseg.config import load_config
    from weakseg.config.load import quoted
    from weakseg.packaged import configs_folder, find_config
    from weakseg.settings import PHANTOM

    changes = [f"data.manifest={quoted(str(manifest))}"] if manifest is not None else []
    changes += overrides or []
    changes += [f"device={device}"] if device is not None else []
    changes += [f"seed={seed}"] if seed is not None else []
    loaded = load_config(file := find_config(config), changes)
    asked = loaded.data.manifest
    if file.parent == configs_folder() and asked != PHANTOM and not Path(asked).exists():
        raise ConfigError(
            "The manifest does not exist.",
            where=f"data.manifest: {asked}",
            fix="name yours: --data CSV; `weakseg init FOLDER` writes one of a folder of images",
        )
    return loaded


def example(*lines: str) -> str:
    """The end of a command's help: what to type."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def answers_of(given: Sequence[str] | None) -> Answers:
    """Answers of the command line; a person is asked where one sits at a terminal.

    Raises
    ------
    ConfigError
        For an answer that is not of the form KEY=VALUE.
    """
    from weakseg.importing.answers import Answers

    pairs = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                "An --answer is not of the form KEY=VALUE.",
                where=f"--answer {text}",
                expected="for example --answer healthy=normal",
            )
        pairs[key.strip()] = value.strip()
    person = sys.stdin.isatty() and sys.stderr.isatty()
    return Answers(pairs, _prompt if person else None)


def _prompt(question: Question) -> str:
    """Ask at the terminal until the answer is one of the choices."""
    choices = f" [{', '.join(question.choices)}]" if question.choices else ""
    why = f" ({question.why})" if question.why else ""
    while True:
        answer = str(
            typer.prompt(f"{question.text}{why}{choices}", default=question.default, err=True)
        ).strip()
        if (choice := question.choice(answer)) is not None:
            return choice
        typer.echo(f"one of: {', '.join(question.choices)}", err=True)
