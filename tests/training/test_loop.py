"""The training loop: learns, resumes exactly, keeps the best."""

import csv
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F

from weakseg.errors import ConfigError, RunError, UserError
from weakseg.layout import BEST, LAST, METRICS, RESUME
from weakseg.progress import progress
from weakseg.training import checkpoints, loop
from weakseg.training.loop import (
    FitSettings,
    epoch_note,
    fit,
    in_precision,
    learning_rate,
    make_fabric,
    pick_device,
    require_finite,
    seed_epoch,
)
from weakseg.training.selection import best_epoch
from weakseg.training.weights import load_weights, save_weights, second_name


class Line:
    """Fit y = 2x - 1 with noise; the validation figure is told beforehand where a test needs it."""

    steps = 4

    def __init__(self, seed=0, figures=None, broken=None, losses=None):
        self.seed, self.figures, self.broken, self.calls = seed, figures, broken, 0
        self.losses = losses

    def batches(self, epoch):
        g = seed_epoch(self.seed, epoch)
        for _ in range(self.steps):
            x = torch.rand(8, 1, generator=g)
            yield x, 2 * x - 1 + 0.01 * torch.randn(8, 1)

    def loss(self, model, batch):
        x, y = batch
        loss = F.mse_loss(model(x), y)
        return loss * self.broken if self.broken is not None else loss

    def validate(self, model):
        self.calls += 1
        if self.figures is not None:
            told = {"val_auc": self.figures}
            if self.losses is not None:
                told["val_loss"] = self.losses
            return {k: float(v[self.calls - 1]) for k, v in told.items()}
        x = torch.linspace(0, 1, 20)[:, None]
        return {"val_auc": -float(F.mse_loss(model(x), 2 * x - 1))}


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 1))


def run(folder, task, epochs=6, key="k", model=None, compiled=False, **more):
    model = model or network()
    settings = FitSettings(epochs, "adamw", 0.03, 0.01, 0.1, 0, "val_auc", compile=compiled)
    fabric = make_fabric("cpu", "auto")
    history = fit(
        model, task, settings, folder, fabric, key=key, metadata={"a": "b"}, what="test", **more
    )
    return model, history


def test_it_learns(tmp_path):
    _, history = run(tmp_path, Line(), epochs=60)
    assert history[-1]["train_loss"] < 0.2 * history[0]["train_loss"]


def compile_quickly(monkeypatch):
    """Let torch.compile trace networks but make no code of them; the networks come in a list."""
    import lightning.fabric  # noqa: F401  (puts its own function in torch.compile's place)

    compile_, calls = torch.compile, []

    def eager(model, **more):
        calls.append(model)
        return compile_(model, **(more | {"backend": "eager"}))

    monkeypatch.setattr(torch, "compile", eager)
    return calls


def test_a_compiled_network_is_saved_as_itself(tmp_path, monkeypatch):
    calls = compile_quickly(monkeypatch)
    model, history = run(tmp_path / "compiled", Line(), compiled=True)
    assert calls
    plain, expected = run(tmp_path / "plain", Line())
    assert [h["train_loss"] for h in history] == pytest.approx([h["train_loss"] for h in expected])
    state, _ = load_weights(tmp_path / "compiled" / BEST)
    assert list(state) == list(load_weights(tmp_path / "plain" / BEST)[0])
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_without_a_compiler_nothing_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ConfigError, match=r"C\+\+ compiler(.|\n)*compile of test"):
        run(tmp_path, Line(), compiled=True)


class Killed(Exception):
    pass


@pytest.mark.parametrize("share", [0, 1e9], ids=["seldom", "always"])
@pytest.mark.parametrize("after", [1, 4])
def test_a_killed_run_ends_where_an_unbroken_one_does(tmp_path, monkeypatch, after, share):
    monkeypatch.setattr(checkpoints, "SHARE", share)
    whole, history = run(tmp_path / "whole", Line())

    def kill(epoch):
        if epoch == after:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "broken", Line(), after_epoch=kill)
    torch.manual_seed(99)
    again, history_again = run(tmp_path / "broken", Line(), model=network())
    assert history_again == history
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    for name in (BEST, LAST):
        (state, meta), (state_again, meta_again) = (
            load_weights(tmp_path / folder / name) for folder in ("whole", "broken")
        )
        assert meta == meta_again
        assert all(torch.equal(state[k], state_again[k]) for k in state)
    assert (tmp_path / "whole" / METRICS).read_text() == (tmp_path / "broken" / METRICS).read_text()


def test_steps_of_an_earlier_command_are_told_as_done(tmp_path, monkeypatch):
    told = []

    def watched(what, total, done=0):
        told.append((total, done))
        return progress(what, total, done)

    monkeypatch.setattr(loop, "progress", watched)

    def kill(epoch):
        raise Killed

    with pytest.raises(Killed):
        run(tmp_path, Line(), after_epoch=kill)
    run(tmp_path, Line())
    assert told == [(6 * Line.steps, 0), (6 * Line.steps, Line.steps)]


def test_a_finished_run_is_not_trained_further(tmp_path):
    first, _ = run(tmp_path, Line())
    task = Line()
    second, _ = run(tmp_path, task)
    assert task.calls == 0
    assert torch.equal(first[0].weight, second[0].weight)


def test_a_checkpoint_of_other_settings_is_not_resumed(tmp_path):
    run(tmp_path, Line(), key="k1")
    task = Line()
    run(tmp_path, task, key="k2")
    assert task.calls == 6


@pytest.mark.parametrize("content", [b"no checkpoint", b"", b"PK\x03\x04"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    run(tmp_path, Line())
    (tmp_path / RESUME).write_bytes(content)
    with pytest.raises(RunError, match=r"damaged(.|\n)*resume\.pt(.|\n)*delete"):
        run(tmp_path, Line())


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    tmp_path.joinpath("x").mkdir()
    torch.save({"key": "k", "model": Evil()}, tmp_path / "x" / RESUME)
    with pytest.raises(RunError, match="damaged"):
        run(tmp_path / "x", Line())
    assert not (tmp_path / "owned").exists()


def test_files_that_are_seldom_written_belong_together(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SHARE", 0)

    def kill(epoch):
        if epoch == 3:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, Line(), after_epoch=kill)
    done = len(torch.load(tmp_path / RESUME, weights_only=True)["history"])
    assert {load_weights(tmp_path / name)[1]["epoch"] for name in (BEST, LAST)} == {str(done)}
    assert done == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_training_killed_while_it_writes_keeps_the_best_weights(tmp_path, monkeypatch, moment):
    """On a device that repeats no epoch exactly: epoch 3 is the best, but not the second time."""
    save = checkpoints.Training.save
    monkeypatch.setattr(checkpoints, "SHARE", 1e9)

    def killed(self, *a):
        if len(self.history) == 3:
            if moment == "after":
                save(self, *a)
            raise Killed
        save(self, *a)

    with monkeypatch.context() as once:
        once.setattr(checkpoints.Training, "save", killed)
        with pytest.raises(Killed):
            run(tmp_path, Line(figures=[0.5, 0.7, 0.9]), epochs=4)
    _, history = run(tmp_path, Line(figures=[0.6, 0.6]), epochs=4)
    figures, best = {"before": ([0.5, 0.7, 0.6, 0.6], 2), "after": ([0.5, 0.7, 0.9, 0.6], 3)}[
        moment
    ]
    assert [h["val_auc"] for h in history] == figures
    assert load_weights(tmp_path / BEST)[1]["epoch"] == str(best)
    assert not (tmp_path / checkpoints.NEXT_BEST).exists()


def test_what_takes_long_to_write_is_written_seldom(tmp_path, monkeypatch):
    now = iter(range(10**6))  # a second for every look at the clock: a write takes one
    monkeypatch.setattr(checkpoints, "monotonic", lambda: float(next(now)))
    written = []
    save = checkpoints.Training.save
    monkeypatch.setattr(
        checkpoints.Training,
        "save",
        lambda self, *a: (written.append(len(self.history)), save(self, *a)),
    )
    run(tmp_path, Line(), epochs=60)
    # 50 epochs after the first one they took 50 times as long as a write.
    assert written == [1, 51, 60]


@pytest.mark.parametrize("share", [0, 1e9], ids=["seldom", "always"])
@pytest.mark.parametrize(
    ("figures", "losses", "best"),
    [
        ([0.5, 0.9, math.nan, 0.9, 0.7, 0.6], [1, 2, 0, 1, 0, 0], 4),  # the tie by its loss
        ([0.5, 0.9, math.nan, 0.9, 0.7, 0.6], [1, 1, 0, 1, 0, 0], 2),  # no loss parts it: first
        ([1.0] * 6, [5, 4, 3, 1, 2, 3], 4),  # saturated
        ([math.nan] * 6, [5, 4, 1, 3, 2, 2], 3),  # undefined throughout
    ],
)
def test_of_equal_epochs_that_of_the_lower_loss_is_kept(
    tmp_path, monkeypatch, figures, losses, best, share
):
    monkeypatch.setattr(checkpoints, "SHARE", share)
    _, history = run(tmp_path, Line(figures=figures, losses=losses))
    assert load_weights(tmp_path / BEST)[1] == {"a": "b", "epoch": str(best)}
    assert load_weights(tmp_path / LAST)[1]["epoch"] == "6"
    assert best_epoch(history, "val_auc").epoch == best


@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_a_killed_run_chooses_between_equal_epochs_as_an_unbroken_one(tmp_path, after):
    figures, losses = [1.0] * 6, [5, 4, 1, 3, 2, 2]

    def kill(epoch):
        if epoch == after:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, Line(figures=figures, losses=losses), after_epoch=kill)
    done = len(torch.load(tmp_path / RESUME, weights_only=True)["history"])
    run(tmp_path, Line(figures=figures[done:], losses=losses[done:]))
    assert load_weights(tmp_path / BEST)[1]["epoch"] == "3"


def test_metrics_have_a_line_an_epoch(tmp_path):
    run(tmp_path, Line())
    with (tmp_path / METRICS).open() as f:
        rows = list(csv.DictReader(f))
    assert [r["epoch"] for r in rows] == list("123456")
    assert set(rows[0]) == {"epoch", "lr", "train_loss", "val_auc"}


def test_a_loss_that_is_no_number_ends_with_advice(tmp_path):
    with pytest.raises(UserError, match=r"became nan in epoch 1(.|\n)*lower the learning rate"):
        run(tmp_path, Line(broken=float("nan")))


class Cliff(Line):
    """Each loss is finite, but the step after it makes every weight nan."""

    steps = 1

    def loss(self, model, batch):
        loss = super().loss(model, batch)
        return loss + (loss - loss.detach()).sqrt()  # 0, of infinite slope

    def validate(self, model):
        pytest.fail("a network that is lost was validated")


def test_weights_that_the_last_step_of_an_epoch_breaks_end_with_advice(tmp_path):
    with pytest.raises(UserError, match=r"weights became(.|\n)*epoch 1(.|\n)*lower the learning"):
        run(tmp_path, Cliff(), epochs=1)
    assert not (tmp_path / LAST).exists()


class Speechless(Line):
    def validate(self, model):
        require_finite(np.array([0.5, np.nan]))


def test_probabilities_that_are_no_numbers_end_with_advice(tmp_path):
    with pytest.raises(UserError, match=r"became nan in epoch 1(.|\n)*lower the learning rate"):
        run(tmp_path, Speechless())


def test_the_rate_rises_then_falls_to_zero():
    rates = [learning_rate(s, 100, 0.2) for s in range(100)]
    assert rates[19] == 1
    assert all(a < b for a, b in zip(rates[:19], rates[1:20], strict=True))
    assert all(a >= b for a, b in zip(rates[19:], rates[20:], strict=False))
    assert rates[-1] < 0.01
    assert rates[60] == pytest.approx(0.5)


def test_weights_go_round(tmp_path):
    model = network()
    save_weights(tmp_path / "w.safetensors", model, {"x": "y"})
    state, meta = load_weights(tmp_path / "w.safetensors")
    assert meta == {"x": "y"}
    assert torch.equal(state["0.weight"], model[0].weight)


def test_a_second_name_that_is_there_already_leaves_no_rest(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("old")
    for _ in range(2):
        second_name(first, second)
        assert second.samefile(first)
    first.unlink()
    first.write_text("new")
    second_name(first, second)
    assert second.read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


META = {
    k: f'{k}: "é\\n肿瘤"'
    for k in ("format", "arch", "labels", "channels", "size", "epoch", "a", "b")
}


class Mixed(nn.Module):
    """Tensors of several types and of odd sizes."""

    def __init__(self):
        super().__init__()
        for k, dtype in enumerate((torch.float32, torch.float16, torch.bool, torch.int64)):
            self.register_buffer(f"t{k}", torch.arange(5 - k).to(dtype))
        self.register_buffer("scalar", torch.tensor(3.0))


def test_equal_weights_are_equal_bytes_in_every_process(tmp_path):
    """The library's own header has its metadata in another order each time."""
    here, there = tmp_path / "here.safetensors", tmp_path / "there.safetensors"
    save_weights(here, Mixed(), META)
    code = (
        "from tests.training.test_loop import META, Mixed, save_weights; from pathlib import Path;"
        f"save_weights(Path({str(there)!r}), Mixed(), dict(reversed(META.items())))"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
    assert here.read_bytes() == there.read_bytes()
    save_weights(there, Mixed(), META | {"epoch": "2"})
    assert here.read_bytes() != there.read_bytes()


@pytest.mark.parametrize("meta", [META, {"x": "y"}, {}])
def test_the_header_is_as_the_format_wants_it_and_the_library_reads_all_of_it(tmp_path, meta):
    path = tmp_path / "w.safetensors"
    save_weights(path, Mixed(), meta)
    length = int.from_bytes(path.read_bytes()[:8], "little")
    assert length % 8 == 0
    assert path.read_bytes()[8:9] == b"{"
    state = Mixed().state_dict()
    with safe_open(path, framework="pt") as f:
        assert (f.metadata() or {}) == meta
        assert set(f.keys()) == set(state)
        for name, tensor in state.items():
            assert f.get_tensor(name).dtype == tensor.dtype
            assert torch.equal(f.get_tensor(name), tensor)


def test_weights_that_are_no_safetensors_are_refused(tmp_path):
    torch.save({}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="not safetensors"):
        load_weights(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="does not exist"):
        load_weights(tmp_path / "none.safetensors")


@pytest.mark.parametrize("device", ["cuda:97", "mps"])
def test_a_device_that_is_not_there_is_refused(device):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(ConfigError, match="not there"):
        pick_device(device)


@pytest.mark.parametrize("precision", ["auto", "32-true", "bf16-mixed"])
def test_trained_networks_are_asked_in_the_precision_of_fabric(precision):
    net, image = nn.Conv2d(1, 2, 3), torch.rand(1, 1, 8, 8)
    found = []
    for asked in (make_fabric("cpu", precision).autocast(), in_precision("cpu", precision)):
        with torch.no_grad(), asked:
            found.append((net(image), torch.is_autocast_enabled("cpu")))
    assert found[0][1] == found[1][1] == (precision == "bf16-mixed")
    assert found[0][0].dtype == found[1][0].dtype
    assert torch.equal(found[0][0], found[1][0])


def test_figures_that_an_epoch_does_not_have_are_not_told():
    figures = {"loss": 1.25, "val_dice": math.nan, "val_loss": 0.5}
    assert epoch_note(3, figures) == "epoch 3: loss 1.250, val_loss 0.500"
