"""The experiment that the parameters of a `weakseg.WeakSegmenter` stand for."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.api.training_set import label_as_text
from weakseg.config import Config, load_config
from weakseg.config.recipes import METHOD, RECIPES, with_recipe
from weakseg.errors import ArgumentError, ConfigError, did_you_mean
from weakseg.packaged import find_config

NAME = "weak-segmenter"

FAST: dict[str, Any] = {
    "data": {"image_size": 64},
    "classifier": {"epochs": 4, "batch_size": 16},
    "heatmap": {"layer": "fused"},
    "masks": {"rules": ["otsu", "fixed", "two-tone"]},
    "scores": {"bootstrap": 200},
    "report": {"gallery": 2},
}
"""What ``fast`` is, laid under everything that is asked for."""

FAST_RECIPE: dict[str, Any] = {
    METHOD: {"image_size": 64, "epochs": 2, "steps": 16, "batch_size": 8}
}
"""The same of the recipe's segmenter."""


def experiment_tree(params: Mapping[str, Any], manifest: Path, seed: int | None) -> dict[str, Any]:
    """Keys and values of an experiment.

    Parameters
    ----------
    params : mapping
        As `weakseg.WeakSegmenter.get_params` gives them.
    manifest : Path
    seed : int or None
        None: as ``config`` has it.

    Raises
    ------
    ConfigError, ArgumentError
        For what is not understood.
    """
    tree = _base(params["config"])
    recipe = "none" if params["recipe"] is None else params["recipe"]
    if recipe not in ("none", *RECIPES):
        raise ConfigError(
            f"There is no recipe {recipe!r}.",
            where="recipe",
            fix=did_you_mean(str(recipe), ["none", *RECIPES]),
        )
    asked: dict[str, Any] = {
        "name": tree.get("name", NAME),
        "data": {"manifest": str(manifest)},
    }
    for key, value in (("seed", seed), ("device", params["device"])):
        if value is not None:
            asked[key] = value
    if params["recipe"] is not None:
        asked["recipe"] = recipe
    places = {
        "arch": "classifier.arch",
        "weights": "classifier.weights",
        "epochs": "classifier.epochs",
        "image_size": "data.image_size",
        "method": "report.method",
    }
    for param, key in places.items():
        if params[param] is not None:
            put(asked, key, _plain(params[param]))
    own = _settings(params["settings"])
    if params["seeds"] is not None:
        first = own.get("seed", asked.get("seed", tree.get("seed", 0)))
        put(asked, "classifier.seeds", _seeds(params["seeds"], first))
    if params["rules"] is not None:
        rules = params["rules"]
        put(asked, "masks.rules", [rules] if isinstance(rules, str | dict) else list(rules))
    for side in ("healthy_labels", "lesion_labels"):
        if params[side] is not None:
            put(asked, f"data.{side}", _labels(params[side], side))
    asked = over(asked, own)
    whole = over(tree, asked)
    if params["fast"]:
        whole = over(FAST, whole)
        if whole.get("recipe") == METHOD:
            # Under what is asked for, and over the recipe's own.
            mine = over(FAST_RECIPE, asked.get("segmenters") or {})
            whole = with_recipe(over(whole, {"segmenters": mine}))
    return whole


def _base(config: Any) -> dict[str, Any]:
    """The experiment that everything is laid over, as a tree of what it sets itself."""
    if config is None:
        return {"name": NAME}
    if isinstance(config, Mapping):
        return deepcopy(dict(config))
    if isinstance(config, str | Path) and str(config):
        config = load_config(find_config(Path(config)))
    if not isinstance(config, Config):
        raise ArgumentError(
            "config is no experiment.",
            where="config",
            found=type(config).__name__,
            expected="a file, the name of one that comes with weakseg, a dict of keys, or a Config",
        )
    return config.model_dump(mode="json", exclude_unset=True)


def _settings(settings: Any) -> dict[str, Any]:
    """``{"a.b": value}`` as a tree."""
    if settings is None:
        return {}
    if not isinstance(settings, Mapping) or not all(isinstance(k, str) for k in settings):
        raise ArgumentError(
            "settings is no dict of keys.",
            where="settings",
            found=type(settings).__name__,
            expected='such as {"classifier.batch_size": 8}',
        )
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        put(tree, key, value)
    return tree


def put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set ``a.b`` of a tree."""
    *above, last = key.split(".")
    for name in above:
        held = tree.get(name)
        tree[name] = held if isinstance(held, dict) else {}
        tree = tree[name]
    tree[last] = deepcopy(value)


def over(under: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """Two trees as one; where both have a value, the second's."""
    joined = {k: deepcopy(v) for k, v in under.items()}
    for key, value in tree.items():
        held = joined.get(key)
        both = isinstance(held, dict) and isinstance(value, Mapping)
        joined[key] = over(held, value) if both else deepcopy(value)  # type: ignore[arg-type]
    return joined


def _plain(value: Any) -> Any:
    """A number of numpy as Python has it, a path as text."""
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value


def _seeds(seeds: Any, first: Any) -> list[int]:
    first = first if isinstance(first, int) else 0  # what is no seed is refused with its key
    if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool) and seeds > 0:
        return [first + k for k in range(int(seeds))]
    try:
        if isinstance(seeds, str | bytes | bool):
            raise TypeError
        return [int(s) for s in seeds]
    except (TypeError, ValueError):
        raise ArgumentError(
            "seeds is neither a number of networks nor their seeds.",
            where="seeds",
            found=f"{seeds!r}"[:60],
            expected="such as 3, or [0, 1, 2]",
        ) from None


def _labels(labels: Any, where: str) -> list[str]:
    single = isinstance(labels, str | int | bool | np.generic)
    try:
        some = [labels] if single else list(labels)
    except TypeError:
        some = [labels]
    return [label_as_text(v, where) for v in some]
