"""The heatmaps that a run has stored, and what is fitted to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from weakseg.config import HeatmapConfig, engine_settings, fingerprint
from weakseg.data.case_files import case_values
from weakseg.data.cases import Case
from weakseg.errors import RunError
from weakseg.heatmaps.store import Heatmap, load_heatmap
from weakseg.layout import BEST, fusion_file, heatmap_file, scales_file, seed_folder
from weakseg.masks.rules import Evidence, FittedRule, Rule
from weakseg.methods.cases import read_truth
from weakseg.methods.classifiers import classifier_key, is_trained, load_classifier
from weakseg.methods.masks_seen import MasksSeen
from weakseg.methods.prepared import Prepared
from weakseg.methods.trainable.base import Context
from weakseg.methods.trainable.registry import fit_trainable, load_rule
from weakseg.progress import progress
from weakseg.runs import file_hash
from weakseg.settings import Scale
from weakseg.stored import read_json
from weakseg.training.loop import pick_device

MAX_TRAINING_IMAGES = 300
"""Training images of a kind that a rule is trained on; of more, evenly spaced ones."""


PREDICTED = "predicted"
"""The target of heatmaps that explain each image's predicted class."""


def require_classifiers(prepared: Prepared) -> None:
    """Refuse a run without the classifiers that its experiment asks for.

    Raises
    ------
    RunError
        With the first seed that is missing.
    """
    untrained = [s for s in prepared.config.seeds if not is_trained(prepared, s)]
    if untrained:
        raise RunError(
            f"The run has no classifier of these settings for seed {untrained[0]}.",
            where=str(prepared.run.folder),
            fix="run `weakseg train-classifier CONFIG` with the same --set first, or "
            "`weakseg compare CONFIG`",
        )


def heatmap_key(
    prepared: Prepared, seed: int, target: str | None = None, name: str | None = None
) -> str:
    """Fingerprint of all that the heatmaps of a seed depend on."""
    heat = prepared.config.all_heatmaps[name or prepared.config.heatmap.method]
    settings = {k: v for k, v in heat.fingerprint_settings().items() if k != "rules"}
    settings |= {} if target is None else {"target": target}
    settings |= engine_settings(prepared.config)
    if not settings.pop("ensemble"):
        best = seed_folder(prepared.run.folder, prepared.config.classifier.arch, seed) / BEST
        return fingerprint("heatmaps", 3, classifier_key(prepared, seed), file_hash(best), settings)
    folders = classifier_folders(prepared, name or prepared.config.heatmap.method, seed)
    made_by = [(classifier_key(prepared, s), file_hash(f / BEST)) for s, f in folders.items()]
    return fingerprint("heatmaps of all", 3, made_by, settings)


def classifier_folders(prepared: Prepared, heatmap: str, seed: int) -> dict[int, Path]:
    """Seed → folder of the classifiers that make a heatmap: the seed's own, or all."""
    config = prepared.config
    seeds = config.seeds if config.all_heatmaps[heatmap].ensemble else [seed]
    return {s: seed_folder(prepared.run.folder, config.classifier.arch, s) for s in seeds}


def settled_heatmap(settings: HeatmapConfig, folder: Path) -> HeatmapConfig:
    """A heatmap's settings with the scales and the weights of layers that validation labels chose.

    Parameters
    ----------
    settings : HeatmapConfig
    folder : Path
        Of the heatmaps that were made with them.

    Raises
    ------
    RunError
        If the file that says which is missing or damaged.
    """
    again, chosen = "make the heatmaps again: weakseg heatmap-segment CONFIG --force", {}
    if settings.auc_drop is not None:
        kept = read_json(scales_file(folder), again, Scales)["scales"]
        chosen["scales"] = [float(s) for s in kept]
    if settings.learns_weights:
        learnt = read_json(fusion_file(folder), again, Weights)["weights"]
        chosen |= {} if learnt is None else {"weights": [float(w) for w in learnt]}
    return settings.model_copy(update=chosen)


class Scales(BaseModel):
    """What the file of a heatmap's scales must hold."""

    scales: list[Scale] = Field(min_length=1)


class Weights(BaseModel):
    """What the file of a heatmap's layers must hold; null where they count alike."""

    weights: list[Annotated[float, Field(ge=0)]] | None


@dataclass(frozen=True)
class HeatReader:
    """The heatmaps of a seed and the true masks of their cases."""

    prepared: Prepared
    folder: Path

    def load(self, case: Case) -> Heatmap:
        """The heatmap of a case."""
        return load_heatmap(heatmap_file(self.folder, case.id))

    def truth(self, case: Case, shape: Sequence[int]) -> Any:
        """The true mask, see `weakseg.methods.cases.read_truth`."""
        healthy = not self.prepared.cases.labels.is_lesion(case.label)
        return read_truth(case, shape, healthy, self.prepared.config.data)

    def heats(self, split: str) -> Iterator[np.ndarray]:
        """Raw heat of images with a lesion label; no mask is opened."""
        for case in self.prepared.cases.of(split):
            if self.prepared.cases.labels.is_lesion(case.label):
                yield self.load(case).full()

    def masked_lesions(self, split: str) -> list[Case]:
        """Cases with a lesion label and a mask, in the order of `pairs` and `triples`."""
        labels = self.prepared.cases.labels
        chosen = self.prepared.cases.of(split)
        return [c for c in chosen if labels.is_lesion(c.label) and c.mask is not None]

    def seen_by(self, rule: FittedRule) -> MasksSeen:
        """The true masks that had a part in a rule that was fitted to these heatmaps."""
        cases = self.masked_lesions("val") if rule.validation else []
        named = frozenset(cases[i].id for i in rule.validation)
        named |= frozenset(c.id for c in self.teaching() if rule.training)
        elsewhere = frozenset({rule.rule.elsewhere} - {""})
        return MasksSeen(named, rule.masks_seen - len(named), elsewhere)

    def pairs(self, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Raw heat and true mask of images with a lesion and a mask."""
        for case in self.masked_lesions(split):
            heat = self.load(case)
            yield heat.full(), self.truth(case, heat.shape)

    def triples(self, split: str, what: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """As `pairs`, with the image between the two; ``what`` is for the progress bar."""
        cases = self.masked_lesions(split)
        with progress(what, len(cases)) as advance:
            for case in cases:
                heat = self.load(case)
                yield (
                    heat.full(),
                    case_values(case, self.prepared.config.data),
                    self.truth(case, heat.shape),
                )
                advance()

    def training_pairs(self) -> Iterator[tuple[Case, np.ndarray]]:
        """Training images with a lesion label, evenly spaced, and their raw heat; no masks."""
        for case in self._training_cases(lesion=True):
            yield case, self.load(case).full()

    def teaching(self) -> list[Case]:
        """Training images with a lesion and a mask, evenly spaced."""
        return _some(self.masked_lesions("train"))

    def training_masks(self) -> Iterator[tuple[Case, np.ndarray]]:
        """These images and their true masks, as heat of 0 and 1."""
        for case in self.teaching():
            yield case, self.truth(case, self.load(case).shape).astype(np.float64)

    def healthy(self) -> list[Case]:
        """Training images without a lesion by their label, evenly spaced."""
        return self._training_cases(lesion=False)

    def _training_cases(self, lesion: bool) -> list[Case]:
        is_lesion = self.prepared.cases.labels.is_lesion
        return _some([c for c in self.prepared.cases.of("train") if is_lesion(c.label) == lesion])

    @property
    def classifier(self) -> Path:
        """The folder of the classifier that made them; of several the first."""
        arch = self.prepared.config.classifier.arch
        seed = int(self.folder.parent.name.removeprefix("seed-"))
        return seed_folder(self.prepared.run.folder, arch, seed)

    def _context(self, seed: int = 0, teacher: str = "heatmaps") -> Context:
        config, folder = self.prepared.config, self.classifier
        return Context(
            config,
            lambda: load_classifier(folder).to(pick_device(config.device)),
            self.prepared.channels,
            self.training_masks if teacher == "masks" else self.training_pairs,
            self.healthy,
            seed,
            self.prepared.cases.sliced,
        )

    def fitted(self, entry: Mapping[str, Any], method: Path) -> FittedRule:
        """The rule of an entry of ``threshold.json`` in the folder of a method's masks."""
        return load_rule(entry, method, self._context())

    def fit(self, rule: Rule, seed: int) -> FittedRule:
        """A threshold rule, fitted to these heatmaps; a search shows its progress.

        Raises
        ------
        LookupError
            If the rule needs masks or heatmaps and there are none.
        """
        return rule.fit(
            Evidence(
                train=lambda: self.heats("train"),
                val=lambda: self.pairs("val"),
                test=lambda: self.pairs("test"),
                val_images=lambda: self.triples("val", f"search for the best {rule.rule}"),
                seed=seed,
                trainer=lambda r: fit_trainable(r, self._context(seed, r.teacher)),
                training_masks=len(self.teaching()),
            )
        )

    def fit_all(self, rules: Sequence[Rule], seed: int) -> tuple[list[FittedRule], dict[str, str]]:
        """Fit every rule that can be; for the others, why not."""
        fitted: list[FittedRule] = []
        left_out: dict[str, str] = {}
        for rule in rules:
            try:
                fitted.append(self.fit(rule, seed))
            except LookupError as e:
                left_out[rule.rule] = str(e)
        return fitted, left_out


def _some(cases: list[Case]) -> list[Case]:
    """At most `MAX_TRAINING_IMAGES` of them, evenly spaced."""
    few = np.linspace(0, len(cases) - 1, min(len(cases), MAX_TRAINING_IMAGES)).round().astype(int)
    return [cases[k] for k in few]
