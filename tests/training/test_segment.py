"""Training data of segmenters: truth over image, patches of the right shape, figures by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.helpers import save, save_volume
from weakseg.config import DataConfig, PatchAugmentConfig, SegmenterConfig
from weakseg.data.cases import Case, Labels
from weakseg.data.mapped import MappedStore
from weakseg.data.patches import IGNORE
from weakseg.errors import ConfigError
from weakseg.masks.region import body_region
from weakseg.models.deepmedic import DeepMedic
from weakseg.models.unet import UNet
from weakseg.models.whole_image import WholeImage
from weakseg.training import segment, segmentation_cases
from weakseg.training.prior import recalibrate
from weakseg.training.recipes import resolve
from weakseg.training.segment import SegmenterTask, patch_shape, predict, val_cases, whole_shape
from weakseg.training.segmentation_cases import (
    SegmentationCases,
    border,
    lesion_is_seen,
    prepared_image,
    volume_region,
)

LABELS = Labels(("normal",), ("tumor",))
STILL = {"flip": False, "rotate": 0, "zoom": 0, "shift": 0, "brightness": 0, "contrast": 0}
SIDE = 40


def planted(folder, lesions, size=(SIDE, SIDE), drawn=True):
    """Images of grey noise, so uneven that all of it counts as body.

    Each box of ``lesions`` is bright; None is a healthy image.
    """
    rng = np.random.default_rng(0)
    cases = []
    for i, box in enumerate(lesions):
        values = rng.integers(20, 100, size).astype(np.uint8)
        mask = np.zeros(size, dtype=np.uint8)
        if box is not None:
            top, left, height, width = box
            values[top : top + height, left : left + width] = 220
            mask[top : top + height, left : left + width] = 255
        image = save(folder / f"i{i}.png", values)
        path = save(folder / f"m{i}.png", mask) if drawn and box is not None else None
        cases.append(Case(f"c{i}", image, "tumor" if box else "normal", path, f"p{i}"))
    return cases


def loaded(cases, normalise="unit", size=SIDE, store=None):
    data = DataConfig(intensity="dtype")
    return SegmentationCases(cases, LABELS, data, 1, normalise, size, store=store)


def planted_volumes(folder, count=3, size=(14, 13, 12), **more):
    """Noise about 100; case 0 has a box of 300, with its mask; others are healthy."""
    rng = np.random.default_rng(0)
    cases = []
    for i in range(count):
        values = rng.normal(100, 5, size).astype(np.float32)
        mask = np.zeros(size, dtype=np.uint8)
        if i == 0:
            mask[3:8, 4:9, 5:9] = 1
        values[mask > 0] = 300
        image = save_volume(folder / f"v{i}.nii.gz", values)
        path = save_volume(folder / f"m{i}.nii.gz", mask) if i == 0 else None
        cases.append(Case(f"v{i}", image, "normal" if i else "tumor", path, f"p{i}", **more))
    return cases


def configured(dims=2, arch="unet", **settings):
    settings = {"batch_size": 4, "steps": 3} | settings
    return resolve(SegmenterConfig(arch=arch, **settings), dims)


def small_unet(dims=2):
    torch.manual_seed(0)
    return UNet(1, 2, dims, padding="same", depth=1, base=4, batch_norm=True, dropout=0.0)


def task_of(cases, config, model, normalise=None, train=None, val=(), seed=0):
    data = loaded(cases, normalise or config.normalise)
    chosen = range(len(cases)) if train is None else train
    return SegmenterTask(config, model, data, chosen, val, seed, "cpu")


# --- a case as a network sees it


def test_an_image_is_letterboxed_and_its_body_found():
    values = np.random.default_rng(0).integers(60, 200, (20, 40)).astype(np.uint8)
    planes, box, inside = prepared_image(values, 1, 40, "dtype", "unit")
    assert planes.shape == (1, 40, 40)
    assert planes.dtype == np.float16
    assert (box.top, box.left, box.height, box.width) == (10, 0, 20, 40)
    np.testing.assert_allclose(planes[0, 10:30], values / 255, atol=1e-3)
    assert not planes[0, :10].any()
    np.testing.assert_array_equal(inside[10:30], body_region(values / 255))
    assert not inside[:10].any()
    assert not inside[30:].any()


def test_zscored_images_have_mean_0_and_sd_1_inside_the_body():
    values = np.zeros((60, 60), dtype=np.uint8)
    values[10:50, 15:45] = np.random.default_rng(0).integers(100, 250, (40, 30))
    planes, _, inside = prepared_image(values, 1, 60, "dtype", "zscore")
    assert 0.2 < inside.mean() < 0.6
    body = planes[0][inside].astype(np.float64)
    assert body.mean() == pytest.approx(0, abs=1e-3)
    assert body.std() == pytest.approx(1, abs=1e-3)
    assert planes[0, 0, 0] < -2
    assert border(planes) == pytest.approx(planes[0, 0, 0])


def test_border_is_the_mean_of_the_corners_of_each_channel():
    image = np.zeros((2, 3, 4), dtype=np.float16)
    image[0, 0, 0], image[0, -1, -1], image[1, 1, 1] = 4, 2, 100
    np.testing.assert_array_equal(border(image), [1.5, 0])
    volume = np.zeros((1, 3, 3, 3))
    volume[0, 0, 2, 0] = 8
    assert border(volume).tolist() == [1]
    assert border(volume).dtype == np.float32


def test_a_volume_s_region_is_what_differs_from_an_even_border():
    values = np.zeros((2, 5, 5, 5), dtype=np.float32)
    values[1] = -7  # each modality has a background of its own
    values[0, 1:4, 1:4, 2] = 5
    values[1, 2, 2, 4] = 1
    expected = np.zeros((5, 5, 5), dtype=bool)
    expected[1:4, 1:4, 2] = expected[2, 2, 4] = True
    np.testing.assert_array_equal(volume_region(values, None), expected)
    named = np.zeros((5, 5, 5), dtype=bool)
    named[0, 0, 0] = True
    np.testing.assert_array_equal(volume_region(values, named), named)


def test_a_volume_without_an_even_border_is_region_throughout():
    rng = np.random.default_rng(0)
    assert volume_region(rng.normal(size=(1, 4, 4, 4)), None).all()
    assert volume_region(np.full((1, 4, 4, 4), 3.0), None).all()


def test_kept_cases_are_those_that_are_made_anew(tmp_path):
    cases = planted(tmp_path, [(8, 8, 8, 12), None], size=(40, 20))
    cases.append(replace(cases[0], id="u", mask=None))
    anew, kept = loaded(cases, size=20), loaded(cases, size=20, store=MappedStore(tmp_path))
    full = loaded(cases, size=20, store=MappedStore(tmp_path, 0))
    for i in range(3):
        first, again = kept.arrays(i), kept.arrays(i)
        assert again is kept.arrays(i)  # it was made once
        for made in (first, again, full.arrays(i)):
            for name in ("image", "truth", "region", "fill"):
                expected, found = getattr(anew.arrays(i), name), getattr(made, name)
                if expected is None:
                    assert found is None
                else:
                    np.testing.assert_array_equal(found, expected)
                    assert found.dtype == expected.dtype


def test_truth_is_on_the_network_s_grid_and_known_of_healthy_images(tmp_path):
    cases = planted(tmp_path, [(8, 8, 8, 12), None], size=(40, 20))
    undrawn = replace(cases[0], id="u", mask=None)
    data = loaded([*cases, undrawn], size=20)
    first = data.arrays(0)
    # Half the size, 5 pixels of padding on either side.
    assert first.image.shape == (1, 20, 20)
    expected = np.zeros((20, 20), dtype=bool)
    expected[4:8, 5 + 4 : 5 + 10] = True
    np.testing.assert_array_equal(first.truth, expected)
    assert not data.arrays(1).truth.any()
    assert data.arrays(2).truth is None
    back = data.original(0, first.truth.astype(np.float32))
    assert back.shape == (40, 20)
    assert back[10:14, 10:18].min() > 0.5
    assert back[:6].max() < 0.5


def test_no_mask_is_opened_where_no_truth_is_asked_for(tmp_path, monkeypatch):
    cases = planted(tmp_path, [(5, 5, 8, 8), None])
    opened, read = [], segmentation_cases.case_truth
    monkeypatch.setattr(
        segmentation_cases,
        "case_truth",
        lambda case, *of: opened.append(case.id) or read(case, *of),
    )
    for store in (None, MappedStore(tmp_path)):
        data = loaded(cases, store=store)
        for view in (data, data.of_size(data.size + 8)):
            dict(predict(Brightness(), view, [0, 1], configured(), "cpu"))
        assert opened == []
        assert data.arrays(0).truth.any()
        assert data.arrays(0).truth.any()
        assert opened == [cases[0].id] * (1 if store else 2)
        opened.clear()
    healthy = replace(cases[1], mask=cases[0].mask)
    taught = loaded([cases[0], healthy])
    taught.targets = {0: np.ones((SIDE, SIDE), dtype=np.uint8)}
    assert taught.arrays(0).truth.any()
    assert not taught.arrays(1).truth.any()
    assert opened == []


@pytest.mark.parametrize(("side", "seen"), [(2, False), (8, True)])
def test_a_lesion_that_is_lost_on_the_networks_grid_is_not_seen(side, seen):
    target = np.zeros((512, 512), dtype=np.uint8)
    target[253 : 253 + side, 255 : 255 + side] = 1
    assert lesion_is_seen(target, 128) is seen
    assert lesion_is_seen(target, 512)
    assert not lesion_is_seen(np.where(target, IGNORE, 0).astype(np.uint8), 512)
    volume = np.zeros((5, 5, 5), dtype=np.uint8)
    assert not lesion_is_seen(volume, 128)
    volume[2, 2, 2] = 1
    assert lesion_is_seen(volume, 128)


def test_truth_of_exactly_half_a_pixel_is_background(tmp_path):
    data = loaded(planted(tmp_path, [(10, 20, 3, 3)], size=(40, 40)), size=20)
    expected = np.zeros((20, 20), dtype=bool)
    expected[5, 10] = True
    np.testing.assert_array_equal(data.arrays(0).truth, expected)
    target = np.zeros((40, 40), dtype=np.uint8)
    target[10:13, 20:23], target[20:23, 20:23] = 1, IGNORE
    data.targets = {0: target}
    found = data.arrays(0).truth
    np.testing.assert_array_equal(found == 1, expected)
    np.testing.assert_array_equal(np.argwhere(found == IGNORE), [[10, 10]])


def test_a_volume_is_zscored_in_its_region_and_marks_outside_it_are_dropped(tmp_path):
    roi = np.zeros((14, 13, 12), dtype=np.uint8)
    roi[2:10, 2:10, 2:10] = 1
    path = save_volume(tmp_path / "roi.nii.gz", roi)
    data = loaded(planted_volumes(tmp_path, 1, roi=path), "zscore")
    held = data.arrays(0)
    assert held.image.shape == (1, 14, 13, 12)
    np.testing.assert_array_equal(held.region, roi > 0)
    inside = held.image[0][held.region].astype(np.float64)
    assert inside.mean() == pytest.approx(0, abs=2e-3)
    assert inside.std() == pytest.approx(1, abs=2e-3)
    assert held.truth[3:8, 4:9, 5:9].all()
    assert held.truth.sum() == 100
    np.testing.assert_array_equal(data.original(0, np.ones(roi.shape)), roi)


# --- shapes of patches


def test_patches_have_the_network_s_margins():
    shape = patch_shape(DeepMedic(1, 2), 9, 2)
    assert (shape.output, shape.window, shape.before) == ((9, 9), (57, 57), 23)
    shape = patch_shape(UNet(1, 2, 3, depth=1, base=2), 5, 3)
    assert (shape.output, shape.window, shape.before) == ((6, 6, 6), (22, 22, 22), 8)
    assert patch_shape(small_unet(), "whole", 2) is None
    whole = whole_shape(UNet(1, 2, depth=1, base=2), (7, 10))
    assert (whole.output, whole.window, whole.before) == ((8, 10), (24, 26), 8)


# --- batches


def over(windows, truths, before, thresh):
    """Whether bright and lesion are the same voxels, apart from the ignored ones."""
    cuts = tuple(slice(before, before + n) for n in truths.shape[1:])
    bright = windows[(slice(None), 0, *cuts)] > thresh
    known = truths != IGNORE
    return torch.equal(bright[known], truths[known] == 1)


def test_truth_lies_over_whole_images_whatever_turns_them(tmp_path):
    cases = planted(tmp_path, [(6, 9, 11, 7), (20, 22, 9, 13), None])
    augment = PatchAugmentConfig(
        **(STILL | {"flip": True, "rotate": 30, "zoom": 0.1, "shift": 0.1})
    )
    task = task_of(cases, configured(steps=6, augment=augment), small_unet())
    turned = 0
    for windows, truths in task.batches(0):
        assert windows.shape == (4, 1, SIDE, SIDE)
        assert truths.shape == (4, SIDE, SIDE)
        assert truths.dtype == torch.int64
        bright, lesion = windows[:, 0] > 0.55, truths == 1
        known = truths != IGNORE
        # Along the lesion's border an image lies between neighbours, and truth is the nearest.
        wrong = (bright != lesion) & known
        assert wrong.sum() <= 0.2 * lesion.sum()
        inner = -torch.nn.functional.max_pool2d(-lesion[:, None].float(), 3, 1, 1)[:, 0] > 0
        assert bright[inner].all()
        near = torch.nn.functional.max_pool2d(lesion[:, None].float(), 3, 1, 1)[:, 0] > 0
        assert not bright[~near].any()
        turned += int((truths == IGNORE).any())
    assert turned


@pytest.mark.parametrize("sampler", ["uniform", "foreground", "balanced", "grid"])
def test_truth_lies_over_patches_of_deepmedic_mirrored_ones_too(tmp_path, sampler):
    """Its margin is longer behind than before: mirroring must not part image and truth."""
    cases = planted(tmp_path, [(6, 9, 11, 7), (30, 0, 10, 13), None])
    augment = PatchAugmentConfig(**STILL, flip_all=True)
    config = configured(arch="deepmedic", sampler=sampler, augment=augment, normalise="unit")
    task = task_of(cases, config, DeepMedic(1, 2))
    seen = 0
    for windows, truths in task.batches(0):
        assert windows.shape == (4, 1, 57, 57)
        assert truths.shape == (4, 9, 9)
        assert over(windows, truths, 23, 0.5)
        # A mirrored window moves the output by what the margins differ: two voxels.
        unknown = truths == IGNORE
        assert not unknown[:, 2:-2, 2:-2].any()
        seen += int((truths == 1).sum())
    assert seen or sampler in ("uniform", "grid")


def test_patches_of_volumes(tmp_path):
    config = configured(
        dims=3, patch=4, batch_size=3, augment=PatchAugmentConfig(**STILL, flip_all=True)
    )
    model = UNet(1, 2, 3, depth=1, base=2)
    task = task_of(planted_volumes(tmp_path), config, model)
    lesion = 0
    for windows, truths in task.batches(0):
        assert windows.shape == (3, 1, 20, 20, 20)
        assert truths.shape == (3, 4, 4, 4)
        # z-scored: the box of case 0 lies far above the noise, which in the other cases is ±4.
        cuts = slice(8, 12)
        for w, t in zip(windows[:, 0, cuts, cuts, cuts], truths, strict=True):
            if (t == 1).any():
                assert torch.equal(w > 2, t == 1)
                lesion += 1
        assert task.loss(model, (windows, truths)).isfinite()
    assert lesion


def test_a_batch_whose_deepest_map_is_one_value_is_refused_in_a_sentence(tmp_path):
    config = configured(dims=3, patch=8, batch_size=1)
    model = UNet(1, 2, 3, padding="same", depth=3, base=2, batch_norm=True)
    task = task_of(planted_volumes(tmp_path), config, model)
    batch = next(iter(task.batches(0)))
    with pytest.raises(ConfigError, match="batches of 1 patches of 8 x 8 x 8") as refused:
        task.loss(model.train(), batch)
    assert "batch_size: 2" in str(refused.value)


def test_patches_larger_than_the_image_ignore_what_lies_outside(tmp_path):
    config = configured(patch=64, augment=PatchAugmentConfig(**STILL))
    task = task_of(planted(tmp_path, [(4, 4, 9, 9), None]), config, small_unet())
    for windows, truths in task.batches(0):
        assert windows.shape == (4, 1, 64, 64)
        known = truths != IGNORE
        assert (known.sum((1, 2)) == SIDE**2).all()
        assert known[:, 12:52, 12:52].all()
        assert over(windows, truths, 0, 0.5)


def test_whole_images_that_a_network_pads_end_with_ignored_voxels(tmp_path):
    """A valid U-Net gives 40 or 42 voxels, not 41."""
    cases = planted(tmp_path, [(4, 4, 9, 9)], size=(41, 41))
    config = configured(patch="whole", augment=PatchAugmentConfig(**STILL), steps=1)
    model = UNet(1, 2, depth=1, base=2)
    data = loaded(cases, size=41)
    task = SegmenterTask(config, model, data, [0], [], 0, "cpu")
    ((windows, truths),) = task.batches(0)
    assert truths.shape == (4, 42, 42)
    assert windows.shape == (4, 1, 58, 58)
    assert (truths[:, 41:] == IGNORE).all()
    assert not (truths[:, :41, :41] == IGNORE).any()
    assert over(windows, truths, 8, 0.5)
    assert task.loss(model, (windows, truths)).isfinite()


def test_epochs_differ_and_repeat_and_so_do_seeds(tmp_path):
    cases = planted(tmp_path, [(6, 9, 11, 7), None, None])
    config = configured()

    def first(seed, epoch):
        return next(task_of(cases, config, small_unet(), seed=seed).batches(epoch))[0]

    assert torch.equal(first(0, 0), first(0, 0))
    assert not torch.equal(first(0, 0), first(0, 1))
    assert not torch.equal(first(0, 0), first(1, 0))


def test_a_case_that_a_batch_has_twice_is_read_once(tmp_path, monkeypatch):
    cases = planted(tmp_path, [(8, 8, 8, 12)])
    task = task_of(cases, configured(patch="whole", batch_size=4, steps=3), small_unet())
    made = []
    image = task.data._image
    monkeypatch.setattr(task.data, "_image", lambda case, i: (made.append(i), image(case, i))[1])
    for windows, _ in task.batches(0):
        assert len(windows) == 4
    assert made == [0, 0, 0]


def test_an_epoch_has_the_steps_configured_or_one_pass():
    assert SegmenterTask.steps_of(configured(steps="auto"), 41) == 10
    assert SegmenterTask.steps_of(configured(steps="auto"), 2) == 1
    assert SegmenterTask.steps_of(configured(steps=7), 41) == 7


@pytest.mark.parametrize("normalise", ["unit", "zscore"])
def test_a_few_steps_lower_the_loss_and_find_what_was_planted(tmp_path, normalise):
    lesions = [(6, 9, 11, 7), (20, 22, 9, 13), None, None, (3, 25, 10, 10), (25, 5, 10, 10)]
    config = configured(steps=25, normalise=normalise, augment=PatchAugmentConfig(**STILL))
    model = small_unet()
    task = task_of(planted(tmp_path, lesions), config, model, train=range(4), val=[2, 4, 5])
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for batch in task.batches(0):
        optimizer.zero_grad()
        loss = task.loss(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:3])
    assert task.validate(model.eval())["val_dice"] > 0.8


# --- priors


def test_priors_of_whole_images_are_their_lesion_shares(tmp_path, monkeypatch):
    monkeypatch.setattr("weakseg.training.segment.PRIOR_DRAWS", 200)  # all are alike, or by turns
    # 64 of 1600 pixels in one image, nothing in three.
    cases = planted(tmp_path, [(8, 8, 8, 8), None, None, None])
    task = task_of(cases, configured(sampler="foreground", foreground=1.0), small_unet())
    sampled, true = task.priors()
    assert true == 64 / 1600 / 4
    assert sampled == 64 / 1600
    assert task.priors() == (sampled, true)


@pytest.mark.thorough
def test_priors_of_patches(tmp_path):
    cases = planted(tmp_path, [(16, 16, 8, 8), None])
    config = configured(patch=1, sampler="balanced")
    sampled, true = task_of(cases, config, small_unet()).priors()
    assert sampled == pytest.approx(0.5, abs=0.05)
    assert true == pytest.approx(64 / 3200, abs=0.015)


# --- validation and prediction


class Brightness(WholeImage):
    """Bright is lesion, with p = 0.75 or 0.25."""

    def forward(self, x):
        logit = torch.where(x[:, 0] > 0.5, np.log(3.0), -np.log(3.0))
        return torch.stack([torch.zeros_like(logit), logit], 1)


def test_figures_of_validation_by_hand(tmp_path):
    # Marked by brightness; the masks of cases 0 and 1 are another box.
    cases = planted(tmp_path, [(5, 5, 8, 8), (5, 5, 8, 8), (20, 20, 4, 4), None, None])
    half, none = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    half[5:13, 9:17] = 255  # shares 8 × 4 of 8 × 8
    none[30:34, 30:34] = 255
    cases[0] = replace(cases[0], mask=save(tmp_path / "half.png", half))
    cases[1] = replace(cases[1], mask=save(tmp_path / "none.png", none))
    bright = np.full((SIDE, SIDE), 60, np.uint8)
    bright[7, 7] = 255
    save(cases[4].image, bright)
    task = task_of(cases, configured(), Brightness(), train=[], val=range(5))
    figures = task.validate(task.model)
    assert figures["val_dice"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert figures["val_false_alarms"] == 0.5
    # Every pixel was given 0.75 to what it shows by its brightness, so that the loss is that of
    # 0.75 but where brightness and mask disagree: 2 × 32 of half's, 64 + 16 of none's, 1 pixel.
    wrong = np.array([2 * 4 * 8, 64 + 16, 0, 0, 1]) / SIDE**2
    by_hand = -(wrong * np.log(0.25) + (1 - wrong) * np.log(0.75)).mean()
    assert figures["val_loss"] == pytest.approx(by_hand)


def test_a_network_that_says_nan_is_not_scored(tmp_path):
    model = small_unet()
    torch.nn.init.constant_(next(model.parameters()), float("nan"))
    task = task_of(planted(tmp_path, [(0, 0, 20, 10)]), configured(), model, val=[0])
    with pytest.raises(FloatingPointError, match="became nan"):
        task.validate(model.eval())


def test_without_validation_cases_the_figures_are_there_but_no_numbers(tmp_path):
    cases = planted(tmp_path, [(5, 5, 8, 8), None])
    expected = {"val_dice", "val_false_alarms", "val_loss"}
    for val, most in (([], 64), ([0, 1], 0)):
        task = task_of(cases, configured(validation_cases=most), Brightness(), train=[], val=val)
        figures = task.validate(task.model)
        assert set(figures) == expected
        assert np.isnan(list(figures.values())).all()
    figures = task_of(cases, configured(), Brightness(), train=[], val=[0]).validate(Brightness())
    assert figures["val_dice"] == 1
    assert np.isnan(figures["val_false_alarms"])


def test_validation_cases_are_evenly_spaced_and_have_a_truth(tmp_path):
    cases = planted(tmp_path, [(5, 5, 8, 8)] * 9 + [None] * 5)
    cases[3] = replace(cases[3], mask=None)
    data = loaded(cases)
    every = range(14)
    assert val_cases(data, every, 64) == [0, 1, 2, *range(4, 14)]
    assert val_cases(data, every, 3) == [0, 5, 8, 9, 11, 13]
    assert val_cases(data, every, 0) == []
    assert val_cases(data, [3], 5) == []


def test_predictions_come_case_by_case_and_recalibrated_where_asked_for(tmp_path):
    cases = planted(tmp_path, [(5, 5, 8, 8), None])
    data, model = loaded(cases), Brightness()
    config = configured()
    plain = dict(predict(model, data, [1, 0], config, "cpu", (0.5, 0.1)))
    assert list(plain) == [1, 0]
    assert plain[0][6, 6] == pytest.approx(0.75)
    asked = configured(recalibrate=True)
    out = dict(predict(model, data, [0], asked, "cpu", (0.5, 0.1)))[0]
    np.testing.assert_allclose(out, recalibrate(plain[0], 0.5, 0.1), rtol=1e-6)
    assert out[6, 6] == pytest.approx(0.25)
    assert out.dtype == np.float32
    # A share of nothing cannot be undone.
    for priors in ((0.0, 0.0), (0.5, 0.0), None):
        same = dict(predict(model, data, [0], asked, "cpu", priors))[0]
        np.testing.assert_array_equal(same, plain[0])


def test_on_a_processor_a_few_images_are_seen_at_once_and_company_changes_nothing(
    tmp_path, monkeypatch
):
    cases = planted(tmp_path, [(5, 5, 8, 8), None, (1, 2, 6, 7), (9, 9, 4, 4), None])
    data, model = loaded(cases), small_unet().eval()
    seen, config = [], configured()
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    whole = dict(predict(model, data, range(5), config, "cpu"))
    assert seen == [5]
    monkeypatch.setattr(segment, "PIXELS_ON_CPU", 2 * data.size**2)
    seen.clear()
    few = dict(predict(model, data, range(5), config, "cpu", fill=True))
    alone = [dict(predict(model, data, [i], config, "cpu", fill=True))[i] for i in range(5)]
    assert seen == [2] * 8
    for i in range(5):
        np.testing.assert_array_equal(few[i], alone[i])
        np.testing.assert_allclose(few[i], whole[i], atol=1e-5)


def test_volumes_of_different_sizes_are_predicted(tmp_path):
    cases = planted_volumes(tmp_path / "a", 1) + planted_volumes(
        tmp_path / "b", 1, size=(9, 10, 11)
    )
    data = loaded(cases, "zscore")
    found = dict(predict(small_unet(3).eval(), data, [0, 1], configured(dims=3), "cpu"))
    assert [p.shape for p in found.values()] == [(14, 13, 12), (9, 10, 11)]


def test_a_volume_is_read_once_for_its_probability(tmp_path, monkeypatch):
    values = np.random.default_rng(0).random((6, 5, 4)).astype(np.float32)
    plain = Case("a", save_volume(tmp_path / "a.nii.gz", values), "tumor")
    roi = save_volume(tmp_path / "roi.nii.gz", (values > 0.5).astype(np.uint8))
    inside = Case("b", plain.image, "tumor", roi=roi)
    data, p = loaded([plain, inside]), np.full(values.shape, 0.5, dtype=np.float32)
    data.arrays(0)
    np.testing.assert_array_equal(data.original(1, p), np.where(values > 0.5, 0.5, 0))
    monkeypatch.setattr("weakseg.training.segmentation_cases.read_case", None)
    assert data.original(0, p) is p
