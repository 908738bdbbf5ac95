"""Heatmaps of classifiers: raw, for one explicit target, at the image's own resolution.

- `cam`: class activation maps of a batch, any torch network
- `compute`: heatmaps of images by a weakseg classifier
- `store`: a heatmap on disk
"""

from weakseg.heatmaps.cam import METHODS, raw_cam, target_score
from weakseg.heatmaps.compute import heatmap, heatmaps_of
from weakseg.heatmaps.explaining import target_classes
from weakseg.heatmaps.store import Heatmap, load_heatmap, save_heatmap

__all__ = [
    "METHODS",
    "Heatmap",
    "heatmap",
    "heatmaps_of",
    "load_heatmap",
    "raw_cam",
    "save_heatmap",
    "target_classes",
    "target_score",
]
