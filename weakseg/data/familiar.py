"""What a run's training images look like, and which new images look otherwise.

A network answers for every image, also for those of another organ or another machine. A run
remembers its training images as a few numbers each; new images are held against them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.config import DataConfig
from weakseg.data.case_files import intensity_of, seen_image
from weakseg.data.cases import Case
from weakseg.data.formats.reading import DECODERS
from weakseg.data.images import scale_intensity, scaling
from weakseg.data.noise import noise_share
from weakseg.data.volumes import read_volume
from weakseg.data.zscore import scaled_by, scales_of

Floats = NDArray[np.float64]

MOST = {2: 200, 3: 24}
"""Training images, and volumes, that are looked at; of more, evenly spaced ones."""
SIDE = 128
"""Longest side in pixels at which an image's detail is measured."""
CELLS = 4
USUAL = 0.99
"""A new image may be as far from the nearest training image as this share of these are from those
of other patients."""
NOISE = "more noise"

NOISIER = 1.05
"""A new image may have so many times the noise of the training images but for the noisiest."""
RATIO = 2.0
"""Factor between sides, beyond which an image shows another resolution."""
SPACING_RATIO = 1.1
COLOURED = 0.02
"""Mean difference of the highest and the lowest channel, in [0, 1], of an image in colour."""

_QUANTILES = (5, 25, 50, 75, 95)
_FINENESS = (0.0, 1.0, 2.0, 4.0, 8.0)
GROUPS = {
    "brightness": (0, 8),
    "contrast": (8, 9),
    "fineness of detail": (9, 14),
    "place of bright and dark": (14, 14 + CELLS**2),
}
"""Features by what they tell: from where to where."""
_LEAST = np.repeat([0.03, 0.03, 0.1, 0.05], [8, 1, 5, CELLS**2])
_WEIGHT = np.repeat([8, 1, 5, CELLS**2], [8, 1, 5, CELLS**2]) ** -0.5


@dataclass(frozen=True)
class Look:
    """How an image or a volume looks, in a few numbers.

    Attributes
    ----------
    scaled : {"dtype", "percentile", "zscore"}
        How its intensities reach the network, which depends on its bits.
    depth : str
        Its samples' type.
    coloured : bool
    longest : int
        Its longest side in pixels; 0 for volumes.
    spacing : tuple of float or None
        In mm, of volumes that tell it.
    orientation : str or None
        Of volumes that tell it, for instance LPS.
    features : tuple of float
        See `GROUPS`.
    noise : float or None
        See `weakseg.data.noise.noise_share`; None of volumes, where it cannot be told, and of
        images that were looked at before it was.
    """

    scaled: str
    depth: str
    coloured: bool
    longest: int
    spacing: tuple[float, ...] | None
    orientation: str | None
    features: tuple[float, ...]
    noise: float | None = None


def look_at_case(case: Case, data: DataConfig) -> Look:
    """How the image of a case looks; of a volume the first modality.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    return _LOOKS[case.noun](case, data)


def _look_at_picture(case: Case, data: DataConfig) -> Look:
    return look_at_image(seen_image(case, data), intensity_of(case, data))


def _look_at_volume(case: Case, data: DataConfig) -> Look:
    volume = read_volume(case.image)
    values, grid = volume.values, volume.frame
    scales = scales_of(values[None])
    middle = [np.take(values, n // 2, axis=k) for k, n in enumerate(values.shape)]
    # Three standard deviations on either side become 0 to 1.
    slices = [np.clip((scaled_by(s[None], scales)[0] + 3) / 6, 0, 1) for s in middle]
    return Look(
        "zscore",
        "volume",
        False,
        0,
        grid.spacing if grid.known_spacing else None,
        grid.orientation if grid.coded else None,
        _rounded(np.mean([features_of(s) for s in slices], axis=0)),
    )


_LOOKS: dict[str, Callable[[Case, DataConfig], Look]] = {
    "image": _look_at_picture,
    "slice": _look_at_picture,
    "volume": _look_at_volume,
}


def look_at_image(image: ArrayLike, intensity: str = "auto") -> Look:
    """How an (M, N) or (M, N, 3) image looks, as `weakseg.data.images.read_image` gives it."""
    values = np.asarray(image)
    shown = scale_intensity(values, intensity)  # type: ignore[arg-type]
    colour = float((shown.max(2) - shown.min(2)).mean()) if shown.ndim == 3 else 0.0
    grey = shown.mean(axis=2) if shown.ndim == 3 else shown
    noise = noise_share(shown)
    return Look(
        scaling(values, intensity),  # type: ignore[arg-type]
        f"{8 * values.dtype.itemsize} bits",
        colour > COLOURED,
        max(values.shape[:2]),
        None,
        None,
        _rounded(features_of(grey)),
        None if noise is None else round(noise, 4),
    )


def features_of(grey: ArrayLike) -> Floats:
    """Brightness, contrast, fineness and layout of an (M, N) image in [0, 1], see `GROUPS`."""
    import cv2

    image = np.asarray(grey, dtype=np.float32)
    share = SIDE / max(image.shape)
    size = (max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    blurred = [small if s == 0 else cv2.GaussianBlur(small, (0, 0), s) for s in _FINENESS]
    bands = [a - b for a, b in zip(blurred, [*blurred[1:], small.mean()], strict=True)]
    layout = cv2.resize(small, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return np.array(
        [
            small.mean(),
            (small <= 0.02).mean(),
            (small >= 0.98).mean(),
            *np.percentile(small, _QUANTILES),
            small.std(),
            *(np.log(0.002 + band.std()) for band in bands),
            *layout.ravel(),
        ],
        dtype=np.float64,
    )


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
    """

    key: str
    looks: tuple[Look, ...]
    limit: float | None

    def to_json(self) -> dict[str, Any]:
        """As the run folder holds it."""
        looks = [asdict(k) for k in self.looks]
        return {"key": self.key, "limit": self.limit, "looks": looks}

    @classmethod
    def from_json(cls, held: dict[str, Any]) -> Familiar:
        """What `to_json` wrote."""
        looks = [
            Look(
                **k
                | {"features": tuple(k["features"])}
                | {"spacing": None if k["spacing"] is None else tuple(k["spacing"])}
            )
            for k in held["looks"]
        ]
        return cls(held["key"], tuple(looks), held["limit"])

    @cached_property
    def noise_limit(self) -> float | None:
        """Noise beyond which an image is noisier than training images: `NOISIER` times what
        `USUAL` of those have at most. None where fewer than three of them tell theirs."""
        known = [k.noise for k in self.looks if k.noise is not None]
        if len(known) < 3:
            return None
        return NOISIER * float(np.quantile(known, USUAL, method="higher"))

    def unlike(self, look: Look) -> dict[str, str]:
        """In what an image differs from all training images: a few words → the reason."""
        return dict(self._unlike(look)) if self.looks else {}

    def _unlike(self, look: Look) -> Iterator[tuple[str, str]]:
        if look.scaled not in {k.scaled for k in self.looks}:
            depths = ", ".join(sorted({k.depth for k in self.looks}))
            yield (
                "another depth",
                f"{look.depth} a sample, training images {depths}: its intensities are scaled "
                "otherwise; save it as they are saved",
            )
        if look.coloured not in {k.coloured for k in self.looks}:
            kinds = ("in colour", "grey") if look.coloured else ("grey", "in colour")
            yield "other colour", f"{kinds[0]}, training images {kinds[1]}"
        sides = [k.longest for k in self.looks]
        if look.longest and not min(sides) / RATIO <= look.longest <= max(sides) * RATIO:
            yield (
                "another size",
                f"longest side {look.longest} pixels, training images {_range(sides)}",
            )
        yield from self._unlike_grid(look)
        limit = self.noise_limit
        if look.noise is not None and limit is not None and look.noise > limit:
            yield (
                NOISE,
                f"noise of {look.noise:.1%} of the tissue's intensity, 99% of the training images "
                f"{limit / NOISIER:.1%} at most",
            )
        distance = self._distance(look)
        if self.limit is not None and distance > self.limit:
            yield (
                "another look",
                f"{self._apart(look)}: {distance:.3g} from the nearest training image, "
                f"{self.limit:.3g} is usual at most",
            )

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
        return f"another {' and '.join(groups[:2])}" if groups else "looks otherwise"


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
    return Familiar(key, looks, _limit(looks, [c.patient for c in chosen]))


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


def _distances(points: Floats, others: Floats, scale: Floats) -> Floats:
    return np.asarray(
        np.linalg.norm((points[:, None] - others[None]) / scale, axis=2), dtype=np.float64
    )


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def _rounded(features: Floats) -> tuple[float, ...]:
    return tuple(round(float(f), 4) for f in features)
