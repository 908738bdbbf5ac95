"""Attributions of segmenters: by hand, against pytorch-grad-cam, and of every kind of network."""

from functools import partial

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import SemanticSegmentationTarget
from torch import nn

from weakseg.errors import RunError
from weakseg.heatmaps.preserved import MASK, QUARTER, RANDOM, preserved
from weakseg.heatmaps.segmentation import (
    ATTRIBUTIONS,
    KWC,
    SEG_GRADCAM,
    SUMMED,
    Call,
    Layers,
    Window,
    attributions,
    layers_of,
)
from weakseg.models.segmenters import build_segmenter
from weakseg.models.whole_image import WholeImage
from weakseg.training.infer import whole_logits, whole_window


class ByHand(WholeImage):
    """Three maps of an image x: x, 1 - x and x on the right half; the lesion's score is
    2 x - (1 - x) + x on the right half."""

    def __init__(self, size):
        super().__init__()
        self.one = nn.Conv2d(2, 3, 1)
        self.relu = nn.ReLU(inplace=True)
        self.score = nn.Conv2d(3, 2, 1)
        with torch.no_grad():
            for p in self.parameters():
                p.zero_()
            self.one.weight[:, 0, 0, 0] = torch.tensor([1.0, -1.0, 0.0])
            self.one.weight[2, 1] = 1.0
            self.one.bias[1] = 1.0
            self.score.weight[1, :, 0, 0] = torch.tensor([2.0, -1.0, 1.0])
        right = torch.zeros(size, size)
        right[:, size // 2 :] = 1
        self.register_buffer("right", right)

    def forward(self, images):
        return self.score(self.relu(self.one(torch.cat([images, images * self.right], dim=1))))


def explained(net, image, mask, layers=None):
    size = tuple(image.shape[2:])
    fill = torch.zeros(1, image.shape[1])
    ask = partial(whole_logits, net, image, fill)
    window = Window(tuple(whole_window(net, size)), int(net.margin[0]), size)
    return attributions(net, ask, mask, window, layers)


@pytest.fixture
def by_hand():
    """A network, an image, its mask (the top left and the top right corner), and its maps."""
    net = ByHand(6).eval()
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.random((1, 1, 6, 6), dtype=np.float32))
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[0, 0] = mask[0, 5] = True
    x = image[0, 0].numpy().astype(float)
    return net, image, mask, np.stack([x, 1 - x, x * net.right.numpy()])


def over_its_maximum(heat):
    positive = np.maximum(heat, 0)
    return positive / positive.max()


def test_maps_are_those_that_are_computed_by_hand(by_hand):
    net, image, mask, a = by_hand
    found = explained(net, image, mask)
    weights, inside = np.array([2.0, -1.0, 1.0]), mask.numpy()
    gradient = weights[:, None, None] * inside  # of the score summed over the mask
    gradcam = over_its_maximum((gradient.mean((1, 2))[:, None, None] * a).sum(0))
    # There is one layer, so that the sum over all is it alone.
    for name in (SEG_GRADCAM, "gradcam"):
        np.testing.assert_allclose(found[name], gradcam, atol=1e-6)
    layercam = over_its_maximum((np.maximum(gradient, 0) * a).sum(0))
    np.testing.assert_allclose(found["layercam"], layercam, atol=1e-6)
    dependent = np.maximum((gradient * a).sum((1, 2)), 0)
    independent = np.array([m[inside].sum() / m.sum() for m in a])
    assert dependent[1] == 0
    kernels = [d * i * m / m.max() for d, i, m in zip(dependent, independent, a, strict=True)]
    np.testing.assert_allclose(found[KWC], over_its_maximum(np.sum(kernels, 0)), atol=1e-6)


def test_the_network_is_left_as_it_was(by_hand):
    net, image, mask, _ = by_hand
    net.train()
    with torch.no_grad():
        first = explained(net, image, mask)
    assert net.training
    assert all(p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks for m in net.modules())
    for p in net.parameters():
        p.requires_grad_(False)
    for name, heat in explained(net, image, mask).items():
        torch.testing.assert_close(heat, first[name])


def test_layers_count_by_what_they_give_of_the_score():
    """Two layers of one map each: the first gives x, the second half of it where it is above 1."""

    class Two(WholeImage):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 3, 1), nn.Conv2d(3, 3, 1)
            self.a, self.b = nn.ReLU(), nn.ReLU()
            self.score = nn.Conv2d(3, 2, 1)
            with torch.no_grad():
                for p in self.parameters():
                    p.zero_()
                self.one.weight[0] = self.two.weight[0, 0] = self.score.weight[1, 0] = 1.0
                self.two.bias[0] = -1.0

        def forward(self, x):
            low = self.a(self.one(x))
            return self.score(self.b(self.two(low)))

    net = Two().eval()
    image = torch.tensor([[3.0, 2.0], [0.5, 0.0]])[None, None].repeat_interleave(2, 2)
    image = image.repeat_interleave(2, 3)
    mask = image[0, 0] > 1
    names = [Call("a", 0, (4, 4)), Call("b", 0, (4, 4))]
    found = explained(net, image, mask, Layers(names[0], tuple(names)))
    a, b = image[0, 0].numpy(), np.maximum(image[0, 0].numpy() - 1, 0)
    share = a[mask].sum() / (a[mask].sum() + b[mask].sum())
    expected = share * a / a.max() + (1 - share) * b / b.max()
    # Where b is 0 the gradient does not reach a, which Grad-CAM, averaging, does not see.
    np.testing.assert_allclose(found["gradcam"], expected / expected.max(), atol=1e-6)


def test_one_layer_is_what_pytorch_grad_cam_makes_of_it():
    torch.manual_seed(0)
    net = build_segmenter("encoder-unet:squeezenet1_1", 1, 2).eval()
    image = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        lesion = net(image).softmax(1)[0, 1]
    mask = lesion > lesion.median()
    layers = layers_of(net, lambda: net(image))
    last = layers.behind[-1]
    assert last.grid == (32, 32)
    found = explained(net, image, mask, Layers(last, (last,)))
    layer = dict(net.named_modules())[last.name]
    target = SemanticSegmentationTarget(1, mask.numpy().astype(np.float32))
    with GradCAM(net, [layer]) as cam:
        (theirs,) = cam(input_tensor=image, targets=[target])
    for name in (SEG_GRADCAM, "gradcam"):
        ours = found[name].numpy()
        ours = (ours - ours.min()) / (ours.max() - ours.min())
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert theirs.std() > 0.01


SMALL = ("encoder-unet:squeezenet1_1", "unet", "attention-unet-small", "two-scale-cnn", "deepmedic")
MORE = ("fcn8s:squeezenet1_1", "encoder-unetpp:squeezenet1_1", "transunet:squeezenet1_1")
LARGE = ("unetpp", "sw-unet", "mfr-unet", "render-unet", "unet-original", "deeplabv3_resnet50")
EVERY = [*SMALL, *MORE, *(pytest.param(a, marks=pytest.mark.slow) for a in LARGE)]


@pytest.mark.thorough
@pytest.mark.parametrize("arch", EVERY)
def test_every_network_has_its_maps(arch):
    torch.manual_seed(1)
    net = build_segmenter(arch, 1, 2).eval()
    if arch.startswith("fcn8s"):  # whose scores begin at 0
        for p in net.score.parameters():
            nn.init.normal_(p)
    image, size = torch.rand(1, 1, 40, 36), (40, 36)
    fill = torch.zeros(1, 1)
    ask = partial(whole_logits, net, image, fill)
    layers = layers_of(net, ask)
    assert layers.behind
    if arch.startswith("fcn8s"):
        assert [c.name for c in layers.behind] == ["score.16", "score.8"]
    if arch.startswith(("encoder-unet", "transunet")):
        assert all(not c.name.startswith("encoder") for c in layers.behind)
    with torch.no_grad():
        logits = ask()
    assert logits.shape == (1, 2, *size)
    lesion = logits[0, 1]
    mask = lesion >= lesion.median()
    window = Window(tuple(whole_window(net, size)), int(net.margin[0]), size)
    found = attributions(net, ask, mask, window, layers)
    assert tuple(found) == ATTRIBUTIONS
    for heat in found.values():
        assert heat.shape == size
        assert heat.isfinite().all()
        assert 0 <= heat.min() <= heat.max() <= 1
    assert sum(float(heat.max()) == pytest.approx(1) for heat in found.values()) >= 3
    assert set(SUMMED) < set(found)


def test_a_network_without_features_is_refused():
    net = WholeImage()
    net.score = nn.Conv2d(1, 2, 1)
    with pytest.raises(RunError, match="no layer that gives a map"):
        layers_of(net, lambda: net.score(torch.rand(1, 1, 4, 4)))


def test_a_map_lies_over_the_image_where_its_layer_saw_it():
    ramp = torch.arange(100.0).reshape(1, 10, 10)
    valid = Window((10, 10), 2, (6, 6))
    assert torch.equal(valid.over_image(ramp), ramp[:, 2:8, 2:8])
    lost = ramp[:, 2:8, 2:8]
    assert torch.equal(valid.over_image(lost), lost)
    # Half the resolution: 3 places are 6 pixels, in the middle of the window.
    ones = valid.over_image(torch.ones(1, 3, 3))
    assert torch.equal(ones, torch.ones(1, 6, 6))
    # A padded network: 3 places of 2 pixels, the last half behind the image.
    seen = Window((5, 5), 0, (5, 5)).over_image(torch.tensor([[[0.0, 4.0, 8.0]] * 3]))
    assert seen.shape == (1, 5, 5)
    torch.testing.assert_close(seen[0, 0], torch.tensor([0.0, 1.0, 3.0, 5.0, 7.0]))
    # A third of the resolution, as DeepMedic's second pathway.
    third = Window((15, 15), 3, (9, 9), (1, 3)).over_image(torch.ones(1, 3, 3))
    assert torch.equal(third, torch.ones(1, 9, 9))


def test_what_is_preserved_is_what_is_counted_by_hand():
    image = torch.zeros(1, 1, 8, 8)
    image[..., :2, :2] = image[..., 6:, 6:] = 1.0  # two squares of four
    mask = image[0, 0] > 0.5
    body = torch.ones(8, 8, dtype=torch.bool)

    def segment(x):
        return x[0, 0] > 0.5

    first = torch.zeros(8, 8)
    first[:2, :2] = 0.8
    first[:4, :4] += 0.2
    found = preserved(segment, image, mask, {"first": first, "none": 0 * first}, body, seed=0)
    assert found["first"].image == pytest.approx((4 * 1.0 + 12 * 0.2) / 64)
    assert found["first"].prediction == pytest.approx(2 * 4 / (4 + 8))
    # A quarter of 64 is the upper left square of 16.
    assert found["first"].quarter == pytest.approx(2 * 4 / (4 + 8))
    assert (found["none"].image, found["none"].prediction) == (0, 0)
    assert found[MASK].image == pytest.approx(8 / 64)
    assert (found[MASK].prediction, found[MASK].quarter) == (1, 1)
    assert 0 < found[RANDOM].image < 1
    assert QUARTER == 0.25
    # Only the body counts, and another seed draws another map.
    again = preserved(segment, image, mask, {"first": first}, mask, seed=1)
    assert again["first"].image == pytest.approx(4 / 8)
    assert again["first"].quarter == pytest.approx(2 * 2 / (2 + 8))
    assert again[RANDOM].image != found[RANDOM].image
