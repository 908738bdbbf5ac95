"""Where the heatmaps of cases come from: stored, or made as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from weakseg.config import Config, HeatmapConfig
from weakseg.data.arrays import classifier_input
from weakseg.data.cases import Case, Labels
from weakseg.engines.base import TORCH
from weakseg.engines.kept import KeptGraphs
from weakseg.heatmaps.by_engine import pick_explainer
from weakseg.heatmaps.compute import heatmaps_of_inputs
from weakseg.heatmaps.explaining import Explainer
from weakseg.heatmaps.store import Heatmap
from weakseg.methods.stored_heatmaps import HeatReader
from weakseg.models.classifier import Classifier
from weakseg.training.loop import in_precision


class Heats(Protocol):
    """Where the heatmaps of cases come from."""

    def __call__(self, cases: Sequence[Case]) -> Iterator[tuple[Heatmap, Mapping[str, Any]]]:
        """Each case's heatmap, and what else there is to say of it."""


@dataclass(frozen=True, eq=False)
class LiveHeats:
    """Heatmaps that classifiers make as they are asked for.

    They are rounded, and made in batches, as in the stage that stores them.

    Attributes
    ----------
    models : tuple of Classifier
        One, or all that the heatmap is averaged over.
    config : Config
        The run's experiment.
    labels : Labels
    name : str
        Of the heatmap in the experiment.
    settings : HeatmapConfig
        Of it, with the scales that the stage used.
    engine : str
        What runs the classifiers, see `weakseg.heatmaps.by_engine.pick_explainer`.
    graphs : KeptGraphs, optional
        Where an engine's graphs lie that were made before.
    """

    models: tuple[Classifier, ...]
    config: Config
    labels: Labels
    name: str
    settings: HeatmapConfig
    engine: str = TORCH
    graphs: KeptGraphs | None = None

    @cached_property
    def _explainer(self) -> Explainer:
        side, precision = self.config.data.image_size, self.config.heatmap_precision(self.name)
        made, _ = pick_explainer(
            self.engine,
            self.models,
            self.labels,
            self.settings,
            side=side,
            precision=precision,
            kept=self.graphs,
        )
        return made

    def __call__(self, cases: Sequence[Case]) -> Iterator[tuple[Heatmap, Mapping[str, Any]]]:
        data = self.config.data
        precision = self.config.heatmap_precision(self.name)
        spec = self.models[0].spec
        seen = [classifier_input(c, data, spec.channels, spec.depth) for c in cases]
        with in_precision(str(self.models[0].mean.device), precision):
            made = heatmaps_of_inputs(
                self.models, seen, self.labels, config=self.settings, explainer=self._explainer
            )
        for heat, p in made:
            yield heat, {"predicted_label": self.labels.names[int(p.argmax())]}


@dataclass(frozen=True, eq=False)
class StoredHeats:
    """The heatmaps that a run has stored."""

    reader: HeatReader

    def __call__(self, cases: Sequence[Case]) -> Iterator[tuple[Heatmap, Mapping[str, Any]]]:
        return ((self.reader.load(case), {}) for case in cases)
