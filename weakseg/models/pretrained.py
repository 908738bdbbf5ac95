"""Weights from elsewhere for the part of a segmentation network that a classifier shares."""

from __future__ import annotations

from torch import Tensor, nn

from weakseg.errors import ConfigError, UserError
from weakseg.models.encoder_unet import EncoderUNet
from weakseg.models.fcn import FCN, TorchvisionSegmenter
from weakseg.models.segmenters import find_segmenter


def backbone_of(net: nn.Module) -> nn.Module | None:
    """The part that is a classifier without its head; None where the network has none."""
    if isinstance(net, EncoderUNet):
        return net.encoder
    if isinstance(net, FCN):
        return net.backbone
    if isinstance(net, TorchvisionSegmenter):
        return net.net.get_submodule("backbone")
    return None


def backbone_name(arch: str) -> str:
    """The classifier that a segmentation network is built on.

    Raises
    ------
    ConfigError
        If it has none, so that ImageNet weights have no place in it.
    """
    _, backbone = find_segmenter(arch)
    if backbone:
        return backbone
    if arch.endswith("_resnet50"):
        return "resnet50"
    raise ConfigError(
        f"{arch} has no backbone that ImageNet weights could fill.",
        where="segmenter.weights",
        fix="set weights: none, or choose encoder-unet or an FCN",
    )


def load_backbone(net: nn.Module, state: dict[str, Tensor], source: str) -> list[str]:
    """Copy weights into a segmentation network.

    Parameters
    ----------
    net : nn.Module
    state : dict of Tensor
        Of the same network as weakseg saves it (all of it is copied), or of a classifier, named
        as in torchvision or timm or as weakseg saves classifiers (``net.`` before): then all of
        the backbone is copied, and the rest stays random. A first layer for three colours is
        summed where ours takes one.
    source : str
        Where it comes from, for messages.

    Returns
    -------
    list of str
        The parts that stayed random; empty where the whole network was loaded.

    Raises
    ------
    UserError
        If the weights belong to another network, or the network has no such part.
    """
    own = net.state_dict()
    if own.keys() == state.keys() and all(own[k].shape == state[k].shape for k in own):
        net.load_state_dict(state)
        return []
    backbone = backbone_of(net)
    if backbone is None:
        raise _foreign(source, "a network of other layers", "weights of this very network")
    names = backbone.state_dict()
    wanted = {n: n.removeprefix("model.") for n in names}
    state = {k.removeprefix("net."): v for k, v in state.items()}
    fitted = {}
    for name, elsewhere in wanted.items():
        given = state.get(elsewhere)
        if given is None and name.endswith("num_batches_tracked"):
            continue
        if given is None:
            raise _foreign(source, f"no tensor {elsewhere!r}", "weights of the named backbone")
        given, shape = given.float(), names[name].shape
        if given.shape != shape and given.ndim == 4 and given.shape[1] == 3:
            given = given.sum(1, keepdim=True)
        if given.shape != shape:
            raise _foreign(
                source, f"{elsewhere}: {tuple(given.shape)}", f"the shape {tuple(shape)}"
            )
        fitted[name] = given.to(names[name].dtype)
    backbone.load_state_dict(fitted, strict=False)
    loaded = {id(p) for p in backbone.parameters()}
    return sorted(
        {_part(net, n, backbone) for n, p in net.named_parameters() if id(p) not in loaded}
    )


def _part(net: nn.Module, parameter: str, backbone: nn.Module) -> str:
    """The module directly below the network, or beside the backbone, that a parameter is in."""
    first, *more = parameter.split(".")
    if any(m is backbone for m in net.get_submodule(first).modules()):
        return f"{first}.{more[0]}"
    return first


def _foreign(source: str, found: str, expected: str) -> UserError:
    return UserError(
        "The weights do not fit the segmentation network.",
        where=source,
        found=found,
        expected=expected,
        fix="name weights of the backbone behind the colon of `arch`, or weights: none",
    )
