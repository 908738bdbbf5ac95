"""What the site adds to the pages of this folder: references, made from the code itself.

Links of a page that leave the folder, as those to configurations, stay text: the site has not those
files.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_LEAVES = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made from the code (an event of mkdocs)."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    for name, text in notebooks().items():
        files.append(File.generated(config, f"notebooks/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Take out links to what the site has not (an event of mkdocs)."""
    return _LEAVES.sub(r"\1", markdown)


def pages() -> dict[str, str]:
    """Name → text of the pages that are made from the code."""
    return {"commands": commands_page(), "keys": keys_page(), "python": python_page()}


def notebooks() -> dict[str, str]:
    """Name → text of the notebooks, as pages; each is linked from its page."""
    return {p.stem: notebook_page(p) for p in sorted((ROOT / "docs/notebooks").glob("*.ipynb"))}


def notebook_page(path: Path) -> str:
    """A notebook as a page: its text, and its cells of code."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    title, *rest = parts
    link = f"[This page as a notebook]({path.name}); the tests run it."
    return "\n\n".join([title, link, *rest]) + "\n"


def keys_page() -> str:
    """Every key of an experiment, a section a heading."""
    from weakseg.config.reference import all_keys

    lines = [
        "# Keys of an experiment",
        "",
        "`NAME` is a name of yours; `rules[otsu]` a rule among several, which is written as",
        "`{rule: otsu, …}`. `weakseg config keys KEY` prints the same.",
    ]
    for key in all_keys():
        top = "." not in key.name
        if key.section and (top or key.holds != "section" or "[" in key.name):
            lines += ["", f"{'##' if top else '###'} `{key.name}`", "", _cell(key.told)]
            lines += ["", "| key | holds | default | |", "|---|---|---|---|"]
        elif top:
            if not lines[-1].startswith("|"):
                lines += ["", "| key | holds | default | |", "|---|---|---|---|"]
            lines.append(_row(key))
        else:
            lines.append(_row(key))
    return "\n".join(lines) + "\n"


def _row(key: Any) -> str:
    default = f"`{_cell(key.default)}`" if key.default else ""
    return f"| `{key.name}` | {_cell(key.holds)} | {default} | {_cell(key.told)} |"


def _cell(text: str) -> str:
    """Text that no table takes for its own signs."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def commands_page() -> str:
    """The help of every command, as the terminal shows it."""
    import typer.main

    from weakseg.cli import app

    lines = ["# Commands"]
    for path, command in _commands(typer.main.get_command(app), ("weakseg",)):
        context = command.make_context(" ".join(path), ["--help"], resilient_parsing=True)
        text = inspect.cleandoc(context.get_help())
        lines += ["", f"## {' '.join(path)}", "", "```text", text, "```"]
    return "\n".join(lines) + "\n"


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))


def python_page() -> str:
    """What `import weakseg` offers, each from the module that defines it."""
    tree = ast.parse((ROOT / "weakseg/__init__.pyi").read_text(encoding="utf-8"))
    lines = ["# Python", "", "What `import weakseg` offers; it is loaded when it is touched."]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            lines += [f"\n::: weakseg.{node.module}.{name.name}" for name in node.names]
    return "\n".join(lines) + "\n"
