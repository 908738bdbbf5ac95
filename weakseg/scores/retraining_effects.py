"""How well retrained classifiers do on filtered images, with intervals over seeds and patients.

In heatmap-filtered retraining a condition is one way to filter the images. Under each, a fresh
classifier a seed is trained and predicts the same test images. Its score is uncertain for two
reasons: other patients might have been tested, and training again ends elsewhere. Both are
resampled, each on its own (a crossed, or pigeonhole, bootstrap): a resample draws patients, with
all their images, and independently of them seeds. Every condition sees the same draws, so that
differences are paired.

Such a bootstrap is cautious about what seed and patient do together, but it cannot see more spread
between seeds than there is between those it has: of S seeds it finds (S - 1) / S of their variance,
two thirds for three. `weakseg.scores.conclusions.caution` says when that matters.

References
----------
A. B. Owen, "The pigeonhole bootstrap", Ann. Appl. Stat. 1(2), 2007.
P. McCullagh, "Resampling and exchangeable arrays", Bernoulli 6(2), 2000.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.errors import did_you_mean
from weakseg.scores.checks import Floats, Mask
from weakseg.scores.classification import _checked, weighted_auc
from weakseg.scores.statistics import (
    Interval,
    check_bootstrap,
    other_seed,
    patient_numbers,
    percentile_interval,
    ratio,
    resampled_counts,
)

EVIDENCE_SCORES = ("auc", "accuracy", "balanced_accuracy")
CHANCE = 0.5
"""The AUC of a classifier that knows nothing."""

_BLOCK_CELLS = 100_000  # So few that a block stays in the cache of the processor: twice as fast.
_MOST_DROPPED = 0.05


@dataclass(frozen=True)
class Evidence:
    """Scores of every condition and their resamples, see `evidence_intervals`.

    All intervals are the middle 95 % of the resamples in which the score is defined. Both ends are
    NaN for a single patient.

    Attributes
    ----------
    by_seed : dict of dict of (S,) ndarray of float
        Condition → score → the value of each seed, in the order in which the seeds were given.
    replicates : dict of dict of (B,) ndarray of float
        Condition → score → the mean over seeds in each resample, NaN where it is undefined.
        Resample b is of the same patients and seeds in every condition.
    seeds, cases, patients : int
        How many of each. With one seed the intervals are over patients only.
    """

    by_seed: dict[str, dict[str, Floats]]
    replicates: dict[str, dict[str, Floats]]
    seeds: int
    cases: int
    patients: int

    @property
    def conditions(self) -> tuple[str, ...]:
        """Their names, in the order in which they were given."""
        return tuple(self.by_seed)

    def interval(self, condition: str, score: str = "auc") -> Interval:
        """The mean over seeds of a score.

        Parameters
        ----------
        condition : str
            One of `conditions`.
        score : str, optional
            One of `EVIDENCE_SCORES`.

        Raises
        ------
        ValueError
            For an unknown condition or score.
        """
        values, replicates = self._found(condition, score)
        return self._interval(float(values.mean()), replicates)

    def difference(self, a: str, b: str, score: str = "auc") -> Interval:
        """The mean over seeds of a score under ``a`` minus that under ``b``, paired.

        Parameters
        ----------
        a, b : str
            Two of `conditions`.
        score : str, optional
            One of `EVIDENCE_SCORES`.

        Raises
        ------
        ValueError
            For an unknown condition or score.
        """
        (one, one_drawn), (other, other_drawn) = self._found(a, score), self._found(b, score)
        return self._interval(float(one.mean() - other.mean()), one_drawn - other_drawn)

    def share_lost(self, raw: str, rest: str) -> Interval:
        """The share of the AUC above chance that is lost from ``raw`` to ``rest``.

        (AUC of raw - AUC of rest) / (AUC of raw - 0.5), each AUC a mean over seeds: 0 where
        nothing is lost, 1 where the rest is at chance. Below 0 the rest does better than raw, above
        1 it does worse than chance.

        Parameters
        ----------
        raw, rest : str
            Two of `conditions`: the images as they are, and with something removed.

        Returns
        -------
        Interval
            Of the ratio, from the resamples in which the AUC of ``raw`` is above 0.5. Value and
            ends are NaN where raw is not clearly above chance, for there is no share of nothing:
            its AUC or the low end of that is at most 0.5, or more than 5 % of the resamples are.
            A single patient leaves the value and takes the ends.

        Raises
        ------
        ValueError
            For an unknown condition.
        """
        before, after = self.interval(raw), self.interval(rest)
        drawn, left = self.replicates[raw]["auc"], self.replicates[rest]["auc"]
        defined = ~np.isnan(drawn)
        above = drawn > CHANCE
        # Written so that a value of NaN (no AUC) fails and ends of NaN (one patient) do not.
        if (
            not before.value > CHANCE
            or before.low <= CHANCE
            or above.sum() < (1 - _MOST_DROPPED) * defined.sum()
        ):
            return self._interval(np.nan, drawn[:0])
        share = (drawn[above] - left[above]) / (drawn[above] - CHANCE)
        return self._interval((before.value - after.value) / (before.value - CHANCE), share)

    def _interval(self, value: float, replicates: Floats) -> Interval:
        ends = percentile_interval(replicates, self.patients)
        return Interval(value, *ends, self.cases, self.patients)

    def _found(self, condition: str, score: str) -> tuple[Floats, Floats]:
        """The seeds' values and the resamples of a score."""
        if condition not in self.by_seed:
            hint = did_you_mean(condition, list(self.by_seed))
            raise ValueError(f"there is no condition {condition!r}; {hint}")
        if score not in EVIDENCE_SCORES:
            raise ValueError(f"score must be one of {', '.join(EVIDENCE_SCORES)}, got {score!r}")
        return self.by_seed[condition][score], self.replicates[condition][score]


def evidence_intervals(
    predictions: Mapping[str, ArrayLike],
    y: ArrayLike,
    lesion_classes: Sequence[int],
    patients: ArrayLike,
    *,
    bootstrap: int = 2000,
    seed: int = 0,
) -> Evidence:
    """Score every condition's classifiers, and resample patients and seeds.

    P(lesion) is the sum of the lesion classes' probabilities. The predicted class is the most
    probable one, the lowest class number on a tie.

    Parameters
    ----------
    predictions : mapping of str to (S, N, K) array_like of float
        Condition → probabilities of S seeds for N images and K classes, at least 2; rows sum
        to 1. Seeds and images are in the same order in all conditions.
    y : (N,) array_like of int
        True class numbers.
    lesion_classes : sequence of int
        Class numbers that are lesions.
    patients : (N,) array_like of str
        The patient of each image.
    bootstrap : int, optional
        Number of resamples. In each, as many patients as there are, and as many seeds, are drawn
        with replacement. A single seed is always drawn.
    seed : int, optional
        Of the draw. The patients are those of `weakseg.scores.cluster_mean_interval`.

    Returns
    -------
    Evidence
        With the scores, each a mean over seeds:

        - ``auc``: area under the ROC curve of P(lesion), lesion against healthy;
        - ``accuracy``: share of images whose predicted class is the true one;
        - ``balanced_accuracy``: mean recall of the classes that occur.

        Resamples in which a score is undefined, because a class was not drawn, are NaN and
        dropped from its intervals. A score that is undefined on all images (``auc`` without
        lesions or without healthy images, ``balanced_accuracy`` of a single class) is NaN.

    Raises
    ------
    ValueError
        For no condition, conditions that differ in shape, arrays that do not fit together, class
        numbers out of range, or rows that are no probabilities.
    """
    truth, lesions, p_lesion, right = _read(predictions, y, lesion_classes)
    names = np.asarray(patients)
    if names.shape != truth.shape:
        raise ValueError(
            f"patients must have one entry an image, {truth.shape}, got shape {names.shape}"
        )
    check_bootstrap(bootstrap)
    number, count = patient_numbers(names)
    seeds = len(next(iter(p_lesion.values())))
    times = np.concatenate(list(resampled_counts(seeds, bootstrap, other_seed(seed))))

    everyone = np.ones((1, count))
    by_seed = {
        name: {score: v[:, 0] for score, v in samples.items()}
        for name, samples in _weighted(everyone, number, truth, lesions, p_lesion, right).items()
    }
    replicates = {
        name: {score: np.empty(bootstrap) for score in EVIDENCE_SCORES} for name in by_seed
    }
    rows, start = max(1, _BLOCK_CELLS // len(truth)), 0
    for counts in resampled_counts(count, bootstrap, seed):
        for i in range(0, len(counts), rows):
            drawn = counts[i : i + rows]
            block = slice(start, start + len(drawn))
            start += len(drawn)
            for name, samples in _weighted(drawn, number, truth, lesions, p_lesion, right).items():
                for score, values in samples.items():
                    # Divided last: equal values, such as an AUC of 0.5, keep their mean exactly.
                    replicates[name][score][block] = (times[block].T * values).sum(axis=0) / seeds
    return Evidence(by_seed, replicates, seeds, len(truth), count)


def _weighted(
    counts: Floats,
    number: NDArray[np.intp],
    truth: NDArray[np.int64],
    lesions: NDArray[np.bool_],
    p_lesion: Mapping[str, Floats],
    right: Mapping[str, Mask],
) -> dict[str, dict[str, Floats]]:
    """Condition → score → (S, B) values of each seed for B draws of patients (B, P)."""
    classes = np.unique(truth)
    member = truth[:, None] == classes
    weights = counts[:, number]
    sizes = weights @ member
    total = sizes.sum(axis=1)
    undefined = np.full(len(counts), np.nan)
    scores: dict[str, dict[str, Floats]] = {}
    for name, many in p_lesion.items():
        each: dict[str, list[Floats]] = {score: [] for score in EVIDENCE_SCORES}
        for p, hit in zip(many, right[name], strict=True):
            hits = weights @ (member & hit[:, None])
            recalls = ratio(hits, sizes)
            each["auc"].append(weighted_auc(lesions, p, weights))
            each["accuracy"].append(hits.sum(axis=1) / total)
            each["balanced_accuracy"].append(
                recalls.mean(axis=1) if len(classes) > 1 else undefined
            )
        scores[name] = {score: np.stack(values) for score, values in each.items()}
    return scores


def _read(
    predictions: Mapping[str, ArrayLike], y: ArrayLike, lesion_classes: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], dict[str, Floats], dict[str, Mask]]:
    """Truth and lesion or not, (N,); by condition P(lesion) and whether it is right, (S, N)."""
    if not predictions:
        raise ValueError("predictions must hold at least one condition, got none")
    arrays = {name: np.asarray(p, dtype=np.float64) for name, p in predictions.items()}
    first = next(iter(arrays))
    p_lesion, right = {}, {}
    for name, p in arrays.items():
        if p.ndim != 3 or not len(p):
            raise ValueError(
                f"predictions must have shape (S, N, K) with at least one seed, got {p.shape} "
                f"for condition {name!r}"
            )
        if p.shape != arrays[first].shape:
            raise ValueError(
                "every condition must have the same seeds, images and classes, got shape "
                f"{arrays[first].shape} for {first!r} and {p.shape} for {name!r}; leave out a "
                "condition or a seed that is not finished"
            )
        for k, rows in enumerate(p):
            try:
                truth, _ = _checked(y, rows, lesion_classes)
            except ValueError as error:
                raise ValueError(f"condition {name!r}, seed number {k}: {error}") from error
        p_lesion[name] = np.minimum(p[:, :, list(lesion_classes)].sum(axis=2), 1)
        right[name] = p.argmax(axis=2) == truth
    return truth, np.isin(truth, list(lesion_classes)), p_lesion, right
