"""Heatmaps on disk keep their raw scale, and lie over the image where they should."""

import numpy as np
import pytest

from weakseg.errors import RunError
from weakseg.heatmaps.store import Heatmap, load_heatmap, save_heatmap
from weakseg.scores import score_case


def make(raw, shape=(40, 20), size=64):
    return Heatmap(np.asarray(raw, np.float32), shape, size, "layer4", "gradcam", "lesion", 0.75)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_raw_scores_come_back_to_half_precision_at_any_scale(tmp_path, scale):
    raw = np.random.default_rng(0).normal(size=(8, 8)) * scale
    save_heatmap(tmp_path / "a.npz", make(raw))
    back = load_heatmap(tmp_path / "a.npz")
    np.testing.assert_allclose(back.raw, raw, rtol=1e-3, atol=1e-3 * scale)
    assert (back.shape, back.size, back.layer, back.probability) == ((40, 20), 64, "layer4", 0.75)
    assert (back.method, back.target) == ("gradcam", "lesion")


def test_a_hot_cell_lands_on_its_place_in_a_tall_image():
    raw = np.full((8, 8), -1.0)
    raw[1, 4] = 5.0
    heat = make(raw, shape=(400, 200), size=64).full()
    assert heat.shape == (400, 200)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    # Cell (1, 4) covers rows 8-16 and columns 32-40 of the square; the image fills columns 16-48.
    assert y == pytest.approx((12 / 64) * 400, abs=10)
    assert x == pytest.approx((36 - 16) / 32 * 200, abs=10)
    assert heat.min() >= 0


@pytest.mark.parametrize("raw", [np.zeros((4, 4)), -np.ones((4, 4)), np.full((4, 4), np.nan)])
def test_flat_heatmaps_are_known(raw):
    assert make(raw).flat
    assert not make(np.eye(4)).flat


def test_damage_and_absence_are_told_with_the_way_out(tmp_path):
    with pytest.raises(RunError, match=r"missing(.|\n)*--force"):
        load_heatmap(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    with pytest.raises(RunError, match=r"damaged(.|\n)*bad\.npz"):
        load_heatmap(tmp_path / "bad.npz")


def test_a_heatmap_file_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    np.savez(tmp_path / "evil.npz", values=np.array([Evil()], dtype=object), shape=[4, 4])
    with pytest.raises(RunError, match="damaged"):
        load_heatmap(tmp_path / "evil.npz")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_no_number_somewhere_shows_nothing_and_can_be_scored(bad):
    raw = np.random.default_rng(0).random((4, 4)).astype(np.float32)
    raw[1, 2] = bad
    heat = make(raw)
    assert heat.flat
    full = heat.full()
    assert full.shape == heat.shape
    assert not full.any()
    truth = np.eye(*heat.shape, dtype=bool)
    assert score_case(np.zeros_like(truth), truth, heatmap=full)["pointing"] == 0
