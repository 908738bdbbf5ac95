"""``random-forest``: pixels that look like those of which the training heatmaps are sure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from weakseg.data.case_files import case_image
from weakseg.masks.rules.affinity import BACKGROUND, LESION, confident
from weakseg.masks.rules.random_forest import (
    RandomForestRule,
    fit_forest,
    forest_of,
    pixel_features,
)
from weakseg.methods.trainable.base import Arrays, Context, TrainedState, Trainer

CHANNELS = "channels"
"""The array that says how many channels of an image the forest looks at."""


def _fit(rule: RandomForestRule, context: Context) -> TrainedState:
    rng = np.random.default_rng(context.seed)
    rows: list[np.ndarray] = []
    lesion: list[np.ndarray] = []

    def learn(features: np.ndarray, sure: np.ndarray, kind: int) -> None:
        places = rng.permutation(np.flatnonzero(sure == kind))[: rule.pixels]
        rows.append(features.reshape(-1, features.shape[-1])[places])
        lesion.append(np.full(len(places), kind == LESION))

    for case, heat in context.pairs():
        features = pixel_features(case_image(case, context.config.data), context.channels)
        sure = confident(heat, features.shape[:2], high=rule.high, low=rule.low)
        learn(features, sure, LESION)
        learn(features, sure, BACKGROUND)
    for case in context.healthy():
        features = pixel_features(case_image(case, context.config.data), context.channels)
        learn(features, np.full(features.shape[:2], BACKGROUND), BACKGROUND)
    if not rows:
        raise LookupError("no training image has a lesion label")
    x, y = np.concatenate(rows), np.concatenate(lesion)
    forest = fit_forest(x, y, trees=rule.trees, depth=rule.depth, seed=context.seed)
    return _state_of({**forest.arrays(), CHANNELS: np.array([context.channels])})


def _restore(arrays: Arrays, context: Context) -> TrainedState:
    forest_of(arrays)  # refuses arrays of something else
    return _state_of(arrays)


def _state_of(arrays: Arrays) -> TrainedState:
    channels = int(arrays[CHANNELS][0])

    def features(image: npt.ArrayLike) -> npt.NDArray[np.float32]:
        return pixel_features(image, channels)

    return TrainedState(arrays, features)


TRAINER: Trainer = Trainer(
    "a random forest of pixels is learnt from the training {teacher} and healthy images",
    _fit,
    _restore,
)
