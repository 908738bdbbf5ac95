"""A whole experiment, and short names of its settings."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from pydantic import BaseModel, Field, field_validator, model_validator

from weakseg.config.base import Section
from weakseg.config.classifier import ClassifierConfig
from weakseg.config.data import DataConfig
from weakseg.config.filtered import FilteredConfig
from weakseg.config.masks import HeatmapConfig, MasksConfig
from weakseg.config.segmenter import EquivalenceConfig, SegmenterConfig


class ScoresConfig(Section):
    """Statistics."""

    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamples of the patients")
    floors: bool = Field(True, description="score the trivial masks beside every method")


class ReportConfig(Section):
    """The page."""

    gallery: int = Field(4, ge=0, le=50, description="cases a row of the gallery")
    title: str | None = None


class Config(Section):
    """A whole experiment."""

    name: str = Field("run", description="the run folder is runs/NAME")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    data: DataConfig = DataConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    segmenters: dict[str, SegmenterConfig] = Field(
        default_factory=dict, description="supervised baselines: a name of yours → its settings"
    )
    equivalence: EquivalenceConfig = EquivalenceConfig()
    heatmap: HeatmapConfig = HeatmapConfig()
    masks: MasksConfig = Field(default_factory=MasksConfig)
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
        return name

    @field_validator("segmenters", mode="before")
    @classmethod
    def _empty_is_default(cls, segmenters: Any) -> Any:
        if not isinstance(segmenters, dict):
            return {} if segmenters is None else segmenters
        return {k: {} if v is None else v for k, v in segmenters.items()}

    @field_validator("segmenters")
    @classmethod
    def _names_are_folders(cls, segmenters: dict[str, Any]) -> dict[str, Any]:
        folded = [name.casefold() for name in segmenters]
        for name in segmenters:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", name):
                raise ValueError(
                    f"the name {name!r} of a segmenter becomes a folder's: use letters, digits, "
                    "'.', '_' and '-' only"
                )
            if name.startswith("floor-") or name == "config.yaml":
                raise ValueError(f"{name!r} is taken: choose another name for the segmenter")
            if folded.count(name.casefold()) > 1:
                raise ValueError(f"two segmenters are called {name!r} but for upper and lower case")
        return segmenters

    @model_validator(mode="after")
    def _segmenters_are_no_heatmap_methods(self) -> Config:
        for name in self.segmenters:
            if name.startswith(f"{self.heatmap.method}-"):
                raise ValueError(
                    f"segmenters.{name}: names that begin with {self.heatmap.method!r} belong to "
                    "heatmap methods; choose another"
                )
        return self

    @model_validator(mode="after")
    def _equivalence_names_a_segmenter(self) -> Config:
        wanted = self.equivalence.segmenter
        if wanted is not None and wanted not in self.segmenters:
            known = ", ".join(self.segmenters) or "none"
            raise ValueError(
                f"equivalence.segmenter: there is no segmenter {wanted!r}; segmenters: {known}"
            )
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

    def segmenter_seeds(self, name: str) -> list[int]:
        """The seeds of a segmenter: its own, else the classifiers'."""
        return self.segmenters[name].seeds or self.seeds

    def segmenter(self, name: str) -> SegmenterConfig:
        """The settings of a segmenter, its weights named."""
        held = self.segmenters[name]
        if held.weights != "classifier":
            return held
        return held.model_copy(update={"weights": self.classifier.weights})


def fingerprint(*parts: Any) -> str:
    """A short, stable name of values that can be written as JSON; equal values, equal names."""
    plain = [p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts]
    text = json.dumps(plain, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def filtered_asked(config: Config) -> str:
    """Fingerprint of the settings of heatmap-filtered retraining."""
    heat = config.heatmap.model_dump(mode="json", exclude={"batch_size"})
    return fingerprint(heat, config.filtered or FilteredConfig())


def curve_asked(config: Config, name: str) -> str:
    """Fingerprint of the settings of the network of a mask-equivalence curve."""
    left_out = {"weights", "seeds", "threshold", "keep", "validation_cases"}
    return fingerprint(config.segmenters[name].model_dump(mode="json", exclude=left_out))
