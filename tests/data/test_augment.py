"""Augmentation: each image its own change, seeded, within [0, 1]."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weakseg.config import AugmentConfig, ClassifierConfig
from weakseg.config.classifier import AUGMENTATIONS
from weakseg.data.augment import (
    augment,
    crosses,
    random_affine,
    random_size,
    rescaled,
    scanner_look,
    seen_window,
)

NOTHING = AugmentConfig(flip=False, rotate=0, zoom=0, shift=0, brightness=0, contrast=0)


def images(n=6, channels=1, size=32):
    torch.manual_seed(3)
    return torch.rand(n, channels, size, size)


def test_with_every_range_at_zero_nothing_changes():
    x = images()
    torch.testing.assert_close(augment(x, NOTHING), x, atol=1e-5, rtol=0)


def test_flip_alone_gives_the_image_or_its_mirror():
    x = images(40)
    out = augment(x, NOTHING.model_copy(update={"flip": True}))
    same = (out - x).abs().amax((1, 2, 3)) < 1e-4
    mirrored = (out - x.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    assert (same ^ mirrored).all()
    assert 8 < int(mirrored.sum()) < 32


def test_images_of_a_batch_change_differently_and_a_seed_repeats_them():
    x = images(1).expand(4, 1, 32, 32).contiguous()
    torch.manual_seed(0)
    a = augment(x, AugmentConfig())
    torch.manual_seed(0)
    b = augment(x, AugmentConfig())
    assert torch.equal(a, b)
    assert all((a[i] - a[j]).abs().max() > 0.01 for i in range(4) for j in range(i))


def test_shift_moves_a_spot_by_no_more_than_its_share():
    x = torch.zeros(60, 1, 33, 33)
    x[:, 0, 16, 16] = 1
    out = augment(x, NOTHING.model_copy(update={"shift": 0.2}))
    places = torch.tensor([divmod(int(o.argmax()), 33) for o in out]) - 16
    assert places.abs().max() <= 0.2 * 33 + 1
    assert places.abs().max() >= 3


def test_zoom_is_symmetric_about_one():
    torch.manual_seed(0)
    matrix = random_affine(2000, NOTHING.model_copy(update={"zoom": 0.2}))
    shown = 1 / matrix[:, 0, 0]
    assert float(shown.min()) == pytest.approx(0.8, abs=0.01)
    assert float(shown.max()) == pytest.approx(1.2, abs=0.01)


@given(st.integers(0, 1000), st.sampled_from([1, 3]))
def test_values_stay_in_range(seed, channels):
    x = images(3, channels, 16)
    torch.manual_seed(seed)
    out = augment(x, AugmentConfig(brightness=1.0, contrast=0.9, rotate=180))
    assert out.shape == x.shape
    assert out.min() >= 0
    assert out.max() <= 1


def test_rescaled_images_are_those_of_scikit_image():
    resize = pytest.importorskip("skimage.transform").resize
    x = images(2, size=24)
    out = rescaled(x, 1.5)
    assert out.shape == (2, 1, 36, 36)
    # Bilinear, with half-pixel centres; its borders are mirrored, torch's repeat.
    expected = resize(x[0, 0].numpy(), (36, 36), order=1, anti_aliasing=False)
    torch.testing.assert_close(
        out[0, 0, 1:-1, 1:-1], torch.from_numpy(expected[1:-1, 1:-1]), atol=1e-5, rtol=0
    )
    assert rescaled(x, 1.0) is x


def test_a_random_size_is_one_for_a_batch_and_evenly_drawn_between_the_bounds():
    x = images(1, size=64)
    sides = torch.tensor([random_size(x, (0.5, 2.0)).shape[-1] for _ in range(600)])
    assert (int(sides.min()), int(sides.max())) == (32, 128)
    assert (sides % 8 == 0).all()
    assert float(sides.float().mean()) == pytest.approx(80, abs=4)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gamma_is_one_power_an_image_between_its_bounds_and_their_inverses(gamma):
    images = torch.linspace(0, 1, 64).view(1, 1, 8, 8).expand(400, 1, 8, 8)
    out = scanner_look(images, NOTHING.model_copy(update={"gamma": gamma}))
    inner = images[:, 0].flatten(1)[:, 1:-1]
    powers = out[:, 0].flatten(1)[:, 1:-1].log() / inner.log()
    np.testing.assert_allclose(powers, powers[:, :1].expand_as(powers), rtol=1e-4)
    logs = powers[:, 0].log() / np.log(1 + gamma)
    assert logs.abs().max() <= 1 + 1e-4
    assert abs(float(logs.mean())) < 0.1
    assert float(logs.std()) == pytest.approx(1 / np.sqrt(3), abs=0.05)  # uniform in its logarithm
    assert (out[:, 0, 0, 0] == 0).all()
    assert (out[:, 0, -1, -1] == 1).all()


def test_speckle_grows_with_the_intensity_and_leaves_black_alone():
    images = torch.tensor([0.0, 0.2, 0.4]).view(1, 1, 1, 3).expand(64, 2, 64, 3)
    out = scanner_look(images, NOTHING.model_copy(update={"speckle": 0.1}))
    assert not out[..., 0].any()
    spread = out.std((0, 1, 2)) / torch.tensor([1.0, 0.2, 0.4])
    np.testing.assert_allclose(spread[1:], 0.1, rtol=0.05)
    np.testing.assert_array_equal(out[:, 0], out[:, 1])  # of the place, in every colour


def test_a_window_is_a_rectangle_and_takes_no_more_than_its_share_of_a_side():
    inside = seen_window(300, (20, 40), 0.25)[:, 0]
    rows, columns = inside.any(2), inside.any(1)
    np.testing.assert_array_equal(inside, rows[:, :, None] & columns[:, None])
    assert inside[:, 5:15, 10:30].all()
    lost = (~rows[:, :10]).sum(1) / 20
    assert 0.2 <= float(lost.max()) <= 0.25
    assert float(lost.mean()) == pytest.approx(0.125, abs=0.03)
    assert len(torch.unique(columns.sum(1))) > 5


def test_calipers_are_whole_white_crosses_from_none_to_so_many():
    torch.manual_seed(0)
    drawn = crosses(400, (24, 40), 1)[:, 0]
    count = drawn.sum((1, 2))
    assert set(count.tolist()) == {0, 9}  # arms of two pixels on each side of a centre
    assert float((count > 0).float().mean()) == pytest.approx(0.5, abs=0.1)
    first = drawn[count > 0][0]
    (y,), (x,) = np.flatnonzero(first.sum(1) == 5), np.flatnonzero(first.sum(0) == 5)
    assert first[y, x - 2 : x + 3].all()
    assert first[y - 2 : y + 3, x].all()
    rows, columns = drawn.any(2).any(0), drawn.any(1).any(0)
    assert rows.all()
    assert columns.all()  # to the very edge
    assert crosses(100, (200, 300), 3).sum((1, 2, 3)).max() <= 3 * (4 * 4 + 1)
    x = images(8, 3, 24)
    out = scanner_look(x, NOTHING.model_copy(update={"calipers": 4}))
    changed = (out != x).all(1)
    assert changed.any()
    assert (out.movedim(1, -1)[changed] == 1).all()
    torch.testing.assert_close(out.movedim(1, -1)[~changed], x.movedim(1, -1)[~changed])
    volume = x.unsqueeze(2)
    for change in (scanner_look, augment):
        with pytest.raises(ValueError, match="not into whole volumes"):
            change(volume, NOTHING.model_copy(update={"calipers": 4}))


@pytest.mark.parametrize("arch", ["mil:resnet18", "resnet18-3d"])
def test_calipers_are_refused_where_whole_volumes_are_trained(arch):
    assert ClassifierConfig(arch="resnet18", augment="ultrasound-look").augment.calipers == 4
    assert ClassifierConfig(arch=arch, augment="scanner-look").augment.calipers == 0
    with pytest.raises(ValueError, match="augment: calipers are for classifiers of images"):
        ClassifierConfig(arch=arch, augment="ultrasound-look")


def test_an_augmentation_has_a_name_and_what_is_not_done_is_not_spoken_of():
    named = ClassifierConfig.model_validate({"augment": "scanner-look"}).augment
    assert named.model_dump().items() >= AUGMENTATIONS["scanner-look"].items()
    assert named.rotate == AugmentConfig().rotate
    assert not {"gamma", "speckle", "crop", "calipers"} & AugmentConfig().model_dump().keys()
    of_ultrasound = ClassifierConfig.model_validate({"augment": "ultrasound-look"}).augment
    assert of_ultrasound == named.model_copy(update={"calipers": 4})
    with pytest.raises(
        ValueError, match="there is no augmentation 'look'; names: auto, scanner-look"
    ):
        ClassifierConfig.model_validate({"augment": "look"})
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    out = augment(images, named)
    assert out.shape == images.shape
    assert out.min() >= 0
    assert out.max() <= 1
