"""Kinds of methods and how a model of each is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weakseg.exporting.heatmap_graph import heatmap_model, refuse_heatmap
from weakseg.exporting.model import Model
from weakseg.exporting.network_graph import network_model, refuse_network
from weakseg.methods.heatmap import HeatmapMethod
from weakseg.methods.network import NetworkMethod

MODELS: dict[type, Callable[[Any], Model]] = {
    HeatmapMethod: heatmap_model,
    NetworkMethod: network_model,
}
"""Kinds of methods that are exported."""

REFUSALS: dict[type, Callable[[Any], None]] = {
    HeatmapMethod: refuse_heatmap,
    NetworkMethod: refuse_network,
}
"""What of them is not exported, whatever is installed; the functions of `MODELS` ask as well."""
