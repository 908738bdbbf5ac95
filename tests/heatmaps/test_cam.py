"""The adapter: pytorch-grad-cam's numbers, without its traps."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from weakseg.errors import ConfigError
from weakseg.heatmaps.cam import METHODS, raw_cam, target_score
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.layers import ARCHITECTURES, find_layers


class Bright(nn.Module):
    """A network whose class 1 is 'something bright': the truth about its heatmap is known."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1, bias=False)
        self.fc = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.stack([torch.ones(1, 3, 3), -torch.ones(1, 3, 3)]) / 9)
            self.fc.weight.copy_(torch.tensor([[0.0, 0.0], [2.0, -1.0]]))

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.fixture
def planted():
    images = torch.zeros(4, 1, 16, 16)
    spots = [(3, 4), (10, 2), (12, 12), (5, 9)]
    for image, (y, x) in zip(images, spots, strict=True):
        image[0, y - 1 : y + 2, x - 1 : x + 2] = 1
    return images, spots


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_spot_is_the_hottest_place_in_every_image_of_the_batch(method, planted):
    images, spots = planted
    model = Bright()
    maps, _ = raw_cam(model, model.conv, images, (1,), method=method)
    assert maps.shape == (4, 16, 16)
    for heat, spot in zip(maps, spots, strict=True):
        assert np.unravel_index(heat.argmax(), heat.shape) == spot


@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_a_score_below_zero_turns_no_map_around(method, planted):
    """Log-odds of healthy images are, and logits have no zero that would mean anything."""
    images, _ = planted
    model, lower = Bright(), Bright()
    model.conv, lower.conv = (nn.Sequential(m.conv, nn.ReLU()) for m in (model, lower))
    lower.fc.bias = nn.Parameter(torch.tensor([0.0, -10.0]))
    maps, logits = raw_cam(model, model.conv, images, (1,), method=method)
    same, shifted = raw_cam(lower, lower.conv, images, (1,), method=method)
    assert (logits[:, 1] > 0).all()
    assert (shifted[:, 1] < 0).all()
    np.testing.assert_allclose(same, maps, rtol=1e-3, atol=1e-6)


def test_ablationcam_is_what_the_score_loses_by_hand(planted):
    images, _ = planted
    model = Bright()
    model.conv = nn.Sequential(model.conv, nn.ReLU())
    maps, _ = raw_cam(model, model.conv, images, (1,), method="ablationcam")
    with torch.no_grad():
        a = model.conv(images)
    lost = a.mean((2, 3)) * model.fc.weight[1].detach()
    np.testing.assert_allclose(maps, (lost[:, :, None, None] * a).sum(1), rtol=1e-5)


@pytest.mark.parametrize("method", ["eigencam", "eigengradcam"])
def test_the_map_of_a_mirrored_image_is_the_mirrored_map(method):
    """So that `flips` averages the two; an eigenvector may come with either sign."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 2),
    ).eval()  # fmt: skip
    with torch.no_grad():
        model[0].weight.copy_(model[0].weight + model[0].weight.flip(3))
    images = torch.rand(8, 1, 12, 12)
    maps, _ = raw_cam(model, "1", images, 1, method=method)
    mirrored, _ = raw_cam(model, "1", images.flip(3), 1, method=method)
    np.testing.assert_allclose(mirrored[:, :, ::-1], maps, rtol=1e-3, atol=1e-5)


def test_gradcam_of_a_linear_head_is_the_weighted_sum_by_hand(planted):
    images, _ = planted
    model = Bright()
    maps, logits = raw_cam(model, model.conv, images, (1,))
    with torch.no_grad():
        a = model.conv(images)
        by_hand = (2.0 * a[:, 0] - 1.0 * a[:, 1]) / (16 * 16)
        torch.testing.assert_close(torch.from_numpy(logits), model(images))
    np.testing.assert_allclose(maps, by_hand.numpy(), rtol=1e-5, atol=1e-7)


def library_raw(model, layer, images, k):
    """pytorch-grad-cam by its own hooks and backward pass, before it scales the maps."""
    cam = GradCAM(model, [layer])
    seen = {}
    original = cam.get_cam_image

    def spy(*args, **kwargs):
        seen["raw"] = original(*args, **kwargs)
        return seen["raw"]

    cam.get_cam_image = spy
    cam(images, [ClassifierOutputTarget(k)] * len(images))
    cam.activations_and_grads.release()
    return seen["raw"]


@pytest.mark.parametrize("arch", [a for a in ARCHITECTURES if a != "densenet121"])
def test_raw_maps_equal_the_librarys(arch):
    """Densenet is apart: an in-place ReLU behind its last norm changes what the library records."""
    torch.manual_seed(1)
    model = build_classifier(ClassifierSpec(arch, ("a", "b", "c"), 3)).eval()
    _, layer = find_layers(model, "auto", 64)[0]
    images = torch.rand(3, 3, 64, 64)
    ours, _ = raw_cam(model, layer, images, (2,))
    theirs = library_raw(model, layer, images, 2)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * max(1.0, np.abs(theirs).max()))
    assert np.abs(ours).max() > 0


def test_densenet_map_is_that_of_the_norm_before_the_in_place_relu():
    torch.manual_seed(1)
    model = build_classifier(ClassifierSpec("densenet121", ("a", "b"), 3)).eval()
    images = torch.rand(2, 3, 64, 64)
    ours, _ = raw_cam(model, find_layers(model, "auto")[0][1], images, (1,))
    x = (images - model.mean) / model.std
    for _name, part in model.net.features.named_children():
        x = part(x)
    a = x.detach().clone().requires_grad_(True)
    logits = model.net.classifier(torch.relu(a).mean((2, 3)))
    (g,) = torch.autograd.grad(logits[:, 1].sum(), a)
    by_hand = (g.mean((2, 3), keepdim=True) * a).sum(1)
    np.testing.assert_allclose(ours, by_hand.detach().numpy(), atol=1e-5)


def test_a_batch_gives_what_each_image_gives_alone(planted):
    images, _ = planted
    model = Bright()
    together, _ = raw_cam(model, model.conv, images, (1,))
    alone = np.concatenate([raw_cam(model, model.conv, i[None], (1,))[0] for i in images])
    np.testing.assert_allclose(together, alone, atol=1e-7)


def hooks(model):
    return sum(
        len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks)
        for m in model.modules()
    )


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_it_was_found(fails):
    torch.manual_seed(0)
    model = build_classifier(ClassifierSpec("resnet18", ("a", "b"), 3)).train()
    model.net.layer1.eval()
    model.net.fc.weight.grad = torch.full_like(model.net.fc.weight, 7.0)
    modes = [m.training for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    if fails:
        with pytest.raises(ConfigError, match="target must name"):
            raw_cam(model, model.net.layer4, torch.rand(2, 3, 64, 64), (5,))
    else:
        raw_cam(model, model.net.layer4, torch.rand(2, 3, 64, 64), (1,))
    assert [m.training for m in model.modules()] == modes
    assert hooks(model) == 0
    assert (model.net.fc.weight.grad == 7.0).all()
    assert model.net.conv1.weight.grad is None
    for k, v in model.state_dict().items():
        assert torch.equal(v, state[k]), k
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_works_on_a_frozen_network_under_no_grad(context, planted):
    images, spots = planted
    model = Bright().requires_grad_(False)
    with context():
        maps, _ = raw_cam(model, model.conv, images.clone(), (1,))
        assert not torch.is_grad_enabled()
    assert np.unravel_index(maps[0].argmax(), maps[0].shape) == spots[0]
    assert not any(p.requires_grad for p in model.parameters())


def test_healthy_images_do_not_peak_at_one(planted):
    """Raw maps are comparable between images: half as bright is half as hot."""
    images, _ = planted
    model = Bright()
    maps, _ = raw_cam(model, model.conv, torch.cat([images[:1], images[:1] / 2]), (1,))
    assert maps[1].max() == pytest.approx(maps[0].max() / 2, rel=1e-5)


def test_target_of_one_class_is_its_logit_and_of_several_their_log_sum_exp():
    logits = torch.tensor([[0.0, 1.0, 2.0]])
    assert float(target_score(logits, (1,))) == pytest.approx(1.0)
    assert float(target_score(logits, (1, 2))) == pytest.approx(np.log(np.exp(1) + np.exp(2)))
    p = logits.softmax(1)[0, 1:].sum()
    odds = float(torch.log(p / (1 - p)))
    assert float(target_score(logits, (1, 2), "log-odds")) == pytest.approx(odds, rel=1e-5)


@pytest.mark.parametrize("target", [(), (3,), (-1,), (1, 1)])
def test_a_class_that_is_not_there_is_refused(target):
    with pytest.raises(ConfigError, match=r"target must name different classes of 0\.\.2"):
        target_score(torch.zeros(1, 3), target)


def test_unknown_method_names_the_nearest(planted):
    model = Bright()
    with pytest.raises(ConfigError, match="did you mean 'gradcam'"):
        raw_cam(model, model.conv, planted[0], (1,), method="grad-cam")


@pytest.mark.parametrize("method", ["occlusion", "fullgrad"])
def test_a_method_of_no_layer_says_where_it_is(planted, method):
    model = Bright()
    with pytest.raises(ConfigError, match=rf"is of no layer(.|\n)*{method}_maps"):
        raw_cam(model, model.conv, planted[0], (1,), method=method)


def test_a_layer_without_a_map_is_refused(planted):
    model = Bright()
    with pytest.raises(ConfigError, match=r"does not give a map(.|\n)*\(1, 2\)"):
        raw_cam(model, model.fc, planted[0], (1,))


def test_a_layer_that_leads_nowhere_is_refused(planted):
    class Side(Bright):
        def forward(self, x):
            self.side(x)
            return super().forward(x)

    model = Side()
    model.side = nn.Conv2d(1, 1, 3)
    with pytest.raises(ConfigError, match="does not lead to the class scores"):
        raw_cam(model, model.side, planted[0], (1,))
