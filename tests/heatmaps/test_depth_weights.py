"""What depths count, learnt by labels: noise counts nothing, and predict takes what is learnt."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import pixels, weakseg, write_config, write_set
from weakseg.config import HeatmapConfig, parse_config
from weakseg.data.cases import Labels
from weakseg.errors import ConfigError
from weakseg.heatmaps.depth_weights import hottest_tenth, weights_by_labels
from weakseg.heatmaps.fuse import fuse, over_maximum
from weakseg.heatmaps.store import load_heatmap
from weakseg.methods import heatmap_choices
from weakseg.methods.checks import check_settings
from weakseg.runs import read_json


@pytest.mark.parametrize("seed", range(8))
def test_a_depth_of_pure_noise_counts_next_to_nothing(seed):
    rng = np.random.default_rng(seed)
    lesion = np.arange(300) % 3 == 0
    signal = np.exp(rng.normal(size=300) + 1.5 * lesion)
    weights = weights_by_labels(np.stack([rng.lognormal(size=300), signal], 1), lesion)
    assert weights[0] < 0.05
    assert weights.sum() == pytest.approx(1)


def test_equal_depths_count_alike_and_one_that_speaks_against_lesions_counts_nothing():
    rng = np.random.default_rng(0)
    lesion = np.arange(200) % 2 == 0
    signal = np.exp(rng.normal(size=200) + 2 * lesion)
    against = np.exp(rng.normal(size=200) - 2 * lesion)
    weights = weights_by_labels(np.stack([signal, signal, against], 1), lesion)
    np.testing.assert_allclose(weights, [0.5, 0.5, 0], atol=1e-3)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_neither_scale_nor_order_changes_what_they_count(seed, factor):
    rng = np.random.default_rng(seed)
    lesion = rng.random(60) < 0.4
    hot = np.exp(rng.normal(size=(60, 3)) + np.outer(lesion, [2.0, 0.5, 0.0]))
    one = weights_by_labels(hot, lesion)
    assert one is not None
    scaled = weights_by_labels(hot * [factor, 1, 1], lesion)
    np.testing.assert_allclose(scaled, one, atol=1e-3)
    turned = weights_by_labels(hot[::-1, ::-1], lesion[::-1])
    np.testing.assert_allclose(turned[::-1], one, atol=1e-3)


def test_where_labels_tell_nothing_there_are_no_weights():
    rng = np.random.default_rng(3)
    hot = rng.lognormal(size=(40, 2))
    assert weights_by_labels(hot, np.ones(40, bool)) is None
    assert weights_by_labels(hot[:0], []) is None
    assert weights_by_labels(np.ones((40, 2)), np.arange(40) % 2 == 0) is None
    with pytest.raises(ValueError, match="finite and not below 0"):
        weights_by_labels(-hot, np.arange(40) % 2 == 0)
    with pytest.raises(ValueError, match=r"is_lesion \(3,\)"):
        weights_by_labels(hot, [True, False, True])


def test_the_hottest_tenth_is_that_of_positive_scores():
    maps = torch.arange(-50.0, 50.0).reshape(1, 10, 10)
    assert hottest_tenth(maps).item() == pytest.approx(np.mean(np.arange(40, 50)))
    assert hottest_tenth(-torch.ones(2, 3, 3)).tolist() == [0, 0]


def test_maps_are_summed_by_their_weights():
    a, b = torch.tensor([[[2.0, 0, 1]]]), torch.tensor([[[0.0, 4, 4]]])
    weighed = torch.tensor([[[0.25 * 1.0, 0.75, 0.25 * 0.5 + 0.75]]])
    expected = over_maximum(weighed)[0] * 4  # the deepest map's maximum
    torch.testing.assert_close(fuse([a, b], "labels", [0.25, 0.75]), expected)
    torch.testing.assert_close(fuse([a, b], "labels"), fuse([a, b]))
    torch.testing.assert_close(fuse([a, b], "labels", [0.5, 0.5]), fuse([a, b]))
    with pytest.raises(ConfigError, match="not as many weights as layers"):
        fuse([a, b], "labels", [1.0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weights": [0.5, 0.5]}, "are of fusion: labels"),
        ({"fusion": "labels", "weights": [0, 0]}, "must not all be 0"),
        ({"fusion": "labels", "weights": [-1, 2]}, "greater than or equal to 0"),
        ({"fusion": "label"}, "fusion"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        parse_config({"heatmap": settings})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layer": "fused", "weights": [1, 2]}, "2 weights for 4 layers"),
        ({"layer": ["features.4", "features.7"], "weights": [1]}, "1 weights for 2 layers"),
        ({"layer": "auto", "weights": [1]}, "the one layer features.12"),
        ({"layer": "features.7"}, "the one layer features.7"),
        ({"method": "fullgrad", "layer": "fused"}, "fullgrad, which is of no layer"),
        ({"method": "relevance"}, "relevance, which is of no layer"),
        ({"method": "occlusion", "weights": [1]}, "occlusion, which is of no layer"),
        ({"layer": "fused", "weights": [1, 2, 3, 4]}, None),
        ({"layer": "fused"}, None),
    ],
)
@pytest.mark.parametrize("where", ["heatmap", "heatmaps.more"])
def test_layers_are_weighed_where_there_are_several_and_each_has_its_weight(settings, words, where):
    heat = {"fusion": "labels"} | settings
    tree = {"heatmap": heat} if where == "heatmap" else {"heatmaps": {"more": heat}}
    config = parse_config({"classifier": {"arch": "squeezenet1_1"}} | tree)
    labels = Labels(("normal",), ("tumor",))
    if words is None:
        check_settings(config, labels, 1)
        return
    with pytest.raises(ConfigError, match=words) as error:
        check_settings(config, labels, 1)
    assert error.value.where.startswith(f"{where}.")


def test_maps_from_before_stay_up_to_date():
    assert "weights" not in HeatmapConfig().fingerprint_settings()
    named = HeatmapConfig(fusion="labels", weights=[1, 2])
    assert named.fingerprint_settings()["weights"] == [1, 2]
    assert not named.learns_weights


CONFIG = """
name: tiny
data: {{manifest: {manifest}, image_size: 64, split: {{val: 0.34, test: 0.25}}}}
classifier: {{arch: squeezenet1_1, epochs: 1, batch_size: 8}}
heatmap: {{layer: fused, fusion: labels, method: layercam}}
masks: {{rules: [fixed], gate: none}}
scores: {{bootstrap: 100, floors: false}}
"""


@pytest.mark.thorough
def test_a_run_keeps_its_weights_and_predict_takes_them(tmp_path, monkeypatch, capsys):
    seen = []

    def learnt(hot, lesion):
        seen.append((np.asarray(hot), list(lesion)))
        return np.array([0.7, 0.3, 0.0, 0.0])

    monkeypatch.setattr(heatmap_choices, "weights_by_labels", learnt)
    config = write_config(tmp_path, write_set(tmp_path / "data", slices=1), CONFIG)
    run, how = tmp_path / "run", ("--device", "cpu", "--run-dir", tmp_path / "run")
    assert weakseg("train-classifier", config, *how) == 0
    assert weakseg("heatmap-segment", config, *how) == 0
    assert "validation labels the layers count features.4 0.70" in capsys.readouterr().err
    ((hot, lesion),) = seen
    rows = [r for r in (run / "splits.csv").read_text().splitlines() if ",val" in r]
    assert hot.shape == (len(rows), 4)
    assert sum(lesion) == sum(",tumor," in r for r in rows)
    folder = run / "heatmaps/squeezenet1_1/seed-0/layercam"
    kept = read_json(folder / "fusion.json")
    assert (kept["weights"], kept["images"]) == ([0.7, 0.3, 0, 0], len(rows))
    stored = sorted(p.stem for p in (run / "masks/layercam-fixed/seed-0").glob("*.png"))
    images = [tmp_path / f"data/images/{n}.png" for n in stored]
    out = tmp_path / "out"
    assert weakseg("predict", run, *images, "--out", out, "--heatmaps") == 0
    plain = []
    for n in stored:
        ours, theirs = load_heatmap(out / f"heatmaps/{n}.npz"), load_heatmap(folder / f"{n}.npz")
        np.testing.assert_array_equal(ours.raw, theirs.raw)
        mask = pixels(run / f"masks/layercam-fixed/seed-0/{n}.png")
        np.testing.assert_array_equal(pixels(out / f"{n}.png"), mask)
        plain.append(theirs.raw)
    # With equal weights the maps are others.
    same = ("--set", "heatmap.fusion=mean")
    assert weakseg("heatmap-segment", config, *how, *same) == 0
    assert not (folder / "fusion.json").exists()
    others = [load_heatmap(folder / f"{n}.npz").raw for n in stored]
    assert max(abs(a - b).max() for a, b in zip(plain, others, strict=True)) > 0
