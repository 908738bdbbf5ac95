"""Networks at the beginning of their training: fresh ones, or with weights from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from weakseg.config import ClassifierConfig, OneNetwork
from weakseg.config.volume_archs import is_deep
from weakseg.data.cases import Labels
from weakseg.errors import UserError
from weakseg.models.classifier import Classifier, ClassifierSpec
from weakseg.models.classifiers import build_classifier, imagenet_state
from weakseg.models.freezing import refuse_random
from weakseg.models.pretrained import backbone_name, load_backbone
from weakseg.models.segmenters import Segmenter, build_segmenter, find_segmenter
from weakseg.models.volume_weights import pretrained_classifier
from weakseg.training.dropout import drop_by_depth
from weakseg.training.given import given_weights


def highest_rate(config: ClassifierConfig) -> float:
    """The learning rate that was set, or a sound one for the optimiser and the weights."""
    if config.lr != "auto":
        return float(config.lr)
    rate = 1e-3 if config.weights == "none" or config.freeze else 3e-4
    return rate if config.optimizer == "adamw" else 10 * rate


def spec_of(
    config: ClassifierConfig,
    labels: Labels,
    channels: int,
    *,
    depth: int | None = None,
    ratio: float = 1.0,
) -> ClassifierSpec:
    """The network that a configuration asks for.

    Parameters
    ----------
    config : ClassifierConfig
    labels : Labels
    channels : int
    depth, ratio : optional
        Of whole volumes, see `ClassifierSpec`.
    """
    deep = is_deep(config.arch)
    return ClassifierSpec(
        config.arch,
        labels.names,
        channels,
        config.grey_input,
        config.pool,
        config.stride,
        config.exits,
        len(labels.healthy),
        config.instances,
        depth if config.dims == 3 else None,
        ratio if deep else 1.0,
        config.suppress,
    )


def new_classifier(
    config: ClassifierConfig, spec: ClassifierSpec, seed: int
) -> tuple[Classifier, list[str]]:
    """A classifier at the beginning of its training, and the tensors that are random.

    Raises
    ------
    UserError
        For weights that cannot be read, belong to another network, or lack layers that are frozen.
    """
    torch.manual_seed(seed)
    if config.weights == "none":
        return build_classifier(spec), ["all"]
    if config.weights == "imagenet":
        state = imagenet_state(config.arch)
    else:
        state, _ = given_weights(Path(config.weights))
    model, random = pretrained_classifier(spec, state, config.weights)
    if config.freeze:
        refuse_random(model, random, config.weights)
    return model, random


def new_segmenter(
    config: OneNetwork, channels: int, dims: int, seed: int
) -> tuple[Segmenter, list[str]]:
    """A segmenter at the beginning of its training, and the parts that are random.

    ``config`` is resolved.
    """
    torch.manual_seed(seed)
    model = build_segmenter(config.arch, channels, 2, dims)
    if config.dropout == "by-depth":
        patch = find_segmenter(config.arch)[0].patch[dims]
        drop_by_depth(model, (1, channels, *[model.input_size(patch)] * dims))
    if config.weights == "none":
        return model, ["all"]
    state = starting_weights(config)
    return model, load_backbone(model, state, config.weights)


def starting_weights(config: OneNetwork) -> dict[str, Any]:
    """The tensors that a segmenter begins with.

    Raises
    ------
    UserError
        For weights that cannot be read, or those of a whole segmenter: the masks that it saw
        could not be counted.
    """
    if config.weights == "imagenet":
        return imagenet_state(backbone_name(config.arch))
    state, meta = given_weights(Path(config.weights))
    if meta.get("format", "").startswith("weakseg-segmenter"):
        raise UserError(
            "The weights are those of a whole segmenter: which masks it saw is not known here.",
            where=config.weights,
            expected="weights of the backbone, a classifier's",
            fix="set weights: imagenet or a classifier's file",
        )
    return state
