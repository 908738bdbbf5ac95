"""What a network's classes are called, and which of them is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from weakseg.api.preprocessing import weight_names
from weakseg.errors import ArgumentError, ConfigError, did_you_mean
from weakseg.heatmaps.arguments import read_target
from weakseg.models.classifier import Classifier

FEW = 20
"""Class names that a message lists."""


def class_names_of(model: nn.Module, given: Any, weights: Any, count: int) -> list[str] | None:
    """The names of a network's classes, in the order of its scores; None where nobody says them.

    Parameters
    ----------
    model : nn.Module
        Of a weakseg classifier the names are known; of others, ``class_names``, ``classes``,
        ``config.id2label`` and the ``label_names`` of timm are asked.
    given : sequence of str, or mapping of int to str, or None
        Names that are handed over.
    weights : WeightsEnum or str, optional
        Of torchvision.
    count : int
        How many classes there are.

    Raises
    ------
    ArgumentError
        If the given names are not as many as there are classes, or one stands twice.
    """
    if given is not None:
        names = _as_list(given)
        if names is None or len(names) != count or len(set(names)) != len(names):
            raise ArgumentError(
                "class_names does not name the network's classes.",
                where="class_names",
                found=f"{given!r}"[:120],
                expected=f"{count} different names, one a class in the order of the scores",
            )
        return names
    config = getattr(model, "pretrained_cfg", None)
    for known in (
        model.spec.labels if isinstance(model, Classifier) else None,
        weight_names(weights),
        getattr(model, "class_names", None),
        getattr(model, "classes", None),
        getattr(getattr(model, "config", None), "id2label", None),
        config.get("label_names") if isinstance(config, dict) else None,
    ):
        names = _as_list(known)
        if names is not None and len(names) == count and len(set(names)) == len(names):
            return names
    return None


def _as_list(names: Any) -> list[str] | None:
    if isinstance(names, Mapping):
        try:
            names = [names[k] for k in sorted(names, key=int)]
        except (TypeError, ValueError):
            return None
    if isinstance(names, str | bytes) or not isinstance(names, Sequence | np.ndarray):
        return None
    return [str(n) for n in names]


def read_classes(target: Any, names: Sequence[str] | None, count: int) -> tuple[int, ...]:
    """The class numbers of numbers and names.

    Parameters
    ----------
    target : int, str, or sequence of these
    names : sequence of str or None
        Of the classes, where they are known.
    count : int
        How many classes there are.

    Raises
    ------
    ConfigError
        For what names no class, with the nearest name.
    """
    several = isinstance(target, Sequence | np.ndarray | set) and not isinstance(target, str)
    some = list(target) if several else [target]
    if not any(isinstance(k, str) for k in some):
        return read_target(target)
    return tuple(
        _number(k, names, count) if isinstance(k, str) else int(*read_target(k)) for k in some
    )


def _number(name: str, names: Sequence[str] | None, count: int) -> int:
    if names is None:
        raise ConfigError(
            f"Which class {name!r} is cannot be told: the network names none of its classes.",
            where="target",
            found=f"{count} class scores",
            fix="give class_names=[…] in the order of the scores, or the number of the class",
        )
    if name not in names:
        folded = {n.casefold(): k for k, n in enumerate(names)}
        if name.casefold() in folded and len(folded) == len(names):
            return folded[name.casefold()]
        raise ConfigError(
            f"There is no class {name!r}.",
            where="target",
            found=", ".join(names[:FEW]) + (" …" if len(names) > FEW else ""),
            fix=did_you_mean(name, names) if len(names) <= FEW else _nearest(name, names),
        )
    return list(names).index(name)


def _nearest(name: str, names: Sequence[str]) -> str:
    said = did_you_mean(name, names)
    return said if said.startswith("did") else "give its name as the network has it, or its number"


def shown_names(names: Sequence[str] | None, count: int) -> list[str]:
    """The names of the classes; their numbers where they have none."""
    return list(names) if names is not None else [str(k) for k in range(count)]
