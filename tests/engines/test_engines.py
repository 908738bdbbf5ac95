"""Engines against torch: operations, formulas, networks; and what they refuse."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from weakseg.config import Config, HeatmapConfig, SegmenterConfig
from weakseg.data.cases import Labels
from weakseg.data.geometry import letterbox, to_original
from weakseg.engines import base, choice, openvino
from weakseg.engines.base import Engine, precision_of
from weakseg.engines.graph import ExportError, onnx_of
from weakseg.engines.registry import ENGINES, check_engine, find_engine
from weakseg.errors import ConfigError, RunError, UserError
from weakseg.exporting import exported
from weakseg.exporting.heatmap_graph import refuse_heatmap
from weakseg.exporting.network_graph import network_model
from weakseg.exporting.script import USE
from weakseg.heatmaps.by_engine import ByEngine, pick_explainer
from weakseg.heatmaps.cam import METHODS, cams
from weakseg.heatmaps.explaining import explain_by_all
from weakseg.heatmaps.formulas import FORMULAS
from weakseg.methods.evidence import Evidence
from weakseg.methods.network import NetworkMethod
from weakseg.methods.segmenter_networks import Networks
from weakseg.models.classifier import Classifier, ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.deepmedic import DeepMedic
from weakseg.models.layers import ARCHITECTURES
from weakseg.models.segmenters import build_segmenter
from weakseg.models.unetpp import UNetPlusPlus, pruned
from weakseg.runs import content_hash
from weakseg.training import by_engine as training_by_engine
from weakseg.training.by_engine import EngineNetwork, by_engine
from weakseg.training.infer import lesion_probability

LABELS = Labels(("normal",), ("cyst", "tumour"))
TOLERANCE = 1e-4
REFUSED = {"convnext_tiny"}
"""Networks whose heatmaps need torch: channels-last views have no place in a graph."""
FARTHER = {("densenet121", "fused", "openvino"): 1e-3}
"""A network's layer by an engine → what its maps may differ by, see docs/engines.md."""


def run(model: bytes, engine: str, *arrays: torch.Tensor, precision: str = "fp32"):
    return ENGINES[engine].load(model, 1, precision)([a.numpy() for a in arrays])


def assert_equal(found, expected, tolerance=TOLERANCE):
    for ours, tensor in zip(found, expected, strict=True):
        theirs = tensor.detach().numpy()
        assert ours.shape == theirs.shape
        assert np.abs(theirs).max() > 0
        assert np.abs(ours - theirs).max() <= tolerance * max(1.0, np.abs(theirs).max())


class Net(nn.Module):
    """Two maps, an overlapping pool between them, and a head of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2)
        self.last = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1, groups=2), nn.ReLU(inplace=True))
        self.head = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.last(self.pool(self.first(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(3)
    net = Net().eval()
    net.first[1].running_mean.normal_(0, 0.3)
    net.first[1].running_var.uniform_(0.5, 2)
    return net


@pytest.mark.thorough
def test_the_graph_holds_every_formula_at_every_depth(net):
    images = torch.rand(2, 1, 30, 26)

    def explain(x):
        found = [cams(net, [net.first, net.last], x, (1, 2), method=m) for m in FORMULAS]
        return [m for maps, _ in found for m in maps] + [found[0][1]]

    expected = explain(images)
    names = [f"map{i}" for i in range(2 * len(FORMULAS))] + ["logits"]
    model = onnx_of(explain, [torch.zeros_like(images)], ["images"], names, what="a network")
    for engine in ENGINES:
        assert_equal(run(model, engine, images), expected)
    (heat, *_) = run(model, "openvino", images, precision="bf16")
    assert np.abs(heat - expected[0].numpy()).max() > 0  # bf16 by name alone
    assert_equal([heat], [expected[0]], 0.05)


@pytest.mark.thorough
def test_gradients_of_pools_and_convolutions_are_those_of_torch():
    torch.manual_seed(0)
    weights = [torch.randn(6, 2, 3, 2), torch.randn(4, 6, 3, 3), torch.randn(4, 4, 1, 1)]

    def forward(x):
        x = F.conv2d(x, weights[0], None, (2, 1), (1, 0), (1, 2), 2)
        x = F.max_pool2d(x, 3, 2, 1)
        x = F.conv2d(x, weights[1], padding=1)
        x = F.avg_pool2d(x, 2)
        x = F.adaptive_avg_pool2d(x, (3, 2))
        return F.conv2d(x, weights[2]).square().sum()

    def gradient(x):
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            return torch.autograd.grad(forward(x), x)

    x = torch.randn(2, 4, 33, 37)
    model = onnx_of(gradient, [torch.zeros_like(x)], ["x"], ["g"], what="gradients")
    for engine in ENGINES:
        assert_equal(run(model, engine, x), gradient(x))


def classifier(net: nn.Module, arch: str = "small") -> Classifier:
    return Classifier(net, ClassifierSpec(arch, LABELS.names, 1), (0.5,), (0.2,)).eval()


@pytest.mark.thorough
def test_heatmaps_of_two_classifiers_mirrored_and_of_two_scales(net):
    torch.manual_seed(5)
    models = [classifier(net), classifier(Net().eval())]
    config = HeatmapConfig(
        layer=["first", "last"], scales=[1.0, 1.5], flips=True, score="log-odds", batch_size=3
    )
    images = torch.rand(2, 1, 32, 32)
    name, maps, p = explain_by_all(models, LABELS, images, config, fill=True)
    explain, record = pick_explainer(
        "onnxruntime", models, LABELS, config, side=32, precision="32-true"
    )
    assert record == {"engine": "onnxruntime"}
    ours = explain(models, LABELS, images, config, fill=True)
    assert ours[0] == name == "first+last"
    assert_equal([t.numpy() for t in ours[1:]], [maps, p])


def test_auto_takes_the_quickest_and_says_what_it_measured(net, monkeypatch):
    config, models = HeatmapConfig(layer="last", batch_size=2), [classifier(net)]
    seconds = {"torch": 0.3, "onnxruntime": 0.1, "openvino": 0.2}
    monkeypatch.setattr(
        choice, "quickest", lambda runs: dict(sorted(seconds.items(), key=lambda s: s[1]))
    )
    monkeypatch.setattr(ByEngine, "__call__", lambda *a, **k: None)
    explain, record = pick_explainer("auto", models, LABELS, config, side=32, precision="32-true")
    assert isinstance(explain, ByEngine)
    assert explain.engine == record["engine"] == "onnxruntime"
    assert record["engines"] == {"onnxruntime": 20.0, "openvino": 10.0, "torch": 6.7}
    assert choice.spoken(record).startswith("engine onnxruntime (onnxruntime 20.0 images/s, ")


def test_auto_falls_back_to_torch_and_says_why(net, monkeypatch):
    models = [classifier(net)]
    config = HeatmapConfig(method="eigencam", layer="last", batch_size=2)
    explain, record = pick_explainer("auto", models, LABELS, config, side=32, precision="32-true")
    assert explain is explain_by_all
    assert record["engine"] == "torch"
    assert "eigencam needs torch" in record["engines"]["openvino"]
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    _, record = pick_explainer("auto", models, LABELS, config, side=32, precision="32-true")
    assert record["engines"] == {"onnxruntime": "not installed", "openvino": "not installed"}


def test_quickest_measures_in_turns_and_drops_the_first():
    calls, clock = [], iter(range(1000))
    slow = lambda: calls.append("slow") or [next(clock) for _ in range(3)]  # noqa: E731
    found = choice.quickest({"slow": slow, "quick": lambda: calls.append("quick")}, rounds=2)
    assert calls == ["slow", "quick"] * 3
    assert set(found) == {"slow", "quick"}
    assert list(found.values()) == sorted(found.values())


@pytest.mark.parametrize(
    "method", sorted({*METHODS, "fullgrad", "occlusion", "relevance"} - set(FORMULAS))
)
def test_what_needs_torch_says_so(net, method):
    config = HeatmapConfig(method=method)
    with pytest.raises(ExportError, match=f"heatmap method {method} needs torch"):
        pick_explainer("openvino", [classifier(net)], LABELS, config, side=32, precision="32-true")


def test_an_operation_that_no_graph_holds_is_named():
    def strange(x):
        return (torch.special.bessel_j0(x),)

    with pytest.raises(
        ExportError, match=r"a network cannot be written as a graph.*\n.*\n.*bessel"
    ):
        onnx_of(strange, [torch.ones(2)], ["x"], ["y"], what="a network")


def test_missing_engines_name_the_install_command(monkeypatch):
    monkeypatch.setattr(base, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(ConfigError, match=r"pip install 'weakseg\[onnxruntime\]'"):
        find_engine("onnxruntime")
    find_engine("openvino")
    with pytest.raises(ConfigError, match="did you mean 'openvino'"):
        find_engine("openvine")


def test_engines_refuse_other_devices_and_precisions():
    check_engine("torch", "cuda:0", "16-mixed")
    check_engine("auto", "cuda:0", "16-mixed")
    with pytest.raises(ConfigError, match="processors only"):
        check_engine("openvino", "cuda:0", "32-true")
    with pytest.raises(ConfigError, match="does not compute in bf16"):
        check_engine("onnxruntime", "cpu", "bf16-mixed")
    with pytest.raises(ConfigError, match="No engine computes in 16-mixed"):
        check_engine("openvino", "cpu", "16-mixed")
    check_engine("openvino", "cpu", "bf16-mixed")
    assert [precision_of(p) for p in ("32-true", "bf16-mixed", "bf16-true")] == [
        "fp32",
        "bf16",
        "bf16",
    ]


@pytest.mark.thorough
@pytest.mark.parametrize(("dims", "size"), [(2, (48, 40)), (3, (16, 16, 24))])
def test_segmenters_give_the_same_probabilities_in_tiles(dims, size):
    torch.manual_seed(1)
    model = build_segmenter("unet", 1, 2, dims).eval()
    images, fill = torch.rand(1, 1, *size), torch.zeros(1, 1)
    (held,), record = by_engine([model], "onnxruntime", "32-true", shapes=(), what="unet")
    assert record == {"engine": "onnxruntime"}
    assert isinstance(held, EngineNetwork)
    with torch.no_grad():
        expected = lesion_probability(model, images, fill, tile=16)
        found = lesion_probability(held, images, fill, tile=16)
    assert_equal([found.numpy()], [expected])
    assert float(expected.std()) > 1e-3


def test_auto_measures_every_kind_of_network_as_often_as_it_is_there(monkeypatch):
    archs = ("two-scale-cnn", "unet", "two-scale-cnn")
    models = [build_segmenter(a, 1, 2, 2).eval() for a in archs]
    written, asked = [], []
    graph, timed = training_by_engine.graph_of, dict.fromkeys

    def graph_of(model, shape, what):
        if isinstance(model, DeepMedic):
            return graph(model, shape, what)
        written.append((models.index(model), shape))
        return repr(shape).encode()

    def load(model, threads, precision):
        return lambda arrays: asked.append((model, arrays[0].shape)) or [np.zeros((4, 2, 8, 8))]

    engines = {"quick": Engine("quick", "numpy", "", ("fp32",), load)}
    monkeypatch.setattr(training_by_engine, "graph_of", graph_of)
    for module in (training_by_engine, choice):
        monkeypatch.setattr(module, "ENGINES", engines)
    monkeypatch.setattr(choice, "quickest", lambda runs: timed(reversed(runs), 0.1))
    shapes = [(1, 32, 32), (1, 48, 48), (1, 32, 32)]
    made, record = by_engine(models, "auto", "32-true", shapes=shapes, what="mean")
    small, large = (4, 1, 32, 32), (4, 1, 48, 48)
    assert written == [(0, small), (1, large)]
    assert asked == [(repr(s).encode(), s) for s in (small, large, small)]
    assert record == {"engine": "quick", "engines": {"quick": 40.0, "torch": 40.0}}
    assert [(m.model, m.engine) for m in made] == [(m, "quick") for m in models]
    both = [models[0], DeepMedic(1, 2, 2, "paper").eval()]
    made, record = by_engine(both, "auto", "32-true", shapes=shapes[:2], what="mean")
    assert made == both
    assert "DeepMedic needs torch" in record["engines"]["quick"]
    with pytest.raises(ExportError, match="DeepMedic needs torch"):
        by_engine(both, "openvino", "32-true", shapes=(), what="mean")


def test_deepmedic_needs_torch():
    model = DeepMedic(1, 2, 2, "paper")
    with pytest.raises(ExportError, match="DeepMedic needs torch"):
        by_engine([model], "openvino", "32-true", shapes=(), what="dm")
    made, record = by_engine([model], "torch", "32-true", shapes=(), what="dm")
    assert made == [model]
    assert record == {}


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("layer", ["auto", "fused"])
def test_every_network_of_the_list(arch, layer):
    torch.manual_seed(0)
    model = build_classifier(ClassifierSpec(arch, LABELS.names, 1)).eval()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    config = HeatmapConfig(layer=layer)
    images = torch.rand(2, 1, 96, 96)
    name, maps, p = explain_by_all([model], LABELS, images, config)
    graphs = {}
    if arch in REFUSED:
        with pytest.raises(ExportError, match=f"{arch} at .* cannot be written"):
            ByEngine("openvino", "fp32", graphs)([model], LABELS, images, config)
        return
    for engine in ENGINES:
        ours = ByEngine(engine, "fp32", graphs)([model], LABELS, images, config)
        assert ours[0] == name
        allowed = FARTHER.get((arch, layer, engine), TOLERANCE)
        assert_equal([t.numpy() for t in ours[1:]], [maps, p], allowed)


def test_the_contract_of_every_engine():
    for name, engine in ENGINES.items():
        assert isinstance(engine, Engine)
        assert engine.name == name
        assert f"weakseg[{name}]" in engine.install
        assert "fp32" in engine.precisions


SIGNALLED = """
import gc, signal, sys
from pathlib import Path
from weakseg.engines.registry import ENGINES

signal.signal(signal.SIGTERM, lambda *_: print("heard", flush=True))
model = Path(sys.argv[2]).read_bytes()
sessions = [ENGINES[sys.argv[1]].load(model, 1, "fp32") for _ in range(3)]
while sessions:
    sessions.pop(0)
    gc.collect()
    signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs signals as Linux has")
def test_signals_are_heard_after_an_engine_is_gone(net, tmp_path):
    """On processors with AMX a ``Core`` of OpenVINO left the stack for signals dangling."""
    images = torch.rand(1, 1, 16, 16)
    (tmp_path / "net.onnx").write_bytes(onnx_of(net, [images], ["x"], ["y"], what="a network"))
    for engine in ENGINES:
        done = subprocess.run(
            [sys.executable, "-c", SIGNALLED, engine, tmp_path / "net.onnx"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert (done.stdout, done.returncode) == ("heard\n" * 3, 0), (engine, done.stderr)


@pytest.fixture
def nested():
    torch.manual_seed(0)
    return UNetPlusPlus(1, 2, widths=(2, 4, 8)).eval()


@pytest.mark.thorough
def test_engines_prune_nested_networks(nested):
    images = torch.rand(1, 1, 16, 16)
    network = EngineNetwork(nested, "onnxruntime", "fp32", "unetpp")
    with torch.no_grad():
        whole = nested(images)
        with pruned(nested, 1):
            part = nested(images)
        assert (whole - part).abs().max() > 1e-3
        for depth, expected in ((None, whole), (1, part)):
            with pruned(network, depth):
                torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
    assert nested.prune is None


def test_a_network_that_sees_its_images_normalised_inside_the_body_is_not_exported(nested):
    networks = Networks((nested,), ({"image_size": 16, "channels": 1, "dims": 2},))
    settings = SegmenterConfig(arch="unetpp", normalise="zscore")
    method = NetworkMethod("net", (0,), Config(), networks, settings, {"threshold": 0.5})
    with pytest.raises(UserError, match="Normalising inside the body") as told:
        network_model(method)
    assert "normalise: unit" in told.value.fix


def test_heatmaps_of_volumes_are_not_exported():
    with pytest.raises(UserError, match="Heatmaps of volumes are not exported") as told:
        refuse_heatmap(SimpleNamespace(name="cam", dims=3))
    assert "weakseg predict on the run itself" in told.value.fix


@pytest.mark.thorough
def test_an_export_of_a_network_that_looks_beside_is_of_an_image_alone(nested):
    trained = {"image_size": 16, "channels": 1, "dims": 2, "sampled_prior": 0.5, "true_prior": 0.5}
    networks = Networks((nested,), (trained,))
    settings = SegmenterConfig(arch="unetpp", normalise="unit", tile=32, scales=[1.25, 0.5, 1.26])
    inference = {"neighbours": 0.5, "min_peak": 0.51, "min_area": 0.0}
    threshold = {"threshold": 0.5, "gate": 0.0, "kind": "supervised", "inference": inference}
    threshold |= {"beside": {"min_peak": 0.99, "gate": 0.0}}
    method = NetworkMethod("net", (0,), Config(), networks, settings, threshold)
    model = network_model(method)
    assert model.alone
    assert model.inputs == ("images", "images_8", "box", "box_8")  # none of 16; 20 for two
    assert model.size == 20
    squares = [torch.rand(1, 1, s, s).half().float() for s in (20, 8)]
    boxes = [np.array([0, 0, s, s, 33, 33]) for s in (20, 8)]
    run = ENGINES["onnxruntime"].load(model.onnx, 1, "fp32")
    mask, shown = run([*(x.numpy() for x in squares), *boxes])
    with torch.no_grad():
        each = [nested(x).softmax(1)[0, 1].numpy() for x in squares]
    whole = [to_original(p, letterbox((33, 33), len(p))) for p in each]
    np.testing.assert_allclose(shown, (2 * whole[0] + whole[1]) / 3, atol=1e-4)
    alone = method.of_evidence(Evidence(0, shown), lambda i: None, np.zeros).mask
    np.testing.assert_array_equal(mask.astype(bool), alone)


@pytest.mark.thorough
def test_an_exported_network_is_pruned_as_the_run_is(nested):
    trained = {"image_size": 16, "channels": 1, "dims": 2, "sampled_prior": 0.5, "true_prior": 0.5}
    threshold = {"threshold": 0.5, "gate": 0.0}
    images = torch.rand(1, 1, 16, 16).half().float()
    box = np.array([0, 0, 16, 16, 16, 16])
    for depth in (None, 1):
        settings = SegmenterConfig(arch="unetpp", prune=depth, normalise="unit", tile=16)
        networks = Networks((nested,), (trained,))
        config = Config.model_validate({"name": "x"})
        model = network_model(NetworkMethod("net", (0,), config, networks, settings, threshold))
        run = ENGINES["onnxruntime"].load(model.onnx, 1, "fp32")
        with torch.no_grad(), pruned(nested, depth):
            expected = nested(images).softmax(1)[0, 1]
        np.testing.assert_allclose(run([images.numpy(), box])[1], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_exported_model_takes_as_many_threads_as_torch(tmp_path, monkeypatch, name):
    """Which OMP_NUM_THREADS says."""
    given = []
    engine = replace(ENGINES[name], load=lambda model, threads, precision: given.append(threads))
    monkeypatch.setitem(exported.ENGINES, name, engine)
    seen = {"size": 64, "channels": 1, "intensity": "auto", "window": "auto"}
    about = {"method": "net", "seeds": [0], "input": seen}
    monkeypatch.setattr(exported, "read_about", lambda folder: about)
    (tmp_path / "model.onnx").write_bytes(b"")
    before = torch.get_num_threads()
    try:
        for threads in (1, 7):
            torch.set_num_threads(threads)
            exported.load_exported(tmp_path, engine=name)
    finally:
        torch.set_num_threads(before)
    assert given == [1, 7]


def test_a_graph_of_another_hash_is_not_taken_for_the_one_that_is_told_of(tmp_path, monkeypatch):
    loads = replace(ENGINES["onnxruntime"], load=lambda model, threads, precision: model)
    monkeypatch.setitem(exported.ENGINES, "onnxruntime", loads)
    seen = {"size": 64, "channels": 1, "intensity": "auto", "window": "auto"}
    about = {"method": "net", "seeds": [0], "input": seen}
    monkeypatch.setattr(exported, "read_about", lambda folder: about)
    (tmp_path / "model.onnx").write_bytes(b"another")

    def load():
        return exported.load_exported(tmp_path, engine="onnxruntime")[0]

    assert load().session == b"another"  # an earlier export
    about["hashes"] = {"model.onnx": content_hash(b"another")}
    assert load().session == b"another"
    about["hashes"] = {"model.onnx": content_hash(b"the one")}
    with pytest.raises(RunError, match=r"not the one that model.json is of") as told:
        load()
    assert told.value.where.endswith("model.onnx")
    assert "weakseg export RUN" in told.value.fix
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(RunError, match="is missing"):
        load()
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(RunError, match="cannot be read"):
        load()


def test_sessions_take_the_threads_that_they_are_given(monkeypatch):
    import onnxruntime

    given = []

    def session(model, options, providers):
        given.append(options.intra_op_num_threads)
        raise InterruptedError

    class Core:
        def read_model(self, model):
            return model

        def compile_model(self, model, device, how):
            given.append(how["INFERENCE_NUM_THREADS"])
            raise InterruptedError

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(openvino, "core", Core)
    for name in ("onnxruntime", "openvino"):
        with pytest.raises(InterruptedError):
            ENGINES[name].load(b"", 3, "fp32")
    assert given == [3, 3]


@pytest.mark.parametrize(("said", "threads"), [("2", 2), ("", 0), (None, 0)])
def test_the_script_of_an_export_takes_as_many_threads_as_it_is_told(
    tmp_path, monkeypatch, said, threads
):
    import onnxruntime

    given = []

    def session(path, options, providers):
        given.append(options.intra_op_num_threads)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    (tmp_path / "model.json").write_text(
        '{"input": {"size": 64, "channels": 1, "window": "auto", "intensity": "auto"}}'
    )
    begins = USE.partition("def ")[0]
    assert "InferenceSession" in begins
    exec(begins, {"__file__": str(tmp_path / "use.py")})
    assert given == [threads]
