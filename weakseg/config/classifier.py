"""The image classifier and its training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_serializer, model_validator

from weakseg.config.volume_archs import arch_dims, is_deep, sees_slices
from weakseg.settings import Probability, Scale, Section, seeds_differ

Pool = Literal["default", "avg", "max", "lse", "topk", "gem"]
"""How class scores over places become an image's logits, see `weakseg.models.localising`."""


AUGMENTATIONS: dict[str, dict[str, float]] = {
    "scanner-look": {
        "brightness": 0.2, "contrast": 0.4, "gamma": 0.5, "speckle": 0.15, "crop": 0.15,
    },
    "ultrasound-look": {
        "brightness": 0.2, "contrast": 0.4, "gamma": 0.5, "speckle": 0.15, "crop": 0.15,
        "calipers": 4,
    },
}  # fmt: skip
"""Augmentations by name: what other scanners of the same kind do to an image, and of ultrasound
what people draw into it as well."""


class AugmentConfig(Section):
    """Random changes of the training images, drawn anew for every image and epoch.

    A name in their place, ``augment: scanner-look``, stands for those of `AUGMENTATIONS`,
    ``heatmap`` and ``heatmap-of-another`` for heat, ``auto`` for what is usual.
    """

    flip: bool = Field(True, description="left–right, with probability 1/2")
    rotate: float = Field(15.0, ge=0.0, le=180.0, description="degrees, uniform in ±")
    zoom: float = Field(0.15, ge=0.0, lt=1.0, description="scale, uniform in 1 ±")
    shift: float = Field(0.1, ge=0.0, lt=1.0, description="share of the image, uniform in ±")
    brightness: float = Field(0.1, ge=0.0, le=1.0, description="added, uniform in ±")
    contrast: float = Field(0.2, ge=0.0, lt=1.0, description="factor, uniform in 1 ±")
    gamma: float = Field(
        0.0,
        ge=0.0,
        le=4.0,
        description="intensities to a power from 1 / (1 + gamma) to 1 + gamma, its logarithm "
        "uniform",
    )
    speckle: float = Field(
        0.0, ge=0.0, le=1.0, description="sd of noise that grows with the intensity"
    )
    crop: float = Field(
        0.0,
        ge=0.0,
        lt=0.5,
        description="what lies outside of a random rectangle is blackened, on each side up to this "
        "share",
    )
    calipers: int = Field(
        0,
        ge=0,
        le=64,
        description="white crosses at random places of the square that a network sees, its black "
        "edges too, none to so many: what lesions are measured with then tells nothing of them; "
        "images only",
    )

    heat: Probability = Field(
        0.0,
        description="a heatmap (the run's heatmap:, of a classifier heat_from's) is blended into "
        "an image: of its hottest place the share of white, uniform from 0 to this",
    )
    heat_of: Literal["own", "another"] = Field(
        "own", description="whose heatmap: the image's own, or as a control another image's"
    )

    names: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **AUGMENTATIONS,
        "heatmap": {"heat": 0.5},
        "heatmap-of-another": {"heat": 0.5, "heat_of": "another"},
    }
    later: ClassVar[frozenset[str]] = frozenset(
        {"gamma", "speckle", "crop", "calipers", "heat", "heat_of"}
    )

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        if not isinstance(given, str) or given == "auto":
            return given
        if given not in cls.names:
            names = ", ".join(["auto", *cls.names])
            raise ValueError(f"there is no augmentation {given!r}; names: {names}")
        return dict(cls.names[given])

    @model_validator(mode="after")
    def _another_s_heat_is_laid_over(self) -> AugmentConfig:
        if self.heat_of == "another" and not self.heat:
            raise ValueError(
                "heat_of: another is for heat above 0; set heat: 0.5, or leave heat_of out"
            )
        return self

    @model_serializer(mode="wrap")
    def _says_nothing_of_what_is_not_done(self, handler: Any) -> dict[str, Any]:
        # Settings that came later: what was trained before them stays up to date.
        settings: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        idle = {k for k in self.later if settings.get(k) == fields[k].default}
        return {k: v for k, v in settings.items() if k not in idle}


class ClassifierConfig(Section):
    """The classifier of images, slices or volumes, and its training."""

    arch: str = Field(
        "resnet18",
        description="a torchvision classifier or timm:NAME; for volumes with one label each "
        "mil:NAME (it sees every slice, and their scores are pooled), or NAME-3d (its kernels "
        "inflated to three dimensions)",
    )
    instances: Literal["max", "lse", "attention"] = Field(
        "lse",
        description="mil:NAME: how the scores of slices become their volume's: the highest, "
        "log-sum-exp, or a mean weighted by gated attention",
    )
    anisotropy: float | Literal["auto"] = Field(
        "auto",
        description="NAME-3d: how many times as deep as wide a voxel is that the network sees; "
        "auto: the median of the training volumes by what their files say",
    )
    weights: str = Field(
        "none",
        description="none, imagenet, or a file: safetensors, or a state dict that torch.save wrote",
    )
    freeze: bool = Field(
        False,
        description="the network stays as its weights are, batch statistics too, and only its last "
        "linear layer is trained; needs weights",
    )
    grey_input: Literal["first-layer", "repeat"] = Field(
        "first-layer",
        description="grey images: sum the first layer's weights over the colours (equal to "
        "repetition, and faster; where it is not equal, repeat is taken), or repeat the channel "
        "three times",
    )
    epochs: int = Field(12, ge=1, le=10_000)
    batch_size: int = Field(32, ge=2, le=4096)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float | Literal["auto"] = Field(
        "auto",
        description="highest rate; auto: 1e-3 from scratch and 3e-4 from pretrained weights with "
        "adamw (1e-3 of a frozen one's head), ten times that with sgd",
    )
    weight_decay: float = Field(0.01, ge=0.0)
    warmup: float = Field(0.15, ge=0.0, lt=1.0, description="share of the steps, then cosine to 0")
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    class_weights: Literal["balanced", "none"] = Field(
        "balanced", description="balanced: the loss weighs classes by inverse frequency"
    )
    augment: AugmentConfig = AugmentConfig()
    heat_from: str | None = Field(
        None,
        min_length=1,
        description="augment: heatmap: the folder of another run of the same data and splits, "
        "whose heatmaps are blended into the training images",
    )
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto", description="auto: bf16-mixed on CUDA that has it, else 32-true"
    )
    compile: bool = Field(
        False,
        description="train with torch.compile: the first steps take a minute or more, later ones "
        "may be faster (mostly on GPUs); needs a C++ compiler on CPUs",
    )
    seeds: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, min_length=1, description="one network a seed; default: [run seed]"
    )
    pool: Pool = Field(
        "default",
        description="how class scores over places become the image's: the network's own way; "
        "their mean, maximum, log-sum-exp or mean of the highest tenth; or the generalised mean "
        "of the features",
    )
    stride: Literal[8, 16, 32] | None = Field(
        None,
        description="pixels of the image a place of the last map, reached by dilation; default: "
        "the network's own",
    )
    exits: bool = Field(
        False, description="class scores of every depth, trained and averaged with the network's"
    )
    suppress: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="features of every depth end at this share of their channel's maximum, so that "
        "less discriminative places count as well; 1: nowhere",
    )
    erase: float = Field(
        0.0, ge=0.0, lt=1.0, description="share of the cells of a 4x4 grid hidden in training"
    )
    sizes: tuple[Scale, Scale] | None = Field(
        None,
        description="training batches are enlarged by a factor drawn between these two, each batch "
        "by its own; default: never",
    )
    equivariance: float = Field(
        0.0,
        ge=0.0,
        description="weight of the difference between the class maps of an image and of its "
        "mirrored, smaller copy; needs a pool",
    )
    map_entropy: float = Field(
        0.0,
        ge=0.0,
        description="weight of the mean entropy of lesion or not at the places of the class map, "
        "in bits; needs a pool",
    )
    map_size: float = Field(
        0.0,
        ge=0.0,
        description="weight of the squared distance of the class map's lesion area from map_area, "
        "on healthy images from 0; needs a pool",
    )
    map_area: tuple[Probability, Probability] = Field(
        (0.0, 0.3),
        description="lowest and highest share of an image that a lesion takes up; costs nothing "
        "between",
    )

    @field_validator("lr")
    @classmethod
    def _positive_rate(cls, lr: Any) -> Any:
        if lr != "auto" and lr <= 0:
            raise ValueError("must be greater than 0")
        return lr

    _differ = field_validator("seeds")(seeds_differ)

    @field_validator("augment", mode="before")
    @classmethod
    def _usual(cls, given: Any) -> Any:
        # As segmenters have it, so that a sweep can name what is usual beside what is not.
        return {} if given == "auto" else given

    @field_validator("equivariance", "map_entropy", "map_size")
    @classmethod
    def _has_a_class_map(cls, weight: float, info: ValidationInfo) -> float:
        if weight and info.data.get("pool") == "default":
            raise ValueError(
                "looks at maps of class scores, of which pool: default has none; set "
                "classifier.pool to avg, max, lse, topk or gem"
            )
        return weight

    @field_validator("heat_from")
    @classmethod
    def _wherever_it_is_asked_from(cls, folder: str | None) -> str | None:
        # A run's own file of it is read by commands in other folders.
        return None if folder is None else str(Path(folder).absolute())

    @field_validator("anisotropy")
    @classmethod
    def _positive_anisotropy(cls, ratio: Any) -> Any:
        if ratio != "auto" and not 0 < ratio <= 1000:
            raise ValueError("must be greater than 0 and at most 1000")
        return ratio

    @model_validator(mode="after")
    def _frozen_at_something(self) -> ClassifierConfig:
        if self.freeze and self.weights == "none":
            raise ValueError(
                "freeze: keeps the network as its weights are, and weights: none are random "
                "numbers; set classifier.weights to imagenet or a file"
            )
        return self

    @model_validator(mode="after")
    def _heat_comes_from_elsewhere(self) -> ClassifierConfig:
        if self.augment.heat and self.dims == 3:
            raise ValueError(f"augment: heat is for classifiers of images, and {self.arch} is none")
        if self.augment.heat and self.heat_from is None:
            raise ValueError(
                "augment: heat needs heatmaps of a classifier that is trained already; name its "
                "run's folder in classifier.heat_from"
            )
        if self.heat_from is not None and not self.augment.heat:
            raise ValueError("heat_from is for augment: heatmap or heatmap-of-another")
        return self

    @model_validator(mode="after")
    def _nobody_draws_into_volumes(self) -> ClassifierConfig:
        if self.augment.calipers and self.dims == 3:
            raise ValueError(
                f"augment: calipers are for classifiers of images, and {self.arch} is none; take "
                "scanner-look in place of ultrasound-look"
            )
        return self

    @model_validator(mode="after")
    def _volumes_have_no_map_losses(self) -> ClassifierConfig:
        if self.dims == 3:  # settings of networks: these losses turn and crop flat images
            for key in ("equivariance", "map_entropy", "map_size"):
                if getattr(self, key):
                    raise ValueError(f"{key} is for classifiers of images, and {self.arch} is none")
            if self.exits and sees_slices(self.arch):
                raise ValueError(f"exits are for networks that are not pooled as {self.arch} is")
        return self

    @model_validator(mode="after")
    def _suppresses_on_images(self) -> ClassifierConfig:
        if self.suppress < 1 and is_deep(self.arch):
            raise ValueError(f"suppress: is for networks of images, and {self.arch} is none")
        return self

    @property
    def dims(self) -> int:
        """Axes of space of what it sees: 2 of images and slices, 3 of volumes."""
        return arch_dims(self.arch)

    @field_validator("map_area", "sizes")
    @classmethod
    def _low_is_lower(cls, pair: tuple[float, float] | None) -> tuple[float, float] | None:
        if pair is not None and pair[0] >= pair[1]:
            raise ValueError("the first must be below the second")
        return pair

    def fingerprint_settings(self) -> dict[str, Any]:
        """What a trained network depends on; weights and other runs count by content elsewhere."""
        left_out = {"seeds", "weights", "compile", "heat_from"}
        settings = self.model_dump(mode="json", exclude=left_out)
        if not self.map_size:  # without a weight the bounds change nothing
            del settings["map_area"]
        if not sees_slices(self.arch):
            del settings["instances"]
        if not is_deep(self.arch):
            del settings["anisotropy"]
        if self.sizes is None:  # so that networks from before the setting stay up to date
            del settings["sizes"]
        if not self.freeze:
            del settings["freeze"]
        if self.suppress == 1:
            del settings["suppress"]
        return settings
