"""What the filters of a run are made from: its heatmaps, its masks, and those borrowed."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg.config import Condition, DataConfig
from weakseg.data.case_files import case_image, case_truth
from weakseg.data.cases import CaseSet
from weakseg.data.geometry import Letterbox, letterbox, mask_to_network, to_square
from weakseg.errors import UserError, count
from weakseg.filtering.selectors import Selector, partners
from weakseg.heatmaps.store import Heatmap
from weakseg.masks.region import body_region
from weakseg.masks.rules import FittedRule, segment

Bools = NDArray[np.bool_]

_TRIES = 20
_IN_BODY = 0.95


class TruthMasks:
    """True masks on the network's square; where there is no lesion, one of another image.

    The shape of an empty mask would tell an image without a lesion at once. Such an image (and one
    with a lesion whose mask is empty) borrows the mask of a random image with a lesion, of the
    same split, that lies within its body: the first of 20 of which 95 % do, or the best of them.

    Parameters
    ----------
    cases : CaseSet
    data : DataConfig
        How its files are read.
    seed : int
        By which the masks that are borrowed are drawn.
    """

    def __init__(self, cases: CaseSet, data: DataConfig, seed: int) -> None:
        self.cases, self.labels = cases.cases, cases.labels
        self.data, self.seed, self.size = data, seed, data.image_size
        self.lenders = {
            split: [
                i
                for i, c in enumerate(self.cases)
                if c.split == split and c.mask is not None and self.labels.is_lesion(c.label)
            ]
            for split in ("train", "val", "test")
        }
        # As bits: the masks of a large set would not fit into memory as bytes.
        self._packed = cache(self._read)
        self._lender = cache(self._find_lender)

    @property
    def seen(self) -> frozenset[str]:
        """The cases whose true masks the filters are made of."""
        return frozenset(self.cases[i].id for own in self.lenders.values() for i in own)

    def missing(self) -> str | None:
        """Why there can be no filters of true masks; None if there can."""
        without = sum(c.mask is None and self.labels.is_lesion(c.label) for c in self.cases)
        if without:
            have = "has" if without == 1 else "have"
            return f"{count(without, 'image')} with a lesion {have} no mask"
        return None if all(self.lenders.values()) else "a split has no lesion with a mask"

    def truth(self, i: int) -> Bools:
        """The mask of a case, its own or borrowed, (S, S)."""
        if self.labels.is_lesion(self.cases[i].label):
            own = _unpack(self._packed(i), self.size)
            if own.any():
                return own
        return _unpack(self._packed(self._lender(i)), self.size)

    def _read(self, i: int) -> NDArray[np.uint8]:
        mask = case_truth(self.cases[i], self.data)
        assert mask is not None
        return np.packbits(mask_to_network(mask, _box(mask, self.size), rule="any"))

    def _find_lender(self, i: int) -> int:
        """Whose mask an image borrows that has none.

        Raises
        ------
        UserError
            If every mask that it might borrow is empty.
        """
        case = self.cases[i]
        region = body_region(case_image(case, self.data))
        body = mask_to_network(region, _box(region, self.size))
        rng = np.random.default_rng([self.seed, i, zlib.crc32(b"borrow")])
        best, most, tries = -1, -1.0, 0
        for lender in rng.permutation(self.lenders[str(case.split)]):
            mask = _unpack(self._packed(int(lender)), self.size)
            if not mask.any():
                continue
            if tries == _TRIES:
                break
            tries += 1
            within = float((mask & body).sum() / mask.sum())
            if within > most:
                best, most = int(lender), within
            if within >= _IN_BODY:
                break
        if best < 0:
            raise UserError(
                "The masks of lesions are empty.",
                where=f"the {case.split} split",
                fix="check data.mask_rule; `weakseg validate` shows a mask's values",
            )
        return best


def make_selector(
    truth: TruthMasks,
    heats: Sequence[Heatmap],
    fitted: FittedRule,
    *,
    margin: int,
    seed: int,
) -> Selector:
    """The marks of every condition, from the heatmaps of all cases.

    Parameters
    ----------
    truth : TruthMasks
        Of the cases that are filtered.
    heats : sequence of Heatmap
        Of all cases.
    fitted : FittedRule
        For conditions of size ``hard``. The gate on the classifier's probability is left out:
        an image that it would empty is filtered by its heatmap like any other.
    margin : int
        See `weakseg.config.FilteredConfig`.
    seed : int
        Of the classifier that made the heatmaps.
    """
    cases, size = truth.cases, truth.size

    @cache
    def content(shape: tuple[int, int]) -> Bools:
        return letterbox(shape, size).content()

    @cache
    def packed(i: int) -> NDArray[np.uint8]:
        heat = heats[i]
        image = case_image(cases[i], truth.data) if fitted.needs_image else None
        return np.packbits(mask_to_network(segment(fitted, heat.full(), image), heat.box))

    def hard(i: int) -> Bools:
        return _unpack(packed(i), size)

    return Selector(
        valid=lambda i: content(heats[i].shape),
        heat=lambda i: to_square(heats[i].raw, size),
        hard=hard,
        truth=truth.truth,
        partner=partners([str(c.split) for c in cases], seed),
        margin=margin,
        seed=seed,
    )


def masks_used(
    condition: Condition, truth: TruthMasks, of_rule: frozenset[str], others: int = 0
) -> int:
    """How many true masks went into a condition's filters; a case's mask counts once.

    Parameters
    ----------
    condition : Condition
    truth : TruthMasks
    of_rule : frozenset of str
        Cases whose masks had a part in the threshold rule.
    others : int, optional
        Masks that had one, and whose cases nobody names.
    """
    own = truth.seen if condition.sees_masks else frozenset()
    return len(own | of_rule) + others if condition.size == "hard" else len(own)


def _box(values: NDArray[Any], size: int) -> Letterbox:
    return letterbox((values.shape[0], values.shape[1]), size)


def _unpack(bits: NDArray[np.uint8], size: int) -> Bools:
    return np.unpackbits(bits, count=size * size).astype(bool).reshape(size, size)
