"""What was found, as an experiment file that says why each of its settings is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from weakseg.config.yaml_text import flow
from weakseg.importing.manifest import LABELS

EXPERIMENT = "experiment.yaml"
Kind = Literal["heatmaps", "volumes", "supervised"]
"""What can be trained: a classifier and all that follows; supervised networks in 3D; or, where
every image has a lesion, supervised networks alone."""

SIZES = (64, 128, 192, 256)
"""Longest sides that are suggested, by the images' own."""

_WHY = {
    "data.mask_rule": "which mask values are lesion; see `weakseg config keys data.mask_rule`",
    "data.healthy_labels": "labels of images without a lesion",
    "data.lesion_labels": "labels of images with a lesion",
    "data.drop_labels": "rows with these labels are left out",
    "data.label_separator": "what stands between several findings of an image",
}
_CLASSIFIER = """
classifier:
  arch: squeezenet1_1
  weights: imagenet        # fetched on first use; or none, or the path of a .safetensors file
  epochs: 12
  seeds: [0, 1, 2]         # three networks: how far the figures move with the seed

heatmap:
  method: gradcam
  target: lesion           # all lesion labels together; or one label

masks:
  gate: 0.5                # images below this lesion probability get an empty mask
"""
_YARDSTICK = """
segmenters:                # a yardstick: a network that is trained on the true masks
  unet:
    arch: encoder-unet:squeezenet1_1
    weights: classifier    # as classifier.weights says
    epochs: 20
    seeds: [0]

equivalence:               # how many masks is a heatmap worth? Left out where too few are there
  segmenter: unet
  points: 5
  draws: 3
"""
_VOLUMES = """
segmenters:                # trained on the true masks, in 3D; for heatmaps label slices or volumes
  deepmedic:
    arch: deepmedic
    patch: 9
    epochs: 5              # its authors: 35 epochs of 2000 steps on a GPU; here for two cores
    steps: 30
    validation_cases: 0    # a look at whole volumes after every epoch takes longer than the epoch
    seeds: [0]
"""

_SUPERVISED = """
segmenters:                # every image has a lesion: networks that are trained on the true masks
  unet:
    arch: unet
    epochs: 20
    flips: x
    seeds: [0]
"""


def experiment_text(
    name: str,
    kind: Kind,
    settings: Mapping[str, Any],
    *,
    source: str,
    remarks: Sequence[str],
    masks: bool,
    image_size: int,
) -> str:
    """The text of an experiment file.

    Parameters
    ----------
    name : str
        The run's.
    kind : {"heatmaps", "volumes", "supervised"}
    settings : mapping of str to Any
        Keys below ``data``, with dots.
    source : str
        The folder that was looked into.
    remarks : sequence of str
        What was found, and what was assumed; comments at its head.
    masks : bool
        Whether there are masks to train a yardstick on.
    image_size : int
        See `suggest_size`.
    """
    lines = [f"# Written by weakseg for {_plain(source)}", "#"]
    lines += [f"#   {_plain(r)}" for r in remarks]
    lines += [
        "#",
        "# Any key can be changed here, or with --set KEY=VALUE; all: weakseg config keys",
    ]
    lines += ["", f"name: {flow(name)}", "seed: 0", "", "data:"]
    lines += [f"  manifest: {LABELS:<14} # beside this file"]
    if kind != "volumes":
        lines.append(
            f"  image_size: {image_size:<12} # longest side in pixels that the networks see"
        )
    for key, value in settings.items():
        section, _, last = key.partition(".")
        if section != "data":
            continue
        lines += [f"  # {_WHY[key]}"] if key in _WHY else []
        lines.append(f"  {last}: {flow(value)}")
    tail = {
        "heatmaps": _CLASSIFIER + (_YARDSTICK if masks else ""),
        "volumes": _VOLUMES,
        "supervised": _SUPERVISED,
    }[kind]
    return "\n".join(lines) + "\n" + tail


def suggest_size(longest: Sequence[int]) -> int:
    """A size for the networks: the least of `SIZES` that holds the middle image whole."""
    middle = sorted(longest)[len(longest) // 2] if longest else SIZES[-1]
    return next((s for s in SIZES if middle <= s), SIZES[-1])


def _plain(text: str | Path) -> str:
    """Text on one line of a comment."""
    return "".join(c if c.isprintable() else "?" for c in str(text))
