"""What can happen to the files of a run folder: damages of every kind, one file of each."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

NOT_READ = (".lock", "report/")
"""What no command reads of a run."""

Damage = Callable[[Path], None]


def kinds_of_files(run: Path) -> list[str]:
    """One file of each kind, relative to the run: of many cases, seeds and conditions the first."""
    found: dict[str, str] = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        name = path.relative_to(run).as_posix()
        if not name.startswith(NOT_READ):
            kind = re.sub(r"p\d\d_\d", "CASE", re.sub(r"(seed|draw)-\d+", r"\1-N", name))
            kind = re.sub(r"^(filtered/[^/]*/[^/]*)/[^/]*/", r"\1/CONDITION/", kind)
            found.setdefault(kind, name)
    return list(found.values())


def copy_run(run: Path, to: Path) -> Path:
    """A copy that costs nothing: the files are the same ones, for weakseg never writes into one."""
    shutil.copytree(run, to, copy_function=os.link)
    return to


def without_lists(run: Path) -> None:
    """Take what the record says of outputs away, as someone does who changes them by hand.

    What was changed is then no longer found by size and hash, but where it is read.
    """
    record = json.loads((run / "run.json").read_text())
    for entry in record["stages"].values():
        entry.pop("outputs", None)
    (run / "run.json").unlink()
    (run / "run.json").write_text(json.dumps(record))


def damages(path: Path) -> dict[str, Damage]:
    """Name → what does it to a file of this kind."""
    held = path.read_bytes()
    found: dict[str, Damage] = {
        "gone": lambda p: p.unlink(),
        "empty": _bytes(b""),
        "half": _bytes(held[: len(held) // 2]),
        "random": _bytes(np.random.default_rng(0).bytes(max(len(held), 64))),
        "zeros": _bytes(bytes(len(held))),
        "folder": _folder,
        "unreadable": _unreadable,
    }
    of_kind = {".json": _json, ".csv": _csv, ".npz": _npz, ".safetensors": _safetensors}
    if path.suffix in of_kind:
        found |= dict(of_kind[path.suffix](held))
    if path.suffix == ".yaml":
        found |= {"list": _bytes(b"- a\n"), "keys": _bytes(b"a: 1\n"), "none": _bytes(b"\n")}
    return found


def _bytes(data: bytes) -> Damage:
    def write(path: Path) -> None:
        path.unlink()
        path.write_bytes(data)

    return write


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _unreadable(path: Path) -> None:
    """A file that opens, and every read of which fails, as on a broken disk."""
    path.unlink()
    path.symlink_to("/proc/self/mem")


def _json(held: bytes) -> Iterator[tuple[str, Damage]]:
    tree = json.loads(held)
    for other in ([], {}, "text", None, 3, [tree]):
        yield f"is {json.dumps(other)[:6]}", _bytes(json.dumps(other).encode())
    for at in _places(tree):
        name = ".".join(map(str, at))
        yield f"without {name}", _bytes(_changed(tree, at, None, remove=True))
        for value in ("text", None, float("nan"), -1, [], {}, True):
            yield f"{name} is {json.dumps(value)}", _bytes(_changed(tree, at, value))


def _places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of a tree; of long lists only the first entry."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield (*at, key)
            yield from _places(value, (*at, key))
    elif isinstance(tree, list) and tree:
        yield (*at, 0)
        yield from _places(tree[0], (*at, 0))


def _changed(tree: Any, at: tuple[Any, ...], value: Any, *, remove: bool = False) -> bytes:
    copy = json.loads(json.dumps(tree))
    node = copy
    for part in at[:-1]:
        node = node[part]
    if remove:
        del node[at[-1]]
    else:
        node[at[-1]] = value
    return json.dumps(copy).encode()


def _csv(held: bytes) -> Iterator[tuple[str, Damage]]:
    table = pd.read_csv(io.BytesIO(held), dtype=str, keep_default_na=False)

    def as_csv(changed: pd.DataFrame) -> Damage:
        return _bytes(changed.to_csv(index=False).encode())

    yield "row gone", as_csv(table.iloc[1:])
    yield "last row gone", as_csv(table.iloc[:-1])
    yield "row twice", as_csv(pd.concat([table, table.iloc[:1]]))
    yield "header alone", as_csv(table.iloc[:0])
    yield "no header", _bytes(held.partition(b"\n")[2])
    yield "fields too many", _bytes(held + b"," * 99 + b"\n")
    yield "latin-1", _bytes(held + "é".encode("latin-1"))
    yield "nul", _bytes(held.replace(b"\n", b"\0\n", 3))
    yield "quote", _bytes(held.replace(b",", b',"', 3))
    for column in table.columns:
        yield f"{column} renamed", as_csv(table.rename(columns={column: f"{column}_"}))
        yield f"{column} gone", as_csv(table.drop(columns=column))
        for value in ("text", "", "nan", "-1", "inf", "1e999", "../x"):
            changed = table.copy()
            changed.loc[changed.index[:1], column] = value
            yield f"{column} is {value!r}", as_csv(changed)
            yield f"all {column} {value!r}", as_csv(table.assign(**{column: value}))


def _npz(held: bytes) -> Iterator[tuple[str, Damage]]:
    with np.load(io.BytesIO(held)) as z:
        arrays = dict(z)
    about = json.loads(str(arrays["about"]))

    def as_npz(changed: dict[str, Any]) -> Damage:
        buffer = io.BytesIO()
        np.savez(buffer, **changed)
        return _bytes(buffer.getvalue())

    for name in arrays:
        yield f"without {name}", as_npz({k: v for k, v in arrays.items() if k != name})
    values = arrays["values"]
    odd = {"text": np.str_("x"), "empty": values[:0], "flat": values.ravel(), "deep": values[None]}
    for kind, value in odd.items():
        yield f"values {kind}", as_npz({**arrays, "values": value})
    yield "values nan", as_npz({**arrays, "values": np.full_like(values, np.nan)})
    for at in _places(about):
        for value in ("text", None, float("nan"), -1, 0, 10**9, [], {}):
            text = np.str_(_changed(about, at, value).decode())
            yield (
                f"{'.'.join(map(str, at))} is {json.dumps(value)}",
                as_npz({**arrays, "about": text}),
            )
    yield "about is a list", as_npz({**arrays, "about": np.str_("[]")})


def _safetensors(held: bytes) -> Iterator[tuple[str, Damage]]:
    size = int.from_bytes(held[:8], "little")
    header, tensors = json.loads(held[8 : 8 + size]), held[8 + size :]

    def with_header(changed: Any) -> Damage:
        text = json.dumps(changed).encode()
        return _bytes(len(text).to_bytes(8, "little") + text + tensors)

    yield "header too long", _bytes((2**60).to_bytes(8, "little") + held[8:])
    meta = header.get("__metadata__", {})
    yield "no metadata", with_header({k: v for k, v in header.items() if k != "__metadata__"})
    for key in meta:
        yield (
            f"without {key}",
            with_header(header | {"__metadata__": {k: v for k, v in meta.items() if k != key}}),
        )
        for value in ("", "text", "[]", "null", "-1", "{}", "nan", '["a"]'):
            yield f"{key} is {value!r}", with_header(header | {"__metadata__": meta | {key: value}})
    first = next(k for k in header if k != "__metadata__")
    yield (
        "tensor renamed",
        with_header({f"x{k}" if k == first else k: v for k, v in header.items()}),
    )
    floats = np.frombuffer(tensors[: len(tensors) // 4 * 4], dtype="<f4")
    yield "nan", _bytes(held[: 8 + size] + np.full_like(floats, np.nan).tobytes())
