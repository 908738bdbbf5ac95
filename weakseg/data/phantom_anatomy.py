"""The anatomy of a simulated head: what a slice of one shows where nothing is ill.

Lengths are in head coordinates (u to the right, v to the back, the outline at 1); z is 0 at the
skull base and 1 at the vertex; intensities are 1 for fat before the gain. A new number drawn from
a generator changes all that are drawn after it: add none, and the pixels of old phantoms stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float64]

_KNOTS = 5


@dataclass(frozen=True)
class Patient:
    """What makes one head differ from another."""

    half: tuple[float, float]
    centre: tuple[float, float]
    rotation: float
    outline: tuple[float, ...]
    scalp: float
    skull: float
    fat: float
    grey: float
    white: float
    ventricle: float
    ventricle_side: float
    caps: float
    choroid: float
    eyes: float
    wobble: tuple[float, float]
    spots: Floats  # (n, 6): |u|, v, z, radius, brightness, mirrored brightness
    bias: tuple[float, ...]
    gain: float
    noise: float
    folds: Floats  # (knots, H, W) smooth noise, one field a knot along z
    tissue: Floats
    lobes: Floats  # the shape of the lesion, where there is one
    warp: tuple[Floats, Floats]


def draw_patient(rng: np.random.Generator, shape: tuple[int, int]) -> Patient:
    """What the slices of one patient have in common."""
    u = rng.uniform
    height = u(0.40, 0.455)
    n_spots = int(rng.integers(2, 9))
    spots = np.column_stack(
        [
            u(0.16, 0.5, n_spots),
            u(-0.5, 0.55, n_spots),
            u(0.35, 0.9, n_spots),
            u(0.02, 0.05, n_spots),
            u(0.15, 0.5, n_spots),
            u(0.1, 0.5, n_spots),
        ]
    )
    return Patient(
        half=(height * u(0.75, 0.85), height),
        centre=(u(-0.015, 0.015), u(-0.02, 0.02)),
        rotation=u(-0.14, 0.14),
        outline=tuple(rng.normal(0, 0.010, 6)),
        scalp=u(0.05, 0.10),
        skull=u(0.05, 0.08),
        fat=u(0.75, 1.1),
        grey=u(0.46, 0.54),
        white=u(0.37, 0.42),
        ventricle=u(0.02, 0.085),
        ventricle_side=u(-0.25, 0.25),
        caps=u(0.1, 0.5),
        choroid=u(0.1, 0.6),
        eyes=u(0.8, 1.2),
        wobble=(u(0, 6.3), u(0.005, 0.02)),
        spots=spots,
        bias=tuple(rng.normal(0, 0.13, 5)),
        gain=u(0.55, 1.0),
        noise=u(0.012, 0.035),
        folds=_smooth_noise(rng, shape, 0.020),
        tissue=_smooth_noise(rng, shape, 0.035),
        lobes=_smooth_noise(rng, shape, 0.035),
        warp=(_smooth_noise(rng, shape, 0.05), _smooth_noise(rng, shape, 0.05)),
    )


def head_coordinates(p: Patient, z: float, shape: tuple[int, int]) -> tuple[Floats, Floats, float]:
    """u and v of each pixel, and the height of a pixel in their unit."""
    H, W = shape
    x = (np.arange(W) - (W - 1) / 2)[None, :] / H - p.centre[0]
    y = (np.arange(H) - (H - 1) / 2)[:, None] / H - p.centre[1]
    cos, sin = np.cos(p.rotation), np.sin(p.rotation)
    # A head is widest a little below its middle and closes towards the vertex.
    scale = np.sqrt(1 - ((z - 0.38) / (0.69 if z > 0.38 else 1.0)) ** 2)
    u, v = (cos * x + sin * y) / (p.half[0] * scale), (cos * y - sin * x) / (p.half[1] * scale)
    return u * (1 - 0.10 * v), v, 1 / (H * p.half[1] * scale)


def outline_radius(p: Patient, u: Floats, v: Floats, z: float) -> Floats:
    """Distance from the centre in units of the head's outline."""
    angle = np.arctan2(v, u)
    a = p.outline
    bumps = 1 + sum(
        a[2 * i] * np.cos((i + 2) * angle) + a[2 * i + 1] * np.sin((i + 2) * angle)
        for i in range(3)
    )
    nose = (1 - step(z, 0.05, 0.26)) * np.exp(-((u / 0.16) ** 2)) * (v < 0)
    return np.hypot(u, v) * bumps * (1 - 0.12 * nose)


def brain_depth(u: Floats, v: Floats, full: Floats, low: float) -> Floats:
    """Depth below the brain's surface; negative outside."""
    if low == 0:
        return full
    cerebellum = 0.42 * (1 - np.hypot(u / 0.60, (v - 0.40) / 0.40))
    temporal = 0.32 * (1 - np.hypot((np.abs(u) - 0.50) / 0.32, (v + 0.10) / 0.38))
    stem = 0.22 * (1 - np.hypot(u / 0.20, (v - 0.02) / 0.24))
    base = np.maximum(np.maximum(cerebellum, temporal), stem)
    return np.minimum(low * base + (1 - low) * full, full)


def ventricle_depth(p: Patient, u: Floats, v: Floats, z: float, low: float) -> Floats:
    """Depth inside the ventricles; negative outside."""
    lateral = p.ventricle * (1.25 * np.exp(-(((z - 0.54) / 0.11) ** 2)) - 0.25)
    lateral = lateral * (1 + p.ventricle_side * np.sign(u))
    side = np.abs(u)
    horn = np.minimum(
        _segment(side, v, (0.07, -0.04), (0.17, -0.34)),
        _segment(side, v, (0.08, 0.02), (0.27, 0.38)),
    )
    third = 0.025 * np.exp(-(((z - 0.40) / 0.05) ** 2)) - _segment(side, v, (0, -0.1), (0, 0.12))
    fourth = 0.07 * low - np.hypot(u / 1.5, v - 0.24)
    return np.maximum(np.maximum(lateral - horn, third), fourth)


def skull_and_face(
    p: Patient,
    u: Floats,
    v: Floats,
    z: float,
    radius: Floats,
    inner: float,
    low: float,
    tissue: Floats,
    pixel: float,
) -> Floats:
    """All but the brain: scalp, bone, fluid; in the lowest slices muscle, fat and eyes."""
    image = p.fat * ramp(1 - radius, pixel) * (1 - 0.25 * ramp(radius - 0.975, pixel))
    image *= 1 + 0.2 * tissue
    bone = 0.07 + 0.12 * np.exp(-(((radius - inner - p.skull / 2) / 0.012) ** 2))
    image = mix(image, bone, ramp(1 - p.scalp - radius, pixel))
    image = mix(image, 0.12, ramp(inner - radius, pixel))
    if low > 0:
        # Muscle, fat and air cells between the scalp and the brain of the lowest slices.
        face = 0.28 + 0.2 * tissue + 0.55 * p.fat * ramp(tissue - 0.9, 0.3)
        face = mix(face, 0.03, ramp(-0.9 - tissue, 0.2))
        image = mix(image, face, low * ramp(1 - p.scalp - radius, pixel))
        bright = p.eyes * np.exp(-(((z - 0.18) / 0.09) ** 2))
        orbit = np.hypot((np.abs(u) - 0.37) / 0.9, v + 0.68)
        image = mix(image, 0.85 * p.fat * bright, min(1.0, bright) * ramp(0.21 - orbit, 2 * pixel))
        image = mix(image, 0.22, min(1.0, bright) * ramp(0.15 - orbit, pixel))
    return image


def parenchyma_and_folds(
    p: Patient, u: Floats, v: Floats, z: float, depth: Floats, low: float, tissue: Floats
) -> tuple[Floats, Floats]:
    """Grey and white matter with folds; and how much of each pixel is the fluid of a fold."""
    noise = between(p.folds, z)
    surface = np.exp(-((np.maximum(depth, 0) / 0.24) ** 2))
    grey = np.maximum(
        surface * np.exp(-((noise / 0.75) ** 2)), np.exp(-((np.maximum(depth, 0) / 0.06) ** 2))
    )
    side = np.abs(u)
    nuclei = step(z, 0.34, 0.42) * (1 - step(z, 0.52, 0.60))
    grey = np.maximum(grey, 0.8 * nuclei * ramp(0.13 - np.hypot(side - 0.27, v / 1.6), 0.04))
    image = mix(np.full_like(u, p.white), p.grey, grey) * (1 + 0.04 * tissue)
    if low > 0:
        folia = np.sin(75 * np.hypot(u, v - 0.05)) * ramp(v - 0.22, 0.05)
        image = image + 0.05 * low * folia
    folds = 0.85 * surface * np.exp(-((noise / 0.22) ** 2))
    cut = 0.012 + 0.012 * step(z, 0.7, 1.0)
    midline = u + p.wobble[1] * np.sin(6 * v + p.wobble[0])
    # Between the hemispheres lies the corpus callosum, except above it.
    reach = 0.38 + 1.2 * step(z, 0.62, 0.78)
    fissure = np.exp(-((midline / cut) ** 2)) * ramp(reach - depth, 0.1) * (1 - low)
    sylvian = 0.03 * np.exp(-(((z - 0.44) / 0.09) ** 2)) - _segment(
        side, v, (0.5, -0.1), (0.9, 0.0)
    )
    folds = np.maximum(np.maximum(folds, fissure), ramp(sylvian, 0.02))
    return mix(image, 0.13, folds), folds


def bright_but_healthy(
    rng: np.random.Generator,
    p: Patient,
    u: Floats,
    v: Floats,
    z: float,
    depth: Floats,
    ventricles: Floats,
) -> Floats:
    """What a threshold takes for a lesion: caps and choroid of the ventricles, symmetric spots."""
    side = np.abs(u)
    level = np.exp(-(((z - 0.54) / 0.14) ** 2))
    caps = np.exp(-((np.hypot(side - 0.19, v + 0.40) / 0.08) ** 2))
    caps += np.exp(-((np.hypot(side - 0.30, v - 0.44) / 0.09) ** 2))
    caps += 0.7 * np.exp(-((ventricles / 0.025) ** 2)) * (v < 0.5)
    extra = p.caps * level * np.minimum(caps, 1.0)
    plexus = np.exp(-((np.hypot(side - 0.20, v - 0.24) / 0.035) ** 2))
    extra += p.choroid * level * plexus
    for a, b, height, size, left, right in p.spots:
        strength = np.exp(-(((z - height) / 0.07) ** 2))
        if strength > 0.05:
            shift = rng.normal(0, 0.01, 2)
            spot = np.exp(
                -((np.hypot(side - a - shift[0] * (u > 0), v - b - shift[1]) / size) ** 2)
            )
            extra += strength * spot * np.where(u > 0, right, left)
    # Bright cortex, as in the insula and the cingulum, on both sides.
    rind = np.exp(-(((depth - 0.05) / 0.03) ** 2)) * np.exp(-((np.hypot(side - 0.6, v) / 0.3) ** 2))
    return extra + 0.12 * rind


def vessels(
    rng: np.random.Generator, p: Patient, u: Floats, v: Floats, radius: Floats, inner: float
) -> Floats:
    """Small bright dots on the brain's surface, and the sinus at its back."""
    extra = np.zeros_like(u)
    for angle, strength in zip(rng.uniform(0, 6.3, 5), rng.uniform(0.1, 0.6, 5), strict=True):
        at = inner * rng.uniform(0.9, 1.0)
        distance = np.hypot(u - at * np.cos(angle), v - at * np.sin(angle))
        extra += strength * np.exp(-((distance / 0.022) ** 2))
    extra += 0.5 * p.choroid * np.exp(-((np.hypot(u / 1.5, v - inner + 0.02) / 0.04) ** 2))
    return extra * (radius < 1)


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], width: float) -> Floats:
    """Independent smooth fields of mean 0 and deviation 1; ``width`` in image heights."""
    fields = rng.standard_normal((_KNOTS, *shape))
    sigma = width * shape[0]
    smooth = ndimage.gaussian_filter(fields, (0, sigma, sigma), mode="wrap", truncate=3)
    return smooth / smooth.std(axis=(1, 2), keepdims=True)


def between(fields: Floats, z: float) -> Floats:
    """A field that changes smoothly with z and keeps its deviation of 1."""
    at = min(max(z, 0.0), 1.0) * (len(fields) - 1)
    i = min(int(at), len(fields) - 2)
    turn = (at - i) * np.pi / 2
    return np.cos(turn) * fields[i] + np.sin(turn) * fields[i + 1]


def _segment(x: Floats, y: Floats, a: tuple[float, float], b: tuple[float, float]) -> Floats:
    """Distance of points from the line between ``a`` and ``b``."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    t = np.clip(((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - a[0] - t * dx, y - a[1] - t * dy)


def ramp(depth: Floats, width: float) -> Floats:
    """0 outside, 1 inside, linear over ``width`` on either side of the edge."""
    return np.clip(0.5 + depth / (2 * width), 0.0, 1.0)


def step(z: float, start: float, end: float) -> float:
    """0 up to ``start``, 1 from ``end`` on, smooth between."""
    t = min(max((z - start) / (end - start), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def mix(below: Floats, above: Floats | float, share: Floats | float) -> Floats:
    return below + (above - below) * share
