"""NaN and infinity, in images or out of a broken network, are refused: an empty mask would lie."""

import numpy as np
import pytest
import torch

from tests.data.helpers import noise, save
from weakseg.config import DataConfig, SegmenterConfig
from weakseg.data.cases import Case, Labels
from weakseg.errors import DataError, RunError
from weakseg.heatmaps import heatmap
from weakseg.masks.rules import FittedRule, segment
from weakseg.masks.rules.global_thresholds import FixedRule
from weakseg.methods.segmenter_networks import Networks
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.segmenters import build_segmenter
from weakseg.training.recipes import resolve
from weakseg.training.segmentation_cases import SegmentationCases

LABELS = Labels(("normal",), ("tumor",))
BAD = [np.nan, np.inf, -np.inf]


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return build_classifier(ClassifierSpec("squeezenet1_1", LABELS.names, 3)).eval()


def broken(model, value):
    with torch.no_grad():
        next(iter(model.parameters())).fill_(value)
    return model


@pytest.mark.parametrize("value", BAD)
def test_an_image_that_is_no_number_has_no_heatmap(classifier, value):
    image = noise(0, (40, 40)).astype(np.float32)
    assert heatmap(classifier, image, LABELS, image_size=64)[0].raw.size
    image[3, 3] = value
    with pytest.raises(DataError, match="no numbers"):
        heatmap(classifier, image, LABELS, image_size=64)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_classifier_is_no_healthy_image(value):
    spec = ClassifierSpec("squeezenet1_1", LABELS.names, 3)
    model = broken(build_classifier(spec).eval(), value)
    with pytest.raises(RunError, match="no number") as e:
        heatmap(model, noise(0, (40, 40)), LABELS, image_size=64)
    assert "train it again" in e.value.render()


@pytest.mark.parametrize("value", BAD)
def test_no_rule_takes_what_is_no_number(value):
    rule = FittedRule(FixedRule(), 0.5, "image", "nothing", 0)
    heat = np.linspace(0, 1, 16).reshape(4, 4)
    assert segment(rule, heat).any()
    heat[0, 0] = value
    with pytest.raises(ValueError, match="heatmap must hold numbers"):
        segment(rule, heat)


def test_a_broken_segmenter_is_refused_with_the_image(tmp_path):
    path = save(tmp_path / "a.png", noise(0, (40, 40)))
    settings = resolve(SegmenterConfig(arch="unet", image_size=32), 2)
    model = build_segmenter(settings.arch, 1, 2, 2).eval()
    data = SegmentationCases([Case("a", path, "tumor")], LABELS, DataConfig(), 1, "unit", 32)
    networks = Networks((model,), ({"sampled_prior": 0.5, "true_prior": 0.5},))
    ((_, p),) = networks.probabilities(data, [0], settings)
    assert np.isfinite(p).all()
    broken(model, np.nan)
    with pytest.raises(RunError, match="no number") as e:
        list(networks.probabilities(data, [0], settings))
    assert str(path) in e.value.render()
