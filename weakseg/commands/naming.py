"""Groups of commands that name what there is where a name is none of theirs."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class NamesCommands(TyperGroup):
    """A group whose error for an unknown command lists the commands, if no name is near."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except Exception as e:
            message = getattr(e, "message", "")  # the class is that of whichever click typer uses
            if message.startswith("No such command") and "Did you mean" not in message:
                e.message = f"{message.rstrip('.')}; there are {', '.join(self.commands)}."  # type: ignore[attr-defined]
            raise
