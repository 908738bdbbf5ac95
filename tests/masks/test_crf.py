"""The dense conditional random field, where its package is installed, and the way to it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import ndimage

from weakseg.errors import ConfigError
from weakseg.masks.rules.crf import crf_mask


def test_without_the_package_the_error_prints_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(ConfigError, match="pydensecrf2") as error:
        crf_mask(np.eye(4), np.eye(4))
    assert "pip install 'weakseg[crf]'" in str(error.value)


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
    assert not crf_mask(np.zeros((9, 9)), np.eye(9)).any()
