"""Every key of an experiment: what it may hold, its default and what it means.

Made from the models that check experiments, so that nothing can be left out or be stale.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from weakseg.config.experiment import Config
from weakseg.errors import ConfigError, near_names

NAME = "NAME"
"""Stands for a name that the user chooses."""
_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_SEVERAL = (list, tuple, set)


@dataclass(frozen=True)
class Key:
    """A key of an experiment.

    Attributes
    ----------
    name : str
        With dots: ``classifier.epochs``; ``segmenters.NAME.arch`` below a name of the user's;
        ``masks.rules[otsu]`` of what is one of several kinds.
    holds : str
        What it may hold: ``whole number ≥ 1``.
    default : str
        As YAML; ``required`` where there is none.
    told : str
        What it means; of a section, what it is for.
    section : bool
        Whether it has keys below it.
    """

    name: str
    holds: str
    default: str
    told: str
    section: bool = False


def all_keys() -> list[Key]:
    """Every key of an experiment, in the order of the models."""
    return list(_keys_of(Config, "", {}))


def keys_below(prefix: str) -> list[Key]:
    """A key, and those below it.

    Raises
    ------
    ConfigError
        With keys that are near, for one that there is not.
    """
    keys = all_keys()
    wanted = prefix.rstrip(".")
    below = [k for k in keys if k.name == wanted or k.name.startswith((f"{wanted}.", f"{wanted}["))]
    if not below:
        names = [k.name for k in keys]
        near = near_names(prefix, names) or [n for n in names if n.endswith(f".{prefix}")]
        raise ConfigError(
            "There is no such key.",
            where=prefix,
            fix=f"did you mean {' or '.join(near)}?" if near else "`weakseg config keys` lists all",
        )
    return below


def json_schema() -> dict[str, Any]:
    """The JSON schema of an experiment, for editors that complete and check YAML."""
    return Config.model_json_schema() | {"title": "weakseg experiment"}


def _keys_of(
    model: type[BaseModel], prefix: str, told: dict[tuple[type[BaseModel], ...], str]
) -> Iterator[Key]:
    """The keys of a section, and those below; a choice of kinds that was told is named alone."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        models, below = _sections(field.annotation)
        about = field.description or (_summary(models[0]) if len(models) == 1 else "")
        choice = tuple(models)
        if len(models) > 1:
            about = about or f"one of {', '.join(map(_tag, models))}"
            about += f"; keys as {told[choice]}" if choice in told else ""
        yield Key(path, _holds(field), _default(field, bool(models)), about, bool(models))
        if len(models) == 1:
            yield from _keys_of(models[0], f"{path}{below}.", told)
        elif choice not in told:
            told[choice] = path
            for section in models:
                at = f"{path}[{_tag(section)}]"
                yield Key(at, "section", "", _summary(section), True)
                yield from _keys_of(section, f"{at}.", told)


def _sections(annotation: Any) -> tuple[list[type[BaseModel]], str]:
    """The models that a field may hold, and what stands between its key and theirs."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation], ""
    if origin is dict:
        return _sections(inner[1])[0], f".{NAME}"
    if origin is Annotated:
        return _sections(inner[0])
    sections: list[type[BaseModel]] = []
    below = ""
    for part in inner:
        models, between = _sections(part)
        sections += [m for m in models if m not in sections]
        below = below or between
    return sections, below


def _tag(model: type[BaseModel]) -> str:
    """The value by which one model of a union is told from the others."""
    for field in model.model_fields.values():
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1:
            return str(get_args(field.annotation)[0])
    return model.__name__


def _summary(model: type[BaseModel]) -> str:
    text = (model.__doc__ or "").strip().split("\n\n")[0]
    return re.sub(r"\s+", " ", text).rstrip(".").replace("``", "`")


def _holds(field: FieldInfo) -> str:
    """What a field may hold, in words."""
    kind, bar, others = _kind(field.annotation).partition(" | ")
    limits = _limits(field.metadata)
    return f"{kind} {limits}{bar}{others}" if limits else f"{kind}{bar}{others}"


def _kind(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    plain = {
        int: "whole number",
        float: "number",
        str: "text",
        bool: "true or false",
        NoneType: "null",
    }
    if annotation in plain:
        return plain[annotation]
    if origin is Literal:
        return " | ".join(_literal(v) for v in inner)
    if origin is Annotated:
        limits = _limits(inner[1:])
        return f"{_kind(inner[0])} {limits}" if limits else _kind(inner[0])
    if origin in (Union, UnionType):
        return " | ".join(dict.fromkeys(_kind(p) for p in inner))
    if origin is dict:
        named = _sections(inner[1])[0]
        return "names of yours, each with a section" if named else f"keys → {_kind(inner[1])}"
    if origin in _SEVERAL:
        kinds = [_kind(p) for p in inner if p is not Ellipsis]
        fixed = origin is tuple and Ellipsis not in inner
        if kinds == ["section"]:
            return "list of sections"
        return f"[{', '.join(kinds)}]" if fixed else f"list: {kinds[0] if kinds else 'values'}"
    return "section"


def _limits(metadata: Iterable[Any]) -> str:
    """The range that a field's marks say."""
    parts = [p for m in metadata for p in (m.metadata if isinstance(m, FieldInfo) else (m,))]
    return ", ".join(
        f"{sign} {value if isinstance(value, int) else format(value, 'g')}"
        for part in parts
        for key, sign in _LIMITS.items()
        if (value := getattr(part, key, None)) is not None
    )


def _literal(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value)


def _default(field: FieldInfo, section: bool) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    if section and isinstance(value, list | tuple):
        kinds = (_tag(type(v)) if isinstance(v, BaseModel) else str(v) for v in value)
        return f"[{', '.join(kinds)}]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value) if isinstance(value, tuple) else value)


def format_keys(keys: Iterable[Key]) -> str:
    """Keys as text: the key, what it holds and its default, and below that what it means."""
    lines = []
    for key in keys:
        head = key.name if key.section and key.holds == "section" else f"{key.name}: {key.holds}"
        default = f"  (default: {key.default})" if key.default else ""
        lines.append(f"{head}{default}")
        lines += textwrap.wrap(key.told, 96, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)
