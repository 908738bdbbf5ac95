"""What the files of a run folder hold, for `weakseg.stored`: one list of JSON, headers, tables.

One room, since it is a list of declarations and nothing else: who asks what a file may hold looks
in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Json, RootModel, model_validator

Kind = Literal["text", "number", "flag"]
"""What a column of a table holds."""

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
SeedName = Annotated[str, Field(pattern=r"^seed-\d+$")]


class _Content(BaseModel):
    """Further keys are let through: only what is read must be right."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class SplitContent(_Content):
    """Counts of a split."""

    split: str
    images: Count
    patients: Count
    masks: Count
    lesions_with_mask: Count
    labels: dict[str, Count]


class DataContent(_Content):
    """The set, as the record describes it."""

    source: str
    simulated: bool
    patients_known: bool
    channels: Annotated[int, Field(ge=1)]
    dims: Literal[2, 3]
    distances: str
    healthy_labels: list[str]
    lesion_labels: list[str]
    splits: list[SplitContent]
    key: str
    fingerprint: str
    splits_key: str | None = None
    images_key: str | None = None
    images_known_as: str | None = None


class OutputsContent(_Content):
    """How much a stage has written, and a hash over it."""

    files: Count
    bytes: Count
    hash: str


class StageContent(_Content):
    """A stage that ended well."""

    key: str
    ended: str | None = None
    seconds: float | None = None
    commit: str | None = None
    data: str | None = None
    asked: str | None = None
    settings: str | None = None
    starting_weights: str | None = None
    lent_masks: str | None = None
    lent_masks_from: str | None = None
    segmenter: str | None = None
    layer: str | None = None
    device: str | None = None
    precision: str | None = None
    weights: dict[str, str] = {}
    classifiers: dict[str, str] = {}
    left_out: dict[str, str] = {}
    inputs: dict[str, str | None] = {}
    outputs: OutputsContent | None = None
    random_tensors: list[str] = []
    images: Count | None = None
    flat: Count | None = None
    epochs: Count | None = None
    best_epoch: Count | None = None
    kept_epoch: Count | None = None


class EnvironmentContent(_Content):
    """Versions and machine."""

    versions: dict[str, str] = {}
    commit: str | None = None
    platform: str | None = None
    processor: str | None = None
    cores: Count | None = None


class Record(_Content):
    """``run.json``: nothing of it need be there yet."""

    name: str | None = None
    seed: Count | None = None
    environment: EnvironmentContent = EnvironmentContent()
    data: DataContent | None = None
    stages: dict[str, StageContent] = {}
    took: dict[str, float] = {}
    rates: dict[str, float] = {}


class TrainedContent(_Content):
    """Where what a rule was trained to lies."""

    file: str
    hash: str


class CutsContent(_Content):
    """What an image's evidence, and the classifiers' word, must reach."""

    min_peak: Share
    gate: Share


class OnLabelsContent(_Content):
    """What the cuts that validation labels chose make of these images."""

    found: Count
    lesions: Count
    marked: Count
    healthy: Count

    @model_validator(mode="after")
    def _no_more_than_all(self) -> Self:
        for some, of in (("found", "lesions"), ("marked", "healthy")):
            if getattr(self, some) > getattr(self, of):
                raise ValueError(f"{some} is above {of}")
        return self


class ThresholdContent(_Content):
    """The threshold of a method and a seed."""

    rule: str | dict[str, Any]
    threshold: float | None
    scale: Literal["image", "raw", "probability"]
    chosen_on: str
    masks_seen: Count
    seen: list[str] = []
    elsewhere: list[str] = []
    gate: Share
    split: str
    upper_bound: bool
    kind: Annotated[str, Field(min_length=1)]
    networks: list[Count] = []
    network_weights: list[Share] = []
    gate_by: list[Count] = []
    inference: dict[str, Any] = {}
    beside: CutsContent | None = None
    on_labels: OnLabelsContent | None = None
    by_kind: dict[str, OnLabelsContent] = {}
    engine: str = "torch"
    search: dict[str, Any] | None = None
    trained: TrainedContent | None = None


class Thresholds(RootModel[dict[SeedName, ThresholdContent]]):
    """``threshold.json``: an entry a seed, at least one."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    root: Annotated[dict[SeedName, ThresholdContent], Field(min_length=1)]


class IntervalContent(_Content):
    """A figure and its interval; what is not known is null."""

    value: float | None
    low: float | None
    high: float | None


class SplitScores(_Content):
    """A classifier's scores on a split."""

    __pydantic_extra__: dict[str, IntervalContent]
    auc_lesion: IntervalContent
    accuracy: IntervalContent


class ClassifierScores(_Content):
    """``scores.json`` of a classifier."""

    val: SplitScores
    test: SplitScores


class AttributionContent(_Content):
    """What attributions of a segmenter preserve: attribution → column → mean and interval."""

    method: str
    attributions: dict[str, dict[str, IntervalContent]]
    images: Count
    nothing_marked: Count
    layers: dict[str, list[str]]


class SegmenterSettings(_Content):
    """``settings.json`` of a segmenter."""

    settings: dict[str, Any]
    image_size: Annotated[int, Field(ge=1, le=2**16)]
    intensity: Literal["auto", "dtype", "percentile"]
    window: (
        Annotated[list[float], Field(min_length=2, max_length=2)]
        | Literal["auto", "file", "percentiles"]
    ) = "auto"
    channels: Annotated[int, Field(ge=1)]
    dims: Literal[2, 3]
    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    roi: bool
    sampled_prior: Share
    true_prior: Share
    masks_of: str | None
    masks_of_seed: Count | None
    corrected_after: Count | None = None
    training_masks: Count
    validation_masks: Count
    masks_seen: Count | None = None
    seen: list[str] = []
    elsewhere: list[str] = []


def image_side(settings: Mapping[str, Any]) -> int | None:
    """The longest side of images in pixels as a segmenter sees them, from its ``settings.json``.

    None where it sees cases on their own grid.
    """
    return {2: int(settings["image_size"])}.get(settings["dims"])


class _Answer(_Content):
    """A question to filtered retraining, its answer, and the figures that it rests on."""

    fill: str
    verdict: str
    reason: str | None
    shape: IntervalContent | None = None


class TumourAnswer(_Answer):
    """Does the classifier need the lesion?"""

    question: Literal["tumour"]
    share_lost: IntervalContent
    raw: IntervalContent
    removed: IntervalContent
    alone: IntervalContent | None = None


class DarkAnswer(_Answer):
    """Does it need what its heatmaps leave dark?"""

    question: Literal["dark"]
    size: str
    raw: IntervalContent
    dark: IntervalContent
    bright: IntervalContent | None = None
    beyond_shape: IntervalContent | None = None


class ControlAnswer(_Answer):
    """Do its heatmaps keep more than others?"""

    question: Literal["control"]
    size: str
    control: str
    heat: IntervalContent
    other: IntervalContent
    lead: IntervalContent


Answer = Annotated[TumourAnswer | DarkAnswer | ControlAnswer, Field(discriminator="question")]


class FaithfulnessContent(_Content):
    """A measure of the heatmaps against their own network."""

    measure: str
    order: str
    kind: Literal["curve", "area", "preserved"]
    share: float | None = None
    value: float | None
    low: float | None
    high: float | None
    images: Count
    patients: Count


class FilteredAnswers(_Content):
    """``filtered.json``."""

    target: str
    rule: dict[str, Any]
    elsewhere: list[str] = []
    margin: Count
    seeds: list[Count]
    cases: Count
    patients: Count
    cautions: list[str]
    left_out: dict[str, str]
    questions: list[Answer]
    faithfulness: list[FaithfulnessContent]


class ClassifierHeader(BaseModel):
    """The header of a classifier's weights: texts, some of them JSON."""

    model_config = ConfigDict(extra="allow")

    arch: str
    labels: Json[Annotated[list[str], Field(min_length=2)]]
    healthy: Json[list[str]]
    channels: Literal["1", "3"]
    grey_input: Literal["first-layer", "repeat"]
    pool: str
    stride: Json[int | None]
    exits: Json[bool]
    instances: Literal["max", "lse", "attention"] = "lse"
    depth: Json[Annotated[int, Field(ge=1)] | None] = None
    ratio: Json[Annotated[float, Field(gt=0)]] = 1.0
    suppress: Json[Annotated[float, Field(gt=0, le=1)]] = 1.0
    window: Json[Literal["auto", "file", "percentiles"] | tuple[float, float]] = "auto"


class SegmenterHeader(BaseModel):
    """The header of a segmenter's weights."""

    model_config = ConfigDict(extra="allow")

    arch: str
    channels: Annotated[str, Field(pattern=r"^[1-9]\d?$")]
    dims: Literal["2", "3"]


class GeneratorHeader(BaseModel):
    """The header of the weights of a generator of `weakseg adapt`."""

    model_config = ConfigDict(extra="allow")

    channels: Annotated[str, Field(pattern=r"^[1-9]\d?$")]
    width: Annotated[str, Field(pattern=r"^[1-9]\d{0,2}$")]
    method: str
    networks: Json[list[str]]


def _columns(text: str = "", number: str = "", flag: str = "") -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    for names, kind in ((text, "text"), (number, "number"), (flag, "flag")):
        kinds |= dict.fromkeys(names.split(), kind)  # type: ignore[arg-type]
    return kinds


def _with_interval(names: str) -> str:
    return " ".join(f"{n} {n}_low {n}_high" for n in names.split())


SPLITS = _columns("case image label patient split")
PREDICTIONS = _columns("case patient split label predicted", "lesion_probability")
CONDITION_PREDICTIONS = {**PREDICTIONS, **_columns(number="kept_area")}
CLASSIFIER_METRICS = _columns(number="epoch lr train_loss val_auc val_accuracy val_loss")
SEGMENTER_METRICS = _columns(number="epoch lr train_loss val_dice val_false_alarms")
PER_CASE = _columns(
    "case patient split label method kind",
    "seed masks_seen dice iou precision recall hd95 msd lesion_pixels predicted_pixels ap pointing "
    "energy probability",
    "missed no_overlap false_alarm has_lesion flat gated",
)
SUMMARY = _columns(
    "method kind",
    "masks_seen seeds dice_seed_sd iou precision recall msd missed no_overlap ap pointing energy "
    "flat gated_lesions lesion_images healthy_images patients "
    + _with_interval("dice dice_all dice_patient hd95 false_positive_rate"),
)
LESIONS = _columns(
    "method case patient unit",
    "seed lesion pixels size diameter x y z key_slice mean_intensity mean_heat lesion_probability",
)
CURVES = _columns(number="seed threshold dice")
SWEEP = _columns("method layer", "threshold dice masks_seen")
EQUIVALENCE = _columns("case patient", "draw k masks dice", "has_lesion false_alarm")
FILTERED = _columns(
    "condition source size side fill network",
    "masks_used " + _with_interval("auc accuracy balanced_accuracy kept_area"),
)
FAITHFULNESS = {
    "curves.csv": _columns("case patient measure order", "share p_target p_predicted"),
    "areas.csv": _columns("case patient measure order", "target predicted"),
    "preserved.csv": _columns(
        "case patient", "image_preserved probability_kept", "prediction_preserved"
    ),
}
"""Tables of a run folder: column → what it holds, for `weakseg.stored.read_csv`."""
