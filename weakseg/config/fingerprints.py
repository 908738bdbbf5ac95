"""Short names of settings: what is made of equal ones has equal names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from weakseg.config.experiment import Config
from weakseg.config.filtered import FilteredConfig
from weakseg.config.masks import VolumesConfig

TORCH = "torch"
"""The engine that everything is trained by."""

STARTING_WEIGHTS = "starting_weights"
"""Key of a stage in the record that holds `starting_weights` or `weights_content`."""


def fingerprint(*parts: Any) -> str:
    """A short, stable name of values that can be written as JSON; equal values, equal names."""
    plain = [p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts]
    text = json.dumps(plain, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def filtered_fingerprint(config: Config) -> str:
    """Fingerprint of the settings of heatmap-filtered retraining."""
    return fingerprint(config.heatmap.fingerprint_settings(), config.filtered or FilteredConfig())


def curve_fingerprint(config: Config, name: str) -> str:
    """Fingerprint of the settings of the network of a curve; its weights see `same_start`."""
    left_out = {"weights", "seeds", "threshold", "keep", "validation_cases", "masks", "ignore"}
    left_out |= {"min_peak", "min_area", "ensemble", "gate", "false_alarms", "weighting"}
    left_out |= {"crf", "neighbours", "outline", "false_alarm_confidence"}
    settings = config.segmenters[name].fingerprint_settings()
    kept = {k: v for k, v in settings.items() if k not in left_out}
    return fingerprint(kept, *clean_up_settings(config))


def clean_up_settings(config: Config) -> list[VolumesConfig]:
    """How slices are cleaned up together, for fingerprints; empty where they are not."""
    return [config.volumes] if config.volumes.changes else []


def starting_weights(config: Config, name: str, seed: int | None = None) -> str | None:
    """What a segmenter begins with: none, imagenet, or the hash of a file's content.

    None for a file that is not there. Without a seed that of all kinds of network, joined by +.
    """
    if seed is None:
        each = [weights_content(s.weights) for s in config.kinds_of(name)]
        return None if None in each else "+".join(map(str, each))
    return weights_content(config.segmenter(name, seed).weights)


def weights_content(weights: str) -> str | None:
    """Of weights: none, imagenet, or the hash of a file's content; None where it is not there."""
    if weights in ("none", "imagenet"):
        return weights
    path = Path(weights)
    if not path.is_file():
        return None
    return hashlib.blake2b(path.read_bytes(), digest_size=10).hexdigest()


def same_start(entry: Mapping[str, Any], config: Config, name: str) -> bool:
    """Whether a stage was made with the weights that a segmenter is to begin with now.

    Parameters
    ----------
    entry : mapping
        Of the stage in the record. A file of weights that has gone since counts as the same.
    config : Config
    name : str
        Of the segmenter.
    """
    made, now = entry.get(STARTING_WEIGHTS), starting_weights(config, name)
    return made is None or now is None or made == now


def engine_settings(config: Config) -> dict[str, str]:
    """The engine, for fingerprints; empty for torch, as before there were others."""
    return {} if config.engine == TORCH else {"engine": config.engine}
