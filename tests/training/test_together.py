"""Two processes train as one does with the same batches; one of them writes, and either goes on."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.tiny import read_rows, tree, weakseg, write_config, write_set
from weakseg.errors import ConfigError
from weakseg.launch import Launch, launched
from weakseg.models.whole_image import Outputs, Points
from weakseg.training.loop import FitSettings, fit, make_fabric, seed_epoch
from weakseg.training.together import (
    Share,
    drawing_apart,
    joined,
    norms_over_all,
    said_by_first,
    share_of_launch,
)
from weakseg.training.weights import load_weights

TINY = """
name: tiny
data: {{manifest: {manifest}, image_size: 32}}
classifier: {{arch: resnet18, weights: none, epochs: 2, batch_size: 8, lr: 0.01,
             optimizer: sgd}}
heatmap: {{layer: layer2}}
segmenters:
  unet:
    arch: unet
    weights: none
    epochs: 1
    steps: 2
    optimizer: sgd
    batch_size: 4
    patch: 32
    lr: 0.01
    keep: last
    validation_cases: 2
    threshold: 0.5
    min_area: 0
scores: {{bootstrap: 100}}
report: {{gallery: 0}}
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def in_two(work: Callable[[], object], world: int = 2) -> list[object]:
    """What a function gives in each of several processes, which torchrun might have started."""
    context = multiprocessing.get_context("fork")
    port, results = free_port(), context.Queue()

    def run(rank: int) -> None:
        os.environ |= {
            "TORCHELASTIC_RUN_ID": "test",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        try:
            results.put((rank, work(), ""))
        except BaseException:
            results.put((rank, None, traceback.format_exc()))
            raise

    processes = [context.Process(target=run, args=(r,)) for r in range(world)]
    for p in processes:
        p.start()
    said = {}
    try:
        for _ in processes:
            rank, value, problem = results.get(timeout=600)
            assert not problem, problem
            said[rank] = value
    finally:
        for p in processes:
            p.join(10)
            if p.is_alive():
                p.kill()
    return [said[r] for r in range(world)]


def test_alone_nothing_is_shared(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")  # of something else
    assert launched() == Launch(0, 1, 1)
    with joined():
        assert share_of_launch() == Share()
        assert said_by_first("word") == "word"
    rows = torch.rand(4, 3)
    share = Share()
    assert share.spread(rows, 4) is rows
    assert share.gathered(rows) is rows
    assert share.own(4) == slice(0, 4)


def test_rows_of_the_processes_are_a_batch():
    shares = [Share(r, 3) for r in range(3)]
    assert [s.own(6) for s in shares] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    spread = shares[1].spread(torch.ones(2, 5), 6)
    assert spread.sum(1).tolist() == [0, 0, 5, 5, 0, 0]
    with pytest.raises(ConfigError, match="shared evenly") as e:
        shares[0].require_even(8, "classifier.batch_size")
    assert "multiple of 3" in str(e.value)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    )


IMAGES = torch.rand(8, 2, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 1, 0, 1, 1, 1, 0])
WEIGHTS = torch.tensor([0.4, 1.6])


def gradients(share: Share) -> tuple[float, list[np.ndarray], list[np.ndarray]]:
    """Of a weighted loss, whose mean over the processes is not that of the batch."""
    model = network()
    loss_of = nn.CrossEntropyLoss(weight=WEIGHTS)
    with norms_over_all(model, share):
        loss = loss_of(share.wrapped(model)(IMAGES[share.own(8)]), LABELS)
        loss.backward()
    grads = []
    for p in model.parameters():
        if share.world > 1:
            torch.distributed.all_reduce(p.grad)
        grads.append(p.grad.numpy())
    assert type(model[1]) is nn.BatchNorm2d
    return loss.item(), grads, [b.numpy() for b in model.buffers()]


def in_share():
    with joined():
        share = share_of_launch()
        said = said_by_first(f"from {share.rank}")
        with drawing_apart(share, 3):
            apart = float(torch.rand(()))
        drawn = float(torch.rand(()))
        several = Outputs(IMAGES[share.own(8)], (), Points(IMAGES[share.own(8)], LABELS), None)
        whole = share.outputs(several)
        equal = torch.equal(whole.logits, IMAGES) and whole.presence is None
        return said, apart, drawn, equal, gradients(share)


def test_losses_gradients_and_batch_statistics_are_those_of_one_process():
    first, second = in_two(in_share)
    assert first[0] == second[0] == "from 0"
    assert first[1] != second[1]  # dropout differs
    assert first[2] == second[2]  # augmentation does not
    assert first[3]
    assert second[3]
    loss, grads, buffers = gradients(Share())
    for said in (first, second):
        assert said[4][0] == pytest.approx(loss, rel=1e-5)
        for ours, alone in zip(said[4][1] + said[4][2], grads + buffers, strict=True):
            np.testing.assert_allclose(ours, alone, rtol=1e-4, atol=1e-6)


class Batches:
    """Two batches an epoch, of which a process has its rows and the labels of all."""

    steps = 2

    def __init__(self) -> None:
        self.share = share_of_launch()

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        seed_epoch(0, epoch)
        for _ in range(self.steps):
            order = torch.randperm(8)
            yield IMAGES[order][self.share.own(8)], LABELS[order]

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1], weight=WEIGHTS)

    def validate(self, model: nn.Module) -> dict[str, float]:
        assert self.share.rank == 0
        return {"val_auc": float(model(IMAGES)[:, 1].mean())}


def trained_in(folder: Path) -> list[dict[str, float]]:
    settings = FitSettings(2, "sgd", 0.1, 0.01, 0.0, 0, "val_auc", average="ema")
    with joined():
        fabric = make_fabric("cpu", "32-true", together=True)
        return fit(
            network(), Batches(), settings, folder, fabric, key="k", metadata={}, what="test"
        )


def test_the_loop_of_two_processes_does_what_that_of_one_does(tmp_path):
    history = trained_in(tmp_path / "alone")
    first, second = in_two(lambda: trained_in(tmp_path / "two"))
    assert first == second
    for ours, alone in zip(first, history, strict=True):
        assert ours == pytest.approx(alone, rel=1e-4)
    for name in ("best.safetensors", "last.safetensors"):
        closely(tmp_path / "alone" / name, tmp_path / "two" / name, atol=1e-5)
    assert tree(tmp_path / "two").keys() == tree(tmp_path / "alone").keys()


class Pairs:
    """Two volumes a step, of which the last norm of `deep_network` sees two values a channel."""

    steps = 4

    def __init__(self) -> None:
        self.share = share_of_launch()

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        draws = torch.Generator().manual_seed(epoch)
        for _ in range(self.steps):
            pair = torch.randn(2, 1, 8, 8, 8, generator=draws, dtype=torch.float64)
            yield pair[self.share.own(2)], torch.tensor([0, 1])

    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1], weight=WEIGHTS.double())

    def validate(self, model: nn.Module) -> dict[str, float]:
        pair = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(7))
        return {"val_auc": float(model(pair.double())[:, 1].mean())}


def deep_network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.MaxPool3d(8),
        nn.Conv3d(4, 6, 1),
        nn.BatchNorm3d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6, 2),
    ).double()


def trained_on_pairs(folder: Path) -> list[dict[str, float]]:
    settings = FitSettings(2, "sgd", 0.05, 0.01, 0.0, 0, None)
    with joined():
        fabric = make_fabric("cpu", "32-true", together=True)
        return fit(
            deep_network(), Pairs(), settings, folder, fabric, key="k", metadata={}, what="test"
        )


def test_in_double_precision_nothing_is_left_of_the_difference(tmp_path):
    """Norms over two values enlarge rounding a hundred times a step: in single precision the
    second decimal of a loss may differ after a few steps, and a real fault would hide behind it."""
    history = trained_on_pairs(tmp_path / "alone")
    first, second = in_two(lambda: trained_on_pairs(tmp_path / "two"))
    assert first == second
    for ours, alone in zip(first, history, strict=True):
        assert ours == pytest.approx(alone, rel=1e-9)
    a, b = (load_weights(tmp_path / w / "last.safetensors")[0] for w in ("alone", "two"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-9, atol=1e-11, msg=name)


def test_batch_norms_of_a_kind_of_their_own_are_refused():
    class Odd(nn.BatchNorm2d):
        pass

    model = nn.Sequential(nn.BatchNorm2d(2), Odd(2))
    with (
        pytest.raises(ConfigError, match="cannot be trained by several"),
        norms_over_all(model, Share(0, 2)),
    ):
        pass
    assert type(model[0]) is nn.BatchNorm2d


def closely(one: Path, two: Path, atol: float = 1e-3) -> None:
    """Equal but for sums in another order, which some steps through ReLUs and norms enlarge."""
    a, b = load_weights(one)[0], load_weights(two)[0]
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=2e-3, atol=atol, msg=name)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    return write_config(folder, write_set(folder / "data", patients=8), TINY)


@pytest.fixture(scope="module")
def alone(experiment) -> Path:
    run = experiment.parent / "alone"
    assert weakseg("train-classifier", experiment, "--run-dir", run) == 0
    return run


CLASSIFIER = "classifier/resnet18/seed-0"


@pytest.mark.slow
def test_a_classifier_of_two_processes_is_that_of_one(experiment, alone):
    run = experiment.parent / "two"
    assert in_two(lambda: weakseg("train-classifier", experiment, "--run-dir", run)) == [0, 0]
    closely(alone / CLASSIFIER / "last.safetensors", run / CLASSIFIER / "last.safetensors")
    for ours, theirs in zip(
        read_rows(run / CLASSIFIER / "metrics.csv"),
        read_rows(alone / CLASSIFIER / "metrics.csv"),
        strict=True,
    ):
        assert float(ours["train_loss"]) == pytest.approx(float(theirs["train_loss"]), rel=1e-3)
        assert float(ours["val_loss"]) == pytest.approx(float(theirs["val_loss"]), rel=1e-2)
    assert tree(run).keys() == tree(alone).keys()  # no file of the second process


@contextlib.contextmanager
def broken_off_after(epoch: int, what: str = "classifier"):
    stage = import_module(f"weakseg.stages.train_{what}")
    real = getattr(stage, f"train_{what}s")

    def stop(done: int) -> None:
        if done == epoch:
            raise KeyboardInterrupt

    setattr(stage, f"train_{what}s", lambda *a, **k: real(*a, **k, after_epoch=stop))
    try:
        yield
    finally:
        setattr(stage, f"train_{what}s", real)


@pytest.mark.slow
def test_two_processes_go_on_where_one_was_broken_off(experiment, alone):
    run = experiment.parent / "resumed"
    with broken_off_after(1):
        assert weakseg("train-classifier", experiment, "--run-dir", run) == 130
    assert (run / CLASSIFIER / "resume.pt").exists()
    assert in_two(lambda: weakseg("train-classifier", experiment, "--run-dir", run)) == [0, 0]
    closely(alone / CLASSIFIER / "last.safetensors", run / CLASSIFIER / "last.safetensors")
    assert not (run / CLASSIFIER / "resume.pt").exists()


VOLUMES = """
data: {manifest: phantom, phantom: {patients: 8, slices_per_patient: 16, size: 64, volumes: true}}
segmenters:
  unet:
    arch: unet
    weights: none
    epochs: 1
    steps: 2
    optimizer: sgd
    batch_size: 2
    patch: 16
    tile: 16
    lr: 0.01
    keep: last
    validation_cases: 1
    threshold: 0.5
    min_area: 0
scores: {bootstrap: 100}
report: {gallery: 0}
"""


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_a_segmenter_of_two_processes_is_that_of_one(experiment, tmp_path, dims):
    runs = [tmp_path / "alone", tmp_path / "two"]
    if dims == 3:
        experiment = tmp_path / "volumes.yaml"
        experiment.write_text(VOLUMES)
    words = ("train-segmenter", experiment, "--run-dir")
    assert weakseg(*words, runs[0]) == 0
    assert in_two(lambda: weakseg(*words, runs[1])) == [0, 0]
    weights = [r / "segmenter/unet/seed-0/last.safetensors" for r in runs]
    closely(*weights)
    assert tree(runs[1]).keys() == tree(runs[0]).keys()


SEGMENTER = "segmenter/unet/seed-0"


@pytest.fixture(scope="module", params=[2, 3])
def segmenters(request, experiment) -> tuple[int, tuple[object, ...], Path]:
    """Axes, the command but for its run, and a run of one process, of images or of volumes."""
    folder = experiment.parent / f"{request.param}d"
    folder.mkdir()
    if request.param == 3:
        experiment = folder / "volumes.yaml"
        experiment.write_text(VOLUMES)
    words = ("train-segmenter", experiment, "--set", "segmenters.unet.epochs=2", "--run-dir")
    assert weakseg(*words, folder / "alone") == 0
    return request.param, words, folder / "alone"


def is_that_of_one(run: Path, alone: Path) -> None:
    """Weights, losses and validation figures of a training, and no file besides."""
    closely(run / SEGMENTER / "last.safetensors", alone / SEGMENTER / "last.safetensors")
    ours, theirs = (read_rows(r / SEGMENTER / "metrics.csv") for r in (run, alone))
    assert [r["epoch"] for r in ours] == [r["epoch"] for r in theirs] == ["1", "2"]
    for a, b in zip(ours, theirs, strict=True):
        assert float(a["train_loss"]) == pytest.approx(float(b["train_loss"]), rel=1e-3)
        assert float(a["val_dice"]) == pytest.approx(float(b["val_dice"]), abs=1e-2)
    assert tree(run).keys() == tree(alone).keys()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_segmenter_goes_on_with_another_number_of_processes(segmenters):
    dims, words, alone = segmenters
    run = alone.with_name("resumed")
    with broken_off_after(1, "segmenter"):
        if dims == 2:  # two began, and one goes on
            assert in_two(lambda: weakseg(*words, run)) == [130, 130]
        else:
            assert weakseg(*words, run) == 130
    assert (run / SEGMENTER / "resume.pt").exists()
    if dims == 2:
        assert weakseg(*words, run) == 0
    else:
        assert in_two(lambda: weakseg(*words, run)) == [0, 0]
    assert not (run / SEGMENTER / "resume.pt").exists()
    is_that_of_one(run, alone)


def test_other_commands_are_refused(experiment, capfd):
    refused = in_two(lambda: weakseg("compare", experiment, "--run-dir", experiment.parent / "no"))
    assert refused == [2, 2]
    assert "does not share its work between processes" in capfd.readouterr().err
    assert not (experiment.parent / "no").exists()


@pytest.mark.parametrize(
    ("precision", "asked"), [("auto", "32-true"), ("bf16-mixed", "bf16-mixed")]
)
def test_several_processes_are_asked_for_a_precision_that_lightning_knows(
    monkeypatch, precision, asked
):
    given = {}

    class Several:
        def __init__(self, **settings):
            given.update(settings)

        def launch(self):
            given["launched"] = True

    for key, value in {
        "TORCHELASTIC_RUN_ID": "x",
        "RANK": "1",
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "2",
    }.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr("lightning.fabric.Fabric", Several)
    make_fabric("cpu", precision, together=True)
    assert (given["precision"], given["devices"], given["num_nodes"]) == (asked, 2, 2)
    assert given["launched"]
