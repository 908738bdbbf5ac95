"""One loss of several outputs, by hand, and dropout by depth."""

import math

import pytest
import torch
from torch import nn

from weakseg.data.patches import IGNORE
from weakseg.models.segmenters import SEGMENTERS, build_segmenter
from weakseg.models.whole_image import Outputs, Points
from weakseg.training.dropout import HIGHEST, convolutions, drop_by_depth
from weakseg.training.losses import make_loss
from weakseg.training.supervision import supervised_loss

CE = make_loss("ce")


def certain(truth, by=2.0):
    """Logits of two classes that say the truth, by so much."""
    lesion = by * (2 * truth.float() - 1)
    return torch.stack([-lesion / 2, lesion / 2], dim=1)


def surprise(by):
    """Cross-entropy of a voxel whose class is said by so much."""
    return math.log1p(math.exp(-by))


TRUTH = torch.tensor([[[0, 1], [1, 0]], [[0, 0], [0, 0]]])


def test_the_loss_of_a_plain_network_is_that_of_its_logits():
    larger = torch.nn.functional.pad(certain(TRUTH), (0, 3, 0, 1))
    assert supervised_loss(CE, larger, TRUTH).item() == pytest.approx(surprise(2), rel=1e-5)


def test_all_heads_count_alike_and_coarse_ones_are_interpolated():
    coarse = torch.tensor([[[[-1.0]], [[1.0]]]]).repeat(2, 1, 1, 1)
    given = Outputs(certain(TRUTH), (certain(TRUTH, 4.0), coarse))
    wrong = (2 * surprise(2) + 6 * surprise(-2)) / 8
    wanted = surprise(2) + surprise(4) + wrong
    assert supervised_loss(CE, given, TRUTH).item() == pytest.approx(wanted, rel=1e-5)


def test_points_have_the_truth_of_the_voxel_they_lie_in():
    places = torch.tensor([[[0.1, 0.9], [0.9, 0.1], [0.6, 0.6]], [[0.5, 0.5]] * 3])
    said = torch.tensor([[1, 1, 0], [0, 0, 0]])
    given = Outputs(certain(TRUTH), points=Points(certain(said, 3.0), places))
    wanted = surprise(2) + surprise(3)
    assert supervised_loss(CE, given, TRUTH).item() == pytest.approx(wanted, rel=1e-5)


def test_points_behind_the_truth_count_nothing():
    places = torch.tensor([[[0.1, 0.3], [0.1, 0.9]]] * 2)  # of four columns, the truth has two
    said = torch.tensor([[1, 1], [0, 0]])
    logits = torch.nn.functional.pad(certain(TRUTH), (0, 2))
    given = Outputs(logits, points=Points(certain(said, 3.0), places))
    wanted = surprise(2) + surprise(3)
    assert supervised_loss(CE, given, TRUTH).item() == pytest.approx(wanted, rel=1e-5)


def test_presence_is_taught_where_the_truth_tells():
    presence = torch.tensor([1.0, -2.0])
    given = Outputs(certain(TRUTH), presence=presence)
    wanted = surprise(2) + (surprise(1) + surprise(2)) / 2
    assert supervised_loss(CE, given, TRUTH).item() == pytest.approx(wanted, rel=1e-5)
    unsure = TRUTH.clone()
    unsure[1, 0, 0] = IGNORE  # it might be a lesion
    known = supervised_loss(CE, given, unsure).item()
    assert known == pytest.approx(surprise(2) + surprise(1), rel=1e-5)
    unsure[0, 0, 0] = IGNORE  # there is one, whatever that voxel is
    assert supervised_loss(CE, given, unsure).item() == pytest.approx(known, rel=1e-5)
    nothing = torch.full_like(TRUTH, IGNORE)
    assert supervised_loss(CE, given, nothing).item() == 0.0


# Dropout by depth


class Chain(nn.Module):
    """Defined in another order than it runs."""

    def __init__(self):
        super().__init__()
        self.last = nn.Conv2d(4, 2, 1)
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.squeeze = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = self.second(torch.relu(self.first(x)))
        return self.last(x * self.squeeze(x.mean((2, 3), keepdim=True)))


def test_the_probability_grows_linearly_with_the_order_in_which_layers_run():
    net = Chain()
    assert drop_by_depth(net, (1, 1, 8, 8), 0.4) == {"first": 0.0, "second": 0.2, "last": 0.4}


def test_as_many_numbers_are_dropped_as_said_and_none_at_inference():
    torch.manual_seed(0)
    net = Chain()
    drop_by_depth(net, (1, 1, 8, 8), 0.4)
    read = {}
    for name in ("first", "second", "last"):
        layer = net.get_submodule(name)
        layer.register_forward_pre_hook(lambda _m, i, n=name: read.__setitem__(n, i[0]))
    x = torch.rand(4, 1, 64, 64) + 0.1
    net.train()(x)
    shares = {n: float((t == 0).float().mean()) for n, t in read.items() if n != "second"}
    assert shares["first"] == 0
    assert shares["last"] == pytest.approx(0.4, abs=0.02)
    bare = Chain()
    bare.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(net.eval()(x), bare.eval()(x))
        assert not torch.equal(net.train()(x), bare(x))


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_network_can_drop_by_depth(name):
    dims = SEGMENTERS[name].dims
    with torch.device("meta"):
        net = build_segmenter(name, 1, 2, dims[-1])
    side = net.input_size(SEGMENTERS[name].patch[dims[-1]])
    shape = (1, 1, *[side] * dims[-1])
    rates = list(drop_by_depth(net, shape).values())
    assert len(rates) > (2 if name == "fuzzy-neuro" else 5)
    assert (rates[0], rates[-1]) == (0, HIGHEST)
    assert rates == sorted(rates)
    assert len(convolutions(net, shape)) == len(rates)
