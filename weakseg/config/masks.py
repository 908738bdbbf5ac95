"""Heatmaps, and how they become masks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from weakseg.masks.rules import Rule, default_rules, rules_by_name, rules_differ
from weakseg.settings import Probability, Scale, Section, label_text


class RelevanceConfig(Section):
    """The heatmap method relevance: a share of every superpixel is learnt."""

    superpixels: int = Field(60, ge=2, le=10_000, description="about how many")
    steps: int = Field(60, ge=1, le=10_000, description="each two passes forward and back")
    small: float = Field(
        3.0, ge=0.0, description="price of the whole image, where its score is worth 1"
    )
    smooth: float = Field(
        0.5, ge=0.0, description="price of the mean difference of superpixels that touch"
    )


class ClimbConfig(Section):
    """Adversarial climbing: the image is changed towards a higher score, and all maps are added."""

    steps: int = Field(27, ge=1, le=1000, description="each two passes forward and back")
    rate: float = Field(
        0.018, gt=0.0, le=1.0, description="by how much a step changes its most changed pixel"
    )
    hold: float = Field(
        7.0,
        ge=0.0,
        description="price of a change of the map where it is hot from the beginning",
    )


class HeatmapConfig(Section):
    """Which heatmap is made of the classifier."""

    method: str = Field(
        "gradcam", description="see `weakseg.heatmaps.METHODS`; or fullgrad, occlusion or relevance"
    )
    layer: str | list[str] = Field(
        "auto",
        description="a module's name; auto: the network's named default; several names, or fused "
        "for the network's named depths: their maps are averaged, each over its own maximum, and "
        "take the scale of the last",
    )
    fusion: Literal["mean", "entropy", "labels"] = Field(
        "mean",
        description="of several layers' maps; entropy: at each place those count more that are "
        "sure of yes or no; labels: those count more whose heat tells which validation images have "
        "a lesion (labels, no masks)",
    )
    weights: list[Annotated[float, Field(ge=0.0)]] | None = Field(
        None,
        min_length=1,
        description="of fusion: labels, one a layer, in their order; default: learnt",
    )
    flips: bool = Field(False, description="average with the heatmap of the mirrored image")
    scales: list[Scale] = Field(
        [1.0],
        min_length=1,
        description="the image enlarged so many times; see `choose` for maps of several",
    )
    choose: Literal["mean", "area"] = Field(
        "mean",
        description="mean: maps of several scales are averaged, each over its own maximum; area: "
        "each image is seen at one of them, by the size of the hot region in its map at the scale "
        "next to 1",
    )
    hot_side: float = Field(
        35.0,
        ge=1.0,
        le=4096.0,
        description="area: the scale is taken that brings the side of the hot region nearest to so "
        "many pixels",
    )
    auc_drop: Probability | None = Field(
        None,
        description="scales whose AUC of lesion against healthy on the validation labels (no "
        "masks) lies further below the best one's are left out; default: none is",
    )
    ensemble: bool = Field(
        False, description="average over the classifiers of all seeds, each over its own maximum"
    )
    scale: Literal["raw", "probability"] = Field(
        "raw",
        description="raw: the scores themselves; probability: the hottest place has the "
        "probability of a lesion, so that images without one stay dark",
    )
    target: str = Field(
        "lesion",
        description="the class that is explained, the same for every image: a label, or 'lesion' "
        "for all lesion labels together (log-sum-exp of their logits)",
    )

    @field_validator("target", mode="before")
    @classmethod
    def _target_is_text(cls, target: Any) -> Any:
        return label_text(target)

    score: Literal["logit", "log-odds"] = Field(
        "logit",
        description="what is differentiated: the target's logit, or its log-odds against the rest",
    )
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field(
        "auto",
        description="auto: full, unless classifier.precision names another; half precision moves "
        "the edges of masks",
    )
    batch_size: int = Field(32, ge=1, le=4096)
    relevance: RelevanceConfig = RelevanceConfig()
    climb: ClimbConfig | None = Field(
        None,
        description="AdvCAM: maps of the image and of what adversarial climbing makes of it are "
        "added; default: of the image alone",
    )

    @field_validator("climb")
    @classmethod
    def _climbs_to_layers(cls, climb: ClimbConfig | None, info: ValidationInfo) -> Any:
        method = info.data.get("method")
        if climb is not None and method in ("fullgrad", "occlusion", "relevance"):
            raise ValueError(f"adds maps of layers, and {method} is of none")
        return climb

    def fingerprint_settings(self) -> dict[str, Any]:
        """What its maps and masks depend on, for fingerprints.

        Settings of scales that do nothing are left out: maps from before stay up to date.
        """
        idle = {"batch_size"}
        idle |= set() if self.choose == "area" else {"choose", "hot_side"}
        idle |= {"fusion"} if self.fusion == "mean" else set()
        idle |= {k for k in ("auc_drop", "climb", "weights") if getattr(self, k) is None}
        idle |= {"relevance"} if self.method != "relevance" else set()
        return self.model_dump(mode="json", exclude=idle)

    @field_validator("scales")
    @classmethod
    def _scales_differ(cls, scales: list[float]) -> list[float]:
        if len(set(scales)) < len(scales):
            raise ValueError("name each scale once")
        return scales

    @field_validator("weights")
    @classmethod
    def _weights_count(cls, weights: Any, info: ValidationInfo) -> Any:
        if weights is not None and info.data.get("fusion") != "labels":
            raise ValueError("are of fusion: labels")
        if weights is not None and not sum(weights):
            raise ValueError("must not all be 0")
        return weights

    @property
    def learns_weights(self) -> bool:
        """Whether what its layers count is asked of validation labels."""
        return self.fusion == "labels" and self.weights is None

    @field_validator("layer")
    @classmethod
    def _layers_differ(cls, layer: Any) -> Any:
        if isinstance(layer, list) and (not layer or len(set(layer)) < len(layer)):
            raise ValueError("name one layer or more, each once")
        return layer


class MasksConfig(Section):
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

    _named = field_validator("rules", mode="before")(rules_by_name)
    _differ = field_validator("rules")(rules_differ)


class VolumesConfig(Section):
    """How the masks of a volume's slices are cleaned up together, in this order."""

    smooth: int = Field(
        0,
        ge=0,
        le=50,
        description="slices on either side that vote: a voxel is marked where most of them are",
    )
    min_voxels: int = Field(1, ge=1, description="parts of fewer voxels go")
    min_slices: int = Field(1, ge=1, description="parts on fewer slices go")
    largest: int = Field(0, ge=0, description="so many parts are kept, the largest; 0: all")

    @property
    def changes(self) -> bool:
        """Whether anything is cleaned up at all."""
        return self != VolumesConfig()


class NamedHeatmap(HeatmapConfig):
    """A further heatmap, with a name of its own and the rules that make masks of it."""

    rules: list[Rule] | None = Field(None, min_length=1, description="default: masks.rules")

    _named = field_validator("rules", mode="before")(rules_by_name)
    _differ = field_validator("rules")(rules_differ)
