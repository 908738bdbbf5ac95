"""The generator of `weakseg adapt`: the identity at first, and what it learns without masks."""

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import nn

from weakseg.errors import UserError
from weakseg.models.generator import Generator, PatchDiscriminator
from weakseg.training.adaptation import (
    AdaptationSettings,
    Moments,
    Site,
    changed_site,
    intensity_distance,
    moments_of,
    site_moments,
    train_generator,
)

FEW = AdaptationSettings(steps=3, batch=2)


def site(count, change=lambda x: x, seed=0, channels=1, size=16):
    """Images with smooth ramps and a bright square; a border of 2 pixels is no body."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0.1, 0.6, size)
    images = np.tile(ramp, (count, channels, size, 1)) + rng.normal(0, 0.03, (count, 1, size, size))
    for image in images:
        y, x = rng.integers(3, size - 7, 2)
        image[:, y : y + 4, x : x + 4] += 0.3
    images = change(np.clip(images, 0, 1))
    body = np.zeros((count, 1, size, size), dtype=bool)
    body[..., 2:-2, 2:-2] = True
    images = np.where(body, images, 0).astype(np.float16)
    fill = torch.zeros(count, channels)
    return Site(torch.from_numpy(images), torch.from_numpy(body), fill)


def gamma(x):
    return x**2.5


class Net(nn.Module):
    def __init__(self, channels=1):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.layers = nn.Sequential(nn.Conv2d(channels, 6, 3, 2, 1), nn.ReLU())
        self.requires_grad_(False)

    def forward(self, images, fill):
        return [self.layers(images)]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_generator_begins_as_the_identity_to_the_bit(channels):
    torch.manual_seed(0)
    images = torch.randn(2, channels, 9, 7)
    region = torch.rand(2, 1, 9, 7) > 0.5
    generator = Generator(channels)
    assert any(float(p.detach().abs().sum()) > 0 for p in generator.layers.parameters())
    assert torch.equal(generator(images, region), images)


def test_what_a_generator_adds_is_added_within_the_region_alone():
    generator = Generator(1, width=2)
    with torch.no_grad():
        for p in generator.parameters():
            p.zero_()
        generator.layers[0].weight[0, 0, 1, 1] = 1.0  # x, where positive
        generator.layers[2].weight[0, 0, 1, 1] = 2.0
        generator.last.weight[0, 0, 1, 1] = -1.0
        generator.last.bias[0] = 0.25
    image = torch.tensor([[0.5, 0.25], [-1.0, 4.0]])[None, None]
    region = torch.tensor([[True, True], [True, False]])[None, None]
    made = generator(image, region)[0, 0]
    # x + 0.25 - 2 x; a leaky rectifier passes -1 as -0.2, and 2 x -0.2 as -0.08.
    expected = torch.tensor([[-0.25, 0.0], [-1 + 0.25 + 0.08, 4.0]])
    torch.testing.assert_close(made, expected)


def test_a_score_of_the_discriminator_stands_for_18_pixels():
    critic = PatchDiscriminator(1)
    image = torch.rand(1, 1, 48, 48, requires_grad=True)
    scores = critic(image)
    assert scores.shape == (1, 1, 12, 12)
    (gradient,) = torch.autograd.grad(scores[0, 0, 6, 6], image)
    rows, columns = (gradient[0, 0].abs().sum(k) > 0 for k in (1, 0))
    assert int(rows.sum()) == int(columns.sum()) == 18


def test_moments_are_those_of_numpy_and_of_all_images_together():
    there = site(5)
    net = Net()
    whole = net(there.image.float(), there.fill)[0].numpy()
    for found in (moments_of([torch.from_numpy(whole)]), site_moments(net, there, 2, "cpu")):
        np.testing.assert_allclose(found.mean, whole.mean((0, 2, 3)), atol=1e-5)
        np.testing.assert_allclose(found.std, whole.std((0, 2, 3)), atol=1e-5)


def test_maps_of_several_grids_have_the_moments_of_each():
    there, fine = site(5), Net()

    def both(images, fill):
        (maps,) = fine(images, fill)
        return [maps, nn.functional.avg_pool2d(maps, 2)[:, :2]]

    maps = both(there.image.float(), there.fill)
    assert maps[0].shape[2:] != maps[1].shape[2:]
    for found in (moments_of(maps), site_moments(both, there, 2, "cpu")):
        for k in ("mean", "std"):
            expected = np.concatenate([getattr(np, k)(m.numpy(), (0, 2, 3)) for m in maps])
            np.testing.assert_allclose(getattr(found, k), expected, atol=1e-5)


def test_the_distance_of_moments_is_that_computed_by_hand():
    ours = Moments(torch.tensor([1.0, 0.0, 5.0]), torch.tensor([2.0, 1.0, 0.0]))
    theirs = Moments(torch.tensor([2.0, 3.0, 9.0]), torch.tensor([1.0, 1.0, 1.0]))
    # (1/4 + 1/4 + 9 + 0) / 2: the third map is flat and says nothing.
    assert float(ours.distance(theirs)) == pytest.approx(4.75)
    assert float(ours.distance(ours)) == 0


def test_the_distance_of_intensities_is_the_wasserstein_distance():
    one, other = site(6), site(8, gamma, seed=1)
    a, b = (s.image[s.region].float().numpy() for s in (one, other))
    assert intensity_distance(one, other) == pytest.approx(wasserstein_distance(a, b), rel=0.02)
    assert intensity_distance(one, one) == 0


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        pytest.param(gamma, 50, id="gamma"),
        pytest.param(lambda x: 0.9 - x, 100, id="inverted"),
    ],
)
def test_another_sites_intensities_move_towards_the_training_images(change, steps):
    old, new = site(12), site(12, change, seed=1)
    net = Net()
    settings = AdaptationSettings(steps=steps)
    generator, losses = train_generator(new, old, net, settings, seed=0, device="cpu")
    made = changed_site(generator, new, 4, "cpu")
    assert intensity_distance(made, old) < 0.6 * intensity_distance(new, old)
    wanted = site_moments(net, old, 4, "cpu")
    far, near = (wanted.distance(site_moments(net, s, 4, "cpu")) for s in (new, made))
    assert float(near) < 0.6 * float(far)
    assert set(losses) == {"image", "features", "content", "discriminator"}
    outside = ~new.region
    assert torch.equal(made.image[outside], new.image.float()[outside])


def test_a_seed_makes_one_generator_and_leaves_the_callers_draws_alone():
    old, new = site(4, channels=3), site(3, gamma, seed=1, channels=3)
    net = Net(3)

    def trained(seed):
        torch.manual_seed(seed + 7)
        made, _ = train_generator(new, old, net, FEW, seed=seed, device="cpu")
        state = {k: v.clone() for k, v in made.state_dict().items()}
        return state, float(torch.rand(1))

    (one, drawn), (again, _), (other, _) = trained(0), trained(0), trained(1)
    torch.manual_seed(7)
    assert drawn == float(torch.rand(1))
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)
    assert not any(p.grad is not None for p in net.parameters())


def test_no_step_is_the_identity_and_has_no_loss():
    old, new = site(2), site(2, gamma)
    settings = AdaptationSettings(steps=0)
    generator, losses = train_generator(new, old, Net(), settings, seed=0, device="cpu")
    assert losses == {}
    assert torch.equal(changed_site(generator, new, 2, "cpu").image, new.image.float())


def test_a_training_that_diverges_says_so():
    settings = AdaptationSettings(steps=5, batch=2, lr=float("inf"))
    with pytest.raises(UserError, match="diverged"):
        train_generator(site(2), site(2), Net(), settings, seed=0, device="cpu")
