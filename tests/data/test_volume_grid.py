"""Whole volumes as a classifier sees them, and maps laid back over them."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from weakseg.data.slices import ScaledVolume
from weakseg.data.volume_grid import (
    VolumeBox,
    area_weights,
    heat_planes,
    linear_weights,
    volume_to_network,
)


def volume(shape=(20, 10, 6)):
    raw = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    return ScaledVolume(raw, 0.0, 255.0)


def test_slices_keep_their_order_and_the_rest_is_empty():
    held = volume()
    seen = volume_to_network(held, VolumeBox((20, 10, 6), 20, 8))
    assert seen.shape == (8, 20, 20)
    assert not seen[6:].any()
    np.testing.assert_allclose(seen[2][5:15], held.plane(2), atol=1e-6)
    assert not seen[:, :5].any()


def test_deeper_volumes_are_shrunk_by_area():
    held = volume()
    whole = volume_to_network(held, VolumeBox((20, 10, 6), 20, 6))
    half = volume_to_network(held, VolumeBox((20, 10, 6), 20, 3))
    np.testing.assert_allclose(half, (whole[::2] + whole[1::2]) / 2, atol=1e-6)
    wanted = F.interpolate(torch.from_numpy(whole)[None, None], (2, 20, 20), mode="area")[0, 0]
    two = volume_to_network(held, VolumeBox((20, 10, 6), 20, 2))
    np.testing.assert_allclose(two, wanted, atol=1e-6)


@pytest.mark.parametrize(("given", "wanted"), [(4, 9), (9, 4), (1, 5), (6, 6)])
def test_depth_is_interpolated_as_torch_does(given, wanted):
    values = np.random.default_rng(1).random((given,)).astype(np.float32)
    there = F.interpolate(
        torch.from_numpy(values)[None, None], wanted, mode="linear", align_corners=False
    )[0, 0]
    np.testing.assert_allclose(linear_weights(given, wanted) @ values, there, atol=1e-6)


def test_every_slice_has_a_part_in_what_is_seen():
    for given, wanted in ((400, 32), (7, 3), (5, 5)):
        shares = area_weights(given, wanted)
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
        np.testing.assert_allclose(shares.sum(0), wanted / given, atol=1e-5)


def test_a_hot_place_comes_back_to_its_voxels():
    raw = np.zeros((8, 10, 10), np.float32)
    raw[4, 3, 7] = 1.0  # a place of 2 x 2 pixels of a square of 20; rows 5 to 15 show the image
    planes = list(heat_planes(raw, VolumeBox((20, 10, 6), 20, 8)))
    assert len(planes) == 6
    assert planes[0].shape == (10, 20)
    full = np.stack([p.T for p in planes], axis=2)
    x, y, z = np.unravel_index(full.argmax(), full.shape)
    assert (x in (14, 15), y in (1, 2), z) == (True, True, 4)
    assert full.max() == pytest.approx(0.5625, abs=0.01)


def test_a_constant_map_stays_constant():
    planes = heat_planes(np.full((3, 4, 4), 2.5), VolumeBox((9, 7, 11), 16, 5))
    for plane in planes:
        np.testing.assert_allclose(plane, 2.5, rtol=1e-6)


def test_maps_of_images_are_refused():
    with pytest.raises(ValueError, match=r"\(d, h, w\)"):
        next(heat_planes(np.zeros((4, 4)), VolumeBox((9, 7, 11), 16, 5)))
