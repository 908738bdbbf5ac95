"""Weights from elsewhere: every tensor of the backbone arrives, the rest is reported."""

import pytest
import torch
from safetensors.torch import load_file

from weakseg.errors import ConfigError, UserError
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.encoders import ENCODERS
from weakseg.models.pretrained import backbone_name, backbone_of, load_backbone
from weakseg.models.segmenters import SEGMENTERS, build_segmenter

ENCODER_UNETS = [f"encoder-unet:{e}" for e in ("squeezenet1_1", "resnet18", "mobilenet_v2")]
FCNS = ["fcn16s:squeezenet1_1", "fcn8s:resnet18", "fcn32s:mobilenet_v2"]


def arch_of(name):
    return name.partition(":")[2]


def source_of(arch, channels=3):
    torch.manual_seed(7)
    if arch.startswith("tf_"):
        import timm

        net = timm.create_model(arch, pretrained=False)
    else:
        net = build_classifier(ClassifierSpec(arch, ("a", "b"), channels)).net
    state = net.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape)
            tensor.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
    return state


def check_copied(net, state):
    """Each tensor of the backbone against its source, the first layer's colours summed."""
    held = backbone_of(net).state_dict()
    assert len(held) > 20
    summed = 0
    for name, tensor in held.items():
        given = state[name.removeprefix("model.")].to(tensor.dtype)
        if given.shape != tensor.shape:
            given = given.sum(1, keepdim=True)
            summed += 1
        torch.testing.assert_close(tensor, given, msg=name)
    return summed


@pytest.mark.thorough
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*ENCODER_UNETS, "encoder-unet:tf_efficientnet_lite0"])
def test_every_tensor_of_an_encoder_is_copied_and_the_decoder_stays_random(name, channels):
    state = source_of(arch_of(name))
    net = build_segmenter(name, channels, 2)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert load_backbone(net, state, "file") == ["decoder", "head"]
    assert check_copied(net, state) == (channels == 1)
    for k, v in net.state_dict().items():
        if not k.startswith("encoder."):
            assert torch.equal(v, before[k]), k


@pytest.mark.thorough
@pytest.mark.parametrize("name", FCNS)
def test_every_tensor_of_an_fcn_s_backbone_is_copied(name):
    net = build_segmenter(name, 3, 2)
    state = source_of(arch_of(name))
    assert load_backbone(net, state, "file") == ["score"]
    assert check_copied(net, state) == 0


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_resnet50"])
def test_of_torchvision_s_networks_the_classifier_stays_random(name):
    net = build_segmenter(name, 1, 2)
    state = source_of("resnet50")
    assert load_backbone(net, state, "file") == ["net.classifier"]
    # Grey images are repeated there: the first layer keeps its three colours.
    assert check_copied(net, state) == 0


def test_a_grey_image_gives_what_the_same_image_in_colours_gives():
    """Weights summed over equal colours; mean and sd of the colours averaged."""
    name = "encoder-unet:resnet18"
    state = source_of("resnet18")
    grey, colour = build_segmenter(name, 1, 2).eval(), build_segmenter(name, 3, 2).eval()
    load_backbone(grey, state, "file")
    load_backbone(colour, state, "file")
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        normalised = (x - grey.mean) / grey.std
        a = grey.encoder(normalised)[1]
        b = colour.encoder(normalised.expand(-1, 3, -1, -1))[1]
    torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", [ENCODER_UNETS[0], FCNS[0]])
def test_a_classifier_as_weakseg_saves_it_is_read(name):
    """Grey already, with ``net.`` before every name and the normalisation beside."""
    classifier = build_classifier(ClassifierSpec(arch_of(name), ("a", "b"), 1))
    state = classifier.state_dict()
    assert any(k.startswith("net.") for k in state)
    net = build_segmenter(name, 1, 2)
    load_backbone(net, state, "file")
    assert check_copied(net, classifier.net.state_dict()) == 0


def test_a_grey_classifier_s_weights_for_a_network_that_repeats_grey_say_where_they_fit():
    state = source_of("resnet50", channels=1)
    net = build_segmenter("fcn_resnet50", 1, 2)
    with pytest.raises(UserError, match=r"another number of channels(.|\n)*1 channel\n(.|\n)*FCN"):
        load_backbone(net, state, "file")
    load_backbone(build_segmenter("encoder-unet:resnet50", 1, 2), state, "file")


@pytest.mark.parametrize("name", [ENCODER_UNETS[0], FCNS[0], "unet", "deepmedic"])
def test_weights_of_the_whole_network_are_loaded_whole(name):
    torch.manual_seed(0)
    theirs, ours = build_segmenter(name, 1, 2), build_segmenter(name, 1, 2)
    assert load_backbone(ours, theirs.state_dict(), "file") == []
    for k, v in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[k], v), k


def test_half_precision_is_read():
    state = {k: v.half() if v.is_floating_point() else v for k, v in source_of("resnet18").items()}
    net = build_segmenter("encoder-unet:resnet18", 3, 2)
    load_backbone(net, state, "file")
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    torch.testing.assert_close(net.encoder.conv1.weight.data, state["conv1.weight"].float())


def test_counts_of_batches_may_be_missing_and_nothing_else():
    state = source_of("resnet18")
    fewer = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    load_backbone(build_segmenter("encoder-unet:resnet18", 3, 2), fewer, "file")
    del fewer["layer3.0.bn1.running_var"]
    with pytest.raises(UserError, match=r"layer3\.0\.bn1\.running_var"):
        load_backbone(build_segmenter("encoder-unet:resnet18", 3, 2), fewer, "file")


def test_weights_of_another_network_name_the_tensor_and_a_way_out():
    net = build_segmenter("encoder-unet:resnet18", 3, 2)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(UserError, match=r"some\.file(.|\n)*'conv1\.weight'(.|\n)*weights: none"):
        load_backbone(net, source_of("squeezenet1_1"), "some.file")
    wider = source_of("resnet50")
    with pytest.raises(
        UserError, match=r"layer1\.0\.conv1\.weight: \(64, 64, 1, 1\)(.|\n)*\(64, 64, 3, 3\)"
    ):
        load_backbone(net, wider, "some.file")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_networks_without_a_backbone_take_weights_of_their_own_only():
    with pytest.raises(UserError, match="weights of this very network"):
        load_backbone(build_segmenter("unet", 1, 2), source_of("resnet18"), "file")


@pytest.mark.parametrize(
    ("arch", "path"),
    [
        ("squeezenet1_1", "squeezenet1_1/squeezenet1_1.safetensors"),
        ("mobilenet_v2", "mobilenet_v2/mobilenet_v2.fp16.safetensors"),
        ("tf_efficientnet_lite0", "tf_efficientnet_lite0/tf_efficientnet_lite0.safetensors"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_imagenet_weights_are_copied(shared, arch, path, channels):
    file = shared / "weights" / path
    if not file.is_file():
        pytest.skip(f"no real weights: {path} is not there")
    assert arch in ENCODERS
    state = {k: v.float() for k, v in load_file(file).items()}
    net = build_segmenter(f"encoder-unet:{arch}", channels, 2)
    assert load_backbone(net, load_file(file), str(file)) == ["decoder", "head"]
    held = backbone_of(net).state_dict()
    complete = state | {k: v for k, v in held.items() if k.endswith("num_batches_tracked")}
    complete |= {f"model.{k}": v for k, v in complete.items()}
    assert check_copied(net, {**complete, **state}) == (channels == 1)


def test_networks_with_a_backbone_are_named_where_one_has_none():
    able, unable = [], []
    for name in SEGMENTERS:
        try:
            backbone_name(name)
            able.append(name)
        except ConfigError as e:
            unable.append(e)
    assert {"encoder-unetpp", "transunet", "fcn_resnet50"} <= set(able)
    for e in unable:
        assert e.fix.endswith(f"of networks of images these have one: {', '.join(able)}")
