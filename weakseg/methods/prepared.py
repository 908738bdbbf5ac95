"""A run that is ready for its stages."""

from __future__ import annotations

from dataclasses import dataclass

from weakseg.config import ClassifierConfig, Config
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

    @property
    def has_classifier(self) -> bool:
        """Whether there are classifiers of such cases, and so heatmaps, gates and floors."""
        return self.cases.dims in ClassifierConfig.dims


def require_classifier(prepared: Prepared, what: str) -> None:
    """Refuse a stage that builds on a classifier where there is none of such cases.

    Raises
    ------
    UserError
    """
    if not prepared.has_classifier:
        raise UserError(
            f"{what} of volumes {'are' if what.endswith('s') else 'is'} not supported.",
            where=prepared.cases.source,
            found="a manifest of volumes",
            fix="label their slices in a column `slice`, or train segmenters on them (`weakseg "
            "train-segmenter`)",
        )
