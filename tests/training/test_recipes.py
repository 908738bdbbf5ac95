"""Recipes: DeepMedic's is its authors', and what does not go together is refused."""

import sys

import pytest

from weakseg.config import AUTO, PatchAugmentConfig, SegmenterConfig
from weakseg.errors import ConfigError
from weakseg.models.segmenters import SEGMENTERS, build_segmenter
from weakseg.training.recipes import resolve, with_passes

EVERY = [(name, dims) for name, spec in SEGMENTERS.items() for dims in spec.dims]
STILL = {"flip": False, "rotate": 0, "zoom": 0, "shift": 0, "brightness": 0, "contrast": 0}


@pytest.mark.parametrize("dims", [2, 3])
def test_deepmedic_is_trained_as_published(dims):
    r = resolve(SegmenterConfig(arch="deepmedic"), dims)
    assert (r.patch, r.batch_size, r.sampler, r.loss) == (9, 10, "balanced", "ce")
    assert (r.optimizer, r.lr, r.l1, r.l2, r.weight_decay) == ("rmsprop", 1e-3, 1e-6, 1e-4, 0)
    # 35 epochs of 20 subepochs of 1000 segments.
    assert (r.epochs, r.steps * r.batch_size, r.schedule) == (35, 20 * 1000, "halving")
    assert r.normalise == "zscore"
    assert r.augment == PatchAugmentConfig(
        **(STILL | {"flip": True}), intensity_shift=0.05, intensity_scale=0.01
    )


@pytest.mark.parametrize(
    ("arch", "output", "segment"),
    [("deepmedic", 9, 25), ("deepmedic-release", 7, 25), ("deepmedic-latest", 21, 37)],
)
def test_segments_of_deepmedic_have_the_published_side(arch, output, segment):
    assert resolve(SegmenterConfig(arch=arch), 3).patch == output
    assert build_segmenter(arch, 1, 2).variant.segment == segment


@pytest.mark.parametrize(("arch", "dims"), EVERY)
def test_nothing_is_left_open_but_steps_and_tile(arch, dims):
    r = resolve(SegmenterConfig(arch=arch), dims)
    left = {k for k, v in r.model_dump().items() if v == AUTO}
    # The machine and the data say what these are.
    assert left <= {"steps", "tile", "image_size", "precision"}
    if dims == 3 or arch.startswith("deepmedic"):
        assert isinstance(r.steps, int)
        assert r.patch == SEGMENTERS[arch].patch[dims]
    else:
        assert r.patch == "whole"


@pytest.mark.parametrize(("arch", "dims"), EVERY)
def test_a_recipe_is_a_configuration_that_stays_as_it_is(arch, dims):
    r = resolve(SegmenterConfig(arch=arch), dims)
    assert SegmenterConfig.model_validate(r.model_dump()) == r
    assert resolve(r, dims) == r


def test_what_is_set_is_kept():
    augment = PatchAugmentConfig(**STILL, flip_all=True)
    own = SegmenterConfig(
        arch="deepmedic", patch=21, lr=0.5, loss="dice", l1=0.0, augment=augment, sampler="grid"
    )
    r = resolve(own, 2)
    assert (r.patch, r.lr, r.loss, r.l1, r.sampler) == (21, 0.5, "dice", 0.0, "grid")
    assert r.augment.flip_all
    # What was not set stays the recipe's.
    assert (r.augment.intensity_shift, r.augment.intensity_scale) == (0.05, 0.01)
    assert (own.epochs, r.epochs) == (AUTO, 35)


@pytest.mark.parametrize("change", ["rotate", "zoom", "shift", "crop"])
def test_volumes_are_not_turned(change):
    augment = PatchAugmentConfig(**(STILL | {change: 0.1}))
    with pytest.raises(ConfigError, match=r"rotated(.|\n)*augment(.|\n)*set rotate, zoom, sh"):
        resolve(SegmenterConfig(augment=augment), 3)
    r = resolve(SegmenterConfig(augment=augment), 2)
    assert r.augment == augment


@pytest.mark.parametrize("change", ["brightness", "contrast"])
def test_brightness_is_not_for_zscored_images(change):
    augment = PatchAugmentConfig(**(STILL | {change: 0.1}))
    with pytest.raises(ConfigError, match=r"z-scored(.|\n)*intensity_shift"):
        resolve(SegmenterConfig(normalise="zscore", augment=augment), 2)


def test_other_combinations_are_refused_with_a_way_out():
    with pytest.raises(ConfigError, match=r"no common range(.|\n)*zscore"):
        resolve(SegmenterConfig(normalise="unit"), 3)
    with pytest.raises(ConfigError, match=r"make no batch(.|\n)*side of a patch"):
        resolve(SegmenterConfig(patch="whole"), 3)
    with pytest.raises(ConfigError, match=r"fcn8s does not segment volumes(.|\n)*weakseg models"):
        resolve(SegmenterConfig(arch="fcn8s"), 3)
    with pytest.raises(ConfigError, match=r"did you mean 'unet'"):
        resolve(SegmenterConfig(arch="unett"), 2)
    with pytest.raises(ConfigError, match=r"did you mean 'resnet18'"):
        resolve(SegmenterConfig(arch="encoder-unet:resnet8"), 2)


def test_calipers_are_drawn_into_images_alone():
    still = {"rotate": 0, "zoom": 0, "shift": 0, "calipers": 2}
    assert resolve(SegmenterConfig(augment=still), 2).augment.calipers == 2
    with pytest.raises(ConfigError, match="not into whole volumes"):
        resolve(SegmenterConfig(augment=still), 3)


@pytest.mark.parametrize(
    "arch",
    ["fcn8s:squeezenet1_1", pytest.param("unet-original", marks=pytest.mark.thorough)],
)
def test_networks_without_batch_normalisation_take_batches_of_one_image(arch):
    assert resolve(SegmenterConfig(arch=arch, batch_size=1), 2).batch_size == 1


def test_networks_with_batch_normalisation_do_not():
    with pytest.raises(ConfigError, match="no batch statistics") as error:
        resolve(SegmenterConfig(arch="fuzzy-neuro", batch_size=1), 2)
    assert "fuzzy-neuro" in str(error.value)


def test_nobody_is_asked_to_install_a_random_field_for_volumes(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(ConfigError, match="weakseg\\[crf\\]"):
        resolve(SegmenterConfig(crf=3), 2)
    with pytest.raises(ConfigError, match="not for whole volumes") as error:
        resolve(SegmenterConfig(crf=3), 3)
    assert "install" not in str(error.value)


@pytest.mark.parametrize(
    ("steps", "passes", "images", "epochs"),
    [
        (128, None, 10**6, 5),
        (128, 10, 335, 5),  # 30 passes already
        (128, 10, 2037, 10),
        (128, 10, 2049, 11),
        (AUTO, 10, 2037, 10),
        (AUTO, 2, 2037, 5),
        (128, 10, 0, 5),
    ],
)
def test_epochs_are_as_many_as_the_passes_take_and_no_fewer(steps, passes, images, epochs):
    config = SegmenterConfig(epochs=5, steps=steps, batch_size=16, passes=passes)
    assert with_passes(resolve(config, 2), images).epochs == epochs
