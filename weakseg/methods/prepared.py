"""A run that is ready for its stages."""

from __future__ import annotations

from dataclasses import dataclass

from weakseg.config import Config
from weakseg.data.arrays import ImageBatches
from weakseg.data.cases import CaseSet
from weakseg.errors import UserError
from weakseg.runs import Run


@dataclass(frozen=True)
class Prepared:
    """A run that is ready for its stages.

    Attributes
    ----------
    config : Config
    run : Run
    cases : CaseSet
        With splits.
    channels : {1, 3}
        Colours of the images.
    key : str
        Fingerprint of the data, its reading and its splits.
    images : ImageBatches
        The images of ``cases``, decoded once for all stages of a command.
    """

    config: Config
    run: Run
    cases: CaseSet
    channels: int
    key: str
    images: ImageBatches


def refuse_volumes(prepared: Prepared, what: str) -> None:
    """Refuse a stage that works on images only.

    Raises
    ------
    UserError
        If the manifest lists volumes.
    """
    if prepared.cases.dims == 3:
        raise UserError(
            f"{what} of volumes {'are' if what.endswith('s') else 'is'} not supported.",
            where=prepared.cases.source,
            found="a manifest of volumes",
            fix="train segmenters on them (`weakseg train-segmenter`), or export their slices as "
            "16-bit PNG with a label each",
        )
