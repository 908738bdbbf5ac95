"""How long segmentation networks take on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from weakseg.models.segmenters import build_segmenter
from weakseg.models.whole_image import WholeImage
from weakseg.progress import progress
from weakseg.training.losses import make_loss
from weakseg.training.supervision import supervised_loss

SIDE = 128
"""Of the images that are timed."""


def with_times(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with how long segmenters take, on the CPU with as many threads as torch has.

    Parameters
    ----------
    rows : sequence of dict
        Of `weakseg.models.table.models_table` for one channel and two classes.

    Returns
    -------
    list of dict
        With ``train_seconds`` (forward, loss over all outputs, backward; of two images, halved)
        and ``image_seconds`` (forward); whole images of 128 pixels a side where the network takes
        any size, else its training patch; of volumes, its patch. The faster of two. None of
        classifiers.
    """
    timed = []
    with progress("measuring networks", len(rows)) as advance:
        for row in rows:
            train, image = _times(row) if row["kind"] == "segmenter" else (None, None)
            timed.append(row | {"train_seconds": train, "image_seconds": image})
            advance(1, row["name"])
    return timed


def _times(row: dict[str, Any]) -> tuple[float, float]:
    """Seconds of training and of a prediction, an image or patch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build_segmenter(row["name"], 1, 2, row["dims"])
        patch = row["patch_output"]
        if row["dims"] == 2 and isinstance(net, WholeImage):
            patch = SIDE
        output = net.output_size(net.input_size(patch))
        images = torch.rand(2, 1, *[net.input_size(patch)] * row["dims"])
        truth = torch.rand(2, *[output] * row["dims"]) > 0.9
        compute, taken = make_loss("dice-ce"), []
        for _ in range(2):
            began = time.perf_counter()
            supervised_loss(compute, net.train()(images), truth.long()).backward()
            taught = time.perf_counter()
            with torch.no_grad():
                net.eval()(images[:1])
            taken.append(((taught - began) / 2, time.perf_counter() - taught))
    return min(t for t, _ in taken), min(t for _, t in taken)
