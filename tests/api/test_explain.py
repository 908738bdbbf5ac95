"""`weakseg.explain`: any classifier, any picture, and back to the picture's own pixels."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import weakseg
from tests.heatmaps.test_cam import Bright
from weakseg.api.preprocessing import place, preprocessing_of
from weakseg.config import parse_config
from weakseg.data.arrays import network_image
from weakseg.data.geometry import letterbox, to_original
from weakseg.data.windows import windowed_image
from weakseg.errors import ArgumentError, ConfigError, DataError
from weakseg.heatmaps import raw_cam
from weakseg.layout import BEST
from weakseg.methods.classifiers import header, load_classifier
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.training.weights import save_weights

PLAIN = {"mean": 0.0, "std": 1.0}


@pytest.fixture
def spot():
    """A picture that is not square, with a bright square in it."""
    picture = np.zeros((60, 90), dtype=np.uint8)
    picture[12:24, 60:75] = 255
    return picture


@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_a_planted_spot_is_the_hottest_place_of_the_picture(spot, fit):
    result = weakseg.explain(Bright(), spot, 1, layer="conv", size=64, fit=fit, **PLAIN)
    y, x = np.unravel_index(result.heatmap.argmax(), spot.shape)
    assert 12 <= y < 24
    assert 60 <= x < 75
    assert result.dice(spot > 0, "fixed") > 0.6
    assert result.layers == ("conv",)


def test_heat_is_that_of_raw_cam_at_the_pictures_own_resolution(spot):
    model = torchvision.models.resnet18(num_classes=2)
    result = weakseg.explain(model, spot, 1, size=64, fit="pad", mean=0.4, std=0.2)
    planes, _ = network_image(spot, 3, 64, "auto")
    by_hand, logits = raw_cam(model, model.layer4, (torch.from_numpy(planes)[None] - 0.4) / 0.2, 1)
    np.testing.assert_allclose(result.raw["gradcam"], by_hand[0], atol=1e-5)
    heat = to_original(np.maximum(by_hand[0], 0), letterbox(spot.shape, 64))
    np.testing.assert_allclose(result.heatmap, heat, atol=1e-5)
    p = torch.from_numpy(logits[0]).softmax(0).numpy()
    np.testing.assert_allclose(result.probabilities, p, atol=1e-5)


@pytest.mark.parametrize("shape", [(50, 100), (97, 31), (64, 64)])
def test_padding_is_the_letterbox(shape):
    box, where = letterbox(shape, 64), place(shape, (64, 64), "pad")
    assert (where.top, where.left, *where.resized) == (box.top, box.left, box.height, box.width)


def test_cropping_is_torchvisions():
    preset = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    picture = np.random.default_rng(0).integers(0, 255, (300, 420, 3), dtype=np.uint8)
    prepare = preprocessing_of(
        torchvision.models.resnet18(), weights="ResNet18_Weights.IMAGENET1K_V1"
    )
    ours, where = prepare(picture)
    theirs = preset(torch.from_numpy(picture).permute(2, 0, 1))
    assert ours.shape == theirs.shape == (3, 224, 224)
    # Antialiasing is another; places and normalisation are the same.
    assert torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1] > 0.97
    assert abs(float(ours.mean() - theirs.mean())) < 0.02
    marked = where.to_original(np.ones((7, 7), dtype=np.float32))
    assert marked.shape == (300, 420)
    assert marked[0, 210] == marked[150, 0] == 0  # cut away
    assert marked[150, 210] == 1


@pytest.mark.thorough
def test_a_picture_is_the_same_in_whatever_it_is_handed_over(spot, tmp_path):
    from PIL import Image

    path = tmp_path / "scan.png"
    Image.fromarray(spot).save(path)
    model = torchvision.models.resnet18(num_classes=2)
    unit = (spot / 255).astype(np.float32)
    ways = [path, str(path), spot, spot[..., None], spot[None], Image.open(path), unit]
    ways += [np.stack([spot] * 3), np.stack([spot] * 3, axis=2), torch.from_numpy(spot)]
    found = [weakseg.explain(model, w, 0, size=64, mean=0.5, std=0.25) for w in ways]
    for result in found:
        np.testing.assert_allclose(result.heatmap, found[0].heatmap, atol=1e-5)
    assert found[0].name == "scan.png"


def test_lists_and_batches_give_lists(spot):
    model = Bright()
    assert len(weakseg.explain(model, [spot, spot], 1, size=32, **PLAIN)) == 2
    batch = torch.rand(3, 1, 16, 16)
    several = weakseg.explain(model, batch, 1, layer="conv")
    assert [r.heatmap.shape for r in several] == [(16, 16)] * 3
    alone = weakseg.explain(model, batch[1], 1, layer="conv")
    np.testing.assert_array_equal(alone.heatmap, several[1].heatmap)


@pytest.mark.thorough
def test_classes_by_number_and_by_name(spot):
    model = torchvision.models.resnet18(num_classes=3)
    names = ["normal", "benign", "malignant"]
    call = {"size": 64, **PLAIN}
    by_name = weakseg.explain(model, spot, "Malignant", class_names=names, **call)
    np.testing.assert_array_equal(by_name.heatmap, weakseg.explain(model, spot, 2, **call).heatmap)
    assert by_name.target == ("malignant",)
    both = weakseg.explain(model, spot, ["benign", 2], class_names=dict(enumerate(names)), **call)
    assert both.target == ("benign", "malignant")
    assert both.probability == pytest.approx(both.probabilities[["benign", "malignant"]].sum())
    best = weakseg.explain(model, spot, **call)
    assert best.target == (best.probabilities.idxmax(),)
    model.class_names = names
    assert list(weakseg.explain(model, spot, "benign", **call).probabilities.index) == names
    with pytest.raises(ConfigError, match="did you mean 'malignant'"):
        weakseg.explain(model, spot, "malignent", **call)
    with pytest.raises(ConfigError, match="names none of its classes"):
        weakseg.explain(Bright(), spot, "tumour", **call)
    with pytest.raises(ArgumentError, match="3 different names"):
        weakseg.explain(model, spot, 0, class_names=["a"], **call)


def test_methods_layers_rules_by_name(spot):
    model = torchvision.models.resnet18(num_classes=2)
    methods = ["gradcam", "layercam", "fullgrad"]
    result = weakseg.explain(
        model, spot, 1, method=methods, layer=["layer3", model.layer4], size=64, **PLAIN
    )
    assert result.methods == methods
    assert result.layers == ("layer3", "layer4")
    top = result.heatmaps["layercam"]
    np.testing.assert_array_equal(result.mask(0.3, method="layercam"), top > 0.3 * top.max())
    np.testing.assert_array_equal(
        result.mask("fixed", at=0.3, method="layercam"), result.mask(0.3, method="layercam")
    )
    assert result.mask("quantile", q=0.9, method="layercam").mean() == pytest.approx(0.1, abs=0.01)
    table = result.scores(spot > 0)
    assert list(table.index) == [(m, r) for m in methods for r in ("fixed", "otsu")]
    assert table.loc[("layercam", "otsu"), "dice"] == result.dice(spot > 0, method="layercam")
    with pytest.raises(ConfigError, match="needs more than one image"):
        result.mask("validation")
    with pytest.raises(ConfigError, match="did you mean 'otsu'"):
        result.mask("otzu")
    with pytest.raises(ConfigError, match=r"of fixed: .*at"):
        result.mask("fixed", level=3)
    with pytest.raises(ArgumentError, match="does not fit"):
        result.dice(np.ones((3, 3)))


def test_a_network_is_left_as_it_was(spot):
    model = torchvision.models.resnet18(num_classes=2).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for method in ("gradcam", "fullgrad", "occlusion"):
        weakseg.explain(model, spot, 1, method=method, size=32, **PLAIN)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_weakseg_classifier_knows_its_classes_and_its_normalisation(spot):
    spec = ClassifierSpec("resnet18", ("normal", "tumour"), 1)
    model = build_classifier(spec).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = weakseg.explain(model, spot, "tumour", size=64)
    planes, _ = network_image(spot, 1, 64, "auto")
    by_hand, _ = raw_cam(model, "layer4", torch.from_numpy(planes)[None], 1)
    np.testing.assert_allclose(result.raw["gradcam"], by_hand[0], atol=1e-6)


def test_what_is_known_of_timm_and_of_transforms(spot):
    class Timm(Bright):
        pretrained_cfg = {  # noqa: RUF012
            "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5), "input_size": (3, 48, 40),
            "crop_pct": 0.5, "label_names": ["no", "yes"],
        }  # fmt: skip

    prepare = preprocessing_of(Timm())
    assert (prepare.shape, prepare.fit, prepare.crop) == ((48, 40), "crop", 0.5)
    assert prepare.mean == pytest.approx((0.2,))
    assert weakseg.explain(Timm(), spot, "yes").target == ("yes",)

    def transform(picture):
        assert picture.size == (90, 60)
        return torch.full((1, 24, 36), 0.5)

    result = weakseg.explain(Bright(), spot, 1, transform=transform)
    assert result.raw["gradcam"].shape == (24, 36)
    with pytest.raises(ArgumentError, match="leave these away"):
        weakseg.explain(Bright(), spot, 1, transform=transform, size=32)
    with pytest.raises(ArgumentError, match="transform does not give"):
        weakseg.explain(Bright(), spot, 1, transform=lambda p: p)


def test_a_guess_is_told(spot):
    with pytest.warns(UserWarning, match="normalised is not known"):
        result = weakseg.explain(torchvision.models.resnet18(num_classes=2), spot, size=32)
    assert result.preprocessing.source == "a guess"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"size": "large"}, "size is no size"),
        ({"size": True}, "size is no size"),
        ({"mean": [1, 2]}, "mean is no number a channel"),
        ({"std": 0}, "std is no number a channel"),
        ({"fit": "squash"}, "no fit"),
        ({"channels": 4}, "neither one nor three"),
        ({"weights": "ResNet18_Weights.NONE"}, "none of torchvision"),
        ({"method": "grad-cam"}, "did you mean 'gradcam'"),
        ({"method": []}, "neither a name nor several"),
        ({"activation": "tanh"}, "no activation"),
        ({"layer": "cov"}, "did you mean 'conv'"),
        ({"intensity": "loud"}, "no intensity"),
    ],
)
def test_odd_arguments_are_refused_in_a_sentence(spot, arguments, said):
    with pytest.raises((ConfigError, ArgumentError), match=said):
        weakseg.explain(Bright(), spot, 1, **{**PLAIN, **arguments})


def test_odd_pictures_are_refused(tmp_path):
    for odd in (np.zeros((4, 5, 7, 9, 3)), np.array(["a"]), object(), np.full((4, 4), np.nan)):
        with pytest.raises(DataError):
            weakseg.explain(Bright(), odd, 1, **PLAIN)
    with pytest.raises(ArgumentError, match="prepared no further"):
        weakseg.explain(Bright(), torch.rand(1, 8, 8), 1, mean=0.5)
    with pytest.raises(ArgumentError, match="empty"):
        weakseg.explain(Bright(), [], 1)


def test_a_single_score_is_a_probability_by_sigmoid(spot):
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3, padding=1)

        def forward(self, x):
            return self.conv(x).mean((1, 2, 3)) + 1

    model = One()
    result = weakseg.explain(model, spot, size=32, layer="conv", **PLAIN)
    assert list(result.probabilities.index) == ["0"]
    assert 0 < result.probability < 1


def test_what_a_notebook_shows_is_escaped(spot):
    result = weakseg.explain(
        Bright(), spot, 1, class_names=["<b>no", "<script>x"], size=32, **PLAIN
    )
    html = result._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;x" in html
    assert "data:image/png;base64," in html
    figure = result.plot(truth=spot > 0)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert [a.get_title() for a in figure.axes] == ["image", "gradcam"]


def test_heat_finds_its_way_back_through_resize_and_crop(spot):
    from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

    steps = Compose([Resize(64), CenterCrop(48), ToTensor()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = weakseg.explain(Bright(), spot, 1, layer="conv", transform=steps)
    assert (result.preprocessing.fit, result.preprocessing.crop) == ("crop", 0.75)
    # What the crop leaves of the spot: rows 12..24 of 60 from 7.5, columns 60..67.5 of 90.
    hot = np.argwhere(result.heatmap > 0.5 * result.heatmap.max())
    np.testing.assert_allclose(hot.min(0), (12, 60), atol=1.5)
    np.testing.assert_allclose(hot.max(0), (23, 67), atol=1.5)
    filling = Compose([Resize((48, 48)), ToTensor()])
    assert weakseg.explain(Bright(), spot, 1, transform=filling).preprocessing.fit == "stretch"
    unknown = Compose([CenterCrop(48), ToTensor()])
    with pytest.warns(UserWarning, match="puts the image"):
        weakseg.explain(Bright(), spot, 1, transform=unknown)


@pytest.mark.parametrize("arch", ["mil:squeezenet1_1", "squeezenet1_1-3d"])
def test_classifiers_of_volumes_are_refused(spot, arch):
    model = build_classifier(ClassifierSpec(arch, ("normal", "tumor"), channels=1, depth=4))
    with pytest.raises(ConfigError, match="this one is of volumes"):
        weakseg.explain(model, spot, 1)


def test_a_truth_with_nan_is_no_mask(spot):
    result = weakseg.explain(Bright(), spot, 1, size=64, **PLAIN)
    with pytest.raises(ArgumentError, match="NaN"):
        result.dice(np.full(spot.shape, np.nan))


@pytest.mark.parametrize("window", [(100.0, 60.0), "percentiles"])
def test_a_window_makes_of_a_picture_what_a_run_makes_of_it(spot, tmp_path, window):
    from PIL import Image

    grey = np.clip(spot.astype(np.int64) // 2 + np.arange(90), 0, 255).astype(np.uint8)
    path = tmp_path / "scan.png"
    Image.fromarray(grey).save(path)
    as_read = windowed_image(path, window, "auto")
    assert np.abs(as_read - grey / 255).max() > 0.1
    call = {"size": 64, "fit": "pad", **PLAIN}
    expected = weakseg.explain(Bright(), as_read, 1, layer="conv", **call)
    for picture in (path, grey):
        result = weakseg.explain(Bright(), picture, 1, layer="conv", window=window, **call)
        np.testing.assert_allclose(result.image, as_read, atol=1e-6)
        np.testing.assert_allclose(result.heatmap, expected.heatmap, atol=1e-5)
        assert result.preprocessing.window == window


@pytest.mark.thorough
@pytest.mark.parametrize("window", ["auto", "percentiles", (40.0, 400.0)])
def test_a_classifier_of_a_run_knows_the_window_of_its_images(tmp_path, spot, window):
    spec = ClassifierSpec("squeezenet1_1", ("normal", "tumor"), 1)
    data = parse_config({"name": "mine", "data": {"window": window, "image_size": 64}}).data
    healthy = SimpleNamespace(labels=SimpleNamespace(healthy=("normal",)))
    prepared = SimpleNamespace(config=SimpleNamespace(data=data), cases=healthy)
    save_weights(tmp_path / BEST, build_classifier(spec), header(spec, prepared))
    model = load_classifier(tmp_path)
    assert model.window == window
    assert weakseg.explain(model, spot).preprocessing.window == window
    assert weakseg.explain(model, spot, window="auto").preprocessing.window == "auto"


@pytest.mark.parametrize("window", ["brain", (40, 0), (40,), 400, (40, float("nan")), "40", None])
def test_an_odd_window_is_refused_in_a_sentence(spot, window):
    if window is None:
        with pytest.raises(ArgumentError, match="prepared no further"):
            weakseg.explain(Bright(), torch.zeros(1, 16, 16), 1, layer="conv", window=(40, 400))
        return
    with pytest.raises(ArgumentError, match="window is no window"):
        weakseg.explain(Bright(), spot, 1, layer="conv", window=window, **PLAIN)
