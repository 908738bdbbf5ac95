from .api.explain import explain
from .api.opened import open_run
from .api.weak_segmenter import WeakSegmenter
from .config import Config, load_config, parse_config
from .data.check import check_manifest
from .data.formats.writing import write_mask
from .data.images import read_image, read_mask
from .heatmaps import raw_cam
from .masks import apply_threshold, normalise, otsu_threshold
from .methods.find import load_method
from .scores import dice, hd95, score_case, summarise
from .stages.compare import compare
from .stages.prepare import prepared_run
from .stages.report import make_report

__all__ = [
    "Config",
    "WeakSegmenter",
    "apply_threshold",
    "check_manifest",
    "compare",
    "dice",
    "explain",
    "hd95",
    "load_config",
    "load_method",
    "make_report",
    "normalise",
    "open_run",
    "otsu_threshold",
    "parse_config",
    "prepared_run",
    "raw_cam",
    "read_image",
    "read_mask",
    "score_case",
    "summarise",
    "write_mask",
]

__version__: str
