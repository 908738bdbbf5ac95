"""Graphs that are kept: found again by what they are made of, and never taken when damaged."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from weakseg.config import HeatmapConfig
from weakseg.data.cases import Labels
from weakseg.engines import kept as kept_module
from weakseg.engines.base import Engine
from weakseg.engines.kept import KeptGraphs
from weakseg.heatmaps import by_engine
from weakseg.heatmaps.by_engine import pick_explainer
from weakseg.methods.segmenter_networks import load_networks
from weakseg.models.classifier import Classifier, ClassifierSpec
from weakseg.models.unetpp import pruned
from weakseg.models.whole_image import WholeImage
from weakseg.training import by_engine as of_segmenters

LABELS = Labels(("normal",), ("cyst", "tumour"))
CONFIG = HeatmapConfig(layer="0", batch_size=2)
IMAGES = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(3))


def network() -> Classifier:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.append(nn.Linear(4, 3))
    return Classifier(net, ClassifierSpec("small", LABELS.names, 1), (0.5,), (0.2,)).eval()


@pytest.fixture
def model() -> Classifier:
    return network()


@pytest.fixture(scope="module")
def graph():
    """The only one that is really made here: that takes seconds."""
    return by_engine.graph_of([network()], LABELS, CONFIG, IMAGES.shape)


@pytest.fixture
def made(monkeypatch, graph):
    """How often a graph was made."""
    calls = []
    monkeypatch.setattr(by_engine, "graph_of", lambda *a: calls.append(a) or graph)
    return calls


def maps(kept, model, config=CONFIG, engine="onnxruntime"):
    explain, _ = pick_explainer(
        engine, [model], LABELS, config, side=16, precision="32-true", kept=kept
    )
    return explain([model], LABELS, IMAGES, config, fill=True)


@pytest.mark.thorough
def test_a_graph_is_made_once_and_gives_the_same_to_the_last_bit(model, made, tmp_path):
    kept = KeptGraphs(tmp_path / "graphs")
    name, heat, p = maps(kept, model)
    channels_last = model.to(memory_format=torch.channels_last)
    again = maps(KeptGraphs(tmp_path / "graphs", writes=False), channels_last)
    assert len(made) == 1
    assert again[0] == name == "0"
    assert torch.equal(again[1], heat)
    assert torch.equal(again[2], p)
    assert float(heat.std()) > 0


def test_graphs_go_by_weights_settings_shape_and_versions(model, tmp_path, monkeypatch):
    kept, made_with = KeptGraphs(tmp_path), {"config": 1, "shape": (2, 1, 16, 16)}
    paths = {kept.path_of([model], made_with)}
    assert kept.path_of([model], dict(reversed(made_with.items()))) in paths
    paths.add(kept.path_of([model, model], made_with))
    paths.add(kept.path_of([model], made_with | {"shape": (4, 1, 16, 16)}))
    spec = model.spec
    model.spec = replace(spec, grey_input="repeat")
    paths.add(kept.path_of([model], made_with))
    model.spec = spec
    with torch.no_grad():
        model.std += 1e-3
        paths.add(kept.path_of([model], made_with))
        model.std -= 1e-3
        model.net[0].weight[0, 0, 0, 0] += 1e-6
    paths.add(kept.path_of([model], made_with))
    monkeypatch.setattr(kept_module, "_versions", lambda: ["another"])
    paths.add(kept.path_of([model], made_with))
    assert len(paths) == 7


def test_those_of_other_weights_go_and_those_of_other_settings_stay(model, made, tmp_path):
    kept = KeptGraphs(tmp_path)
    maps(kept, model)
    maps(kept, model, CONFIG.model_copy(update={"flips": True}))
    assert len(list(tmp_path.iterdir())) == 2
    with torch.no_grad():
        model.net[0].bias += 1
    maps(KeptGraphs(tmp_path, writes=False), model)
    assert len(list(tmp_path.iterdir())) == 2
    maps(kept, model)
    assert len(list(tmp_path.iterdir())) == 1
    assert len(made) == 4


class Small(WholeImage):
    """Of one layer, and to be pruned as nested U-Nets are."""

    depth, prune = 2, None

    def __init__(self, bias: float):
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 3, padding=1)
        nn.init.constant_(self.layer.weight, 0)
        nn.init.constant_(self.layer.bias, bias)


@pytest.fixture
def written(monkeypatch):
    """Shapes of the graphs that were made, by an engine that says its network's bias and depth."""
    shapes = []

    def graph_of(model, shape, what):
        shapes.append(shape)
        return f"{model.layer.bias[0].item()},{model.prune or 9}".encode()

    def load(model, threads, precision):
        return lambda arrays: [np.array(model.decode().split(","), np.float32)]

    engine = Engine("quick", "numpy", "", ("fp32",), load)
    monkeypatch.setattr(of_segmenters, "graph_of", graph_of)
    monkeypatch.setattr(of_segmenters, "ENGINES", {"quick": engine})
    monkeypatch.setattr(of_segmenters, "check_engine", lambda *a: None)
    return shapes


def test_the_graph_of_a_segmenter_is_made_again_for_what_is_other_alone(written, tmp_path):
    def says(bias=1.0, depth=None, images=IMAGES, writes=True):
        kept = [KeptGraphs(tmp_path / "graphs", writes=writes)]
        (held,), _ = of_segmenters.by_engine(
            [Small(bias)], "quick", "32-true", shapes=(), what="small", kept=kept
        )
        with pruned(held, depth):
            return held(images).tolist()

    assert says(writes=False) == says() == says(writes=False) == [1, 9]
    assert len(written) == 2
    assert says(depth=1) == says(depth=1) == [1, 1]
    assert says(images=IMAGES[..., :8]) == [1, 9]
    assert written[2:] == [(2, 1, 16, 16), (2, 1, 16, 8)]
    assert len(list((tmp_path / "graphs").iterdir())) == 3
    assert says(bias=2, writes=False) == says(bias=2) == [2, 9]
    assert len(list((tmp_path / "graphs").iterdir())) == 1


@pytest.mark.thorough
def test_the_graph_of_a_run_s_segmenter_stays_in_the_run(runs, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(runs / "torch", run)
    images = torch.rand(1, 1, 64, 64)

    def logits(engine, writes=False):
        held = load_networks(run, "net", [0], "cpu", engine, writes=writes)
        with torch.no_grad():
            return held.models[0](images)

    expected = logits("torch")
    first = logits("onnxruntime", writes=True)
    monkeypatch.setattr(of_segmenters, "graph_of", None)
    assert torch.equal(logits("onnxruntime"), first)
    assert torch.allclose(first, expected, atol=1e-4)
    assert len(list((run / "graphs/segmenter/net/seed-0").iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut", "turned", "empty", "words", "headless"])
def test_a_damaged_graph_is_told_and_made_again(damage, model, made, tmp_path, capsys):
    kept = KeptGraphs(tmp_path)
    _, heat, _ = maps(kept, model)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    turned = bytearray(whole)
    turned[-20] ^= 1
    damaged = {
        "cut": whole[:-7],
        "turned": bytes(turned),
        "empty": b"",
        "words": b"[1, 2]\nno graph",
        "headless": whole.partition(b"\n")[2],
    }
    path.write_bytes(damaged[damage])
    _, again, _ = maps(kept, model)
    assert len(made) == 2
    assert torch.equal(again, heat)
    assert path.read_bytes() == whole
    said = capsys.readouterr()
    assert f"{path}: is not what was kept there" in said.out + said.err
