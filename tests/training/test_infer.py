"""Inference in tiles: as the whole image where networks allow, and as MONAI does it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from weakseg.data.patches import grid_starts
from weakseg.models.deepmedic import DeepMedic
from weakseg.models.unet import UNet
from weakseg.models.whole_image import WholeImage
from weakseg.training import infer as infer_module
from weakseg.training.infer import as_batch, gaussian_weights, lesion_probability


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


class Local(WholeImage):
    """Every voxel for itself."""

    def __init__(self, dims=2):
        super().__init__()
        self.conv = (nn.Conv2d if dims == 2 else nn.Conv3d)(1, 2, 1)

    def forward(self, x):
        return self.conv(x)


class Constant(WholeImage):
    def forward(self, x):
        return torch.stack([torch.zeros_like(x[:, 0]), torch.full_like(x[:, 0], 0.7)], 1)


def images(n, *size, channels=1, seed=1):
    return torch.randn(n, channels, *size, generator=torch.Generator().manual_seed(seed))


def infer(model, x, fill=None, **settings):
    model.eval()
    fill = torch.zeros(x.shape[:2]) if fill is None else fill
    with torch.no_grad():
        return lesion_probability(model, x, fill, **settings)


def p_lesion(logits):
    return logits.softmax(1)[:, 1].detach()


def same_unet(dims=2):
    net = UNet(1, 2, dims, padding="same", depth=2, base=4, batch_norm=True).eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d):
            m.running_mean.normal_(0, 0.2)
    return net


# --- tiles and the whole image


@given(
    st.lists(st.integers(1, 20), min_size=2, max_size=3),
    st.integers(1, 12),
    st.floats(0, 0.8),
)
@settings(max_examples=40)
def test_tiles_of_a_local_network_are_the_whole_image(size, tile, overlap):
    net, x = Local(len(size)), images(2, *size)
    out = infer(net, x, tile=tile, overlap=overlap)
    assert out.shape == (2, *size)
    # Means of up to 100 tiles in single precision.
    torch.testing.assert_close(out, p_lesion(net(x)), atol=1e-5, rtol=1e-5)


@given(
    st.lists(st.integers(1, 20), min_size=2, max_size=3),
    st.integers(1, 12),
    st.floats(0, 0.8),
)
@settings(max_examples=40)
def test_constant_scores_stay_constant(size, tile, overlap):
    out = infer(Constant(), images(1, *size), tile=tile, overlap=overlap)
    expected = torch.sigmoid(torch.tensor(0.7))
    torch.testing.assert_close(out, expected.expand(1, *size), atol=1e-6, rtol=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("flips", ["none", "x", "all"])
@pytest.mark.parametrize("room", [True, False])
def test_a_large_volume_s_probability_is_made_on_disk(monkeypatch, flips, room):
    net, x = same_unet(3), images(1, 12, 9, 10)
    expected = infer(net, x, tile=4, overlap=0.5, flips=flips)
    let_go, said = infer_module.MappedStore.let_go, []
    monkeypatch.setattr(infer_module, "ON_DISK", 1000)
    monkeypatch.setattr(
        infer_module.MappedStore, "let_go", lambda store: (said.append(store), let_go(store))
    )
    if not room:
        monkeypatch.setattr(infer_module.MappedStore, "zeros", lambda *_: None)
    found = infer(net, x, tile=4, overlap=0.5, flips=flips)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert len(set(map(id, said))) == room


@given(st.lists(st.integers(1, 40), min_size=2, max_size=3))
@settings(max_examples=40)
def test_weights_are_positive_symmetric_and_highest_in_the_middle(size):
    w = gaussian_weights(size)
    assert w.shape == tuple(size)
    assert w.min() >= 1e-3
    assert w.max() == w[tuple(n // 2 for n in size)] <= 1
    for axis in range(len(size)):
        torch.testing.assert_close(w, w.flip(axis))


def test_weights_fall_as_a_gaussian_of_an_eighth_of_the_side():
    w = gaussian_weights((33, 17))
    for k in (1, 4, 8):
        assert float(w[16 + k, 8]) == pytest.approx(np.exp(-0.5 * (k / (33 / 8)) ** 2))
        if np.exp(-0.5 * (k / (17 / 8)) ** 2) > 1e-3:
            assert float(w[16, 8 + k]) == pytest.approx(np.exp(-0.5 * (k / (17 / 8)) ** 2))
    assert float(w[0, 0]) == pytest.approx(1e-3)


# Tiles at which MONAI's steps and ours are rounded alike.
@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [((40, 52), 16, 0.5), ((33, 29), 16, 0.25), ((24, 24), 24, 0.5), ((20, 24, 17), 12, 0.5)],
)
def test_as_monai_slides_its_window(size, tile, overlap):
    from monai.inferers import sliding_window_inference

    net, x = same_unet(len(size)), images(2, *size)
    with torch.no_grad():
        oracle = sliding_window_inference(
            x, (tile,) * len(size), 1, net, overlap=overlap, mode="gaussian", sigma_scale=0.125
        )
    ours = infer(net, x, tile=tile, overlap=overlap)
    torch.testing.assert_close(ours, p_lesion(oracle), atol=1e-5, rtol=1e-4)
    if tile < max(size):
        whole = infer(net, x, tile=max(size))
        assert (whole - ours).abs().max() > 1e-4  # tiles do matter to such a network


@pytest.mark.parametrize("overlap", [0.0, 0.5])
@pytest.mark.parametrize("size", [(24, 24), (24, 32), (8, 24)])
def test_tiles_of_a_valid_unet_are_one_large_tile(size, overlap):
    """Tiles start at multiples of its pooling, so that all of them pool alike."""
    net = UNet(1, 2, depth=2, base=4).eval()
    assert net.output_size(net.input_size(8)) == 8
    x, fill = images(2, *size), torch.tensor([[0.3], [-1.0]])
    whole = infer(net, x, fill, tile=64)
    assert whole.shape == (2, *size)
    tiles = infer(net, x, fill, tile=8, overlap=overlap)
    torch.testing.assert_close(tiles, whole, atol=1e-5, rtol=1e-5)


def test_tiles_of_a_valid_unet_in_three_dimensions():
    net = UNet(1, 2, 3, depth=1, base=2).eval()
    x = images(1, 8, 12, 8)
    torch.testing.assert_close(
        infer(net, x, tile=4, overlap=0), infer(net, x), atol=1e-5, rtol=1e-5
    )


def test_a_valid_unet_sees_the_fill_around_the_image():
    net = UNet(1, 2, depth=1, base=4).eval()
    x, fill = images(1, 12, 12), torch.tensor([[2.5]])
    before = net.margin[0]
    framed = torch.full((1, 1, 12 + 2 * before, 12 + 2 * before), 2.5)
    framed[..., before:-before, before:-before] = x
    assert net.output_size(framed.shape[-1]) == 12
    torch.testing.assert_close(infer(net, x, fill), p_lesion(net(framed)))
    assert not torch.allclose(infer(net, x, fill), infer(net, x, fill - 5))


@pytest.mark.parametrize("side", [5, 7, 11, 13])
def test_an_image_that_no_output_fits_lies_in_the_middle_of_one(side):
    net = UNet(1, 2, depth=2, base=4).eval()
    x, fill = images(2, side, 12), torch.full((2, 1), 0.5)
    output = net.output_size(net.input_size(side))
    shift = (output - side) // 2
    window = torch.full((2, 1, net.input_size(side), net.input_size(12)), 0.5)
    at = net.margin[0] + shift
    window[:, :, at : at + side, net.margin[0] : net.margin[0] + 12] = x
    expected = p_lesion(net(window))[:, shift : shift + side]
    torch.testing.assert_close(infer(net, x, fill), expected)


@pytest.mark.parametrize("tile", ["auto", 10, 9, 2])
def test_deepmedic_takes_its_own_dense_inference(tile):
    net = DeepMedic(1, 2).eval()
    x, fill = images(2, 20, 17), torch.tensor([[0.1], [2.0]])
    expected = p_lesion(net.dense(x, fill=fill))
    torch.testing.assert_close(infer(net, x, fill, tile=tile), expected, atol=1e-5, rtol=1e-4)


# --- batches and small images


@pytest.mark.parametrize("build", [same_unet, Local, lambda: UNet(1, 2, depth=1, base=4)])
def test_images_of_a_batch_do_not_mix(build):
    net = build().eval()
    x, fill = images(3, 21, 18), torch.tensor([[0.0], [1.0], [-2.0]])
    together = infer(net, x, fill, tile=8, flips="x")
    for i in range(3):
        alone = infer(net, x[i : i + 1], fill[i : i + 1], tile=8, flips="x")
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [(5, 9), (1, 1), (3, 5, 4)])
@pytest.mark.parametrize("tile", ["auto", 16])
def test_images_smaller_than_a_tile_are_taken_whole(size, tile):
    net, x = same_unet(len(size)), images(1, *size)
    torch.testing.assert_close(infer(net, x, tile=tile), p_lesion(net(x)))


def test_volumes_larger_than_the_default_are_tiled_and_images_are_not():
    seen = []

    class Watched(Local):
        def forward(self, x):
            seen.append(tuple(x.shape[2:]))
            return super().forward(x)

    infer(Watched(3), images(1, 2, 3, 70))
    assert set(seen) == {(2, 3, 64)}
    assert len(seen) == len(grid_starts((2, 3, 70), (2, 3, 64), 0.5))
    seen.clear()
    infer(Watched(2), images(1, 3, 500))
    assert seen == [(3, 500)]


# --- mirrored copies


@pytest.mark.parametrize(
    ("dims", "flips", "axes"),
    [(2, "x", [2]), (2, "all", [1, 2]), (3, "x", [1]), (3, "all", [1, 2, 3])],
)
@pytest.mark.parametrize("tile", ["auto", 8])
def test_a_mirrored_image_gives_the_mirrored_result(dims, flips, axes, tile):
    net, x = same_unet(dims), images(2, *(16, 12, 8)[:dims])
    out = infer(net, x, tile=tile, flips=flips)
    plain = infer(net, x, tile=tile)
    assert not torch.allclose(out, plain, atol=1e-4)
    for axis in axes:
        mirrored = infer(net, x.flip(axis + 1), tile=tile, flips=flips)
        torch.testing.assert_close(mirrored, out.flip(axis), atol=1e-6, rtol=1e-5)


def test_x_is_left_and_right_and_leaves_the_other_axes():
    """The last axis of an image, the first of a volume."""
    for dims, mirrored in ((2, 2), (3, 1)):
        net, x = same_unet(dims), images(1, *(8, 8, 8)[:dims])
        expected = (p_lesion(net(x)) + p_lesion(net(x.flip(mirrored + 1))).flip(mirrored)) / 2
        torch.testing.assert_close(infer(net, x, flips="x"), expected)


def test_all_averages_every_combination():
    net, x = same_unet(), images(1, 12, 12)
    every = [p_lesion(net(x.flip(*a) if a else x)) for a in ([], [2], [3], [2, 3])]
    back = [
        p.flip([b - 1 for b in a]) if a else p
        for p, a in zip(every, ([], [2], [3], [2, 3]), strict=True)
    ]
    torch.testing.assert_close(infer(net, x, flips="all"), torch.stack(back).mean(0))


def test_flips_of_deepmedic_are_mirrored_too():
    net, x = DeepMedic(1, 2).eval(), images(1, 13, 11)
    out = infer(net, x, flips="x")
    torch.testing.assert_close(infer(net, x.flip(3), flips="x"), out.flip(2), atol=1e-6, rtol=1e-5)


def test_arrays_of_half_precision_become_a_batch_of_single():
    batch = as_batch([np.ones((1, 2, 3), np.float16), np.zeros((1, 2, 3), np.float16)], "cpu")
    assert batch.shape == (2, 1, 2, 3)
    assert batch.dtype == torch.float32
