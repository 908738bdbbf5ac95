"""What is chosen on the validation split once networks are trained.

On masks, counted: what each network counts, the threshold, the smallest part. On labels: the peak
and the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.config import SegmenterConfig
from weakseg.data.series import come_in_series
from weakseg.errors import UserError, count
from weakseg.masks.rules.box_prompt import NAME as LITEMEDSAM
from weakseg.masks.screen import best_min_area
from weakseg.masks.set_thresholds import best_threshold, candidate_thresholds
from weakseg.masks.thresholds import apply_threshold
from weakseg.methods.base import FOUNDATION, SUPERVISED, WEAK
from weakseg.methods.cases import read_truth
from weakseg.methods.evidence import Evidence
from weakseg.methods.gate import Gate
from weakseg.methods.masks_seen import MasksSeen
from weakseg.methods.network import ON_LABELS, WEIGHTS
from weakseg.methods.network_mask import BESIDE, INFERENCE, OUTLINE, PROMPTED, network_mask
from weakseg.methods.prepared import Prepared
from weakseg.methods.segmenter_networks import Networks
from weakseg.methods.segmenters import masked_lesions
from weakseg.progress import say
from weakseg.scores import dice
from weakseg.scores.false_alarms import cuts_for_false_alarms, keeps_to_share
from weakseg.scores.on_labels import counts
from weakseg.training.segment import val_cases
from weakseg.training.segmentation_cases import SegmentationCases

VALIDATION = "validation"
"""The value of settings that are chosen on validation masks."""

Probabilities = Callable[[Sequence[int]], Iterator[tuple[int, np.ndarray]]]
"""Cases → the probability of a lesion at every place of each."""


def choose_weights(
    prepared: Prepared,
    settings: SegmenterConfig,
    networks: Networks,
    data: SegmentationCases,
    probabilities: Callable[[Networks], Probabilities],
) -> Networks:
    """The networks, each counting by its mean Dice on the validation lesions that have a mask.

    Each is asked alone, at the threshold that is set, or else at its own best one. Networks that
    find nothing count alike where all of them do.
    """
    if settings.weighting != VALIDATION or len(networks.models) == 1:
        return networks
    lesions = _masked(prepared, data, "weighting")
    found = []
    for one in networks.alone():
        maps, truths = _maps_and_truths(prepared, lesions, probabilities(one))
        if settings.threshold == VALIDATION:
            _, curve = best_threshold(maps, truths, candidate_thresholds(maps))
            found.append(float(curve.max()))
        else:
            at = float(settings.threshold)
            pairs = zip(maps, truths, strict=True)
            found.append(float(np.mean([dice(apply_threshold(p, at), t) for p, t in pairs])))
    total = sum(found)
    return networks.weighed([round(d / total, 6) for d in found] if total else ())


def choose_threshold(
    prepared: Prepared,
    settings: SegmenterConfig,
    networks: Networks,
    data: SegmentationCases,
    probabilities: Probabilities,
) -> dict[str, Any]:
    """The threshold on the probability, what it was chosen on, and all masks that were seen.

    The smallest part is chosen with it, where that is asked for.
    """
    trained, seen = networks.masks_seen("training_masks"), networks.seen
    one = len(networks.models) == 1
    which = "the network" if one else f"the {len(networks.models)} networks"
    chosen_on = f"nothing; {which} saw {count(trained, 'training mask')}"
    if settings.weak:
        was = "was" if one else "were"
        chosen_on = f"nothing; {which} {was} trained on masks by {networks.settings['masks_of']}"
    value, inference = settings.threshold, settings.model_dump(mode="json", include=set(INFERENCE))
    if settings.outline == "threshold":  # a setting that came later
        del inference[OUTLINE]
    if settings.outline == PROMPTED:
        seen |= MasksSeen(elsewhere=frozenset({LITEMEDSAM}))
    chosen = [k for k in ("threshold", "min_area") if getattr(settings, k) == VALIDATION]
    weighed = settings.weighting == VALIDATION and not one
    lesions = _masked(prepared, data, chosen[0]) if chosen else []
    if value == VALIDATION:
        maps, truths = _maps_and_truths(prepared, lesions, probabilities)
        value, _ = best_threshold(maps, truths, candidate_thresholds(maps))
        chosen_on = count(len(lesions), "validation mask")
    if settings.min_area == VALIDATION:
        known = sorted([*lesions, *_healthy(prepared)])
        pairs = _masks_and_truths(prepared, known, probabilities, float(value))
        inference["min_area"] = best_min_area(pairs)
    if chosen or weighed:
        lesions = _masked(prepared, data, "weighting")
        seen |= masked_lesions(prepared, lesions)
        further = ["weights"] * weighed + ["smallest part"] * ("min_area" in chosen)
        if further:
            chosen_on += f"; {' and '.join(further)} on {count(len(lesions), 'validation mask')}"
    if settings.neighbours and not come_in_series(prepared.cases.cases):
        inference["neighbours"] = 0.0
        say("segmenters: neighbours is left aside, as files' names tell of no series of slices")
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
        "inference": inference,
        **({WEIGHTS: list(networks.weights)} if networks.weights else {}),
    }


def _masked(prepared: Prepared, data: SegmentationCases, key: str) -> list[int]:
    """The validation lesions that have a mask.

    Raises
    ------
    UserError
        If there is none.
    """
    everything = prepared.cases.indices("val")
    lesions = [i for i in val_cases(data, everything, 10**9) if not data.truth_is_empty(i)]
    if not lesions:
        raise UserError(
            f"The setting {key} cannot be chosen on validation masks.",
            where=f"segmenters: {key}: validation",
            found="no validation lesion with a mask",
            fix="set threshold to a probability, such as 0.5, min_area to 0 and weighting to equal",
        )
    return lesions


def _healthy(prepared: Prepared) -> list[int]:
    """The validation images whose label says that there is no lesion."""
    labels, cases = prepared.cases.labels, prepared.cases.cases
    return [i for i in prepared.cases.indices("val") if not labels.is_lesion(cases[i].label)]


def _maps_and_truths(
    prepared: Prepared, lesions: Sequence[int], probabilities: Probabilities
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    maps, data = dict(probabilities(lesions)), prepared.config.data
    of = prepared.cases.cases
    return [maps[i] for i in lesions], [
        read_truth(of[i], maps[i].shape, False, data) for i in lesions
    ]


def _masks_and_truths(
    prepared: Prepared, indices: Sequence[int], probabilities: Probabilities, at: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What lies above a threshold and the truth, one case at a time."""
    labels = prepared.cases.labels
    for i, p in probabilities(indices):
        case = prepared.cases.cases[i]
        healthy = not labels.is_lesion(case.label)
        truth = np.zeros(p.shape, dtype=bool)
        if not healthy:
            truth = read_truth(case, p.shape, False, prepared.config.data)
        yield apply_threshold(p, at), truth


def choose_screen(
    prepared: Prepared,
    settings: SegmenterConfig,
    threshold: dict[str, Any],
    probabilities: Iterator[Evidence],
    gate: Gate | None,
) -> dict[str, Any]:
    """The lowest peak and the gate that validation labels choose; no mask is looked at.

    Where images have neighbours the peaks of the evidence have cuts of their own: a mean of
    slices has lower peaks than one alone. What they make of these images is told, which is what
    labels know of how good the method is: settings can be held against each other by it.
    """
    assert settings.false_alarms is not None
    labels, cases = prepared.cases.labels, prepared.cases.cases
    lesion, patients, is_beside = list[bool](), list[str](), list[bool]()
    alone, beside = _Screened(), _Screened()

    def says(i: int) -> float:
        return 1.0 if gate is None else gate.of(cases[i])

    for one in probabilities:
        p, mean = one.probability, one.mean
        is_beside.append(mean is not None)
        lesion.append(labels.is_lesion(cases[one.index].label))
        patients.append(cases[one.index].patient)
        alone.add(_peak(network_mask(p, threshold), p), says(one.index))
        if mean is None:
            beside.add(alone.peaks[-1], alone.words[-1])
        else:
            beside.add(_peak(network_mask(p, threshold, mean), mean), one.word(says) or 0.0)
    if all(lesion) or not any(lesion):
        say(
            f"segmenters: false_alarms: {settings.false_alarms:g} is left aside, as the validation "
            "labels are all alike"
        )
        return {}

    how: dict[str, Any] = {
        "patients": patients,
        "confidence": settings.false_alarm_confidence,
    }

    def cuts(of: _Screened, share: float) -> dict[str, float]:
        cut, peak = cuts_for_false_alarms(lesion, of.words, of.peaks, share, **how)
        return {"min_peak": max(peak, settings.min_peak), "gate": 0.0 if gate is None else cut}

    def both(share: float) -> tuple[dict[str, float], dict[str, float]]:
        one = cuts(alone, share)
        return one, cuts(beside, share) if any(is_beside) else one

    def marked_by(one: dict[str, float], other: dict[str, float]) -> npt.NDArray[np.bool_]:
        return np.where(is_beside, beside.marked(**other), alone.marked(**one))

    share, healthy = settings.false_alarms, len(lesion) - sum(lesion)
    of_one, of_beside = both(share)
    mixed = any(is_beside) and not all(is_beside)
    if mixed and not keeps_to_share(lesion, marked_by(of_one, of_beside), share, **how):
        # Each pair keeps to the share on all images, and yet counts for some: the alarms add up.
        (of_one, of_beside), few, many = both(0.0), 0, int(share * healthy)
        while many - few > 1:  # the largest part of it that does, by halving
            part = (few + many) // 2
            tried = both(part / healthy)
            if keeps_to_share(lesion, marked_by(*tried), share, **how):
                few, (of_one, of_beside) = part, tried
            else:
                many = part
    inference = {**threshold["inference"], "min_peak": of_one["min_peak"]}
    chosen: dict[str, Any] = {"inference": inference}
    chosen |= {BESIDE: of_beside} if any(is_beside) else {}
    chosen[ON_LABELS] = counts(lesion, marked_by(of_one, of_beside))
    return chosen | ({} if gate is None else {"gate": of_one["gate"]})


@dataclass
class _Screened:
    """Of every validation image its highest evidence and the classifiers' word."""

    peaks: list[float] = field(default_factory=list)
    words: list[float] = field(default_factory=list)

    def add(self, peak: float, word: float) -> None:
        self.peaks.append(peak)
        self.words.append(word)

    def marked(self, min_peak: float, gate: float) -> npt.NDArray[np.bool_]:
        """Which images keep a part of their mask."""
        peaks, words = np.array(self.peaks), np.array(self.words)
        return (peaks > 0) & (peaks >= min_peak) & (words >= gate)


def _peak(mask: np.ndarray, score: np.ndarray) -> float:
    """The highest score inside a mask; 0 of an empty one."""
    return min(float(score[mask].max()), 1.0) if mask.any() else 0.0
