"""Every published set that `weakseg import` reads by rules of its own, in the order of the help."""

from __future__ import annotations

from weakseg.importing.base import PublishedSet
from weakseg.importing.sets.bmad import BMAD
from weakseg.importing.sets.brats import BRATS
from weakseg.importing.sets.brisc import BRISC
from weakseg.importing.sets.bus_bra import BUS_BRA
from weakseg.importing.sets.cbis_ddsm import CBIS_DDSM
from weakseg.importing.sets.figshare import FIGSHARE

SETS: tuple[PublishedSet, ...] = (BMAD, BRATS, BRISC, BUS_BRA, CBIS_DDSM, FIGSHARE)
