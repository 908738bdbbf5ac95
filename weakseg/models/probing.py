"""Looking at a network's tensors once: which of them are maps, and which lead to the class scores.

An image is changed everywhere alike, more and more from top to bottom, and more and more from left
to right; what changes in a tensor accordingly has a place. This asks how a network is built and not
what it has learnt: it runs with weights drawn for the purpose, so that the answer is the same
before training and after, and what attention gathers from elsewhere is small beside a place's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from weakseg.models.modes import evaluating
from weakseg.models.outputs import class_scores
from weakseg.models.space import Space, recognise

DRAWS = 2
"""Ways to change the image whose effects are added."""

CHANGE = 0.02
"""The share of the image that is changed: so little that networks are nearly linear, and well above
the rounding of TF32."""

BRIGHT = 30.0
"""Of the image."""

SMALL = 4
"""The side of a map, channels first, that is known by its shape where nothing else shows it."""

POOL = 1_000_003
"""Numbers that are drawn for all weights together; a prime, so that no two rows are alike."""


@dataclass(frozen=True)
class Seen:
    """What a layer did with an image.

    Attributes
    ----------
    runs : int
        How often it ran.
    shape : tuple of int
        Of what it gave with a batch of one; of windows and the like, which have none, as it was.
    type : str
        Of what it gave.
    space : Space or None
        None for what is no map.
    """

    runs: int
    shape: tuple[int, ...]
    type: str
    space: Space | None

    @property
    def found(self) -> str:
        """What it gave, as words."""
        return str(self.shape) if self.shape else self.type


def look(
    net: nn.Module, layers: Mapping[str, nn.Module], image_shape: Sequence[int]
) -> dict[str, Seen]:
    """What the outputs of some layers are.

    Parameters
    ----------
    net : nn.Module
        Gives class scores; left as it was.
    layers : mapping of str to nn.Module
        Parts of ``net``.
    image_shape : sequence of int
        (C, H, W) of an image.

    Returns
    -------
    dict of Seen
        In the order in which the layers end their work, without those that do not run.

    Raises
    ------
    Exception
        Whatever the network raises at such images.
    """
    kind = next((p for p in net.parameters() if p.is_floating_point()), torch.empty(0))
    images = _changed(image_shape).to(kind.device, _precision(kind))
    full = torch.autocast(kind.device.type, enabled=False)
    with torch.inference_mode(False), evaluating(net), full:
        seen: dict[str, Seen] = {}
        for weights in WEIGHTS:
            with torch.no_grad():
                seen_at = _seen(net, state := weights(net), layers, images)
            placed = {n: s for n, s in seen.items() if s.space is not None}
            seen = {n: placed.get(n, s) for n, s in seen_at.items()}
            if not any(_could_be_map(s, image_shape) for s in seen.values()):
                break
        seen = {n: _small_map(s) if _could_be_map(s, image_shape) else s for n, s in seen.items()}
        maps = {n: s.space for n, s in seen.items() if s.space is not None and s.runs == 1}
        living = _living(net, state, {n: layers[n] for n in maps}, images[:1], maps)
    for name, space in maps.items():
        seen[name] = replace(seen[name], space=replace(space, alive=name in living))
    return seen


def shapes(
    net: nn.Module, layers: Mapping[str, nn.Module], image_shape: Sequence[int]
) -> dict[str, Seen]:
    """`look` at layers that are known to give maps (B, C, *grid): only their sizes are seen."""
    seen: dict[str, Seen] = {}

    def note(name: str, output: Tensor) -> None:
        before = seen[name].runs if name in seen else 0
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        is_map = len(shape) == 1 + len(image_shape) and output.shape[2:].numel() > 1
        space = Space(shape[1:], 1, tuple(map(int, shape[2:]))) if is_map else None
        seen[name] = Seen(before + 1, shape, "Tensor", space)

    weight = next((p for p in net.parameters() if p.is_floating_point()), torch.empty(0))
    with torch.inference_mode(False), torch.no_grad(), evaluating(net), _listening(layers, note):
        net(weight.new_zeros(1, *image_shape))
    return seen


def _seen(
    net: nn.Module, state: dict[str, Tensor], layers: Mapping[str, nn.Module], images: Tensor
) -> dict[str, Seen]:
    """What a network with other weights does with the changed images."""
    seen: dict[str, Seen] = {}
    size = (int(images.shape[2]), int(images.shape[3]))

    def note(name: str, output: Any) -> None:
        before = seen[name].runs if name in seen else 0
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        if shape[:1] != (len(images),):
            seen[name] = Seen(before + 1, shape, type(output).__name__, None)
            return
        changes = (output[1:] - output[:1]).float().cpu().unflatten(0, (DRAWS, 3))
        seen[name] = Seen(before + 1, (1, *shape[1:]), "Tensor", recognise(changes, size))

    with _listening(layers, note):
        functional_call(net, state, (images,))
    return seen


def _could_be_map(seen: Seen, image_shape: Sequence[int]) -> bool:
    """Whether an unrecognised tensor has the proportions of the image."""
    if seen.space is not None or seen.runs != 1 or len(seen.shape) != 4:
        return False
    height, width = image_shape[-2:]
    sides = (seen.shape[2:], seen.shape[1:3])
    return any(h * w > 1 and abs(h * width - w * height) <= max(height, width) for h, w in sides)


def _small_map(seen: Seen) -> Seen:
    """Of the image's proportions and `SMALL`: there every place sees all of the image."""
    channels, height, width = seen.shape[1:]
    if max(height, width) > SMALL or channels <= SMALL:
        return seen
    return replace(seen, space=Space((channels, height, width), 1, (height, width)))


def _living(
    net: nn.Module,
    state: dict[str, Tensor],
    layers: Mapping[str, nn.Module],
    image: Tensor,
    maps: Mapping[str, Space],
) -> set[str]:
    """The maps whose places have a gradient."""
    tensors: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> Tensor:
        tensors[name] = output if output.requires_grad else output.detach().requires_grad_(True)
        # A copy goes on, for an in-place ReLU behind the layer would change what is held.
        return tensors[name].clone()

    with torch.enable_grad(), _listening(layers, keep):
        scores = class_scores(functional_call(net, state, (image,)))
        weights = torch.linspace(1, 2, scores.numel(), device=scores.device).view_as(scores)
        total = (scores * weights).sum()
    if not tensors or not total.requires_grad:
        return set()
    gradients = torch.autograd.grad(total, list(tensors.values()), allow_unused=True)
    return {
        name
        for name, gradient in zip(tensors, gradients, strict=True)
        if gradient is not None and maps[name].as_map(gradient).any()
    }


def _changed(image_shape: Sequence[int]) -> Tensor:
    """An image, and it changed everywhere, towards the bottom and towards the right."""
    draw = torch.Generator().manual_seed(0)
    image, *others = BRIGHT * torch.rand(1 + DRAWS, *image_shape, generator=draw)
    rows = torch.linspace(0, 1, image_shape[-2])[:, None]
    columns = torch.linspace(0, 1, image_shape[-1])
    changes = [CHANGE * (other - image) for other in others]
    return torch.stack([image, *(image + how * c for c in changes for how in (1, rows, columns))])


def _precision(weight: Tensor) -> torch.dtype:
    """Half precision would round the changes away."""
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


def _drawn_weights(
    net: nn.Module, *, matrix: float = 0.5, kernel: float = 0.5, varied: bool = False
) -> dict[str, Tensor]:
    """Weights that keep every layer's signal alive: scales of 1, biases of 0, the rest drawn.

    Parameters
    ----------
    matrix, kernel : float, optional
        What a layer makes of the image, which is of `BRIGHT`: what blocks add to the stream, which
        start from normalised input, is to be small beside it.
    varied : bool, optional
        Whether the weights of a kernel differ in more than a factor.
    """
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(0))
    drawn = {}
    for name, p in net.named_parameters():
        if not p.is_floating_point():
            continue
        if p.ndim < 2:
            value = torch.full(p.shape, 0.0 if name.endswith("bias") else 1.0)
        else:
            numbers = pool.repeat(-(-p.numel() // POOL))[: p.numel()].view(p.shape)
            gain = matrix if p.ndim < 4 else kernel
            value = gain * (p.shape[0] / max(1, p.numel())) ** 0.5 * numbers
            value = value if p.ndim < 4 else _centred(value, alike=not varied)
        drawn[name] = value.to(p.device, _precision(p))
    blank = {"running_mean": torch.zeros_like, "running_var": torch.ones_like}
    return drawn | _buffers(net, blank)


def _own_weights(net: nn.Module) -> dict[str, Tensor]:
    own = {n: p.detach() for n, p in net.named_parameters() if p.is_floating_point()}
    return {n: p.to(_precision(p)) for n, p in own.items()} | _buffers(net, {})


def _buffers(net: nn.Module, blank: Mapping[str, Callable[[Tensor], Tensor]]) -> dict[str, Tensor]:
    """Buffers in the precision of the weights, those of some names blank."""
    return {
        name: blank.get(name.rpartition(".")[2], torch.clone)(b).to(_precision(b))
        for name, b in net.named_buffers()
        if b.is_floating_point()
    }


WEIGHTS: tuple[Callable[[nn.Module], dict[str, Tensor]], ...] = (
    _drawn_weights,
    partial(_drawn_weights, matrix=0.25, kernel=1.4),
    partial(_drawn_weights, matrix=0.25, kernel=1.4, varied=True),
    _own_weights,
)
"""The networks that are looked at until all that could be maps have shown themselves as such. What
one hides (a norm that leaves a sign, gates that drown a coarse map) another shows, and tensors that
are no maps are so in all; most need the first only."""


def _centred(weight: Tensor, *, alike: bool) -> Tensor:
    """Weights of a convolution that looks at the middle of its kernel above all.

    Else a deep network's coarse maps would see the whole image at every place. With ``alike`` the
    weights of a kernel have one sign: so no place is lost, but of a grey image the first layer
    gives one number many times, of which a norm would leave the sign.
    """
    sizes = weight.shape[2:]
    if alike:
        weight = weight.mean(tuple(range(2, weight.ndim)), keepdim=True) * sizes.numel() ** 0.5
    for axis, n in enumerate(sizes, start=2):
        bump = torch.exp(-18 * ((torch.arange(n) - (n - 1) / 2) / n).square())
        bump = bump / bump.square().mean().sqrt()
        weight = weight * bump.view([n if a == axis else 1 for a in range(weight.ndim)])
    return weight


@contextlib.contextmanager
def _listening(
    layers: Mapping[str, nn.Module], keep: Callable[[str, Any], Tensor | None]
) -> Iterator[None]:
    """Give the output of each layer to a function, and let what it gives go on instead."""

    def hook(name: str) -> Any:
        return lambda _module, _inputs, output: keep(name, output)

    handles = [module.register_forward_hook(hook(name)) for name, module in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
