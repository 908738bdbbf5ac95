"""Patches: where the samplers put them, and what a window at a border holds."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from weakseg.data.cases import Case
from weakseg.data.patches import (
    IGNORE,
    CaseArrays,
    PatchSampler,
    PatchShape,
    cut,
    grid_starts,
    knows_truth,
    lesion_share,
    patch_start,
)


def case(size=(6, 7), lesion=(), region=None, channels=1, fill=-9.0):
    """Every voxel has a value of its own; the fill is none of them."""
    image = np.arange(channels * np.prod(size), dtype=np.float32).reshape(channels, *size)
    truth = np.zeros(size, dtype=bool)
    for voxel in lesion:
        truth[voxel] = True
    inside = np.ones(size, dtype=bool) if region is None else region
    return CaseArrays(image, truth, inside, np.full(channels, fill, dtype=np.float32))


def shape_of(output, before=0, after=0):
    return PatchShape(tuple(output), tuple(o + before + after for o in output), before)


def sampler(cases, kind, p=0.5, shape=None, with_lesion=None):
    lesions = [i for i, c in enumerate(cases) if c.truth.any()]
    return PatchSampler(
        lambda i: cases[i],
        range(len(cases)),
        lesions if with_lesion is None else with_lesion,
        kind,
        p,
        shape,
    )


def draws(s, count, seed=0):
    return list(itertools.islice(s.draw(np.random.default_rng(seed)), count))


def voxel_shape(dims):
    """Patches of one voxel: where they start is where they are centred."""
    return shape_of((1,) * dims)


# --- samplers


@pytest.mark.parametrize("size", [(5, 6), (3, 4, 3)])
def test_uniform_takes_every_voxel_of_the_region_equally_often(size):
    region = np.random.default_rng(1).random(size) < 0.6
    c = case(size, region=region)
    drawn = draws(sampler([c], "uniform", shape=voxel_shape(len(size))), 6000)
    counts = np.zeros(size, dtype=int)
    for _, start in drawn:
        counts[start] += 1
    assert counts[~region].sum() == 0
    assert stats.chisquare(counts[region]).pvalue > 0.01


def test_uniform_takes_every_case_equally_often_whatever_its_region():
    small = np.zeros((6, 7), dtype=bool)
    small[2, 3] = True
    s = sampler([case(region=small), case(), case()], "uniform", shape=voxel_shape(2))
    counts = np.bincount([i for i, _ in draws(s, 3000)])
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("p", [0.0, 0.2, 0.7, 1.0])
def test_foreground_centres_the_share_that_was_asked_for(p):
    # One voxel of 900 is lesion: uniform draws hardly ever hit it.
    c = case((30, 30), lesion=[(11, 4)])
    drawn = draws(sampler([c], "foreground", p, voxel_shape(2)), 4000)
    hits = sum(start == (11, 4) for _, start in drawn)
    assert stats.binomtest(hits, 4000, p + (1 - p) / 900).pvalue > 0.01


def test_foreground_takes_lesion_voxels_equally_often():
    lesion = [(0, 0), (2, 3), (2, 4), (5, 6)]
    drawn = draws(sampler([case(lesion=lesion)], "foreground", 1.0, voxel_shape(2)), 2000)
    counts = [sum(start == voxel for _, start in drawn) for voxel in lesion]
    assert sum(counts) == 2000
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("dims", [2, 3])
def test_balanced_centres_half_on_lesion_and_the_rest_never(dims):
    size = (8,) * dims
    truth = np.zeros(size, dtype=bool)
    truth[(slice(2, 7),) * dims] = True
    region = np.zeros(size, dtype=bool)
    region[(slice(1, 8),) * dims] = True
    c = CaseArrays(np.zeros((1, *size)), truth, region, np.zeros(1, np.float32))
    drawn = [start for _, start in draws(sampler([c], "balanced", shape=voxel_shape(dims)), 4000)]
    lesion = sum(bool(truth[s]) for s in drawn)
    assert stats.binomtest(lesion, 4000, 0.5).pvalue > 0.01
    assert all(region[s] for s in drawn)
    background = np.array([s for s in drawn if not truth[s]])
    counts = np.zeros(size, dtype=int)
    np.add.at(counts, tuple(background.T), 1)
    assert stats.chisquare(counts[region & ~truth]).pvalue > 0.01


def test_balanced_draws_its_lesions_from_cases_with_one_and_background_from_all():
    healthy, ill = case(), case(lesion=[(1, 1)])
    drawn = draws(sampler([healthy, ill], "balanced", shape=voxel_shape(2)), 2000)
    on_lesion = [(i, s) for i, s in drawn if i == 1 and s == (1, 1)]
    assert stats.binomtest(len(on_lesion), 2000, 0.5).pvalue > 0.01
    rest = [i for i, s in drawn if (i, s) != (1, (1, 1))]
    assert stats.binomtest(sum(rest), len(rest), 0.5).pvalue > 0.01


@pytest.mark.parametrize("kind", ["foreground", "balanced"])
def test_without_any_lesion_draws_are_uniform(kind):
    s = sampler([case(), case()], kind, 1.0, voxel_shape(2))
    counts = np.zeros((2, 6, 7), dtype=int)
    for i, start in draws(s, 4200):
        counts[(i, *start)] += 1
    assert stats.chisquare(counts.ravel()).pvalue > 0.01


def test_where_the_lesion_fills_the_region_any_voxel_serves_as_background():
    c = case((2, 2), lesion=[(0, 0), (0, 1), (1, 0), (1, 1)])
    drawn = {start for _, start in draws(sampler([c], "balanced", shape=voxel_shape(2)), 200)}
    assert drawn == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("kind", ["uniform", "foreground", "balanced", "grid"])
@pytest.mark.parametrize("dims", [2, 3])
def test_patches_stay_within_images_that_hold_them(kind, dims):
    size, output = (9, 5, 8)[:dims], (4, 5, 3)[:dims]
    s = sampler([case(size, lesion=[(0,) * dims, (4,) * dims])], kind, shape=shape_of(output, 2, 3))
    for _, start in draws(s, 100):
        assert all(0 <= a <= n - o for a, n, o in zip(start, size, output, strict=True))


@pytest.mark.parametrize("kind", ["uniform", "foreground", "balanced", "grid"])
@pytest.mark.parametrize("shape", [voxel_shape(2), None])
def test_a_seed_repeats_the_draws_and_another_does_not(kind, shape):
    s = sampler([case(lesion=[(1, 1), (2, 5)]), case(), case()], kind, shape=shape)
    assert draws(s, 60, seed=4) == draws(s, 60, seed=4)
    assert draws(s, 60, seed=4) != draws(s, 60, seed=5)


def test_grid_gives_every_patch_once_a_round_in_an_order_of_its_own():
    cases = [case((6, 8)), case((4, 4))]
    s = sampler(cases, "grid", shape=shape_of((2, 4)))
    every = [(0, g) for g in grid_starts((6, 8), (2, 4))]
    every += [(1, g) for g in grid_starts((4, 4), (2, 4))]
    drawn = draws(s, 2 * len(every))
    first, second = drawn[: len(every)], drawn[len(every) :]
    assert sorted(first) == sorted(second) == sorted(every)
    assert first != second


def test_whole_images_come_in_turn_or_by_halves():
    cases = [case(), case(lesion=[(0, 0)]), case(), case()]
    for kind in ("uniform", "grid"):
        drawn = draws(sampler(cases, kind), 12)
        assert all(start is None for _, start in drawn)
        for turn in range(0, 12, 4):
            assert sorted(i for i, _ in drawn[turn : turn + 4]) == [0, 1, 2, 3]
    for kind, p, share in (("foreground", 0.8, 0.8 + 0.2 / 4), ("balanced", 0.1, 0.5 + 0.5 / 4)):
        drawn = draws(sampler(cases, kind, p), 3000)
        assert all(start is None for _, start in drawn)
        lesions = sum(i == 1 for i, _ in drawn)
        assert stats.binomtest(lesions, 3000, share).pvalue > 0.01


# --- places


sides = st.integers(1, 14)


@given(st.lists(st.tuples(sides, sides), min_size=2, max_size=3), st.floats(0, 0.9))
def test_a_grid_covers_every_voxel_and_its_patches_put_back_give_the_image(pairs, overlap):
    size, output = zip(*pairs, strict=True)
    c = case(size)
    total, weight = np.zeros(size), np.zeros(size)
    for start in grid_starts(size, output, overlap):
        patch, truth = cut(c, start, shape_of(output))
        inside = truth != IGNORE
        where = np.argwhere(inside) + start
        np.add.at(total, tuple(where.T), patch[0][inside])
        np.add.at(weight, tuple(where.T), 1)
    assert weight.min() >= 1
    np.testing.assert_array_equal(total / weight, c.image[0])


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=2, max_size=3))
def test_a_grid_that_divides_the_image_covers_every_voxel_once(pairs):
    output = [o for _, o in pairs]
    size = [k * o for k, o in pairs]
    counts = np.zeros(size, dtype=int)
    for start in grid_starts(size, output):
        counts[tuple(slice(s, s + o) for s, o in zip(start, output, strict=True))] += 1
    assert (counts == 1).all()


@given(st.lists(st.tuples(sides, sides, st.integers(0, 13)), min_size=2, max_size=3))
def test_a_patch_is_centred_as_far_as_the_image_allows(axes):
    size, output, centre = zip(*axes, strict=True)
    centre = [c % n for c, n in zip(centre, size, strict=True)]
    for s, c, n, o in zip(patch_start(centre, size, output), centre, size, output, strict=True):
        if n >= o:
            assert 0 <= s <= n - o
            assert s <= c < s + o
            assert s == c - o // 2 or s in (0, n - o)
        else:
            # What lacks lies on both sides, at most one voxel more behind.
            assert 0 <= (s + o - n) - (-s) <= 1
            assert (s,) == grid_starts((n,), (o,))[0]


# --- windows


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 5), st.integers(-12, 12)),
        min_size=2,
        max_size=3,
    ),
    st.integers(0, 6),
    st.integers(0, 6),
)
def test_a_window_is_the_image_padded_with_its_fill(axes, before, after):
    size, output, start = zip(*axes, strict=True)
    c = case(size, channels=2, lesion=[(0,) * len(size)])
    shape = shape_of(output, before, after)
    window, truth = cut(c, start, shape)
    far = 40
    image = np.pad(c.image, [(0, 0), *[(far, far)] * len(size)], constant_values=-9)
    labels = np.pad(c.truth.astype(np.uint8), far, constant_values=IGNORE)
    at = tuple(
        slice(s - before + far, s - before + far + w)
        for s, w in zip(start, shape.window, strict=True)
    )
    np.testing.assert_array_equal(window, image[(slice(None), *at)])
    np.testing.assert_array_equal(truth, labels[at])
    assert (window.dtype, truth.dtype) == (np.float32, np.uint8)


def test_each_channel_is_filled_with_its_own_intensity():
    c = CaseArrays(
        np.zeros((2, 2, 2), np.float16),
        np.ones((2, 2), bool),
        np.ones((2, 2), bool),
        np.array([0.5, -3], np.float32),
    )
    window, truth = cut(c, (0, 0), shape_of((2, 2), 1, 0))
    assert window[:, 0, 0].tolist() == [0.5, -3]
    assert truth.tolist() == [[IGNORE] * 3, [IGNORE, 1, 1], [IGNORE, 1, 1]]


def test_cutting_leaves_the_image_as_it_is():
    c = case(lesion=[(2, 2)])
    image, truth = c.image.copy(), c.truth.copy()
    window, labels = cut(c, (1, 1), shape_of((3, 3), 1, 1))
    window += 1
    labels += 1
    assert (c.image == image).all()
    assert (c.truth == truth).all()


# --- shares


def test_lesion_share_is_that_of_the_outputs():
    # Windows of 4 about outputs of 2: the lesion lies in the margin of every other window too.
    c = case((4, 4), lesion=[(0, 0), (0, 1), (1, 0)])
    shape = shape_of((2, 2), 1, 1)
    s = sampler([c], "grid", shape=shape)
    assert lesion_share(s, 4, 0, lambda t: t[1:3, 1:3]) == 3 / 16


def test_lesion_share_leaves_voxels_outside_the_image_out():
    c = case((2, 3), lesion=[(0, 0)])
    s = sampler([c], "uniform", shape=shape_of((5, 5)))
    assert lesion_share(s, 3, 0, lambda t: t) == 1 / 6


def test_lesion_share_of_whole_images():
    s = sampler([case((2, 2), lesion=[(0, 0)]), case((2, 2))], "uniform")
    assert lesion_share(s, 2, 0, lambda t: t) == 1 / 8


def test_samplers_raise_the_share_of_lesion_voxels_in_their_order():
    c = case((30, 30), lesion=[(15, 15), (15, 16)])
    share = {
        kind: lesion_share(sampler([c], kind, 1.0, shape_of((3, 3))), 400, 0, lambda t: t)
        for kind in ("uniform", "balanced", "foreground")
    }
    assert share["uniform"] < share["balanced"] < share["foreground"]
    assert share["foreground"] == 2 / 9


def test_who_can_train_a_segmenter(tmp_path):
    drawn = Case("a", tmp_path / "a.png", "tumor", mask=tmp_path / "m.png")
    assert knows_truth(drawn, healthy=False)
    undrawn = Case("b", tmp_path / "b.png", "normal")
    assert knows_truth(undrawn, healthy=True)
    assert not knows_truth(undrawn, healthy=False)
