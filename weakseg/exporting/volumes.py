"""``model.json`` of networks of whole volumes, and such a folder as a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from weakseg import __version__
from weakseg.config import Config, DataConfig, SegmenterConfig, VolumesConfig
from weakseg.contents import SegmenterSettings, Share
from weakseg.engines.base import Session
from weakseg.errors import UserError
from weakseg.exporting.description import RESEARCH, ThresholdContent, require_settings
from weakseg.exporting.windows import Arch, network_by, refuse_windows
from weakseg.methods.network import NetworkMethod
from weakseg.methods.segmenter_networks import Networks

FORMAT = "weakseg-export-volumes-1"

INPUT = {
    "grid": "the volume's own: nothing is turned or resampled; axes as they are stored",
    "normalisation": "outside of the model: each modality less its mean, divided by its standard "
    "deviation, both over the region (the column roi; without one all that differs from an even "
    "border)",
    "window": "a part of the volume; outside of the volume the mean of its corners",
}

_HELD = (
    *("channels", "dims", "image_size", "intensity", "window", "roi"),
    *("sampled_prior", "true_prior", "steps", "batch", "training_masks", "validation_masks"),
)
"""What is read of a network's ``settings.json``."""


_INFERENCE = ("tile", "overlap", "flips", "scales", "recalibrate", "normalise")
"""What is read of the settings, which all networks of a method share; they may differ in others."""


class NetworkContent(SegmenterSettings):
    """What a network's ``settings.json`` has beside its settings, and its graph."""

    file: str = Field(pattern=r"^model(-[1-9][0-9]?)?\.onnx$")
    arch: Arch
    dims: Literal[3]
    settings: dict[str, Any] = Field(default_factory=dict)
    masks_of: str | None = None
    masks_of_seed: int | None = None


class VolumesAbout(BaseModel):
    """What ``model.json`` of networks of volumes must hold."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    format: Literal["weakseg-export-volumes-1"]
    method: str = Field(min_length=1)
    kind: Literal["supervised", "weak", "foundation"]
    takes: Literal["volumes"]
    seeds: list[int] = Field(min_length=1)
    networks: list[NetworkContent] = Field(min_length=1)
    weights: list[Share]
    settings: dict[str, Any]
    threshold: ThresholdContent
    volumes: dict[str, int]
    hashes: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_settings(self) -> VolumesAbout:
        if self.threshold.threshold is None:
            raise ValueError("threshold.threshold: field required")
        require_settings("volumes", VolumesConfig, self.volumes)
        require_settings("settings", SegmenterConfig, self.settings)
        if self.weights and (len(self.weights) != len(self.networks) or not sum(self.weights)):
            raise ValueError("weights: one a network, not all 0, or none")
        return self


def refuse_volumes(method: NetworkMethod) -> None:
    """Refuse what `volumes_method` could not do."""
    refuse_windows(method)
    if method.threshold.get("gate", 0):
        raise UserError(
            "The gate's classifier of volumes is not exported.",
            where=f"--method {method.name}",
            fix="train the segmenter with gate: none, or use weakseg predict on the run itself",
        )


def file_of(k: int) -> str:
    """The graph of the k-th network."""
    return "model.onnx" if k == 0 else f"model-{k + 1}.onnx"


def describe_volumes(method: NetworkMethod) -> dict[str, Any]:
    """The content of ``model.json``; no image, path or name of a patient is in it."""
    settings = method.settings.model_dump(mode="json", include=set(_INFERENCE))
    entry = method.threshold
    kept = ("threshold", "chosen_on", "masks_seen", "inference")
    return {
        "format": FORMAT,
        "use": RESEARCH,
        "made_by": f"weakseg {__version__}",
        "method": method.name,
        "kind": method.kind,
        "takes": "volumes",
        "seeds": list(method.seeds),
        "input": {"channels": int(method.networks.settings["channels"]), **INPUT},
        "inputs": {"images": "float32 (1, channels, x, y, z): a window, normalised"},
        "outputs": {"logits": "float32 (1, 2, x, y, z): rest and lesion; softmax is outside"},
        "networks": [
            {
                "file": file_of(k),
                "arch": held["settings"]["arch"],
                **{n: held[n] for n in _HELD if n in held},
            }
            for k, held in enumerate(method.networks.held)
        ],
        "weights": list(method.networks.weights),
        "settings": {n: settings[n] for n in _INFERENCE},
        "precision": {"model": "fp32", "run": method.settings.precision},
        "threshold": {n: entry[n] for n in kept if n in entry},
        "volumes": method.config.volumes.model_dump(mode="json"),
    }


def volumes_method(about: Mapping[str, Any], load: Callable[[str], Session]) -> NetworkMethod:
    """An exported network of volumes, or the mean of several, as a method.

    Parameters
    ----------
    about : mapping
        ``model.json``.
    load : callable
        Name of a graph's file → its session.
    """
    settings = SegmenterConfig.model_validate({**about["settings"], "precision": "32-true"})
    held = tuple({**n, "settings": {"arch": n["arch"]}} for n in about["networks"])
    models = tuple(
        network_by(load(h["file"]), h["arch"], int(h["channels"]), settings.tile, h["file"])
        for h in held
    )
    window = held[0].get("window", "auto")
    seen = {
        "intensity": held[0]["intensity"],
        "window": window if isinstance(window, str) else tuple(window),
    }
    config = Config.model_validate(
        {
            "name": "exported",
            "data": DataConfig.model_validate(seen).model_dump(),
            "volumes": about["volumes"],
        }
    )
    networks = Networks(models, held).weighed(about["weights"])
    threshold = {**about["threshold"], "gate": 0.0, "kind": about["kind"]}
    seeds = tuple(about["seeds"])
    return NetworkMethod(about["method"], seeds, config, networks, settings, threshold)


__all__ = [
    "FORMAT",
    "VolumesAbout",
    "describe_volumes",
    "file_of",
    "refuse_volumes",
    "volumes_method",
]
