"""A run that is ready for its stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from weakseg.config import Config
from weakseg.data.arrays import ImageBatches
from weakseg.data.cases import CaseSet
from weakseg.errors import UserError
from weakseg.layout import masks_folder
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
    images_key : str
        The same without the masks, for what sees none.
    images : ImageBatches
        The images of ``cases``, decoded once for all stages of a command.
    fitted : mapping
        Method → the folder of masks that holds its threshold, where it is fitted and its masks are
        not made yet.
    """

    config: Config
    run: Run
    cases: CaseSet
    channels: int
    key: str
    images_key: str
    images: ImageBatches
    fitted: Mapping[str, Path] = field(default_factory=dict)

    def thresholds_in(self, method: str) -> Path:
        """The folder of masks that holds a method's threshold, and what its rule has learnt."""
        return self.fitted.get(method, masks_folder(self.run.folder))

    @property
    def masks_key(self) -> tuple[str, ...]:
        """What the masks add to a key that has `images_key` in it, for what sees them as well."""
        return () if self.key == self.images_key else (self.key,)

    @property
    def has_classifier(self) -> bool:
        """Whether the experiment's classifier is of such cases, so that there are heatmaps, gates
        and floors: and some are without a lesion, from which it learns what one is."""
        return self.cases.dims == self.config.classifier.dims and bool(self.cases.labels.healthy)


def require_classifier(prepared: Prepared, what: str) -> None:
    """Refuse a stage that builds on a classifier where there is none of such cases.

    Raises
    ------
    UserError
    """
    if not prepared.has_classifier and not prepared.cases.labels.healthy:
        raise UserError(
            f"{what} cannot be: no image is without a lesion, so that nothing tells a classifier "
            "what one is.",
            where="data.healthy_labels",
            fix="add images without a lesion and name their label, or train segmenters on the "
            "masks (`weakseg train-segmenter`)",
        )
    if not prepared.has_classifier:
        arch = prepared.config.classifier.arch
        raise UserError(
            f"{what} of volumes need{'' if what.endswith('s') else 's'} a classifier of volumes.",
            where="classifier.arch",
            found=f"{arch}, and a manifest of volumes",
            fix=f"set classifier.arch to mil:{arch} or {arch}-3d; or label their slices in a "
            "column `slice`; or train segmenters alone (`weakseg train-segmenter`)",
        )


def require_images(prepared: Prepared, what: str) -> None:
    """Refuse a stage that there is of images and of slices, and not of whole volumes.

    Raises
    ------
    UserError
    """
    # Filters, fills and layers one by one are of flat images: there is no such work on volumes.
    if prepared.cases.dims != 2:
        raise UserError(
            f"{what} is for images and slices, not for whole volumes.",
            where=prepared.cases.source,
            found="a manifest of volumes",
            fix="leave it out, or label their slices in a column `slice`",
        )
