"""What ``auto`` means for a segmentation network: its training recipe, complete."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch

from weakseg.config import AUTO, OneNetwork, PatchAugmentConfig
from weakseg.config.segmenter import ADAPTIVE
from weakseg.data.formats.registry import formats_of_dims
from weakseg.errors import ConfigError
from weakseg.masks.rules.box_prompt import require_package
from weakseg.masks.rules.crf import package
from weakseg.models.segmenters import build_segmenter, find_segmenter

_NO_CHANGE = {
    "flip": False, "rotate": 0.0, "zoom": 0.0, "shift": 0.0, "brightness": 0.0, "contrast": 0.0,
}  # fmt: skip

DEEPMEDIC: dict[str, Any] = {
    "normalise": "zscore",
    "sampler": "balanced",
    "batch_size": 10,
    "epochs": 35,
    "steps": 2000,
    "loss": "ce",
    "optimizer": "rmsprop",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "l1": 1e-6,
    "l2": 1e-4,
    "schedule": "halving",
    "average": "none",
    "augment": PatchAugmentConfig(
        **(_NO_CHANGE | {"flip": True}), intensity_shift=0.05, intensity_scale=0.01
    ),
}
"""The released configuration: 35 epochs of 20 × 1000 segments in batches of 10; the rate is halved
after epochs 17, 22, 27, 30 and 33; segments are centred on lesion and background in equal numbers.
"""

IMAGES: dict[str, Any] = {
    "normalise": "unit",
    "patch": "whole",
    "sampler": "foreground",
    "batch_size": 16,
    "epochs": 20,
    "steps": AUTO,
    "loss": "dice-ce",
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 0.01,
    "l1": 0.0,
    "l2": 0.0,
    "schedule": "cosine",
    "average": "ema",
    "augment": PatchAugmentConfig(),
}
"""Whole two-dimensional images, half of every batch with a lesion."""

VOLUMES: dict[str, Any] = IMAGES | {
    "normalise": "zscore",
    "batch_size": 2,
    "epochs": 30,
    "steps": 100,
    "augment": PatchAugmentConfig(
        **_NO_CHANGE, flip_all=True, intensity_shift=0.1, intensity_scale=0.1
    ),
}
"""Patches of volumes; their side is the network's."""


def resolve(config: OneNetwork, dims: int) -> OneNetwork:
    """The settings with nothing left open but the steps of an epoch over whole images.

    Parameters
    ----------
    config : OneNetwork
    dims : {2, 3}

    Raises
    ------
    ConfigError
        For an unknown network, one that does not take images of ``dims`` dimensions, or settings
        that do not go together.
    """
    spec, _ = find_segmenter(config.arch)
    if dims not in spec.dims:
        raise ConfigError(
            f"{config.arch} does not segment {formats_of_dims(dims).noun}s.",
            where="segmenter.arch",
            expected=f"a network for {dims} dimensions",
            fix="`weakseg models` lists them"
            + ("; the experiment `volumes` has one" if dims == 3 else ""),
        )
    deepmedic = config.arch.startswith("deepmedic")
    recipe = dict(DEEPMEDIC if deepmedic else {2: IMAGES, 3: VOLUMES}[dims])
    if deepmedic or dims == 3:
        recipe["patch"] = spec.patch[dims]
    recipe["tile"] = AUTO
    recipe["dropout"] = "by-depth" if config.arch == ADAPTIVE else "none"
    left_open = {k: v for k, v in recipe.items() if getattr(config, k) == AUTO}
    if config.optimizer == "rmsprop" and "weight_decay" in left_open:
        left_open["weight_decay"] = 0.0  # it has none; l2 is its penalty
    if config.normalise == "zscore" and "augment" in left_open:
        left_open["augment"] = _zscored(left_open["augment"])
    if isinstance(config.augment, PatchAugmentConfig):
        # What was set is laid over the recipe, not over the defaults of another network.
        over = {k: getattr(config.augment, k) for k in config.augment.model_fields_set}
        base = recipe["augment"]
        base = _zscored(base) if config.normalise == "zscore" else base
        left_open["augment"] = base.model_copy(update=over)
    settled = config.model_copy(update=left_open)
    _refuse(settled, dims)
    return settled


@cache
def _has_batch_norm(arch: str) -> bool:
    """Whether a network of images has batch normalisation; U-Net as published has none."""
    with torch.random.fork_rng(devices=[]):
        net = build_segmenter(arch, 1, 2)
    return any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())


def with_passes(config: OneNetwork, images: int) -> OneNetwork:
    """The settings with as many more epochs as ``passes`` over all images take.

    Parameters
    ----------
    config : OneNetwork
        Resolved.
    images : int
        Of the training split.
    """
    if config.passes is None:
        return config
    an_epoch = images if config.steps == AUTO else int(config.steps) * int(config.batch_size)
    epochs = math.ceil(config.passes * images / max(an_epoch, 1))
    return config.model_copy(update={"epochs": max(int(config.epochs), epochs)})


def _zscored(augment: PatchAugmentConfig) -> PatchAugmentConfig:
    """The same changes for z-scored intensities, which have no range to be kept in."""
    if not (augment.brightness or augment.contrast):
        return augment
    return augment.model_copy(
        update={
            "brightness": 0.0,
            "contrast": 0.0,
            "intensity_shift": 0.1,
            "intensity_scale": 0.1,
        }
    )


def _refuse(config: OneNetwork, dims: int) -> None:
    a = config.augment
    assert isinstance(a, PatchAugmentConfig)
    if dims == 3 and (a.rotate or a.zoom or a.shift or a.crop):
        raise ConfigError(
            "Volumes are not rotated, zoomed, shifted or cropped in training.",
            where="segmenter.augment",
            fix="set rotate, zoom, shift and crop to 0",
        )
    if dims == 3 and a.calipers:
        raise ConfigError(
            "Calipers are drawn into images, not into whole volumes.",
            where="segmenter.augment: calipers",
            found=str(a.calipers),
            fix="set calipers: 0, or scanner-look in place of ultrasound-look",
        )
    if dims == 3 and config.crf:
        raise ConfigError(
            "The conditional random field is for images, not for whole volumes.",
            where="segmenter.crf",
            fix="set crf: 0",
        )
    if dims == 3 and config.outline != "threshold":
        raise ConfigError(
            "Outlines are mended in images, not in whole volumes.",
            where="segmenter.outline",
            found=config.outline,
            fix="set outline: threshold, or cut the volumes into slices",
        )
    if config.crf:  # nobody is asked to install what would be refused
        package("segmenter.crf")
    if config.outline == "box-prompt":
        require_package("segmenter.outline")
    if dims == 3 and config.correct is not None:
        raise ConfigError(
            "Masks are corrected in images, not in whole volumes.",
            where="segmenter.correct",
            fix="take it out, or cut the volumes into slices",
        )
    if dims == 3 and config.scales != [1.0]:
        raise ConfigError(
            "Volumes are looked at on their own grid alone.",
            where="segmenter.scales",
            fix="take it out: it is for images",
        )
    looks = a.brightness or a.contrast or a.gamma or a.speckle or a.calipers
    if config.normalise == "zscore" and looks:
        raise ConfigError(
            "brightness, contrast, gamma, speckle and calipers are for intensities in [0, 1], not "
            "for z-scored ones.",
            where="segmenter.augment",
            fix="set them to 0, and intensity_shift and intensity_scale instead",
        )
    if a.heat and (dims == 3 or config.normalise == "zscore"):
        raise ConfigError(
            "Heatmaps are blended into images of intensities in [0, 1].",
            where="segmenter.augment: heat",
            found="whole volumes" if dims == 3 else "normalise: zscore",
            fix="set heat: 0",
        )
    if dims == 2 and int(config.batch_size) < 2 and _has_batch_norm(config.arch):
        raise ConfigError(
            "A batch of one image has no batch statistics.",
            where="segmenter.batch_size",
            found=f"1, for {config.arch}, which has batch normalisation",
            expected="2 or more",
        )
    if find_segmenter(config.arch)[0].networks and int(config.epochs) < 2:
        raise ConfigError(
            "The two networks of a cascade are trained one after the other.",
            where="segmenter.epochs",
            found=str(config.epochs),
            expected="2 or more: the first half is the coarse network's",
        )
    if config.keep == "best" and config.validation_cases == 0:
        raise ConfigError(
            "The best epoch cannot be told without a look at validation cases.",
            where="segmenter.keep",
            fix="set validation_cases above 0, or keep: last",
        )
    if config.optimizer == "rmsprop" and config.weight_decay:
        raise ConfigError(
            "RMSProp, as DeepMedic uses it, has no decoupled weight decay.",
            where="segmenter.weight_decay",
            fix="set weight_decay: 0, and l2 instead",
        )
    if dims == 3 and config.normalise == "unit":
        raise ConfigError(
            "Volumes have no common range of intensities.",
            where="segmenter.normalise",
            expected="zscore",
        )
    if dims == 3 and config.patch == "whole":
        raise ConfigError(
            "Volumes of different sizes make no batch.",
            where="segmenter.patch",
            fix="set the side of a patch in voxels",
        )
