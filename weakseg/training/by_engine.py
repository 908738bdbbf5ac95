"""A segmentation network whose forward pass another engine than torch does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from weakseg.engines.base import AUTO, TORCH, Session, precision_of
from weakseg.engines.choice import pick_quickest
from weakseg.engines.graph import ExportError, onnx_of
from weakseg.engines.kept import KeptGraphs
from weakseg.engines.registry import ENGINES, check_engine
from weakseg.models.deepmedic import DeepMedic
from weakseg.models.unetpp import pruned

TOGETHER = 4
"""Images of a batch by which engines are measured."""


NEEDS_TORCH = ExportError(
    "DeepMedic needs torch: a whole image goes through its pathways at once, in parts that are no "
    "graph of one size.",
    where="engine",
    fix="set engine: torch, or auto, or another segmenter",
)


def refuse_deepmedic(engine: str, models: Sequence[nn.Module]) -> None:
    """Refuse a named engine for DeepMedic.

    Raises
    ------
    ExportError
    """
    if engine not in (TORCH, AUTO) and any(isinstance(m, DeepMedic) for m in models):
        raise NEEDS_TORCH


def graph_of(model: nn.Module, shape: Sequence[int], what: str) -> bytes:
    """The logits of a batch as a graph.

    Parameters
    ----------
    model : nn.Module
        Of `weakseg.models.segmenters`, in evaluation mode.
    shape : sequence of int
        (B, C, *size) of the only batches that the graph takes: input ``images``.
    what : str
        The network's name in messages.

    Returns
    -------
    bytes
        An ONNX model whose output is ``logits``.

    Raises
    ------
    ExportError
        For DeepMedic, and for a network with an operation that no graph holds.
    """
    if isinstance(model, DeepMedic):
        raise NEEDS_TORCH
    copy = deepcopy(model).cpu().float().to(memory_format=torch.contiguous_format)

    def run(images: Tensor) -> tuple[Tensor]:
        with torch.no_grad():
            return (copy(images),)

    return onnx_of(run, [torch.zeros(*shape)], ["images"], ["logits"], what=what)


class EngineNetwork(nn.Module):
    """A segmenter that an engine runs; what else there is to know of it, it tells itself.

    Parameters
    ----------
    model : nn.Module
    engine : str
        A key of `ENGINES`.
    precision : str
        See `weakseg.engines.base.precision_of`.
    what : str
        The network's name in messages.
    kept : KeptGraphs, optional
        Where its graphs lie that were made before.
    """

    def __init__(
        self,
        model: nn.Module,
        engine: str,
        precision: str,
        what: str,
        kept: KeptGraphs | None = None,
    ) -> None:
        super().__init__()
        self.model, self.engine, self.precision, self.what = model, engine, precision, what
        self.kept = kept
        self.margin: Any = model.margin
        if hasattr(model, "prune"):  # see `weakseg.models.unetpp.pruned`
            self.depth, self.prune = model.depth, model.prune
        self._sessions: dict[Any, Session] = {}

    def input_size(self, output: int) -> int:
        """See `weakseg.models.segmenters`."""
        return int(self.model.input_size(output))  # type: ignore[operator]

    def output_size(self, size: int) -> int:
        """See `weakseg.models.segmenters`."""
        return int(self.model.output_size(size))  # type: ignore[operator]

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K, *size) of images (B, C, *size)."""
        shape, depth = tuple(images.shape), getattr(self, "prune", None)
        if (shape, depth) not in self._sessions:
            model = self._graph(shape, depth)
            load = ENGINES[self.engine].load
            self._sessions[shape, depth] = load(model, torch.get_num_threads(), self.precision)
        (logits,) = self._sessions[shape, depth]([images.detach().numpy()])
        return torch.from_numpy(logits)

    def _graph(self, shape: tuple[int, ...], depth: int | None) -> bytes:
        """`graph_of`, or what it gave before."""
        path = found = None
        if self.kept is not None:
            path = self.kept.path_of([self.model], {"shape": shape, "prune": depth})
            found = self.kept.find(path)
        if found is not None:
            return found[1]
        with pruned(self.model, depth):
            model = graph_of(self.model, shape, self.what)
        if self.kept is not None and path is not None:
            self.kept.keep(path, self.what, model)
        return model


def by_engine(
    models: Sequence[Any],
    engine: str,
    precision: str,
    *,
    shapes: Sequence[Sequence[int]],
    what: str,
    torch_run: Callable[[Callable[[Tensor], Any]], Callable[[Tensor], Any]] = lambda run: run,
    kept: Sequence[KeptGraphs] = (),
) -> tuple[list[Any], dict[str, Any]]:
    """Networks that make masks together by one engine, and what the record says of it.

    Parameters
    ----------
    models : sequence of nn.Module
        In evaluation mode, on one device.
    engine : str
        One of `weakseg.engines.registry.CHOICES`; ``auto`` measures all of them together, one
        after the other, on a batch of `TOGETHER` images.
    precision : str
        Of the experiment, see `weakseg.engines.base.precision_of`.
    shapes : sequence of sequence of int
        (C, *size) of what each network sees at once, for a measurement.
    what : str
        Their name in messages.
    torch_run : callable, optional
        Puts torch's way into its precision for the measurement.
    kept : sequence of KeptGraphs, optional
        Where graphs of each lie that were made before.

    Returns
    -------
    models : list of nn.Module
    record : dict
        As of `weakseg.heatmaps.by_engine.pick_explainer`.

    Raises
    ------
    UserError
        As `weakseg.engines.registry.check_engine`, and for DeepMedic, which needs torch.
    """
    if engine == TORCH:
        return list(models), {}
    device = next(models[0].parameters()).device.type
    check_engine(engine, device, precision)
    if engine == AUTO and device != "cpu":
        return list(models), {"engine": TORCH}
    chosen, record = engine, {"engine": engine}
    graphs: Sequence[KeptGraphs | None] = kept or [None] * len(models)
    if engine == AUTO:
        seen = [torch.zeros(TOGETHER if len(s) == 3 else 1, *s) for s in shapes]
        alike = [_first_alike(models, shapes, i) for i in range(len(models))]

        def make(name: str, wanted: str) -> Callable[[], object]:
            held = {i: EngineNetwork(models[i], name, wanted, what, graphs[i]) for i in set(alike)}
            return partial(_all, [held[i] for i in alike], seen)

        with torch.no_grad():
            by_torch = partial(_all, [torch_run(m) for m in models], seen)
            chosen, record = pick_quickest(by_torch, make, precision, len(seen[0]))
    refuse_deepmedic(engine, models)
    if chosen == TORCH:
        return list(models), record
    wanted = precision_of(precision)
    made = zip(models, graphs, strict=True)
    return [EngineNetwork(m, chosen, wanted, what, g).eval() for m, g in made], record


def _first_alike(models: Sequence[nn.Module], shapes: Sequence[Sequence[int]], i: int) -> int:
    """The first network that differs from the i-th in its numbers alone, and takes as long."""

    def kind(k: int) -> tuple[Any, ...]:
        parts = [(name, tuple(t.shape)) for name, t in models[k].state_dict().items()]
        return type(models[k]), tuple(shapes[k]), parts

    wanted = kind(i)
    return next(k for k in range(i + 1) if kind(k) == wanted)


def _all(runs: Sequence[Callable[[Tensor], Any]], images: Sequence[Tensor]) -> None:
    """Every network on its images."""
    for run, batch in zip(runs, images, strict=True):
        run(batch)
