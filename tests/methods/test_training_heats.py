"""Heatmaps blended into training images: how, whose, and what stands on them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.tiny import tumours, weakseg, write_config, write_set
from weakseg.config import SegmenterConfig, load_config
from weakseg.data.augment import blended
from weakseg.errors import ConfigError, RunError
from weakseg.methods.find import kind_of
from weakseg.methods.fingerprints import segmenter_fingerprint
from weakseg.methods.segmenters import segmenter_key
from weakseg.methods.training_heats import heat_stage, training_heats
from weakseg.runs import read_json
from weakseg.stages.prepare import prepared_run
from weakseg.stages.train_segmenter import segmenter_is_current
from weakseg.training.recipes import resolve

CONFIG = """
name: heats
data: {{manifest: {manifest}, image_size: 32, split: {{val: 0.1, test: 0.3}}}}
classifier: {{arch: squeezenet1_1, epochs: 1, batch_size: 8, seeds: [0]}}
heatmap: {{layer: features.7}}
masks: {{rules: [fixed], gate: none}}
scores: {{bootstrap: 100, floors: false}}
segmenters:
  plain: &net {{arch: fuzzy-neuro, epochs: 1, steps: 2, batch_size: 4, average: none,
               validation_cases: 0}}
  own: {{<<: *net, augment: heatmap}}
  another: {{<<: *net, augment: heatmap-of-another}}
"""


def test_heat_is_laid_over_an_image_in_white():
    torch.manual_seed(0)
    images, heat = 0.5 * torch.rand(40, 2, 3, 4), torch.zeros(40, 1, 3, 4)
    heat[:, :, 1, 2], heat[:, :, 0, 0] = 1.0, 0.5
    out = blended(images, heat, 0.6)
    cold = heat.expand(-1, 2, -1, -1) == 0
    assert torch.equal(out[cold], images[cold])
    share = (out - images) / (1 - images)
    torch.testing.assert_close(share[:, 0, 1, 2], share[:, 1, 1, 2])
    torch.testing.assert_close(share[:, 0, 1, 2], 2 * share[:, 0, 0, 0])
    assert 0 <= share[:, 0, 1, 2].min() < 0.1
    assert 0.5 < share[:, 0, 1, 2].max() <= 0.6


def test_names_stand_for_heat_and_settings_without_it_are_dumped_as_ever():
    own = SegmenterConfig(augment="heatmap").augment
    another = SegmenterConfig(augment="heatmap-of-another").augment
    assert (own.heat, own.heat_of) == (0.5, "own")
    assert (another.heat, another.heat_of) == (0.5, "another")
    assert "heat_of" not in own.model_dump()
    assert not {"heat", "heat_of"} & set(SegmenterConfig(augment={}).augment.model_dump())
    with pytest.raises(ConfigError, match="zscore"):
        resolve(SegmenterConfig(augment="heatmap", normalise="zscore"), 2)
    with pytest.raises(ConfigError, match="whole volumes"):
        resolve(SegmenterConfig(augment={"heat": 0.1, "rotate": 0, "zoom": 0, "shift": 0}), 3)


def test_networks_learn_from_images_with_heat_and_stand_on_the_heatmaps(tmp_path):
    config = write_config(tmp_path, write_set(tmp_path / "data", patients=6), CONFIG)
    run = tmp_path / "run"

    def go(*command):
        return weakseg(*command, config, "--run-dir", run, "--device", "cpu")

    assert go("train-classifier") == 0
    assert go("heatmap-segment") == 0
    assert go("train-segmenter") == 0
    states = {
        n: load_file(run / f"segmenter/{n}/seed-0/best.safetensors")
        for n in ("plain", "own", "another")
    }
    name = "head.weight"
    for a, b in (("plain", "own"), ("own", "another"), ("plain", "another")):
        assert not torch.equal(states[a][name], states[b][name])
    loaded = load_config(config, ["device=cpu"])
    with prepared_run(loaded, run) as prepared:
        cases = prepared.cases.cases
        settings = resolve(loaded.segmenter("own"), 2)
        own = training_heats(prepared, settings, 0, 32)
        other = resolve(loaded.segmenter("another"), 2)
        lent = training_heats(prepared, other, 0, 32)
        of = {i: own(i) for i, c in enumerate(cases) if c.split == "train"}
        hot = [h for h in of.values() if h.any()]
        assert len(hot) >= len(tumours(run, "train")) // 2
        assert all(h.shape == (32, 32) and h.min() == 0 and h.max() <= 1 for h in hot)
        assert all(not h[:, :2].any() for h in hot)  # beside an image of 48 x 40
        # Each heatmap is lent once, to another image of its split.
        borrowed = [
            next(j for j, h in of.items() if np.array_equal(h, lent(i)) and h.any())
            for i in of
            if lent(i).any()
        ]
        assert len(set(borrowed)) == len(borrowed)
        assert not any(np.array_equal(lent(i), own(i)) for i in of if own(i).any())
        assert segmenter_is_current(prepared, "own", 0)
        # Other heatmaps, other networks; those without heat stay.
        other = load_config(config, ["device=cpu", "heatmap.layer=features.4"])
        changed = replace(prepared, config=other)
        for net, same in (("plain", True), ("own", False), ("another", False)):
            assert (segmenter_key(prepared, net, 0) == segmenter_key(changed, net, 0)) == same
        with pytest.raises(RunError, match=r"not there(.|\n)*heatmap-segment"):
            training_heats(changed, settings, 0, 32)
        no_classifier = load_config(config, ["device=cpu", "classifier.epochs=2"])
        changed = replace(prepared, config=no_classifier)
        assert not segmenter_is_current(changed, "own", 0)
        assert segmenter_is_current(changed, "plain", 0)
    stage, record = heat_stage(loaded, 0), read_json(run / "run.json")["stages"]
    assert stage in str(record["segmenter/own/0"])
    assert stage not in str(record["segmenter/plain/0"])
    assert stage in record["masks/own"]["inputs"]
    assert not record["masks/plain"]["inputs"]
    # Masks of networks with heat are none of other heatmaps, also where none is made yet.
    for net, same in (("plain", True), ("own", False)):
        assert (segmenter_fingerprint(loaded, net) == segmenter_fingerprint(other, net)) == same
    assert stage in kind_of(loaded, "own").stands_on(loaded, "own", 0)
    assert stage not in kind_of(loaded, "plain").stands_on(loaded, "plain", 0)
