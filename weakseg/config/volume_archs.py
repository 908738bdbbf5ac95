"""Names of classifiers of volumes, which say what of a network of images they are made of."""

from __future__ import annotations

INSTANCES = "mil:"
"""Before a classifier of images: it sees every slice, and their scores are pooled."""

DEEP = "-3d"
"""Behind one: its kernels are inflated to three dimensions."""


def flat_arch(arch: str) -> str:
    """The classifier of images that a classifier is made of: ``resnet18`` of ``mil:resnet18``."""
    return arch.removeprefix(INSTANCES) if sees_slices(arch) else arch.removesuffix(DEEP)


def sees_slices(arch: str) -> bool:
    """Whether a classifier pools what it says of the slices of a volume."""
    return arch.startswith(INSTANCES)


def is_deep(arch: str) -> bool:
    """Whether a classifier has kernels of three dimensions."""
    return not sees_slices(arch) and arch.endswith(DEEP)


def arch_dims(arch: str) -> int:
    """2 for a classifier of images, 3 for one of volumes."""
    return 3 if sees_slices(arch) or is_deep(arch) else 2
