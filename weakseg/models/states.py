"""Tensors of networks by name, as files of many programs have them.

What belongs to a network is found among a file's names whatever stands before them: ``module.`` of
a parallel training, ``backbone.``, ``encoder.``, ``_orig_mod.`` of a compiled one, ``net.`` of
weakseg's own classifiers.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from weakseg.errors import DataError
from weakseg.models.grey import summed

_OLD_NAMES: tuple[tuple[re.Pattern[str], str], ...] = (
    # torchvision's DenseNet files; it renames them too, as a dot may not stand in a module's name.
    (re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),
    # torchvision's ViT before 0.14.
    (re.compile(r"^(.*encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"^(.*encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)
"""Names of earlier versions of torchvision, and what they are today."""

_COUNTS = "num_batches_tracked"
"""Of batch normalisation: files from before torch 0.4.1 have none, and evaluation needs none."""

_TABLES = ("relative_position_index", "attn_mask", "relative_coords_table", _COUNTS)
"""Tensors that networks make by themselves: some versions write them to files and others not."""


def present_name(name: str) -> str:
    """The name that a tensor of an earlier version has today."""
    for pattern, today in _OLD_NAMES:
        name = pattern.sub(today, name)
    return name


@dataclass(frozen=True)
class Match:
    """What a file has for a network.

    Attributes
    ----------
    prefix : str
        What stands before the network's names in the file.
    fitting : dict of Tensor
        By the network's names, of its shapes.
    missing : list of str
        Tensors of the network that the file has not; counts of batches are none.
    other : dict of Tensor
        The file's, by the network's names, where the shape is another.
    unknown : list of str
        Names behind the prefix that the network has not.
    """

    prefix: str
    fitting: dict[str, Tensor]
    missing: list[str]
    other: dict[str, Tensor]
    unknown: list[str]


def match(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Match:
    """Find the tensors of a network among those of a file.

    Parameters
    ----------
    own : mapping of Tensor
        Of the network.
    state : mapping of Tensor
        Of the file; colours of a first layer are summed where the network takes one channel.
    """
    state = {present_name(k): v for k, v in state.items()}
    prefix = _prefix(own, state)
    given = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
    fitting: dict[str, Tensor] = {}
    other: dict[str, Tensor] = {}
    for name in own.keys() & given.keys():
        tensor = _for_one_channel(given[name], own[name])
        (fitting if tensor.shape == own[name].shape else other)[name] = tensor
    return Match(
        prefix,
        {k: v.to(own[k].dtype) for k, v in fitting.items()},
        [k for k in own if k not in given and not k.endswith(_TABLES)],
        other,
        [k for k in given if k not in own and not k.endswith(_TABLES)],
    )


def _prefix(own: Iterable[str], state: Iterable[str]) -> str:
    """What stands before most of the network's names; the shortest of equal ones."""
    names, prefixes = set(own), Counter[str]()
    for name in state:
        starts = [0, *(i + 1 for i, letter in enumerate(name) if letter == ".")]
        prefixes.update(name[:i] for i in starts if name[i:] in names)
    return max(prefixes, key=lambda p: (prefixes[p], -len(p))) if prefixes else ""


def _for_one_channel(given: Tensor, own: Tensor) -> Tensor:
    if given.ndim == own.ndim == 4 and given.shape[1] == 3 and own.shape[1] == 1:
        return summed(given)
    return given


def load_tensors(net: nn.Module, state: Mapping[str, Tensor], strict: bool = True) -> None:
    """Copy tensors into a network by the names that it has today.

    Some networks of torchvision ask a file for the version of its names, which safetensors do not
    hold: these names are the network's own.

    Raises
    ------
    RuntimeError
        If they do not fit; with ``strict``, if one is missing.
    """
    tensors: Any = OrderedDict(state)
    tensors._metadata = getattr(net.state_dict(), "_metadata", None)
    # Not the encoders' own methods of segmentation_models_pytorch, which take no `strict`.
    nn.Module.load_state_dict(net, tensors, strict=strict)


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a NaN or an infinite value."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return None


def refuse_not_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights with a NaN or an infinite value.

    Raises
    ------
    DataError
        That names the tensor.
    """
    if (name := not_finite(state)) is not None:
        bad = int((~torch.isfinite(state[name])).sum())
        raise DataError(
            "The weights hold values that are no finite numbers.",
            where=f"{source}, tensor {name!r}",
            found=f"NaN or infinity in {bad} of {state[name].numel()} values",
            expected="finite numbers",
            fix="take an earlier checkpoint of that training, from before it diverged",
        )


def tell(names: Iterable[str], most: int = 3) -> str:
    """Some names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
