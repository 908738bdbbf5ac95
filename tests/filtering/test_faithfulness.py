"""Scores of a heatmap against the network that it explains."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_grad_cam.metrics.road import (
    NoisyLinearImputer,
    ROADLeastRelevantFirst,
    ROADMostRelevantFirst,
)
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from weakseg.filtering.faithfulness import (
    BLUR_SIGMA,
    ORDERS,
    ROAD_PERCENTS,
    areas,
    blurred,
    deletion,
    insertion,
    preserved,
    road,
)
from weakseg.filtering.ranking import share_count

PADDING = 0.77


def two_classes(p):
    return np.stack([1 - p, p], axis=1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Recorder:
    """A network that remembers what it was shown."""

    def __init__(self, p):
        self.p, self.batches = p, []

    def __call__(self, images):
        assert images.dtype == np.float32
        self.batches.append(images.copy())
        # One image at a time, so that no rounding depends on the batch.
        return two_classes(np.array([self.p(x.astype(np.float64)) for x in images]))

    @property
    def seen(self):
        return np.concatenate(self.batches)


def zeros(image, missing, rng):
    return np.zeros_like(image)


def noise(image, missing, rng):
    return rng.random(image.shape)


def scene(count=3, channels=2, side=12, seed=0, rows=slice(2, 10)):
    """Random images between strips of padding, and tie-free heat."""
    rng = np.random.default_rng(seed)
    valid = np.zeros((count, side, side), bool)
    valid[:, rows] = True
    images = np.where(valid[:, None], rng.random((count, channels, side, side)), PADDING).astype(
        np.float32
    )
    return images, rng.normal(size=valid.shape), valid


def table(rows):
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- the curves, by hand


def test_deletion_of_a_sum_of_pixels():
    images, _, valid = scene(channels=1)
    n = valid[0].sum()
    heat = images[:, 0]
    rows = deletion(
        Recorder(lambda x: x[0, 2:10].mean()), images, heat, valid, (1,), keys=[4, 7, 9], fill=[0]
    )
    assert [r.share for r in rows[:21]] == [k / 20 for k in range(21)]
    for i, key in enumerate([4, 7, 9]):
        ascending = np.sort(heat[i][valid[i]].astype(np.float64))
        curve = [r.p_target for r in rows if r.image == key]
        left = [n - share_count(k / 20, n) for k in range(21)]
        expected = [ascending[:m].sum() / n for m in left]
        assert curve == pytest.approx(expected, abs=1e-9)


@given(st.floats(-4, 4), st.floats(0.1, 8), st.integers(1, 12))
@settings(max_examples=30)
def test_deletion_and_insertion_of_equal_pixels(bias, weight, steps):
    """P = sigmoid(bias + weight · mean): every order gives the same known curve."""
    images, heat, valid = np.ones((1, 1, 6, 10)), np.zeros((1, 6, 10)), np.ones((1, 6, 10), bool)
    net = Recorder(lambda x: sigmoid(bias + weight * x.mean()))
    rows = deletion(
        net, images, heat, valid, (1,), keys=[0], fill=[0.0], steps=steps, orders=ORDERS
    )
    for order in ORDERS:
        curve = [r.p_target for r in rows if r.order == order]
        kept = [1 - share_count(k / steps, 60) / 60 for k in range(steps + 1)]
        assert curve == pytest.approx([sigmoid(bias + weight * m) for m in kept], abs=1e-6)
    # A constant image is its own blurred copy.
    rows = insertion(net, images, heat, valid, (1,), keys=[0], steps=steps)
    assert [r.p_target for r in rows] == pytest.approx([sigmoid(bias + weight)] * (steps + 1))
    (area,) = areas(rows)
    assert area.target == pytest.approx(sigmoid(bias + weight))


def test_area_of_a_linear_curve_and_of_a_sigmoid():
    images, heat, valid = np.ones((1, 1, 10, 10)), np.zeros((1, 10, 10)), np.ones((1, 10, 10), bool)
    rows = deletion(Recorder(np.mean), images, heat, valid, (1,), keys=[5], fill=[0])
    (area,) = areas(reversed(rows))
    assert area[:3] == (5, "deletion", "most")
    assert area.target == pytest.approx(0.5)
    assert area.predicted == pytest.approx(0.5)

    net = Recorder(lambda x: sigmoid(8 * x.mean() - 4))
    rows = deletion(net, images, heat, valid, (1,), keys=[5], fill=[0], steps=100)
    assert areas(rows)[0].target == pytest.approx(0.5)  # the sigmoid is odd about its middle
    rows = deletion(net, images, heat, valid, (0,), keys=[5], fill=[0.5], steps=100)
    (area,) = areas(rows)
    # P(1) falls from sigmoid(4) to sigmoid(0); the softplus is its integral.
    integral = (np.log1p(np.exp(4)) - np.log(2)) / 4
    assert area.target == pytest.approx(1 - integral, abs=1e-4)
    assert area.predicted == pytest.approx(integral, abs=1e-4)


def test_curves_of_two_images_with_one_key_have_no_area():
    images, heat, valid = np.ones((2, 1, 5, 5)), np.zeros((2, 5, 5)), np.ones((2, 5, 5), bool)
    rows = deletion(Recorder(np.mean), images, heat, valid, (1,), keys=[5, 5], fill=[0], steps=4)
    with pytest.raises(ValueError, match="10 rows of 5 shares; give every image a key"):
        areas(rows)
    assert len(areas(rows[:5])) == 1


def test_insertion_reveals_the_hottest_pixels_in_a_blurred_copy():
    images, heat, valid = scene(channels=1, side=60, rows=slice(10, 50))
    n = valid[0].sum()
    rows = insertion(
        Recorder(lambda x: x[0, 10:50].mean()), images, heat, valid, (1,), keys=range(3), steps=7
    )
    for i in range(3):
        sharp, blur = images[i, 0].ravel(), blurred(images[i], valid[i])[0].ravel()
        order = [p for p in np.argsort(-heat[i].ravel()) if valid[i].flat[p]]
        gain = np.concatenate([[0], np.cumsum((sharp - blur)[order], dtype=np.float64)])
        expected = [
            (blur[valid[i].ravel()].sum(dtype=np.float64) + gain[share_count(k / 7, n)]) / n
            for k in range(8)
        ]
        assert [r.p_target for r in rows if r.image == i] == pytest.approx(expected, abs=1e-6)


def test_blur_is_the_weighted_mean_of_valid_pixels():
    rng = np.random.default_rng(1)
    S = 96
    image, valid = rng.random((2, S, S)), np.zeros((S, S), bool)
    valid[20:31, 5:90] = True
    valid[25, 50] = False
    image[:, ~valid] = 1e6
    out = blurred(image, valid)
    sigma = BLUR_SIGMA * S
    yy, xx = np.nonzero(valid)
    for y, x in [(20, 5), (25, 51), (30, 89), (24, 40)]:
        near = (abs(yy - y) <= int(4 * sigma + 0.5)) & (abs(xx - x) <= int(4 * sigma + 0.5))
        w = np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * sigma**2)) * near
        expected = (image[:, yy, xx] * w).sum(1) / w.sum()
        np.testing.assert_allclose(out[:, y, x], expected, rtol=1e-5)
    np.testing.assert_array_equal(out[:, ~valid], np.float32(1e6))


def test_rows_by_hand():
    """Three classes, one pixel each; the pixel's value is the class's weight."""

    def net(images):
        w = images[:, 0, 0, :].astype(np.float64) + 1e-9
        return w / w.sum(1, keepdims=True)

    images = np.array([0.2, 0.3, 0.5], dtype=np.float32).reshape(1, 1, 1, 3)
    heat = np.array([[[1.0, 2.0, 3.0]]])
    valid = np.ones((1, 1, 3), bool)
    rows = deletion(net, images, heat, valid, (0, 2), keys=[8], fill=[0.0], steps=3)
    found = table(rows)
    assert list(found.columns) == [
        *("image", "measure", "order", "share"),
        *("p_target", "p_predicted", "predicted", "same_class"),
    ]
    assert set(found.image) == {8}
    np.testing.assert_allclose(found.p_target, [0.7, 0.4, 1, 2 / 3], atol=1e-6)
    np.testing.assert_allclose(found.p_predicted, [0.5, 0, 0, 1 / 3], atol=1e-6)
    assert found.predicted.tolist() == [2, 1, 0, 0]
    assert found.same_class.tolist() == [True, False, False, False]
    coldest = deletion(
        net, images, heat, valid, (2,), keys=[8], fill=[0.0], steps=3, orders=["least"]
    )
    assert [r.p_target for r in coldest] == pytest.approx([0.5, 0.625, 1, 1 / 3])


# ---------------------------------------------------------------- ROAD


def planted():
    """A bright square on a dark ground, and a network that looks there only."""
    rng = np.random.default_rng(3)
    square = np.zeros((16, 16), bool)
    square[5:9, 6:10] = True
    images = np.where(square, 0.9, 0.2) + 0.02 * rng.random((4, 1, 16, 16))
    heat = square + 0.5 * rng.random((4, 16, 16))
    return images.astype(np.float32), heat, lambda x: sigmoid(20 * (x[0][square].mean() - 0.6))


def test_planted_square():
    images, heat, p = planted()
    valid = np.ones(heat.shape, bool)
    found = table(road(Recorder(p), images, heat, valid, (1,), keys=range(4)))
    assert len(found) == 4 * len(ORDERS) * len(ROAD_PERCENTS)
    curves = found.groupby(["order", "share"]).p_target.mean().unstack("order")
    assert (curves["most"] < 0.01).all()
    assert (curves["least"] > 0.99).all()
    assert (np.diff(curves["random"]) < 0).all()
    inner = curves.loc[0.5:0.9]
    assert (inner["most"] < inner["random"] - 0.01).all()
    assert (inner["random"] < inner["least"] - 0.01).all()
    assert not found[found.order == "most"].same_class.any()
    assert found[found.order == "least"].same_class.all()
    # A heatmap that is hot everywhere else fails in the same way, turned round.
    turned = table(road(Recorder(p), images, -heat, valid, (1,), keys=range(4)))
    curves = turned.groupby(["order", "share"]).p_target.mean().unstack("order")
    assert (curves["most"] > 0.99).all()
    assert (curves["least"] < 0.01).all()


@given(
    st.floats(0, 1),
    st.lists(st.integers(0, 100), min_size=1, max_size=4, unique=True),
    st.sampled_from(ORDERS),
    st.integers(0, 9),
)
@settings(max_examples=40)
def test_exactly_as_many_pixels_go_as_asked(zero, percents, order, seed):
    images, heat, valid = scene(seed=seed)
    heat[np.random.default_rng(seed).random(heat.shape) < zero] = 0
    heat[:, 3, :3] = (np.nan, np.inf, -np.inf)
    net = Recorder(lambda x: 0.5)
    road(
        net,
        images,
        heat,
        valid,
        (1,),
        keys=range(3),
        percents=percents,
        orders=[order],
        fill=lambda image, missing, rng: np.full_like(image, -1),
        seed=seed,
    )
    seen = net.seen[3:].reshape(3, len(percents), *images.shape[1:])
    for k, t in enumerate(percents):
        gone = (seen[:, k] == -1).all(1)
        np.testing.assert_array_equal((seen[:, k] == -1).any(1), gone)
        assert (gone.sum((1, 2)) == share_count(t / 100, int(valid[0].sum()))).all()
        assert not (gone & ~valid).any()
        for g, h, v in zip(gone, heat, valid, strict=True):
            known = v & np.isfinite(h)
            if order == "most" and g.any() and (known & ~g).any() and (known & g).any():
                assert h[known & g].min() >= h[known & ~g].max()
            if order == "least" and (known & ~g).any() and (known & g).any():
                assert h[known & g].max() <= h[known & ~g].min()


def test_most_and_least_take_opposite_ends_of_one_ranking():
    images, heat, valid = scene()
    heat[:] = 0
    net = Recorder(lambda x: 0.5)
    minus = {"keys": range(3), "fill": lambda image, missing, rng: np.full_like(image, -1)}
    road(net, images, heat, valid, (1,), percents=[25, 75], orders=["most", "least"], **minus)
    gone = (net.seen[3:] == -1).any(1).reshape(3, 2, 2, 12, 12)
    for i in range(3):
        np.testing.assert_array_equal(gone[i, 0, 0], valid[i] & ~gone[i, 1, 1])
        np.testing.assert_array_equal(gone[i, 0, 1], valid[i] & ~gone[i, 1, 0])
    assert len({g.tobytes() for g in gone[:, 0, 0]}) == 3  # each image its own draw


class Small(nn.Module):
    """A network of pytorch-grad-cam's kind: images to probabilities."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
        )
        self.head = nn.Linear(96, 3)
        self.seen = []

    def forward(self, x):
        self.seen.append(x.numpy().copy())
        return (20 * self.head(self.body(x))).softmax(1)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize("percent", ROAD_PERCENTS)
def test_equal_to_pytorch_grad_cam(percent):
    rng = np.random.default_rng(percent)
    images = rng.random((4, 3, 16, 16)).astype(np.float32)
    heat = rng.random((4, 16, 16)).astype(np.float32)
    assert all(len(np.unique(1 - h)) == 256 for h in heat)
    valid = np.ones(heat.shape, bool)
    model = Small().eval()

    def predict(x):
        with torch.no_grad():
            return model(torch.from_numpy(x)).numpy()

    rows = road(
        *(predict, images, heat, valid, (2,)),
        keys=range(4),
        percents=[percent],
        orders=["most", "least"],
        noise=0,
    )
    ours = np.concatenate(model.seen[1:]).reshape(4, 2, 3, 16, 16)
    for k, metric in enumerate([ROADMostRelevantFirst, ROADLeastRelevantFirst]):
        oracle = metric(percentile=100 - percent)  # theirs is the percentile of the cut
        oracle.perturbation.imputer.noise = 0
        scores, perturbed = oracle(
            torch.from_numpy(images),
            heat,
            [ClassifierOutputTarget(2)] * 4,
            model,
            return_visualization=True,
            return_diff=False,
        )
        np.testing.assert_allclose(ours[:, k], perturbed.numpy(), atol=2e-5)
        np.testing.assert_allclose([r.p_target for r in rows[k::2]], scores, atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
def test_an_injected_fill_is_used():
    """pytorch-grad-cam's own imputer as the fill gives the same as ours."""
    images, heat, _ = scene(channels=3)
    valid = np.ones(heat.shape, bool)
    imputer = NoisyLinearImputer(noise=0)

    def fill(image, missing, rng):
        return imputer(torch.from_numpy(image), torch.from_numpy(np.float32(~missing))).numpy()

    ours, theirs = Recorder(np.mean), Recorder(np.mean)
    road(ours, images, heat, valid, (1,), keys=range(3), noise=0)
    road(theirs, images, heat, valid, (1,), keys=range(3), fill=fill)
    np.testing.assert_allclose(ours.seen, theirs.seen, atol=2e-5)


def test_noise_of_the_default_fill():
    images, heat, valid = scene(count=8, side=30, rows=slice(0, 30))
    clean, noisy = Recorder(np.mean), Recorder(np.mean)
    asked = {"keys": range(8), "percents": [50], "orders": ["most"]}
    road(clean, images, heat, valid, (1,), noise=0, **asked)
    road(noisy, images, heat, valid, (1,), **asked)
    changed = clean.seen[8:] != images
    difference = (noisy.seen - clean.seen)[8:][changed]
    assert abs(difference.mean()) < 0.001
    assert difference.std() == pytest.approx(0.01, rel=0.05)
    assert (noisy.seen[8:] == images)[~changed].all()


def test_imputation_knows_no_padding():
    images, heat, valid = scene()
    other = np.where(valid[:, None], images, np.float32(0))
    a, b = Recorder(lambda x: 0.5), Recorder(lambda x: 0.5)
    road(a, images, heat, valid, (1,), keys=range(3))
    road(b, other, heat, valid, (1,), keys=range(3))
    inside = np.broadcast_to(np.tile(valid[:1, None], (1, 2, 1, 1)), a.seen.shape)
    np.testing.assert_array_equal(a.seen[inside], b.seen[inside])


# ---------------------------------------------------------------- preserved


def test_everything_and_nothing_marked():
    images, _, valid = scene(channels=2)
    net = Recorder(lambda x: sigmoid(6 * (x[:, 2:10].mean() - 0.3)))
    everything = preserved(
        net, images, np.ones_like(valid), valid, (0,), keys=[3, 1, 2], fill=[0, 1]
    )
    before = [net.p(x.astype(float)) for x in images]
    for row, key, p in zip(everything, [3, 1, 2], before, strict=True):
        assert row.image == key
        assert row.prediction_preserved is True
        assert row.image_preserved == 1
        assert row.predicted == 1
        assert row.probability_kept == pytest.approx(p)
        assert row.p_target == pytest.approx(1 - p)

    net.batches.clear()
    nothing = preserved(
        net, images, ~valid, valid, (0,), keys=[3, 1, 2], fill=[0, 0.125], batch_size=3
    )
    for image, v in zip(net.batches[1], valid, strict=True):
        assert (image[0][v] == 0).all()
        assert (image[1][v] == 0.125).all()
        assert (image[:, ~v] == np.float32(PADDING)).all()
    for row in nothing:
        assert row.image_preserved == 0
        assert row.prediction_preserved is False
        assert row.probability_kept == pytest.approx(sigmoid(6 * (0.0625 - 0.3)))


def test_half_marked():
    images, heat, p = planted()
    valid = np.ones(heat.shape, bool)
    valid[:, 12:] = False
    mark = np.zeros(heat.shape, bool)
    mark[:, 5:9, 6:10] = mark[:, 14:] = True
    for row in preserved(Recorder(p), images, mark, valid, (1,), keys=range(4), fill=[0.2]):
        assert row.image_preserved == pytest.approx(16 / 192)
        assert row.prediction_preserved
        assert row.probability_kept > 0.99
    for row in preserved(Recorder(p), images, ~mark, valid, (1,), keys=range(4), fill=[0.2]):
        assert row.image_preserved == pytest.approx(176 / 192)
        assert not row.prediction_preserved
        assert row.probability_kept < 0.01


# ---------------------------------------------------------------- common to all


def every_measure(net, images, heat, valid, keys, **options):
    common = dict(keys=keys, **options)
    rows = [
        *road(net, images, heat, valid, (1,), **common),
        *road(net, images, heat, valid, (1,), fill=noise, **common),
        *deletion(net, images, heat, valid, (1,), fill=[0.1, 0.2], steps=4, **common),
        *insertion(net, images, heat, valid, (1,), steps=4, orders=ORDERS, **common),
    ]
    kept = preserved(net, images, heat > 0, valid, (1,), fill=noise, **common)
    return rows, kept


def mixed():
    """Images with ties, whose network sees every pixel and its place."""
    images, heat, valid = scene(count=5)
    heat[heat < 0] = 0
    weight = np.linspace(-1, 1, images[0].size).reshape(images[0].shape)
    return images, heat, valid, lambda x: sigmoid((weight * x).sum())


def test_batches_and_order_of_images_change_nothing():
    images, heat, valid, p = mixed()
    keys = [11, 3, 5, 0, 8]
    found = every_measure(Recorder(p), images, heat, valid, keys)
    for size in (1, 3, 1000):
        net = Recorder(p)
        assert every_measure(net, images, heat, valid, keys, batch_size=size) == found
        assert max(len(b) for b in net.batches) == min(size, 5 * 3 * 5)
    back = [4, 2, 0, 1, 3]
    turned = every_measure(
        Recorder(p), images[back], heat[back], valid[back], [keys[i] for i in back]
    )
    assert [sorted(t) for t in turned] == [sorted(f) for f in found]
    alone = every_measure(Recorder(p), images[2:3], heat[2:3], valid[2:3], [5])
    assert [sorted(a) for a in alone] == [sorted(r for r in f if r.image == 5) for f in found]


def test_other_shares_and_orders_change_nothing():
    images, heat, valid, p = mixed()
    full = road(Recorder(p), images, heat, valid, (1,), keys=range(5))
    few = road(
        *(Recorder(p), images, heat, valid, (1,)),
        keys=range(5),
        percents=[70, 30],
        orders=["random", "most"],
    )
    assert set(few) == {r for r in full if r.share in (0.3, 0.7) and r.order != "least"}
    assert len(few) == 20


def test_seeds_and_keys_draw_anew_and_the_control_ignores_the_heat():
    images, heat, valid, p = mixed()

    def controls(heat, **options):
        rows = road(Recorder(p), images, heat, valid, (1,), **options)
        return [r[3:] for r in rows if r.order == "random"]

    first = controls(heat, keys=range(5))
    assert first == controls(-heat, keys=range(5))
    assert first != controls(heat, keys=range(5), seed=1)
    assert first != controls(heat, keys=range(1, 6))


def test_padding_is_never_touched_nor_the_inputs():
    images, heat, valid, p = mixed()
    copies = images.copy(), heat.copy(), valid.copy()
    net = Recorder(p)

    def spoils(x):
        out = net(x)
        x[:] = np.nan
        return out

    def careless(image, missing, rng):
        image[:] = 0.3
        missing[:] = True
        return image

    heat[:, :2] = 100  # hottest outside the image
    every_measure(spoils, images, heat, valid, range(5))
    road(spoils, images, heat, valid, (1,), keys=range(5), fill=careless)
    assert len(net.seen) > 300
    assert (net.seen[:, :, :2] == np.float32(PADDING)).all()
    assert (net.seen[:, :, 10:] == np.float32(PADDING)).all()
    np.testing.assert_array_equal(images, copies[0])
    np.testing.assert_array_equal(valid, copies[2])


def test_none_of_it_with_nothing_removed():
    images, heat, valid, p = mixed()
    rows = road(Recorder(p), images, heat, valid, (1,), keys=range(5), percents=[0])
    assert all(r.same_class and r.share == 0 for r in rows)
    assert {r.p_target for r in rows} == {p(x.astype(np.float64)) for x in images}


def test_bad_input():
    images, heat, valid, p = mixed()
    net = Recorder(p)

    def asked(message, *, measure=road, images=images, heat=heat, valid=valid, **options):
        options = {"predict": net, "target": (1,), "keys": range(5), **options}
        predict, target = options.pop("predict"), options.pop("target")
        with pytest.raises(ValueError, match=message):
            measure(predict, images, heat, valid, target, **options)

    asked("percents must lie", percents=[10, 101])
    asked("orders must be of", orders=["hot"])
    asked("shape", images=images[0])
    asked("shape", valid=valid[:4])
    asked("heat must have the shape", heat=heat[:, :5])
    asked("one for each of 5", keys=[1])
    asked("0 or more", keys=[-1, 0, 1, 2, 3])
    asked("0 or more", seed=-1)
    asked("got none of image 0", valid=np.zeros_like(valid))
    asked("batch_size", batch_size=0)
    asked("target must name", target=(2,))
    asked("target must name", target=())
    asked("target must name", target=(1, 1))
    asked("sum to 1", predict=lambda x: np.full((len(x), 2), 3.0))
    asked("sum to 1", predict=lambda x: np.tile([1.5, -0.5], (len(x), 1)))
    asked("sum to 1", predict=lambda x: np.full((len(x), 2), np.nan))
    asked("probabilities", predict=lambda x: np.ones(len(x)))
    asked("keep the image's shape", fill=lambda image, missing, rng: image[:1])
    asked("2 finite numbers", measure=deletion, fill=[0.0])
    asked("2 finite numbers", measure=preserved, heat=valid, fill=[np.nan, 0])
    asked("marks must have the shape", measure=preserved, heat=valid[:2], fill=[0, 0])
    asked("steps must be", measure=insertion, steps=0)
    with pytest.raises(ValueError, match="from share 0 to share 1"):
        areas(road(net, images, heat, valid, (1,), keys=range(5), fill=zeros))
