"""Images, labels and masks: what is read, and how patients are dealt out."""

from __future__ import annotations

from math import isfinite
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from weakseg.settings import PHANTOM, SPLITS, Fraction, Section, label_text


class PhantomConfig(Section):
    """The simulated set that is used when ``data.manifest`` is ``phantom``."""

    patients: int = Field(28, ge=6, le=2000)
    slices_per_patient: int = Field(16, ge=4, le=64)
    size: int = Field(128, ge=64, le=512, description="height in pixels; the width is smaller")
    seed: int = Field(0, ge=0)
    shortcut: bool = Field(
        False, description="a marker in a corner of every slice with a lesion, and only there"
    )
    pairs: bool = Field(
        False, description="every slice with a lesion beside the very same slice without it"
    )
    volumes: bool = Field(
        False, description="the slices of a patient as one NIfTI volume, with a label each"
    )

    slab: int | None = Field(
        None,
        ge=8,
        le=64,
        description="volumes: slabs of so many neighbouring slices instead, each a volume with one "
        "label of its own",
    )

    @model_validator(mode="after")
    def _slabs_are_volumes(self) -> PhantomConfig:
        if self.slab is not None and not self.volumes:
            raise ValueError("slab is for volumes: set volumes: true")
        if self.slab is not None and self.slab > self.slices_per_patient:
            raise ValueError("slab must be at most slices_per_patient")
        return self

    @model_validator(mode="after")
    def _volumes_have_no_twins(self) -> PhantomConfig:
        if self.volumes and self.pairs:
            raise ValueError("pairs are single slices, and make no volumes: set one of the two")
        return self


class LeftOut(Section):
    """The patients that are tested: those of one value of a column of the manifest."""

    column: str = Field(description="of the manifest, for instance site")
    value: str = Field(description="the patients whose rows have it are the test split")

    @field_validator("value", mode="before")
    @classmethod
    def _value_is_text(cls, value: Any) -> Any:
        return label_text(value)

    @field_validator("column", "value")
    @classmethod
    def _not_blank(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("must not be blank")
        return text.strip()


class SplitConfig(Section):
    """How patients are dealt out where the manifest has no ``split`` column."""

    val: Fraction = Field(
        0.15,
        description="share of the images; with folds or leave_out, of those that are not tested",
    )
    test: Fraction = Field(0.15, description="share of the images; not read with folds, leave_out")
    seed: int = Field(
        0, ge=0, description="apart from the run's seed: networks change, splits stay"
    )
    folds: int | None = Field(
        None,
        ge=2,
        le=100,
        description="deal the patients out to so many parts of about one size: each is the test "
        "split of one fold, so that every patient is tested once",
    )
    fold: int = Field(0, ge=0, description="of the folds, the one that is tested here, from 0")
    leave_out: LeftOut | None = Field(
        None, description="test the patients of one value of a column instead, such as a hospital"
    )

    @model_validator(mode="after")
    def _leaves_training(self) -> SplitConfig:
        if self.val + self.test > 0.8:
            raise ValueError("val + test must leave at least 0.2 of the patients for training")
        return self

    @model_validator(mode="after")
    def _one_way_of_testing(self) -> SplitConfig:
        if self.folds is not None and self.leave_out is not None:
            raise ValueError("folds and leave_out both say who is tested: set one of the two")
        if self.fold and self.folds is None:
            raise ValueError(f"fold {self.fold} of none: set folds as well")
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(
                f"fold must be from 0 to {self.folds - 1} with {self.folds} folds (found "
                f"{self.fold})"
            )
        return self

    @property
    def least_patients(self) -> int:
        """How many patients there must be of every class, for each split to have one."""
        # Of two folds, one is left for training and validation.
        return 4 if self.folds == 2 else max(len(SPLITS), self.folds or 0)

    @property
    def later_keys(self) -> set[str]:
        """Keys that say nothing here; they came later, and older fingerprints know none."""
        unused = {"leave_out"} if self.leave_out is None else set()
        return unused | ({"folds", "fold"} if self.folds is None else set())


class DataConfig(Section):
    """Images, labels, masks and how they are read."""

    manifest: str = Field(PHANTOM, description="'phantom' or the path of a CSV")
    slice_labels: str | None = Field(
        None,
        description="a second CSV, relative to the manifest's folder, with a row a labelled slice "
        "(columns image, slice, label and, if wanted, mask); the manifest lists the volumes then",
    )
    healthy_labels: list[str] | Literal["auto"] = Field(
        "auto",
        description="labels of images without a lesion; auto knows the usual names; an empty list: "
        "every image has one, and no classifier is trained",
    )
    lesion_labels: list[str] | Literal["auto"] = Field(
        "auto", description="labels of images with a lesion; auto: all that are not healthy"
    )
    drop_labels: list[str] = Field(
        [], description="rows with one of these labels are left out; '' for blank ones"
    )
    label_separator: str | None = Field(
        None,
        description="what stands between the findings of a label, such as '|': their order does "
        "not count then, and an image with any lesion label is a lesion",
    )
    similar_patients: Literal["ask", "same", "different"] = Field(
        "ask",
        description="patients whose names differ only in case, space, punctuation, or zeros, as "
        "007 and 7: an error, one person, or different people",
    )
    mask_rule: Literal["nonzero", "half", "dark"] | list[int] = Field(
        "nonzero",
        description="which mask values are lesion: every one but 0; those above half of the "
        "mask's type range (soft or JPEG edges); those below (a dark lesion on white); or a list "
        "of values",
    )
    intensity: Literal["auto", "dtype", "percentile"] = Field(
        "auto",
        description="dtype: divide by the type's maximum; percentile: stretch each image between "
        "its 0.5th and 99.5th percentile; auto: dtype for 8 bits, percentile for deeper images",
    )
    window: tuple[float, float] | Literal["auto", "file", "percentiles"] = Field(
        "auto",
        description="which values become black and white, of images and of slices: [centre, width] "
        "in the file's own values (of CT Hounsfield units); the file's own window; percentiles: "
        "none; auto: of DICOM pictures the file's, of all else what `intensity` says",
    )
    channels: Literal["auto", "grey", "rgb"] = Field(
        "auto", description="auto: grey where every image is grey, else rgb"
    )
    image_size: int = Field(
        128, ge=32, le=2048, description="longest side in pixels that the network sees"
    )
    depth: int | Literal["auto"] = Field(
        "auto",
        description="whole volumes: slices that a classifier sees; those of fewer get empty ones "
        "behind, those of more are shrunk along the third axis; auto: as many as the volume with "
        "most has",
    )
    neighbours: bool = Field(
        False,
        description="slices of volumes: the slices before and behind are further channels",
    )
    split: SplitConfig = SplitConfig()
    phantom: PhantomConfig = PhantomConfig()

    def answers(self) -> dict[str, Any]:
        """What was answered to questions about labels and patients; empty where nothing was."""
        fields = type(self).model_fields
        answers = {
            k: getattr(self, k) for k in ("drop_labels", "label_separator", "similar_patients")
        }
        return {k: v for k, v in answers.items() if v != fields[k].default}

    def fingerprint_settings(self) -> dict[str, Any]:
        """How data are read, for fingerprints; the files count by content elsewhere."""
        later = set() if self.neighbours else {"neighbours"}
        later |= {"window"} if self.window == "auto" else set()
        later |= {"depth"} if self.depth == "auto" else set()
        left_out: dict[str, Any] = dict.fromkeys(
            ("manifest", "slice_labels", "phantom", *later), True
        )
        return self.model_dump(mode="json", exclude=left_out | {"split": self.split.later_keys})

    @field_validator("healthy_labels", "lesion_labels", "drop_labels", mode="before")
    @classmethod
    def _labels_are_text(cls, labels: Any) -> Any:
        if labels == "auto":
            return labels
        return [label_text(v) for v in (labels if isinstance(labels, list) else [labels])]

    @model_validator(mode="after")
    def _the_phantom_labels_its_own_slices(self) -> DataConfig:
        if self.slice_labels is not None and self.manifest == PHANTOM:
            raise ValueError("slice_labels belong to a manifest, and the phantom brings its own")
        return self

    @field_validator("window")
    @classmethod
    def _window_has_a_width(cls, window: Any) -> Any:
        if not isinstance(window, str) and not (all(map(isfinite, window)) and window[1] > 0):
            raise ValueError("must be [centre, width] with a width above 0, such as [40, 400]")
        return window

    @field_validator("depth")
    @classmethod
    def _some_slices(cls, depth: Any) -> Any:
        if depth != "auto" and not 1 <= depth <= 4096:
            raise ValueError("must be auto, or from 1 to 4096")
        return depth

    @field_validator("label_separator")
    @classmethod
    def _separator_is_a_sign(cls, sign: str | None) -> str | None:
        if sign is not None and (not sign.strip() or any(c.isalnum() for c in sign)):
            raise ValueError("must be a sign in quotation marks, such as '|' or ', '")
        return sign

    @field_validator("mask_rule")
    @classmethod
    def _values_are_lesion(cls, rule: Any) -> Any:
        if isinstance(rule, list) and (not rule or any(v == 0 for v in rule)):
            raise ValueError("a list of mask values must not be empty or hold 0 (the background)")
        return rule
