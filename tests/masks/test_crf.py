"""The dense conditional random field, by its package or what stands in for it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import ndimage

from weakseg.errors import ConfigError
from weakseg.masks.rules.crf import CrfRule, crf_mask, crf_probability
from weakseg.masks.thresholds import normalise


def test_without_the_package_the_error_prints_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(ConfigError, match="pydensecrf2") as error:
        crf_mask(np.eye(4), np.eye(4))
    assert "pip install 'weakseg[crf]'" in str(error.value)
    with pytest.raises(ConfigError) as error:
        crf_probability(np.eye(4), np.eye(4), where="segmenters: crf")
    assert error.value.where == "segmenters: crf"


@pytest.mark.parametrize("change", [{"at": 0.0}, {"steps": 0}])
def test_parameters_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        crf_mask(np.eye(4), np.eye(4), **change)


def test_a_blurred_heatmap_is_brought_back_to_the_disc():
    pytest.importorskip("pydensecrf.densecrf", reason="the extra crf is not installed")
    y, x = np.mgrid[:96, :80]
    disc = (y - 40) ** 2 + (x - 45) ** 2 < 14**2
    heat = ndimage.gaussian_filter(disc.astype(float), 9)
    image = 60 + 80 * disc + np.random.default_rng(0).normal(0, 4, disc.shape)

    def dice(mask):
        return 2 * (mask & disc).sum() / (mask.sum() + disc.sum())

    assert dice(crf_mask(heat, image)) > 0.95
    assert dice(crf_mask(heat, image)) > dice(heat > 0.5 * heat.max())
    clean = crf_mask(heat, disc.astype(float))  # of the two outermost grey levels
    assert dice(clean) > 0.95
    assert not (clean & ~disc).any()
    lone = np.zeros(disc.shape)
    lone[40, 45] = 1  # as sure as can be is not certain, where all around say no
    assert not crf_mask(lone, np.zeros(disc.shape)).any()
    flat = crf_mask(np.zeros((9, 8)), image[:9, :8])
    assert (flat.shape, flat.dtype, flat.any()) == ((9, 8), bool, False)


def test_a_probability_goes_through_the_field_as_heat_that_is_as_likely_at_a_half(random_field):
    rng = np.random.default_rng(0)
    p = normalise(ndimage.gaussian_filter(rng.random((30, 26)), 2))
    image = rng.random((30, 26, 3))
    made = crf_probability(p, image, 3)
    assert made.dtype == np.float32
    assert 0 <= made.min() < made.max() <= 1
    np.testing.assert_array_equal(made > 0.5, crf_mask(p, image, steps=3))
    low = crf_probability(0.2 * p, np.zeros((30, 26)), 3)  # unlike heat, it has no own maximum
    assert low.max() < 0.5
    with pytest.raises(ValueError, match="steps"):
        crf_probability(p, image, 0)
    with pytest.raises(ValueError, match="the image"):
        crf_probability(p, image[1:])


def by_all_pairs(heat, image, at, steps):
    """Mean-field inference over every pair of pixels, as Krähenbühl and Koltun write it."""
    y, x = (v.ravel() for v in np.indices(heat.shape))
    far = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    grey = np.floor(255 * (image - image.min()) / np.ptp(image)).ravel()
    unlike = 3 * (grey[:, None] - grey) ** 2  # three channels
    pull = np.zeros(far.shape)
    for weight, power in ((3, far / (2 * 3**2)), (10, far / (2 * 50**2) + unlike / (2 * 13**2))):
        kernel = np.exp(-power)
        scale = 1 / np.sqrt(kernel.sum(axis=1))
        pull += weight * scale[:, None] * kernel * scale
    p = np.clip(heat.ravel() ** (np.log(0.5) / np.log(at)), 0.01, 0.99)
    own = np.stack([1 - p, p])
    q = own
    for _ in range(steps):
        q = own * np.exp(q @ pull)
        q /= q.sum(axis=0)
    return q.argmax(axis=0).reshape(heat.shape) == 1


@pytest.mark.parametrize(("at", "steps"), [(0.15, 1), (0.15, 5), (0.3, 1), (0.3, 2), (0.5, 1)])
def test_it_is_what_all_pairs_of_pixels_agree_on(at, steps, random_field):
    """But for some pixels: the package looks pairs up in a lattice."""
    rng = np.random.default_rng(1)
    image = 100 * ndimage.gaussian_filter(rng.normal(size=(26, 34)), 2.5)
    image += rng.normal(size=image.shape)
    heat = normalise(ndimage.gaussian_filter(rng.normal(size=(26, 34)), 4))
    made, wanted = (
        crf_mask(7 * heat, image, at=at, steps=steps),
        by_all_pairs(heat, image, at, steps),
    )
    assert (made == wanted).mean() > 0.97
    assert ((heat > at) == made).mean() < 0.9
    assert made.any()
    if steps == 5:
        np.testing.assert_array_equal(crf_mask(heat, image, at=at), made)


def test_the_defaults_of_the_field_are_those_of_the_rule(random_field):
    rng = np.random.default_rng(5)
    image, heat = rng.random((2, 26, 34))
    rule = CrfRule()
    np.testing.assert_array_equal(
        crf_mask(heat, image), crf_mask(heat, image, at=rule.at, steps=rule.steps)
    )
