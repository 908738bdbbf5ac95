"""Simulated brain-like FLAIR slices, with and without a lesion, as arrays.

Heads differ by patient and change smoothly from the skull base to the vertex. Many bright things
are healthy (scalp fat, orbital fat, caps of the ventricles, choroid plexus, vessels, small
symmetric spots in the white matter), so that brightness alone finds no lesion; a lesion is a
one-sided, lobulated, soft-rimmed area that hides the folds beneath it. Nothing here is measured
from a person, and a figure obtained on it says nothing about patients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from weakseg.data.phantom_anatomy import (
    Floats,
    Patient,
    between,
    brain_depth,
    bright_but_healthy,
    draw_patient,
    head_coordinates,
    mix,
    outline_radius,
    parenchyma_and_folds,
    ramp,
    skull_and_face,
    step,
    ventricle_depth,
    vessels,
)

GENERATOR = 1
"""Version of the drawing: raised whenever the same parameters give other pixels."""

TUMOR, NORMAL = "tumor", "normal"

Bools = npt.NDArray[np.bool_]

_SMALLEST_LESION = 0.006
_LARGEST_LESION = 0.12


@dataclass(frozen=True)
class PhantomSlice:
    """One simulated slice.

    Attributes
    ----------
    image : (H, W) ndarray of uint8
    mask : (H, W) ndarray of bool
        Empty exactly where ``label`` is ``normal``.
    label : str
        ``tumor`` or ``normal``.
    patient : str
        ``P001``, ``P002``, …
    number : int
        From 1, at the skull base, upwards.
    twin : bool
        Whether this is the slice of that number drawn again without its lesion.
    """

    image: npt.NDArray[np.uint8]
    mask: Bools
    label: str
    patient: str
    number: int
    twin: bool = False


def phantom_slices(
    patients: int,
    slices_per_patient: int,
    size: int,
    seed: int,
    *,
    shortcut: bool = False,
    pairs: bool = False,
) -> Iterator[PhantomSlice]:
    """Draw the slices of all patients, patient by patient, from the base upwards.

    A slice depends on ``seed``, its patient's number, its own number, ``slices_per_patient`` and
    ``size``, not on how many patients there are: more patients leave the first ones as they were.

    A lesion's rim is soft, so it also changes pixels outside its mask: none that lie further
    from the mask than 0.06 of the height plus one pixel.

    Parameters
    ----------
    patients : int
        At least 1. Every eighth (the 6th, 14th, …) has no lesion; the others have one, which spans
        consecutive slices and never all of them.
    slices_per_patient : int
        At least 4.
    size : int
        Height in pixels, at least 32, with ``shortcut`` at least 48. The width is 0.8 of it,
        rounded to an even number.
    seed : int
        Not negative.
    shortcut : bool
        Whether a white square (see `marker_box`) lies in the top left corner of every slice with
        a lesion, and of no other. All other pixels are as they were.
    pairs : bool
        Whether only slices with a lesion are drawn, each followed by its twin: the same slice,
        down to the noise, without its lesion. Nothing but the lesion then tells the label, whereas
        otherwise the slice's place in the head does too (the lowest and the highest slices are
        always normal). Hence patients without a lesion are left out, and so are slices
        that have no twin: a patient has an even number of slices, on average about
        ``slices_per_patient``. The slices with a lesion are those of ``pairs=False``.

    Raises
    ------
    ValueError
        When a parameter is out of range.
    """
    # In a smaller picture the marker's least side of 4 pixels may reach the head.
    smallest = 48 if shortcut else 32
    lowest = {"patients": 1, "slices_per_patient": 4, "size": smallest, "seed": 0}
    given = {
        "patients": patients,
        "slices_per_patient": slices_per_patient,
        "size": size,
        "seed": seed,
    }
    for name, value in given.items():
        if value < lowest[name]:
            raise ValueError(f"{name} must be at least {lowest[name]}, got {value}")
    return _draw_all(patients, slices_per_patient, size, seed, shortcut, pairs)


def marker_box(height: int) -> tuple[slice, slice]:
    """Rows and columns of the marker that ``shortcut`` draws.

    Parameters
    ----------
    height : int
        The image's, in pixels. The marker's side is 0.06 of it, at least 4 pixels.
    """
    # At the top, because heads are narrower there than at the back.
    side, gap = max(4, round(0.06 * height)), max(1, round(0.02 * height))
    return slice(gap, gap + side), slice(gap, gap + side)


@dataclass(frozen=True)
class _Lesion:
    first: int  # slice numbers, both ends included
    last: int
    centre: tuple[float, float]
    share: float  # of the head's area, in the middle slice
    angle: float
    stretch: float
    contrast: float
    rim: float
    roughness: float
    core: bool


def _draw_all(
    patients: int, slices: int, size: int, seed: int, shortcut: bool, pairs: bool
) -> Iterator[PhantomSlice]:
    shape = (size, 2 * round(0.4 * size))
    for p in range(1, patients + 1):
        # Slice numbers start at 1, so 0 is free for what a patient's slices have in common.
        rng = np.random.default_rng([seed, p, 0])
        patient = draw_patient(rng, shape)
        lesion = None if p % 8 == 6 else _lesion(rng, slices)
        for k in range(1, slices + 1):
            ill = lesion is not None and lesion.first <= k <= lesion.last
            if pairs and not ill:
                continue
            for twin in (False, True) if pairs else (False,):
                # The lesion draws no number, so that its twin gets the same noise.
                rng = np.random.default_rng([seed, p, k])
                here = lesion if ill and not twin else None
                image, mask = _slice(rng, patient, here, k, (k - 0.5) / slices, shape)
                label = TUMOR if mask.any() else NORMAL
                if shortcut and label == TUMOR:
                    image[marker_box(size)] = 255
                yield PhantomSlice(image, mask, label, f"P{p:03d}", k, twin)


def _lesion(rng: np.random.Generator, slices: int) -> _Lesion:
    u = rng.uniform
    # The lowest and the highest slices hold little brain, and every patient keeps some free slices.
    usable_first, usable_last = 1 + round(0.12 * slices), slices - round(0.08 * slices)
    usable = usable_last - usable_first + 1
    span = max(1, min(round(u(0.3, 0.68) * slices), usable))
    first = usable_first + int(rng.integers(0, usable - span + 1))
    return _Lesion(
        first=first,
        last=first + span - 1,
        centre=(rng.choice([-1, 1]) * u(0.24, 0.56), u(-0.5, 0.5)),
        share=float(np.exp(u(np.log(0.03), np.log(_LARGEST_LESION)))),
        angle=u(0, np.pi),
        stretch=u(1.0, 1.7),
        contrast=u(0.15, 0.42),
        rim=u(0.1, 0.35),
        roughness=u(0.25, 0.6),
        core=bool(u() < 0.25),
    )


def _slice(
    rng: np.random.Generator,
    p: Patient,
    lesion: _Lesion | None,
    number: int,
    z: float,
    shape: tuple[int, int],
) -> tuple[npt.NDArray[np.uint8], Bools]:
    u, v, pixel = head_coordinates(p, z, shape)
    radius = outline_radius(p, u, v, z)
    low = 1 - step(z, 0.10, 0.34)
    # No structure inside a head is as straight as a formula.
    u, v = u + 0.018 * between(p.warp[0], z), v + 0.018 * between(p.warp[1], z)
    inner = 1 - p.scalp - p.skull
    depth = brain_depth(u, v, inner - radius, low)
    brain = ramp(depth, pixel)
    ventricles = ventricle_depth(p, u, v, z, low)
    csf = ramp(ventricles, pixel)

    tissue = between(p.tissue, z)
    image = skull_and_face(p, u, v, z, radius, inner, low, tissue, pixel)
    parenchyma, folds = parenchyma_and_folds(p, u, v, z, depth, low, tissue)
    parenchyma += bright_but_healthy(rng, p, u, v, z, depth, ventricles)
    mask = np.zeros(shape, dtype=bool)
    if lesion is not None:
        room = (depth > 0.03) & (ventricles < -0.01) & (folds < 0.75)
        parenchyma, mask = _grow(lesion, p, u, v, z, number, parenchyma, room, radius < 1)
    parenchyma = mix(parenchyma, 0.10, csf)
    image = mix(image, parenchyma, brain)
    image += vessels(rng, p, u, v, radius, inner)
    return _acquire(rng, p, image, z, shape), mask


def _grow(
    lesion: _Lesion,
    p: Patient,
    u: Floats,
    v: Floats,
    z: float,
    number: int,
    tissue: Floats,
    room: Bools,
    head: Bools,
) -> tuple[Floats, Bools]:
    """Lay the lesion over the tissue; its mask is what lies above half of its rim."""
    half_span = (lesion.last - lesion.first + 1) / 2
    along = (number - (lesion.first + lesion.last) / 2) / half_span
    share = max(lesion.share * (1 - 0.7 * along**2), _SMALLEST_LESION * 1.5)
    area = min(share * head.sum(), 0.4 * room.sum())

    du, dv = u - lesion.centre[0], v - lesion.centre[1]
    cos, sin = np.cos(lesion.angle), np.sin(lesion.angle)
    distance = np.hypot(
        (cos * du + sin * dv) / lesion.stretch, (cos * dv - sin * du) * lesion.stretch
    )
    lobes = between(p.lobes, z)
    field = -distance / np.sqrt(share) + lesion.roughness * lobes
    heights = np.sort(field[room])
    level = heights[-max(1, round(area))]
    mask = _largest((field >= level) & room)

    above = field - level
    soft = np.clip(0.5 + above / lesion.rim, 0, 1) * ndimage.gaussian_filter(
        room.astype(float), 0.6
    )
    # Islands of the level set that the mask does not hold must not be drawn either.
    reach = ndimage.distance_transform_edt(~mask) < 0.03 * mask.shape[0]
    soft = np.where(reach, soft, 0.0)
    swollen = p.white + lesion.contrast * (1 + 0.12 * between(p.tissue, z))
    if lesion.core:
        swollen = mix(swollen, 0.22, ramp(above - 0.9, 0.15))
    return mix(tissue, swollen, 0.85 * soft), mask


def _acquire(
    rng: np.random.Generator, p: Patient, image: Floats, z: float, shape: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Coil shading, blur, Rician noise, gain."""
    H, W = shape
    x = np.linspace(-1, 1, W)[None, :]
    y = np.linspace(-1, 1, H)[:, None]
    b = p.bias
    shading = b[0] * x + b[1] * y + b[2] * x * y + b[3] * (x**2 - 0.3) + b[4] * (y**2 - 0.3)
    image = ndimage.gaussian_filter(image * np.exp(shading), 0.6 * H / 128)
    real, imaginary = rng.normal(0, p.noise, (2, H, W))
    image = np.hypot(image + real, imaginary)
    gain = p.gain * rng.uniform(0.92, 1.08) * (1 - 0.12 * z)
    return np.clip(np.rint(255 * gain * image), 0, 255).astype(np.uint8)


def _largest(mask: Bools) -> Bools:
    labels, n = ndimage.label(mask)
    if n <= 1:
        return mask
    return np.asarray(labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]))
