"""What a run's training images look like, and which new images look otherwise.

A network answers for every image, also for those of another organ or another machine. A run
remembers its training images as a few numbers each; new images are held against them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg.config import DataConfig
from weakseg.data.cases import Case
from weakseg.data.formats.reading import DECODERS
from weakseg.data.looks import CELLS, GROUPS, VOLUME, WHITE, Look, look_at_case
from weakseg.errors import first_line
from weakseg.stored import damaged, read_json

Floats = NDArray[np.float64]

MOST = {2: 200, 3: 24}
"""Training images, and volumes, that are looked at; of more, evenly spaced ones."""
USUAL = 0.99
"""A new image may be as far from the nearest training image as this share of these are from those
of other patients."""
NOISE = "more noise"
NOISIER = 1.05
"""A new image may have so many times the noise of the training images but for the noisiest."""
LEAST_NOISE = 0.005
"""No image is called noisy up to this: rounding to 8 bits alone makes nearly as much where tissue
is a third as bright as white."""
FEW = 3
"""Training images that tell their noise, below which nothing is known of it."""
ALONE = 1.5
"""A patient as many times as noisy as three quarters of the others sets no limit alone; see
`Familiar.noise_limits`."""
CLIPPED = 0.2
"""Share of an image without noise beyond which white is what hides it."""
SELDOM = 0.05
"""Share of training images beyond which what they are is nothing that new images are told of."""
RATIO = 2.0
"""Factor between sides, beyond which an image shows another resolution."""
SPACING_RATIO = 1.1
REMEMBERED = {"image": 6, "slice": 6, "volume": 5}
"""What a case is → the number of what is remembered; a run with another one remembers anew."""

_WORDS = {
    "image": ("image", "image", "it"),
    "slice": ("volume", "slice", "its middle slice"),
    "volume": ("volume", "volume", "it"),
}
"""What a case is → what has noise and a depth, what was looked at, and what that is of the former:
slices stand for their volumes, and of a new one the slice in its middle is looked at."""

_LEAST = np.repeat([0.03, 0.03, 0.1, 0.05], [8, 1, 5, CELLS**2])
_WEIGHT = np.repeat([8, 1, 5, CELLS**2], [8, 1, 5, CELLS**2]) ** -0.5


@dataclass(frozen=True)
class Familiar:
    """What a run's training images look like.

    Attributes
    ----------
    key : str
        Of the data and splits that they are of.
    looks : tuple of Look
    limit : float or None
        Distance from the nearest one beyond which an image looks otherwise, see `USUAL`; None
        where there are too few patients to tell.
    patients : tuple of int
        The number of each one's patient; empty in what older runs remember.
    older : bool
        Whether an earlier version looked at them, which told no noise.
    """

    key: str
    looks: tuple[Look, ...]
    limit: float | None
    patients: tuple[int, ...] = ()
    older: bool = False

    def to_json(self) -> dict[str, Any]:
        """As the run folder holds it."""
        looks = [asdict(k) for k in self.looks]
        patients = list(self.patients)
        return {"key": self.key, "limit": self.limit, "looks": looks, "patients": patients}

    @classmethod
    def from_json(cls, held: dict[str, Any]) -> Familiar:
        """What `to_json` wrote."""
        looks = [
            Look(
                **k
                | {"features": tuple(k["features"])}
                | {"spacing": None if k["spacing"] is None else tuple(k["spacing"])}
                | {"more_noise": tuple(k.get("more_noise", ()))}
            )
            for k in held["looks"]
        ]
        older, patients = any("noise" not in k for k in held["looks"]), held.get("patients", ())
        return cls(held["key"], tuple(looks), held["limit"], tuple(patients), older)

    @cached_property
    def noise_limits(self) -> tuple[float | None, ...]:
        """Noise of each modality beyond which one is noisier than training images: `NOISIER` times
        what is usual, and `LEAST_NOISE` at the least; None where that is not known.
        """
        usual = self.usual_noise
        return tuple(None if n is None else max(NOISIER * n, LEAST_NOISE) for n in usual)

    @cached_property
    def usual_noise(self) -> tuple[float | None, ...]:
        """Noise of each modality that `USUAL` of the training images have at most; None where fewer
        than `FEW` of them tell theirs.

        Patients count alike, however many images or slices there are of each. One alone sets no
        limit by noise that is far out among that of the others: `ALONE` times their upper quartile
        and more, and in the logarithm more than three times the quartiles' distance above it
        (Tukey's outer fence).
        """
        who = self.patients or range(len(self.looks))
        found: list[float | None] = []
        for of_all in zip_longest(*(k.all_noise for k in self.looks)):
            known = [(n, w) for n, w in zip(of_all, who, strict=True) if n is not None]
            found.append(_usual_noise(known) if len(known) >= FEW else None)
        return tuple(found)

    @property
    def why_no_limit(self) -> str:
        """Why new images are not held against the noise of these; empty where they are.

        Of several modalities the first that tells none.
        """
        if None not in self.usual_noise:
            return ""
        if self.older:
            return "what the run remembers of those is by an earlier version, which told no noise"
        k = self.usual_noise.index(None)
        tell = sum(look.all_noise[k : k + 1] not in ((), (None,)) for look in self.looks)
        of = f" in modality {k + 1}" if len(self.usual_noise) > 1 else ""
        return (
            f"of {len(self.looks)} that were looked at {tell} tell their noise{of}, and {FEW} are "
            "needed; what is dark or clipped to white tells none"
        )

    def unlike(self, look: Look, noun: str | None = None) -> dict[str, str]:
        """In what an image differs from all training images: a few words → the reason.

        Parameters
        ----------
        look : Look
        noun : {"image", "slice", "volume"}, optional
            What it is of; a slice is the one in the middle of a volume, of which the reasons tell.
            By default an image, or a volume where the look is that of a volume.
        """
        of = noun or ("volume" if look.depth == VOLUME else "image")
        return dict(self._unlike(look, *_WORDS[of])) if self.looks else {}

    def _unlike(self, look: Look, noun: str, seen: str, it: str) -> Iterator[tuple[str, str]]:
        of_it = "" if it == "it" else f" of {it}"
        if look.scaled not in {k.scaled for k in self.looks}:
            depths = ", ".join(sorted({k.depth for k in self.looks}))
            yield (
                "another depth",
                f"{look.depth} a sample, training {noun}s {depths}: its intensities are scaled "
                "otherwise; save it as they are saved",
            )
        if look.coloured not in {k.coloured for k in self.looks}:
            kinds = ("in colour", "grey") if look.coloured else ("grey", "in colour")
            yield "other colour", f"{kinds[0]}, training {noun}s {kinds[1]}"
        sides = [k.longest for k in self.looks]
        if look.longest and not min(sides) / RATIO <= look.longest <= max(sides) * RATIO:
            yield (
                "another size",
                f"longest side{of_it} {look.longest} pixels, training {seen}s {_range(sides)}",
            )
        yield from self._unlike_grid(look)
        if noisier := list(self._noisier(look, noun)):
            yield NOISE, "; ".join(noisier)
        if self._hides_noise(look):
            yield (
                "noise that cannot be told",
                f"{look.features[WHITE]:.0%} of {it} is as bright as can be, which hides noise; "
                "save it with a window in which tissue is not white",
            )
        distance = self._distance(look)
        if self.limit is not None and distance > self.limit:
            yield (
                "another look",
                f"{self._apart(look)}{of_it}: {distance:.3g} from the nearest training {seen}, "
                f"{self.limit:.3g} is usual at most",
            )

    def _noisier(self, look: Look, noun: str) -> Iterator[str]:
        known = zip(look.all_noise, self.noise_limits, self.usual_noise, strict=False)
        for k, (noise, limit, usual) in enumerate(known, 1):
            if noise is not None and limit is not None and noise > limit:
                of = f" in modality {k}" if look.more_noise else ""
                yield (
                    f"noise of {noise:.1%} of the tissue's intensity{of}, {usual:.1%} "
                    f"is usual at most in the training {noun}s"
                )

    def _hides_noise(self, look: Look) -> bool:
        """Whether white is why an image tells no noise, where training images do."""
        limit, *_ = *self.noise_limits, None
        if limit is None or not _is_white(look):
            return False
        return sum(map(_is_white, self.looks)) <= SELDOM * len(self.looks)

    def _unlike_grid(self, look: Look) -> Iterator[tuple[str, str]]:
        axes = list(zip(*(k.spacing for k in self.looks if k.spacing), strict=True))
        if look.spacing and axes:
            for mine, theirs in zip(look.spacing, axes, strict=True):
                if not min(theirs) / SPACING_RATIO <= mine <= max(theirs) * SPACING_RATIO:
                    spacing = " × ".join(f"{v:.3g}" for v in look.spacing)
                    usual = " × ".join(_range(a) for a in axes)
                    yield "another spacing", f"voxels of {spacing} mm, training volumes {usual} mm"
                    break
        usual_axes = sorted({k.orientation for k in self.looks if k.orientation})
        if look.orientation and usual_axes and look.orientation not in usual_axes:
            yield (
                "another orientation",
                f"axes {look.orientation}, training volumes {', '.join(usual_axes)}",
            )

    @cached_property
    def _points(self) -> Floats:
        return np.array([k.features for k in self.looks])

    @cached_property
    def _scale(self) -> Floats:
        return _scale_of(self._points)

    def _distance(self, look: Look) -> float:
        return float(_distances(np.array([look.features]), self._points, self._scale).min())

    def _apart(self, look: Look) -> str:
        """Which groups of features lie outside of the training images', the farthest first."""
        points = self._points
        mine = np.array(look.features)
        low, high = points.min(0), points.max(0)
        outside = np.maximum(low - mine, mine - high).clip(0) / self._scale
        by_group = {g: float(np.hypot.reduce(outside[a:b])) for g, (a, b) in GROUPS.items()}
        groups = [g for g in sorted(by_group, key=lambda g: -by_group[g]) if by_group[g] > 0]
        return f"another {' and '.join(groups[:2])}" if groups else "another look"


def remember(cases: Sequence[Case], data: DataConfig, key: str) -> Familiar:
    """What training cases look like, and how far apart those of different patients are.

    Parameters
    ----------
    cases : sequence of Case
        Of the training split.
    data : DataConfig
    key : str
        Of the data and splits.
    """
    most = MOST[cases[0].dims] if cases else 0
    at = np.linspace(0, len(cases) - 1, min(len(cases), most)).round().astype(int)
    chosen = [cases[k] for k in at]
    with ThreadPoolExecutor(DECODERS if most == MOST[2] else 1) as pool:
        looks = tuple(pool.map(lambda c: look_at_case(c, data), chosen))
    who = [c.patient or c.file for c in chosen]
    numbers = {patient: n for n, patient in enumerate(dict.fromkeys(who))}
    limit = _limit(looks, [c.patient for c in chosen])
    return Familiar(key, looks, limit, tuple(numbers[w] for w in who))


def _usual_noise(known: Sequence[tuple[float, int]]) -> float:
    """What `USUAL` of all noise is at most, where every patient counts as much; see `Familiar`."""
    by_patient: dict[int, list[float]] = {}
    for noise, patient in known:
        by_patient.setdefault(patient, []).append(noise)
    *others, last = sorted(by_patient.values(), key=lambda of: (np.median(of), max(of)))
    if len(others) >= 3 and np.median(last) > _fence([float(np.median(of)) for of in others]):
        by_patient = dict(enumerate(others))
    weights = [1 / len(by_patient[p]) for p in by_patient for _ in by_patient[p]]
    noises = np.concatenate(list(by_patient.values()))
    order = np.argsort(noises)
    below = np.cumsum(np.array(weights)[order]) / len(by_patient)
    return float(noises[order][np.searchsorted(below, USUAL - 1e-9)])


def _fence(noises: Sequence[float]) -> float:
    """Beyond it one is far out among these."""
    low, high = np.quantile(np.log(np.maximum(noises, 1e-4)), (0.25, 0.75))
    return float(np.exp(high + max(3 * (high - low), np.log(ALONE))))


def _limit(looks: Sequence[Look], patients: Sequence[str]) -> float | None:
    if len(set(patients)) < 3:
        return None
    points, who = np.array([k.features for k in looks]), np.array(patients)
    apart = _distances(points, points, _scale_of(points))
    apart[who[:, None] == who[None]] = np.inf
    return round(float(np.quantile(apart.min(1), USUAL, method="higher")), 4)


def _scale_of(points: Floats) -> Floats:
    """What one unit of each feature is: its spread, and of each group as much in all."""
    return np.asarray(np.maximum(points.std(0), _LEAST) / _WEIGHT)


def _is_white(look: Look) -> bool:
    """Whether an image tells no noise, and white is why."""
    return look.depth != VOLUME and look.noise is None and look.features[WHITE] > CLIPPED


def _distances(points: Floats, others: Floats, scale: Floats) -> Floats:
    return np.asarray(
        np.linalg.norm((points[:, None] - others[None]) / scale, axis=2), dtype=np.float64
    )


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def read_familiar(path: Path) -> Familiar:
    """What a run or an export remembers of its training images.

    Raises
    ------
    RunError
        If the file is missing or damaged.
    """
    held = read_json(path)
    try:
        known = Familiar.from_json(held)
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise damaged(path, f"{type(e).__name__}: {first_line(e)}") from None
    if known.patients and len(known.patients) != len(known.looks):
        found = f"patients of {len(known.patients)} images, looks of {len(known.looks)}"
        raise damaged(path, found)
    if len({len(k.features) for k in known.looks}) > 1:
        raise damaged(path, "features: not as many of each image")
    return known
