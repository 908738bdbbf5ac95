"""What a classifier that sees slices says of each slice of every volume, and how they count."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from weakseg.data.arrays import ImageBatches
from weakseg.data.volume_grid import VolumeBox
from weakseg.models.volume_classifiers import SliceClassifier, present
from weakseg.progress import progress


def instances_table(
    model: SliceClassifier, images: ImageBatches, indices: Sequence[int]
) -> pd.DataFrame:
    """One row a slice that the network sees.

    Parameters
    ----------
    model : SliceClassifier
    images : ImageBatches
        Of whole volumes.
    indices : sequence of int
        Into ``images``.

    Returns
    -------
    DataFrame
        ``case``; ``slice``, along the third axis of the file (the middle one, where several are
        seen as one); ``lesion_probability`` of that slice by itself; ``weight``, its part in the
        volume's score of a lesion: attention, log-sum-exp's share, or 1 for the highest slice.
    """
    rows = []
    with progress("slices of volumes", len(indices)) as advance:
        for i in indices:
            volume = images.images([i])
            (box,) = images.boxes([i])
            assert isinstance(box, VolumeBox)
            there = present(volume)[0]
            slices = volume[0].movedim(1, 0)[there].to(model.mean.device)
            with torch.no_grad():
                said = model.slices(slices)
            sick = said.probabilities[:, model.spec.healthy :].sum(1).clamp(max=1).cpu()
            rows += [
                {
                    "case": images.cases[i].id,
                    "slice": slice_of_file(box, k),
                    "lesion_probability": round(float(p), 6),
                    "weight": round(float(w), 6),
                }
                for k, p, w in zip(
                    there.nonzero()[:, 0].tolist(), sick, said.weights.cpu(), strict=True
                )
            ]
            advance()
    return pd.DataFrame(rows, columns=["case", "slice", "lesion_probability", "weight"])


def slice_of_file(box: VolumeBox, seen: int) -> int:
    """Which slice of a file lies in the middle of one that the network sees."""
    count = box.original[2]
    return min(count - 1, int((seen + 0.5) * count / box.shown))
