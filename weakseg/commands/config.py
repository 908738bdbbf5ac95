"""``weakseg config``: the experiments that come with weakseg, and every key that there is."""

from __future__ import annotations

from typing import Annotated

import typer

from weakseg.commands.naming import NamesCommands
from weakseg.commands.options import complete_config, example
from weakseg.errors import UserError

config_app = typer.Typer(
    cls=NamesCommands,
    name="config",
    help="Experiments that come with weakseg, and every key.",
    epilog=example("weakseg config list"),
    no_args_is_help=True,
    rich_markup_mode=None,
)


@config_app.command("list", epilog=example("weakseg config list"))
def list_configs() -> None:
    """List the experiments that come with weakseg.

    Each is an argument of `compare` and of every stage: `weakseg compare quickstart`.
    """
    from weakseg.packaged import config_names, summary

    names = config_names()
    width = max(map(len, names), default=0)
    for name in names:
        print(f"{name:<{width}}  {summary(name)}")


@config_app.command("show", epilog=example("weakseg config show own-images > my-experiment.yaml"))
def show_config(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", autocompletion=complete_config, help="Of `config list`."),
    ],
) -> None:
    """Print an experiment, comments and all.

    A copy of it in a file of yours is the way to change much.
    """
    from weakseg.packaged import config_file

    print(config_file(name).read_text(encoding="utf-8"), end="")


@config_app.command(
    "keys",
    epilog=example(
        "weakseg config keys classifier", "weakseg config keys --json-schema > weakseg.schema.json"
    ),
)
def show_keys(
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help="Only this key and those below it.")
    ] = None,
    json_schema: Annotated[
        bool,
        typer.Option("--json-schema", help="Print the JSON schema, with which editors complete."),
    ] = False,
) -> None:
    """List the keys of an experiment.

    What each may hold, its default and what it means.
    """
    import json

    from weakseg.config.reference import all_keys, format_keys, keys_below
    from weakseg.config.reference import json_schema as schema

    if json_schema and key is not None:
        raise UserError(
            "The JSON schema is of all keys.",
            where="--json-schema",
            found=f"KEY {key} beside it",
            fix="leave one of them away",
        )
    if json_schema:
        print(json.dumps(schema(), indent=2, ensure_ascii=False))
        return
    print(format_keys(all_keys() if key is None else keys_below(key)))
