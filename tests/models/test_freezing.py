"""A frozen classifier: only its head moves, whatever the loop does."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError

from weakseg.config import ClassifierConfig
from weakseg.errors import DataError
from weakseg.models.classifiers import ClassifierSpec, build_classifier
from weakseg.models.freezing import freeze, refuse_random
from weakseg.training.beginning import highest_rate
from weakseg.training.optimizers import make_optimizer

LABELS = ("normal", "a", "b")


def trained(spec, freezing):
    """States before and after two steps of a loop that puts all modules into training."""
    torch.manual_seed(0)
    model = build_classifier(spec)
    if freezing:
        freeze(model)
    before = copy.deepcopy(model.state_dict())
    optimizer = make_optimizer(model, "adamw", 0.1, 0.5)
    for _ in range(2):
        model.train()
        said = model(torch.rand(4, 1, 48, 48), parts=True)
        loss = sum(s.square().mean() for s in (said.logits, *said.exits))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return before, model.state_dict()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("arch", "head"),
    [
        ("resnet18", "net.fc."),
        ("squeezenet1_1", "net.classifier.1."),
        ("mobilenet_v2", "net.classifier.1."),
    ],
)
def test_only_the_head_moves_and_no_statistic_of_a_batch_enters(arch, head):
    before, after = trained(ClassifierSpec(arch, LABELS, 1), True)
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved == {head + "weight", head + "bias"}
    if arch == "resnet18":  # the same loop moves all of another
        before, after = trained(ClassifierSpec(arch, LABELS, 1), False)
        still = {n for n in before if torch.equal(before[n], after[n])}
        assert still == {"mean", "std"}


def test_of_a_classifier_of_volumes_that_ends_in_a_convolution_only_that_learns():
    learns = freeze(build_classifier(ClassifierSpec("squeezenet1_1-3d", LABELS, 1)))
    assert learns == ["net.classifier.1.weight", "net.classifier.1.bias"]


def test_exits_learn_and_features_are_those_of_use():
    torch.manual_seed(0)
    model = build_classifier(ClassifierSpec("resnet18", LABELS, 1, exits=True, pool="avg"))
    learns = freeze(model)
    assert {n.partition(".")[0] for n in learns} == {"net", "exits"}
    assert {n for n in learns if n.startswith("net.")} == {"net.fc.weight", "net.fc.bias"}
    x = torch.rand(3, 1, 48, 48)
    with torch.no_grad():
        in_training, in_use = model.train()(x), model.eval()(x)
    torch.testing.assert_close(in_training, in_use)


def test_frozen_layers_that_the_weights_lack_are_refused():
    spec = ClassifierSpec("vgg11", LABELS, 3)
    with torch.device("meta"):
        model = build_classifier(spec)
    own = list(model.net.state_dict())
    last = [k for k in own if k.startswith("classifier.6.")]
    assert len(last) == 2
    refuse_random(model, [*last, "exits.0.weight", "attention.weight"], "file.pth")
    hidden = [k for k in own if k.startswith("classifier.")]
    with pytest.raises(DataError, match=r"classifier\.0\.weight"):
        refuse_random(model, hidden, "file.pth")


def test_without_weights_there_is_nothing_to_keep():
    with pytest.raises(ValidationError, match="random numbers"):
        ClassifierConfig(freeze=True)
    frozen = ClassifierConfig(freeze=True, weights="imagenet")
    assert highest_rate(frozen) == 1e-3
    assert frozen.fingerprint_settings()["freeze"] is True
    assert "freeze" not in ClassifierConfig(weights="imagenet").fingerprint_settings()


def test_a_copy_of_a_frozen_network_keeps_its_own_statistics():
    model = build_classifier(ClassifierSpec("resnet18", LABELS, 1))
    freeze(model)
    twin = copy.deepcopy(model)
    before = copy.deepcopy(twin.state_dict())
    model.train()
    twin.train()(torch.rand(2, 1, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in twin.state_dict().items())
    assert all(m.training for m in model.modules())
