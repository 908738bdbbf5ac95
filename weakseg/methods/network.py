"""A segmentation network, or the mean of several.

One room for one kind of method: its masks, how it is loaded, and what it stands on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import MANIFEST, Config, SegmenterConfig, load_config, same_start
from weakseg.contents import image_side
from weakseg.data.case_files import seen_image
from weakseg.data.cases import Case, Labels
from weakseg.data.formats.registry import VOLUMES, formats_of_dims
from weakseg.data.series import neighbours
from weakseg.engines.base import TORCH
from weakseg.errors import DataError, RunError, UserError
from weakseg.layout import (
    BEST,
    classifier_stage,
    config_file,
    masks_folder,
    masks_stage,
    seed_folder,
    segmenter_folder,
    segmenter_part,
    segmenter_stage,
    threshold_file,
)
from weakseg.memory import give_large_back
from weakseg.methods.base import (
    ENGINE,
    FOUNDATION,
    SUPERVISED,
    WEAK,
    Entries,
    Entry,
    Kind,
    KindOf,
    Method,
    Prediction,
    SourceKey,
    refuse_other_dims,
    seed_of,
)
from weakseg.methods.classifiers import load_classifier
from weakseg.methods.evidence import Evidence, with_neighbours
from weakseg.methods.fingerprints import segmenter_fingerprint
from weakseg.methods.gate import ClassifierGate, find_gate
from weakseg.methods.network_mask import BESIDE, SCREENING, looks_beside, of_evidence
from weakseg.methods.networks import classifier_labels, other_network, refuse_one_seed
from weakseg.methods.prepared import Prepared
from weakseg.methods.segmenter_networks import Networks, load_networks
from weakseg.methods.segmenters import is_trained, trained_settings
from weakseg.methods.spoken import network_name
from weakseg.methods.training_heats import blends_heat, heat_stands_on
from weakseg.runs import Run, file_hash
from weakseg.training.loop import in_precision, pick_device
from weakseg.training.segment import cases_at_once
from weakseg.training.segmentation_cases import SegmentationCases

NETWORKS = "networks"
"""Key of ``threshold.json`` that names the seeds whose probabilities were averaged."""

WEIGHTS = "network_weights"
"""Key of ``threshold.json`` that holds what each of them counts, where they do not count alike."""

GATE_BY = "gate_by"
"""Key of ``threshold.json`` that names the seeds of the classifiers behind the gate."""


ON_LABELS = "on_labels"
"""Key of ``threshold.json`` with what the cuts that validation labels chose make of these images:
how many ``lesions`` there are, how many of them were ``found``, and so of ``healthy`` ones and
``marked``."""

BY_KIND = "by_kind"
"""Key of ``threshold.json`` with the same of each choice of networks that labels had, by its name,
where they chose which kinds of network count."""

TRAIN_FIRST = "run `weakseg train-segmenter CONFIG` without --only, or `weakseg compare CONFIG`"


def beside_each(
    said: Iterator[tuple[int, np.ndarray]],
    cases: Sequence[Case],
    indices: Sequence[int],
    inference: Mapping[str, Any],
) -> Iterator[Evidence]:
    """Probabilities of some cases, with the evidence of those that have neighbours among them."""
    share = float(inference.get("neighbours", 0))
    if not share:
        yield from (Evidence(i, p) for i, p in said)
        return
    around = neighbours([cases[i] for i in indices])
    beside = {i: [indices[j] for j in of] for i, of in zip(indices, around, strict=True)}
    yield from with_neighbours(said, beside, share)


def no_gate(case: Case) -> None:
    """No classifier says anything."""


@dataclass(frozen=True)
class NetworkMethod(Method):
    """A segmentation network, or the mean of several, its threshold, screening and gate.

    Attributes
    ----------
    name, seeds, config
        See `weakseg.methods.base.Method`.
    networks : Networks
        One, or all whose probabilities are averaged.
    settings : SegmenterConfig
        Resolved.
    threshold : mapping
        Its entry in ``threshold.json``.
    gate : callable
        Case → the classifiers' probability of a lesion in it; None without a gate.
    """

    name: str
    seeds: tuple[int, ...]
    config: Config
    networks: Networks
    settings: SegmenterConfig
    threshold: Mapping[str, Any]
    gate: Callable[[Case], float | None] = no_gate

    @property
    def kind(self) -> str:
        return str(self.threshold["kind"])

    @property
    def masks_seen(self) -> int:
        return int(self.threshold["masks_seen"])

    @property
    def chosen_on(self) -> str:
        return str(self.threshold["chosen_on"])

    @property
    def dims(self) -> int:
        return int(self.networks.settings["dims"])

    @property
    def at_once(self) -> int:
        return cases_at_once(image_side(self.networks.settings))

    def predict_all(self, cases: Sequence[Case]) -> Iterator[Prediction]:
        for _, prediction in list(self.over(self._as_seen(cases), range(len(cases)))):
            yield prediction

    @property
    def looks_beside(self) -> bool:
        return looks_beside(self.threshold)

    def predict_each(self, cases: Sequence[Case]) -> Iterator[Prediction]:
        if not self.looks_beside or not cases:
            yield from super().predict_each(cases)
            return
        for _, prediction in self.over(self._as_seen(cases), range(len(cases))):
            yield prediction

    def _as_seen(self, cases: Sequence[Case]) -> SegmentationCases:
        """New cases as the network takes them; refuses others."""
        refuse_other_dims(cases, self.dims)
        trained = self.networks.settings
        channels = int(trained["channels"])
        for case in cases:
            self._refuse_others(case, channels)
        return SegmentationCases(
            cases,
            Labels((), (cases[0].label,)),
            self.config.data,
            channels,
            self.settings.normalise,
            int(trained["image_size"]),
        )

    def over(
        self, data: SegmentationCases, indices: Sequence[int]
    ) -> Iterator[tuple[int, Prediction]]:
        """What it says of some of a run's cases; see `Networks.probabilities`."""
        asked = partial(in_precision, str(self.networks.device), self.settings.precision)
        if formats_of_dims(self.dims) is VOLUMES:
            give_large_back()

        @lru_cache(maxsize=8)  # an image is asked about for its neighbours' sake as well
        def says(i: int) -> float | None:
            with asked():
                return self.gate(data.cases[i])

        def image(i: int) -> np.ndarray:
            return seen_image(data.cases[i], self.config.data)

        if not self.looks_beside:
            with asked():
                for i, p in self.networks.probabilities(data, indices, self.settings):
                    yield i, self.of_evidence(Evidence(i, p), says, image)
            return

        def said() -> Iterator[tuple[int, np.ndarray]]:
            # Never left half-way in another precision: whoever reads on may ask other networks.
            for at in range(0, len(indices), self.at_once):
                with asked():
                    some = indices[at : at + self.at_once]
                    answers = list(self.networks.probabilities(data, some, self.settings))
                yield from answers

        for evidence in beside_each(said(), data.cases, indices, self.threshold["inference"]):
            yield evidence.index, self.of_evidence(evidence, says, image)

    def of_evidence(
        self,
        evidence: Evidence,
        classifiers: Callable[[int], float | None],
        image: Callable[[int], np.ndarray],
    ) -> Prediction:
        """What it makes of what it says, see `weakseg.methods.network_mask.of_evidence`."""
        return of_evidence(self.threshold, evidence, classifiers, image)

    def confidence(self, prediction: Prediction) -> np.ndarray:
        return prediction.map

    def unscreened(self) -> NetworkMethod:
        """The same without its gate, and without dropping parts of its masks."""
        inference = self.threshold.get("inference", {})
        kept = {k: v for k, v in inference.items() if k not in SCREENING}
        threshold = {**self.threshold, "inference": kept, "gate": 0.0}
        for chosen in (BESIDE, ON_LABELS, BY_KIND):
            threshold.pop(chosen, None)
        return replace(self, threshold=threshold, gate=no_gate)

    def _refuse_others(self, case: Case, channels: int) -> None:
        """Refuse a case that the network does not take."""
        formats = case.formats
        lacks = case.slice is None and formats.further and 1 + len(case.more) != channels
        if lacks:
            raise DataError(
                f"The network takes {formats_of_dims(self.dims).noun}s of {channels} channels.",
                where=case.shown,
                found=f"{formats.article} {formats.noun} of {1 + len(case.more)}",
                fix="name the modalities in a manifest with the columns image, image2, …",
            )
        if self.networks.settings.get("roi") and case.roi is None:
            raise DataError(
                "The network was trained on volumes with a region of interest.",
                where=case.shown,
                fix="name the region in a manifest with the column roi",
            )


def load_network_method(
    folder: Path, config: Config, name: str, entries: Entries, seed: int | None, device: str
) -> NetworkMethod:
    """A segmenter of a run; see `weakseg.methods.find.load_method`.

    Parameters
    ----------
    folder : Path
        Of the run.
    config : Config
        Its experiment.
    name : str
        Of the segmenter.
    entries : mapping
        Of all methods of the run.
    seed : int or None
    device : str
    """
    entry = entries[name]
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
    # As it was trained and as its threshold was chosen, whatever the experiment says by now.
    settings = trained_settings(segmenter_folder(folder, name, together[0]), threshold)
    by = (str(threshold.get(ENGINE, TORCH)), settings.precision)
    networks = load_networks(folder, name, together, pick_device(device), *by)
    networks = networks.weighed(threshold.get(WEIGHTS, ())).counting
    record = Run(folder).record.get("stages", {}).get(f"masks/{name}", {})
    made_by = record.get("weights", {})
    for one in together:
        best = segmenter_folder(folder, name, one) / BEST
        if made_by and made_by.get(str(one)) != file_hash(best):
            raise other_network(best)
    trained = networks.settings
    window = trained.get("window", "auto")
    as_seen = {
        "intensity": trained["intensity"],
        "window": window if isinstance(window, str) else tuple(window),
    }
    data = config.data.model_copy(update=as_seen)
    config = config.model_copy(update={"data": data})
    method = NetworkMethod(name, tuple(together), config, networks, settings, threshold)
    gates = threshold.get(GATE_BY, [])
    if not gates:
        return method
    folders = [seed_folder(folder, config.classifier.arch, s) for s in gates]
    classifiers = tuple(load_classifier(f).to(pick_device(device)) for f in folders)
    for one, part in zip(gates, folders, strict=True):
        if record.get("classifiers", {}).get(str(one)) != file_hash(part / BEST):
            raise other_network(part / BEST)
    labels = classifier_labels(folders[0], classifiers[0])
    return replace(method, gate=ClassifierGate(classifiers, labels, config))


def _of_run(prepared: Prepared, name: str, seed: int, entry: Entry, whole: bool) -> NetworkMethod:
    config, folder = prepared.config, prepared.run.folder
    settings = trained_settings(segmenter_folder(folder, name, seed), entry)
    device = pick_device(config.device)
    together = list(entry.get(NETWORKS, [seed]))
    by = (str(entry.get(ENGINE, TORCH)), settings.precision)
    networks = load_networks(folder, name, together, device, *by, writes=whole)
    networks = networks.weighed(entry.get(WEIGHTS, ())).counting
    method = NetworkMethod(name, tuple(together), config, networks, settings, entry)
    if not whole:
        return method.unscreened()
    gate = find_gate(prepared, name, together)
    return method if gate is None else replace(method, gate=gate.of)


def _made_of(
    prepared: Prepared, name: str, seed: int, entry: Entry, source_key: SourceKey | None
) -> tuple[Any, Entry]:
    config, folder = prepared.config, prepared.run.folder
    together = config.mask_seeds(name)[seed]
    if entry.get(NETWORKS, [seed]) != together:
        raise RunError(
            f"The masks of {name} are not those of the mean of its networks."
            if config.segmenters[name].ensemble
            else f"The masks of {name} are those of the mean of its networks.",
            where=str(threshold_file(masks_folder(folder), name)),
            fix=TRAIN_FIRST,
        )
    for one in together if source_key is not None else ():
        if not is_trained(prepared, name, one, source_key and source_key(prepared, name, one)):
            raise RunError(
                f"The network {name} of seed {one} was trained with other settings.",
                where=str(segmenter_folder(folder, name, one)),
                fix=TRAIN_FIRST,
            )
    hashes = [file_hash(segmenter_folder(folder, name, s) / BEST) for s in together]
    kept = {k: v for k, v in entry.items() if k not in (GATE_BY, BESIDE, ON_LABELS, BY_KIND)}
    kept |= {"gate": 0.0}
    inference = entry.get("inference", {})
    kept |= {"inference": {k: v for k, v in inference.items() if k not in SCREENING}}
    return hashes if len(hashes) > 1 else hashes[0], kept


def _stands_on(kind_of: KindOf, config: Config, name: str, seed: int) -> set[str]:
    together, masks = config.mask_seeds(name)[seed], config.segmenters[name].masks
    needed = {segmenter_stage(name, s) for s in together}
    if config.segmenter_gate(name) != "none":
        arch = config.classifier.arch
        needed |= {classifier_stage(arch, s) for s in config.gate_seeds(together)}
    if blends_heat(config.segmenters[name]):
        needed |= {stage for s in together for stage in heat_stands_on(config, s)}
    if masks == MANIFEST or "/" in masks:  # of another run
        return needed
    source = kind_of(config, masks)
    for one in together:
        needed |= source.stands_on(config, masks, seed_of(source, config, masks, one))
    return needed


def _spoken(kind_of: KindOf, config: Config, name: str) -> str:
    masks = config.segmenters[name].masks
    if masks not in config.methods:  # the manifest's, or another run's
        return network_name(config, name, None if masks == MANIFEST else masks)
    return network_name(config, name, kind_of(config, masks).spoken(config, masks))


def network_kind(kind_of: KindOf) -> Kind:
    """The kind of segmentation networks."""
    return Kind(
        kinds=frozenset({WEAK, SUPERVISED, FOUNDATION}),
        config_of=lambda run: load_config(config_file(run)),
        names=lambda config: list(config.segmenters),
        seeds=lambda config, name: list(config.mask_seeds(name)),
        stage=masks_stage,
        part=segmenter_part,
        settings=segmenter_fingerprint,
        load=load_network_method,
        of_run=_of_run,
        made_of=_made_of,
        stands_on=partial(_stands_on, kind_of),
        spoken=partial(_spoken, kind_of),
        is_of=same_start,
    )
