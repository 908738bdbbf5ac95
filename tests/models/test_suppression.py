"""Layers that end at a share of their channels' maxima."""

import copy

import pytest
import torch
from torch import nn

from weakseg.config import ClassifierConfig, parse_config
from weakseg.errors import ConfigError
from weakseg.heatmaps.cam import raw_cam
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.layers import DEPTHS
from weakseg.models.suppression import suppress, suppressed

ARCH = "squeezenet1_1"


def build(share=1.0):
    torch.manual_seed(0)
    spec = ClassifierSpec(ARCH, ("healthy", "lesion"), 1, suppress=share)
    return build_classifier(spec).eval()


def features(model, image):
    seen = {}
    handles = [
        model.net.get_submodule(n).register_forward_hook(
            lambda _m, _i, out, n=n: seen.setdefault(n, out.clone())
        )
        for n in DEPTHS[ARCH]
    ]
    with torch.no_grad():
        logits = model(image)
    for handle in handles:
        handle.remove()
    return seen, logits


def test_each_channel_ends_at_its_share_by_hand():
    given = torch.tensor([[[[1.0, 2.0], [4.0, -1.0]], [[-3.0, -1.0], [-2.0, -5.0]]]])
    by_hand = torch.tensor([[[[1.0, 2.0], [2.0, -1.0]], [[-3.0, -1.0], [-2.0, -5.0]]]])
    torch.testing.assert_close(suppressed(given, 0.5), by_hand)
    torch.testing.assert_close(suppressed(given, 1.0), given)


def test_what_goes_on_from_every_depth_is_suppressed_and_heatmaps_see_it():
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    plain, less = build(), build(0.5)
    assert list(plain.state_dict()) == list(less.state_dict())
    of_plain, before = features(plain, image)
    of_less, after = features(less, image)
    first = DEPTHS[ARCH][0]
    torch.testing.assert_close(of_less[first], suppressed(of_plain[first], 0.5))
    for seen in of_less.values():  # as many places at the top as were above it
        top = seen.amax((2, 3), keepdim=True)
        assert ((seen == top) & (top > 0)).sum((2, 3)).max() > 4
    assert (before - after).abs().max() > 0
    layer = f"net.{first}"
    seen, said = raw_cam(less, layer, image, (1,), method="hirescam")
    torch.testing.assert_close(torch.from_numpy(said), after)
    assert seen.shape == of_less[first].shape[:1] + of_less[first].shape[2:]


def test_a_copy_is_suppressed_as_well():
    image = torch.rand(1, 1, 64, 64)
    model = build(0.3)
    with torch.no_grad():
        torch.testing.assert_close(copy.deepcopy(model)(image), model(image))


class Tokens(nn.Module):
    """A network whose layer gives places before channels."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Flatten(2)

    def forward(self, x):
        return self.layer(x).mean(2)


def test_layers_that_are_no_map_of_channels_are_refused():
    with pytest.raises(ConfigError, match="Suppression needs layers of shape"):
        suppress(Tokens(), ["layer"], 0.5, 1)


def test_settings():
    assert "suppress" not in ClassifierConfig().fingerprint_settings()
    assert ClassifierConfig(suppress=0.6).fingerprint_settings()["suppress"] == 0.6
    assert ClassifierConfig(arch="mil:resnet18", suppress=0.6).suppress == 0.6
    for wrong in ({"suppress": 0}, {"suppress": 1.1}, {"arch": "resnet18-3d", "suppress": 0.5}):
        with pytest.raises(ConfigError, match="suppress"):
            parse_config({"classifier": wrong})
