"""Probabilities of a network that was trained on patches in which lesions are too frequent."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def are_shares(sampled: float, true: float) -> bool:
    """Whether both priors are in (0, 1): else there is nothing that `recalibrate` could undo."""
    return 0 < min(sampled, true) <= max(sampled, true) < 1


def recalibrate(probability: npt.ArrayLike, sampled: float, true: float) -> npt.NDArray[np.float64]:
    """Undo the shift of the class prior that a sampler made.

    p' = (t/s) p / [(t/s) p + ((1 - t)/(1 - s)) (1 - p)]

    Parameters
    ----------
    probability : (M, N[, P]) array_like
        Of a lesion, in [0, 1].
    sampled, true : float
        Share of lesion voxels in the sampled patches (s) and in truth (t), in (0, 1).

    Returns
    -------
    (M, N[, P]) ndarray of float64
        In [0, 1], in the same order as ``probability``.

    Raises
    ------
    ValueError
        For a share that is not in (0, 1).

    References
    ----------
    Bertels, Robben, Lemmens, Vandermeulen, "Convolutional neural networks for medical image
    segmentation", arXiv 2211.09562.
    """
    for name, share in (("sampled", sampled), ("true", true)):
        if not 0 < share < 1:
            raise ValueError(f"{name} must be in (0, 1), got {share}")
    p = np.asarray(probability, dtype=np.float64)
    lesion = true / sampled * p
    rest = (1 - true) / (1 - sampled) * (1 - p)
    return lesion / (lesion + rest)
