"""What people hand over from Python: understood where it is plain, else refused in a sentence."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from tests.heatmaps.test_cam import Bright
from weakseg.errors import ConfigError, DataError, UserError
from weakseg.heatmaps import raw_cam
from weakseg.models.outputs import class_scores


class Colour(nn.Module):
    """Class 1 is 'something bright' of three colours."""

    def __init__(self):
        super().__init__()
        self.grey, self.net = nn.Conv2d(3, 1, 1, bias=False), Bright()
        nn.init.constant_(self.grey.weight, 1 / 3)

    def forward(self, x):
        return self.net(self.grey(x))


@pytest.fixture
def picture():
    image = torch.zeros(1, 3, 16, 20)
    image[..., 4:7, 10:13] = 1
    return image


@pytest.fixture
def expected(picture):
    model = Colour()
    return raw_cam(model, model.net.conv, picture, (1,))[0]


@pytest.mark.parametrize(
    "target", [1, [1], (1,), {1}, np.int64(1), np.array([1]), np.array(1), torch.tensor(1)]
)
def test_a_class_number_in_any_form(picture, expected, target):
    maps, _ = raw_cam(Colour(), "net.conv", picture, target)
    np.testing.assert_array_equal(maps, expected)


@pytest.mark.parametrize("target", ["1", 1.0, None, True, [1.5], ["a"], np.array([0.5])])
def test_what_is_no_class_number(picture, target):
    with pytest.raises(ConfigError, match="target is no class number"):
        raw_cam(Colour(), "net.conv", picture, target)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x[0],
        lambda x: x.numpy(),
        lambda x: x[0].numpy(),
        lambda x: x.double(),
        lambda x: x.double().numpy(),
        lambda x: x.numpy().astype(">f4"),
        lambda x: x.half(),
        lambda x: x.movedim(1, -1),
        lambda x: x[0].movedim(0, -1).numpy(),
        lambda x: x.numpy()[..., ::-1][..., ::-1],
    ],
)
def test_images_in_any_plain_form(picture, expected, make):
    maps, logits = raw_cam(Colour(), "net.conv", make(picture), 1)
    assert logits.shape == (1, 2)
    np.testing.assert_allclose(maps, expected, atol=1e-7)


def test_a_grey_image_needs_no_other_axes():
    image = torch.zeros(16, 16)
    image[4:7, 10:13] = 1
    maps, _ = raw_cam(Bright(), "conv", image.numpy(), 1)
    assert np.unravel_index(maps[0].argmax(), (16, 16)) == (5, 11)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "torch.uint8"),
        (np.zeros((8, 8, 3), np.uint8), "uint8"),
        (np.zeros((5, 8, 8), np.float32), r"\(batch, 1, height, width\)"),
        (np.zeros((0, 3, 8, 8), np.float32), r"\(0, 3, 8, 8\)"),
        (np.zeros((1, 1, 3, 8, 8), np.float32), r"\(1, 1, 3, 8, 8\)"),
        (np.array(["a"]), "an array of"),
        ([[1.0]], "list"),
        ("image.png", "str"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_image(images, says):
    with pytest.raises(DataError, match=rf"no images(.|\n)*{says}"):
        raw_cam(Colour(), "net.conv", images, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_counted_and_their_image_named(picture, bad):
    images = torch.cat([picture, picture])
    images[1, 0, 2, 3:5] = bad
    with pytest.raises(DataError, match=r"images\[1\](.|\n)*2 of 960 values"):
        raw_cam(Colour(), "net.conv", images, 1)


def test_weights_that_are_no_numbers(picture):
    model = Colour()
    with torch.no_grad():
        model.net.fc.weight[0, 0] = torch.nan
    with pytest.raises(DataError, match=r"class scores are NaN(.|\n)*weights"):
        raw_cam(model, "net.conv", picture, 1)


def test_images_of_other_colours_are_refused_in_a_sentence():
    with pytest.raises(ConfigError, match="does not take images of 16 pixels"):
        raw_cam(Colour(), "net.conv", torch.zeros(1, 1, 16, 16), 1)


@dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None


class Gives(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.net, self.form = Bright(), form

    def forward(self, x):
        return self.form(self.net(x))


@pytest.mark.parametrize(
    "form",
    [
        lambda y: {"logits": y, "other": y},
        lambda y: {"out": y},
        Output,
        lambda y: (y, torch.zeros(len(y), 3, 4)),
        lambda y: [y],
        lambda y: y[:, :, None, None],
    ],
)
def test_class_scores_in_any_plain_form(form):
    images = torch.rand(2, 1, 8, 8)
    for method in ("gradcam", "scorecam", "ablationcam"):
        model, plain = Gives(form), Bright()
        maps, logits = raw_cam(model, "net.conv", images, 1, method=method)
        by, _ = raw_cam(plain, "conv", images, 1, method=method)
        assert logits.shape == (2, 2)
        np.testing.assert_allclose(maps, by, rtol=1e-5)


def test_one_score_an_image_is_class_0():
    images = torch.rand(2, 1, 8, 8)
    expected, _ = raw_cam(Bright(), "conv", images, 1)
    model = Gives(lambda y: y[:, 1])
    maps, logits = raw_cam(model, "net.conv", images, 0)
    assert logits.shape == (2, 1)
    np.testing.assert_array_equal(maps, expected)
    with pytest.raises(ConfigError, match=r"classes of 0\.\.0(.|\n)*its number is 0"):
        raw_cam(model, "net.conv", images, 1)


@pytest.mark.parametrize(
    "output",
    [
        None,
        "scores",
        (torch.zeros(1, 2), torch.zeros(1, 2)),
        {"a": torch.zeros(1, 2), "b": torch.zeros(1, 3)},
        {},
        torch.zeros(1, 2, 4, 4),
        torch.zeros(1, 2, dtype=torch.long),
    ],
)
def test_outputs_that_are_not_plain(output):
    with pytest.raises(ConfigError, match="does not give class scores"):
        class_scores(output)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ("net.konv", "did you mean 'net.conv'"),
        (nn.Conv2d(1, 1, 1), "no part of the network"),
        (None, "neither a module nor a name"),
        (3, "neither a module nor a name"),
    ],
)
def test_layers_that_are_not_there(picture, layer, says):
    with pytest.raises(ConfigError, match=says):
        raw_cam(Colour(), layer, picture, 1)


@pytest.mark.parametrize("more", [{"method": None}, {"method": 3}, {"score": "probability"}])
def test_other_arguments_that_are_unknown(picture, more):
    with pytest.raises(UserError, match="There is no"):
        raw_cam(Colour(), "net.conv", picture, 1, **more)


@pytest.mark.parametrize("model", [None, "resnet18", np.zeros(3), lambda x: x])
def test_what_is_no_network(picture, model):
    with pytest.raises(ConfigError, match="no torch module"):
        raw_cam(model, "conv", picture, 1)


def test_a_network_for_several_devices_is_what_it_wraps(picture, expected):
    model = Colour()
    maps, _ = raw_cam(nn.DataParallel(model), model.net.conv, picture, 1)
    np.testing.assert_array_equal(maps, expected)


def test_a_network_in_half_precision_or_double(picture, expected):
    maps, _ = raw_cam(Colour().double(), "net.conv", picture, 1)
    np.testing.assert_allclose(maps, expected, atol=1e-6)
    maps, _ = raw_cam(Colour().bfloat16(), "net.conv", picture, 1)
    np.testing.assert_allclose(maps, expected, atol=2e-2 * np.abs(expected).max())


def test_a_layer_is_looked_at_again_when_the_network_was_changed(picture):
    model = Bright()
    image = picture[:, :1]
    assert raw_cam(model, "conv", image, 1)[0].shape == (1, 16, 20)
    model.conv.stride = (2, 2)
    assert raw_cam(model, "conv", image, 1)[0].shape == (1, 8, 10)


def test_a_map_of_one_place_is_refused_with_layers_of_more():
    model = nn.Sequential(
        nn.Conv2d(1, 3, 4, 4), nn.Conv2d(3, 4, 4, 4), nn.Flatten(), nn.Linear(4, 2)
    )
    with pytest.raises(ConfigError, match=r"1 of the network gives a single value") as e:
        raw_cam(model, "1", torch.rand(1, 1, 16, 16), 1)
    assert "0 (4 x 4)" in str(e.value)
