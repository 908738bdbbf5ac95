"""Kinds of methods and how a model of each is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weakseg.exporting.heatmap_graph import heatmap_model
from weakseg.exporting.model import Model
from weakseg.exporting.network_graph import network_model
from weakseg.methods.heatmap import HeatmapMethod
from weakseg.methods.network import NetworkMethod

MODELS: dict[type, Callable[[Any], Model]] = {
    HeatmapMethod: heatmap_model,
    NetworkMethod: network_model,
}
"""Kinds of methods that are exported."""
