"""Heatmaps by another engine than torch: the network and the heatmap in one graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from weakseg.config import HeatmapConfig
from weakseg.data.arrays import filled
from weakseg.data.cases import Labels
from weakseg.engines import registry
from weakseg.engines.base import AUTO, TORCH, Session, precision_of
from weakseg.engines.choice import pick_quickest
from weakseg.engines.graph import ExportError, onnx_of
from weakseg.engines.kept import KeptGraphs
from weakseg.engines.registry import ENGINES
from weakseg.heatmaps.explaining import Explained, Explainer, explain_by_all
from weakseg.heatmaps.formulas import FORMULAS
from weakseg.models.classifier import Classifier


def graph_of(
    models: Sequence[Classifier], labels: Labels, config: HeatmapConfig, shape: Sequence[int]
) -> tuple[str, bytes]:
    """The heatmaps and probabilities of a batch as a graph.

    Parameters
    ----------
    models : sequence of Classifier
        Of several the heatmaps are averaged, and so are the probabilities.
    labels : Labels
    config : HeatmapConfig
    shape : sequence of int
        (B, C, S, S) of the only batches that the graph takes: input ``images``, in [0, 1].

    Returns
    -------
    layer : str
        What the heatmaps are made of, see `weakseg.heatmaps.explaining.explain`.
    model : bytes
        Its outputs are ``heat`` (B, h, w), raw and signed, and ``probabilities`` (B, K).

    Raises
    ------
    ExportError
        For a formula that needs torch, or a network with an operation that no graph holds.
    """
    arch = models[0].spec.arch
    require_formula(config)
    copies = [deepcopy(m).cpu().float().to(memory_format=torch.contiguous_format) for m in models]
    example = torch.zeros(*shape)
    # Looked at before it is recorded: the layers and their maps are found by running the network.
    with torch.autocast("cpu", enabled=False):
        name, *_ = explain_by_all(copies, labels, example[:1], config)

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        _, maps, p = explain_by_all(copies, labels, images, config)
        return maps, p

    what = f"{config.method} of {arch} at {name}"
    return name, onnx_of(run, [example], ["images"], ["heat", "probabilities"], what=what)


@dataclass(eq=False)
class ByEngine:
    """`weakseg.heatmaps.explaining.explain_by_all` by an engine.

    Attributes
    ----------
    engine : str
        A key of `ENGINES`.
    precision : str
        See `weakseg.engines.base.precision_of`.
    kept : KeptGraphs, optional
        Where graphs lie that were made before.
    """

    engine: str
    precision: str
    _graphs: dict[Any, tuple[str, bytes]] = field(default_factory=dict)
    _sessions: dict[Any, tuple[str, Session]] = field(default_factory=dict)
    kept: KeptGraphs | None = None

    def __call__(
        self,
        models: Sequence[Classifier],
        labels: Labels,
        batch: Tensor,
        config: HeatmapConfig,
        *,
        fill: bool = False,
    ) -> Explained:
        n = len(batch)
        whole = filled(batch, config.batch_size) if fill else batch
        name, run = self._session(models, labels, config, tuple(whole.shape))
        heat, p = run([whole.numpy()])
        return name, torch.from_numpy(heat)[:n], torch.from_numpy(p)[:n]

    def _session(
        self,
        models: Sequence[Classifier],
        labels: Labels,
        config: HeatmapConfig,
        shape: tuple[int, ...],
    ) -> tuple[str, Session]:
        key = (tuple(map(id, models)), labels, config.model_dump_json(), shape)
        if key not in self._sessions:
            if key not in self._graphs:
                self._graphs[key] = _kept_graph(self.kept, models, labels, config, shape)
            name, model = self._graphs[key]
            loaded = ENGINES[self.engine].load(model, torch.get_num_threads(), self.precision)
            self._sessions[key] = name, loaded
        return self._sessions[key]


def _kept_graph(
    kept: KeptGraphs | None,
    models: Sequence[Classifier],
    labels: Labels,
    config: HeatmapConfig,
    shape: tuple[int, ...],
) -> tuple[str, bytes]:
    """`graph_of`, or what it gave before."""
    if kept is None:
        return graph_of(models, labels, config, shape)
    made_with = {
        "labels": [labels.healthy, labels.lesion],
        "config": config.model_dump(mode="json"),
        "shape": shape,
    }
    path = kept.path_of(models, made_with)
    found = kept.find(path)
    if found is None:
        found = graph_of(models, labels, config, shape)
        kept.keep(path, *found)
    return found


def pick_explainer(
    engine: str,
    models: Sequence[Classifier],
    labels: Labels,
    config: HeatmapConfig,
    *,
    side: int,
    precision: str,
    torch_run: Callable[[Explainer], Explainer] = lambda run: run,
    kept: KeptGraphs | None = None,
) -> tuple[Explainer, dict[str, Any]]:
    """What makes heatmaps, and what the record says of it.

    Parameters
    ----------
    engine : str
        One of `weakseg.engines.registry.CHOICES`. With ``auto`` all that is installed and takes
        the network is measured on a batch, and torch wherever there is another device than the
        processor.
    models : sequence of Classifier
    labels : Labels
    config : HeatmapConfig
    side : int
        Of the images in pixels.
    precision : str
        Of the experiment, see `weakseg.engines.base.precision_of`.
    torch_run : callable, optional
        Puts torch's way into its precision for the measurement.
    kept : KeptGraphs, optional
        Where graphs lie that were made before.

    Returns
    -------
    explainer : callable
    record : dict
        ``engine``; and, after a measurement, ``engines``: images a second by name, or why an
        engine was left out.

    Raises
    ------
    ConfigError
        For an engine that is not installed, or takes another device, precision or network.
    """
    if engine == TORCH:
        return explain_by_all, {}
    device = models[0].mean.device
    check_engine(engine, config, device.type, precision)
    if models[0].spec.depth is not None:
        refuse_volumes(engine, models[0].spec.arch)
        return explain_by_all, {"engine": TORCH}
    if engine != AUTO:
        return ByEngine(engine, precision_of(precision), kept=kept), {"engine": engine}
    if device.type != "cpu":
        return explain_by_all, {"engine": TORCH}
    size = (config.batch_size, models[0].spec.channels, side, side)
    noise = torch.rand(*size, generator=torch.Generator().manual_seed(0))
    images = noise.contiguous(memory_format=torch.channels_last)
    graphs: dict[Any, tuple[str, bytes]] = {}
    ways: dict[str, Explainer] = {TORCH: explain_by_all}

    def make(name: str, wanted: str) -> Callable[[], object]:
        ways[name] = ByEngine(name, wanted, graphs, kept=kept)
        return partial(ways[name], models, labels, images, config)

    by_torch = partial(torch_run(explain_by_all), models, labels, images, config)
    chosen, record = pick_quickest(by_torch, make, precision, config.batch_size)
    return ways[chosen], record


def refuse_volumes(engine: str, arch: str) -> None:
    """Refuse a named engine, as torch alone makes heatmaps of whole volumes.

    Raises
    ------
    ExportError
    """
    if engine not in (TORCH, AUTO):
        raise ExportError(
            f"Heatmaps of volumes by {arch} need torch.",
            where="engine",
            found=engine,
            fix="set engine: torch, or auto",
        )


def check_engine(engine: str, config: HeatmapConfig, device: str, precision: str) -> None:
    """Refuse an engine that cannot make a heatmap, before anything is made.

    Raises
    ------
    UserError
        As `weakseg.engines.registry.check_engine`, and for a formula that needs torch.
    """
    registry.check_engine(engine, device, precision)
    if engine not in (TORCH, AUTO):
        require_formula(config)


def require_formula(
    config: HeatmapConfig, fix: str = "set engine: torch, or another heatmap.method"
) -> None:
    """Refuse a formula that needs torch.

    Raises
    ------
    ExportError
    """
    if config.climb is not None:
        raise ExportError(
            "Adversarial climbing needs torch: it looks at how the score changes with the image.",
            where="engine",
            found="heatmap.climb",
            fix="set engine: torch, or heatmap.climb: null",
        )
    if config.method not in FORMULAS:
        raise ExportError(
            f"The heatmap method {config.method} needs torch: it is no fixed sequence of "
            "operations.",
            where="engine",
            expected=f"one of: {', '.join(FORMULAS)}",
            fix=fix,
        )
