"""Optimisers, schedules, penalties and averages of weights, held against plain formulas."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.test_loop import Killed, Line, network
from weakseg.layout import BEST, LAST
from weakseg.training.loop import FitSettings, fit, make_fabric
from weakseg.training.optimizers import (
    HALVINGS,
    NesterovRMSprop,
    WeightAverage,
    add_penalty_gradients,
    learning_rate,
    make_optimizer,
)
from weakseg.training.weights import load_weights

# --- the optimiser of DeepMedic


def released_update(weights, gradients, lr, rho=0.9, eps=1e-4, mu=0.6):
    """The update of the released software, a weight at a time, in plain numbers."""
    w, a, v = weights.copy(), np.zeros_like(weights), np.zeros_like(weights)
    for g in gradients:
        a = rho * a + (1 - rho) * g**2
        s = lr * g / np.sqrt(a + eps)
        v = mu * v - s
        w = w + mu * v - s
    return w


def test_nesterov_rmsprop_is_the_released_update():
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(3, 4)), rng.normal(size=5)]
    gradients = [[rng.normal(size=w.shape) * 10.0**k for w in weights] for k in (0, -2, -4, 1, 0)]
    params = [nn.Parameter(torch.from_numpy(w.copy())) for w in weights]
    optimizer = NesterovRMSprop(params, lr=0.01)
    for step in gradients:
        for p, g in zip(params, step, strict=True):
            p.grad = torch.from_numpy(g.copy())
        optimizer.step()
    for i, p in enumerate(params):
        expected = released_update(weights[i], [g[i] for g in gradients], 0.01)
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-12)


def test_its_defaults_are_deepmedics():
    group = NesterovRMSprop([nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert {k: group[k] for k in ("lr", "rho", "eps", "momentum")} == {
        "lr": 1e-3,
        "rho": 0.9,
        "eps": 1e-4,
        "momentum": 0.6,
    }


def test_it_is_not_what_torch_calls_rmsprop():
    g = np.array([3.0])
    plain = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    other = torch.optim.RMSprop([plain], lr=0.01, alpha=0.9, eps=1e-4, momentum=0.6)
    for _ in range(3):
        plain.grad = torch.from_numpy(g.copy())
        other.step()
    assert float(plain.detach()) != pytest.approx(
        float(released_update(np.zeros(1), [g] * 3, 0.01)[0])
    )


def test_parameters_without_a_gradient_stay_and_remember_nothing():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = NesterovRMSprop([used, unused])
    used.grad = torch.ones(2)
    optimizer.step()
    assert (used < 1).all()
    assert torch.equal(unused.detach(), torch.ones(2))
    assert unused not in optimizer.state
    unused.grad = torch.zeros(2)
    optimizer.step()
    assert torch.equal(unused.detach(), torch.ones(2))


def test_a_closure_is_evaluated_and_its_loss_returned():
    p = nn.Parameter(torch.tensor([2.0]))
    optimizer = NesterovRMSprop([p])

    def closure():
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4
    assert float(p.detach()) < 2


@pytest.mark.parametrize("name", ["rmsprop", "sgd", "adamw"])
def test_state_goes_round(name):
    def trained(steps, model, optimizer):
        for i in range(steps):
            optimizer.zero_grad()
            x = torch.full((2, 1), float(i % 3))
            ((model(x) - 1) ** 2).sum().backward()
            optimizer.step()

    model = network().eval()
    optimizer = make_optimizer(model, name, 0.01, 0.1)
    trained(3, model, optimizer)
    again = copy.deepcopy(model)
    other = make_optimizer(again, name, 0.5, 0.1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    trained(3, model, optimizer)
    trained(3, again, other)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_biases_and_normalisation_are_not_decayed(name):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    decay = {
        id(p): group["weight_decay"]
        for group in make_optimizer(model, name, 0.1, 0.3).param_groups
        for p in group["params"]
    }
    assert decay[id(model[0].weight)] == 0.3
    for p in (model[0].bias, model[1].weight, model[1].bias):
        assert decay[id(p)] == 0


@pytest.mark.parametrize("name", ["rmsprop", "sgd", "adamw"])
def test_frozen_parameters_are_left_out_and_the_rest_is_there_once(name):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.PReLU(2))
    model[0].weight.requires_grad_(False)
    groups = make_optimizer(model, name, 0.1, 0.0).param_groups
    held = [id(p) for g in groups for p in g["params"]]
    assert sorted(held) == sorted([id(model[0].bias), id(model[1].weight)])


# --- schedules


def test_halving_is_after_deepmedics_epochs():
    """35 epochs: halved once 17, 22, 27, 30 and 33 of them are done."""
    per_epoch = 2000
    for epoch in range(35):
        expected = 0.5 ** sum(epoch >= e for e in (17, 22, 27, 30, 33))
        for step in (0, per_epoch - 1):
            found = learning_rate(epoch * per_epoch + step, 35 * per_epoch, 0.05, "halving")
            assert found == expected, epoch
    assert len(HALVINGS) == 5


@pytest.mark.parametrize("per_epoch", [1, 3, 7, 20])
def test_halving_meets_the_first_step_of_an_epoch_exactly(per_epoch):
    for k, epoch in enumerate((17, 22, 27, 30, 33)):
        step = epoch * per_epoch
        assert learning_rate(step - 1, 35 * per_epoch, 0, "halving") == 0.5**k
        assert learning_rate(step, 35 * per_epoch, 0, "halving") == 0.5 ** (k + 1)


def test_poly_is_constant_for_a_third_and_then_falls_by_its_power_to_zero():
    rates = [learning_rate(s, 300, 0.05, "poly") for s in range(301)]
    assert rates[:101] == [1.0] * 101
    assert rates[200] == pytest.approx(0.5**0.9)
    assert rates[250] == pytest.approx(0.25**0.9)
    assert rates[300] == 0
    assert all(a > b for a, b in zip(rates[100:], rates[101:], strict=False))


def test_constant_is():
    assert {learning_rate(s, 10, 0.5, "constant") for s in range(11)} == {1.0}


def test_cosine_is_a_cosine_after_its_rise():
    rates = [learning_rate(s, 100, 0.2) for s in range(101)]
    np.testing.assert_allclose(rates[:20], np.arange(1, 21) / 20)
    np.testing.assert_allclose(
        rates[20:], 0.5 * (1 + np.cos(np.pi * np.arange(81) / 80)), atol=1e-9
    )


# --- penalties


class EveryKind(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)
        self.up, self.out = nn.ConvTranspose2d(3, 2, 2, stride=2), nn.Linear(2, 1)
        self.volume = nn.Conv3d(1, 1, 1)

    def forward(self, x):
        x = self.up(self.norm(self.conv(x)))
        return self.out(x.mean((2, 3))) + self.volume(x[:, :1, None]).mean()


def test_penalty_gradients_are_those_of_the_penalised_loss():
    torch.manual_seed(0)
    model, l1, l2 = EveryKind().double(), 0.03, 0.2
    penalised = copy.deepcopy(model)
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    model(x).pow(2).sum().backward()
    add_penalty_gradients(model, l1, l2)
    kernels = [m.weight for m in penalised.modules() if hasattr(m, "weight") and m.weight.ndim > 1]
    assert len(kernels) == 4
    penalty = sum(l1 * w.abs().sum() + l2 * w.pow(2).sum() for w in kernels)
    (penalised(x).pow(2).sum() + penalty).backward()
    for (name, a), b in zip(model.named_parameters(), penalised.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_no_penalty_leaves_gradients_alone_and_unused_weights_without():
    model = EveryKind()
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    add_penalty_gradients(model, 0.0, 0.0)
    assert (model.conv.weight.grad == 1).all()
    add_penalty_gradients(model, 0.1, 0.1)
    assert model.up.weight.grad is None


# --- averages


def stepped(values, kind, decay=0.9, begins=0):
    """The average of one weight and one running mean that take these values in turn."""
    model = nn.BatchNorm1d(1)
    average = WeightAverage(model, kind, decay, begins)
    seen = []
    for value in values:
        with torch.no_grad():
            model.weight.fill_(value)
            model.running_mean.fill_(10 * value)
        average.update(model)
        held = average.model
        assert float(held.running_mean) == pytest.approx(10 * float(held.weight.detach()), rel=1e-5)
        seen.append(float(held.weight.detach()))
    return seen


def test_ema_by_hand_its_decay_rises():
    values = [3.0, -1.0, 4.0, 1.0, 5.0]
    expected, mean = [], 0.0
    for t, value in enumerate(values):
        # The first is copied; then (1 + t) / (10 + t), which stays below the highest.
        decay = 0.0 if t == 0 else min(0.9, (1 + t) / (10 + t))
        mean = decay * mean + (1 - decay) * value
        expected.append(mean)
    np.testing.assert_allclose(stepped(values, "ema"), expected, rtol=1e-5)


def test_ema_reaches_its_highest_decay():
    # (1 + t) / (10 + t) passes 0.5 at t = 8.
    seen = stepped([0.0] * 20 + [1.0, 1.0], "ema", decay=0.5)
    assert seen[-2:] == [0.5, 0.75]


@pytest.mark.parametrize("begins", [0, 2, 4])
def test_swa_is_the_plain_mean_from_its_begin_on(begins):
    values = [3.0, -1.0, 4.0, 1.0, 5.0, -9.0]
    expected = [
        value if t < begins else np.mean(values[begins : t + 1]) for t, value in enumerate(values)
    ]
    np.testing.assert_allclose(stepped(values, "swa", begins=begins), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_an_average_goes_round_a_checkpoint(kind, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))

    def walk(average, model, steps):
        for _ in range(steps):
            with torch.no_grad():
                for p in model.parameters():
                    p.mul_(0.9).add_(0.3)
                model(torch.ones(4, 2))
            average.update(model)

    average = WeightAverage(model, kind, 0.9, 2)
    walk(average, model, 4)
    torch.save(average.state_dict(), tmp_path / "average.pt")
    resumed_model = copy.deepcopy(model)
    resumed = WeightAverage(resumed_model, kind, 0.9, 2)
    resumed.load_state_dict(torch.load(tmp_path / "average.pt", weights_only=True))
    walk(average, model, 3)
    walk(resumed, resumed_model, 3)
    assert resumed.steps == 7
    ours, theirs = average.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


# --- in the loop


def run(folder, after_epoch=None, task=None, **settings):
    chosen = FitSettings(
        5, settings.pop("optimizer", "adamw"), 0.01, 0.01, 0.1, 0, "val_auc", **settings
    )
    model = network()
    history = fit(
        model,
        task or Line(),
        chosen,
        folder,
        make_fabric("cpu", "auto"),
        key="k",
        metadata={},
        what="test",
        after_epoch=after_epoch,
    )
    return model, history


@pytest.mark.thorough
@pytest.mark.parametrize(
    "settings",
    [
        {"average": "ema", "ema_decay": 0.8},
        {"average": "swa", "swa_start": 0.3},
        {"average": "swa", "swa_start": 0.7, "optimizer": "sgd"},
        {"optimizer": "rmsprop", "l1": 1e-3, "l2": 1e-2, "schedule": "halving"},
        {"optimizer": "rmsprop", "l2": 1e-2, "schedule": "poly", "average": "ema"},
    ],
    ids=lambda s: "-".join(str(v) for v in s.values()),
)
@pytest.mark.parametrize("after", [1, 3])
def test_a_killed_run_ends_where_an_unbroken_one_does(tmp_path, settings, after):
    def kill(epoch):
        if epoch == after:
            raise Killed

    whole, history = run(tmp_path / "whole", **settings)
    with pytest.raises(Killed):
        run(tmp_path / "broken", after_epoch=kill, **settings)
    torch.manual_seed(99)
    again, history_again = run(tmp_path / "broken", **settings)
    assert history_again == history
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    for name in (BEST, LAST):
        (a, meta), (b, meta_again) = (
            load_weights(tmp_path / f / name) for f in ("whole", "broken")
        )
        assert meta == meta_again
        assert all(torch.equal(a[k], b[k]) for k in a)


class Watched(Line):
    """Notes the weights after every step, and those that are validated."""

    def __init__(self):
        super().__init__()
        self.model, self.validated = None, None
        self.weights = []

    def loss(self, model, batch):
        # Called before each step: the weights that the step before has left.
        self.model = model
        self.weights.append(model.module[0].weight.detach().clone())
        return super().loss(model, batch)

    def validate(self, model):
        self.validated = model[0].weight.detach().clone()
        return super().validate(model)


def test_what_is_validated_and_saved_is_the_average_and_what_is_trained_is_not(tmp_path):
    task = Watched()
    model, _ = run(tmp_path, task=task, average="swa", swa_start=0.5)
    after_each = [*task.weights[1:], model[0].weight.detach()]
    assert len(after_each) == 20
    mean = torch.stack(after_each[10:]).mean(0)
    torch.testing.assert_close(task.validated, mean)
    saved, _ = load_weights(tmp_path / LAST)
    torch.testing.assert_close(saved["0.weight"], mean)
    assert not torch.allclose(model[0].weight, mean)


def test_a_penalty_shrinks_the_weights(tmp_path):
    free, _ = run(tmp_path / "free")
    held, _ = run(tmp_path / "held", l1=0.05, l2=0.5)
    assert held[0].weight.abs().sum() < free[0].weight.abs().sum()
