"""Classifiers of volumes with one label each, made of classifiers of images.

Either a network sees every slice, and what it says of them is pooled (multiple-instance learning:
a volume has a lesion if any slice has), or its kernels are inflated to three dimensions.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from weakseg.config.volume_archs import sees_slices
from weakseg.errors import ConfigError
from weakseg.models.classifier import Classifier, ClassifierSpec
from weakseg.models.depth_layers import deep_functions
from weakseg.models.inflated import DepthPlan, inflate
from weakseg.models.layers import ARCHITECTURES, default_layer, depths, spaces_of
from weakseg.models.localising import SHARPNESS, ClassifierOutput, log_sum_exp

AT_ONCE = 64
"""Slices that a network sees together; of more, training computes each part twice: that saves
memory."""

HIDDEN = 128
"""Of the gated attention, as in its paper."""

_PROBE = 128


class Instances(NamedTuple):
    """What a classifier says of the slices of a volume, and how they count.

    Attributes
    ----------
    probabilities : (N, K) Tensor
        Of the classes, of each slice by itself.
    weights : (N,) Tensor
        How much each has a part in the volume's score of a lesion; their sum is 1.
    shares : (N,) Tensor
        Between 0 and 1: how hot the hottest place of the slice may be, where heat is to say how
        probable a lesion is. Its probability of a lesion, and with attention that times its weight
        over the largest.
    """

    probabilities: Tensor
    weights: Tensor
    shares: Tensor


def present(volumes: Tensor) -> Tensor:
    """Which slices of volumes (B, C, D, H, W) there are: those that are not 0 throughout, (B, D).

    Volumes of fewer slices than others have empty ones behind. Of a volume without any, all are.
    """
    seen = volumes.detach().abs().amax((1, 3, 4)) > 0
    return seen | ~seen.any(1, keepdim=True)


class SliceClassifier(Classifier):
    """A network of images over all slices, and the pool of what it says.

    Class scores of a slice count against those of the healthy labels: a slice says how sure a
    lesion is, in log-odds, and a volume is as sick as its slices together are.

    Attributes
    ----------
    attention : GatedAttention or None
    """

    attention: nn.Module | None

    def __init__(self, flat: Classifier, spec: ClassifierSpec) -> None:
        nn.Module.__init__(self)
        self.net, self.spec = flat.net, spec
        self.end, self.exit_layers, self.exits = flat.end, (), nn.ModuleList()
        self.register_buffer("mean", flat.mean)
        self.register_buffer("std", flat.std)
        self.attention = None
        self._flat: tuple[Classifier, ...] = ()
        if spec.instances == "attention":
            self._layer = default_layer(flat)
            module = self.net.get_submodule(self._layer)
            self._space = spaces_of(flat, {self._layer: module}, _PROBE)[self._layer]
            self.attention = GatedAttention(self._space.channels)

    @property
    def explained(self) -> Classifier:
        """The network that sees slices, with the very same weights."""
        if not self._flat:
            flat: Any = copy.copy(self)
            flat.__class__ = Classifier
            flat.spec = replace(self.spec, arch=self.spec.flat_arch)
            self._flat = (flat,)
        return self._flat[0]

    def forward(self, images: Tensor, *, parts: bool = False) -> Tensor | ClassifierOutput:
        """Logits (B, K) of volumes (B, C, D, H, W) in [0, 1].

        Those of healthy labels are their mean over slices, and those of lesions are pooled.
        """
        there = present(images)
        said, attention = self._said(images.movedim(2, 1)[there])
        of_volume = there.sum(1).tolist()
        weights: Sequence[Tensor | None] = [None] * len(of_volume)
        if attention is not None:
            weights = [a.softmax(0) for a in attention.split(of_volume)]
        pooled = [self._pool(s, w) for s, w in zip(said.split(of_volume), weights, strict=True)]
        logits = torch.stack(pooled)
        return ClassifierOutput(logits, [], None) if parts else logits

    def slices(self, volume: Tensor) -> Instances:
        """What is said of the slices (N, C, H, W) of one volume, and how they count."""
        with torch.no_grad():
            said, attention = self._said(volume)
        probabilities = said.softmax(1)
        healthy = self.spec.healthy
        score = said[:, healthy:].logsumexp(1)
        sick = probabilities[:, healthy:].sum(1)
        if attention is not None:
            weights = attention.softmax(0)
            return Instances(probabilities, weights, sick * weights / weights.max())
        if self.spec.instances == "max":
            return Instances(probabilities, F.one_hot(score.argmax(), len(score)).float(), sick)
        return Instances(probabilities, (SHARPNESS * score).softmax(0), sick)

    def _pool(self, said: Tensor, weights: Tensor | None) -> Tensor:
        """Log-odds of slices (N, K) as those of their volume, (K,)."""
        if weights is not None:
            return (weights[:, None] * said).sum(0)
        healthy, sick = said[:, : self.spec.healthy], said[:, self.spec.healthy :]
        if self.spec.instances == "max":
            return torch.cat([healthy.mean(0), sick.amax(0)])
        return torch.cat([healthy.mean(0), log_sum_exp(sick.T[None, :, :, None])[0]])

    def _said(self, slices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Log-odds (N, K) of slices against healthy ones, and their attention (N,)."""
        # Even parts: batch norms do not take a last one of a single slice.
        parts = slices.tensor_split(max(1, math.ceil(len(slices) / AT_ONCE)))
        if len(parts) == 1 or not torch.is_grad_enabled():
            scores = [self._part(p) for p in parts]
        else:
            scores = [
                checkpoint(self._part, p, use_reentrant=False, context_fn=self._contexts)
                for p in parts
            ]
        logits = torch.cat([f[0] for f in scores])
        healthy = logits[:, : self.spec.healthy]
        if healthy.shape[1]:
            logits = logits - healthy.logsumexp(1, keepdim=True)
        attention = None if self.attention is None else torch.cat([f[1] for f in scores])
        return logits, attention

    def _part(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        slices = slices.contiguous(memory_format=torch.channels_last)
        if self.attention is None:
            return self._logits(slices), slices.new_zeros(0)
        features: list[Tensor] = []
        layer = self.net.get_submodule(self._layer)
        handle = layer.register_forward_hook(lambda _m, _i, out: features.append(out))
        try:
            logits = self._logits(slices)
        finally:
            handle.remove()
        return logits, self.attention(self._space.as_map(features[0]).float().mean((2, 3)))

    def _logits(self, slices: Tensor) -> Tensor:
        logits = super().forward(slices)
        assert isinstance(logits, Tensor)
        return logits.float()

    def _contexts(self) -> tuple[Any, Any]:
        return contextlib.nullcontext(), _keeping_statistics(self.net)


class GatedAttention(nn.Module):
    """How much a slice is looked at, by its features.

    References
    ----------
    Ilse, Tomczak and Welling, "Attention-based deep multiple instance learning", ICML 2018.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(channels, HIDDEN), nn.Linear(channels, HIDDEN)
        self.weight = nn.Linear(HIDDEN, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C) to (N,), before the softmax over the slices of a volume."""
        return self.weight(self.value(features).tanh() * self.gate(features).sigmoid())[:, 0]


@contextlib.contextmanager
def _keeping_statistics(net: nn.Module) -> Iterator[None]:
    """A second look at the same images, which running means do not count again."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    before = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 0.0
    try:
        yield
    finally:
        for m, momentum in zip(norms, before, strict=True):
            m.momentum = momentum


class DeepClassifier(Classifier):
    """A network whose kernels are inflated to three dimensions.

    Attributes
    ----------
    named_layers : dict of tuple of str
        ``auto`` and ``fused``, where they are found by running the network of images.
    """

    named_layers: dict[str, tuple[str, ...]]

    def __init__(
        self, flat: Classifier, spec: ClassifierSpec, *, draw: bool, named: dict[str, Any]
    ) -> None:
        nn.Module.__init__(self)
        plan = DepthPlan(spec.ratio, spec.depth)
        listed = spec.flat_arch in ARCHITECTURES
        self.net = inflate(flat.net, plan, channels=spec.net_channels, draw=draw, check=not listed)
        self.spec, self.end = spec, flat.end
        self.exit_layers = flat.exit_layers
        self.exits = nn.ModuleList(_one_place(e) for e in flat.exits)
        self.register_buffer("mean", flat.mean)
        self.register_buffer("std", flat.std)
        self.named_layers = named

    def forward(self, images: Tensor, *, parts: bool = False) -> Tensor | ClassifierOutput:
        """Logits (B, K) of volumes (B, C, D, H, W) in [0, 1]; see `Classifier`."""
        with deep_functions():
            return super().forward(images, parts=parts)


def _one_place(head: nn.Module) -> nn.Module:
    assert isinstance(head, nn.Conv2d)
    deep = nn.Conv3d(head.in_channels, head.out_channels, 1)
    deep.load_state_dict({"weight": head.weight[:, :, None], "bias": head.bias})
    return deep


def for_volumes(flat: Classifier, spec: ClassifierSpec, *, draw: bool) -> Classifier:
    """A classifier of volumes made of one of images, whose weights it takes.

    Parameters
    ----------
    flat : Classifier
        Of ``spec.flat_arch``; it is used up.
    spec : ClassifierSpec
    draw : bool
        See `weakseg.models.inflated.inflate`.

    Raises
    ------
    ConfigError
        If the network cannot be inflated, or is of images that are not these.
    """
    spec = replace(spec, grey_input=flat.spec.grey_input)
    if sees_slices(spec.arch):
        return SliceClassifier(flat, spec)
    named = {}
    if spec.flat_arch not in ARCHITECTURES:
        try:
            named = {"auto": (default_layer(flat, _PROBE),), "fused": depths(flat, _PROBE)}
        except ConfigError:  # of networks without a map, which `heatmap.layer` may still name
            named = {}
    return DeepClassifier(flat, spec, draw=draw, named=named)
