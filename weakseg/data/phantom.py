"""A simulated set of brain-like FLAIR slices: the toolkit's own data, made on the spot.

Heads differ by patient and change smoothly from the skull base to the vertex. Many bright things
are healthy (scalp fat, orbital fat, caps of the ventricles, choroid plexus, vessels, small
symmetric spots in the white matter), so that brightness alone finds no lesion; a lesion is a
one-sided, lobulated, soft-rimmed area that hides the folds beneath it. Nothing here is measured
from a person, and a figure obtained on it says nothing about patients.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from weakseg.config import PhantomConfig
from weakseg.errors import DataError

GENERATOR = 1
"""Version of the drawing: raised whenever the same parameters give other pixels."""

TUMOR, NORMAL = "tumor", "normal"

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_KNOTS = 5
_SMALLEST_LESION = 0.006
_LARGEST_LESION = 0.12

_README = """\
SIMULATED IMAGES: not from patients.

weakseg drew these pictures with a random number generator. They imitate FLAIR slices of heads,
with and without a lesion, so that the toolkit can be tried and tested without any medical data.
Scores on them say nothing about how a method does on patients.

labels.csv    one row a slice: image, mask, label (tumor or normal), patient
images/       8-bit grey PNG
masks/        8-bit PNG, 255 where the lesion is, 0 elsewhere; all 0 where label is normal
phantom.json  the parameters; the same parameters give the same pixels
"""


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
    """

    image: npt.NDArray[np.uint8]
    mask: Bools
    label: str
    patient: str
    number: int


def phantom_slices(
    patients: int, slices_per_patient: int, size: int, seed: int
) -> Iterator[PhantomSlice]:
    """Draw the slices of all patients, patient by patient, from the base upwards.

    A slice depends on ``seed``, its patient's number, its own number, ``slices_per_patient`` and
    ``size``, not on how many patients there are: more patients leave the first ones as they were.

    Parameters
    ----------
    patients : int
        At least 1. Every eighth (the 6th, 14th, …) has no lesion; the others have one, which spans
        consecutive slices and never all of them.
    slices_per_patient : int
        At least 4.
    size : int
        Height in pixels, at least 32. The width is 0.8 of it, rounded to an even number.
    seed : int
        Not negative.

    Raises
    ------
    ValueError
        When a parameter is out of range.
    """
    lowest = {"patients": 1, "slices_per_patient": 4, "size": 32, "seed": 0}
    given = {
        "patients": patients,
        "slices_per_patient": slices_per_patient,
        "size": size,
        "seed": seed,
    }
    for name, value in given.items():
        if value < lowest[name]:
            raise ValueError(f"{name} must be at least {lowest[name]}, got {value}")
    return _draw_all(patients, slices_per_patient, size, seed)


def write_phantom(folder: Path, config: PhantomConfig) -> Path:
    """Write a phantom to disk, or find it there already.

    The files are written beside ``folder`` and moved into place at the end, so that a folder of
    that name is always whole. A folder that holds the same phantom is used as it is; one that
    holds another phantom is replaced.

    Parameters
    ----------
    folder : Path
        Made with its parents. See the README.txt in it for what it holds.
    config : PhantomConfig

    Returns
    -------
    Path
        ``folder/labels.csv``, with columns image, mask, label, patient; paths in it are relative.

    Raises
    ------
    DataError
        When ``folder`` exists and holds something other than a phantom: it is left untouched.
    """
    folder = Path(folder)
    recipe = {"generator": GENERATOR, **config.model_dump(mode="json")}
    if _holds(folder, recipe):
        return folder / "labels.csv"
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        # mkdtemp is private to the user; the finished folder is as readable as any other.
        temporary.chmod(0o755)
        _write_files(temporary, config, recipe)
        if folder.exists():
            _refuse_foreign(folder)
            shutil.rmtree(folder)
        try:
            temporary.rename(folder)
        except OSError:
            # Another process may have put the same phantom there in the meantime.
            if not _holds(folder, recipe):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / "labels.csv"


def _write_files(folder: Path, config: PhantomConfig, recipe: dict[str, object]) -> None:
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "mask", "label", "patient"])
        for s in phantom_slices(
            config.patients, config.slices_per_patient, config.size, config.seed
        ):
            name = f"{s.patient}_{s.number:02d}.png"
            Image.fromarray(s.image).save(folder / "images" / name)
            Image.fromarray(s.mask.astype(np.uint8) * 255).save(folder / "masks" / name)
            rows.writerow([f"images/{name}", f"masks/{name}", s.label, s.patient])
    (folder / "README.txt").write_text(_README, encoding="utf-8")
    (folder / "phantom.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")


def _holds(folder: Path, recipe: dict[str, object]) -> bool:
    """Whether ``folder`` is the phantom of ``recipe``, with no file gone."""
    try:
        if json.loads((folder / "phantom.json").read_text(encoding="utf-8")) != recipe:
            return False
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return bool(rows) and all(
            (folder / r[k]).is_file() for r in rows for k in ("image", "mask")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists() or (folder / "phantom.json").is_file():
        return
    if folder.is_dir() and not any(folder.iterdir()):
        return
    raise DataError(
        "The phantom cannot be written: something else is there.",
        where=str(folder),
        found="a folder without phantom.json" if folder.is_dir() else "a file",
        expected="no such folder, an empty one, or an earlier phantom",
        fix="name another folder, or move this one away",
    )


# The drawing. Lengths are in head coordinates (u to the right, v to the back, the outline at 1);
# z is 0 at the skull base and 1 at the vertex; intensities are 1 for fat before the gain.


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


@dataclass(frozen=True)
class _Patient:
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
    shape: Floats
    warp: tuple[Floats, Floats]
    lesion: _Lesion | None


def _draw_all(patients: int, slices: int, size: int, seed: int) -> Iterator[PhantomSlice]:
    shape = (size, 2 * round(0.4 * size))
    for p in range(1, patients + 1):
        # Slice numbers start at 1, so 0 is free for what a patient's slices have in common.
        patient = _patient(np.random.default_rng([seed, p, 0]), p, slices, shape)
        for k in range(1, slices + 1):
            rng = np.random.default_rng([seed, p, k])
            image, mask = _slice(rng, patient, k, (k - 0.5) / slices, shape)
            yield PhantomSlice(image, mask, TUMOR if mask.any() else NORMAL, f"P{p:03d}", k)


def _patient(
    rng: np.random.Generator, number: int, slices: int, shape: tuple[int, int]
) -> _Patient:
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
    return _Patient(
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
        shape=_smooth_noise(rng, shape, 0.035),
        warp=(_smooth_noise(rng, shape, 0.05), _smooth_noise(rng, shape, 0.05)),
        lesion=None if number % 8 == 6 else _lesion(rng, slices),
    )


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
    rng: np.random.Generator, p: _Patient, number: int, z: float, shape: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], Bools]:
    u, v, pixel = _head_coordinates(p, z, shape)
    radius = _outline(p, u, v, z)
    low = 1 - _step(z, 0.10, 0.34)
    # No structure inside a head is as straight as a formula.
    u, v = u + 0.018 * _between(p.warp[0], z), v + 0.018 * _between(p.warp[1], z)
    inner = 1 - p.scalp - p.skull
    depth = _brain_depth(u, v, inner - radius, low)
    brain = _ramp(depth, pixel)
    ventricles = _ventricle_depth(p, u, v, z, low)
    csf = _ramp(ventricles, pixel)

    tissue = _between(p.tissue, z)
    image = _skull_and_face(p, u, v, z, radius, inner, low, tissue, pixel)
    parenchyma, folds = _parenchyma(p, u, v, z, depth, low, tissue)
    parenchyma += _bright_but_healthy(rng, p, u, v, z, depth, ventricles)
    mask = np.zeros(shape, dtype=bool)
    if p.lesion is not None and p.lesion.first <= number <= p.lesion.last:
        room = (depth > 0.03) & (ventricles < -0.01) & (folds < 0.75)
        parenchyma, mask = _grow(p.lesion, p, u, v, z, number, parenchyma, room, radius < 1)
    parenchyma = _mix(parenchyma, 0.10, csf)
    image = _mix(image, parenchyma, brain)
    image += _vessels(rng, p, u, v, radius, inner)
    return _acquire(rng, p, image, z, shape), mask


def _head_coordinates(
    p: _Patient, z: float, shape: tuple[int, int]
) -> tuple[Floats, Floats, float]:
    H, W = shape
    x = (np.arange(W) - (W - 1) / 2)[None, :] / H - p.centre[0]
    y = (np.arange(H) - (H - 1) / 2)[:, None] / H - p.centre[1]
    cos, sin = np.cos(p.rotation), np.sin(p.rotation)
    # A head is widest a little below its middle and closes towards the vertex.
    scale = np.sqrt(1 - ((z - 0.38) / (0.69 if z > 0.38 else 1.0)) ** 2)
    u, v = (cos * x + sin * y) / (p.half[0] * scale), (cos * y - sin * x) / (p.half[1] * scale)
    return u * (1 - 0.10 * v), v, 1 / (H * p.half[1] * scale)


def _outline(p: _Patient, u: Floats, v: Floats, z: float) -> Floats:
    """Distance from the centre in units of the head's outline."""
    angle = np.arctan2(v, u)
    a = p.outline
    bumps = 1 + sum(
        a[2 * i] * np.cos((i + 2) * angle) + a[2 * i + 1] * np.sin((i + 2) * angle)
        for i in range(3)
    )
    nose = (1 - _step(z, 0.05, 0.26)) * np.exp(-((u / 0.16) ** 2)) * (v < 0)
    return np.hypot(u, v) * bumps * (1 - 0.12 * nose)


def _brain_depth(u: Floats, v: Floats, full: Floats, low: float) -> Floats:
    """Depth below the brain's surface; negative outside."""
    if low == 0:
        return full
    cerebellum = 0.42 * (1 - np.hypot(u / 0.60, (v - 0.40) / 0.40))
    temporal = 0.32 * (1 - np.hypot((np.abs(u) - 0.50) / 0.32, (v + 0.10) / 0.38))
    stem = 0.22 * (1 - np.hypot(u / 0.20, (v - 0.02) / 0.24))
    base = np.maximum(np.maximum(cerebellum, temporal), stem)
    return np.minimum(low * base + (1 - low) * full, full)


def _ventricle_depth(p: _Patient, u: Floats, v: Floats, z: float, low: float) -> Floats:
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


def _skull_and_face(
    p: _Patient,
    u: Floats,
    v: Floats,
    z: float,
    radius: Floats,
    inner: float,
    low: float,
    tissue: Floats,
    pixel: float,
) -> Floats:
    image = p.fat * _ramp(1 - radius, pixel) * (1 - 0.25 * _ramp(radius - 0.975, pixel))
    image *= 1 + 0.2 * tissue
    bone = 0.07 + 0.12 * np.exp(-(((radius - inner - p.skull / 2) / 0.012) ** 2))
    image = _mix(image, bone, _ramp(1 - p.scalp - radius, pixel))
    image = _mix(image, 0.12, _ramp(inner - radius, pixel))
    if low > 0:
        # Muscle, fat and air cells between the scalp and the brain of the lowest slices.
        face = 0.28 + 0.2 * tissue + 0.55 * p.fat * _ramp(tissue - 0.9, 0.3)
        face = _mix(face, 0.03, _ramp(-0.9 - tissue, 0.2))
        image = _mix(image, face, low * _ramp(1 - p.scalp - radius, pixel))
        bright = p.eyes * np.exp(-(((z - 0.18) / 0.09) ** 2))
        orbit = np.hypot((np.abs(u) - 0.37) / 0.9, v + 0.68)
        image = _mix(
            image, 0.85 * p.fat * bright, min(1.0, bright) * _ramp(0.21 - orbit, 2 * pixel)
        )
        image = _mix(image, 0.22, min(1.0, bright) * _ramp(0.15 - orbit, pixel))
    return image


def _parenchyma(
    p: _Patient, u: Floats, v: Floats, z: float, depth: Floats, low: float, tissue: Floats
) -> tuple[Floats, Floats]:
    """Grey and white matter with folds; and how much of each pixel is the fluid of a fold."""
    noise = _between(p.folds, z)
    surface = np.exp(-((np.maximum(depth, 0) / 0.24) ** 2))
    grey = np.maximum(
        surface * np.exp(-((noise / 0.75) ** 2)), np.exp(-((np.maximum(depth, 0) / 0.06) ** 2))
    )
    side = np.abs(u)
    nuclei = _step(z, 0.34, 0.42) * (1 - _step(z, 0.52, 0.60))
    grey = np.maximum(grey, 0.8 * nuclei * _ramp(0.13 - np.hypot(side - 0.27, v / 1.6), 0.04))
    image = _mix(np.full_like(u, p.white), p.grey, grey) * (1 + 0.04 * tissue)
    if low > 0:
        folia = np.sin(75 * np.hypot(u, v - 0.05)) * _ramp(v - 0.22, 0.05)
        image = image + 0.05 * low * folia
    folds = 0.85 * surface * np.exp(-((noise / 0.22) ** 2))
    cut = 0.012 + 0.012 * _step(z, 0.7, 1.0)
    midline = u + p.wobble[1] * np.sin(6 * v + p.wobble[0])
    # Between the hemispheres lies the corpus callosum, except above it.
    reach = 0.38 + 1.2 * _step(z, 0.62, 0.78)
    fissure = np.exp(-((midline / cut) ** 2)) * _ramp(reach - depth, 0.1) * (1 - low)
    sylvian = 0.03 * np.exp(-(((z - 0.44) / 0.09) ** 2)) - _segment(
        side, v, (0.5, -0.1), (0.9, 0.0)
    )
    folds = np.maximum(np.maximum(folds, fissure), _ramp(sylvian, 0.02))
    return _mix(image, 0.13, folds), folds


def _bright_but_healthy(
    rng: np.random.Generator,
    p: _Patient,
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


def _vessels(
    rng: np.random.Generator, p: _Patient, u: Floats, v: Floats, radius: Floats, inner: float
) -> Floats:
    """Small bright dots on the brain's surface, and the sinus at its back."""
    extra = np.zeros_like(u)
    for angle, strength in zip(rng.uniform(0, 6.3, 5), rng.uniform(0.1, 0.6, 5), strict=True):
        at = inner * rng.uniform(0.9, 1.0)
        distance = np.hypot(u - at * np.cos(angle), v - at * np.sin(angle))
        extra += strength * np.exp(-((distance / 0.022) ** 2))
    extra += 0.5 * p.choroid * np.exp(-((np.hypot(u / 1.5, v - inner + 0.02) / 0.04) ** 2))
    return extra * (radius < 1)


def _grow(
    lesion: _Lesion,
    p: _Patient,
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
    lobes = _between(p.shape, z)
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
    swollen = p.white + lesion.contrast * (1 + 0.12 * _between(p.tissue, z))
    if lesion.core:
        swollen = _mix(swollen, 0.22, _ramp(above - 0.9, 0.15))
    return _mix(tissue, swollen, 0.85 * soft), mask


def _acquire(
    rng: np.random.Generator, p: _Patient, image: Floats, z: float, shape: tuple[int, int]
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


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], width: float) -> Floats:
    """Independent smooth fields of mean 0 and deviation 1; ``width`` in image heights."""
    fields = rng.standard_normal((_KNOTS, *shape))
    sigma = width * shape[0]
    smooth = ndimage.gaussian_filter(fields, (0, sigma, sigma), mode="wrap", truncate=3)
    return smooth / smooth.std(axis=(1, 2), keepdims=True)


def _between(fields: Floats, z: float) -> Floats:
    """A field that changes smoothly with z and keeps its deviation of 1."""
    at = min(max(z, 0.0), 1.0) * (len(fields) - 1)
    i = min(int(at), len(fields) - 2)
    turn = (at - i) * np.pi / 2
    return np.cos(turn) * fields[i] + np.sin(turn) * fields[i + 1]


def _largest(mask: Bools) -> Bools:
    labels, n = ndimage.label(mask)
    if n <= 1:
        return mask
    return np.asarray(labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]))


def _segment(x: Floats, y: Floats, a: tuple[float, float], b: tuple[float, float]) -> Floats:
    """Distance of points from the line between ``a`` and ``b``."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    t = np.clip(((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.hypot(x - a[0] - t * dx, y - a[1] - t * dy)


def _ramp(depth: Floats, width: float) -> Floats:
    """0 outside, 1 inside, linear over ``width`` on either side of the edge."""
    return np.clip(0.5 + depth / (2 * width), 0.0, 1.0)


def _step(z: float, start: float, end: float) -> float:
    """0 up to ``start``, 1 from ``end`` on, smooth between."""
    t = min(max((z - start) / (end - start), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def _mix(below: Floats, above: Floats | float, share: Floats | float) -> Floats:
    return below + (above - below) * share
