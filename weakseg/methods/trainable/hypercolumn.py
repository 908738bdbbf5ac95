"""``hypercolumn``: a vote of superpixels over the classifier's own activations."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch

from weakseg.data.arrays import network_image
from weakseg.data.case_files import case_image
from weakseg.data.geometry import letterbox
from weakseg.masks.rules.hypercolumn import (
    HypercolumnRule,
    coarse_superpixels,
    fit_vote,
    superpixel_features,
    sure_superpixels,
    vote_of,
)
from weakseg.methods.trainable.base import Arrays, Context, TrainedState, Trainer, coarse_side
from weakseg.models.hypercolumns import hypercolumns
from weakseg.models.layers import FUSED, find_layers

MOST_SUPERPIXELS = 10
"""Superpixels of each kind that an image teaches; of more, random ones."""


def _fit(rule: HypercolumnRule, context: Context) -> TrainedState:
    features = _features(context)
    rng = np.random.default_rng(context.seed)
    rows: list[np.ndarray] = []
    lesion: list[np.ndarray] = []
    for case, heat in context.pairs():
        image = case_image(case, context.config.data)
        parts = coarse_superpixels(image, count=rule.count, compactness=rule.compactness)
        kinds = sure_superpixels(heat, parts, high=rule.high, low=rule.low)
        hot, cold = (rng.permutation(k)[:MOST_SUPERPIXELS] for k in kinds)
        if len(hot) or len(cold):
            rows.append(superpixel_features(image, parts, features(image))[np.r_[hot, cold]])
            lesion.append(np.r_[np.ones(len(hot), bool), np.zeros(len(cold), bool)])
    if not rows:
        raise LookupError("the training heatmaps are sure of no superpixel")
    vote = fit_vote(np.concatenate(rows), np.concatenate(lesion), penalty=rule.penalty)
    return TrainedState(vote.arrays(), features)


def _restore(arrays: Arrays, context: Context) -> TrainedState:
    vote_of(arrays)  # a KeyError for arrays of something else
    return TrainedState(arrays, _features(context))


def _features(context: Context) -> Callable[[npt.ArrayLike], npt.NDArray[np.float32]]:
    data, model = context.config.data, context.classifier()
    size = data.image_size
    layers = find_layers(model, FUSED, size)
    one_at_a_time = Lock()  # the hooks that listen to the network hear every thread

    def features(image: npt.ArrayLike) -> npt.NDArray[np.float32]:
        planes, box = network_image(np.asarray(image), model.spec.channels, size, context.intensity)
        ends = (box.top, box.left, box.top + box.height, box.left + box.width)
        grid = letterbox(box.original, coarse_side(size))
        window = tuple(e / size for e in ends)
        with one_at_a_time:
            return hypercolumns(
                model,
                layers,
                torch.from_numpy(planes),
                window,  # type: ignore[arg-type]
                (grid.height, grid.width),
            ).numpy()

    return features


TRAINER: Trainer = Trainer(
    "a vote over hypercolumns is learnt from the training {teacher}", _fit, _restore
)
