"""Augmentation of patches: image and truth change together, in two and three dimensions."""

import pytest
import torch

from weakseg.config import PatchAugmentConfig
from weakseg.data.augment import augment_pairs
from weakseg.data.patches import IGNORE

STILL = {"flip": False, "rotate": 0, "zoom": 0, "shift": 0, "brightness": 0, "contrast": 0}
NOTHING = PatchAugmentConfig(**STILL)


def change(**some):
    return PatchAugmentConfig(**(STILL | some))


def bright_boxes(n, dims, side=24):
    """A bright box on 0.2, away from the middle and from every border; and the truth."""
    truth = torch.zeros(n, *[side] * dims, dtype=torch.uint8)
    truth[(slice(None), slice(6, 12), *[slice(8, 17)] * (dims - 1))] = 1
    return 0.2 + 0.6 * truth[:, None].float(), truth


def fill(n, channels=1, value=0.2):
    return torch.full((n, channels), value)


@pytest.mark.parametrize("dims", [2, 3])
def test_with_every_range_at_zero_nothing_changes(dims):
    images, truths = bright_boxes(3, dims, 20)
    out, labels = augment_pairs(images, truths, NOTHING, fill(3))
    assert torch.equal(out, images)
    assert torch.equal(labels, truths)


@pytest.mark.parametrize("seed", range(5))
def test_truth_lies_over_the_image_after_a_turn(seed):
    images, truths = bright_boxes(8, 2, 40)
    torch.manual_seed(seed)
    config = change(flip=True, rotate=40, zoom=0.2, shift=0.1)
    out, labels = augment_pairs(images, truths, config, fill(8))
    assert not torch.equal(labels, truths)
    found = out[:, 0] > 0.5
    inside = labels != IGNORE
    # Image between neighbours, truth of the nearest one: they may part at the lesion's border.
    edge = torch.nn.functional.max_pool2d((labels == 1).float()[:, None], 3, 1, 1)[:, 0] > 0
    edge &= torch.nn.functional.max_pool2d((labels != 1).float()[:, None], 3, 1, 1)[:, 0] > 0
    assert torch.equal(found[inside & ~edge], labels[inside & ~edge] == 1)
    assert (labels == 1).sum((1, 2)).min() > 20


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("which", ["flip", "flip_all"])
def test_mirrored_images_take_their_truth_along(dims, which):
    images, truths = bright_boxes(64, dims, 20)
    torch.manual_seed(0)
    out, labels = augment_pairs(images, truths, change(**{which: True}), fill(64))
    assert torch.equal(out[:, 0] > 0.5, labels == 1)
    variants = {tuple(image.flatten().tolist()) for image in labels}
    # x is the last axis of an image and the first of a volume; the box is symmetric along none.
    assert len(variants) == (2 if which == "flip" else 2**dims)
    if which == "flip":
        mirrored = truths[0].flip(dims - 1 if dims == 2 else 0)
        assert tuple(mirrored.flatten().tolist()) in variants


def test_what_comes_in_from_outside_is_fill_and_enters_no_loss():
    images, truths = torch.full((20, 2, 16, 16), 5.0), torch.ones(20, 16, 16, dtype=torch.uint8)
    torch.manual_seed(0)
    outside = torch.tensor([[-3.0, 7.0]]).expand(20, 2)
    out, labels = augment_pairs(images, truths, change(shift=0.4), outside)
    assert set(labels.unique().tolist()) == {1, IGNORE}
    far = torch.nn.functional.max_pool2d((labels == 1).float()[:, None], 3, 1, 1)[:, 0] == 0
    assert far.sum() > 100
    torch.testing.assert_close(out[:, 0][far], torch.full((int(far.sum()),), -3.0))
    torch.testing.assert_close(out[:, 1][far], torch.full((int(far.sum()),), 7.0))
    # Beside the window's own border a voxel may lie between image and outside.
    beside = torch.nn.functional.pad((labels != 1).float()[:, None], [1] * 4, value=1.0)
    inside = torch.nn.functional.max_pool2d(beside, 3, 1)[:, 0] == 0
    torch.testing.assert_close(out[:, 0][inside], torch.full((int(inside.sum()),), 5.0))


def test_ignored_voxels_stay_ignored_when_turned():
    images, truths = bright_boxes(10, 2)
    truths[:, :, 18:] = IGNORE
    torch.manual_seed(0)
    _, labels = augment_pairs(images, truths, change(rotate=90), fill(10))
    assert set(labels.unique().tolist()) == {0, 1, IGNORE}
    assert ((labels == IGNORE).sum((1, 2)) > 100).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_intensities_shift_and_scale_by_normal_draws_a_channel(dims):
    images = torch.ones(3000, 2, *[2] * dims)
    torch.manual_seed(0)
    truths = torch.zeros(3000, *[2] * dims, dtype=torch.uint8)
    shifted, labels = augment_pairs(images, truths, change(intensity_shift=0.05), fill(3000, 2))
    assert torch.equal(labels, truths)
    flat = shifted.flatten(2)
    assert torch.equal(flat.amin(2), flat.amax(2))
    draws = flat[:, :, 0] - 1
    assert float(draws.mean()) == pytest.approx(0, abs=0.003)
    assert float(draws.std()) == pytest.approx(0.05, rel=0.05)
    assert abs(float(torch.corrcoef(draws.T)[0, 1])) < 0.06
    scaled, _ = augment_pairs(10 * images, truths, change(intensity_scale=0.01), fill(3000, 2))
    assert float(scaled.std()) == pytest.approx(0.1, rel=0.05)
    assert float(scaled.mean()) == pytest.approx(10, abs=0.01)


def test_brightness_keeps_the_unit_range_and_intensity_shift_does_not():
    images, truths = torch.rand(40, 1, 8, 8), torch.zeros(40, 8, 8, dtype=torch.uint8)
    torch.manual_seed(0)
    out, _ = augment_pairs(images, truths, change(brightness=0.8, contrast=0.5), fill(40))
    assert out.min() == 0
    assert out.max() == 1
    out, _ = augment_pairs(images, truths, change(intensity_shift=1.0), fill(40))
    assert out.min() < 0


def test_a_seed_repeats_the_changes_and_each_image_has_its_own():
    images, truths = bright_boxes(4, 2)
    config = PatchAugmentConfig(flip_all=True, intensity_shift=0.1)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(augment_pairs(images, truths, config, fill(4)))
    (a, x), (b, y), (c, _) = results
    assert torch.equal(a, b)
    assert torch.equal(x, y)
    assert not torch.equal(a, c)
    assert all((a[i] - a[j]).abs().max() > 0.01 for i in range(4) for j in range(i))


def test_what_a_crop_takes_is_filled_and_enters_no_loss():
    images, truths = bright_boxes(32, 2)
    torch.manual_seed(0)
    out, labels = augment_pairs(images, truths, change(crop=0.4), fill(32, value=0.7))
    lost = labels == IGNORE
    assert lost.any()
    assert (out[:, 0][lost] == 0.7).all()
    assert torch.equal(out[:, 0][~lost], images[:, 0][~lost])
    assert torch.equal(labels[~lost], truths[~lost])


def test_gamma_and_speckle_leave_the_truth_alone():
    images, truths = bright_boxes(8, 2)
    out, labels = augment_pairs(images, truths, change(gamma=1.0, speckle=0.2), fill(8))
    assert torch.equal(labels, truths)
    assert not torch.equal(out, images)
    assert ((out >= 0) & (out <= 1)).all()
