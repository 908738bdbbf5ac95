"""What is asked of class maps: decided, and of a lesion's size."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import entropy
from torch.nn import functional as F

from weakseg.config import ClassifierConfig, fingerprint, parse_config
from weakseg.data.cases import Case, Labels
from weakseg.errors import ConfigError
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.localising import ClassifierOutput
from weakseg.training.classify import ClassifierTask
from weakseg.training.map_losses import lesion_log_odds, map_entropy, map_size

LABELS = Labels(("healthy",), ("lesion",))
STILL = {"flip": False, "rotate": 0, "zoom": 0, "shift": 0, "brightness": 0, "contrast": 0}
MAPS = arrays(np.float32, (2, 3, 4), elements=st.floats(-60, 60, width=32))


def odds(*p):
    """Log-odds of some probabilities, as a map of one row."""
    return torch.logit(torch.tensor([p], dtype=torch.float64)).view(1, 1, -1)


def test_the_log_odds_are_those_of_the_softmax_summed_over_the_lesion_labels():
    places = torch.randn(2, 4, 3, 5)
    p = places.softmax(1)[:, [1, 3]].sum(1)
    torch.testing.assert_close(lesion_log_odds(places, (1, 3)).sigmoid(), p)
    # A constant that all classes share says nothing, and changes nothing.
    shifted = lesion_log_odds(places + 7, (1, 3))
    torch.testing.assert_close(shifted, lesion_log_odds(places, (1, 3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("lesion", [(), (0, 1), (5,)])
def test_a_lesion_that_leaves_nothing_else_is_refused(lesion):
    with pytest.raises(ValueError, match="lesion must name"):
        lesion_log_odds(torch.zeros(1, 2, 3, 3), lesion)


def test_the_entropy_of_a_fair_coin_is_a_bit_and_of_a_sure_thing_nothing():
    assert float(map_entropy(torch.zeros(2, 3, 3))) == pytest.approx(1)
    assert float(map_entropy(torch.tensor([[[200.0, -200.0]]]))) == 0
    # Of 1/4: 2/4 bits for the quarter, and 3/4 log2(4/3) for the rest.
    quarter = 0.5 + 0.75 * math.log2(4 / 3)
    assert float(map_entropy(odds(0.25, 0.5))) == pytest.approx((quarter + 1) / 2)


@given(MAPS)
def test_the_entropy_is_scipys(z):
    p = 1 / (1 + np.exp(-z.astype(np.float64)))
    q = 1 / (1 + np.exp(z.astype(np.float64)))
    assert float(map_entropy(torch.from_numpy(z))) == pytest.approx(
        entropy([p, q], base=2).mean(), abs=1e-5
    )


@given(MAPS)
def test_less_entropy_means_away_from_the_middle_and_every_gradient_is_finite(z):
    held = torch.from_numpy(z).requires_grad_(True)
    map_entropy(held).backward()
    assert torch.isfinite(held.grad).all()
    # A step down the gradient takes a lesion's places up and the others down. Not asked of places
    # that are rounding errors from the middle, or so sure that nothing is left to gain.
    clear = (held.abs() > 1e-3) & (held.abs() < 10)
    assert (held.grad * held.detach())[clear].lt(0).all()


def test_the_size_is_the_squared_distance_from_the_bounds():
    ill, well = torch.tensor([True]), torch.tensor([False])
    small, middling, large = odds(0.0, 0.02), odds(0.1, 0.3), odds(0.5, 0.9)
    assert float(map_size(large, ill, (0.05, 0.3))) == pytest.approx(0.4**2)
    assert float(map_size(middling, ill, (0.05, 0.3))) == 0
    assert float(map_size(small, ill, (0.05, 0.3))) == pytest.approx(0.04**2)
    assert float(map_size(small, ill, (0.0, 0.3))) == 0
    assert float(map_size(middling, well, (0.05, 0.3))) == pytest.approx(0.2**2)
    both = map_size(torch.cat([large, middling]), torch.cat([ill, well]), (0.05, 0.3))
    assert float(both) == pytest.approx((0.4**2 + 0.2**2) / 2)


@pytest.mark.parametrize(
    ("p", "ill", "direction"),
    [(0.8, True, 1), (0.2, True, 0), (0.01, True, -1), (0.01, False, 1), (0.8, False, 1)],
)
def test_the_size_pulls_the_area_towards_its_bounds(p, ill, direction):
    z = torch.logit(torch.full((1, 4, 4), p)).requires_grad_(True)
    map_size(z, torch.tensor([ill]), (0.05, 0.3)).backward()
    assert (z.grad.sign() == direction).all()


def spots(n=16, side=48):
    """Noise, every second image with a bright disc, and their labels."""
    rng = np.random.default_rng(3)
    planes = rng.uniform(0, 0.3, (n, 1, side, side)).astype(np.float32)
    y, x = np.mgrid[:side, :side]
    for k in range(0, n, 2):
        cy, cx = rng.integers(10, side - 10, 2)
        planes[k, 0, (y - cy) ** 2 + (x - cx) ** 2 < 64] += 0.6
    return torch.from_numpy(planes), [LABELS.names[k % 2 == 0] for k in range(n)]


class Spots:
    def __init__(self):
        self.planes, labels = spots()
        self.cases = [Case(str(i), None, label) for i, label in enumerate(labels)]

    def images(self, indices):
        return self.planes[torch.as_tensor(np.asarray(indices))]


def task(**more):
    config = ClassifierConfig.model_validate({"batch_size": 8, "augment": STILL, **more})
    data = Spots()
    n = len(data.cases)
    return ClassifierTask(config, LABELS, data, range(n), range(n), 0, "cpu")


def trained_maps(**more):
    """Log-odds of lesion of the training images, lesions' and others', after a short training."""
    torch.manual_seed(0)
    t = task(pool="lse", **more)
    spec = ClassifierSpec("squeezenet1_1", LABELS.names, 1, pool="lse")
    model = build_classifier(spec).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for epoch in range(6):
        for batch in t.batches(epoch):
            optimizer.zero_grad()
            t.loss(model, batch).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        places = model(t.images.planes, parts=True).places
    z = lesion_log_odds(places, LABELS.lesion_indices)
    return z[0::2], z[1::2]


@pytest.fixture(scope="module")
def free():
    return trained_maps()


def test_a_higher_weight_makes_maps_more_decided(free):
    entropies = [map_entropy(torch.cat(free))]
    entropies += [map_entropy(torch.cat(trained_maps(map_entropy=w))) for w in (0.5, 5.0)]
    assert entropies[0] > entropies[1] > entropies[2]


def test_a_higher_weight_makes_maps_smaller_where_they_are_too_large(free):
    found = [free, *[trained_maps(map_size=w, map_area=[0.0, 0.1]) for w in (2.0, 50.0)]]
    ill = [float(z.sigmoid().mean()) for z, _ in found]
    well = [float(z.sigmoid().mean()) for _, z in found]
    assert ill[0] > ill[1] > ill[2]
    assert well[0] > well[1] > well[2]


def test_the_task_adds_both_to_its_loss_with_their_weights():
    places, logits, y = torch.randn(4, 2, 5, 6), torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    said = ClassifierOutput(logits, [], places)
    loss = task(pool="lse", map_entropy=0.5, map_size=3, map_area=[0.6, 0.7]).loss(
        lambda _x, parts: said, (None, y)
    )
    plain = task().loss(lambda _x: logits, (None, y))
    p = places.softmax(1)[:, 1]
    bits = F.binary_cross_entropy(p, p) / math.log(2)
    share = p.mean((1, 2))
    outside = torch.where(y == 1, (0.6 - share).relu() + (share - 0.7).relu(), share)
    torch.testing.assert_close(loss, plain + 0.5 * bits + 3 * (outside**2).mean())


@pytest.mark.parametrize("change", [{"map_entropy": 0.1}, {"map_size": 0.1}])
def test_a_weight_changes_the_fingerprint_and_needs_a_pool(change):
    held = ClassifierConfig(pool="lse", **change).fingerprint_settings()
    assert fingerprint(held) != fingerprint(ClassifierConfig(pool="lse").fingerprint_settings())
    (key,) = change
    with pytest.raises(ConfigError, match=f"classifier.{key}"):
        parse_config({"classifier": change})


def test_bounds_count_where_they_have_a_weight():
    bounds = {"pool": "lse", "map_area": (0.1, 0.2)}
    assert (
        ClassifierConfig(**bounds).fingerprint_settings()
        == ClassifierConfig(pool="lse").fingerprint_settings()
    )
    weighed = ClassifierConfig(**bounds, map_size=1.0).fingerprint_settings()
    assert weighed != ClassifierConfig(pool="lse", map_size=1.0).fingerprint_settings()


@pytest.mark.parametrize(
    "area", [[0.3, 0.1], [0.2, 0.2], [-0.1, 0.3], [0.1, 1.5], [0.1], [0, 0.1, 0.2], 0.3, "half"]
)
def test_bounds_that_are_none_are_refused_by_their_key(area):
    with pytest.raises(ConfigError, match=r"classifier\.map_area"):
        parse_config({"classifier": {"pool": "lse", "map_size": 1, "map_area": area}})
