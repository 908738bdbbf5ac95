"""``weakseg.explain``: where an image speaks for a class of anybody's classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from weakseg.api.explanation import Explanation, check_names
from weakseg.api.inputs import listed
from weakseg.api.preprocessing import Placement, Preprocessing, place, preprocessing_of
from weakseg.api.targets import class_names_of, read_classes, shown_names
from weakseg.data.images import scale_intensity
from weakseg.errors import ArgumentError, ConfigError
from weakseg.heatmaps.arguments import (
    read_images,
    read_layers,
    read_model,
    refuse_bad_scores,
    refuse_not_finite,
)
from weakseg.heatmaps.cam import FULLGRAD, LAYERLESS, METHODS, OCCLUSION, RELEVANCE, cams
from weakseg.heatmaps.fullgrad import fullgrad_maps
from weakseg.heatmaps.fuse import fuse
from weakseg.heatmaps.occlusion import occlusion_maps
from weakseg.heatmaps.relevance import relevance_maps
from weakseg.models.classifier import Classifier
from weakseg.models.modes import evaluating
from weakseg.models.outputs import class_scores

ACTIVATIONS = ("auto", "softmax", "sigmoid")
PREPARED = ("weights", "transform", "size", "mean", "std", "channels", "fit", "window")
"""Arguments that say how pictures are prepared."""


def explain(
    model: nn.Module,
    images: Any,
    target: Any = None,
    *,
    layer: Any = "auto",
    method: Any = "gradcam",
    score: str = "logit",
    class_names: Any = None,
    activation: str = "auto",
    weights: Any = None,
    transform: Any = None,
    size: Any = None,
    mean: Any = None,
    std: Any = None,
    channels: Any = None,
    fit: Any = None,
    intensity: str = "auto",
    window: Any = None,
) -> Any:
    """Heatmaps of any torch classifier, laid over the image.

    Parameters
    ----------
    model : nn.Module
        Gives class scores, (B, K) or as ``logits`` of something. Gradients, hooks and the training
        mode are left as they are.
    images : str, Path, ndarray, Tensor, PIL image, or a list of these
        A file of any format that weakseg reads, or a picture (M, N), (M, N, 3), (1, M, N) or
        (3, M, N): they are prepared as the arguments below say. A *float tensor* is taken for what
        the network takes, (C, H, W), or a batch (B, C, H, W), and left as it is.
    target : int, str or sequence of these, optional
        The class, or several that are explained together. Default: that of the highest score.
    layer : str, nn.Module or sequence of these, optional
        Of the network; ``auto`` is the last map before pooling. Maps of several are fused.
    method : str or sequence of str, optional
        One of ``weakseg.heatmaps.METHODS``, ``fullgrad``, ``occlusion`` or ``relevance``.
    score : {"logit", "log-odds"}, optional
        What is explained: the class's score, or by how much it leads all others.
    class_names : sequence of str, or mapping of int to str, optional
        In the order of the scores. Known of weakseg's own classifiers, of ``weights``, and where
        the network has ``class_names``, ``classes`` or ``config.id2label``.
    activation : {"auto", "softmax", "sigmoid"}, optional
        How scores become probabilities; ``auto``: softmax, of a single class sigmoid.
    weights, transform, size, mean, std, channels, fit, intensity, window
        How pictures are prepared, see `weakseg.api.preprocessing.preprocessing_of`. Default: as
        the network itself says (a weakseg classifier, a timm network); else ImageNet's mean and
        standard deviation of three channels, none of one, and a warning.

    Returns
    -------
    Explanation
        Of one image; of a list, or of a batch, a list of them.

    Raises
    ------
    ConfigError, ArgumentError
        For an argument that is not understood: with what was found, and the way out.
    DataError
        For images that cannot be read, or scores that are no numbers.

    Examples
    --------
    >>> import numpy as np, torchvision, weakseg as ws
    >>> model = torchvision.models.resnet18(num_classes=2)
    >>> picture = np.zeros((48, 64), dtype=np.uint8)
    >>> result = ws.explain(model, picture, 1, mean=0.5, std=0.25, size=96)
    >>> result.heatmap.shape, result.mask("otsu").shape
    ((48, 64), (48, 64))
    """
    net = read_model(model)
    if isinstance(net, Classifier) and net.spec.flat_arch != net.spec.arch:
        raise ConfigError(
            "explain takes classifiers of images, and this one is of volumes.",
            where="model",
            found=net.spec.arch,
            fix="weakseg.load_method(RUN).predict(VOLUME).map, or run.cases[NAME].heatmap()",
        )
    methods = check_names("method", method, [*METHODS, *LAYERLESS])
    if activation not in ACTIVATIONS:
        raise ArgumentError(
            f"There is no activation {activation!r}.",
            where="activation",
            expected=", ".join(ACTIVATIONS),
        )
    values = (weights, transform, size, mean, std, channels, fit, window)
    given = dict(zip(PREPARED, values, strict=True))
    some, single = listed(images)
    inputs: list[_Input] = []
    prepare: Preprocessing | None = None
    for name, one in some:
        if isinstance(one, Tensor) and one.is_floating_point():
            inputs.append(_of_tensor(net, name, one, given))
            continue
        prepare = prepare or preprocessing_of(net, **given, intensity=intensity)
        picture = prepare.read(one)
        tensor, where = prepare(picture)
        inputs.append(_Input(name, picture, read_images(net, tensor), where, prepare))
    found = [
        _explained(net, one, target, layer, methods, score, class_names, activation, weights)
        for one in inputs
    ]
    return found[0] if single else found


class _Input(NamedTuple):
    """An image, and what the network takes of it, (1, C, h, w)."""

    name: str
    picture: NDArray[Any]
    tensor: Tensor
    where: Placement
    prepare: Preprocessing | None


def _explained(
    net: nn.Module,
    one: _Input,
    target: Any,
    layer: Any,
    methods: Sequence[str],
    score: str,
    class_names: Any,
    activation: str,
    weights: Any,
) -> Explanation:
    refuse_not_finite(one.tensor)
    with torch.no_grad(), evaluating(net):
        logits = class_scores(net(one.tensor)).float()
    refuse_bad_scores(logits)
    count = logits.shape[1]
    names = class_names_of(net, class_names, weights, count)
    classes = (int(logits[0].argmax()),) if target is None else read_classes(target, names, count)
    layers: tuple[str, ...] = ()
    if any(m not in LAYERLESS for m in methods):
        named = read_layers(net, layer, one.tensor.shape[1:])
        layers = tuple(named)
    raw: dict[str, NDArray[np.float32]] = {}
    for method in methods:
        raw[method] = _raw(net, one.tensor, method, layers, classes, score)
    heats = {m: one.where.to_original(np.maximum(r, 0)) for m, r in raw.items()}
    shown = shown_names(names, count)
    said = _probabilities(logits[0], activation).cpu().numpy()
    return Explanation(
        one.name,
        one.picture,
        heats,
        raw,
        tuple(shown[k] for k in classes),
        pd.Series(said, index=pd.Index(shown, name="class"), name="probability"),
        layers,
        one.prepare,
    )


def _raw(
    net: nn.Module,
    tensor: Tensor,
    method: str,
    layers: Sequence[str],
    classes: tuple[int, ...],
    score: str,
) -> NDArray[np.float32]:
    if method in (OCCLUSION, RELEVANCE):
        low, high = tensor.min(), tensor.max()
        span = (high - low).clamp_min(torch.finfo(tensor.dtype).tiny)
        # Superpixels are looked for in [0, 1].
        with evaluating(net):
            unit, wrapped = (tensor - low) / span, _Scores(net, span, low)
            made = occlusion_maps if method == OCCLUSION else relevance_maps
            maps, _ = made(wrapped, unit, classes, score=score)
        return np.asarray(maps[0], dtype=np.float32)
    if method == FULLGRAD:
        zero = net.mean if isinstance(net, Classifier) else 0.0
        found, _ = fullgrad_maps(_Scores(net), tensor, classes, score=score, zero=zero)
        return found[0].float().cpu().numpy()
    several, _ = cams(net, list(layers), tensor, classes, method=method, score=score)
    return fuse(several)[0].float().cpu().numpy()


class _Scores(nn.Module):
    """A network whose answer is its class scores, of images that are scaled for it."""

    def __init__(self, net: nn.Module, span: Tensor | None = None, low: Tensor | None = None):
        super().__init__()
        self.net, self.span, self.low = net, span, low

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K)."""
        if self.span is not None and self.low is not None:
            images = images * self.span + self.low
        return class_scores(self.net(images))


def _probabilities(logits: Tensor, activation: str) -> Tensor:
    if activation == "sigmoid" or (activation == "auto" and len(logits) == 1):
        return logits.sigmoid()
    return logits.softmax(0)


def _of_tensor(net: nn.Module, name: str, tensor: Tensor, given: dict[str, Any]) -> _Input:
    wrong = [k for k, v in given.items() if v is not None and k not in ("weights", "channels")]
    if wrong:
        raise ArgumentError(
            "A float tensor is taken for what the network takes, and prepared no further.",
            where=", ".join(wrong),
            found=f"a tensor of shape {tuple(tensor.shape)}",
            fix="leave these arguments away, or hand over an array or a file",
        )
    batch = read_images(net, tensor.detach())
    if len(batch) != 1:
        raise ArgumentError(
            "One image was expected, and not a batch, in a list.",
            where="images",
            found=f"a tensor of shape {tuple(tensor.shape)}",
            fix="hand over the batch itself",
        )
    h, w = int(batch.shape[2]), int(batch.shape[3])
    planes = batch[0].float().cpu().numpy()
    refuse_not_finite(batch)
    picture = np.moveaxis(planes, 0, 2) if len(planes) == 3 else planes.mean(0)
    shown = scale_intensity(np.ascontiguousarray(picture), "percentile")
    return _Input(name, shown, batch, place((h, w), (h, w), "stretch"), None)
