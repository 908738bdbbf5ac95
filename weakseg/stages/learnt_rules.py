"""Rules that learn from training heatmaps: how they learn, and what they keep in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from weakseg.config import AffinityRule, Config, HypercolumnRule, Rule
from weakseg.data.arrays import network_image
from weakseg.data.cases import Case
from weakseg.data.geometry import letterbox
from weakseg.data.images import read_image
from weakseg.errors import RunError, first_line
from weakseg.masks.affinity import OPEN, confident
from weakseg.masks.hypercolumn import coarse_superpixels, describe, fit_vote, sure_superpixels
from weakseg.masks.learnt import Learnt
from weakseg.masks.rules import FittedRule, rule_from_json
from weakseg.models.affinity import AffinityNet, channels_of
from weakseg.models.classifiers import Classifier
from weakseg.models.hypercolumns import hypercolumns
from weakseg.models.layers import FUSED, find_layers
from weakseg.progress import say
from weakseg.runs import atomic_path, file_hash, inside
from weakseg.stages.prepare import Prepared
from weakseg.stages.train_classifier import load_classifier
from weakseg.training.affinity import train_affinity
from weakseg.training.loop import pick_device

MOST_LESSONS = 300
"""Training images that a rule learns from; of more, evenly spaced ones."""

MOST_SUPERPIXELS = 10
"""Superpixels of each kind that an image teaches; of more, random ones."""

AGAIN = "run `weakseg heatmap-segment CONFIG --force` or `weakseg compare CONFIG` again"

Lessons = Callable[[], Iterable[tuple[Case, np.ndarray]]]


def coarse_side(image_size: int) -> int:
    """Longest side of the grid of features: a quarter of the network's, from 32 to 64."""
    return min(64, max(32, image_size // 4))


def learn_rule(
    rule: Rule, prepared: Prepared, classifier: Path, lessons: Lessons, seed: int
) -> Learnt:
    """What a rule learns from the training images and their heatmaps; no mask is opened.

    Parameters
    ----------
    rule : AffinityRule or HypercolumnRule
    prepared : Prepared
    classifier : Path
        Folder of the network whose activations ``hypercolumn`` looks at.
    lessons : callable
        Gives training cases with a lesion label and their raw heat, (M, N).
    seed : int

    Raises
    ------
    LookupError
        If the heatmaps are sure of too little.
    """
    config = prepared.config
    if isinstance(rule, AffinityRule):
        say("affinities are learnt from the training heatmaps")
        return _learn_affinity(rule, config, prepared.channels, lessons, seed)
    assert isinstance(rule, HypercolumnRule)
    say("a vote over hypercolumns is learnt from the training heatmaps")
    model = load_classifier(classifier).to(pick_device(config.device))
    return _learn_vote(rule, config, model, lessons, seed)


def _learn_affinity(
    rule: AffinityRule, config: Config, channels: int, lessons: Lessons, seed: int
) -> Learnt:
    side = coarse_side(config.data.image_size)
    images, labels = [], []
    for case, heat in lessons():
        planes, box = network_image(read_image(case.image), channels, side, config.data.intensity)
        known = np.full((side, side), OPEN, dtype=np.uint8)
        known[box.top : box.top + box.height, box.left : box.left + box.width] = confident(
            heat, (box.height, box.width), high=rule.high, low=rule.low
        )
        images.append(planes)
        labels.append(known)
    if not images:
        raise LookupError("no training image has a lesion label")
    net = train_affinity(
        np.stack(images), np.stack(labels), radius=rule.radius, epochs=rule.epochs, seed=seed
    )
    return _with_affinity(net, config)


def _with_affinity(net: AffinityNet, config: Config) -> Learnt:
    state = {k: v.detach().numpy() for k, v in net.state_dict().items()}
    side, channels = coarse_side(config.data.image_size), channels_of(net.state_dict())

    def features(image: npt.ArrayLike) -> npt.NDArray[np.float32]:
        planes, box = network_image(np.asarray(image), channels, side, config.data.intensity)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            found = net(torch.from_numpy(planes)[None])[0].numpy()
        window = found[:, box.top : box.top + box.height, box.left : box.left + box.width]
        return np.ascontiguousarray(np.moveaxis(window, 0, 2))

    return Learnt(state, features)


def _learn_vote(
    rule: HypercolumnRule, config: Config, model: Classifier, lessons: Lessons, seed: int
) -> Learnt:
    features = _hypercolumns_of(config, model)
    rng = np.random.default_rng(seed)
    rows: list[np.ndarray] = []
    lesion: list[np.ndarray] = []
    for case, heat in lessons():
        image = read_image(case.image)
        parts = coarse_superpixels(image, count=rule.count, compactness=rule.compactness)
        kinds = sure_superpixels(heat, parts, high=rule.high, low=rule.low)
        hot, cold = (rng.permutation(k)[:MOST_SUPERPIXELS] for k in kinds)
        if len(hot) or len(cold):
            rows.append(describe(image, parts, features(image))[np.r_[hot, cold]])
            lesion.append(np.r_[np.ones(len(hot), bool), np.zeros(len(cold), bool)])
    if not rows:
        raise LookupError("the training heatmaps are sure of no superpixel")
    vote = fit_vote(np.concatenate(rows), np.concatenate(lesion), penalty=rule.penalty)
    return Learnt(vote.arrays(), features)


def _hypercolumns_of(
    config: Config, model: Classifier
) -> Callable[[npt.ArrayLike], npt.NDArray[np.float32]]:
    size = config.data.image_size
    layers = find_layers(model, FUSED, size)
    one_at_a_time = Lock()  # the hooks that listen to the network hear every thread

    def features(image: npt.ArrayLike) -> npt.NDArray[np.float32]:
        planes, box = network_image(
            np.asarray(image), model.spec.channels, size, config.data.intensity
        )
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


def save_learnt(path: Path, learnt: Learnt) -> dict[str, Any]:
    """Write what a rule has learnt; what ``threshold.json`` says of it."""
    from safetensors.numpy import save_file

    arrays = {k: np.ascontiguousarray(v) for k, v in learnt.arrays.items()}
    with atomic_path(path) as part:
        save_file(arrays, part)
    return {"learnt": {"file": path.name, "hash": file_hash(path)}}


def load_rule(
    entry: dict[str, Any], folder: Path, config: Config, classifier: Callable[[], Classifier]
) -> FittedRule:
    """A fitted rule with all that it has learnt.

    Parameters
    ----------
    entry : dict
        Of ``threshold.json``.
    folder : Path
        Of the method's masks, which holds the file that the entry names.
    config : Config
        The run's experiment.
    classifier : callable
        Gives the network whose activations ``hypercolumn`` looks at.

    Raises
    ------
    RunError
        If what was learnt is missing, or is not what the entry says.
    """
    fitted = rule_from_json(entry)
    if not isinstance(fitted.rule, AffinityRule | HypercolumnRule):
        return fitted
    arrays = _read_learnt(entry, folder)
    if isinstance(fitted.rule, HypercolumnRule):
        return replace(fitted, learnt=Learnt(arrays, _hypercolumns_of(config, classifier())))
    state = {k: torch.from_numpy(v) for k, v in arrays.items()}
    try:
        net = AffinityNet(channels_of(state))
        net.load_state_dict(state)
    except (KeyError, RuntimeError) as e:
        raise RunError(
            "What the rule has learnt was not written by this version of weakseg.",
            where=str(folder),
            found=first_line(e),
            fix=AGAIN,
        ) from None
    return replace(fitted, learnt=_with_affinity(net.eval(), config))


def _read_learnt(entry: dict[str, Any], folder: Path) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    told = entry.get("learnt") or {}
    path = inside(folder, str(told.get("file", "missing")))
    if not path.is_file():
        raise RunError("What the rule has learnt is missing.", where=str(path), fix=AGAIN)
    if file_hash(path) != told.get("hash"):
        raise RunError(
            "What the rule has learnt is not what its masks were made with.",
            where=str(path),
            fix=AGAIN,
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as e:
        raise RunError(
            "What the rule has learnt is damaged.", where=str(path), found=str(e), fix=AGAIN
        ) from None
