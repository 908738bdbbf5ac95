"""Classifiers that score every place of their last map, and that speak at several depths.

A network that ends in an average over places and one linear layer can apply that layer at every
place instead (a 1x1 convolution) and pool the scores afterwards: the average gives the same
logits, other pools ask for the lesion somewhere rather than everywhere. Exits are such heads at
shallower layers.

One room for the head: what it scores, how it is found in a network, and heads of shallower layers.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg.errors import ConfigError, first_line, lacks_memory
from weakseg.models.modes import evaluating

SHARPNESS = 4.0
"""Of log-sum-exp: 0 would be the mean, infinity the maximum."""

TOP = 0.1
"""Share of the places whose mean `topk` takes."""

POWER = 3.0
"""Of the generalised mean: 1 would be the mean, infinity the maximum."""

_PROBE = 128
"""Side of the image by which a network's end is found out."""


def _space(tensor: Tensor) -> tuple[int, ...]:
    return tuple(range(2, tensor.ndim))


def average(scores: Tensor) -> Tensor:
    """Mean over places: (B, K, *places) to (B, K)."""
    return scores.mean(_space(scores))


def maximum(scores: Tensor) -> Tensor:
    """Highest place: (B, K, *places) to (B, K)."""
    return scores.amax(_space(scores))


def log_sum_exp(scores: Tensor) -> Tensor:
    """Log-sum-exp over places, normalised by their number: between mean and maximum.

    (1/r) · log(mean(exp(r · s))), (B, K, *places) to (B, K), with r = `SHARPNESS`.

    References
    ----------
    Pinheiro and Collobert, "From image-level to pixel-level labeling", CVPR 2015.
    """
    places = scores.shape[2:].numel()
    return ((SHARPNESS * scores).logsumexp(_space(scores)) - math.log(places)) / SHARPNESS


def top_mean(scores: Tensor) -> Tensor:
    """Mean of the highest tenth of the places, at least of one: (B, K, *places) to (B, K)."""
    flat = scores.flatten(2)
    return flat.topk(max(1, round(TOP * flat.shape[2])), dim=2).values.mean(2)


def generalised_mean(features: Tensor) -> Tensor:
    """(mean(x³))^(1/3) over places of each channel: (B, C, *places) to (B, C).

    Features below 1e-6 count as 1e-6.

    References
    ----------
    Radenović et al., "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2018.
    """
    return features.clamp(min=1e-6).pow(POWER).mean(_space(features)).pow(1 / POWER)


OF_SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "avg": average,
    "max": maximum,
    "lse": log_sum_exp,
    "topk": top_mean,
}
"""Pools of class scores by name; ``gem``, which pools features, is beside them."""


def score_places(features: Tensor, linear: nn.Linear | nn.Conv2d | nn.Conv3d, pool: str) -> Scored:
    """Apply a linear layer at every place of a map, and pool.

    Parameters
    ----------
    features : (B, C, *places) Tensor
    linear : nn.Linear, or a convolution of one place
        From C to K.
    pool : str
        One of `OF_SCORES`, or ``gem``.

    Returns
    -------
    Scored
        In single precision, whatever the precision of the network.
    """
    weight = linear.weight.flatten(1)
    at_places, sides = (F.conv2d, 2) if features.ndim == 4 else (F.conv3d, 3)
    places = at_places(features, weight.view(*weight.shape, *[1] * sides), linear.bias).float()
    if pool == "gem":
        pooled = generalised_mean(features.float())
        return Scored(F.linear(pooled, weight, linear.bias).float(), places)
    return Scored(OF_SCORES[pool](places), places)


class Scored(NamedTuple):
    """What a head says: logits (B, K), and the class-score map (B, K, h, w) behind them."""

    logits: Tensor
    places: Tensor


class ClassifierOutput(NamedTuple):
    """What a classifier says before its exits are averaged.

    Attributes
    ----------
    logits : Tensor
        (B, K) of the network itself.
    exits : list of Tensor
        (B, K) of every exit, shallow to deep.
    places : Tensor or None
        The network's class-score map (B, K, h, w), before it is pooled; None for the pool
        ``default``.
    """

    logits: Tensor
    exits: list[Tensor]
    places: Tensor | None

    def mean(self) -> Tensor:
        """The logits that all heads give together."""
        if not self.exits:
            return self.logits
        return torch.stack([self.logits.float(), *self.exits]).mean(0)


@dataclass(frozen=True)
class Head:
    """How a network ends.

    Attributes
    ----------
    trunk : tuple of str
        The children that lead to the last map, in their order.
    relu : bool
        Whether a ReLU stands behind them that is no module (DenseNet).
    dropout : float
        Before the linear layer.
    linear : str
        Name of the last linear layer or 1x1 convolution.
    """

    trunk: tuple[str, ...]
    relu: bool
    dropout: float
    linear: str

    def score(self, net: nn.Module, x: Tensor, pool: str) -> Scored:
        """Logits and class-score map of normalised images (B, C, H, W)."""
        linear: Any = net.get_submodule(self.linear)
        features = last_map(net, self.trunk, x)
        if self.relu:
            features = features.relu()
        # The network itself drops pooled features, so that a channel goes at all places at once;
        # where it ends in a convolution it drops each place alone.
        whole = F.dropout2d if features.ndim == 4 else F.dropout3d
        drop = whole if isinstance(linear, nn.Linear) else F.dropout
        return score_places(drop(features, self.dropout, net.training), linear, pool)


def last_map(net: nn.Module, trunk: Sequence[str], x: Tensor) -> Tensor:
    """Run children of a network one after the other."""
    for name in trunk:
        x = net.get_submodule(name)(x)
    return x


def find_head(net: nn.Module, channels: int, arch: str) -> Head:
    """How a network ends in an average over places and one linear layer.

    Its structure proposes, and a run on noise decides: what reaches the linear layer must be the
    average of the last map.

    Parameters
    ----------
    net : nn.Module
        Left as it was.
    channels : int
        Of its input.
    arch : str
        For messages.

    Raises
    ------
    ConfigError
        If it does not end so.
    """
    children = dict(net.named_children())
    bearing = [name for name, child in children.items() if any(True for _ in child.parameters())]
    tail = nn.Dropout | nn.Identity | nn.AdaptiveAvgPool2d | nn.Flatten
    behind = [
        (name, module)
        for name, module in net.named_modules()
        if name.split(".")[0] == bearing[-1] and not any(True for _ in module.children())
    ]
    linear = [(n, m) for n, m in behind if not isinstance(m, tail)]
    if len(bearing) < 2 or len(linear) != 1 or not _is_linear(linear[0][1]):
        raise _no_head(arch, f"it ends in {', '.join(type(m).__name__ for _, m in behind)}")
    names = list(children)
    trunk = tuple(names[: names.index(bearing[-2]) + 1])
    loose = [(n, m) for n, m in children.items() if n not in trunk and n != bearing[-1]]
    dropout = next((m.p for _, m in [*loose, *behind] if isinstance(m, nn.Dropout)), 0.0)
    own, features = _probe(net, linear[0][1], trunk, channels, arch)
    for relu in (False, True):
        averaged = average(features.relu() if relu else features)
        if averaged.shape == own.shape and (averaged - own).abs().max() <= 1e-4 * own.abs().max():
            return Head(trunk, relu, dropout, linear[0][0])
    raise _no_head(arch, "another way from its last map to its linear layer")


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (
        isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
    )


def _probe(
    net: nn.Module, linear: nn.Module, trunk: Sequence[str], channels: int, arch: str
) -> tuple[Tensor, Tensor]:
    """What reaches the linear layer (1, C), averaged if it is a map, and the last map."""
    # A generator of its own: the weights that are drawn next must not depend on this look.
    noise = torch.rand(1, channels, _PROBE, _PROBE, generator=torch.Generator().manual_seed(0))
    reached: list[Tensor] = []
    handle = linear.register_forward_pre_hook(lambda _m, inputs: reached.append(inputs[0]))
    try:
        with torch.no_grad(), evaluating(net):
            net(noise)
            features = last_map(net, trunk, noise)
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as e:
        if lacks_memory(e):
            raise
        raise _no_head(arch, first_line(e)) from None
    finally:
        handle.remove()
    if features.ndim != 4:
        raise _no_head(arch, f"a last map of shape {tuple(features.shape)}")
    own = reached[0]
    return average(own) if own.ndim == 4 else own.flatten(1), features


def _no_head(arch: str, found: str) -> ConfigError:
    return ConfigError(
        f"{arch} does not score places.",
        where="classifier.pool",
        found=found,
        expected="an average over places and one linear layer at the network's end",
        fix="set classifier.pool: default, or another classifier.arch, for example resnet18",
    )


def make_auxiliary_heads(
    net: nn.Module, layers: Sequence[str], channels: int, classes: int
) -> nn.ModuleList:
    """A 1x1 convolution to class scores for each of some layers.

    Parameters
    ----------
    net : nn.Module
    layers : sequence of str
        Below ``net``; their output is a map.
    channels : int
        Of the images.
    classes : int

    References
    ----------
    Chen et al., "AME-CAM: attentive multiple-exit CAM", MICCAI 2023.
    """
    shapes = maps_of_layers(net, layers, channels)
    for name, shape in shapes.items():
        if len(shape) != 4 or shape[2] != shape[3]:
            raise ConfigError(
                "Exits need layers of shape (batch, channels, height, width).",
                where="classifier.exits",
                found=f"{name}: {shape}",
                fix="leave classifier.exits out, or choose a convolutional network",
            )
    return nn.ModuleList(nn.Conv2d(shape[1], classes, 1) for shape in shapes.values())


def maps_of_layers(
    net: nn.Module, layers: Sequence[str], channels: int
) -> dict[str, tuple[int, ...]]:
    """The shapes of what some layers give, of an image of `_PROBE` pixels."""
    maps: list[Tensor] = []
    with torch.no_grad(), evaluating(net), _hooks(net, layers, maps.append):
        net(torch.zeros(1, channels, _PROBE, _PROBE))
    return {name: tuple(m.shape) for name, m in zip(layers, maps, strict=True)}


@contextlib.contextmanager
def collect_auxiliary(
    net: nn.Module, layers: Sequence[str], exits: nn.ModuleList, pool: str
) -> Iterator[list[Tensor]]:
    """Collect the logits of exits while a network runs.

    Parameters
    ----------
    net : nn.Module
    layers : sequence of str
        Whose maps the exits score, in the order in which they run.
    exits : nn.ModuleList
        One a layer.
    pool : str
        ``default`` takes the average.

    Yields
    ------
    list of Tensor
        (B, K) each, filled by the run. No hook is left behind.
    """
    logits: list[Tensor] = []
    how = "avg" if pool == "default" else pool

    def score(features: Tensor) -> None:
        head: Any = exits[len(logits)]
        logits.append(score_places(features, head, how).logits)

    with _hooks(net, layers, score):
        yield logits


@contextlib.contextmanager
def _hooks(net: nn.Module, layers: Sequence[str], take: Callable[[Tensor], None]) -> Iterator[None]:
    """Give the output of each of some layers to a function."""
    handles = [
        net.get_submodule(name).register_forward_hook(lambda _m, _i, out: take(out))
        for name in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
