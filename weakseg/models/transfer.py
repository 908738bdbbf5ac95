"""Weights from elsewhere for a classifier: copied where they fit, and each mismatch named."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from weakseg.errors import DataError
from weakseg.models.classifier import Classifier
from weakseg.models.states import Match, load_tensors, match, refuse_not_finite, tell

_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
"""Heads that older networks have for their training, and that are not used here."""

_HEADS = ("fc", "classifier", "head", "heads", "last_linear", "head_dist", "output", "logits")
"""What a last layer is called, in our networks and elsewhere."""


def load_pretrained(model: Classifier, state: Mapping[str, Tensor], source: str) -> list[str]:
    """Copy weights of a network that was trained on other classes.

    Every tensor must fit but those of the head, which stays random where the file has none, or one
    of another form or number of classes; the auxiliary heads of older networks are not used. Exits
    stay random where the source has none that fit. A first layer for three colours is summed where
    ours takes one.

    Parameters
    ----------
    model : Classifier
    state : dict of Tensor
        Names as in torchvision (also of its earlier versions) or timm, or as weakseg saves them;
        anything may stand before all of them.
    source : str
        Where it comes from, for messages.

    Returns
    -------
    list of str
        The tensors that stayed random.

    Raises
    ------
    DataError
        If the weights belong to another network, are for images of other channels or of another
        size, or are no finite numbers.
    """
    own = model.net.state_dict()
    matched = match(own, state)
    heads = head_modules(model.net, len(model.spec.labels))
    tops = {h.partition(".")[0] for h in heads}
    lacking = {*matched.missing, *matched.other}
    random = _anew(own, lacking, heads, tops)
    _refuse_foreign(model, matched, lacking - random, tops, source)
    fitting = {k: v for k, v in matched.fitting.items() if k not in random}
    own_exits = model.exits.state_dict(prefix="exits.")
    exits = {k: state[k] for k, v in own_exits.items() if k in state and state[k].shape == v.shape}
    refuse_not_finite(fitting | exits, source)
    load_tensors(model.net, fitting, strict=False)
    load_tensors(model, exits, strict=False)
    return [*(k for k in own if k in random), *(k for k in own_exits if k not in exits)]


def _anew(
    own: Mapping[str, Tensor], lacking: set[str], heads: tuple[str, ...], tops: set[str]
) -> set[str]:
    """The tensors of the head that are not taken: of a head that does not fit, none is."""
    last = {k for k in own if k.startswith(tuple(f"{h}." for h in heads))}
    head = {k for k in own if k.partition(".")[0] in tops}
    if lacking & (head - last) and len(head) < len(own):
        return head
    return last if lacking & last else set()


def head_modules(net: nn.Module, classes: int) -> tuple[str, ...]:
    """Names of the last layers: as timm tells them, else the last module with that many outputs."""
    classifier = (getattr(net, "pretrained_cfg", None) or {}).get("classifier")
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier or ())
    modules = dict(net.named_modules())
    if names and all(n in modules for n in names):
        return names
    last = ""
    for name, module in modules.items():
        out = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d) and out == classes:
            last = name
    return (last,)


def _refuse_foreign(
    model: Classifier, found: Match, lacking: set[str], tops: set[str], source: str
) -> None:
    """Refuse weights that lack something of a network's body, or have more than it."""
    heads = tops | set(_HEADS)
    unknown = [
        k
        for k in found.unknown
        if k.partition(".")[0] not in heads and not k.startswith(_AUXILIARY)
    ]
    if not lacking and not unknown:
        return
    own = model.net.state_dict()
    other = {k: v for k, v in found.other.items() if k in lacking}
    if not unknown and len(other) == len(lacking):
        _refuse_channels(model, own, other, source)
        _refuse_size(own, other, source)
    raise foreign(
        model.spec.arch,
        source,
        fit_words(found, own, lacking, unknown),
        "set classifier.arch to the network that the weights were made for",
    )


def foreign(arch: str, source: str, found: str, fix: str) -> DataError:
    """What is wrong with weights of another network."""
    return DataError(
        f"The weights do not belong to {arch}.",
        where=source,
        found=found,
        expected=f"the tensors of {arch}",
        fix=fix,
    )


def fit_words(
    found: Match, own: Mapping[str, Tensor], lacking: set[str], unknown: list[str]
) -> str:
    """How many of a network's tensors a file has, with examples of what is wrong."""
    wrong = [
        f"{k}: {tuple(found.other[k].shape)}, not {tuple(own[k].shape)}"
        for k in own
        if k in found.other and k in lacking
    ]
    missing = [k for k in own if k in lacking and k not in found.other]
    parts = [f"{len(found.fitting)} of its {len(own)} tensors fit"]
    parts += [f"of another shape: {tell(wrong)}"] if wrong else []
    parts += [f"no tensor {tell(map(repr, missing))}"] if missing else []
    parts += [f"unknown: {tell(map(repr, unknown))}"] if unknown else []
    return "; ".join(parts)


def first_layer_channels(
    own: Mapping[str, Tensor], other: Mapping[str, Tensor], channels: int
) -> int | None:
    """For images of how many channels weights are, where that is all that is wrong with them."""
    for name, tensor in other.items():
        want, have = own[name].shape, tensor.shape
        alike = len(want) == len(have) >= 4 and want[0] == have[0] and want[2:] == have[2:]
        if not alike or want[1] != channels:
            return None
    return int(next(iter(other.values())).shape[1]) if other else None


def _refuse_channels(
    model: Classifier, own: Mapping[str, Tensor], other: Mapping[str, Tensor], source: str
) -> None:
    takes = model.spec.net_channels
    given = first_layer_channels(own, other, takes)
    if given is None:
        return
    if given == model.spec.channels:
        fix = "set classifier.grey_input: first-layer, where the network can take one channel"
    else:
        fix = "take weights for images of three colours, or for images like these"
    raise DataError(
        "The weights are for images of another number of channels.",
        where=f"{source}, tensor {next(iter(other))!r}",
        found=f"{given} {'channel' if given == 1 else 'channels'}",
        expected=f"{takes}, or 3 colours" if takes == 1 else str(takes),
        fix=fix,
    )


def _refuse_size(own: Mapping[str, Tensor], other: Mapping[str, Tensor], source: str) -> None:
    if not all("pos_emb" in k or "relative_position" in k for k in other):
        return
    name = next(iter(other))
    raise DataError(
        "The weights are for images of another size: their table of positions is another.",
        where=f"{source}, tensor {name!r}",
        found=str(tuple(other[name].shape)),
        expected=str(tuple(own[name].shape)),
        fix="set classifier.arch to the form of the network for that size",
    )
