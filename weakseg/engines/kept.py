"""Graphs that are kept in a folder: to make one takes seconds, to read it some milliseconds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from weakseg.progress import say
from weakseg.runs import write_bytes

MAKERS = ("weakseg", "torch", "torchvision", "timm", "onnx", "onnxscript", "onnx-ir")
"""Packages whose other versions may make another graph of the same network."""

RECIPE = 1
"""Raised whenever weakseg itself makes other graphs than before of the same networks."""

SUFFIX = ".graph"


@dataclass(frozen=True)
class KeptGraphs:
    """A folder of graphs, each under a name that tells what it was made of.

    A file is a line of JSON, with what the graph is of and its hash, and the ONNX model behind it.

    Attributes
    ----------
    folder : Path
        Need not exist.
    writes : bool
        Whether new ones are kept; else they are only looked up.
    """

    folder: Path
    writes: bool = True

    def find(self, path: Path) -> tuple[str, bytes] | None:
        """What was kept: what the graph is of, and the graph; None without one that is whole."""
        try:
            head, _, model = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as e:
            say(f"{path}: cannot be read ({e.strerror}), so the graph is made again")
            return None
        try:
            about = json.loads(head)
            name, digest = str(about["of"]), about["hash"]
        except (ValueError, TypeError, KeyError):
            digest = None
        if digest != _hash(model):
            say(f"{path}: is not what was kept there, so the graph is made again")
            return None
        return name, model

    def keep(self, path: Path, name: str, model: bytes) -> None:
        """Keep a graph; those of other weights go."""
        if not self.writes:
            return
        head = json.dumps({"of": name, "hash": _hash(model)}).encode()
        write_bytes(path, head + b"\n" + model)
        weights = path.name.partition("-")[0]
        for other in self.folder.glob(f"*{SUFFIX}"):
            if other.name.partition("-")[0] != weights:
                other.unlink(missing_ok=True)

    def path_of(self, models: Sequence[nn.Module], made_with: Mapping[str, Any]) -> Path:
        """Where the graph of networks lies.

        Parameters
        ----------
        models : sequence of nn.Module
            They count by their form and their weights.
        made_with : mapping
            Whatever else the graph depends on, as JSON takes it.
        """
        others = json.dumps([RECIPE, made_with, _versions()], sort_keys=True)
        weights, settings = _hash_of(models), hashlib.blake2b(others.encode(), digest_size=8)
        return self.folder / f"{weights}-{settings.hexdigest()}{SUFFIX}"


def _hash(model: bytes) -> str:
    return hashlib.blake2b(model, digest_size=20).hexdigest()


def _hash_of(models: Sequence[nn.Module]) -> str:
    """Of what networks look like, and of every parameter and buffer of theirs."""
    whole = hashlib.blake2b(digest_size=8)
    for model in models:
        whole.update(f"{model}{getattr(model, 'spec', '')}".encode())
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            values = tensor.detach().cpu().contiguous()
            whole.update(f"{name}{values.dtype}{tuple(values.shape)}".encode())
            whole.update(values.flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


@cache
def _versions() -> list[str | None]:
    def of(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    return [of(package) for package in MAKERS]
