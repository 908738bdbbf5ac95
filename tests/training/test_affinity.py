"""What the small network of affinities learns: its loss by hand, and a planted texture."""

import numpy as np
import pytest
import torch

from weakseg.masks.rules.affinity import BACKGROUND, LESION, OPEN, affinity_mask, confident
from weakseg.masks.thresholds import normalise
from weakseg.scores import dice
from weakseg.training.affinity import affinity_loss, train_affinity


def test_the_loss_by_hand():
    features = torch.tensor([[[[0.0, 0.5, 2.0, 9.0]]]])
    labels = torch.tensor([[[LESION, LESION, BACKGROUND, OPEN]]], dtype=torch.uint8)
    # One pair of lesion at 0.5, one mixed pair at 1.5, and one with an open pixel.
    expected = 0.25 * 0.5 + 0.5 * -np.log(1 + 1e-5 - np.exp(-1.5))
    assert float(affinity_loss(features, labels, [(0, 1)])) == pytest.approx(expected, rel=1e-5)


def test_a_loss_without_pairs_is_zero_and_has_a_gradient():
    features = torch.rand(1, 2, 3, 3, requires_grad=True)
    loss = affinity_loss(features, torch.full((1, 3, 3), OPEN, dtype=torch.uint8), [(0, 1)])
    loss.backward()
    assert loss.item() == 0
    assert not features.grad.any()


def discs(n=24, side=32, seed=0):
    """Striped discs on noise of the same mean, and heat on half of each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    images, heats, truths = [], [], []
    for _ in range(n):
        cy, cx = rng.integers(11, 21, 2)
        truth = (y - cy) ** 2 + (x - cx) ** 2 < 8**2
        stripes = 0.5 + 0.3 * np.sign(np.sin(np.pi * y + 0.5))
        image = np.where(truth, stripes, 0.5) + rng.normal(0, 0.03, truth.shape)
        side_of = rng.choice([-4, 4])
        heats.append(np.exp(-((y - cy) ** 2 + (x - cx - side_of) ** 2) / (2 * 5.0**2)))
        images.append(image.astype(np.float32)[None])
        truths.append(truth)
    return np.stack(images), heats, truths


def labels_of(heats, high=0.5, low=0.12):
    return np.stack([confident(h, h.shape, high=high, low=low) for h in heats])


def test_heat_on_half_of_a_texture_fills_it():
    images, heats, _ = discs()
    before = torch.random.get_rng_state()
    net = train_affinity(images, labels_of(heats), radius=6, epochs=15, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    new, hot, true = discs(8, seed=9)
    with torch.no_grad():
        features = net(torch.from_numpy(new)).numpy().transpose(0, 2, 3, 1)
    plain = np.mean([dice(normalise(h) > 0.5, t) for h, t in zip(hot, true, strict=True)])
    walk = np.mean(
        [
            dice(affinity_mask(h, f, radius=6, steps=16), t)
            for h, f, t in zip(hot, features, true, strict=True)
        ]
    )
    assert plain < 0.65
    assert walk > plain + 0.15


def test_the_same_seed_gives_the_same_network():
    images, heats, _ = discs(6)
    known = labels_of(heats)
    nets = [
        train_affinity(images, known, radius=6, epochs=1, seed=s).state_dict() for s in (0, 0, 1)
    ]
    same = [all(torch.equal(nets[0][k], n[k]) for k in n) for n in nets[1:]]
    assert same == [True, False]


@pytest.mark.parametrize(
    ("value", "words"),
    [(OPEN, "lesion beside lesion"), (LESION, "background beside background")],
)
def test_heatmaps_that_are_sure_of_too_little_teach_nothing(value, words):
    known = np.full((3, 16, 16), value, dtype=np.uint8)
    with pytest.raises(LookupError, match=words):
        train_affinity(np.zeros((3, 1, 16, 16), np.float32), known, radius=3, epochs=1, seed=0)
