"""Every formula against pytorch-grad-cam's, where its clamps and denominators matter.

Two depart from it, see `weakseg.heatmaps.library.library_map`.
"""

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from weakseg.heatmaps.cam import METHODS, PERTURBING, cams, raw_cam
from weakseg.heatmaps.formulas import FORMULAS


class Signed(nn.Module):
    """Activations and gradients of both signs, and a network that is not linear behind them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(1, 5, 3, padding=1)
        self.second = nn.Conv2d(5, 6, 3, stride=2, padding=1)
        self.last = nn.Conv2d(6, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x = self.second(self.first(x).tanh())
        return self.fc(torch.tanh(2 * self.last(x)).mean((2, 3)) * 3)


@pytest.fixture(scope="module")
def signed():
    return Signed().eval(), torch.randn(3, 1, 12, 12, generator=torch.Generator().manual_seed(1))


def library(model, layers, images, k, method):
    """The library's raw maps, by its own hooks and backward pass."""
    cam = getattr(pytorch_grad_cam, METHODS[method])(model, layers)
    seen, original = [], cam.get_cam_image

    def spy(*args, **kwargs):
        seen.append(original(*args, **kwargs))
        return seen[-1]

    cam.get_cam_image = spy
    # Each layer by its own pass: the library's Shapley values free the graph of further ones.
    cam(images.clone(), [ClassifierOutputTarget(k)] * len(images))
    cam.activations_and_grads.release()
    return seen


def upright(maps, method):
    """The library's maps; those of eigenvectors, which there are of either sign, as ours are."""
    if method not in ("eigencam", "eigengradcam"):
        return maps
    return np.stack([m if m.max() >= -m.min() else -m for m in maps])


@pytest.mark.parametrize("layer", ["first", "second"])
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_both_signs_is_the_librarys(signed, method, layer):
    model, images = signed
    ours, logits = raw_cam(model, layer, images, 1, method=method)
    (theirs,) = library(model, [model.get_submodule(layer)], images, 1, method)
    if method == "ablationcam":  # there a share of the score
        theirs = theirs * logits[:, 1, None, None]
    theirs = upright(theirs, method)
    assert np.abs(theirs).max() > 0
    np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("method", [m for m in METHODS if m not in (*PERTURBING, "shapleycam")])
def test_two_layers_at_once_are_the_librarys(signed, method):
    model, images = signed
    ours, _ = cams(model, ["first", "second"], images, (2,), method=method)
    theirs = library(model, [model.first, model.second], images, 2, method)
    for one, found in zip(ours, theirs, strict=True):
        other = upright(found, method)
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5 * np.abs(other).max())


A = torch.tensor([[[[1.0, -2.0], [3.0, 4.0]], [[-1.0, 2.0], [0.0, -3.0]]]])
G = torch.tensor([[[[2.0, 1.0], [-1.0, 0.0]], [[1.0, -1.0], [4.0, 2.0]]]])
# Mean gradients 0.5 and 1.5; sums of activations 6 and -2.
SHARES = [
    # g² / (2 g² + sum g³) where g > 0, times g: 2 · 4/56 + 1 · 1/8, and 0 + 4 · 16/-96 + 2 · 4/-8
    # (of g = 1 the denominator is 2 - 2 = 0, and SMALL is all that is left of it).
    2 * 4 / 56 + 1 / 8,
    1 / 1e-6 + 4 * 16 / (32 - 2 * 64) + 2 * 4 / (8 - 2 * 8),
]
BY_HAND = {
    "gradcam": 0.5 * A[0, 0] + 1.5 * A[0, 1],
    "hirescam": torch.tensor([[2 - 1, -2 - 2], [-3 + 0, 0 - 6.0]]),
    "layercam": torch.tensor([[2 - 1, -2 + 0], [0 + 0, 0 - 6.0]]),
    "gradcam-elementwise": torch.tensor([[2.0, 0], [0, 0]]),
    # Sums of g·a: 2 - 2 - 3 + 0 = -3, and -1 - 2 + 0 - 6 = -9.
    "xgradcam": -3 / 6 * A[0, 0] + -9 / -2 * A[0, 1],
    "gradcam++": SHARES[0] * A[0, 0] + SHARES[1] * A[0, 1],
}


@pytest.mark.parametrize("method", FORMULAS)
def test_two_channels_of_two_by_two_places_by_hand(method):
    found = FORMULAS[method](A, G)[0]
    torch.testing.assert_close(found, BY_HAND[method], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("method", "small"), [("xgradcam", 1e-7), ("gradcam++", 1e-6)])
def test_a_denominator_of_nothing_is_the_small_number(method, small):
    a = torch.tensor([[[[1e-3, -1e-3]]]])
    g = torch.tensor([[[[1e-3, 2e-3]]]])
    found = FORMULAS[method](a, g)[0, 0, 0]
    if method == "xgradcam":
        weight = (1e-6 - 2e-6) / small
    else:
        weight = sum(v**3 / (2 * v**2 + small) for v in (1e-3, 2e-3))
    assert float(found) == pytest.approx(weight * 1e-3, rel=1e-3)
