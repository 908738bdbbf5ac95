"""Every published set that `weakseg import` reads by rules of its own, in the order of the help."""

from __future__ import annotations

from weakseg.importing.base import PublishedSet
from weakseg.importing.sets.bus_bra import BUS_BRA

SETS: tuple[PublishedSet, ...] = (BUS_BRA,)
