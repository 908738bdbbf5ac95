"""What is chosen on the validation split once a network is trained: threshold, peak and gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from weakseg.config import SegmenterConfig
from weakseg.errors import UserError
from weakseg.masks.set_thresholds import best_threshold, candidate_thresholds
from weakseg.methods.base import FOUNDATION, SUPERVISED, WEAK
from weakseg.methods.cases import read_truth
from weakseg.methods.gate import Gate
from weakseg.methods.network import INFERENCE, network_mask
from weakseg.methods.prepared import Prepared
from weakseg.methods.segmenter_networks import Networks
from weakseg.methods.segmenters import masked_lesions
from weakseg.progress import say
from weakseg.scores.false_alarms import cuts_for_false_alarms
from weakseg.training.segment import val_cases
from weakseg.training.segmentation_cases import SegmentationCases


def choose_threshold(
    prepared: Prepared,
    settings: SegmenterConfig,
    networks: Networks,
    data: SegmentationCases,
    probabilities: Callable[[Sequence[int]], Iterator[tuple[int, np.ndarray]]],
) -> dict[str, Any]:
    """The threshold on the probability, what it was chosen on, and all masks that were seen."""
    trained, seen = networks.masks_seen("training_masks"), networks.seen
    one = len(networks.models) == 1
    which = "the network" if one else f"the {len(networks.models)} networks"
    chosen_on = f"nothing; {which} saw {trained} training masks"
    if settings.weak:
        was = "was" if one else "were"
        chosen_on = f"nothing; {which} {was} trained on masks by {networks.settings['masks_of']}"
    value = settings.threshold
    if value == "validation":
        everything = prepared.cases.indices("val")
        lesions = [i for i in val_cases(data, everything, 10**9) if not data.truth_is_empty(i)]
        if not lesions:
            raise UserError(
                "The threshold cannot be chosen on validation masks.",
                where="segmenters: threshold: validation",
                found="no validation lesion with a mask",
                fix="set threshold to a probability, such as 0.5",
            )
        maps_of = dict(probabilities(lesions))
        cases = prepared.cases.cases
        truths = [
            read_truth(cases[i], maps_of[i].shape, False, prepared.config.data) for i in lesions
        ]
        maps = [maps_of[i] for i in lesions]
        value, _ = best_threshold(maps, truths, candidate_thresholds(maps))
        seen |= masked_lesions(prepared, lesions)
        chosen_on = f"{len(lesions)} validation masks"
    return {
        "kind": SUPERVISED if not settings.weak else FOUNDATION if seen.elsewhere else WEAK,
        "rule": "probability",
        "threshold": float(value),
        "scale": "probability",
        "chosen_on": chosen_on + seen.told,
        **seen.to_json(),
        "gate": 0.0,
        "split": "test",
        "upper_bound": False,
        "inference": settings.model_dump(mode="json", include=set(INFERENCE)),
    }


def choose_screen(
    prepared: Prepared,
    settings: SegmenterConfig,
    threshold: dict[str, Any],
    probabilities: Iterator[tuple[int, np.ndarray]],
    gate: Gate | None,
) -> dict[str, Any]:
    """The lowest peak and the gate that validation labels choose; no mask is looked at."""
    assert settings.false_alarms is not None
    labels, cases = prepared.cases.labels, prepared.cases.cases
    lesion, said, peaks = [], [], []
    for i, p in probabilities:
        mask = network_mask(p, threshold)
        lesion.append(labels.is_lesion(cases[i].label))
        peaks.append(min(float(p[mask].max()), 1.0) if mask.any() else 0.0)
        said.append(1.0 if gate is None else gate.of(cases[i]))
    if all(lesion) or not any(lesion):
        say(
            f"segmenters: false_alarms: {settings.false_alarms:g} is left aside, as the validation "
            "labels are all alike"
        )
        return {}
    cut, peak = cuts_for_false_alarms(lesion, said, peaks, settings.false_alarms)
    least = max(peak, settings.min_peak)
    chosen: dict[str, Any] = {"inference": {**threshold["inference"], "min_peak": least}}
    return chosen | ({} if gate is None else {"gate": cut})
