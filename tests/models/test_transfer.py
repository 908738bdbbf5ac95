"""Weights that users have: what may stand before, inside and behind them, and what is refused."""

import re
from collections import OrderedDict

import pytest
import torch
import torchvision
from safetensors.torch import load, save
from torch import nn

from weakseg.errors import DataError, UserError
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.pretrained import backbone_of, load_backbone
from weakseg.models.segmenters import build_segmenter
from weakseg.models.states import load_tensors, match
from weakseg.models.transfer import load_pretrained

LABELS = ("normal", "tumor")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def network(arch="resnet18", channels=3, **more):
    return build_classifier(ClassifierSpec(arch, LABELS, channels, **more))


@pytest.fixture(scope="module")
def theirs():
    """Of a ResNet-18 of 1000 classes; not to be changed."""
    torch.manual_seed(7)
    return torchvision.models.resnet18().state_dict()


def check_loaded(model, state, anew=("fc.weight", "fc.bias")):
    """Every tensor is the file's, but for those of the head."""
    for name, tensor in model.net.state_dict().items():
        if name not in anew and not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(tensor, state[name], rtol=0, atol=0, msg=name)


# --- names of earlier versions


def old_densenet(state):
    return {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", k): v for k, v in state.items()}


def old_vit(state):
    return {
        k.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): v
        for k, v in state.items()
    }


def told_apart(net):
    """The tensors of a network, no layer like another."""
    state = net.state_dict()
    for i, tensor in enumerate(state.values()):
        tensor.add_(i % 7) if tensor.is_floating_point() else None
    return state


def before_counts(state):
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


def with_auxiliary(state):
    """As torchvision's files of these two have them, heads in training and all."""
    return {**state, "AuxLogits.fc.weight": torch.ones(2), "aux1.fc1.bias": torch.ones(3)}


OLDER = {
    "densenet121": old_densenet,
    "googlenet": with_auxiliary,
    "resnet18": before_counts,
    "mnasnet0_5": dict,  # torchvision's class asks for a version, which safetensors do not hold
}


@pytest.mark.thorough
@pytest.mark.parametrize("form", ["as torch has it", "as safetensors"])
@pytest.mark.parametrize("arch", OLDER)
def test_files_of_earlier_versions_load_as_torchvision_loads_them(arch, form):
    state = told_apart(network(arch).net)
    older = OLDER[arch](state)
    assert older.keys() != state.keys() or arch == "mnasnet0_5"
    if form == "as safetensors":
        older = load(save({k: v.contiguous() for k, v in older.items()}))
    model = network(arch)
    assert load_pretrained(model, older, "file") == []
    check_loaded(model, state, anew=())


def test_old_names_are_those_that_torchvision_itself_translates(monkeypatch):
    """Its own loader, given such a file, ends with the same network."""
    from torchvision.models import densenet

    state = told_apart(network("densenet121").net)
    older = before_counts(old_densenet(state))

    class File:
        def get_state_dict(self, **_):
            return dict(older)

    oracle = torchvision.models.densenet121(num_classes=2)
    densenet._load_state_dict(oracle, File(), progress=False)
    model = network("densenet121")
    load_pretrained(model, older, "file")
    check_loaded(model, oracle.state_dict(), anew=())


def test_old_names_of_a_vit_are_those_that_torchvision_itself_translates():
    sizes = {"image_size": 32, "patch_size": 16, "num_layers": 2, "num_heads": 2}
    source, oracle = (
        torchvision.models.VisionTransformer(**sizes, hidden_dim=8, mlp_dim=16, num_classes=2)
        for _ in range(2)
    )
    older = old_vit(told_apart(source))
    assert any("linear_1" in k for k in older)
    oracle.load_state_dict(dict(older))
    found = match(source.state_dict(), older)
    assert not [*found.missing, *found.other, *found.unknown]
    assert all(torch.equal(v, found.fitting[k]) for k, v in oracle.state_dict().items())


def test_an_older_densenet_loads_into_a_segmenter_s_encoder():
    state = network("densenet121").net.state_dict()
    net = build_segmenter("encoder-unet:densenet121", 3, 2)
    load_backbone(net, old_densenet(state), "file")
    for name, tensor in backbone_of(net).state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_a_network_that_asks_for_versions_loads_what_it_saved():
    source, model = network("mnasnet0_5"), network("mnasnet0_5")
    load_tensors(model, dict(source.state_dict()))
    assert torch.equal(model.net.layers[0].weight, source.net.layers[0].weight)


# --- what stands before the names


@pytest.mark.thorough
@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "backbone.", "encoder.", "_orig_mod.", "net.", "module._orig_mod.net."],
)
def test_whatever_stands_before_all_names_is_taken_off(theirs, prefix):
    model = network()
    state = {prefix + k: v for k, v in theirs.items()}
    assert load_pretrained(model, state, "file") == ["fc.weight", "fc.bias"]
    check_loaded(model, theirs)
    net = build_segmenter("encoder-unet:resnet18", 3, 2)
    assert load_backbone(net, state, "file") == ["decoder", "head"]
    assert torch.equal(net.encoder.layer4[1].conv2.weight, theirs["layer4.1.conv2.weight"])


def test_what_stands_beside_the_network_is_not_taken_for_it(theirs):
    """A training's own parts; a second copy of the network (a teacher) comes after the first."""
    state = {f"model.{k}": v for k, v in theirs.items()} | {"loss.weight": torch.ones(2)}
    state |= {f"model_ema.module.{k}": v + 1 for k, v in theirs.items()}
    model = network()
    load_pretrained(model, state, "file")
    check_loaded(model, theirs)


def test_a_whole_segmenter_of_a_parallel_training_is_loaded_whole():
    source, model = build_segmenter("unet", 1, 2), build_segmenter("unet", 1, 2)
    state = {f"module.{k}": v for k, v in source.state_dict().items()}
    assert load_backbone(model, state, "file") == []
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in model.state_dict().items())


# --- heads


def without(state, *heads):
    return {k: v for k, v in state.items() if not k.startswith(heads)}


@pytest.mark.parametrize(
    "head",
    [
        {},  # absent
        {"fc.weight": torch.ones(7, 512), "fc.bias": torch.ones(7)},
        {"fc.1.weight": torch.ones(2, 512), "fc.1.bias": torch.ones(2)},  # behind a dropout
        {"fc.0.weight": torch.ones(64, 512), "fc.2.weight": torch.ones(2, 64)},
        {"head.weight": torch.ones(2, 512)},
        {"last_linear.weight": torch.ones(2, 512)},
        {"fc.weight": torch.ones(2, 512)},  # without its bias
    ],
    ids=["absent", "other classes", "nested", "two layers", "head", "last_linear", "no bias"],
)
def test_a_head_that_does_not_fit_starts_anew(theirs, head):
    model = network()
    before = model.net.fc.weight.detach().clone()
    assert load_pretrained(model, without(theirs, "fc.") | head, "f") == ["fc.weight", "fc.bias"]
    check_loaded(model, theirs)
    assert torch.equal(model.net.fc.weight, before)


def test_a_head_of_several_layers_starts_anew_as_a_whole():
    """AlexNet without its classifier, as an encoder is saved."""
    source, model = network("alexnet"), network("alexnet")
    state = source.net.state_dict()
    features = without(state, "classifier.")
    names = [k for k in state if k.startswith("classifier.")]
    assert load_pretrained(model, features, "file") == names
    check_loaded(model, state, anew=names)


def test_both_heads_of_a_distilled_network_start_anew():
    timm = pytest.importorskip("timm", reason="timm is an extra")
    name = "deit_tiny_distilled_patch16_224"
    state = timm.create_model(name, num_classes=10).state_dict()
    random = load_pretrained(network(f"timm:{name}"), state, "file")
    assert set(random) == {f"{h}.{p}" for h in ("head", "head_dist") for p in ("weight", "bias")}


# --- what is refused, and in what words


def test_another_network_is_told_by_how_much_of_it_fits(theirs):
    wider = torchvision.models.resnet50().state_dict()
    with pytest.raises(DataError) as e:
        load_pretrained(network(), wider, "w.pth")
    own = network().net.state_dict()
    fit = sum(k in wider and wider[k].shape == v.shape for k, v in own.items())
    assert f"{fit} of its {len(own)} tensors fit" in e.value.found
    assert "layer1.0.conv1.weight: (64, 64, 1, 1), not (64, 64, 3, 3)" in e.value.found
    assert "'layer1.0.conv3.weight'" in e.value.found
    assert "classifier.arch" in e.value.fix


@pytest.mark.parametrize("load_into", ["classifier", "segmenter"])
def test_a_deeper_network_that_begins_alike_is_another(load_into):
    """Every tensor of a ResNet-18 is in a ResNet-34, with its shape."""
    deeper = torchvision.models.resnet34().state_dict()
    with pytest.raises(UserError, match=r"unknown: 'layer1\.2\.conv1\.weight'"):
        if load_into == "classifier":
            load_pretrained(network(), deeper, "w.pth")
        else:
            load_backbone(build_segmenter("encoder-unet:resnet18", 3, 2), deeper, "w.pth")


def test_a_file_of_something_else_says_that_nothing_fits():
    with pytest.raises(DataError, match=r"0 of its 122 tensors fit(.|\n)*unknown: 'a'"):
        load_pretrained(network(), {"a": torch.ones(2)}, "w.pth")


def test_a_file_that_lacks_a_layer_names_it(theirs):
    with pytest.raises(DataError, match=r"no tensor 'layer3\.0\.bn1\.running_var'"):
        load_pretrained(network(), without(theirs, "layer3.0.bn1.running_var"), "w.pth")


@pytest.mark.parametrize(
    ("given", "channels", "grey", "words"),
    [
        (4, 3, "first-layer", r"found: 4 channels\n.*expected: 3\n"),
        (4, 1, "first-layer", r"found: 4 channels\n.*expected: 1, or 3 colours\n"),
        (1, 3, "first-layer", r"found: 1 channel\n.*expected: 3\n"),
        (1, 1, "repeat", r"found: 1 channel\n.*expected: 3\n.*grey_input: first-layer"),
    ],
)
def test_weights_for_other_channels_are_named_for_what_they_are(
    theirs, given, channels, grey, words
):
    state = theirs | {"conv1.weight": torch.ones(64, given, 7, 7)}
    with pytest.raises(DataError, match=rf"number of channels.(.|\n)*conv1\.weight(.|\n)*{words}"):
        load_pretrained(network(channels=channels, grey_input=grey), state, "w.pth")
    if grey == "first-layer":
        with pytest.raises(UserError, match=rf"number of channels(.|\n)*{words}"):
            load_backbone(build_segmenter("encoder-unet:resnet18", channels, 2), state, "w.pth")


def test_weights_for_another_size_are_named_for_what_they_are():
    timm = pytest.importorskip("timm", reason="timm is an extra")
    state = timm.create_model("test_vit", img_size=96).state_dict()
    with pytest.raises(DataError, match=r"another size(.|\n)*'pos_embed'"):
        load_pretrained(network("timm:test_vit"), state, "w.pth")


@pytest.mark.thorough
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", ["layer2.0.conv1.weight", "layer4.1.bn2.running_var"])
def test_values_that_are_no_numbers_are_refused_by_their_key(theirs, key, value):
    bad = theirs[key].clone()
    bad.view(-1)[3] = value
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(DataError, match=rf"w\.pth, tensor '{key}'(.|\n)*in 1 of {bad.numel()}"):
        load_pretrained(model, theirs | {key: bad}, "w.pth")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with pytest.raises(DataError, match=rf"w\.pth, tensor '{key}'"):
        load_backbone(build_segmenter("encoder-unet:resnet18", 3, 2), theirs | {key: bad}, "w.pth")


def test_exits_that_hold_no_numbers_are_refused_and_nothing_is_loaded():
    model = build_classifier(ClassifierSpec("squeezenet1_1", ("a", "b"), 1, exits=True))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    bad = {k: v + 1 for k, v in state.items()} | {"exits.0.bias": torch.tensor([0.0, float("nan")])}
    with pytest.raises(DataError, match=r"w\.pth, tensor 'exits\.0\.bias'"):
        load_pretrained(model, bad, "w.pth")
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_a_head_that_is_not_taken_may_hold_anything(theirs):
    state = theirs | {"fc.weight": torch.full((9, 512), float("nan")), "fc.bias": torch.zeros(9)}
    model = network()
    head = model.net.fc.weight.clone()
    assert set(load_pretrained(model, state, "w.pth")) == {"fc.weight", "fc.bias"}
    assert torch.equal(model.net.fc.weight, head)
    assert torch.equal(model.net.conv1.weight, theirs["conv1.weight"])


def test_names_are_matched_as_a_whole():
    """`1.weight` is no end of `11.weight`."""
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    state = OrderedDict({f"1{k}": v for k, v in net.state_dict().items()})
    assert match(net.state_dict(), state).fitting == {}
