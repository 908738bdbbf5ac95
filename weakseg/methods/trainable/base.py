"""The contract of what trains a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from weakseg.config import Config
from weakseg.data.cases import Case
from weakseg.data.images import Intensity
from weakseg.masks.rules import Rule, TrainedState
from weakseg.models.classifier import Classifier

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Context:
    """What a rule is trained on, and by what it later sees images.

    Attributes
    ----------
    config : Config
        The run's experiment.
    classifier : callable
        Gives the network that made the heatmaps, on its device.
    channels : {1, 3}
        Colours of the images; for training.
    pairs : callable
        Gives training cases with a lesion label and their raw heat, (M, N), or, for a rule that is
        taught by masks, those with a mask and that mask as heat. For training.
    healthy : callable
        Gives training cases whose label says that there is no lesion. For training.
    seed : int
        Of what training draws.
    sliced : bool
        Whether the images are slices of volumes, which are scaled before.
    """

    config: Config
    classifier: Callable[[], Classifier]
    channels: int = 1
    pairs: Callable[[], Iterable[tuple[Case, np.ndarray]]] = tuple
    healthy: Callable[[], Iterable[Case]] = tuple
    seed: int = 0
    sliced: bool = False

    @property
    def intensity(self) -> Intensity:
        """How images are scaled."""
        scaled = self.sliced or self.config.data.window != "auto"
        return "dtype" if scaled else self.config.data.intensity


class Trainer(NamedTuple):
    """How a rule is trained, and how it is made ready again.

    Attributes
    ----------
    does : str
        For the terminal; ``{teacher}`` stands for what it is trained on.
    fit : callable
        (rule, context) → what it was trained to. Raises a LookupError if the heatmaps are sure of
        too little.
    restore : callable
        (arrays, context) → the same of the arrays that were stored. Raises a KeyError or a
        RuntimeError for arrays that are not its own.
    """

    does: str
    fit: Callable[[Any, Context], TrainedState]
    restore: Callable[[Arrays, Context], TrainedState]


def coarse_side(image_size: int) -> int:
    """Longest side of the grid of features: a quarter of the network's, from 32 to 64."""
    return min(64, max(32, image_size // 4))


__all__ = ["Arrays", "Context", "Rule", "TrainedState", "Trainer", "coarse_side"]
