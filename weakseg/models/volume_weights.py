"""Classifiers that begin with weights from elsewhere: of images, also where they are of volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from weakseg.config.volume_archs import is_deep
from weakseg.models.classifier import Classifier, ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.transfer import load_pretrained
from weakseg.models.volume_classifiers import for_volumes


def pretrained_classifier(
    spec: ClassifierSpec, state: Mapping[str, Tensor], source: str
) -> tuple[Classifier, list[str]]:
    """A classifier with weights that were trained on other classes.

    Weights of images are inflated where its kernels have depth; such of volumes are taken as they
    are.

    Parameters
    ----------
    spec : ClassifierSpec
    state : mapping of str to Tensor
    source : str
        Where it comes from, for messages.

    Returns
    -------
    model : Classifier
    random : list of str
        The tensors that stayed random.

    Raises
    ------
    ConfigError, DataError
        See `build_classifier` and `load_pretrained`.
    """
    if spec.flat_arch == spec.arch or (is_deep(spec.arch) and _of_volumes(state)):
        model = build_classifier(spec)
        return model, load_pretrained(model, state, source)
    flat = build_classifier(replace(spec, arch=spec.flat_arch))
    random = load_pretrained(flat, state, source)
    model = for_volumes(flat, spec, draw=False)
    # The pool of slices is no part of any network of images.
    return model, [*random, *(k for k in model.state_dict() if k.startswith("attention."))]


def _of_volumes(state: Mapping[str, Tensor]) -> bool:
    return any(tensor.ndim == 5 for tensor in state.values())
