"""A pretrained network as it is, with a linear head that learns: a fixed extractor of features."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import nn

from weakseg.errors import DataError
from weakseg.models.classifier import Classifier
from weakseg.models.states import tell
from weakseg.models.transfer import head_modules


def refuse_random(model: Classifier, random: Sequence[str], source: str) -> None:
    """Refuse to freeze layers that the weights a classifier begins with do not have.

    Parameters
    ----------
    model : Classifier
        Not frozen yet.
    random : sequence of str
        The tensors that stayed random, see `weakseg.models.transfer.load_pretrained`.
    source : str
        Where the weights come from, for messages.

    Raises
    ------
    DataError
        With the first of them that would not learn.
    """
    heads = head_modules(model.net, len(model.spec.labels))
    learning = ("exits.", "attention.", *(f"{h}." for h in heads))
    stuck = [k for k in random if not k.startswith(learning)]
    if stuck:
        raise DataError(
            "Layers that classifier.freeze keeps as they are would be random numbers.",
            where=source,
            found=f"no weights for {tell(map(repr, stuck))}",
            expected=f"weights of every layer but the last ({', '.join(heads)})",
            fix="set classifier.freeze: false, or take weights of the whole network",
        )


def freeze(model: Classifier) -> list[str]:
    """Let only what ends a classifier learn, whatever its training asks of it.

    The weights of all other layers of its network have no gradient, and in training these layers
    run as in use: dropout drops nothing there, and the running statistics of batch normalisation
    neither change nor give way to those of a batch.

    Parameters
    ----------
    model : Classifier
        Changed in place. Exits, and what pools the slices of a volume, learn as well.

    Returns
    -------
    list of str
        The parameters that learn.
    """
    heads = head_modules(model.net, len(model.spec.labels))
    kept = {m for h in heads for m in model.net.get_submodule(h).modules()}
    frozen = {n for n, m in model.net.named_modules() if m not in kept}
    for module in _of(model, frozen):
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)

    # By name: the hook of a copy of the model is to find the copy's modules.
    def at_rest(model: nn.Module, _inputs: Any) -> None:
        for module in _of(model, frozen):
            module.training = False

    # A training loop puts every module into training at the beginning of an epoch.
    model.register_forward_pre_hook(at_rest)
    return [n for n, p in model.named_parameters() if p.requires_grad]


def _of(model: nn.Module, names: Collection[str]) -> list[nn.Module]:
    """The modules of a classifier's network by their names."""
    return [m for n, m in model.get_submodule("net").named_modules() if n in names]
