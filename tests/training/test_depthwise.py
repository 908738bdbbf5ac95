"""Strided depthwise convolutions are trained in full precision where half is slow."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from weakseg.training.depthwise import depthwise_in_full
from weakseg.training.loop import FitSettings, fit, make_fabric


def half():
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.fixture
def conv():
    torch.manual_seed(0)
    return nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False)


def test_gradients_are_those_of_full_precision_and_what_is_given_is_rounded(conv):
    x = torch.rand(2, 8, 12, 12, requires_grad=True)
    full = F.conv2d(x, conv.weight, None, 2, 1, 1, 8)
    upstream = torch.randn(full.shape).bfloat16()
    expected = torch.autograd.grad(full, (x, conv.weight), upstream.float())
    with depthwise_in_full(conv), half():
        y = conv(x)
        found = torch.autograd.grad(y, (x, conv.weight), upstream)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, full.bfloat16(), rtol=0, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    with half():
        rounded = torch.autograd.grad(conv(x), (x, conv.weight), upstream)
    assert (rounded[1] - expected[1]).abs().max() > 1e-3


def test_without_autocast_or_a_graph_nothing_changes(conv):
    x = torch.rand(2, 8, 12, 12)
    with torch.no_grad(), half():
        plain = conv(x)
    with depthwise_in_full(conv):
        assert conv(x).dtype == torch.float32
        with torch.no_grad(), half():
            torch.testing.assert_close(conv(x), plain, rtol=0, atol=0)
    assert "forward" not in vars(conv)


def test_only_strided_depthwise_convolutions_are_meant():
    net = nn.Sequential(
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.Conv2d(8, 8, 3, stride=2, groups=4),
        nn.Conv2d(1, 1, 3, stride=2),
        nn.Conv2d(8, 16, 3, stride=(1, 2), groups=8),
        nn.Conv3d(8, 8, 3, stride=2, groups=8),
    )
    with depthwise_in_full(net):
        assert ["forward" in vars(m) for m in net] == [False] * 4 + [True] * 2


def test_the_training_loop_does_so(tmp_path):
    class Task:
        steps, held = 1, []

        def batches(self, epoch):
            yield torch.rand(2, 4, 8, 8)

        def loss(self, model, batch):
            self.held.append("forward" in vars(net))
            return model(batch).float().square().mean()

        def validate(self, model):
            return {"val_dice": 0.5}

    net = nn.Conv2d(4, 4, 3, stride=2, groups=4)
    settings = FitSettings(1, "adamw", 1e-3, 0.0, 0.0, 0, "val_dice")
    fit(net, Task(), settings, tmp_path, make_fabric("cpu", "bf16-mixed"),
        key="k", metadata={}, what="a network")  # fmt: skip
    assert Task.held == [True]
    assert "forward" not in vars(net)
