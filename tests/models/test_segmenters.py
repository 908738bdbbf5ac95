"""The registry of segmenters, and the table of all networks."""

import pytest
import torch

from weakseg.config.volume_archs import arch_dims
from weakseg.errors import ConfigError
from weakseg.models.cascade import Cascade
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.deepmedic import DeepMedic
from weakseg.models.layers import ARCHITECTURES
from weakseg.models.segmenters import SEGMENTERS, build_segmenter, find_segmenter
from weakseg.models.table import format_models, models_table
from weakseg.models.whole_image import WholeImage

EVERY = [(name, dims) for name, spec in SEGMENTERS.items() for dims in spec.dims]


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_training_patch_gives_scores_of_the_size_promised(name, dims):
    with torch.device("meta"):
        net = build_segmenter(name, 1, 3, dims).eval()
        patch = SEGMENTERS[name].patch[dims]
        size = net.input_size(patch)
        logits = net(torch.empty(1, 1, *[size] * dims))
    assert logits.shape == (1, 3, *[patch] * dims)
    assert net.output_size(size) == patch
    assert size - sum(net.margin) == patch
    if isinstance(net, DeepMedic):
        assert net.training_output == patch


FURTHER = [
    (f"{name}:{more}", dims)
    for name, spec in SEGMENTERS.items()
    for more in (*spec.backbones[1:], *filter(None, ["+".join(spec.modules)]))
    for dims in spec.dims
    if (name, more) != ("fcn32s", "squeezenet1_1")  # it has no map of that stride
]


@pytest.mark.parametrize(
    ("name", "dims"),
    [
        *(pytest.param(*x, marks=pytest.mark.thorough) for x in EVERY),
        *(pytest.param(*x, marks=pytest.mark.slow) for x in FURTHER),
    ],
)
def test_a_training_step_has_a_gradient_for_every_parameter(name, dims):
    """What has none is counted and saved for nothing, and several processes wait for it."""
    spec, _ = find_segmenter(name)
    with torch.device("meta"):
        # The library makes its first layer anew for other channels, and not on this device.
        channels = 3 if spec.backbones else 1
        net = build_segmenter(name, channels, 2, dims).train()
        assert all(p.requires_grad for p in net.parameters())
        side = 64 if isinstance(net, WholeImage) else net.input_size(spec.patch[dims])
        for turn in (True, False) if isinstance(net, Cascade) else (None,):
            net.coarse_alone = turn
            given = net(torch.empty(2, channels, *[side] * dims))
            sum(t.sum() for t in tensors_of(given) if t.requires_grad).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []


def tensors_of(given):
    """All that a network gives in training: `supervised_loss` reads every part."""
    if isinstance(given, torch.Tensor):
        return [given]
    return [t for part in given or () for t in tensors_of(part)]


def test_unet_and_deepmedic_segment_volumes_of_several_modalities():
    with torch.device("meta"):
        for name in ("unet", "unet-original", "deepmedic", "deepmedic-release"):
            assert 3 in SEGMENTERS[name].dims
            net = build_segmenter(name, 4, 5, 3)
            size = net.input_size(SEGMENTERS[name].patch[3])
            assert net(torch.empty(1, 4, size, size, size)).shape[1] == 5


def test_backbone_behind_a_colon():
    with torch.device("meta"):
        net = build_segmenter("fcn16s:resnet18", 1, 2)
        assert "layer3" in dict(net.backbone.named_children())
        assert "features" in dict(build_segmenter("fcn16s", 1, 2).backbone.named_children())
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        build_segmenter("fcn16s:resnet-18", 1, 2)
    with pytest.raises(ConfigError, match="without a colon"):
        build_segmenter("unetpp:resnet18", 1, 2)


def test_modules_behind_a_colon():
    assert find_segmenter("unet") == (SEGMENTERS["unet"], "")
    assert find_segmenter("unet:ca+mfr") == (SEGMENTERS["unet"], "mfr+ca")
    with pytest.raises(ConfigError, match=r"no module 'se'(.|\n)*unet:ca\+se(.|\n)*mfr, mca, ca"):
        find_segmenter("unet:ca+se")
    with pytest.raises(ConfigError, match=r"module 'ca' once(.|\n)*unet:ca\+ca"):
        find_segmenter("unet:ca+ca")
    with pytest.raises(ConfigError, match=r"no module ''"):
        find_segmenter("unet:")


def test_unknown_names_and_dimensions_are_refused_with_a_way_out():
    with pytest.raises(ConfigError, match="did you mean 'deepmedic'"):
        build_segmenter("deepmedik", 1, 2)
    with pytest.raises(ConfigError, match="choose one of: unet"):
        build_segmenter("zzz", 1, 2)
    with pytest.raises(ConfigError, match=r"3 dimensions(.|\n)*unet, unet-original, unetpp,"):
        build_segmenter("fcn8s", 1, 2, 3)
    with pytest.raises(ConfigError, match="4 dimensions"):
        build_segmenter("unet", 1, 2, 4)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("UNet++", "did you mean 'unetpp'"),
        ("U-Net", "did you mean 'unet'"),
        ("SW-UNet", "did you mean 'sw-unet'"),
        ("Render U-Net", "did you mean 'render-unet'"),
        ("Ens4B-UNet", "`weakseg config show ens4b`"),
        ("HFCNN", "hypercolumn"),
        ("Unet-GAN", "`weakseg adapt`"),
        ("k-means", r"scores\.floors"),
        ("Chan-Vese", r"masks\.rules: \[chan-vese\]"),
    ],
)
def test_a_system_is_found_by_the_name_that_its_article_gives_it(name, way):
    with pytest.raises(ConfigError, match=way):
        find_segmenter(name)


def test_a_backbone_without_the_stride_is_refused_with_a_name_that_there_is():
    with pytest.raises(ConfigError, match="fix: fcn16s:squeezenet1_1"):
        build_segmenter("fcn32s:squeezenet1_1", 1, 2)
    with torch.device("meta"):
        build_segmenter("fcn16s:squeezenet1_1", 1, 2)


@pytest.fixture(scope="module")
def rows():
    return models_table()


@pytest.mark.thorough
def test_table_has_every_network(rows):
    of_volumes = [*(f"mil:{a}" for a in ARCHITECTURES), *(f"{a}-3d" for a in ARCHITECTURES)]
    every = [*ARCHITECTURES, *of_volumes]
    assert [r["name"] for r in rows if r["kind"] == "classifier"] == every
    assert [r["dims"] for r in rows if r["name"] in every] == [arch_dims(a) for a in every]
    assert [(r["name"], r["dims"]) for r in rows if r["kind"] == "segmenter"] == EVERY
    for row in rows:
        assert 0 < row["conv_weights"] <= row["parameters"]
        seen = 2 if row["name"].startswith("mil:") else row["dims"]  # within a slice
        assert len(row["receptive_field"]) == seen
        assert (row["heatmap_layer"] is None) == (row["kind"] == "segmenter")
        assert (row["patch_input"] is None) == (row["kind"] == "classifier")


def test_table_says_what_the_literature_does(rows):
    found = {(r["name"], r["dims"]): r for r in rows}
    medic = found["deepmedic", 2]
    assert medic["conv_weights"] == 243_540
    assert medic["pathways"] == {"1x": [17, 17], "3x": [51, 51]}
    assert (medic["patch_output"], medic["output_stride"]) == (9, 1)
    original = found["unet-original", 2]
    assert (original["parameters"], original["patch_input"]) == (31_030_658, 572)
    assert (original["patch_output"], original["deepest_stride"]) == (388, 16)
    resnet = found["resnet50", 2]
    assert (resnet["heatmap_layer"], resnet["output_stride"]) == ("layer4", 32)
    # torchvision's 25,557,032 for colours and 1000 classes.
    assert resnet["parameters"] == 25_557_032 - 2 * 64 * 49 - 998 * 2049
    assert found["efficientnet_b0", 2]["whole_image"]


def test_classifiers_of_volumes_are_listed_as_they_are_built(rows):
    found = {r["name"]: r for r in rows}
    for arch in ARCHITECTURES:
        flat, instances, deep = (found[n] for n in (arch, f"mil:{arch}", f"{arch}-3d"))
        same = ("parameters", "receptive_field", "output_stride", "heatmap_layer")
        assert [instances[k] for k in same] == [flat[k] for k in same]
        # Of cubes depth is seen as rows and columns are.
        assert deep["receptive_field"] == [flat["receptive_field"][0]] * 3
        assert deep["output_stride"] == flat["output_stride"]
    for name in ("mil:squeezenet1_1", "squeezenet1_1-3d"):
        model = build_classifier(ClassifierSpec(name, ("0", "1"), 1))
        assert found[name]["parameters"] == sum(p.numel() for p in model.parameters())


@pytest.mark.thorough
def test_table_of_four_modalities_leaves_out_what_cannot_take_them():
    rows = models_table(in_channels=4, classes=5)
    assert {r["name"] for r in rows} == {
        *("unet", "unet-original"),
        *("unetpp", "sw-unet", "mfr-unet", "attention-unet-small", "two-scale-cnn", "render-unet"),
        *("cascade", "fuzzy-neuro"),
        *("deepmedic", "deepmedic-release", "deepmedic-latest"),
    }
    weights = {r["name"]: r["conv_weights"] for r in rows if r["dims"] == 3}
    assert weights["deepmedic"] == 660_330
    assert weights["deepmedic-release"] == 1_050_330


def test_table_as_text(rows):
    lines = format_models(rows).splitlines()
    assert len(lines) == len(rows) + 1
    assert lines[0].startswith("network")
    (medic,) = [line for line in lines if line.startswith("deepmedic ") and " 2D " in line]
    for word in ("243,540", "51×51", "1x 17, 3x 51", "57"):
        assert word in medic
    assert "851×851+" in next(line for line in lines if line.startswith("efficientnet_b0"))


def test_the_command_lists_every_network_as_json(rows, capsys, monkeypatch):
    import json

    from tests.tiny import weakseg

    # Every network is built once, for all tests.
    monkeypatch.setattr("weakseg.models.table.models_table", lambda *_: rows)
    assert weakseg("models", "--json") == 0
    rows = {(r["name"], r["dims"]): r for r in json.loads(capsys.readouterr().out)}
    assert {n for n, _ in rows} >= {*ARCHITECTURES, *SEGMENTERS}
    assert rows["deepmedic", 2]["conv_weights"] == 243_540
    assert rows["deepmedic", 2]["pathways"]["1x"][0] == 17
    assert rows["resnet18", 2]["heatmap_layer"] == "layer4"
