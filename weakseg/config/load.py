"""From a file to an experiment, and back; every problem of the file at once."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml.reader
from pydantic import BaseModel, ValidationError

from weakseg.config.experiment import Config
from weakseg.config.recipes import with_recipe
from weakseg.config.yaml_text import MAX_DEPTH, RefusedError, dump, parse, read_yaml
from weakseg.disk import as_path
from weakseg.errors import ArgumentError, ConfigError, check_argument, nearest
from weakseg.layout import config_file, masks_config
from weakseg.masks.rules import RULES
from weakseg.settings import PHANTOM

NAMED: dict[str, type[BaseModel]] = {
    key: get_args(field.annotation)[1]
    for key, field in Config.model_fields.items()
    if get_origin(field.annotation) is dict
}
"""Keys below which the user's own names stand, and what each of them holds."""


_NO_SECTION = ("model_type", "model_attributes_type", "dict_type")
"""What pydantic calls a value where keys are expected."""
_COMMA = re.compile(r"([-+]?\d+),(\d+)")


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read an experiment file.

    Parameters
    ----------
    path : Path
        A YAML file. A manifest, or a run in ``classifier.heat_from``, that it names and that lies
        beside it is that one.
    overrides : sequence of str
        ``a.b=value`` changes, applied in order.

    Raises
    ------
    ConfigError
        With every problem of the file, not just the first.
    """
    path = as_path(path, "an experiment file")
    several = isinstance(overrides, Sequence) and not isinstance(overrides, str)
    if not several or not all(isinstance(o, str) for o in overrides):
        raise ArgumentError(
            "overrides are several texts.",
            where="overrides",
            found=type(overrides).__name__,
            expected='a list of changes, such as ["classifier.epochs=5"]',
        )
    if path.suffix.lower() in (".csv", ".tsv"):
        raise ConfigError(
            "An experiment is wanted, and this is a manifest.",
            where=str(path),
            expected="a YAML file, whose data.manifest names the manifest",
            fix=f"weakseg compare own-images --data {shlex.quote(str(path))} --set name=mine",
        )
    tree = read_yaml(path)
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError(
            "The experiment file is not a mapping of keys.",
            where=str(path),
            found=type(tree).__name__,
            expected="lines of the form 'key: value'",
        )
    _beside(tree, path, "data", "manifest", os.path.isfile)
    _beside(tree, path, "classifier", "heat_from", os.path.isdir)
    for text_override in overrides:
        apply_change(tree, text_override)
    changed = [o.partition("=")[0].strip() for o in overrides]
    return parse_config(tree, where=str(path), changed=changed)


def _beside(
    tree: dict[str, Any], path: Path, part: str, key: str, is_there: Callable[[str], bool]
) -> None:
    """What lies beside the experiment file is what the file means.

    Otherwise its path is relative to the working folder, as every path of the command line.
    """
    data = tree.get(part)
    if not isinstance(data, dict):
        return
    named = data.get(key)
    if not isinstance(named, str) or named in ("", PHANTOM) or os.path.isabs(named):  # noqa: PTH117
        return
    beside = os.path.join(path.parent, named)  # noqa: PTH118
    if path.parent != Path() and is_there(beside):
        data[key] = beside


def config_of_run(run: Path) -> Config:
    """A run's experiment, its heatmaps as they were when its masks were made."""
    config, made_by = load_config(config_file(run)), masks_config(run)
    if not made_by.exists():
        return config
    heat = load_config(made_by)
    parts = {k: getattr(heat, k) for k in ("classifier", "heatmap", "heatmaps", "masks")}
    return config.model_copy(update=parts)


def parse_config(
    tree: dict[str, Any], where: str = "config", changed: Sequence[str] = ()
) -> Config:
    """Check a tree of keys and values.

    Parameters
    ----------
    tree : dict
    where : str
        Where it stands, for messages.
    changed : sequence of str
        Keys that do not stand there: they were changed by the command line.

    Raises
    ------
    ConfigError
        With every problem.
    """
    check_argument(tree, dict, "tree", "the keys and values of an experiment, as a dictionary")
    tree = with_recipe(tree)
    try:
        return Config.model_validate(tree)
    except ValidationError as e:
        told: dict[str, list[str]] = {}  # of a value that may be of several kinds, each tells one
        for err in e.errors():
            key = ".".join(map(str, _place(err["loc"], tree)[0]))
            problem = _problem(err, tree)
            # What is told of no place, of how sections fit each other, begins with the key.
            told.setdefault(key or problem.partition(":")[0], []).append(problem)
        keys = list(told)
        problems = [_joined(k, ps) for k, ps in told.items()]
        n = len(problems)
        raise ConfigError(
            f"The experiment has {n} problem{'s' if n > 1 else ''}:\n"
            + "\n".join(f"  - {p}" for p in problems),
            where=_blamed(keys, where, changed),
        ) from None


def _joined(key: str, problems: Sequence[str]) -> str:
    """What is told of one value, in one line: ``key: this, or that (found it)``."""
    *others, last = dict.fromkeys(problems)
    said = [p.rpartition(" (found ")[0] or p for p in others]
    said = [p if k == 0 else p.removeprefix(f"{key}: ") for k, p in enumerate((*said, last))]
    return ", or ".join(said)


def _blamed(keys: Sequence[str], where: str, changed: Sequence[str]) -> str:
    """The file, the command line that changed its keys, or both: whatever may hold the problems.

    Of a section, a part of which was changed, nobody knows which part does not fit.
    """
    of_line = [any(f"{k}.".startswith(f"{c}.") for c in changed) for k in keys]
    in_part = any(f"{c}.".startswith(f"{k}.") for c in changed for k in keys)
    if all(of_line):
        return f"the command line, which changes {where}"
    return f"{where}, and the command line" if any(of_line) or in_part else where


def apply_change(tree: dict[str, Any], text: str) -> None:
    """Change one key of a tree, as ``a.b=value`` says.

    Raises
    ------
    ConfigError
        If the text is not of that form, or the key cannot have keys below it.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    parts = key.split(".")
    if not equals or not all(parts) or not key.isprintable() or len(parts) > MAX_DEPTH:
        raise ConfigError(
            "A --set is not of the form KEY=VALUE.",
            where=_cut(f"--set {text}"),
            expected="for example --set classifier.epochs=5",
        )
    parsed = _value(text, value)
    node = tree
    *parents, last = parts
    for i, part in enumerate(parents):
        child = node.setdefault(part, {})
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise ConfigError(
                f"{'.'.join(parents[: i + 1])} is a value and has no keys below it.",
                where=_cut(f"--set {text}"),
                found=_short(child),
            )
        node = child
    node[last] = parsed


def quoted(text: str) -> str:
    """A text as the value of a ``--set``, whatever signs it holds."""
    return "'" + text.replace("'", "''") + "'"


def _value(text: str, value: str) -> Any:
    """The value of a ``--set``: YAML, else the text as it stands."""
    try:
        return parse(value)
    except RefusedError as e:
        where, found = _cut(f"--set {text}"), str(e.problem)
        raise ConfigError(
            "The value of a --set cannot be taken.", where=where, found=found
        ) from None
    except yaml.reader.ReaderError:
        raise ConfigError(
            "The value of a --set has characters that are no text.", where=_cut(f"--set {text!r}")
        ) from None
    except yaml.YAMLError:
        return value


def _problem(error: Any, tree: dict[str, Any]) -> str:
    """One pydantic error in our words."""
    path, holder = _place(error["loc"], tree)
    key = ".".join(str(p) for p in path)
    if error["type"] == "extra_forbidden":
        keys = _keys_beside(path, holder)
        close = nearest(str(path[-1]), keys)
        hint = f"did you mean {close!r}?" if close else f"known keys: {', '.join(keys)}"
        return f"unknown key {key!r}; {hint}"
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if not key:
        return message
    value = error.get("input")
    if error["type"] in _NO_SECTION:
        message = "a section is expected: keys below it, each as 'key: value'"
    if isinstance(value, str) and (comma := _COMMA.fullmatch(value.strip())):
        message += f"; write {comma[1]}.{comma[2]}, with a point"
    if error["type"] == "string_type" and isinstance(value, bool | int | float):
        message += "; put words such as 'no', and numbers, in quotation marks"
    return f"{key}: {message} (found {_short(value)})"


def _place(loc: Iterable[Any], tree: dict[str, Any]) -> tuple[list[Any], Any]:
    """A location as the user wrote it, and what its last part stands in.

    Pydantic puts the branch of a union and the name of a rule between the keys; what is not in the
    tree is such a tag, whatever it is called.
    """
    path: list[Any] = []
    node: Any = tree
    holder: Any = tree
    for part in loc:
        children = dict(enumerate(node)) if isinstance(node, list) else node
        if isinstance(children, dict) and part in children:
            path, holder, node = [*path, part], children, children[part]
    return path, holder


def _keys_beside(path: Sequence[Any], holder: dict[str, Any]) -> list[str]:
    """The keys of the section that the last part of a path stands in."""
    model: type[BaseModel] | None = Config
    parts = list(path)[:-1]
    while parts and model is not None:
        part = parts.pop(0)
        if part in ("rules", "rule"):  # which rule it is, its own key says
            return list(RULES[holder["rule"]].model_fields)
        if part in NAMED:
            parts.pop(0)  # the user's own name
            model = NAMED[part]
        else:
            model = section(model.model_fields[part].annotation)
    return [] if model is None else list(model.model_fields)


def section(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, also where it may hold something else instead."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _short(value: Any) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def dump_config(config: Config) -> str:
    """The experiment as YAML, every default written out."""
    return dump(config.model_dump(mode="json"))
