"""From a file to an experiment, and back; every problem of the file at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from weakseg.config.experiment import Config
from weakseg.config.masks import NamedHeatmap
from weakseg.config.recipes import with_recipe
from weakseg.config.rules import RULE_MODELS, RULE_NAMES
from weakseg.config.segmenter import SegmenterConfig
from weakseg.errors import ConfigError, nearest

NAMED: dict[str, type[BaseModel]] = {"segmenters": SegmenterConfig, "heatmaps": NamedHeatmap}
"""Keys below which the user's own names stand, and what each of them holds."""


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read an experiment file.

    Parameters
    ----------
    path : Path
        A YAML file.
    overrides : sequence of str
        ``a.b=value`` changes, applied in order.

    Raises
    ------
    ConfigError
        With every problem of the file, not just the first.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            "The experiment file does not exist.",
            where=str(path),
            fix="check the path; the configs/ folder of weakseg holds examples",
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(
            "The experiment file cannot be read.",
            where=str(path),
            found=str(e),
            expected="a text file (UTF-8) of YAML",
        ) from None
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise ConfigError(
            "The experiment file is not YAML.",
            where=str(path),
            found=" ".join(str(e).split()),
            fix="mend the line that is named; text with ': ' or a leading '*' needs quotes",
        ) from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError(
            "The experiment file is not a mapping of keys.",
            where=str(path),
            found=type(tree).__name__,
            expected="lines of the form 'key: value'",
        )
    for text_override in overrides:
        _apply(tree, text_override)
    return parse_config(tree, where=str(path))


def parse_config(tree: dict[str, Any], where: str = "config") -> Config:
    """Check a tree of keys and values.

    Raises
    ------
    ConfigError
        With every problem.
    """
    try:
        return Config.model_validate(with_recipe(tree))
    except ValidationError as e:
        problems = [_problem(err, tree) for err in e.errors()]
        n = len(problems)
        raise ConfigError(
            f"The experiment has {n} problem{'s' if n > 1 else ''}:\n"
            + "\n".join(f"  - {p}" for p in problems),
            where=where,
        ) from None


def _apply(tree: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key or any(not part for part in key.split(".")):
        raise ConfigError(
            "A --set is not of the form KEY=VALUE.",
            where=f"--set {text}",
            expected="for example --set classifier.epochs=5",
        )
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        parsed = value
    node = tree
    *parents, last = key.split(".")
    for i, part in enumerate(parents):
        child = node.setdefault(part, {})
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise ConfigError(
                f"{'.'.join(parents[: i + 1])} is a value and has no keys below it.",
                where=f"--set {text}",
                found=repr(child),
            )
        node = child
    node[last] = parsed


def _problem(error: Any, tree: dict[str, Any]) -> str:
    """One pydantic error in our words."""
    loc = [p for p in error["loc"] if p not in RULE_NAMES and not _is_type_tag(p)]
    key = ".".join(str(p) for p in loc)
    if error["type"] == "extra_forbidden":
        close = nearest(str(loc[-1]), _keys_beside(loc))
        known = _keys_beside(loc)
        hint = f"did you mean {close!r}?" if close else f"known keys: {', '.join(known)}"
        return f"unknown key {key!r}; {hint}"
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if not key:
        return message
    return f"{key}: {message} (found {_short(error.get('input'))})"


def _is_type_tag(part: Any) -> bool:
    """Pydantic names the branch of a union in a location; a reader has no use for it."""
    text = str(part)
    return (
        "[" in text
        or text.endswith("Config")
        or text in {"float", "str", "int", "constrained-float", "list"}
    )


def _keys_beside(loc: Iterable[Any]) -> list[str]:
    model: Any = Config
    rules = sorted({k for r in RULE_MODELS for k in r.model_fields})
    parts = list(loc)[:-1]
    while parts:
        part = parts.pop(0)
        field = None if isinstance(part, int) else model.model_fields.get(part)
        if field is None:
            return rules
        if part in NAMED and parts:
            parts.pop(0)  # the user's own name
            model = NAMED[part]
        else:
            inner = _section(field.annotation)
            if inner is None:
                return rules
            model = inner
    return list(model.model_fields)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, also where it may hold something else instead."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def dump_config(config: Config) -> str:
    """The experiment as YAML, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
