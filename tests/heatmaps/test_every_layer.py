"""What the depths count in the row `fused` of a sweep: what the experiment's heatmap says."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from weakseg.config import HeatmapConfig
from weakseg.data.cases import Labels
from weakseg.data.geometry import letterbox, to_original
from weakseg.heatmaps import every_layer
from weakseg.heatmaps.fuse import fuse
from weakseg.models.layers import DEPTHS
from weakseg.stages import sweep

MAPS = (
    torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0)),
    torch.eye(8).repeat(2, 1, 1),
)
BOX = letterbox((32, 32), 32)


def fused_rows(monkeypatch, settings, weights):
    """Method → its fused heatmaps, of two maps that are the same by every method."""
    images = SimpleNamespace(
        data=SimpleNamespace(image_size=32),
        images=lambda some: torch.zeros(len(some), 1, 32, 32),
        boxes=lambda some: [BOX] * len(some),
    )
    model = SimpleNamespace(mean=torch.zeros(1))
    monkeypatch.setattr(every_layer, "depths", lambda *_: ("a", "b"))
    monkeypatch.setattr(every_layer, "find_layers", lambda *_: [("a", None), ("b", None)])
    monkeypatch.setattr(
        every_layer,
        "_maps",
        lambda *given: list(MAPS) if given[4] != "fullgrad" else [MAPS[1]],
    )
    labels = Labels(("normal",), ("tumor",))
    rows = every_layer.heats_of_layers(model, labels, images, [0, 1], settings, weights)
    return {m: heat for m, layer, i, heat in rows if layer == every_layer.FUSED and i == 0}


def test_each_method_s_depths_count_what_is_said_of_them(monkeypatch):
    settings = HeatmapConfig(fusion="labels")
    rows = fused_rows(monkeypatch, settings, {"gradcam": [0.0, 1.0], "layercam": [0.9, 0.1]})
    for method, weights in (("gradcam", [0.0, 1.0]), ("layercam", [0.9, 0.1]), ("xgradcam", None)):
        expected = to_original(fuse(MAPS, "labels", weights)[0].numpy(), BOX)
        np.testing.assert_array_equal(rows[method], expected)
    assert not np.allclose(rows["gradcam"], rows["xgradcam"])


DEEP = list(DEPTHS["squeezenet1_1"])


@pytest.fixture
def weights_of(monkeypatch):
    """Settings of a heatmap → the weights of its sweep; settings that labels were asked for."""
    asked = []

    def learnt(prepared, models, settings):
        asked.append(settings)
        return DEEP, None if settings.method == "hirescam" else [0.7, 0.3, 0.0, 0.0]

    def found(model, wanted, side):
        return [(n, None) for n in (DEEP if wanted == "fused" else wanted)]

    monkeypatch.setattr(sweep, "learnt_weights", learnt)
    monkeypatch.setattr(sweep, "find_layers", found)
    monkeypatch.setattr(sweep, "depths", lambda *_: tuple(DEEP))

    def weights(**settings):
        heatmap, data = HeatmapConfig(**settings), SimpleNamespace(image_size=64)
        prepared = SimpleNamespace(config=SimpleNamespace(heatmap=heatmap, data=data))
        return sweep._weights(prepared, None), asked

    return weights


def test_labels_are_asked_once_a_method_of_all_its_depths(weights_of, capsys):
    weights, asked = weights_of(fusion="labels", layer=["x", "y"], scales=[0.5, 2.0])
    of_layers = [m for m in sweep.SWEPT if m != "fullgrad"]
    assert [s.method for s in asked] == of_layers
    assert {(s.layer, tuple(s.scales)) for s in asked} == {("fused", (1.0,))}
    assert weights == {m: [0.7, 0.3, 0.0, 0.0] for m in of_layers if m != "hirescam"}
    assert "labels prefer no layer of hirescam" in capsys.readouterr().err


@pytest.mark.parametrize("layer", ["fused", DEEP])
def test_weights_of_these_depths_hold_for_every_method(weights_of, layer):
    weights, asked = weights_of(fusion="labels", layer=layer, weights=[1, 2, 3, 4])
    assert weights == {m: [1, 2, 3, 4] for m in sweep.SWEPT if m != "fullgrad"}
    assert not asked


def test_weights_of_other_layers_are_not_taken_and_that_is_said(weights_of, capsys):
    layers = [*DEEP[:3], "features.9"]
    assert weights_of(fusion="labels", layer=layers, weights=[1, 2, 3, 4])[0] == {}
    said = capsys.readouterr().err
    assert "heatmap.weights are of other layers than fused is of (features.4, " in said
    assert "count alike" in said


@pytest.mark.parametrize("fusion", ["mean", "entropy"])
def test_without_labels_all_count_alike(weights_of, fusion, capsys):
    assert weights_of(fusion=fusion) == ({}, [])
    assert capsys.readouterr().err == ""
