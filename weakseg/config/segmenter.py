"""Supervised segmentation networks, and what a heatmap is worth beside them.

The keys of one section stand in one class, which is long for it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator, model_validator

from weakseg.config.classifier import AugmentConfig
from weakseg.config.correct import CorrectConfig
from weakseg.errors import ConfigError, count
from weakseg.settings import AUTO, Auto, Fraction, Probability, Section, seeds_differ

ADAPTIVE: Final = "two-scale-cnn"
"""The network that has dropout by depth where none is set."""

MANIFEST: Final = "manifest"
"""The masks that the manifest names."""


class PatchAugmentConfig(AugmentConfig):
    """Random changes of the patches that a segmentation network is trained on, truth included.

    Brightness, contrast and heat are for intensities in [0, 1]; ``intensity_shift`` and
    ``intensity_scale`` for z-scored ones. Names in their place are those of classifiers.
    """

    flip_all: bool = Field(False, description="mirror along every axis, each with probability 1/2")
    intensity_shift: float = Field(0.0, ge=0.0, description="added, normal of this sd, a channel")
    intensity_scale: float = Field(0.0, ge=0.0, description="factor, normal around 1 of this sd")


class SegmenterConfig(Section):
    """A segmentation network and its training, on true masks or on those of another method.

    ``auto`` stands for the network's own recipe (`weakseg.training.recipes`), which for DeepMedic
    is its authors'.
    """

    arch: str | list[str] = Field(
        "unet",
        min_length=1,
        description="see `weakseg models`; a backbone or modules behind a colon; several with "
        "ensemble: the networks of the seeds are of these kinds in turn",
    )
    weights: str | list[str] = Field(
        "none",
        min_length=1,
        description="none, imagenet (backbones), a file of the backbone's weights (safetensors, or "
        "a state dict that torch.save wrote), or classifier: as classifier.weights says; a list "
        "for several kinds of network, one for each",
    )
    masks: str = Field(
        MANIFEST,
        description="what it is trained on: the manifest's masks, or those that a method makes of "
        "the training images: METHOD of this run (a heatmap and a rule, or another segmenter) or "
        "RUN/METHOD",
    )
    ignore: tuple[Probability, Probability] | None = Field(
        None,
        description="of a method's masks: [low, high]; background counts only where the heat over "
        "its maximum (or the probability) is at most low, lesion only where it is at least high",
    )
    correct: CorrectConfig | None = Field(
        None,
        description="of a method's masks: the network corrects them once while it learns (ADELE); "
        "{}: as published; null: they stay as they are",
    )
    image_size: int | Auto = Field(
        AUTO, description="longest side in pixels that the network sees; auto: data.image_size"
    )
    normalise: Literal["auto", "unit", "zscore"] = Field(
        AUTO,
        description="unit: intensities in [0, 1]; zscore: mean 0 and sd 1 inside the body or the "
        "region of interest",
    )
    patch: int | Literal["auto", "whole"] = Field(
        AUTO, description="side of the output of a training patch, or whole images"
    )
    sampler: Literal["auto", "uniform", "foreground", "balanced", "grid"] = Field(
        AUTO,
        description="where patches lie: anywhere; centred on a lesion with probability "
        "`foreground`; centred on lesion and background in equal numbers; or on a regular grid",
    )
    foreground: Probability = 0.5
    batch_size: int | Auto = Field(AUTO, description="patches or images a step")
    epochs: int | Auto = Field(AUTO, description="of `steps` batches each")
    steps: int | Auto = Field(AUTO, description="batches an epoch; auto: one pass over the images")
    passes: float | None = Field(
        None, gt=0, description="more epochs where it takes them to see all images so many times"
    )
    loss: Literal["auto", "ce", "dice", "dice-ce", "focal", "gce", "sce", "dice-gce"] = Field(
        AUTO, description="gce, sce: cross-entropies that wrong masks mislead less"
    )
    optimizer: Literal["auto", "adamw", "sgd", "rmsprop"] = Field(
        AUTO, description="auto: adamw, but rmsprop for DeepMedic, as its authors"
    )
    lr: float | Auto = Field(AUTO, description="highest rate of the schedule")
    weight_decay: float | Auto = Field(AUTO, description="decoupled, of weights")
    l1: float | Auto = Field(AUTO, description="penalty on the sum of the weights' magnitudes")
    l2: float | Auto = Field(AUTO, description="penalty on the sum of the weights' squares")
    schedule: Literal["auto", "cosine", "poly", "halving", "constant"] = AUTO
    warmup: float = Field(0.05, ge=0.0, lt=1.0, description="share of the steps (cosine)")
    dropout: Literal["auto", "none", "by-depth"] = Field(
        AUTO,
        description="by-depth: what a convolution reads is dropped with a probability that grows "
        "from 0 at the first to 0.3 at the last; auto: none, but for two-scale-cnn",
    )
    average: Literal["auto", "none", "ema", "swa"] = Field(
        AUTO, description="which weights are kept: the last, or an average over the steps"
    )
    ema_decay: Fraction = 0.99
    swa_start: Fraction = Field(0.75, description="share of the epochs after which swa begins")
    keep: Literal["last", "best"] = Field(
        "last",
        description="last: no validation mask is used; best: the epoch of the highest validation "
        "Dice, whose masks are counted",
    )
    validation_cases: int = Field(
        64, ge=0, description="validation lesions looked at after every epoch; 0: none"
    )
    augment: PatchAugmentConfig | Auto = AUTO
    recalibrate: bool = Field(
        False,
        description="undo the shift of the class prior that the sampler made (Bertels et al.)",
    )
    tile: int | Auto = Field(
        AUTO, description="side of a tile's output at inference; auto: whole 2D images, else tiles"
    )
    overlap: float = Field(0.5, ge=0.0, lt=1.0, description="of tiles, which Gaussians weigh")
    flips: Literal["none", "x", "all"] = Field(
        "none", description="mirrored copies averaged at inference: none, left–right, every axis"
    )
    scales: list[Annotated[float, Field(ge=0.25, le=4.0)]] = Field(
        [1.0],
        min_length=1,
        description="sizes, relative to image_size, at which an image is looked at; the "
        "probabilities are averaged; images only",
    )
    crf: int = Field(
        0,
        ge=0,
        le=100,
        description="steps of a dense conditional random field on the image, which the probability "
        "goes through; 0: none; images only, needs the extra `crf`",
    )
    prune: int | None = Field(
        None,
        ge=1,
        description="unetpp, encoder-unetpp: the depth of the nested U-Net that alone is asked at "
        "inference, 1 to 4 (3 on squeezenet1_1); none: the mean of all",
    )
    threshold: Probability | Literal["validation"] = Field(
        0.5, description="on the probability; validation: the best on validation masks, counted"
    )
    min_peak: Probability = Field(
        0.0, description="parts of a mask whose highest probability is below are dropped"
    )
    min_area: Probability | Literal["validation"] = Field(
        0.0,
        description="parts of a mask below this share of the image are dropped; validation: the "
        "share of the best mean Dice on validation masks, counted; healthy images, an empty mask "
        "of which counts as 1, have a part in it",
    )
    neighbours: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="weight of the slices before and after (or the images that a patient's "
        "numbered files hold) in the probability that min_peak looks at; masks keep their outline",
    )
    outline: Literal["threshold", "level", "box-prompt"] = Field(
        "threshold",
        description="level: what the threshold and the screening leave gets the outline of the "
        "image at the grey level that the probability overlaps best, where an edge makes one; "
        "box-prompt: each part of it becomes what LiteMedSAM marks in the part's box, a network "
        "that has seen masks of other sets; images and slices only",
    )
    gate: Probability | Literal["none", "run"] = Field(
        "none",
        description="an image whose lesion probability by the run's classifier is below gets an "
        "empty mask; run: as masks.gate says; images only",
    )
    false_alarms: Probability | None = Field(
        None,
        description="min_peak (never less than is set), and the gate where there is one, are "
        "chosen on the validation labels (no masks): of the cuts that let at most this share of "
        "the healthy images be marked, those that keep the most lesions; default: as they are set",
    )
    false_alarm_confidence: float | None = Field(
        None,
        ge=0.5,
        lt=1.0,
        description="of false_alarms: what is held to the share is its upper confidence bound "
        "(one-sided) over the validation patients; default: the share of their images itself",
    )
    precision: Literal["auto", "32-true", "bf16-mixed"] = AUTO
    compile: bool = Field(False, description="train with torch.compile, see classifier.compile")
    seeds: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, min_length=1, description="one network a seed; default: the classifier's"
    )
    ensemble: bool = Field(
        False,
        description="one set of masks, of the mean of the probabilities by the networks of all "
        "seeds; with one seed that network's",
    )
    weighting: Literal["equal", "validation", "labels"] = Field(
        "equal",
        description="ensemble: every network counts alike, or by its mean Dice on validation "
        "masks, counted; labels: of networks of one kind in arch and of all, those count that find "
        "the most less marked by the validation labels (no masks), at the cuts of false_alarms",
    )

    @field_validator("image_size")
    @classmethod
    def _not_too_small(cls, value: Any) -> Any:
        if value != AUTO and not 32 <= value <= 2048:
            raise ValueError("must be from 32 to 2048")
        return value

    @field_validator("batch_size", "epochs", "steps", "tile", "lr")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if value != AUTO and value <= 0:
            raise ValueError("must be greater than 0")
        return value

    @field_validator("ignore")
    @classmethod
    def _low_is_no_higher(cls, ignore: Any) -> Any:
        if ignore is not None and ignore[0] > ignore[1]:
            raise ValueError("the first must not be above the second")
        return ignore

    def fingerprint_settings(self) -> dict[str, Any]:
        """What networks and masks depend on, for fingerprints."""
        later = ("false_alarms", "false_alarm_confidence", "prune", "correct", "passes")
        idle = {"compile"} | {k for k in later if getattr(self, k) is None}
        idle |= {"dropout"} if self._drops_as_ever else set()
        # Settings that came later.
        idle |= {"crf"} if not self.crf else set()
        idle |= {"scales"} if self.scales == [1.0] else set()
        idle |= {"weighting"} if self.weighting == "equal" else set()
        idle |= {"neighbours"} if self.neighbours == 0 else set()
        idle |= {"outline"} if self.outline == "threshold" else set()
        return self.model_dump(mode="json", exclude=idle)

    @property
    def _drops_as_ever(self) -> bool:
        """Whether dropout, a setting that came later, is what it was before."""
        alike = self.dropout == "none" and all(arch != ADAPTIVE for arch, _ in self.kinds)
        return self.dropout == AUTO or alike

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """Every kind of network and what it begins with; the seeds take them in turn."""
        archs = [self.arch] if isinstance(self.arch, str) else self.arch
        one = isinstance(self.weights, str)
        weights = [self.weights] * len(archs) if one else self.weights
        return [(arch, str(begin)) for arch, begin in zip(archs, weights, strict=True)]

    @model_validator(mode="after")
    def _kinds_have_weights(self) -> SegmenterConfig:
        archs = 1 if isinstance(self.arch, str) else len(self.arch)
        if not isinstance(self.weights, str) and len(self.weights) != archs:
            raise ValueError(
                f"weights: one for each kind of network in arch, or one for all (found "
                f"{len(self.weights)} for {archs})"
            )
        if archs > 1 and not self.ensemble:
            raise ValueError("arch: several kinds of network need ensemble: true")
        if self.weighting != "equal" and not self.ensemble:
            raise ValueError("weighting: is of several networks, and needs ensemble: true")
        if self.weighting == "labels" and (archs < 2 or self.false_alarms is None):
            raise ValueError("weighting: labels needs several kinds in arch, and false_alarms")
        return self

    @field_validator("false_alarm_confidence")
    @classmethod
    def _of_false_alarms(cls, confidence: Any, info: ValidationInfo) -> Any:
        if confidence is not None and info.data.get("false_alarms") is None:
            raise ValueError("is of false_alarms, which is not set")
        return confidence

    @property
    def weak(self) -> bool:
        """Whether it is trained on another method's masks."""
        return self.masks != MANIFEST

    @field_validator("patch")
    @classmethod
    def _patch_is_positive(cls, value: Any) -> Any:
        if isinstance(value, int) and value <= 0:
            raise ValueError("must be greater than 0")
        return value

    @field_validator("weight_decay", "l1", "l2")
    @classmethod
    def _not_negative(cls, value: Any) -> Any:
        if value != AUTO and value < 0:
            raise ValueError("must not be negative")
        return value

    _differ = field_validator("seeds")(seeds_differ)


class OneNetwork(SegmenterConfig):
    """The settings of one of a segmenter's networks: of one kind, its weights named."""

    arch: str = "unet"
    weights: str = "none"


class EquivalenceConfig(Section):
    """How many masks is a heatmap worth? One network trained with ever more patients' masks."""

    segmenter: str | None = Field(
        None, description="which of `segmenters`; none: the question is not asked"
    )
    patients: list[Annotated[int, Field(ge=1)]] | Auto = Field(
        AUTO, min_length=1, description="numbers of patients; auto: 1, 2, 4, … and all"
    )
    points: int = Field(
        10, ge=2, le=100, description="auto: at most so many numbers, evenly on a log scale"
    )
    draws: int = Field(3, ge=1, le=100, description="random orders of the patients")

    def patient_counts(self, patients: int) -> list[int]:
        """Numbers of patients on the curve: those asked for, or 1, 2, 4, … and all.

        Parameters
        ----------
        patients : int
            How many there are.

        Raises
        ------
        ConfigError
            If more are asked for.
        """
        if isinstance(self.patients, str):
            doubled = [2**i for i in range(patients.bit_length()) if 2**i < patients]
            # Two points that are nearly the same number tell nothing for the time of a training.
            counts = [k for k in doubled if k <= 0.75 * patients] + [patients]
            if len(counts) <= self.points:
                return counts
            return sorted({round(k) for k in np.geomspace(1, patients, self.points)})
        too_many = [k for k in self.patients if k > patients]
        if too_many:
            raise ConfigError(
                f"There are fewer than {too_many[0]} training patients with a lesion mask.",
                where="equivalence.patients",
                found=count(patients, "patient"),
                fix="ask for fewer, or set auto",
            )
        return sorted(set(self.patients))
