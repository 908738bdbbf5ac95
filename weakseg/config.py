"""The experiment file: every key, its default, its range and what it means.

A file is YAML. Unknown keys are refused with the nearest known one; all problems are reported
at once. ``--set a.b=value`` changes one key, with the value read as YAML.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from weakseg.errors import ConfigError, nearest

Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]

PHANTOM = "phantom"
SPLITS = ("train", "val", "test")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PhantomConfig(_Section):
    """The simulated set that is used when ``data.manifest`` is ``phantom``."""

    patients: int = Field(28, ge=6, le=2000)
    slices_per_patient: int = Field(16, ge=4, le=64)
    size: int = Field(128, ge=64, le=512, description="height in pixels; the width is smaller")
    seed: int = Field(0, ge=0)


class SplitConfig(_Section):
    """How patients are dealt out where the manifest has no ``split`` column."""

    val: Fraction = 0.15
    test: Fraction = 0.15
    seed: int = Field(
        0, ge=0, description="apart from the run's seed: networks change, splits stay"
    )

    @model_validator(mode="after")
    def _leaves_training(self) -> SplitConfig:
        if self.val + self.test > 0.8:
            raise ValueError("val + test must leave at least 0.2 of the patients for training")
        return self


def _label(value: Any) -> Any:
    """A label as text: YAML reads 0 as a number, and no as false."""
    if isinstance(value, bool):
        raise ValueError("put labels such as 'yes' and 'no' into quotation marks")
    return str(value) if isinstance(value, int) else value


class DataConfig(_Section):
    """Images, labels, masks and how they are read."""

    manifest: str = Field(PHANTOM, description="'phantom' or the path of a CSV")
    healthy_labels: list[str] | Literal["auto"] = Field(
        "auto", description="labels of images without a lesion; auto knows the usual names"
    )
    lesion_labels: list[str] | Literal["auto"] = Field(
        "auto", description="labels of images with a lesion; auto: all that are not healthy"
    )
    mask_rule: Literal["nonzero", "half"] | list[int] = Field(
        "nonzero",
        description="which mask values are lesion: every one but 0; those above half of the "
        "mask's type range (soft or JPEG edges); or a list of values",
    )
    intensity: Literal["auto", "dtype", "percentile"] = Field(
        "auto",
        description="dtype: divide by the type's maximum; percentile: stretch each image between "
        "its 0.5th and 99.5th percentile; auto: dtype for 8 bits, percentile for deeper images",
    )
    channels: Literal["auto", "grey", "rgb"] = Field(
        "auto", description="auto: grey where every image is grey, else rgb"
    )
    image_size: int = Field(
        128, ge=32, le=2048, description="longest side in pixels that the network sees"
    )
    split: SplitConfig = SplitConfig()
    phantom: PhantomConfig = PhantomConfig()

    @field_validator("healthy_labels", "lesion_labels", mode="before")
    @classmethod
    def _labels_are_text(cls, labels: Any) -> Any:
        if labels == "auto":
            return labels
        return [_label(v) for v in (labels if isinstance(labels, list) else [labels])]

    @field_validator("mask_rule")
    @classmethod
    def _values_are_lesion(cls, rule: Any) -> Any:
        if isinstance(rule, list) and (not rule or any(v == 0 for v in rule)):
            raise ValueError("a list of mask values must not be empty or hold 0 (the background)")
        return rule


class AugmentConfig(_Section):
    """Random changes of the training images, drawn anew for every image and epoch."""

    flip: bool = Field(True, description="left–right, with probability 1/2")
    rotate: float = Field(15.0, ge=0.0, le=180.0, description="degrees, uniform in ±")
    zoom: float = Field(0.15, ge=0.0, lt=1.0, description="scale, uniform in 1 ±")
    shift: float = Field(0.1, ge=0.0, lt=1.0, description="share of the image, uniform in ±")
    brightness: float = Field(0.1, ge=0.0, le=1.0, description="added, uniform in ±")
    contrast: float = Field(0.2, ge=0.0, lt=1.0, description="factor, uniform in 1 ±")


def _seeds_differ(seeds: list[int] | None) -> list[int] | None:
    if seeds is not None and len(set(seeds)) != len(seeds):
        raise ValueError("the same seed twice would count one network twice")
    return seeds


class ClassifierConfig(_Section):
    """The image classifier and its training."""

    arch: str = Field("resnet18", description="a torchvision classifier or timm:NAME")
    weights: str = Field("none", description="none, imagenet, or a .safetensors file")
    grey_input: Literal["first-layer", "repeat"] = Field(
        "first-layer",
        description="grey images: sum the first layer's weights over the colours (equal to "
        "repetition, and faster), or repeat the channel three times",
    )
    epochs: int = Field(12, ge=1, le=10_000)
    batch_size: int = Field(32, ge=2, le=4096)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float | Literal["auto"] = Field(
        "auto",
        description="highest rate; auto: 1e-3 from scratch and 3e-4 from pretrained weights with "
        "adamw, ten times that with sgd",
    )
    weight_decay: float = Field(0.01, ge=0.0)
    warmup: float = Field(0.15, ge=0.0, lt=1.0, description="share of the steps, then cosine to 0")
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    class_weights: Literal["balanced", "none"] = Field(
        "balanced", description="balanced: the loss weighs classes by inverse frequency"
    )
    augment: AugmentConfig = AugmentConfig()
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto", description="auto: bf16-mixed on CUDA that has it, else 32-true"
    )
    seeds: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, min_length=1, description="one network a seed; default: [run seed]"
    )

    @field_validator("lr")
    @classmethod
    def _positive_rate(cls, lr: Any) -> Any:
        if lr != "auto" and lr <= 0:
            raise ValueError("must be greater than 0")
        return lr

    _differ = field_validator("seeds")(_seeds_differ)


class PatchAugmentConfig(AugmentConfig):
    """Random changes of the patches that a segmentation network is trained on, truth included.

    Brightness and contrast are for intensities in [0, 1]; ``intensity_shift`` and
    ``intensity_scale`` for z-scored ones.
    """

    flip_all: bool = Field(False, description="mirror along every axis, each with probability 1/2")
    intensity_shift: float = Field(0.0, ge=0.0, description="added, normal of this sd, a channel")
    intensity_scale: float = Field(0.0, ge=0.0, description="factor, normal around 1 of this sd")


AUTO: Final = "auto"
Auto = Literal["auto"]


class SegmenterConfig(_Section):
    """A fully supervised segmentation network and its training.

    ``auto`` stands for the network's own recipe (`weakseg.training.recipes`), which for DeepMedic
    is its authors'.
    """

    arch: str = Field("unet", description="see `weakseg models`; a backbone behind a colon")
    weights: str = Field(
        "none",
        description="none, imagenet (backbones), a .safetensors file of the backbone, or "
        "classifier: as classifier.weights says",
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
    batch_size: int | Auto = AUTO
    epochs: int | Auto = AUTO
    steps: int | Auto = Field(AUTO, description="batches an epoch; auto: one pass over the images")
    loss: Literal["auto", "ce", "dice", "dice-ce", "focal"] = AUTO
    optimizer: Literal["auto", "adamw", "sgd", "rmsprop"] = AUTO
    lr: float | Auto = AUTO
    weight_decay: float | Auto = Field(AUTO, description="decoupled, of weights")
    l1: float | Auto = Field(AUTO, description="penalty on the sum of the weights' magnitudes")
    l2: float | Auto = Field(AUTO, description="penalty on the sum of the weights' squares")
    schedule: Literal["auto", "cosine", "poly", "halving", "constant"] = AUTO
    warmup: float = Field(0.05, ge=0.0, lt=1.0, description="share of the steps (cosine)")
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
    threshold: Probability | Literal["validation"] = Field(
        0.5, description="on the probability; validation: the best on validation masks, counted"
    )
    precision: Literal["auto", "32-true", "bf16-mixed"] = AUTO
    seeds: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, min_length=1, description="one network a seed; default: the classifier's"
    )

    @field_validator(
        *("image_size", "patch", "batch_size", "epochs", "steps", "tile", "lr"), mode="before"
    )
    @classmethod
    def _no_truth_value(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("must be a number or auto")
        return value

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

    _differ = field_validator("seeds")(_seeds_differ)


class EquivalenceConfig(_Section):
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


class HeatmapConfig(_Section):
    """Which heatmap is made of the classifier."""

    method: str = Field("gradcam", description="see `weakseg.heatmaps.METHODS`")
    layer: str = Field("auto", description="a module's name; auto: the network's named default")
    target: str = Field(
        "lesion",
        description="the class that is explained, the same for every image: a label, or 'lesion' "
        "for all lesion labels together (log-sum-exp of their logits)",
    )

    @field_validator("target", mode="before")
    @classmethod
    def _target_is_text(cls, target: Any) -> Any:
        return _label(target)

    score: Literal["logit", "log-odds"] = Field(
        "logit",
        description="what is differentiated: the target's logit, or its log-odds against the rest",
    )
    batch_size: int = Field(32, ge=1, le=4096)


class FixedRule(_Section):
    """The heatmap over its own maximum is above ``at``."""

    rule: Literal["fixed"] = "fixed"
    at: Fraction = 0.5


class OtsuRule(_Section):
    """Otsu's threshold of each heatmap."""

    rule: Literal["otsu"] = "otsu"


class QuantileRule(_Section):
    """Above the ``q``-quantile of each heatmap: every mask takes 1 - q of its image."""

    rule: Literal["quantile"] = "quantile"
    q: Fraction = 0.9


class AreaPriorRule(_Section):
    """The hottest share ``area`` of the body (the image without its dark background)."""

    rule: Literal["area-prior"] = "area-prior"
    area: Fraction = 0.1
    masks_seen: int = Field(0, ge=0, description="how many masks told you this area")


class TrainQuantileRule(_Section):
    """One threshold for the set: the ``q``-quantile of raw heat over unmasked training images
    with a lesion label."""

    rule: Literal["train-quantile"] = "train-quantile"
    q: Fraction = 0.9


class ValidationRule(_Section):
    """One threshold for the set, the best on the masks of the validation split."""

    rule: Literal["validation"] = "validation"
    max_masks: int | None = Field(None, ge=1, description="use only so many masks")


class OracleDatasetRule(_Section):
    """UPPER BOUND: one threshold for the set, the best on the test masks themselves."""

    rule: Literal["oracle-dataset"] = "oracle-dataset"


class OracleImageRule(_Section):
    """UPPER BOUND: the best threshold of each test image on its own mask."""

    rule: Literal["oracle-image"] = "oracle-image"


Rule = Annotated[
    FixedRule
    | OtsuRule
    | QuantileRule
    | AreaPriorRule
    | TrainQuantileRule
    | ValidationRule
    | OracleDatasetRule
    | OracleImageRule,
    Field(discriminator="rule"),
]

RULE_NAMES = (
    "fixed",
    "otsu",
    "quantile",
    "area-prior",
    "train-quantile",
    "validation",
    "oracle-dataset",
    "oracle-image",
)
ORACLES = ("oracle-dataset", "oracle-image")


def default_rules() -> list[Rule]:
    """Every rule with its default parameters."""
    return [
        FixedRule(),
        OtsuRule(),
        QuantileRule(),
        AreaPriorRule(),
        TrainQuantileRule(),
        ValidationRule(),
        OracleDatasetRule(),
        OracleImageRule(),
    ]


class MasksConfig(_Section):
    """How heatmaps become masks."""

    rules: list[Rule] = Field(
        default_factory=default_rules,
        min_length=1,
    )
    gate: Probability | Literal["none", "validation"] = Field(
        0.5,
        description="an image whose lesion probability is below gets an empty mask; none: every "
        "image gets a mask; validation: Youden's best cut on the validation labels (no masks)",
    )

    @field_validator("rules", mode="before")
    @classmethod
    def _names_are_rules(cls, rules: Any) -> Any:
        if not isinstance(rules, list):
            return rules
        known = [{"rule": r} if isinstance(r, str) else r for r in rules]
        for r in known:
            name = r.get("rule") if isinstance(r, dict) else getattr(r, "rule", None)
            if name not in RULE_NAMES:
                raise ValueError(
                    f"unknown rule {name!r}; choose from: {', '.join(RULE_NAMES)}"
                    + (f" (did you mean {n!r}?)" if (n := nearest(str(name), RULE_NAMES)) else "")
                )
        return known

    @field_validator("rules")
    @classmethod
    def _rules_differ(cls, rules: list[Any]) -> list[Any]:
        names = [r.rule for r in rules]
        if len(set(names)) != len(names):
            raise ValueError("each rule may stand once")
        return rules


class ScoresConfig(_Section):
    """Statistics."""

    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamples of the patients")
    floors: bool = Field(True, description="score the trivial masks beside every method")


class ReportConfig(_Section):
    """The page."""

    gallery: int = Field(4, ge=0, le=50, description="cases a row of the gallery")
    title: str | None = None


class Config(_Section):
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


def curve_asked(config: Config, name: str) -> str:
    """Fingerprint of the settings of the network of a mask-equivalence curve."""
    left_out = {"weights", "seeds", "threshold", "keep", "validation_cases"}
    return fingerprint(config.segmenters[name].model_dump(mode="json", exclude=left_out))


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read an experiment file.

    Parameters
    ----------
    path : Path
        A YAML file.
    overrides : sequence of str
        ``a.b=value`` changes, applied in order.

    Raises
    ------
    ConfigError
        With every problem of the file, not just the first.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            "The experiment file does not exist.",
            where=str(path),
            fix="check the path; the configs/ folder of weakseg holds examples",
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(
            "The experiment file cannot be read.",
            where=str(path),
            found=str(e),
            expected="a text file (UTF-8) of YAML",
        ) from None
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise ConfigError(
            "The experiment file is not YAML.",
            where=str(path),
            found=" ".join(str(e).split()),
            fix="mend the line that is named; text with ': ' or a leading '*' needs quotes",
        ) from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError(
            "The experiment file is not a mapping of keys.",
            where=str(path),
            found=type(tree).__name__,
            expected="lines of the form 'key: value'",
        )
    for text_override in overrides:
        _apply(tree, text_override)
    return parse_config(tree, where=str(path))


def parse_config(tree: dict[str, Any], where: str = "config") -> Config:
    """Check a tree of keys and values.

    Raises
    ------
    ConfigError
        With every problem.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as e:
        problems = [_problem(err, tree) for err in e.errors()]
        n = len(problems)
        raise ConfigError(
            f"The experiment has {n} problem{'s' if n > 1 else ''}:\n"
            + "\n".join(f"  - {p}" for p in problems),
            where=where,
        ) from None


def _apply(tree: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key or any(not part for part in key.split(".")):
        raise ConfigError(
            "A --set is not of the form KEY=VALUE.",
            where=f"--set {text}",
            expected="for example --set classifier.epochs=5",
        )
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        parsed = value
    node = tree
    *parents, last = key.split(".")
    for i, part in enumerate(parents):
        child = node.setdefault(part, {})
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise ConfigError(
                f"{'.'.join(parents[: i + 1])} is a value and has no keys below it.",
                where=f"--set {text}",
                found=repr(child),
            )
        node = child
    node[last] = parsed


def _problem(error: Any, tree: dict[str, Any]) -> str:
    """One pydantic error in our words."""
    loc = [p for p in error["loc"] if p not in RULE_NAMES and not _is_type_tag(p)]
    key = ".".join(str(p) for p in loc)
    if error["type"] == "extra_forbidden":
        close = nearest(str(loc[-1]), _keys_beside(loc))
        known = _keys_beside(loc)
        hint = f"did you mean {close!r}?" if close else f"known keys: {', '.join(known)}"
        return f"unknown key {key!r}; {hint}"
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if not key:
        return message
    return f"{key}: {message} (found {_short(error.get('input'))})"


def _is_type_tag(part: Any) -> bool:
    """Pydantic names the branch of a union in a location; a reader has no use for it."""
    text = str(part)
    return (
        "[" in text
        or text.endswith("Config")
        or text in {"float", "str", "int", "constrained-float", "list"}
    )


def _keys_beside(loc: Iterable[Any]) -> list[str]:
    model: Any = Config
    rules = sorted({k for r in _RULE_MODELS for k in r.model_fields})
    parts = list(loc)[:-1]
    while parts:
        part = parts.pop(0)
        field = None if isinstance(part, int) else model.model_fields.get(part)
        if field is None:
            return rules
        if part == "segmenters" and parts:
            parts.pop(0)  # the user's own name
            model = SegmenterConfig
        elif part == "augment" and model is SegmenterConfig:
            model = PatchAugmentConfig
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
        else:
            return rules
    return list(model.model_fields)


_RULE_MODELS: tuple[type[_Section], ...] = (
    FixedRule,
    OtsuRule,
    QuantileRule,
    AreaPriorRule,
    TrainQuantileRule,
    ValidationRule,
    OracleDatasetRule,
    OracleImageRule,
)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def dump_config(config: Config) -> str:
    """The experiment as YAML, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
