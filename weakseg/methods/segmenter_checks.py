"""Which segmenters of an experiment can be trained, and which are: asked before any training."""

from __future__ import annotations

from collections.abc import Sequence

from weakseg.config import MANIFEST
from weakseg.current import why_stale
from weakseg.errors import UserError, WeaksegError
from weakseg.layout import segmenter_stage
from weakseg.methods.network_choices import VALIDATION
from weakseg.methods.prepared import Prepared
from weakseg.methods.pseudo_labels import check_source, source_key
from weakseg.methods.segmenters import (
    masks_of,
    network_size,
    segmenter_key,
    segmenter_settings,
    training_cases,
)
from weakseg.methods.training_heats import blends_heat, training_heats


def pick_names(prepared: Prepared, only: Sequence[str] | None) -> list[str]:
    """The segmenters to work on.

    Raises
    ------
    UserError
        If the experiment has none, or none of that name.
    """
    names = list(prepared.config.segmenters)
    if not names:
        raise UserError(
            "The experiment names no segmenter.",
            where="segmenters",
            fix="add one, for example --set segmenters.unet.arch=unet",
        )
    for name in only or ():
        if name not in names:
            raise UserError(
                f"The experiment has no segmenter {name!r}.",
                where="--only",
                fix=f"choose one of: {', '.join(names)}",
            )
    return [n for n in names if not only or n in only]


def that_need_no_masks(prepared: Prepared) -> list[str]:
    """Segmenters that are trained on heatmaps' masks, at whatever remove."""
    names: list[str] = []
    for name, s in prepared.config.segmenters.items():
        if s.weak and set(prepared.config.segmenters_of(s.masks)) <= set(names):
            names.append(name)
    return names


def check_masks(prepared: Prepared, name: str) -> None:
    """Refuse settings that need masks where there are none, before any training.

    Raises
    ------
    UserError
    """
    config = prepared.config.segmenters[name]
    if config.masks == MANIFEST:
        training_cases(prepared)
    else:
        check_source(prepared, name)
    wants = {"keep": config.keep == "best"}
    wants |= {k: getattr(config, k) == VALIDATION for k in ("threshold", "min_area", "weighting")}
    val = prepared.cases.indices("val")
    if any(wants.values()) and not masks_of(prepared, val):
        key = next(k for k, w in wants.items() if w)
        raise UserError(
            "No validation image with a lesion has a mask.",
            where=f"segmenters.{name}.{key}",
            fix="set keep: last, threshold: 0.5, min_area: 0 and weighting: equal, which need none",
        )


def check_heats(prepared: Prepared, name: str) -> None:
    """Refuse a segmenter whose training images need heatmaps that are not there."""
    for seed in prepared.config.segmenter_seeds(name):
        settings = segmenter_settings(prepared, name, seed)
        if blends_heat(settings):
            training_heats(prepared, settings, seed, network_size(prepared, settings))


def segmenter_is_current(prepared: Prepared, name: str, seed: int) -> bool:
    """Whether a segmenter is trained as the experiment asks, as far as can be told beforehand."""
    try:
        key = segmenter_key(prepared, name, seed, source_key(prepared, name, seed))
    except WeaksegError:
        return False
    return why_stale(prepared.run, segmenter_stage(name, seed), key) is None
