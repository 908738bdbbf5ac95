"""Losses, held against MONAI's; voxels that are ignored leave no trace."""

import pytest
import torch
from torch.nn import functional as F

from weakseg.data.patches import IGNORE
from weakseg.training.losses import make_loss

NAMES = ("ce", "dice", "dice-ce", "focal")
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
@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
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
