"""Masks of another method, corrected by the network that is taught them (ADELE).

A network first learns what is common to its labels, and only later their faults. While it learns,
the IoU of its own masks with its labels rises along a (1 - exp(-b t ** c)); where that curve has
flattened, memorising begins, and the labels are corrected by what the network is sure of.

References
----------
Liu, Liu, Zhu, Shen, Fernandez-Granda, "Adaptive Early-Learning Correction for Segmentation from
Noisy Annotations", CVPR 2022. Without its consistency term over scales.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from weakseg.config import SegmenterConfig
from weakseg.config.correct import CorrectConfig
from weakseg.data.patches import IGNORE
from weakseg.data.targets import PackedTargets
from weakseg.progress import say
from weakseg.training.segmentation_cases import SegmentationCases, lesion_is_seen

LOOKED_AT = 512
"""Training images, evenly spaced, whose IoU is taken after every epoch."""

POINTS = 3
"""Epochs that the three parameters of the curve need at least."""

LATER = 10.0
"""How much more exactly the last epoch's IoU is fitted than the first one's."""

LEAST = 0.05
"""IoU below which a network has learnt nothing yet that could correct a label."""

Predict = Callable[..., Any]


@dataclass(frozen=True)
class Curve:
    """IoU = a (1 - exp(-b t ** c)) after t epochs.

    Attributes
    ----------
    a, c : float
        In [0, 1]; with such a c the slope never rises.
    b : float
        Not negative.
    """

    a: float
    b: float
    c: float

    def __call__(self, t: float) -> float:
        """The IoU after ``t`` > 0 epochs."""
        return float(_curve(np.float64(t), self.a, self.b, self.c))

    def slope(self, t: float) -> float:
        """The derivative at ``t`` > 0."""
        return float(self.a * self.b * self.c * t ** (self.c - 1) * np.exp(-self.b * t**self.c))

    def fall(self, t: float) -> float:
        """The share by which the slope at ``t`` is below that at 1; 0 for a curve without slope."""
        first = self.slope(1)
        return 1 - self.slope(t) / first if first > 0 else 0.0


def _curve(t: Any, a: float, b: float, c: float) -> Any:
    return a * (1 - np.exp(-b * t**c))


def fitted(ious: Sequence[float]) -> Curve | None:
    """The curve through the IoUs after epochs 1, 2, …

    Parameters
    ----------
    ious : sequence of float
        In [0, 1]. Least squares, in which the last is given `LATER` times the weight of the first.

    Returns
    -------
    Curve or None
        None for fewer than `POINTS` epochs, and where none is found.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    if len(ious) < POINTS:
        return None
    t = np.arange(1, len(ious) + 1, dtype=np.float64)
    try:
        with warnings.catch_warnings():
            # Of the parameters' covariance, which nobody asks for.
            warnings.simplefilter("ignore", OptimizeWarning)
            found, _ = curve_fit(
                _curve,
                t,
                np.asarray(ious, dtype=np.float64),
                p0=(1.0, 1.0, 1.0),
                sigma=np.geomspace(1, 1 / LATER, len(ious)),
                bounds=([0, 0, 0], [1, np.inf, 1]),
                method="trf",
            )
    except RuntimeError:
        return None
    return Curve(*(float(v) for v in found))


def it_is_time(ious: Sequence[float], share: float) -> bool:
    """Whether the slope of the fitted curve has fallen by more than a share since epoch 1.

    Never while the last IoU is below `LEAST`.
    """
    if not ious or ious[-1] < LEAST:
        return False
    curve = fitted(ious)
    return curve is not None and curve.fall(len(ious)) > share


def corrected(
    target: NDArray[np.uint8], p: NDArray[np.floating], settings: CorrectConfig, size: int
) -> NDArray[np.uint8]:
    """What a network is told of an image with a lesion from now on.

    Parameters
    ----------
    target : (H, W) ndarray of uint8
        0, 1 and `IGNORE`.
    p : (H, W) ndarray of float
        Probability of a lesion.
    settings : CorrectConfig
    size : int
        Longest side of images as the network sees them.

    Returns
    -------
    (H, W) ndarray of uint8
        Changed where the network is sure, ignored pixels too. As the image's label says that a
        lesion is there, a target of which the network would see none stays as it was.
    """
    made = np.where(p > settings.lesion, 1, target)
    made = np.where(1 - p > settings.background, 0, made).astype(np.uint8)
    return made if lesion_is_seen(made, size) else target


class Correction:
    """When the targets of a training are corrected, and what they are from then on.

    Parameters
    ----------
    config : SegmenterConfig
        Resolved, with ``correct``.
    data : SegmentationCases
        Of images; its targets are replaced.
    predict : callable
        `weakseg.training.segment.predict`.
    device : torch.device
    what : str
        For the line that tells of it.

    Attributes
    ----------
    ious : list of float
        One an epoch that is done.
    after : int or None
        The epoch after which targets were corrected; None as long as they were not.
    """

    def __init__(
        self,
        config: SegmenterConfig,
        data: SegmentationCases,
        predict: Predict,
        device: Any,
        what: str = "correct",
    ) -> None:
        assert config.correct is not None
        self.config, self.settings, self.data = config, config.correct, data
        self._predict, self._device, self._what = predict, device, what
        taught = sorted(data.targets)
        most = np.linspace(0, len(taught) - 1, min(len(taught), LOOKED_AT)).round().astype(int)
        self._looked_at = [taught[k] for k in most]
        self.ious: list[float] = []
        self.after: int | None = None
        self._targets = PackedTargets()

    def after_epoch(self, model: nn.Module) -> dict[str, float]:
        """Look at the network, and correct its labels if it is time.

        Parameters
        ----------
        model : nn.Module
            The one that is kept, in evaluation mode.

        Returns
        -------
        dict
            ``own_iou``, with the labels of this epoch, and ``corrected``, the share of the pixels
            of images with a lesion whose label changed after it.
        """
        self.ious.append(self._iou(model))
        share = 0.0
        if self.after is None and it_is_time(self.ious, self.settings.slope):
            self.after = len(self.ious)
            share, images = self._correct(model)
            say(
                f"{self._what}: labels corrected after epoch {self.after}: {100 * share:.2f} % of "
                f"the pixels, in {images} of {len(self.data.targets)} images"
            )
        return {"own_iou": self.ious[-1], "corrected": share}

    def _iou(self, model: nn.Module) -> float:
        """IoU of all the images together, ignored pixels left out; 0 where nothing is marked."""
        shared = either = 0
        plain = self.config.model_copy(update={"flips": "none"})
        for i, p in self._predict(model, self.data, self._looked_at, plain, self._device):
            truth = self.data.arrays(i).truth
            assert truth is not None
            known, mask, lesion = truth != IGNORE, p > 0.5, truth == 1
            shared += int((mask & lesion & known).sum())
            either += int(((mask | lesion) & known).sum())
        return shared / either if either else 0.0

    def _correct(self, model: nn.Module) -> tuple[float, int]:
        """Replace the targets; the share of pixels that changed, and in how many images."""
        new = PackedTargets()
        changed = pixels = images = 0
        for i, p in self._mean(model, sorted(self.data.targets)):
            old = self.data.targets[i]
            new[i] = corrected(old, p, self.settings, self.data.size)
            differ = int((new[i] != old).sum())
            changed, pixels, images = changed + differ, pixels + old.size, images + (differ > 0)
        self._teach(new)
        return changed / max(pixels, 1), images

    def _teach(self, targets: PackedTargets) -> None:
        self._targets = targets
        self.data.teach(targets)

    def _mean(self, model: nn.Module, indices: Sequence[int]) -> Any:
        """Probabilities on each case's own grid: the mean over sizes and mirrored copies."""
        mirrored = self.config.model_copy(update={"flips": "x"})
        sizes = self.settings.scales
        views = [self.data.of_size(round(self.data.size * s)) for s in sizes]
        each = [self._predict(model, v, indices, mirrored, self._device) for v in views]
        for answers in zip(*each, strict=True):
            i = answers[0][0]
            own = [v.original(i, p) for v, (_, p) in zip(views, answers, strict=True)]
            yield i, np.mean(own, axis=0, dtype=np.float32)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: the IoUs, and the targets once they are corrected, as bits."""
        targets = {
            i: (list(shape), torch.from_numpy(lesion), torch.from_numpy(left_open))
            for i, (shape, lesion, left_open) in self._targets.packed()
        }
        return {"ious": list(self.ious), "after": self.after, "targets": targets}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.ious = [float(v) for v in state["ious"]]
        self.after = None if state["after"] is None else int(state["after"])
        if self.after is None:
            return
        targets = PackedTargets()
        for i, (shape, lesion, left_open) in state["targets"].items():
            targets.put_packed(int(i), (tuple(shape), lesion.numpy(), left_open.numpy()))
        if set(targets) != set(self.data.targets):
            raise ValueError("the corrected targets are of other images")
        self._teach(targets)
