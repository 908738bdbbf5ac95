"""Every network of other people at work: trained, ensembled, a teacher, a pupil, resumed, used."""

import shutil
from itertools import product

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.test_segment_volumes import write_volumes
from tests.tiny import cases, pixels, read_rows, weakseg, write_config, write_set
from weakseg.config import Config, SegmenterConfig, load_config
from weakseg.engines.registry import ENGINES
from weakseg.errors import ConfigError
from weakseg.exporting.network_graph import network_model
from weakseg.masks.rules.crf import crf_probability
from weakseg.methods.network import NetworkMethod
from weakseg.methods.segmenter_networks import Networks
from weakseg.models.cascade import Cascade
from weakseg.models.fcn import FCN
from weakseg.models.segmenters import SEGMENTERS, build_segmenter, find_segmenter
from weakseg.scores.stored import read_per_case
from weakseg.stages.prepare import prepared_run
from weakseg.stages.train_segmenter import train_segmenters
from weakseg.training.beginning import new_segmenter
from weakseg.training.infer import lesion_probability
from weakseg.training.losses import make_loss
from weakseg.training.recipes import resolve
from weakseg.training.supervision import supervised_loss
from weakseg.training.times import with_times

pytestmark = pytest.mark.thorough

SMALLEST = "squeezenet1_1"
SHALLOW = {"fcn32s": "resnet18"}
"""What the smallest, whose deepest map has stride 16, cannot carry, and what carries it."""
EVERY = ["unet:mfr+mca+ca"] + [
    f"{name}:{SHALLOW.get(name, SMALLEST)}" if spec.backbones else name
    for name, spec in SEGMENTERS.items()
]
SLOW = {"unet", "unet:mfr+mca+ca", "unet-original", "encoder-unet", "unetpp", "deepmedic"} | {
    *("fcn32s", "fcn16s", "fcn8s", "fcn_resnet50", "deeplabv3_resnet50", "mfr-unet"),
    *("deepmedic-release", "deepmedic-latest", "cascade", "fuzzy-neuro"),
}
"""Large, or at work in other tests, or not unlike one of the others."""
AT_WORK = [
    pytest.param(a, marks=[pytest.mark.slow] * (a in SLOW or a.partition(":")[0] in SLOW))
    for a in EVERY
]
AT_ONCE = ("encoder-unetpp:squeezenet1_1", "two-scale-cnn")
WHOLE_RUNS = [
    p if p.values[0] in AT_ONCE or p.marks else pytest.param(*p.values, marks=pytest.mark.thorough)
    for p in AT_WORK
]
"""Those that take no minutes, but for two, are in CI alone."""
ONE_IN_CI = [
    pytest.param(a, marks=pytest.mark.thorough if a == "two-scale-cnn" else pytest.mark.slow)
    for a in EVERY
]
GENTLE = {"unet-original": 1e-5, "fcn8s:squeezenet1_1": 1e-5}
"""Learning rates of those that mark nothing after one step of the usual one, without warm-up."""
_NOT = ("deepmedic", "unet-original", "fcn", "deeplab")
LEARNERS = [a for a in EVERY if not a.startswith(_NOT)]
"""Those that take an image as it is and learn from scratch in some sixty steps."""
SOLID = [name for name in EVERY if 3 in find_segmenter(name)[0].dims]
CONFIG = """
name: systems
data: {{manifest: {manifest}, image_size: 32, split: {{val: 0.08, test: 0.25}}}}
classifier: {{seeds: [0, 1]}}
scores: {{bootstrap: 100, floors: false}}
report: {{gallery: 1}}
segmenters:
  net: {{arch: "ARCH", epochs: 1, steps: 1, batch_size: 2, average: none, ensemble: true,
        threshold: 0.3, validation_cases: 0}}
  pupil: {{arch: "encoder-unet:squeezenet1_1", masks: net, epochs: 1, steps: 1, batch_size: 2,
          average: none, seeds: [0], validation_cases: 0}}
"""
ONE = """
name: one
data: {{manifest: {manifest}, image_size: 32, split: {{val: 0.08, test: 0.25}}}}
classifier: {{seeds: [0]}}
scores: {{bootstrap: 100, floors: false}}
segmenters:
  net: {{arch: "ARCH", epochs: 3, steps: 1, batch_size: 2, dropout: by-depth, validation_cases: 1}}
"""
VOLUMES = """
name: solid
data: {{manifest: {manifest}}}
classifier: {{seeds: [0]}}
scores: {{bootstrap: 100}}
segmenters:
  net: {{arch: "ARCH", epochs: 1, steps: 1, batch_size: 2, patch: 16, tile: 16,
        validation_cases: 0}}
"""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("systems") / "data", slices=1)


@pytest.fixture
def folder(tmp_path):
    """A folder that is emptied at once: a run holds several hundred megabytes."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("arch", WHOLE_RUNS)
def test_a_network_is_trained_ensembled_teaches_and_is_used(folder, manifest, arch):
    text = CONFIG.replace("ARCH", arch)
    text = text.replace("steps: 1, batch", f"steps: 1, lr: {GENTLE.get(arch, 1e-3)}, batch", 1)
    text = text.replace("epochs: 1", "epochs: 2") if arch == "cascade" else text  # a turn each
    config = write_config(folder, manifest, text)
    run = folder / "run"
    assert weakseg("train-segmenter", config, "--run-dir", run, "--device", "cpu") == 0
    table = read_per_case(run).groupby("method")
    assert set(table["case"].nunique()) == {len(cases(run, "test"))}
    assert dict(table["kind"].first()) == {"net": "supervised", "pupil": "weak"}
    seeds = [run / f"segmenter/net/seed-{s}/best.safetensors" for s in (0, 1)]
    assert all(p.exists() for p in seeds)
    images = sorted(manifest.parent.glob("images/*.png"))[:2]
    command = ("predict", run, *images, "--out", folder / "out", "--heatmaps", "--method")
    assert weakseg(*command, "net") == 0
    for image in images:
        p = np.load(folder / f"out/heatmaps/{image.stem}.npz")["probability"]
        assert p.shape == pixels(folder / "out" / image.name).shape == (48, 40)
        assert 0 <= p.min() <= p.max() <= 1


@pytest.mark.parametrize("arch", ONE_IN_CI)
def test_an_exported_network_says_what_torch_does(arch):
    torch.manual_seed(0)
    size, box = 64, np.array([0, 0, 64, 64, 64, 64])
    net = build_segmenter(arch, 1, 2).eval()
    for m in net.modules():  # statistics and scores that are no identity
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.uniform_(-0.1, 0.1)
            m.running_var.uniform_(0.5, 2)
        if isinstance(m, FCN):
            for weights in m.score.parameters():
                torch.nn.init.normal_(weights, std=0.1)
    trained = {"image_size": size, "channels": 1, "dims": 2, "sampled_prior": 0.5}
    networks = Networks((net,), (trained | {"true_prior": 0.5},))
    settings = SegmenterConfig(arch=arch, normalise="unit", tile=size)
    threshold = {"threshold": 0.5, "gate": 0.0}
    method = NetworkMethod("net", (0,), Config(), networks, settings, threshold)
    model = network_model(method)
    images = torch.rand(1, 1, size, size).half().float()
    fill = images[:, :, :: size - 1, :: size - 1].mean((2, 3))  # of its corners
    with torch.no_grad():
        wanted = lesion_probability(net, images, fill, tile=size)[0].numpy()
    assert wanted.std() > 1e-4
    for engine in ENGINES.values():
        found = engine.load(model.onnx, 1, "fp32")([images.numpy(), box])[1]
        np.testing.assert_allclose(found, wanted, atol=1e-4 * wanted.std() + 1e-5)


@pytest.mark.parametrize("arch", ONE_IN_CI)
def test_a_network_s_export_makes_its_masks_and_its_masks_are_explained(folder, manifest, arch):
    # zscore, which DeepMedic has of itself, is not exported
    how = ", normalise: unit" if arch.startswith("deepmedic") else ""
    text = CONFIG.replace('"ARCH"', f'"{arch}"{how}').split("  pupil:")[0]
    text = text.replace("epochs: 1", "epochs: 2") if arch == "cascade" else text
    text = text.replace("steps: 1", f"steps: 1, lr: {GENTLE.get(arch, 1e-3)}")
    config, run = write_config(folder, manifest, text), folder / "run"
    assert weakseg("train-segmenter", config, "--run-dir", run, "--device", "cpu") == 0
    assert (
        weakseg("explain-segmenter", run, "--method", "net", "--images", 2, "--device", "cpu") == 0
    )
    explained = {(r["seed"], r["attribution"]) for r in read_rows(run / "attribution/net.csv")}
    assert {s for s, _ in explained} == {"0", "1"}
    assert {"seg-gradcam", "kwc", "mask"} < {a for _, a in explained}
    assert weakseg("export", run, "--method", "net", "--out", folder / "onnx") == 0
    images = sorted(manifest.parent.glob("images/*.png"))[:2]
    assert weakseg("predict", run, *images, "--out", folder / "of-run", "--heatmaps") == 0
    assert (
        weakseg("predict", folder / "onnx", *images, "--out", folder / "of-onnx", "--heatmaps") == 0
    )
    for image in images:
        one, other = (
            np.load(folder / out / f"heatmaps/{image.stem}.npz")["probability"].astype(float)
            for out in ("of-run", "of-onnx")
        )
        np.testing.assert_allclose(one, other, atol=2e-3)  # kept as half precision
        differ = pixels(folder / "of-run" / image.name) != pixels(folder / "of-onnx" / image.name)
        assert (abs(one - 0.3)[differ] < 2e-3).all()


@pytest.mark.slow
@pytest.mark.parametrize("arch", EVERY)
def test_a_killed_training_of_a_network_ends_where_an_unbroken_one_does(folder, manifest, arch):
    config = load_config(write_config(folder, manifest, ONE.replace("ARCH", arch)), ["device=cpu"])

    def killed(epoch):
        if epoch == 2:
            raise KeyboardInterrupt

    with prepared_run(config, folder / "whole") as prepared:
        train_segmenters(prepared)
    with pytest.raises(KeyboardInterrupt), prepared_run(config, folder / "broken") as prepared:
        train_segmenters(prepared, after_epoch=killed)
    with prepared_run(config, folder / "broken") as prepared:
        train_segmenters(prepared)
    one, other = (
        load_file(folder / run / "segmenter/net/seed-0/best.safetensors")
        for run in ("whole", "broken")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(t, other[n]) for n, t in one.items())


@pytest.mark.slow
@pytest.mark.parametrize("arch", SOLID)
def test_a_network_segments_volumes(folder, arch):
    text = VOLUMES.replace("ARCH", arch)
    text = text.replace("epochs: 1", "epochs: 2") if arch == "cascade" else text
    config = write_config(folder, write_volumes(folder / "data"), text)
    run = folder / "run"
    assert weakseg("train-segmenter", config, "--run-dir", run, "--device", "cpu") == 0
    assert set(read_per_case(run)["method"]) == {"net"}


def test_a_network_is_pruned_when_it_is_used(folder, manifest):
    text = CONFIG.replace("ARCH", f"encoder-unetpp:{SMALLEST}").split("  pupil:")[0]
    config = write_config(folder, manifest, text)
    train = ("train-segmenter", config, "--run-dir", folder / "run", "--device", "cpu")
    change = "segmenters.net.seeds=[0]", "segmenters.net.ensemble=false"
    sets = [a for c in change for a in ("--set", c)]
    assert weakseg(*train, *sets) == 0
    weights = folder / "run/segmenter/net/seed-0/best.safetensors"
    written = weights.stat().st_mtime_ns
    image = sorted(manifest.parent.glob("images/*.png"))[0]

    def said(out):
        command = ("predict", folder / "run", image, "--out", folder / out, "--heatmaps")
        assert weakseg(*command, "--method", "net") == 0
        return np.load(folder / out / f"heatmaps/{image.stem}.npz")["probability"]

    whole = said("whole")
    assert weakseg(*train, *sets, "--set", "segmenters.net.prune=1") == 0
    assert weights.stat().st_mtime_ns == written  # nothing is trained again
    assert not np.allclose(whole, said("pruned"), atol=1e-3)


def test_a_network_s_probability_goes_through_a_random_field(
    folder, manifest, capsys, random_field
):
    text = CONFIG.replace("ARCH", "fuzzy-neuro").split("  pupil:")[0]
    config, run = write_config(folder, manifest, text), folder / "run"
    train = ("train-segmenter", config, "--run-dir", run, "--device", "cpu")
    assert weakseg(*train) == 0
    written = (run / "segmenter/net/seed-0/best.safetensors").stat().st_mtime_ns
    image = sorted(manifest.parent.glob("images/*.png"))[0]

    def said(out):
        command = ("predict", run, image, "--out", folder / out, "--heatmaps", "--method", "net")
        assert weakseg(*command) == 0
        return np.load(folder / out / f"heatmaps/{image.stem}.npz")["probability"]

    alone = said("alone")
    assert weakseg(*train, "--set", "segmenters.net.crf=2") == 0
    assert (run / "segmenter/net/seed-0/best.safetensors").stat().st_mtime_ns == written
    wanted = crf_probability(alone, pixels(image), 2)
    np.testing.assert_allclose(said("field"), wanted, atol=2e-3)
    capsys.readouterr()
    assert weakseg("export", run, "--method", "net", "--out", folder / "onnx") == 2
    assert "conditional random field" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="not for whole volumes"):
        resolve(SegmenterConfig(arch="unet", crf=3), 3)


def test_prune_and_dropout_of_the_wrong_network_are_refused(folder, manifest, capsys):
    config = write_config(folder, manifest, ONE.replace("ARCH", "unet"))
    train = ("train-segmenter", config, "--run-dir", folder / "run", "--device", "cpu", "--set")
    assert weakseg(*train, "segmenters.net.prune=2") == 2
    assert "segmenters.net.prune" in capsys.readouterr().err
    assert weakseg(*train, "segmenters.net.dropout=deep") == 2
    assert "by-depth" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("arch", LEARNERS)
def test_a_network_learns_a_planted_lesion_in_a_minute(arch):
    """Discs in noise that are brighter than the noise is anywhere, of other sizes and places."""
    settings = resolve(SegmenterConfig(arch=arch), 2)
    net, _ = new_segmenter(settings, 1, 2, 0)
    rng = torch.Generator().manual_seed(0)
    turns = [True, False] if isinstance(net, Cascade) else [None]
    loss = make_loss("dice-ce")
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    net.train()
    for turn, _ in product(turns, range(60)):
        net.coarse_alone = turn
        images, truth = planted(8, rng)
        optimizer.zero_grad()
        supervised_loss(loss, net(images), truth).backward()
        optimizer.step()
    net.eval()
    images, truth = planted(16, rng)
    with torch.no_grad():
        found = net(images).argmax(1)
    dice = 2 * (found * truth).sum() / (found.sum() + truth.sum())
    assert dice > 0.6, float(dice)


def planted(count, rng):
    """Images (B, 1, 48, 48) and their truth; a quarter has no lesion."""
    y, x = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    images = torch.rand(count, 1, 48, 48, generator=rng) * 0.5
    truth = torch.zeros(count, 48, 48, dtype=torch.long)
    for i in range(count):
        if i % 4:
            cy, cx = torch.randint(12, 36, (2,), generator=rng)
            r = torch.randint(5, 10, (1,), generator=rng)
            truth[i] = ((y - cy) ** 2 + (x - cx) ** 2 <= r**2).long()
    return images + 0.4 * truth[:, None], truth


def test_dropout_by_depth_is_the_two_scale_network_s_own_recipe():
    assert resolve(SegmenterConfig(arch="two-scale-cnn"), 2).dropout == "by-depth"
    assert resolve(SegmenterConfig(arch="two-scale-cnn", dropout="none"), 2).dropout == "none"


@pytest.mark.parametrize(("arch", "counts"), [("two-scale-cnn", True), ("unet", False)])
def test_to_have_no_dropout_counts_where_there_would_be_some(arch, counts):
    plain, none = SegmenterConfig(arch=arch), SegmenterConfig(arch=arch, dropout="none")
    assert "dropout" not in plain.fingerprint_settings()
    assert (plain.fingerprint_settings() != none.fingerprint_settings()) is counts
    assert resolve(SegmenterConfig(arch="unet"), 2).dropout == "none"
    net, _ = new_segmenter(resolve(SegmenterConfig(arch="two-scale-cnn"), 2), 1, 2, 0)
    x = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        for m in net.modules():  # nothing but dropout is random
            m.training = not isinstance(m, torch.nn.BatchNorm2d)
        assert not torch.equal(net(x), net(x))
        assert torch.equal(net.eval()(x), net(x))


def test_the_table_of_networks_tells_times():
    row = {"name": "two-scale-cnn", "kind": "segmenter", "dims": 2, "patch_output": 128}
    timed, none = with_times([row, {"name": "resnet18", "kind": "classifier"}])
    assert timed["train_seconds"] > timed["image_seconds"] > 0
    assert {k: timed[k] for k in row} == row
    assert none["train_seconds"] is none["image_seconds"] is None
