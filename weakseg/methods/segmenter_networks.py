"""Trained segmenters at work: one, or several whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weakseg.config import SegmenterConfig
from weakseg.data.case_files import case_image
from weakseg.data.cases import Case
from weakseg.engines.base import AUTO, TORCH
from weakseg.engines.kept import KeptGraphs
from weakseg.errors import RunError
from weakseg.layout import segmenter_folder, segmenter_graphs
from weakseg.masks.rules.crf import crf_probability
from weakseg.methods.masks_seen import MasksSeen
from weakseg.methods.segmenters import load_segmenter, priors_of, read_settings, seen_by_network
from weakseg.models.segmenters import Segmenter
from weakseg.training.by_engine import by_engine
from weakseg.training.infer import usual_tile
from weakseg.training.loop import in_precision
from weakseg.training.segment import predict
from weakseg.training.segmentation_cases import SegmentationCases


@dataclass(frozen=True)
class Networks:
    """Segmenters of one name that make one set of masks.

    Attributes
    ----------
    models : tuple of Segmenter
        On one device, in evaluation mode.
    held : tuple of dict
        The ``settings.json`` of each; of one name they differ in figures of the training alone.
    engine : mapping
        What the record says of the engine that runs them; empty for torch that nobody chose.
    weights : tuple of float
        What each counts in their mean, 1 in all; empty where they count alike.
    """

    models: tuple[Segmenter, ...]
    held: tuple[dict[str, Any], ...]
    engine: Mapping[str, Any] = field(default_factory=dict)
    weights: tuple[float, ...] = ()

    def weighed(self, weights: Sequence[float]) -> Networks:
        """The same, counting otherwise.

        Raises
        ------
        RunError
            If the weights are not as many, or all 0.
        """
        if weights and (len(weights) != len(self.models) or not sum(weights)):
            raise RunError(
                "The weights of the mean of several networks are not theirs.",
                found=f"{len(weights)} weights for {len(self.models)} networks: {list(weights)}",
                fix="run `weakseg train-segmenter CONFIG` again, with --force",
            )
        return replace(self, weights=tuple(weights))

    @property
    def counting(self) -> Networks:
        """Those of them that count at all."""
        if not any(w == 0 for w in self.weights):
            return self
        kept = [k for k, w in enumerate(self.weights) if w]
        weights = tuple(self.weights[k] for k in kept)
        return replace(
            self,
            models=tuple(self.models[k] for k in kept),
            held=tuple(self.held[k] for k in kept),
            weights=() if len(set(weights)) == 1 else weights,
        )

    def alone(self) -> list[Networks]:
        """Each network by itself."""
        return [
            replace(self, models=(m,), held=(h,), weights=())
            for m, h in zip(self.models, self.held, strict=True)
        ]

    @property
    def settings(self) -> dict[str, Any]:
        """The ``settings.json`` of the first."""
        return self.held[0]

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return next(self.models[0].parameters()).device

    def masks_seen(self, kind: str) -> int:
        """How many different masks they saw; all saw the same ones.

        Parameters
        ----------
        kind : {"training_masks", "validation_masks"}
        """
        return max(int(h[kind]) for h in self.held)

    @property
    def seen(self) -> MasksSeen:
        """The true masks that had a part in any of them."""
        each = [seen_by_network(h) for h in self.held]
        cases = frozenset[str]().union(*(e.cases for e in each))
        elsewhere = frozenset[str]().union(*(e.elsewhere for e in each))
        return MasksSeen(cases, max(e.others for e in each), elsewhere)

    def probabilities(
        self, data: SegmentationCases, indices: Sequence[int], settings: SegmenterConfig
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Probabilities of a lesion on each case's own grid: the mean over the networks.

        Parameters
        ----------
        data : SegmentationCases
        indices : sequence of int
        settings : SegmenterConfig
            Resolved. Where it asks for it, each network is recalibrated for itself before the
            average, and a conditional random field makes the average follow the image.

        Yields
        ------
        index : int
        probability : (*size) ndarray of float32

        Raises
        ------
        RunError
            If a network says NaN or infinity.
        """
        views = [data.of_size(round(data.size * scale)) for scale in settings.scales]
        # Side by side, so that never more than a batch is in memory.
        for answers in zip(*(self._over(v, indices, settings) for v in views), strict=True):
            i = answers[0][0]
            p = _mean([p for _, p in answers])
            if settings.crf:
                image = case_image(data.cases[i], data.data)
                p = crf_probability(p, image, settings.crf, where="segmenters: crf")
            yield i, p

    def _over(
        self, data: SegmentationCases, indices: Sequence[int], settings: SegmenterConfig
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Probabilities on each case's own grid, the cases looked at in one size."""
        each = [
            predict(model, data, indices, settings, self.device, priors_of(trained), fill=True)
            for model, trained in zip(self.models, self.held, strict=True)
        ]
        for answers in zip(*each, strict=True):
            i, mean = answers[0][0], _mean([p for _, p in answers], self.weights)
            _require_numbers(mean, data.cases[i])
            yield i, data.original(i, mean)


def _mean(maps: Sequence[np.ndarray], weights: Sequence[float] = ()) -> np.ndarray:
    """The mean of some maps; a single one as it is."""
    if len(maps) == 1:
        return maps[0]
    if weights:
        return np.asarray(np.average(np.stack(maps), axis=0, weights=weights), dtype=np.float32)
    return np.asarray(np.mean(np.stack(maps), axis=0, dtype=np.float32))


def _require_numbers(probability: np.ndarray, case: Case) -> None:
    """Refuse what a broken network says: no threshold is below NaN, so the mask would be empty."""
    bad = sum(int(np.count_nonzero(~np.isfinite(part))) for part in probability)
    if bad:
        raise RunError(
            "The network's answer is no number (NaN or infinity).",
            where=case.shown,
            found=f"{bad} of {probability.size} probabilities",
            fix="look at the network's weights, and train it again: weakseg train-segmenter CONFIG "
            "--force",
        )


def load_networks(
    run: Path,
    name: str,
    seeds: Sequence[int],
    device: Any,
    engine: str = TORCH,
    precision: str = "32-true",
    *,
    writes: bool = False,
) -> Networks:
    """The segmenters of a name and some seeds.

    Parameters
    ----------
    run : Path
    name : str
    seeds : sequence of int
    device : torch.device or str
    engine : str, optional
        Which runs them, see `weakseg.training.by_engine.by_engine`.
    precision : str, optional
        Which an engine computes in.
    writes : bool, optional
        Whether graphs that an engine lacks are kept in the run folder; not by who only reads it.

    Raises
    ------
    RunError
        If one is not there, or is not one of ours.
    UserError
        For an engine that is not installed, or cannot run them.
    """
    folders = [segmenter_folder(run, name, s) for s in seeds]
    trained = tuple(read_settings(f) for f in folders)
    loaded = [load_segmenter(f).to(device) for f in folders]
    shapes = []
    if engine == AUTO:
        shapes = [_seen_at_once(m, held) for m, held in zip(loaded, trained, strict=True)]
    with in_precision(str(device), precision):  # torch is measured as it will be asked
        kept = [KeptGraphs(segmenter_graphs(run, name, s), writes=writes) for s in seeds]
        models, by = by_engine(loaded, engine, precision, shapes=shapes, what=name, kept=kept)
    return Networks(tuple(models), trained, by)


def _seen_at_once(model: Any, settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Channels and sides of what a network sees at once."""
    dims = int(settings["dims"])
    output = usual_tile(dims, int(settings["image_size"]))
    return (int(settings["channels"]), *[int(model.input_size(output))] * dims)
