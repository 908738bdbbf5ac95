"""Activations of all depths over one image."""

import pytest
import torch
from torch.nn import functional as F

from weakseg.models.classifiers import ClassifierSpec, build_classifier
from weakseg.models.hypercolumns import hypercolumns
from weakseg.models.layers import DEPTHS, FUSED, find_layers

WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_classifier(ClassifierSpec("squeezenet1_1", ("a", "b"), 1)).eval()


def layers(model):
    return find_layers(model, FUSED, 64)


def activations(model, image):
    """Of torchvision's own feature extractor."""
    from torchvision.models.feature_extraction import create_feature_extractor

    names = DEPTHS["squeezenet1_1"]
    with torch.no_grad():
        found = create_feature_extractor(model.net, list(names))(
            (image[None] - model.mean) / model.std
        )
    return [found[n] for n in names]


def test_they_are_the_activations_enlarged_to_one_grid(model):
    image = torch.rand(1, 64, 64)
    found = hypercolumns(model, layers(model), image, WHOLE, (16, 16))
    expected = [F.interpolate(m, (16, 16), mode="bilinear") for m in activations(model, image)]
    torch.testing.assert_close(found, torch.cat(expected, 1)[0].permute(1, 2, 0))
    assert not any(m._forward_hooks for m in model.modules())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(
            hypercolumns(model, layers(model), image, WHOLE, (16, 16)), found
        )


def test_a_window_is_cut_out_of_the_whole(model):
    image = torch.rand(1, 64, 64)
    whole = hypercolumns(model, layers(model), image, WHOLE, (16, 16))
    part = hypercolumns(model, layers(model), image, (0.25, 0.0, 0.75, 1.0), (8, 16))
    torch.testing.assert_close(part, whole[4:12])
