"""A segmenter's networks as a method: all is chosen that the validation split chooses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from weakseg.config import SegmenterConfig
from weakseg.engines.base import TORCH
from weakseg.engines.choice import spoken
from weakseg.methods.base import ENGINE
from weakseg.methods.gate import find_gate
from weakseg.methods.kinds_by_labels import LABELS, preferred_kinds
from weakseg.methods.network import GATE_BY, NETWORKS, NetworkMethod, beside_each, no_gate
from weakseg.methods.network_choices import (
    Probabilities,
    choose_screen,
    choose_threshold,
    choose_weights,
)
from weakseg.methods.prepared import Prepared
from weakseg.methods.segmenter_networks import Networks, load_networks
from weakseg.progress import say
from weakseg.training.loop import make_fabric
from weakseg.training.segmentation_cases import SegmentationCases


def chosen_method(
    prepared: Prepared,
    name: str,
    data: SegmentationCases,
    settings: SegmenterConfig,
    together: list[int],
    engine: str,
) -> tuple[dict[str, Any], NetworkMethod]:
    """The network of a seed, or the mean of several.

    Parameters
    ----------
    prepared : Prepared
    name : str
        Of the segmenter.
    data : SegmentationCases
    settings : SegmenterConfig
    together : list of int
        Seeds of its networks.
    engine : str
        What runs them, or which is chosen.

    Returns
    -------
    threshold : dict
        Its entry of ``threshold.json``.
    method : NetworkMethod
    """
    fabric = make_fabric(prepared.config.device, settings.precision)
    by = (engine, settings.precision)
    networks = load_networks(prepared.run.folder, name, together, fabric.device, *by, writes=True)
    if words := spoken(networks.engine):
        say(f"masks of {name}: {words}")
    engine = networks.engine.get("engine", engine)
    ask = partial(_ask, fabric, data, settings)
    networks = choose_weights(prepared, settings, networks, data, ask)
    gate = find_gate(prepared, name, together)

    def all_else(of: Networks) -> dict[str, Any]:
        probabilities = ask(of.counting)
        threshold = choose_threshold(prepared, settings, of, data, probabilities)
        if engine != TORCH:
            threshold[ENGINE] = engine
        if settings.ensemble:
            threshold[NETWORKS] = together
        if gate is not None:
            threshold |= {"gate": gate.value, GATE_BY: list(gate.by)}
        if settings.false_alarms is not None:
            where = prepared.cases.indices("val")
            cases, how = prepared.cases.cases, threshold["inference"]
            val = beside_each(probabilities(where), cases, where, how)
            threshold |= choose_screen(prepared, settings, threshold, val, gate)
        return threshold

    if settings.weighting == LABELS:
        networks, threshold = preferred_kinds(name, networks, all_else)
    else:
        threshold = all_else(networks)
    says = no_gate if gate is None else gate.of
    of = (name, tuple(together), prepared.config)
    return threshold, NetworkMethod(*of, networks.counting, settings, threshold, says)


def _ask(
    fabric: Any, data: SegmentationCases, settings: SegmenterConfig, networks: Networks
) -> Probabilities:
    """What networks say of some of a run's cases."""

    def probabilities(indices: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        with fabric.autocast():
            yield from networks.probabilities(data, indices, settings)

    return probabilities
