"""What the images of heatmap-filtered retraining are filtered by: heatmaps of a seed, and masks."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from weakseg.config import Condition, FilteredConfig, fingerprint
from weakseg.errors import UserError
from weakseg.filtering.images import FilteredImages, training_means
from weakseg.filtering.measured import score_selection
from weakseg.filtering.selectors import Selector
from weakseg.filtering.sources import TruthMasks, make_selector
from weakseg.heatmaps.explaining import target_classes
from weakseg.layout import seed_folder
from weakseg.masks.rules import FittedRule
from weakseg.methods.classifiers import load_classifier
from weakseg.methods.explained import called_target
from weakseg.methods.masks_seen import MasksSeen
from weakseg.methods.prepared import Prepared
from weakseg.methods.stored_heatmaps import PREDICTED, HeatReader, heatmap_key
from weakseg.models.classifier import Classifier
from weakseg.progress import progress
from weakseg.training.loop import pick_device

SEED_OFFSET = 10_000
"""Added to a seed, so that a retrained network is not the one that made the heatmaps over again."""


class FilterSources:
    """What every condition of a seed shares; read and fitted when it is first asked for.

    Parameters
    ----------
    prepared : Prepared
    settings : FilteredConfig
    target : str
        Of the heatmaps: ``lesion``, a label, or ``predicted``.
    seed : int
    heatmaps : Path
        Their folder.
    truth : TruthMasks
    """

    def __init__(
        self,
        prepared: Prepared,
        settings: FilteredConfig,
        target: str,
        seed: int,
        heatmaps: Path,
        truth: TruthMasks,
    ) -> None:
        self.prepared, self.settings, self.target, self.seed = prepared, settings, target, seed
        self.truth, self.reader = truth, HeatReader(prepared, heatmaps)

    @property
    def arch(self) -> str:
        """The network that is trained anew."""
        return self.prepared.config.classifier.arch

    @property
    def classifier(self) -> Path:
        """The folder of the network that made the heatmaps."""
        return seed_folder(self.prepared.run.folder, self.arch, self.seed)

    @cached_property
    def original(self) -> Classifier:
        """The network that made the heatmaps."""
        return load_classifier(self.classifier)

    @cached_property
    def fitted(self) -> FittedRule:
        """The threshold rule; some learn for minutes.

        Raises
        ------
        UserError
            If it cannot be fitted.
        """
        rule = self.settings.rule
        try:
            return self.reader.fit(rule, self.prepared.config.seed)
        except LookupError as e:
            raise UserError(
                f"The threshold rule {rule.rule} cannot be fitted.",
                where="filtered.rule",
                found=str(e),
                fix="choose a rule that learns nothing, such as fixed",
            ) from None

    @property
    def made_by(self) -> dict[str, Any]:
        """What the masks of the rule depend on besides the heatmaps.

        A rule that is trained is so by the run's seed, and sees a mask only where masks teach it.
        """
        rule = self.settings.rule
        if rule.trainable:
            settings = {"rule": rule.model_dump(mode="json"), "seed": self.prepared.config.seed}
            taught = self.seen.count
            by = {"masks": self.prepared.masks_key} if taught and self.prepared.masks_key else {}
            return settings | {"masks_seen": taught} | by
        return self.fitted.to_json()

    @property
    def seen(self) -> MasksSeen:
        """The true masks that had a part in the rule, which is not fitted for it if it learns."""
        rule = self.settings.rule
        if not rule.trainable:
            return self.reader.seen_by(self.fitted)
        taught = self.reader.teaching() if rule.taught_by_masks else []
        return MasksSeen(frozenset(c.id for c in taught))

    @cached_property
    def selector(self) -> Selector:
        """What every condition marks."""
        heats = [self.reader.load(c) for c in self.prepared.cases.cases]
        return make_selector(
            self.truth, heats, self.fitted, margin=self.settings.margin, seed=self.seed
        )

    @cached_property
    def means(self) -> Any:
        """Mean of each channel over the training images."""
        train = self.prepared.cases.indices("train")
        return training_means(self.prepared.images, train, self.selector.valid)

    def images(self, condition: Condition) -> FilteredImages:
        """The run's images as a condition leaves them."""
        return FilteredImages(self.prepared.images, self.selector, condition, self.means)

    def key(self, condition: Condition) -> str:
        """Fingerprint of all that a condition's network depends on."""
        settings = self.settings.model_dump(mode="json", include={"epochs", "keep_networks"})
        rule = self.made_by if condition.size == "hard" else None
        # Which mask an image without a lesion borrows is drawn by the run's seed.
        truth = (self.settings.margin, self.prepared.config.seed, *self.prepared.masks_key)
        drawn = truth if condition.source in ("truth", "box") else None
        heat = heatmap_key(self.prepared, self.seed, self.target)
        return fingerprint("filtered", 2, heat, settings, rule, drawn, condition.name, SEED_OFFSET)

    @property
    def faithfulness_key(self) -> str:
        """Fingerprint of all that scores of the heatmaps against their network depend on."""
        heat, seed = heatmap_key(self.prepared, self.seed, self.target), self.prepared.config.seed
        wanted = self.settings.faithfulness
        return fingerprint("faithfulness", 2, heat, wanted, self.made_by, seed)

    def faithfulness(self, what: str) -> tuple[int, list[pd.DataFrame]]:
        """How many test images are looked at, and ROAD, insertion, deletion and preservation.

        Only images that the network itself calls a target class are looked at: elsewhere there is
        no probability that removing evidence could lower. No label is read.

        Parameters
        ----------
        what : str
            For the progress bar.
        """
        cases, wanted = self.prepared.cases, self.settings.faithfulness
        chosen = called_target(self.prepared, self.target, self.classifier, wanted.images)
        model = load_classifier(self.classifier).to(pick_device(self.prepared.config.device))

        def predict(batch: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                logits = model(torch.from_numpy(batch).to(model.mean.device))
            return logits.float().softmax(1).cpu().numpy()

        classes = (
            tuple(range(len(cases.labels.names)))
            if self.target == PREDICTED
            else target_classes(self.target, cases.labels)
        )
        with progress(what, len(chosen)) as advance:
            tables = score_selection(
                predict,
                self.prepared.images,
                chosen,
                self.selector,
                classes,
                self.means,
                steps=wanted.steps,
                percents=wanted.percent,
                seed=self.seed,
                advance=advance,
            )
        for table in tables:
            of = [cases.cases[i] for i in table.pop("image")]
            table.insert(0, "case", [c.id for c in of])
            table.insert(1, "patient", [c.patient for c in of])
        return len(chosen), [t.round(6) for t in tables]
