"""Trained segmenters at work: one, or several whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weakseg.config import SegmenterConfig
from weakseg.data.cases import Case
from weakseg.errors import RunError
from weakseg.layout import segmenter_folder
from weakseg.methods.masks_seen import MasksSeen
from weakseg.methods.segmenters import load_segmenter, priors_of, read_settings, seen_by_network
from weakseg.models.segmenters import Segmenter
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
    """

    models: tuple[Segmenter, ...]
    held: tuple[dict[str, Any], ...]

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
        return MasksSeen(cases, max(e.others for e in each))

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
            average.

        Yields
        ------
        index : int
        probability : (*size) ndarray of float32

        Raises
        ------
        RunError
            If a network says NaN or infinity.
        """
        each = [
            predict(model, data, indices, settings, self.device, priors_of(held), fill=True)
            for model, held in zip(self.models, self.held, strict=True)
        ]
        # Side by side, so that a case is read once and never more than a batch is in memory.
        for answers in zip(*each, strict=True):
            i, mean = answers[0]
            if len(answers) > 1:
                mean = np.mean(np.stack([p for _, p in answers]), axis=0, dtype=np.float32)
            _require_numbers(mean, data.cases[i])
            yield i, data.original(i, mean)


def _require_numbers(probability: np.ndarray, case: Case) -> None:
    """Refuse what a broken network says: no threshold is below NaN, so the mask would be empty."""
    bad = int((~np.isfinite(probability)).sum())
    if bad:
        raise RunError(
            "The network's answer is no number (NaN or infinity).",
            where=case.shown,
            found=f"{bad} of {probability.size} probabilities",
            fix="look at the network's weights, and train it again: weakseg train-segmenter CONFIG "
            "--force",
        )


def load_networks(run: Path, name: str, seeds: Sequence[int], device: Any) -> Networks:
    """The segmenters of a name and some seeds.

    Raises
    ------
    RunError
        If one is not there, or is not one of ours.
    """
    folders = [segmenter_folder(run, name, s) for s in seeds]
    models = tuple(load_segmenter(f).to(device) for f in folders)
    return Networks(models, tuple(read_settings(f) for f in folders))
