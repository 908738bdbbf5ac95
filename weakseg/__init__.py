"""weakseg: masks from a classifier's heatmaps, scored beside supervised segmenters."""

__version__ = "0.1.0"
