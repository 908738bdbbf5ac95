"""A whole experiment.

One room for its keys and for what must hold between them: a check reads keys of several sections.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from weakseg.config.classifier import ClassifierConfig
from weakseg.config.consensus import ConsensusConfig
from weakseg.config.data import DataConfig
from weakseg.config.filtered import FilteredConfig
from weakseg.config.masks import HeatmapConfig, MasksConfig, NamedHeatmap, VolumesConfig
from weakseg.config.segmenter import MANIFEST, EquivalenceConfig, OneNetwork, SegmenterConfig
from weakseg.config.volume_archs import arch_dims
from weakseg.disk import is_reserved
from weakseg.masks.rules import ORACLES, RULES, Rule, default_rules
from weakseg.settings import AUTO, Section


class ScoresConfig(Section):
    """Statistics."""

    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamples of the patients")
    floors: bool = Field(True, description="score the trivial masks beside every method")


class ReportConfig(Section):
    """The page."""

    gallery: int = Field(4, ge=0, le=50, description="cases a row of the gallery")
    title: str | None = None
    method: str | None = Field(
        None,
        description="the method that the page speaks of and `predict` takes; default: the first "
        "heatmap method that saw no masks",
    )
    steps: list[str] | None = Field(
        None,
        min_length=1,
        description="methods in the order in which each builds on the one before: the page says "
        "what every step earned",
    )


class Config(Section):
    """A whole experiment."""

    name: str = Field("run", description="the run folder is runs/NAME")
    recipe: Literal["none", "best-weak"] = Field(
        "none",
        description="settings that are laid under the experiment's own; best-weak: the best that "
        "this version makes of image labels alone",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    engine: Literal["torch", "onnxruntime", "openvino", "auto"] = Field(
        "torch",
        description="what runs networks for heatmaps and masks on processors; auto measures",
    )
    data: DataConfig = DataConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    segmenters: dict[str, SegmenterConfig] = Field(
        default_factory=dict, description="supervised baselines: a name of yours → its settings"
    )
    consensus: dict[str, ConsensusConfig] = Field(
        default_factory=dict,
        description="what several methods agree on: a name of yours → these methods and their vote",
    )
    equivalence: EquivalenceConfig = EquivalenceConfig()
    heatmap: HeatmapConfig = HeatmapConfig()
    heatmaps: dict[str, NamedHeatmap] = Field(
        default_factory=dict, description="further heatmaps: a name of yours → its settings"
    )
    masks: MasksConfig = Field(default_factory=MasksConfig)
    volumes: VolumesConfig = VolumesConfig()
    filtered: FilteredConfig | None = Field(
        None, description="heatmap-filtered retraining; none: `compare` leaves it out"
    )
    scores: ScoresConfig = ScoresConfig()
    report: ReportConfig = ReportConfig()

    @field_validator("name")
    @classmethod
    def _a_folder_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError("use letters, digits, '.', '_' and '-' only: it names a folder")
        if is_reserved(name):
            raise ValueError("it names a folder, which Windows cannot have: choose another")
        return name

    @field_validator("segmenters", "heatmaps", "consensus", mode="before")
    @classmethod
    def _empty_is_default(cls, segmenters: Any) -> Any:
        if not isinstance(segmenters, dict):
            return {} if segmenters is None else segmenters
        return {k: {} if v is None else v for k, v in segmenters.items()}

    @field_validator("segmenters", "heatmaps", "consensus")
    @classmethod
    def _names_are_folders(cls, named: dict[str, Any]) -> dict[str, Any]:
        folded = [name.casefold() for name in named]
        for name in named:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", name):
                raise ValueError(
                    f"the name {name!r} becomes a folder's: use letters, digits, '.', '_' and '-' "
                    "only"
                )
            if is_reserved(name):
                raise ValueError(
                    f"the name {name!r} becomes a folder's, which Windows cannot have: choose "
                    "another"
                )
            if name.startswith("floor-") or name in ("config.yaml", MANIFEST):
                raise ValueError(f"{name!r} is taken: choose another name")
            if folded.count(name.casefold()) > 1:
                raise ValueError(f"two are called {name!r} but for upper and lower case")
        return named

    @model_validator(mode="before")
    @classmethod
    def _default_rules_of_volumes(cls, tree: Any) -> Any:
        """A classifier of volumes gets the default rules that take volumes."""
        classifier = tree.get("classifier") if isinstance(tree, dict) else None
        masks = tree.get("masks") or {} if isinstance(tree, dict) else None
        arch = classifier.get("arch") if isinstance(classifier, dict) else None
        if not isinstance(arch, str) or arch_dims(arch) == 2 or not isinstance(masks, dict):
            return tree
        rules = [{"rule": r.rule} for r in default_rules(3)]
        return {**tree, "masks": {"rules": rules, **masks}}

    @model_validator(mode="after")
    def _rules_take_such_heat(self) -> Config:
        dims = self.classifier.dims
        for rule in (rule for name in self.all_heatmaps for rule in self.rules_of(name)):
            if dims not in rule.dims:  # every rule takes those of images
                able = ", ".join(n for n, r in RULES.items() if dims in r.dims)
                raise ValueError(
                    f"masks.rules: {rule.rule} takes the heat of images, and "
                    f"{self.classifier.arch} makes that of volumes; rules for both: {able}"
                )
        return self

    @model_validator(mode="after")
    def _heatmaps_differ(self) -> Config:
        for name in self.heatmaps:
            if name.casefold() == self.heatmap.method.casefold():
                raise ValueError(
                    f"heatmaps.{name}: the experiment's `heatmap` goes by that name; choose another"
                )
        return self

    @model_validator(mode="after")
    def _methods_differ(self) -> Config:
        methods = [
            f"{name}-{r.rule}".casefold() for name in self.all_heatmaps for r in self.rules_of(name)
        ]
        for name in self.segmenters:
            if name.casefold() in methods:
                raise ValueError(
                    f"segmenters.{name}: a heatmap method has that name; choose another"
                )
        taken = {*methods, *(name.casefold() for name in self.segmenters)}
        for name in self.consensus:
            if name.casefold() in taken:
                raise ValueError(f"consensus.{name}: another method has that name; choose another")
        if len(set(methods)) < len(methods):
            twice = next(m for m in methods if methods.count(m) > 1)
            raise ValueError(f"heatmaps: two methods would be called {twice!r}; rename a heatmap")
        return self

    @model_validator(mode="after")
    def _consensus_is_of_methods(self) -> Config:
        names = list(self.consensus)
        for at, (name, c) in enumerate(self.consensus.items()):
            earlier = [*self.heatmap_methods, *self.segmenters, *names[:at]]
            for member in c.methods:
                if member in names[at:]:
                    raise ValueError(f"consensus.{name}: {member!r} must stand before {name!r}")
                if member not in earlier:
                    raise ValueError(
                        f"consensus.{name}: there is no method {member!r}; methods: "
                        f"{', '.join(earlier)}"
                    )
                if self.heatmap_methods.get(member, ("", ""))[1] in ORACLES:
                    raise ValueError(
                        f"consensus.{name}: {member!r} is an upper bound, which needs true masks "
                        "of the images that it segments; name another method"
                    )
        return self

    @model_validator(mode="after")
    def _masks_come_from_elsewhere(self) -> Config:
        names = list(self.segmenters)
        for at, (name, s) in enumerate(self.segmenters.items()):
            if not s.weak and s.ignore is not None:
                raise ValueError(f"segmenters.{name}.ignore: for masks of another method only")
            if not s.weak and s.correct is not None:
                raise ValueError(f"segmenters.{name}.correct: for masks of another method only")
            if not s.weak:
                continue
            if "/" in s.masks:
                if not all(s.masks.rpartition("/")[::2]):
                    raise ValueError(
                        f"segmenters.{name}.masks: another run's masks are named RUN/METHOD "
                        f"(found {s.masks!r})"
                    )
                continue
            if self.heatmap_methods.get(s.masks, ("", ""))[1] in ORACLES:
                raise ValueError(
                    f"segmenters.{name}.masks: {s.masks!r} is an upper bound, which needs true "
                    "masks of the images that it segments; name another method"
                )
            if s.masks not in self.methods:
                sources = ", ".join([MANIFEST, *(m for m in self.methods if m not in names[at:])])
                raise ValueError(
                    f"segmenters.{name}.masks: there is no method {s.masks!r}; known: {sources}; "
                    "masks of another run are named RUN/METHOD"
                )
            for needed in self.segmenters_of(s.masks):
                if needed in names[at:]:
                    raise ValueError(
                        f"segmenters.{name}.masks: {needed!r} must stand before {name!r}"
                    )
        return self

    @model_validator(mode="after")
    def _each_kind_of_network_has_a_seed(self) -> Config:
        for name, s in self.segmenters.items():
            kinds, seeds = len(s.kinds), len(self.segmenter_seeds(name))
            if kinds > seeds:
                raise ValueError(
                    f"segmenters.{name}.seeds: {kinds} kinds of network need as many seeds (found "
                    f"{seeds}); the seeds take the kinds in turn"
                )
        return self

    @model_validator(mode="after")
    def _page_speaks_of_methods(self) -> Config:
        names = self.methods
        named = {"method": [self.report.method] if self.report.method else []}
        named["steps"] = self.report.steps or []
        for key, methods in named.items():
            for wanted in methods:
                if wanted not in names:
                    raise ValueError(
                        f"report.{key}: there is no method {wanted!r}; methods: {', '.join(names)}"
                    )
        if self.heatmap_methods.get(self.report.method or "", ("", ""))[1] in ORACLES:
            raise ValueError(
                f"report.method: {self.report.method!r} is an upper bound, which no new image can "
                "have; name another method"
            )
        return self

    @model_validator(mode="after")
    def _equivalence_names_a_segmenter(self) -> Config:
        wanted = self.equivalence.segmenter
        if wanted is not None and wanted not in self.segmenters:
            names = ", ".join(self.segmenters) or "none"
            raise ValueError(
                f"equivalence.segmenter: there is no segmenter {wanted!r}; segmenters: {names}"
            )
        if wanted is not None and self.segmenters[wanted].weak:
            raise ValueError(
                f"equivalence.segmenter: {wanted!r} is not trained on the manifest's masks"
            )
        if wanted is not None and len(self.segmenters[wanted].kinds) > 1:
            raise ValueError(f"equivalence.segmenter: {wanted!r} is of several kinds of network")
        return self

    @field_validator("device")
    @classmethod
    def _a_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
            raise ValueError("choose auto, cpu, cuda, cuda:N or mps")
        return device

    @property
    def seeds(self) -> list[int]:
        """The classifiers' seeds."""
        return self.classifier.seeds or [self.seed]

    @property
    def all_heatmaps(self) -> dict[str, HeatmapConfig]:
        """Name → settings of every heatmap, the experiment's `heatmap` first, by its method."""
        return {self.heatmap.method: self.heatmap, **self.heatmaps}

    def heatmap_seeds(self, heatmap: str) -> list[int]:
        """The seeds of a heatmap: the classifiers', or the first for that of all of them."""
        return self.seeds[:1] if self.all_heatmaps[heatmap].ensemble else self.seeds

    def heatmap_precision(self, heatmap: str) -> str:
        """The precision that a heatmap is made in."""
        own, of_training = self.all_heatmaps[heatmap].precision, self.classifier.precision
        said = of_training if own == AUTO else own
        return "32-true" if said == AUTO else said

    def rules_of(self, heatmap: str) -> list[Rule]:
        """The rules that make masks of a heatmap."""
        further = self.heatmaps.get(heatmap)
        return list(self.masks.rules if further is None or further.rules is None else further.rules)

    @property
    def heatmap_methods(self) -> dict[str, tuple[str, str]]:
        """Method → its heatmap's name and its rule's, in the order of the experiment."""
        return {
            f"{name}-{r.rule}": (name, r.rule)
            for name in self.all_heatmaps
            for r in self.rules_of(name)
        }

    @property
    def methods(self) -> list[str]:
        """Every method by name: of heatmaps, segmenters, and what several agree on."""
        return [*self.heatmap_methods, *self.segmenters, *self.consensus]

    def segmenters_of(self, method: str) -> list[str]:
        """The segmenters whose masks a method is made of: itself, if it is one."""
        members = self.consensus[method].methods if method in self.consensus else []
        own = [method] if method in self.segmenters else []
        return [*own, *(s for m in members for s in self.segmenters_of(m))]

    def segmenter_seeds(self, name: str) -> list[int]:
        """The seeds of a segmenter: its own, else the classifiers'."""
        return self.segmenters[name].seeds or self.seeds

    def mask_seeds(self, name: str) -> dict[int, list[int]]:
        """Seed of a segmenter's masks → seeds of the networks whose probabilities are averaged.

        Each network's own, or all under the first.
        """
        seeds = self.segmenter_seeds(name)
        return {seeds[0]: seeds} if self.segmenters[name].ensemble else {s: [s] for s in seeds}

    def segmenter_gate(self, name: str) -> float | str:
        """The gate of a segmenter: ``none``, ``validation`` or a probability."""
        gate = self.segmenters[name].gate
        return self.masks.gate if gate == "run" else gate

    def gate_seeds(self, networks: list[int]) -> list[int]:
        """Seeds of the classifiers that speak for the masks of some segmenters.

        The one of the same seed; all for a mean of several, or where there is none of that seed.
        """
        alone = len(networks) == 1 and networks[0] in self.seeds
        return networks if alone else self.seeds

    def kinds_of(self, name: str) -> list[OneNetwork]:
        """The settings of a segmenter's first network of each kind, in the order of its seeds."""
        kinds = len(self.segmenters[name].kinds)
        return [self.segmenter(name, seed) for seed in self.segmenter_seeds(name)[:kinds]]

    def segmenter(self, name: str, seed: int | None = None) -> OneNetwork:
        """The settings of a segmenter's network of a seed (default: the first), weights named."""
        settings, seeds = self.segmenters[name], self.segmenter_seeds(name)
        at = seeds.index(seed) if seed in seeds else 0
        arch, weights = settings.kinds[at % len(settings.kinds)]
        weights = self.classifier.weights if weights == "classifier" else weights
        values = dict(settings) | {"arch": arch, "weights": weights}
        return OneNetwork.model_construct(settings.model_fields_set, **values)
