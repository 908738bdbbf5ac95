"""``model.json``: what an exported model takes, gives and is for; and the script beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from weakseg import __version__
from weakseg.config import DataConfig
from weakseg.exporting.model import Model
from weakseg.methods.base import FOUNDATION, HEATMAP, SUPERVISED, WEAK, Method
from weakseg.stored import read_json

ONNX, OPENVINO, ABOUT, SCRIPT = "model.onnx", "model.xml", "model.json", "use.py"
"""Files of an exported method."""

RESEARCH = "For research only. This model is no medical device, and its masks are no diagnosis."

ALONE = (
    "the model looks at one image; the run, of slices that lie beside each other, at the "
    "neighbours as well, so that its masks of them may differ"
)

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

USE = '''"""Masks of 8-bit images by this folder: python use.py IMAGE... For research only."""
import json, os, sys, numpy as np, onnxruntime
from pathlib import Path
from PIL import Image, ImageFilter, ImageOps

here = Path(__file__).parent
about = json.loads((here / "model.json").read_text("utf-8"))
seen = about["input"]
mode, window = "L" if seen["channels"] == 1 else "RGB", seen["window"]
options = onnxruntime.SessionOptions()
threads = (os.environ.get("OMP_NUM_THREADS") or "0").split(",")[0]  # 0: all cores
options.intra_op_num_threads = int(threads)
model = onnxruntime.InferenceSession(str(here / "model.onnx"), options, ["CPUExecutionProvider"])


def black_and_white(values):
    if isinstance(window, list):
        return window[0] - window[1] / 2, window[0] + window[1] / 2
    if "percentile" not in seen["intensity"] and window != "percentiles":
        return 0, 255
    low, high = np.percentile(values, (0.5, 99.5))
    return (low, high) if low < high else (values.min(), values.max())


def areas(n, m):
    at, ends = np.arange(n), np.arange(m + 1)[:, None] * n / m
    return np.clip(np.minimum(ends[1:], at + 1) - np.maximum(ends[:-1], at), 0, 1) * m / n


def noise(image):
    """Standard deviation of the noise beside the tissue's intensity; 0 where it cannot be told."""
    grey = np.asarray(image, float).reshape(*image.size[::-1], -1).mean(2) / 255
    h, w = (max(1, round(n * min(1, 256 / max(grey.shape)))) for n in grey.shape)
    grey = areas(grey.shape[0], h) @ grey @ areas(grey.shape[1], w).T
    white = Image.fromarray(((grey >= grey.max() - 1e-4) * 255).astype(np.uint8))
    told = np.asarray(white.filter(ImageFilter.BoxBlur(1))) < 128
    for blur, share, around in ((0, 0.3, 3), (2, 0.5, 7)):
        soft = Image.fromarray((grey * 255).round().astype(np.uint8))
        soft = np.asarray(soft.filter(ImageFilter.GaussianBlur(blur)))
        bright = Image.fromarray((soft > share * np.percentile(soft, 99)).astype(np.uint8))
        tissue = np.asarray(bright.filter(ImageFilter.MinFilter(around))) * told > 0
        if tissue.mean() >= 0.05:
            break
    level, second = grey[tissue], np.abs(np.diff(np.diff(grey, 2, 0), 2, 1) / 6)[tissue[1:-1, 1:-1]]
    enough = tissue.mean() >= 0.05 and np.median(level) >= 0.05 and second.size
    return np.median(second) / 0.6745 / np.median(level) if enough else 0


def in_square(image, size):
    (W, H), how = image.size, Image.Resampling
    h, w = (max(1, round(n * size / max(H, W))) for n in (H, W))
    square, top, left = Image.new(mode, (size, size)), (size - h) // 2, (size - w) // 2
    square.paste(image.resize((w, h), how.BOX if size < max(H, W) else how.BILINEAR), (left, top))
    planes = np.moveaxis(np.asarray(square, np.float32).reshape(size, size, -1) / 255, 2, 0)[None]
    return planes, np.array([top, left, h, w, H, W])


for path in map(Path, sys.argv[1:]):
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode[0] in "IF":
        sys.exit(f"{path}: this script reads images of 8 bits. Of others: weakseg predict")
    image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    low, high = black_and_white(np.asarray(image, float))
    table = np.clip((np.arange(256) - low) / max(high - low, 1e-9), 0, 1) * 255
    table = table.round().astype(int).tolist()
    image = image.point(table * len(image.getbands()))
    if (share := noise(image)) > (seen.get("noise_limit") or np.inf):
        print(
            f"{path}: noise of {share:.1%} of the tissue's intensity, above the training "
            f"images' {seen['noise_limit']:.1%}: a lesion may be missed. Only weakseg predict "
            "--denoise smooths it",
            file=sys.stderr,
        )
    given = {}
    for name in (i.name for i in model.get_inputs()):
        what, _, side = name.partition("_")
        planes, box = in_square(image.convert(mode), int(side or seen["size"]))
        given[name] = planes if what == "images" else box
    mask, *said = model.run(None, given)
    Image.fromarray(mask * 255).save(path.with_suffix(".mask.png"))
    print(path, int(mask.sum()), *(float(p) for p in said[1:2]))
'''
"""The script: without torch, and without weakseg."""


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


class InputContent(_Content):
    """What the model sees."""

    size: int
    channels: Literal[1, 3]
    intensity: Literal["auto", "dtype", "percentile"]
    window: list[float] | Literal["auto", "file", "percentiles"]
    noise_limit: float | None = None

    @model_validator(mode="after")
    def _is_a_way_to_read_images(self) -> InputContent:
        try:
            self.as_data()
        except ValidationError as e:
            first = e.errors(include_url=False)[0]
            where = {"image_size": "size"}.get(str(first["loc"][0]), first["loc"][0])
            raise ValueError(f"{where}: {first['msg']}") from None
        return self

    def as_data(self) -> DataConfig:
        """The same as settings of an experiment."""
        return DataConfig.model_validate(
            {
                "image_size": self.size,
                "intensity": self.intensity,
                "window": self.window,
                "channels": "grey" if self.channels == 1 else "rgb",
            }
        )


class ThresholdContent(_Content):
    """Where the mask begins."""

    chosen_on: str
    masks_seen: int = Field(ge=0)


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

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> About:
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
    """
    data: DataConfig = method.config.data
    return {
        "format": "weakseg-export-1",
        "use": RESEARCH,
        "made_by": f"weakseg {__version__}",
        "method": method.name,
        "kind": method.kind,
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
        },
        "inputs": _described(model),
        "outputs": {name: OUTPUTS[name] for name in model.outputs},
        "precision": {"model": "fp32", "run": model.precision},
        "labels": list(model.labels),
        "lesion_labels": list(model.lesion_labels),
        "threshold": {
            k: threshold[k]
            for k in ("rule", "threshold", "scale", "chosen_on", "masks_seen")
            if k in threshold
        },
        "gate": float(threshold["gate"]),
        **({"alone": ALONE} if model.alone else {}),
        "heatmap": heat,
    }


def read_about(folder: Path) -> dict[str, Any]:
    """What ``model.json`` says.

    Raises
    ------
    RunError
        If it is missing or damaged.
    """
    return read_json(folder / ABOUT, "export the method again: weakseg export RUN", About)
