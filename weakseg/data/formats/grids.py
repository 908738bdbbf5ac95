"""Where the voxels of a volume lie, and whether two files mean the same ones."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weakseg.data.formats.base import Affine, Frame

GRID_TOLERANCE = 1e-3
"""Grids are the same where their affines differ by less than this share of a voxel."""
NEARLY = 0.1
"""Grids whose voxels lie nowhere further apart than this share of a voxel mean the same one."""
SPACING_TOLERANCE = 0.01
"""Relative difference up to which spacings are the same."""

Leeway = Literal["other-frame", "no-place", "nearly"]
LEEWAY: dict[Leeway, str] = {
    "other-frame": "lie where one of two frames of their image says (its sform and qform differ)",
    "no-place": "tell no place in the patient, or their image tells none",
    "nearly": f"lie within {NEARLY:g} of a voxel of their image's grid",
}
"""How a file whose affine is not its image's may still mean the image's own voxels."""


def grid_difference(grid: Frame, other: Frame) -> str | None:
    """How a grid really differs from another, in words; None where it means the same voxels.

    That is so where the shapes are the same and, see `grid_leeway`, any frame of the one is,
    nearly, one of the other's, or one of them tells no place.
    """
    if grid.shape != other.shape:
        return f"{shape_words(grid.shape)} voxels, not {shape_words(other.shape)}"
    if _same(grid.affine, other) or grid_leeway(grid, other):
        return None
    apart = _apart(grid.affine, other)
    if (apart[:, :3] <= GRID_TOLERANCE).all():
        return f"an origin of {_mm(grid.affine[:3, 3])}, not {_mm(other.affine[:3, 3])}"
    if not np.allclose(grid.spacing, other.spacing, rtol=GRID_TOLERANCE, atol=0):
        return f"a spacing of {_mm(grid.spacing)}, not {_mm(other.spacing)}"
    return f"axes towards {_axes(grid)}, not {_axes(other)}"


def grid_leeway(grid: Frame, other: Frame) -> Leeway | None:
    """Why a grid of another affine still means the other's voxels.

    Returns
    -------
    {"other-frame", "no-place", "nearly"} or None
        A frame of one file is one of the other's, though not both are the one that counts; one of
        the files tells no place, and no other voxel sizes; or nowhere in the volume do voxels
        lie further apart than `NEARLY` of one. None where the affines are the same or the grids
        really differ.
    """
    if grid.shape != other.shape or _same(grid.affine, other):
        return None
    pairs = [(a, b) for a in grid.affines for b in other.affines]
    if any(_same(a, other, b) for a, b in pairs[1:]):
        return "other-frame"
    # An image at the origin may be meant: only the other file is taken for one without a place.
    placeless = (not grid.placed and other.placed) or not (grid.coded and other.coded)
    if placeless and _spacings_agree(grid, other):
        return "no-place"
    if any(_farthest(a, b, grid.shape) <= NEARLY for a, b in pairs):
        return "nearly"
    return None


def _spacings_agree(grid: Frame, other: Frame) -> bool:
    """Whether two files tell the same voxel sizes, or one of them none."""
    if not (grid.known_spacing and other.known_spacing):
        return True
    return bool(np.allclose(grid.spacing, other.spacing, rtol=SPACING_TOLERANCE, atol=0))


def _apart(affine: Affine, other: Frame, frame: Affine | None = None) -> NDArray[np.float64]:
    """How far each column of an affine is from another grid's, (3, 4), in its voxels."""
    size = np.array([*other.spacing, min(other.spacing)])
    own = other.affine if frame is None else frame
    return np.asarray(np.abs(affine - own)[:3] / size)


def _same(affine: Affine, other: Frame, frame: Affine | None = None) -> bool:
    return bool((_apart(affine, other, frame) <= GRID_TOLERANCE).all())


def _farthest(affine: Affine, other: Affine, shape: tuple[int, int, int]) -> float:
    """How far voxels of the same index lie apart at most, in voxels of the other grid.

    The distance is linear in the index, so that a corner is the farthest.
    """
    ends = [(0, n - 1) for n in shape]
    corners = np.stack(np.meshgrid(*ends, indexing="ij")).reshape(3, -1)
    at = np.vstack([corners, np.ones(corners.shape[1])])
    moved = np.linalg.solve(other, affine @ at)
    return float(np.abs(moved - at)[:3].max())


def shape_words(shape: tuple[int, ...]) -> str:
    """A shape as text: 128 × 128 × 23."""
    return " × ".join(map(str, shape))


def _mm(numbers: ArrayLike) -> str:
    return f"({', '.join(f'{v:.6g}' for v in np.asarray(numbers).tolist())}) mm"


def _axes(grid: Frame) -> str:
    """The direction of each voxel axis: its nearest letter, and the unit vector."""
    letters = (("L", "R"), ("P", "A"), ("I", "S"))
    unit = grid.affine[:3, :3] / np.linalg.norm(grid.affine[:3, :3], axis=0)
    names = []
    for k in range(3):
        main = int(np.abs(unit[:, k]).argmax())
        vector = ", ".join(f"{v:.3g}" for v in (unit[:, k] + 0.0).tolist())
        names.append(f"{letters[main][int(unit[main, k] > 0)]} ({vector})")
    return " ".join(names)
