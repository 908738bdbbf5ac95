"""A run's segmenter, ready for new images or volumes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import Config, SegmenterConfig
from weakseg.data.arrays import ImageBatches
from weakseg.data.cases import Case, Labels
from weakseg.errors import DataError, RunError, UserError
from weakseg.layout import BEST, seed_folder, segmenter_folder
from weakseg.models.classifier import Classifier
from weakseg.runs import Run, file_hash
from weakseg.stages.gate import mean_probability
from weakseg.stages.networks import classifier_labels, other_network, refuse_one_seed
from weakseg.stages.segmenter_masks import GATE_BY, NETWORKS, network_mask
from weakseg.stages.segmenter_networks import Networks, load_networks
from weakseg.stages.segmenters import trained_settings
from weakseg.stages.train_classifier import load_classifier
from weakseg.training.classify import predict_probabilities
from weakseg.training.loop import make_fabric, pick_device
from weakseg.training.segment import SegmentationCases, cases_at_once


@dataclass(frozen=True)
class SegmenterPredictor:
    """A run's segmenter, ready for new images or volumes.

    Attributes
    ----------
    networks : Networks
        One, or all whose probabilities are averaged.
    config : Config
        The run's experiment.
    settings : SegmenterConfig
        Resolved.
    threshold : dict
        Its entry in ``threshold.json``.
    method : str
        Its name in the run's report.
    seeds : tuple of int
        Of the networks.
    classifiers : tuple of Classifier
        Those whose mean probability of a lesion empties a mask; none without a gate.
    labels : Labels
        Of the classifiers.
    """

    networks: Networks
    config: Config
    settings: SegmenterConfig
    threshold: dict[str, Any]
    method: str
    seeds: tuple[int, ...]
    classifiers: tuple[Classifier, ...] = ()
    labels: Labels | None = None

    @property
    def held(self) -> dict[str, Any]:
        """The ``settings.json`` of the first network."""
        return self.networks.settings

    @property
    def dims(self) -> int:
        """2 for images, 3 for volumes."""
        return int(self.held["dims"])

    @property
    def chosen(self) -> str:
        """What the threshold was chosen on, and how many masks were seen."""
        t = self.threshold
        return f"threshold chosen on {t['chosen_on']}; {t['masks_seen']} masks seen"

    @property
    def at_once(self) -> int:
        """How many cases the network takes together."""
        return cases_at_once(int(self.held["image_size"])) if self.dims == 2 else 1

    def predict(self, case: Case) -> tuple[np.ndarray, np.ndarray, float | None]:
        """`predict_all` of one case, which takes as long as of `at_once` cases."""
        (found,) = self.predict_all([case])
        return found

    def predict_all(
        self, cases: Sequence[Case]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, float | None]]:
        """Mask and probability of a lesion of each case, on the case's own grid.

        The networks get `at_once` cases at a time, as in the stage that scores masks, so that
        a case gets the same mask from both.

        Parameters
        ----------
        cases : sequence of Case
            Of which only the image, further modalities and the region of interest are read.

        Yields
        ------
        mask : (*size) ndarray of bool
        probability : (*size) ndarray of float32
        lesion : float or None
            What the gate's classifiers say of the whole case; None without a gate.

        Raises
        ------
        DataError
            If a file cannot be read, or the case has another number of modalities than the
            network was trained on.
        RunError
            If a network says NaN or infinity.
        """
        channels = int(self.held["channels"])
        for case in cases:
            self._refuse_others(case, channels)
        held = SegmentationCases(
            cases,
            Labels((), (cases[0].label,)),
            self.config.data,
            channels,
            self.settings.normalise,
            int(self.held["image_size"]),
        )
        fabric = make_fabric(str(self.networks.device), self.settings.precision)
        with fabric.autocast():  # as the stage made its masks
            found = list(self.networks.probabilities(held, range(len(cases)), self.settings))
        for case, (_, p) in zip(cases, found, strict=True):
            says = self._lesion_probability(case)
            gated = says is not None and says < float(self.threshold["gate"])
            mask = np.zeros(p.shape, dtype=bool) if gated else network_mask(p, self.threshold)
            yield mask, p, says

    def _refuse_others(self, case: Case, channels: int) -> None:
        """Refuse a case that the network does not take."""
        if case.dims != self.dims or (self.dims == 3 and 1 + len(case.more) != channels):
            kind = "volumes" if self.dims == 3 else "images"
            raise DataError(
                f"The network takes {kind} of {channels} channels.",
                where=str(case.image),
                found=f"{'a volume' if case.dims == 3 else 'an image'} of {1 + len(case.more)}",
                fix="name the modalities in a manifest with the columns image, image2, …",
            )
        if self.held.get("roi") and case.roi is None:
            raise DataError(
                "The network was trained on volumes with a region of interest.",
                where=str(case.image),
                fix="name the region in a manifest with the column roi",
            )

    def _lesion_probability(self, case: Case) -> float | None:
        """What the gate's classifiers say of an image, in [0, 1]; None without a gate."""
        if not self.classifiers or self.labels is None:
            return None
        channels = self.classifiers[0].spec.channels
        image = ImageBatches([case], self.config.data, channels)
        lesion = list(self.labels.lesion_indices)
        said = [
            predict_probabilities(m, image, np.arange(1), 1, m.mean.device)[:, lesion].sum(1)
            for m in self.classifiers
        ]
        found = float(mean_probability(said)[0])
        if not np.isfinite(found):
            raise RunError(
                "The gate's classifier gives no probability (NaN or infinity).",
                where=str(case.image),
                fix="look at its weights, and train it again: weakseg train-classifier CONFIG "
                "--force",
            )
        return found


def load_segmenter_predictor(
    folder: Path, config: Config, name: str, entry: dict[str, Any], seed: int | None, device: str
) -> SegmenterPredictor:
    """A segmenter of a run; see `weakseg.stages.predictors.load_predictor`.

    Parameters
    ----------
    folder : Path
        Of the run.
    config : Config
        Its experiment.
    name : str
        Of the segmenter.
    entry : dict
        ``seed-<n>`` → its entry in ``threshold.json``.
    seed : int or None
    device : str
    """
    seeds = [int(s.removeprefix("seed-")) for s in entry]
    refuse_one_seed(name, entry[f"seed-{seeds[0]}"].get(NETWORKS, []), seed)
    if seed is not None and seed not in seeds:
        raise UserError(
            f"The run has no network of seed {seed} of {name}.",
            where="--seed",
            fix=f"choose one of: {', '.join(map(str, seeds))}",
        )
    seed = seeds[0] if seed is None else seed
    threshold = entry[f"seed-{seed}"]
    together = threshold.get(NETWORKS, [seed])
    networks = load_networks(folder, name, together, pick_device(device))
    record = Run(folder).record.get("stages", {}).get(f"masks/{name}", {})
    made_by = record.get("weights", {})
    for one in together:
        best = segmenter_folder(folder, name, one) / BEST
        if made_by and made_by.get(str(one)) != file_hash(best):
            raise other_network(best)
    held = networks.settings
    # As it was trained and as its threshold was chosen, whatever the experiment says by now.
    settings = trained_settings(segmenter_folder(folder, name, together[0]), threshold)
    data = config.data.model_copy(update={"intensity": held["intensity"]})
    config = config.model_copy(update={"data": data})
    predictor = SegmenterPredictor(networks, config, settings, threshold, name, tuple(together))
    by = threshold.get(GATE_BY, [])
    if not by:
        return predictor
    folders = [seed_folder(folder, config.classifier.arch, s) for s in by]
    classifiers = tuple(load_classifier(f).to(pick_device(device)) for f in folders)
    for one, part in zip(by, folders, strict=True):
        if record.get("classifiers", {}).get(str(one)) != file_hash(part / BEST):
            raise other_network(part / BEST)
    labels = classifier_labels(folders[0], classifiers[0])
    return replace(predictor, classifiers=classifiers, labels=labels)
