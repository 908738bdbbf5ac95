"""A stand-in for pydensecrf2, which is compiled: the same field over every pair of pixels.

It has the package's names and arguments as far as weakseg asks for them, and is exact where the
package looks pairs up in a lattice; of small images alone, for its memory grows with their fourth
power. With it our way to the field is tested where nobody has compiled the package.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np


class DenseCRF2D:
    """Mean-field inference of a fully connected field, see Krähenbühl and Koltun, NeurIPS 2011."""

    def __init__(self, width: int, height: int, labels: int) -> None:
        self.places = np.indices((height, width)).reshape(2, -1).T.astype(float)
        self.labels, self.shape, self.pull = labels, (height, width), 0.0

    def setUnaryEnergy(self, energy) -> None:  # noqa: N802
        assert energy.dtype == np.float32
        assert energy.shape == (self.labels, len(self.places))
        self.energy = energy.astype(float)

    def addPairwiseGaussian(self, sxy: float, compat: float) -> None:  # noqa: N802
        self._add(self.places / sxy, compat)

    def addPairwiseBilateral(self, sxy: float, srgb: float, rgbim, compat: float) -> None:  # noqa: N802
        assert rgbim.dtype == np.uint8
        assert rgbim.shape == (*self.shape, 3)
        assert rgbim.flags.c_contiguous
        colours = rgbim.reshape(-1, 3) / srgb
        self._add(np.concatenate([self.places / sxy, colours], axis=1), compat)

    def _add(self, features, weight: float) -> None:
        squares = (features**2).sum(axis=1)
        far = np.maximum(squares[:, None] + squares - 2 * features @ features.T, 0)
        kernel = np.exp(-far / 2)
        scale = 1 / np.sqrt(kernel.sum(axis=1))
        self.pull = self.pull + weight * scale[:, None] * kernel * scale

    def inference(self, steps: int):
        q = _shares(-self.energy)
        for _ in range(steps):
            q = _shares(-self.energy + q @ self.pull)
        return q


def _shares(score):
    above = np.exp(score - score.max(axis=0))
    return above / above.sum(axis=0)


def stand_in() -> dict[str, ModuleType]:
    """Name → module, for ``sys.modules``."""
    package, field = ModuleType("pydensecrf"), ModuleType("pydensecrf.densecrf")
    field.DenseCRF2D = DenseCRF2D
    package.densecrf = field
    return {"pydensecrf": package, "pydensecrf.densecrf": field}
