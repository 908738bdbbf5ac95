"""The experiment file: every key, its default, its range and what it means.

A file is YAML. Unknown keys are refused with the nearest known one; all problems are reported
at once. ``--set a.b=value`` changes one key, with the value read as YAML.

- `base`: what the sections share
- `data`, `classifier`, `segmenter`, `masks`, `consensus`, `filtered`: a section each
- `experiment`: the whole
- `fingerprints`: short names of settings
- `load`: from a file and back
"""

from weakseg.config.classifier import AugmentConfig, ClassifierConfig
from weakseg.config.consensus import ConsensusConfig
from weakseg.config.data import DataConfig, LeftOut, PhantomConfig, SplitConfig
from weakseg.config.experiment import Config
from weakseg.config.filtered import Condition, FilteredConfig, parse_condition
from weakseg.config.fingerprints import (
    STARTING_WEIGHTS,
    clean_up_settings,
    curve_fingerprint,
    engine_settings,
    filtered_fingerprint,
    fingerprint,
    same_start,
    starting_weights,
    weights_content,
)
from weakseg.config.load import (
    apply_change,
    config_of_run,
    dump_config,
    load_config,
    parse_config,
)
from weakseg.config.masks import (
    ClimbConfig,
    HeatmapConfig,
    MasksConfig,
    NamedHeatmap,
    RelevanceConfig,
    VolumesConfig,
)
from weakseg.config.segmenter import (
    MANIFEST,
    EquivalenceConfig,
    OneNetwork,
    PatchAugmentConfig,
    SegmenterConfig,
)
from weakseg.settings import AUTO, PHANTOM, SPLITS

__all__ = [
    "AUTO",
    "MANIFEST",
    "PHANTOM",
    "SPLITS",
    "STARTING_WEIGHTS",
    "AugmentConfig",
    "ClassifierConfig",
    "ClimbConfig",
    "Condition",
    "Config",
    "ConsensusConfig",
    "DataConfig",
    "EquivalenceConfig",
    "FilteredConfig",
    "HeatmapConfig",
    "LeftOut",
    "MasksConfig",
    "NamedHeatmap",
    "OneNetwork",
    "PatchAugmentConfig",
    "PhantomConfig",
    "RelevanceConfig",
    "SegmenterConfig",
    "SplitConfig",
    "VolumesConfig",
    "apply_change",
    "clean_up_settings",
    "config_of_run",
    "curve_fingerprint",
    "dump_config",
    "engine_settings",
    "filtered_fingerprint",
    "fingerprint",
    "load_config",
    "parse_condition",
    "parse_config",
    "same_start",
    "starting_weights",
    "weights_content",
]
