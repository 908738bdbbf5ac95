"""A cascade: what the fine network sees, and whose turn it is in training."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from weakseg.config import SegmenterConfig
from weakseg.errors import ConfigError
from weakseg.models.cascade import Cascade
from weakseg.models.segmenters import build_segmenter, find_segmenter
from weakseg.training.loop import FitSettings, _rate
from weakseg.training.optimizers import learning_rate
from weakseg.training.recipes import resolve


def small():
    torch.manual_seed(0)
    coarse = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3))
    return Cascade(coarse, nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))


def test_the_fine_network_sees_the_image_and_the_coarse_probabilities():
    net, x = small().eval(), torch.rand(2, 1, 6, 5)
    seen = []
    net.fine.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    out = net(x)
    torch.testing.assert_close(seen[0][:, :1], x)
    torch.testing.assert_close(seen[0][:, 1:], net.coarse(x).softmax(1)[:, 1:])
    torch.testing.assert_close(out, net.fine(seen[0]))


@pytest.mark.parametrize("alone", [True, False])
def test_in_training_one_learns_and_the_other_stays_as_it_is(alone):
    net, x = small().train(), torch.rand(4, 1, 6, 5)
    net.coarse_alone = alone
    learns, rests = (net.coarse, net.fine) if alone else (net.fine, net.coarse)
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.AdamW(net.parameters(), 0.1, weight_decay=0.5)
    net(x).square().mean().backward()
    optimizer.step()
    part = "coarse." if alone else "fine."
    for name, value in net.state_dict().items():  # running statistics among them
        assert torch.equal(value, before[name]) == (not name.startswith(part)), name
    assert all(p.grad is not None for p in learns.parameters())
    assert all(p.grad is None for p in rests.parameters())
    assert all(m.training for m in net.modules())


def test_the_rate_begins_anew_with_the_second_turn():
    assert Cascade.turns(5) == (2, 3)
    settings = FitSettings(5, "adamw", 1e-3, 0.0, 0.1, 0, None, turns=(2, 3))
    rates = [_rate(step, settings, 10) for step in range(50)]
    assert rates[:20] == [learning_rate(s, 20, 0.1) for s in range(20)]
    assert rates[20:] == [learning_rate(s, 30, 0.1) for s in range(30)]
    whole = FitSettings(5, "adamw", 1e-3, 0.0, 0.1, 0, None)
    assert [_rate(s, whole, 10) for s in range(50)] == [
        learning_rate(s, 50, 0.1) for s in range(50)
    ]


def test_both_networks_are_named_behind_the_colon():
    with torch.device("meta"):
        net = build_segmenter("cascade:encoder-unet:squeezenet1_1>unet:ca", 1, 2)
        assert net(torch.empty(1, 1, 40, 33)).shape == (1, 2, 40, 33)
        assert net.fine.down[0][0].in_channels == 2
        deep = build_segmenter("cascade", 2, 3, 3)
    assert deep.fine.down[0][0].in_channels == 4
    assert find_segmenter("cascade")[1] == "two-scale-cnn>unet"


@pytest.mark.parametrize(
    "named",
    [
        *("unet", "unet>unet>unet", "unet>", "unet>deepmedic", "unet-original>unet"),
        *("unet>encoder-unet:resnet18", "unet>fcn_resnet50", "cascade>unet"),
    ],
)
def test_what_makes_no_cascade_is_refused_with_a_way_out(named):
    with pytest.raises(ConfigError, match=r"segmenter\.arch"):
        find_segmenter(f"cascade:{named}")


def test_one_epoch_is_too_few_for_two_turns():
    with pytest.raises(ConfigError, match="one after the other"):
        resolve(SegmenterConfig(arch="cascade", epochs=1), 2)
    assert resolve(SegmenterConfig(arch="cascade", epochs=2), 2).epochs == 2


@pytest.mark.parametrize(
    ("arch", "why"),
    [
        ("cascade:unet>fcn8s:resnet18", "fcn8s:resnet18 stands on a classifier"),
        ("cascade:unet>fcn_resnet50", "fcn_resnet50 stands on a classifier"),
        ("cascade:deepmedic>unet", "deepmedic scores less than it sees"),
        ("cascade:unet>cascade", "cascade is a cascade itself"),
    ],
)
def test_it_is_told_why_a_network_is_no_part_of_a_cascade(arch, why):
    with pytest.raises(ConfigError, match=f"found: {arch}; {why}"):
        find_segmenter(arch)
