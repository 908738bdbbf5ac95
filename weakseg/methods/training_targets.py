"""What a network is told of training images by masks that another method makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from weakseg.config import SegmenterConfig
from weakseg.current import is_current
from weakseg.data.patches import IGNORE
from weakseg.data.targets import PackedTargets, read_target
from weakseg.errors import UserError, count
from weakseg.layout import target_file, targets_stage
from weakseg.methods.prepared import Prepared
from weakseg.methods.pseudo_labels import PseudoLabelSource
from weakseg.methods.segmenters import network_size, training_images
from weakseg.progress import progress, say
from weakseg.training.segmentation_cases import lesion_is_seen


def training_targets(
    prepared: Prepared, settings: SegmenterConfig, name: str, source: PseudoLabelSource
) -> PackedTargets:
    """What a network is told of training images with a lesion; no true mask is opened.

    Parameters
    ----------
    prepared : Prepared
    settings : SegmenterConfig
        Of the network that is trained; ``ignore`` says what is left open.
    name : str
        Of the segmenter.
    source : PseudoLabelSource
        The other method.

    Returns
    -------
    PackedTargets
        index → target of the case's own size, uint8: 0 background, 1 lesion, `IGNORE`. Cases in
        which the method finds nothing are left out: their label says that something is there.

    Raises
    ------
    UserError
        If it finds nothing in any of them.
    """
    lesion, _ = training_images(prepared)
    what, targets = f"masks by {source.method}, seed {source.seed}", PackedTargets()
    with progress(what, len(lesion)) as advance:
        for i, mask, sure in _masks(source, lesion):
            advance()
            target = mask.astype(np.uint8)
            if settings.ignore is not None:
                low, high = settings.ignore
                target[mask & (sure < high) | ~mask & (sure > low)] = IGNORE
            if (target == 1).any():
                targets[i] = target
    if not targets:
        raise UserError(
            f"{source.method} finds nothing in any training image.",
            where=f"segmenters.{name}.masks",
            fix="look at its heatmaps and masks, and choose another method",
        )
    if left_out := len(lesion) - len(targets):
        say(f"{what}: {left_out} of {len(lesion)} training images left out, nothing was found")
    return targets


def kept_targets(prepared: Prepared, name: str, key: str) -> PackedTargets | None:
    """What networks of a segmenter were told before, from the files that people look at.

    A training that was broken off goes on with them: making them may have taken an hour.

    Parameters
    ----------
    prepared : Prepared
    name : str
        Of the segmenter.
    key : str
        As `weakseg.methods.pseudo_labels.targets_key` gives it.

    Returns
    -------
    PackedTargets or None
        As `training_targets`; None where no seed's lie whole in the run.
    """
    run, stages = prepared.run, prepared.run.record.get("stages", {})
    for seed in prepared.config.segmenter_seeds(name):
        stage = targets_stage(name, seed)
        if stages.get(stage, {}).get("key") != key or not is_current(run, stage, key):
            continue
        targets = PackedTargets()
        lesion, _ = training_images(prepared)
        for i in lesion:
            case = prepared.cases.cases[i]
            path = target_file(run.folder, name, seed, case.file, case.formats.mask_suffix)
            if path.exists():
                target = read_target(path, case)
                if (target == 1).any():
                    targets[i] = target
        return targets
    return None


def seen_targets(
    prepared: Prepared, settings: SegmenterConfig, name: str, targets: PackedTargets
) -> PackedTargets:
    """The targets of which something is left on the grid that the network sees.

    Of the others it would learn that there is nothing, which their label denies.

    Raises
    ------
    UserError
        If none is left.
    """
    size, seen = network_size(prepared, settings), PackedTargets()
    for i, target in targets.items():
        if lesion_is_seen(target, size):
            seen[i] = target
    if not seen:
        raise UserError(
            "What is found in the training images is too small for the network to see.",
            where=f"segmenters.{name}.image_size",
            found=f"{size} pixels, for {count(len(targets), 'image')}",
            fix="set a larger image_size",
        )
    if left_out := len(targets) - len(seen):
        say(
            f"segmenter {name}: {count(left_out, 'training image')} of {len(targets)} left out: "
            f"what is found there is too small to be seen at {size} pixels"
        )
    return seen


def _masks(
    source: PseudoLabelSource, indices: Sequence[int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Mask and confidence, in [0, 1], of each case."""
    method, cases = source.load(), source.prepared.cases.cases
    predictions = method.predict_each([cases[i] for i in indices])
    for i, prediction in zip(indices, predictions, strict=True):
        yield i, prediction.mask, method.confidence(prediction)
