"""Training a generator on images of two sites that nobody has paired, and no mask.

References
----------
Yan et al., "The domain shift problem of medical image segmentation and vendor-adaptation by
Unet-GAN", MICCAI 2019, after its abstract: an unpaired GAN that learns from the segmenter's
features. The losses and sizes are ours. Mao et al., "Least squares generative adversarial
networks", ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from weakseg.errors import UserError
from weakseg.models.generator import Generator, PatchDiscriminator

QUANTILES = 101
"""Of intensities, by which two sites are held against each other."""

_BETAS = (0.5, 0.99)
_FLAT = 1e-4
"""Standard deviation below which a map says nothing."""

Features = Callable[[Tensor, Tensor], Sequence[Tensor]]
"""Images (B, C, H, W) and the intensity outside them (B, C) → maps (B, K, *grid) of each network.

Networks of several kinds have grids of several sizes.
"""


class Site(NamedTuple):
    """Images of a site as a network takes them, all of one size.

    Attributes
    ----------
    image : (N, C, H, W) Tensor
    region : (N, 1, H, W) Tensor of bool
        The body; a generator changes nothing outside.
    fill : (N, C) Tensor
        Intensity outside an image.
    """

    image: Tensor
    region: Tensor
    fill: Tensor

    def batch(self, chosen: Sequence[int], device: Any) -> Site:
        """Some of them as float32 on a device."""
        at = torch.as_tensor(chosen, dtype=torch.long)
        return Site(
            self.image[at].to(device).float(),
            self.region[at].to(device),
            self.fill[at].to(device).float(),
        )


@dataclass(frozen=True)
class AdaptationSettings:
    """How a generator is trained.

    Attributes
    ----------
    steps : int
    batch : int
        Images of each site a step.
    lr : float
        Of generator and discriminator (Adam).
    image, features, content : float
        What counts how much: that the discriminator takes a changed image for one of the training
        images; that the network's features look alike; that little is changed.
    """

    steps: int = 300
    batch: int = 4
    lr: float = 1e-3
    image: float = 1.0
    features: float = 1.0
    content: float = 1.0


class Moments(NamedTuple):
    """Mean and standard deviation of every map of all networks, over images and places, (K,)."""

    mean: Tensor
    std: Tensor

    def distance(self, other: Moments) -> Tensor:
        """How far another's lie from these: squared, in these standard deviations.

        The mean over maps of ((mean - mean') / std)² + ((std - std') / std)²; maps that are flat
        here do not count.
        """
        told = self.std > _FLAT
        std = self.std[told]
        mean = (self.mean[told] - other.mean[told]) / std
        spread = (std - other.std[told]) / std
        return (mean**2 + spread**2).mean() if len(std) else self.mean.sum() * 0


def moments_of(maps: Sequence[Tensor]) -> Moments:
    """Of maps (B, K, *grid) of each network, K of all together."""
    flat = [m.float().transpose(0, 1).flatten(1) for m in maps]
    variance = torch.cat([f.var(1, correction=0) for f in flat])
    return Moments(torch.cat([f.mean(1) for f in flat]), (variance + 1e-12).sqrt())


def site_moments(features: Features, site: Site, batch: int, device: Any) -> Moments:
    """Of all images of a site."""
    total: Any = 0
    square: Any = 0
    count: Any = 0
    with torch.no_grad():
        for at in range(0, len(site.image), batch):
            some = site.batch(range(at, min(at + batch, len(site.image))), device)
            maps = features(some.image, some.fill)
            flat = [m.double().transpose(0, 1).flatten(1) for m in maps]
            total = total + torch.cat([f.sum(1) for f in flat])
            square = square + torch.cat([(f**2).sum(1) for f in flat])
            count = count + torch.cat([torch.full_like(f[:, 0], f.shape[1]) for f in flat])
    mean = total / count
    std = (square / count - mean**2).clamp_min(1e-12).sqrt()
    return Moments(mean.float(), std.float())


def train_generator(
    new: Site,
    old: Site,
    features: Features,
    settings: AdaptationSettings,
    *,
    seed: int,
    device: Any,
    advance: Callable[[], None] = lambda: None,
) -> tuple[Generator, dict[str, float]]:
    """A generator from one site's images to the look of another's.

    Parameters
    ----------
    new : Site
        Whose images are changed.
    old : Site
        The training images of the network.
    features : callable
        Of the network, which stays as it is.
    settings : AdaptationSettings
    seed : int
        Of weights and draws; the same seed gives the same generator on a CPU.
    device : torch.device or str
    advance : callable, optional
        Called after every step.

    Returns
    -------
    generator : Generator
        In evaluation mode; the identity after 0 steps.
    losses : dict
        Means of the last tenth of the steps; empty after 0 steps.

    Raises
    ------
    UserError
        If the training diverges.
    """
    channels = new.image.shape[1]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = Generator(channels).to(device)
        critic = PatchDiscriminator(channels).to(device)
    rng = np.random.default_rng([seed, 1])
    wanted = site_moments(features, old, settings.batch, device) if settings.steps else None
    making = torch.optim.Adam(generator.parameters(), settings.lr, betas=_BETAS)
    judging = torch.optim.Adam(critic.parameters(), settings.lr, betas=_BETAS)
    kept: list[dict[str, float]] = []
    for step in range(settings.steps):
        there = new.batch(rng.integers(len(new.image), size=settings.batch), device)  # type: ignore[arg-type]
        here = old.batch(rng.integers(len(old.image), size=settings.batch), device)  # type: ignore[arg-type]
        changed = generator(there.image, there.region)
        judged = _judge(critic(here.image), 1) + _judge(critic(changed.detach()), 0)
        _step(judging, judged)
        assert wanted is not None
        parts = {
            "image": _judge(critic(changed), 1),
            "features": wanted.distance(moments_of(features(changed, there.fill))),
            "content": F.l1_loss(changed, there.image),
        }
        loss = torch.stack([getattr(settings, k) * v for k, v in parts.items()]).sum()
        if not bool(torch.isfinite(loss + judged)):
            raise UserError(
                "The training of the generator diverged: its loss is no number.",
                found=f"step {step + 1} of {settings.steps}",
                fix="train for fewer steps with --steps, or with another --seed",
            )
        _step(making, loss)
        if step >= settings.steps - max(settings.steps // 10, 1):
            kept.append({k: float(v.detach()) for k, v in parts.items()})
            kept[-1]["discriminator"] = float(judged.detach()) / 2
        advance()
    return generator.eval(), {
        k: float(np.mean([p[k] for p in kept])) for k in kept[0]
    } if kept else {}


def _judge(scores: Tensor, wanted: float) -> Tensor:
    return ((scores - wanted) ** 2).mean()


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def changed_site(generator: Generator, site: Site, batch: int, device: Any) -> Site:
    """A site's images through a generator."""
    made = []
    with torch.no_grad():
        for at in range(0, len(site.image), batch):
            some = site.batch(range(at, min(at + batch, len(site.image))), device)
            made.append(generator(some.image, some.region).cpu())
    return site._replace(image=torch.cat(made))


def intensity_distance(one: Site, other: Site) -> float:
    """How far the intensities in the bodies of two sites' images lie apart.

    Returns
    -------
    float
        The mean difference of `QUANTILES` quantiles, the mean over channels: the Wasserstein
        distance, in the units in which the network sees intensities.
    """
    at = (np.arange(QUANTILES) + 0.5) / QUANTILES
    pairs = zip(_in_body(one), _in_body(other), strict=True)
    return float(
        np.mean([np.abs(np.quantile(a, at) - np.quantile(b, at)).mean() for a, b in pairs])
    )


def _in_body(site: Site) -> list[np.ndarray]:
    """Intensities in the bodies, channel by channel."""
    body = site.region[:, 0]
    return [site.image[:, c][body].float().numpy() for c in range(site.image.shape[1])]
