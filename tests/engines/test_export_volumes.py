"""Exports of networks of whole volumes: windows by an engine, all else by the run's own code."""

import json
from functools import reduce
from operator import getitem

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.test_segment_volumes import CONFIG, write_volumes
from tests.tiny import weakseg, write_config
from weakseg.config import Config, SegmenterConfig
from weakseg.errors import RunError, UserError
from weakseg.exporting.about import read_about
from weakseg.exporting.volumes import describe_volumes, refuse_volumes, volumes_method
from weakseg.exporting.windows import network_by
from weakseg.methods.network import NetworkMethod
from weakseg.methods.segmenter_networks import Networks
from weakseg.models.segmenters import build_segmenter
from weakseg.training.infer import lesion_probability

MORE = (
    ("tile: 12}", "tile: 12, flips: x, min_area: 0.001}"),
    ("tile: 16}", "tile: 16, flips: all}"),
)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder, text = tmp_path_factory.mktemp("volumes"), CONFIG
    for old, new in MORE:
        assert old in text
        text = text.replace(old, new)
    config = write_config(folder, write_volumes(folder / "data"), text)
    assert weakseg("train-segmenter", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    for name in ("dm", "unet"):
        assert weakseg("export", folder / "run", "--method", name, "--out", folder / name) == 0
    return folder


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["dm", "unet"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_export_segments_volumes_as_the_run_does(job, tmp_path, name, engine):
    pytest.importorskip(engine)
    args = (job / "data/labels.csv", "--heatmaps", "--out")
    assert weakseg("predict", job / "run", *args, tmp_path / "run", "--method", name) == 0
    own = ("--engine", engine)
    assert weakseg("predict", job / name, *args, tmp_path / "export", *own) == 0
    marked = 0
    for i in range(6):
        ours, theirs = (nib.load(tmp_path / f"{n}/v{i}_m0.nii.gz") for n in ("export", "run"))
        np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-5)
        a, b = ours.get_fdata() > 0, theirs.get_fdata() > 0
        assert a.shape == b.shape
        assert not (a | b).any() or 2 * (a & b).sum() >= 0.999 * (a.sum() + b.sum())
        marked += int(b.sum())
        maps = [
            nib.load(tmp_path / f"{n}/heatmaps/v{i}_m0.nii.gz").get_fdata()
            for n in ("export", "run")
        ]
        assert np.abs(maps[0] - maps[1]).max() <= 1e-4
    assert marked > 0


@pytest.mark.thorough
def test_the_description_says_what_a_window_is(job, tmp_path, capsys):
    about = json.loads((job / "dm/model.json").read_text())
    assert about["takes"] == "volumes"
    assert "research only" in about["use"]
    assert "outside of the model" in about["input"]["normalisation"]
    assert about["networks"][0]["file"] == "model.onnx"
    assert str(job) not in json.dumps(about)
    one = job / "data/v4_m0.nii.gz"
    assert weakseg("predict", job / "dm", one, "--out", tmp_path / "out") == 2
    assert "volumes of 2 channels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arch", "sides", "tile"),
    [
        ("unet", (19, 16, 9), 16),
        pytest.param("deepmedic", (8, 5, 4), 6, marks=pytest.mark.thorough),
    ],
)
def test_a_network_behind_a_session_says_what_it_says_itself(arch, sides, tile):
    torch.manual_seed(0)
    model = build_segmenter(arch, 1, 2, 3).eval()
    seen = set()

    def session(arrays):
        seen.add(arrays[0].shape)
        with torch.no_grad():
            return [model(torch.from_numpy(arrays[0])).numpy()]

    image, fill = torch.rand(1, 1, *sides), torch.zeros(1, 1)
    other = network_by(session, arch, 1, tile)
    with torch.no_grad():
        found, expected = (
            lesion_probability(m, image, fill, tile=tile, flips="x") for m in (other, model)
        )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if arch == "deepmedic":
        assert len(seen) == 1  # one window, also at the ends
    assert all(n % 16 == 0 for shape in seen for n in shape[2:]) or arch == "deepmedic"


@pytest.mark.parametrize("arch", ["unet", "deepmedic"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda sides: 1 / 0, "division by zero"),
        (lambda sides: [np.zeros((1, 5, *sides), np.float32)], "float32 1×5×"),
        (lambda sides: [np.zeros((1, 2, *sides), np.int64)], "int64 1×2×"),
        (lambda sides: [np.zeros((1, 2, *sides[:2], 1), np.float32)], "×1"),
        (lambda sides: [], "outputs:"),
    ],
)
def test_a_graph_that_fails_or_says_something_else_is_told(arch, answer, said):
    def session(arrays):
        lost = 0 if arch == "unet" else sum(other.margin)
        return answer([n - lost for n in arrays[0].shape[2:]])

    other = network_by(session, arch, 1, 6, "model-2.onnx")
    side = 16 if arch == "unet" else other.input_size(6)
    with pytest.raises(RunError) as told:
        other(torch.zeros(1, 1, side, side, side))
    assert said in told.value.found
    assert told.value.where == "model-2.onnx"
    assert "weakseg export RUN" in told.value.fix


def test_a_window_without_room_is_told_as_lack_of_memory():
    def session(arrays):
        raise MemoryError

    with pytest.raises(MemoryError):
        network_by(session, "unet", 1, 16)(torch.zeros(1, 1, 16, 16, 16))


def as_method(*archs, gate=0.0, **settings):
    held = tuple(
        {
            "settings": {"arch": arch, "lr": 0.1},
            **{"channels": 2, "dims": 3, "image_size": 128, "intensity": "auto", "window": "auto"},
            **{"roi": False, "sampled_prior": 0.5, "true_prior": 0.1, "steps": 1, "batch": 1},
            **{"training_masks": 3, "validation_masks": 0, "masks_of": None, "masks_of_seed": None},
        }
        for arch in archs
    )
    entry = {"threshold": 0.5, "chosen_on": "nothing", "masks_seen": 3, "gate": gate}
    return NetworkMethod(
        "net",
        tuple(range(len(archs))),
        Config.model_validate({"name": "net", "data": {}}),
        Networks((), held, weights=(0.75, 0.25)[: len(archs)]),
        SegmenterConfig.model_validate({"arch": list(archs), "ensemble": True, **settings}),
        entry | {"kind": "supervised", "inference": {"min_peak": 0.2}},
    )


def test_settings_that_all_networks_share_are_told_once(tmp_path):
    shared = {"tile": 16, "flips": "x", "recalibrate": True, "normalise": "zscore"}
    method = as_method("unet", "deepmedic", **shared, precision="bf16-mixed", lr=0.5)
    about = describe_volumes(method)
    (tmp_path / "model.json").write_text(json.dumps(about))
    assert read_about(tmp_path) == about
    assert [n["arch"] for n in about["networks"]] == ["unet", "deepmedic"]
    assert not any("settings" in n for n in about["networks"])
    assert about["settings"].keys() == {*shared, "overlap", "scales"}
    assert about["precision"] == {"model": "fp32", "run": "bf16-mixed"}
    read = volumes_method(about, lambda file: None)
    assert [type(m).__name__ for m in read.networks.models][1] == "DeepMedic"
    assert read.networks.weights == (0.75, 0.25)
    for name, value in shared.items():
        assert getattr(read.settings, name) == value


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (("networks",), [], "networks"),
        (("networks", 0, "arch"), "nope", "networks.0.arch"),
        (("networks", 1, "dims"), 2, "networks.1.dims"),
        (("weights",), [1.0], "weights: one a network"),
        (("weights",), [0.0, 0.0], "weights: one a network"),
        (("settings",), {"weighting": "validation"}, "settings: its content: "),
        (("settings", "tile"), -1, "settings: tile: "),
        (("volumes",), {"smooth": -1}, "volumes: smooth: "),
        (("volumes",), {"smooth": True}, "volumes.smooth"),
        (("threshold",), {}, "threshold"),
    ],
)
def test_a_description_that_was_changed_is_refused_with_its_key(tmp_path, at, value, said):
    about = json.loads(json.dumps(describe_volumes(as_method("unet", "deepmedic"))))
    *way, last = at
    reduce(getitem, way, about)[last] = value
    (tmp_path / "model.json").write_text(json.dumps(about))
    with pytest.raises(RunError, match="damaged") as told:
        read_about(tmp_path)
    assert said in told.value.found


@pytest.mark.parametrize(
    ("arch", "gate", "said"),
    [
        ("two-scale-cnn", 0.0, "not exported for volumes"),
        ("deepmedic-latest", 0.0, "not exported for volumes"),
        ("deepmedic", 0.5, "gate"),
    ],
)
def test_other_networks_and_gates_are_refused_with_the_way_out(arch, gate, said):
    with pytest.raises(UserError, match=said) as told:
        refuse_volumes(as_method(arch, gate=gate))
    assert "weakseg predict on the run itself" in told.value.fix
