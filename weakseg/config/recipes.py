"""Recipes: settings that are laid under an experiment's own by one key, ``recipe: NAME``."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from weakseg.config.classifier import AUGMENTATIONS, ClassifierConfig
from weakseg.config.experiment import Config

MAP, METHOD = "best-map", "best-weak"
STAND_IN = "resnet18"
"""What the recipe's network is built on where it cannot be built on the classifier."""

SECOND = "mobilenet_v2"
"""What the recipe's networks of the other kind are built on."""

ENCODERS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "vgg16",
    "densenet121",
    "mobilenet_v2",
    "squeezenet1_1",
)
"""Classifiers of torchvision that can be the contracting path of a U-Net."""


def best_weak(tree: dict[str, Any]) -> dict[str, Any]:
    """Masks without any true mask: heatmaps, each at its own scale, split by tone and grown where
    that does not leak, and U-Nets trained on them.

    Parameters
    ----------
    tree : dict
        The experiment, for the classifier that it names: the U-Net stands on the same network
        and begins with the same weights, where there is such a U-Net; else on `STAND_IN`, from
        scratch. An augmentation that the classifier has by name is the U-Net's as well.

    Returns
    -------
    dict
        Keys and values to lay under the experiment's.
    """
    given = tree.get("classifier")
    classifier = given if isinstance(given, dict) else {}
    arch = classifier.get("arch", ClassifierConfig().arch)
    look = classifier.get("augment")
    return {
        "heatmaps": {
            MAP: {
                "method": "layercam",
                "layer": "fused",
                "flips": True,
                "ensemble": True,
                "score": "log-odds",
                "scales": [0.625, 0.75, 0.875, 1.0],
                "choose": "area",
                "auc_drop": 0.04,
                "rules": [{"rule": "two-tone"}, {"rule": "grown", "rare": 0.3}],
            }
        },
        "segmenters": {
            METHOD: {
                **_networks(tree, arch, str(classifier.get("weights", ClassifierConfig().weights))),
                "masks": f"{MAP}-grown",
                "image_size": 128,
                "epochs": 5,
                "steps": 128,
                **({} if _says_how_long(tree) else {"passes": 10}),
                "batch_size": 16,
                "flips": "x",
                "scales": [0.75, 1.0, 1.25],
                "threshold": 0.25,
                "gate": "run",
                "false_alarms": 0.02,
                "neighbours": 0.4,
                "ensemble": True,
                "precision": classifier.get("precision", "auto"),
                **({"augment": look} if look in tuple(AUGMENTATIONS) else {}),
            }
        },
        "report": {"method": METHOD},
    }


def _says_how_long(tree: dict[str, Any]) -> bool:
    """Whether an experiment sets itself how long the recipe's networks are trained."""
    return any(_own(tree).get(k) is not None for k in ("epochs", "steps"))


def _own(tree: dict[str, Any]) -> dict[str, Any]:
    """What an experiment sets itself of the recipe's networks."""
    segmenters = tree.get("segmenters")
    own = segmenters.get(METHOD) if isinstance(segmenters, dict) else None
    return own if isinstance(own, dict) else {}


def _networks(tree: dict[str, Any], arch: str, weights: str) -> dict[str, Any]:
    """Kinds, starting weights and seeds of the recipe's networks.

    Those on the classifier's own architecture, and in turn with them those on `SECOND`, which find
    other lesions, where both begin with weights from elsewhere. An experiment that names a network
    or weights of its own, one seed, or wants no mean, gets one kind.
    """
    if arch not in ENCODERS:
        return {"arch": f"encoder-unet:{STAND_IN}", "weights": "none"}
    one = {"arch": f"encoder-unet:{arch}", "weights": "classifier"}
    own = _own(tree)
    named = own.get("weights")
    second = named[-1] if isinstance(named, list) and len(named) == 2 else beside(weights)
    alone = "arch" in own or isinstance(named, str) or own.get("ensemble") is False
    seeds = own.get("seeds")
    alone |= isinstance(seeds, list) and len(seeds) < 2 and not isinstance(named, list)
    if alone or arch == SECOND or second is None:
        return one
    return {
        "arch": [f"encoder-unet:{arch}", f"encoder-unet:{SECOND}"],
        "weights": ["classifier", second],
        "seeds": [0, 1, 2, 3],
    }


def beside(weights: str) -> str | None:
    """Starting weights of `SECOND` to go with those of the classifier.

    Parameters
    ----------
    weights : str
        The classifier's: none, imagenet or a file.

    Returns
    -------
    str or None
        imagenet for imagenet. For a file one whose name begins with `SECOND`, in the same folder or
        in a folder of that name beside it, the first by name. None where there is none.
    """
    if weights in ("none", "imagenet"):
        return "imagenet" if weights == "imagenet" else None
    folder = Path(weights).parent
    for place in (folder, folder.parent / SECOND):
        files = sorted(p for p in place.glob(f"{SECOND}*") if p.suffix in (".safetensors", ".pth"))
        if files:
            return str(files[0])
    return None


def stand_in_note(config: Config) -> str | None:
    """What to tell of the recipe's network where it is not built on the classifier."""
    arch, net = config.classifier.arch, config.segmenters.get(METHOD)
    if config.recipe != METHOD or net is None:
        return None
    if arch in ENCODERS:
        weights = config.classifier.weights
        alone = (net.arch, net.weights) == (f"encoder-unet:{arch}", "classifier")
        alone &= net.seeds is None or len(net.seeds) > 1
        if weights in ("none", "imagenet") or arch == SECOND or not alone:
            return None
        return (
            f"{METHOD}: no weights of {SECOND} lie beside {weights}, so that its networks are of "
            f"one kind. Put {SECOND}.safetensors there, or set segmenters.{METHOD}.weights: "
            "[classifier, FILE]"
        )
    if (net.arch, net.weights) != (f"encoder-unet:{STAND_IN}", "none"):
        return None  # the experiment's own choice
    return (
        f"{METHOD}: there is no U-Net on {arch}; it is built on {STAND_IN}, from scratch. "
        f"Set segmenters.{METHOD}.arch and weights for another"
    )


RECIPES = {METHOD: best_weak}


def with_recipe(tree: dict[str, Any]) -> dict[str, Any]:
    """An experiment with the settings of the recipe that it names; its own come first."""
    name = tree.get("recipe")
    recipe = RECIPES.get(name) if isinstance(name, str) else None
    return tree if recipe is None else _over(recipe(tree), tree)


def _over(under: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """Two trees as one; where both have a value, the second's."""
    # A recipe's names first: the experiment's own may build on them.
    joined = {k: deepcopy(v) for k, v in under.items() if k not in tree} | deepcopy(tree)
    for key, value in under.items():
        below = joined.get(key)
        if below is None:
            joined[key] = deepcopy(value)
        elif isinstance(below, dict) and isinstance(value, dict):
            joined[key] = _over(value, below)
    return joined
