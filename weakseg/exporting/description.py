"""``model.json``: what an exported model takes, gives and is for."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from weakseg import __version__
from weakseg.config import DataConfig, VolumesConfig
from weakseg.exporting.model import Model
from weakseg.methods.base import FOUNDATION, HEATMAP, SUPERVISED, WEAK, Method
from weakseg.methods.network_mask import (
    BESIDE,
    LEVEL,
    OUTLINE,
    PROMPTED,
    SCREENING,
    outline_of,
    outlines,
)
from weakseg.stored import first_wrong

ONNX, OPENVINO, ABOUT = "model.onnx", "model.xml", "model.json"
"""Files of an exported method."""

AGAIN = "export the method again: weakseg export RUN"
"""What to do where one is damaged."""

RESEARCH = "For research only. This model is no medical device, and its masks are no diagnosis."

ALONE = (
    "the model looks at one image; the run, of slices that lie beside each other, at the "
    "neighbours as well, so that the model's own masks may differ; weakseg predict does as the run"
)

OUTLINED = {
    LEVEL: "the model's own mask has the outline of its threshold; weakseg predict gives it that "
    "of the image at a grey level, as the run does",
    PROMPTED: "the model's own mask has the outline of its threshold; weakseg predict asks "
    "LiteMedSAM for another, as the run does, and needs pip install 'weakseg[foundation]' for it",
}

SLICES = {
    "axis": "the third of the file; rows of a slice are the second axis and columns the first, as "
    "they are stored",
    "spacing": "nothing is resampled by it: a slice is resized to input.size by its pixels alone",
    "scaling": "of the whole volume's values, not of a slice's",
}
"""How a volume becomes images, where the run's images are slices."""

NEIGHBOURS = "the channels are the slice before, itself and the one behind; at an end itself"
"""The same where slices are seen with those beside them."""

INPUTS = {
    "images": "float32 (1, {channels}, {size}, {size}): the image in the middle of a square that "
    "its longer side fills, resized by areas or, where it grows, bilinearly; intensities in "
    "[0, 1], 0 around it; an odd rest goes to the bottom or the right. Normalisation is in the "
    "model",
    "box": "int64 (6): top, left, height and width of the image in the square of {size}, and its "
    "own height and width",
}
"""Of a square's side, which follows the name where it is not ``input.size``: ``images_96``."""

OUTPUTS = {
    "mask": "uint8 (height, width) of the image itself: 1 is lesion; threshold, gate and the parts "
    "that are dropped are in it",
    "map": "float32 (height, width): what the mask was made of; positive heat, not normalised, or "
    "the probability of a lesion",
    "probability": "float32: the classifiers' probability of a lesion somewhere in the image",
    "probabilities": "float32 (labels): the classifiers' probability of each label",
    "heat": "float32 (1, h, w): raw signed scores on the grid of the network's layer",
}

_INPUT = re.compile("(images|box)(_[1-9][0-9]{0,3})?")


def side_of(name: str, size: int) -> tuple[str, int]:
    """What an input is, ``images`` or ``box``, and the side of its square."""
    what, _, side = name.partition("_")
    return what, int(side or size)


def _described(model: Model) -> dict[str, str]:
    """What each input of a model is, in their order."""
    said = {}
    for name in model.inputs:
        what, side = side_of(name, model.size)
        said[name] = INPUTS[what].format(channels=model.channels, size=side)
    return said


class _Content(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


def require_settings(key: str, model: type[BaseModel], held: Any) -> None:
    """Refuse what are no such settings, with their key."""
    try:
        model.model_validate(held)
    except ValidationError as e:
        raise ValueError(f"{key}: {': '.join(first_wrong(e))}") from None


class InputContent(_Content):
    """What the model sees."""

    size: int
    channels: Literal[1, 3]
    intensity: Literal["auto", "dtype", "percentile"]
    window: list[float] | Literal["auto", "file", "percentiles"]
    noise_limit: float | None = None
    neighbours: bool = False

    @model_validator(mode="after")
    def _is_a_way_to_read_images(self) -> InputContent:
        try:
            self.as_data()
        except ValidationError as e:
            key, message = first_wrong(e)
            raise ValueError(f"{key.replace('image_size', 'size')}: {message}") from None
        return self

    def as_data(self) -> DataConfig:
        """The same as settings of an experiment."""
        return DataConfig.model_validate(
            {
                "image_size": self.size,
                "intensity": self.intensity,
                "window": self.window,
                "channels": "grey" if self.channels == 1 else "rgb",
                "neighbours": self.neighbours,
            }
        )


class InferenceContent(_Content):
    """How parts of a network's mask are dropped."""

    min_area: float = Field(0.0, ge=0, le=1)
    min_peak: float = Field(0.0, ge=0, le=1)
    neighbours: float = Field(0.0, ge=0, lt=1)
    outline: Literal["threshold", "level", "box-prompt"] = "threshold"


class BesideContent(_Content):
    """The cuts of images that have neighbours."""

    min_peak: float = Field(ge=0, le=1)
    gate: float = Field(ge=0, le=1)


class ThresholdContent(_Content):
    """Where the mask begins."""

    chosen_on: str
    masks_seen: int = Field(ge=0)
    threshold: float | None = None
    inference: InferenceContent | None = None
    beside: BesideContent | None = None

    @model_validator(mode="after")
    def _neighbours_need_it(self) -> ThresholdContent:
        how = self.inference
        if how and (how.neighbours or how.outline != "threshold") and self.threshold is None:
            raise ValueError("threshold: field required, where there are neighbours or an outline")
        return self


class HeatmapContent(_Content):
    """What the raw scores are."""

    method: str
    layer: str
    target: str


class About(_Content):
    """What ``model.json`` must hold."""

    format: Literal["weakseg-export-1"]
    method: str = Field(min_length=1)
    kind: str
    seeds: list[Annotated[int, Field(ge=0)]]
    input: InputContent
    inputs: dict[str, str] = Field(default_factory=lambda: {"images": "", "box": ""})
    outputs: dict[str, str]
    labels: list[str]
    lesion_labels: list[str]
    threshold: ThresholdContent
    gate: float = Field(ge=0, le=1)
    heatmap: HeatmapContent | None = None
    takes: Literal["images", "slices"] = "images"
    volumes: dict[str, int] = Field(default_factory=dict)
    hashes: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> About:
        require_settings("volumes", VolumesConfig, self.volumes)
        if self.kind not in KINDS:
            raise ValueError(f"kind: {self.kind!r:.60} is none of {', '.join(KINDS)}")
        if strange := [n for n in self.inputs if not _INPUT.fullmatch(n)]:
            raise ValueError(f"inputs: there is no {strange[0]!r:.60}")
        needed = {"mask", "map"}
        if self.heatmap is not None or self.kind == HEATMAP or "heat" in self.outputs:
            needed |= {"probability", "probabilities", "heat"}
        if lost := sorted(needed - self.outputs.keys()):
            raise ValueError(f"outputs: without {', '.join(lost)}")
        if unknown := sorted(self.outputs.keys() - OUTPUTS.keys()):
            raise ValueError(f"outputs: there is no {unknown[0]!r:.60}")
        if "heat" in needed and self.heatmap is None:
            raise ValueError("heatmap: field required, where there is an output heat")
        if strange := [n for n in self.lesion_labels if n not in self.labels]:
            raise ValueError(f"lesion_labels: {strange[0]!r:.60} is none of the labels")
        if "probability" in self.outputs and not self.lesion_labels:
            raise ValueError("lesion_labels: empty, where there is an output probability")
        return self


KINDS = (HEATMAP, WEAK, SUPERVISED, FOUNDATION)
"""Of methods that are exported."""


def describe(
    method: Method,
    model: Model,
    threshold: dict[str, Any],
    heat: Any,
    noise_limit: float | None = None,
    *,
    sliced: bool = False,
) -> dict[str, Any]:
    """The content of ``model.json``.

    Parameters
    ----------
    method : Method
    model : Model
    threshold : dict
        Its entry in ``threshold.json``.
    heat : dict or None
        Method, layer and target of its heatmap.
    noise_limit : float, optional
        See `weakseg.data.familiar.Familiar.noise_limits`.
    sliced : bool, optional
        Whether the run's images are slices of volumes.
    """
    data: DataConfig = method.config.data
    cut = ("rule", "threshold", "scale", "chosen_on", "masks_seen", BESIDE)
    kept = (*SCREENING, OUTLINE)
    screening = {k: v for k, v in threshold.get("inference", {}).items() if k in kept}
    return {
        "format": "weakseg-export-1",
        "use": RESEARCH,
        "made_by": f"weakseg {__version__}",
        "method": method.name,
        "kind": method.kind,
        "takes": "slices" if sliced else "images",
        "seeds": list(method.seeds),
        "input": {
            "size": model.size,
            "channels": model.channels,
            "intensity": data.intensity,
            "window": data.window if isinstance(data.window, str) else list(data.window),
            "scaling": {
                "auto": "8 bits: divided by 255; deeper images as percentile",
                "dtype": "divided by the largest value of the type",
                "percentile": "each image stretched between its 0.5th and 99.5th percentile",
            }[data.intensity],
            "normalised_inside_by": {"mean": list(model.mean), "std": list(model.std)},
            "noise_limit": noise_limit,
            **(_of_slices(data) if sliced else {}),
        },
        "inputs": _described(model),
        "outputs": {name: OUTPUTS[name] for name in model.outputs},
        "precision": {"model": "fp32", "run": model.precision},
        "labels": list(model.labels),
        "lesion_labels": list(model.lesion_labels),
        "threshold": {
            **{k: threshold[k] for k in cut if k in threshold},
            **({"inference": screening} if screening else {}),
        },
        "gate": float(threshold["gate"]),
        **({"alone": ALONE} if model.alone else {}),
        **({"outline": OUTLINED[outline_of(threshold)]} if outlines(threshold) else {}),
        "heatmap": heat,
        **({"volumes": method.config.volumes.model_dump(mode="json")} if sliced else {}),
    }


def _of_slices(data: DataConfig) -> dict[str, Any]:
    """What else there is to say of the input where it is a slice of a volume."""
    channels = {"channels": NEIGHBOURS} if data.neighbours else {}
    return {"neighbours": data.neighbours, "slices": SLICES | channels}
