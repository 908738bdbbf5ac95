"""Losses, held against MONAI's; voxels that are ignored leave no trace."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from weakseg.data.patches import IGNORE
from weakseg.training.losses import GCE_POWER, SCE_FORWARD, SCE_LOG_ZERO, make_loss

MONAI = ("ce", "dice", "dice-ce", "focal")
ROBUST = ("gce", "sce", "dice-gce")
NAMES = MONAI + ROBUST
SIZES = ((9, 7), (5, 4, 6))


def batch(size, n=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, 2, *size, generator=g)
    truth = (torch.rand(n, *size, generator=g) < 0.3).long()
    return logits, truth


def of_monai(name):
    from monai.losses import DiceLoss, FocalLoss

    def dice(logits, truth):
        # One Dice of the whole batch, of the lesion alone.
        compute = DiceLoss(
            include_background=False, softmax=True, to_onehot_y=True, batch=True,
            smooth_nr=0.0, smooth_dr=1e-7,
        )  # fmt: skip
        return compute(logits, truth[:, None])

    def focal(logits, truth):
        # MONAI averages over the classes, all but one of which have no part in a voxel's loss.
        compute = FocalLoss(gamma=2.0, use_softmax=True, to_onehot_y=True)
        return 2 * compute(logits, truth[:, None])

    def ce(logits, truth):
        return -logits.log_softmax(1).gather(1, truth[:, None]).mean()

    both = {"dice": dice, "focal": focal, "ce": ce}
    return both[name] if name in both else lambda x, y: ce(x, y) + dice(x, y)


@pytest.mark.parametrize("size", SIZES, ids=["2d", "3d"])
@pytest.mark.parametrize("name", MONAI)
def test_as_monai(name, size):
    logits, truth = batch(size)
    torch.testing.assert_close(make_loss(name)(logits, truth), of_monai(name)(logits, truth))


def test_focal_by_hand():
    # p of the true class: 0.9, 0.5, 0.2.
    p = torch.tensor([0.9, 0.5, 0.2])
    logits = torch.stack([torch.zeros(3), torch.logit(p)])[None, :, None]
    truth = torch.ones(1, 1, 3, dtype=torch.long)
    expected = -((1 - p) ** 2 * p.log()).mean()
    torch.testing.assert_close(make_loss("focal")(logits, truth), expected)


def test_dice_by_hand():
    p = torch.tensor([0.8, 0.4, 0.6, 0.1])
    logits = torch.stack([torch.zeros(4), torch.logit(p)])[None, :, None]
    truth = torch.tensor([[[1, 1, 0, 0]]])
    expected = 1 - 2 * (0.8 + 0.4) / ((0.8 + 0.4 + 0.6 + 0.1) + 2)
    assert float(make_loss("dice")(logits, truth)) == pytest.approx(expected)


@pytest.mark.parametrize("size", SIZES, ids=["2d", "3d"])
@pytest.mark.parametrize("name", NAMES)
def test_ignored_voxels_are_as_good_as_cropped(name, size):
    logits, truth = batch(size)
    ignored = truth.clone()
    ignored[:, :, 3:] = IGNORE
    # Whatever the network says there.
    wild = logits.clone()
    wild[:, :, :, 3:] *= 50
    loss = make_loss(name)
    torch.testing.assert_close(loss(wild, ignored), loss(logits[:, :, :, :3], truth[:, :, :3]))


@pytest.mark.parametrize("name", MONAI)
def test_ignored_voxels_are_as_good_as_cropped_for_monai_too(name):
    logits, truth = batch((8, 8))
    ignored = truth.clone()
    ignored[:, 5:] = IGNORE
    expected = of_monai(name)(logits[:, :, :5], truth[:, :5])
    torch.testing.assert_close(make_loss(name)(logits, ignored), expected)


@pytest.mark.parametrize("name", NAMES)
def test_ignored_voxels_get_no_gradient(name):
    logits, truth = batch((6, 6))
    truth[:, 2] = IGNORE
    logits.requires_grad_()
    make_loss(name)(logits, truth).backward()
    assert (logits.grad[:, :, 2] == 0).all()
    assert (logits.grad[:, :, :2] != 0).any()


@pytest.mark.parametrize("extreme", [0.0, 60.0])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_lesion_has_a_finite_loss_and_gradient(name, extreme):
    logits, truth = batch((6, 6))
    logits = (logits + extreme * torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1)).requires_grad_()
    loss = make_loss(name)(logits, torch.zeros_like(truth))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    if name == "dice":
        assert loss == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_right_answer_costs_least(name):
    _, truth = batch((6, 6))
    right = 30.0 * F.one_hot(truth, 2).movedim(-1, 1).float()
    loss = make_loss(name)
    assert float(loss(right, truth)) == pytest.approx(0, abs=1e-5)
    assert loss(right, truth) < loss(0.05 * right, truth) < loss(-right, truth)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_summed_in_single(name):
    logits, truth = batch((40, 40))
    half = logits.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = make_loss(name)(half, truth)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, make_loss(name)(half.float(), truth))


def of_probability(p, lesion=True):
    """Logits (1, 2, 1, V) of voxels whose true class has the probabilities ``p``, and the truth."""
    p = torch.as_tensor(p, dtype=torch.float32)
    true, other = torch.logit(p), torch.zeros(len(p))
    logits = torch.stack([other, true] if lesion else [true, other])[None, :, None]
    return logits, torch.full((1, 1, len(p)), int(lesion))


@pytest.mark.parametrize("lesion", [True, False])
def test_generalised_cross_entropy_by_hand(lesion):
    # 0.5 ** 0.7 is 0.6156, 0.1 ** 0.7 is 0.1995.
    loss = make_loss("gce")(*of_probability([0.5, 0.1], lesion))
    assert float(loss) == pytest.approx(((1 - 0.6156) + (1 - 0.1995)) / 2 / 0.7, abs=1e-3)


@pytest.mark.parametrize("lesion", [True, False])
def test_symmetric_cross_entropy_by_hand(lesion):
    # 0.1 cross-entropy, and 4 for every unit of probability on the other class.
    loss = make_loss("sce")(*of_probability([0.5, 0.1], lesion))
    expected = 0.1 * (np.log(2) + np.log(10)) / 2 + 4 * (0.5 + 0.9) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_their_parameters_are_the_papers():
    assert (GCE_POWER, SCE_FORWARD, SCE_LOG_ZERO) == (0.7, 0.1, 4.0)


@pytest.mark.parametrize("size", SIZES, ids=["2d", "3d"])
def test_robust_losses_are_their_formulas(size):
    logits, truth = batch(size)
    x, t = logits.double().numpy(), truth.numpy()
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    one_hot = np.stack([t == 0, t == 1], axis=1)
    true = (p * one_hot).sum(1)
    generalised = ((1 - true**0.7) / 0.7).mean()
    # As in the paper: the reverse sums p log q over the classes, where log 0 is -4 and log 1 is 0.
    reverse = -(p * np.where(one_hot, 0.0, -4.0)).sum(1).mean()
    symmetric = 0.1 * -np.log(true).mean() + reverse
    assert float(make_loss("gce")(logits, truth)) == pytest.approx(generalised, rel=1e-5)
    assert float(make_loss("sce")(logits, truth)) == pytest.approx(symmetric, rel=1e-5)
    both = float(make_loss("gce")(logits, truth) + make_loss("dice")(logits, truth))
    assert float(make_loss("dice-gce")(logits, truth)) == pytest.approx(both, rel=1e-6)


@given(st.floats(0.001, 0.999))
def test_generalised_cross_entropy_lies_between_absolute_error_and_cross_entropy(p):
    """Its power is between 1, the mean absolute error's, and 0, the cross-entropy's limit."""
    found = float(make_loss("gce")(*of_probability([p])))
    assert 1 - p - 1e-5 <= found <= -np.log(p) + 1e-5


def pull(name, p):
    """How hard the loss pulls at a single voxel whose label has the probability ``p``."""
    logits, truth = of_probability([p])
    logits.requires_grad_()
    make_loss(name)(logits, truth).backward()
    return float(logits.grad.abs().max())


@given(st.floats(0.001, 0.999))
def test_a_label_pulls_by_its_probability_to_the_power_less_than_in_cross_entropy(p):
    assert pull("ce", p) == pytest.approx(1 - p, abs=1e-5)
    assert pull("gce", p) == pytest.approx(p**0.7 * (1 - p), rel=1e-3, abs=1e-6)
    assert pull("sce", p) == pytest.approx((0.1 + 4 * p) * (1 - p), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", ["gce", "sce"])
def test_a_wrong_label_pulls_less_than_in_cross_entropy_and_less_than_an_open_question(name):
    """The surer the network is of the other class, the less such a label counts."""
    pulls = [pull(name, p) for p in (0.3, 0.1, 0.03, 0.01)]
    assert pulls == sorted(pulls, reverse=True)
    assert pulls[-1] < 0.2 * pull("ce", 0.01)
    assert pull("ce", 0.01) > pull("ce", 0.3)


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_certainty_right_or_wrong_has_a_finite_gradient(name, p):
    logits = 200.0 * torch.tensor([1 - p, p]).view(1, 2, 1, 1).repeat(1, 1, 2, 2)
    logits.requires_grad_()
    loss = make_loss(name)(logits, torch.ones(1, 2, 2, dtype=torch.long))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
