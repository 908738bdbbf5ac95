"""YAML as an experiment needs it: bounded, without doubt about what a word means.

A key that stands twice, an alias that unfolds without end, a number of five thousand digits: each
is refused with its line, in bounded time. Words that YAML 1.1 reads as something nobody means are
text: ``010`` is no octal number, ``1:30`` none to the base of 60, ``2024-05-01`` no date; ``1e-3``
is a number.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml.reader
from yaml.events import AliasEvent

from weakseg.errors import ConfigError

MAX_BYTES = 200_000
MAX_NODES, MAX_DEPTH, MAX_DIGITS = 10_000, 30, 20

_PLAIN = ("map", "seq", "str", "int", "float", "bool", "null", "merge")
_CORE = frozenset(f"tag:yaml.org,2002:{kind}" for kind in _PLAIN)
_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")


class RefusedError(yaml.MarkedYAMLError):
    """YAML that could be read, and is not meant."""


class _Loader(yaml.SafeLoader):
    """The safe loader with bounds; tags other than those of plain values are refused."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes, self._depth, self._deepest = 0, 0, 0
        self._unfolded: dict[str, tuple[int, int]] = {}  # anchor → values and levels below it

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._unfolded:
                raise _refused(f"*{event.anchor} stands within itself", event)
            nodes, levels = self._unfolded.get(str(event.anchor), (1, 1))
            self._add(nodes, levels, event)
            return super().compose_node(parent, index)
        before, above = self._nodes, self._deepest
        self._deepest = self._depth
        self._add(1, 1, event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if getattr(event, "anchor", None) is not None:
            self._unfolded[event.anchor] = self._nodes - before, self._deepest - self._depth
        self._deepest = max(above, self._deepest)
        return node

    def _add(self, nodes: int, levels: int, event: Any) -> None:
        self._nodes += nodes
        self._deepest = max(self._deepest, self._depth + levels)
        if self._nodes > MAX_NODES:
            raise _refused(f"more than {MAX_NODES:,} values, aliases unfolded", event)
        if self._deepest > MAX_DEPTH:
            raise _refused(f"values are nested more than {MAX_DEPTH} deep", event)

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag not in (_TEXT, _MERGE):
                shown = key.value if isinstance(key, yaml.ScalarNode) else f"a {key.id}"
                raise _refused(f"the key {shown!r:.60} is no text; put it in quotation marks", key)
            if key.value in seen:
                raise _refused(
                    f"the key {key.value!r:.60} stands twice, first in line {seen[key.value]}", key
                )
            seen[key.value] = key.start_mark.line + 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        if node.tag not in _CORE:
            raise _refused(f"the tag {node.tag!r:.60} is not known", node)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError):
            kind = node.tag.rpartition(":")[2]
            raise _refused(f"{node.value!r:.60} is no {kind}", node) from None


def _refused(problem: str, at: Any) -> RefusedError:
    return RefusedError(problem=problem, problem_mark=at.start_mark)


def _integer(loader: _Loader, node: Any) -> int:
    if len(node.value) > MAX_DIGITS:
        raise _refused(f"a number of {len(node.value):,} characters", node)
    return int(loader.construct_yaml_int(node))


def _text(loader: _Loader, node: Any) -> str:
    value = str(loader.construct_scalar(node))
    if _ODD.search(value):
        raise _refused(f"{value!r:.60} has control characters", node)
    return value


class _Dumper(yaml.SafeDumper):
    """Puts into quotation marks what `_Loader` would read as a number."""


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor(_TEXT, _text)
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in known
        if tag.rpartition(":")[2] not in ("int", "float", "timestamp", "value")
    ]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def parse(text: str) -> Any:
    """One document of YAML.

    Raises
    ------
    yaml.YAMLError
        If it is not YAML; `RefusedError` if it is, and is refused.
    """
    return _unshared(_parsed(text))


@lru_cache(8)
def _parsed(text: str) -> Any:
    """What `parse` copies: a command reads the same experiment several times, 20 ms each."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _unshared(value: Any) -> Any:
    """A copy in which two aliases are two values: a change of one leaves the other."""
    if isinstance(value, dict):
        return {k: _unshared(v) for k, v in value.items()}
    return [_unshared(v) for v in value] if isinstance(value, list) else value


def dump(tree: Any) -> str:
    """A tree as YAML that `parse` reads as the same tree."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def flow(value: Any) -> str:
    """A value as YAML on one line, which `parse` reads as the same value."""
    text = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=float("inf")
    )
    return text.removesuffix("...\n").strip()


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises
    ------
    ConfigError
        With the line, where it is not YAML or is refused.
    """
    text = _read(path)
    try:
        return parse(text)
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise ConfigError(
            "The experiment file is not text.",
            where=f"{path}, line {line}",
            found=f"the character U+{ord(text[e.position]):04X}",
            fix="take the character out, or save the file as text (UTF-8)",
        ) from None
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        refused = isinstance(e, RefusedError)
        found = str(getattr(e, "problem", None) or " ".join(str(e).split()))
        raise ConfigError(
            f"The experiment file {'cannot be taken' if refused else 'is not YAML'}.",
            where=str(path) if mark is None else f"{path}, line {mark.line + 1}",
            found=found if refused or mark is None else f"{found}, in {_line(text, mark.line)}",
            fix="mend the line that is named" + ("" if refused else _remedy(found)),
        ) from None


def _line(text: str, line: int) -> str:
    lines = text.split("\n")
    return f"{lines[line].strip()!r:.60}" if line < len(lines) else "the end of the file"


def _remedy(problem: str) -> str:
    if r"character '\t'" in problem:
        return ": indent with spaces, for YAML takes no tabs"
    if "<block end>" in problem:
        return ", or the one above: keys of one section begin in the same column"
    return "; text with ': ' or a leading '*' needs quotes"


def _read(path: Path) -> str:
    """The text of a file, as far as it can be one of an experiment."""
    try:
        with path.open("rb") as f:
            content = f.read(MAX_BYTES + 1)
    except FileNotFoundError:
        link = " (a link to what is not there)" if path.is_symlink() else ""
        raise ConfigError(
            f"The experiment file does not exist{link}.",
            where=str(path),
            fix="check the path; the configs/ folder of weakseg holds examples",
        ) from None
    except OSError as e:
        raise _unreadable(path, e.strerror or str(e)) from None
    if len(content) > MAX_BYTES:
        raise _unreadable(path, f"more than {MAX_BYTES:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        coded = "UTF-16 or UTF-32" if wide else f"the byte {content[e.start]:#04x}"
        raise _unreadable(f"{path}, line {line}", coded, fix="save it as UTF-8") from None


def _unreadable(where: object, found: str, fix: str | None = None) -> ConfigError:
    return ConfigError(
        "The experiment file cannot be read.",
        where=str(where),
        found=found,
        expected="a text file (UTF-8) of YAML",
        fix=fix,
    )
