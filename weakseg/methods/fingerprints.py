"""Fingerprints of the settings that masks are made with."""

from __future__ import annotations

from typing import Any

from weakseg.config import Config, fingerprint


def heatmap_fingerprint(config: Config) -> str:
    """Fingerprint of the settings of masks of heatmaps; weights count by content elsewhere."""
    classifier = config.classifier.settings()
    heatmaps = {name: heat.asked() for name, heat in config.all_heatmaps.items()}
    further: list[Any] = []
    if any(r.draws for name in heatmaps for r in config.rules_of(name)):
        further.append({"seed": config.seed})
    together = any(h.ensemble for h in config.all_heatmaps.values())
    if together and config.masks.gate == "validation":
        further.append("gate of the mean")  # once it was the first classifier's
    return fingerprint(classifier, heatmaps, config.masks, config.seeds, *further)


def segmenter_fingerprint(config: Config, name: str) -> str:
    """Fingerprint of the settings of a segmenter's masks; its weights see `same_start`."""
    settings = config.segmenters[name].settings()
    settings = {k: v for k, v in settings.items() if k not in ("weights", "seeds")}
    gate = config.segmenter_gate(name)
    asked = [] if gate == "none" else [gate, config.classifier.settings(), config.seeds]
    return fingerprint(settings, config.segmenter_seeds(name), *asked)
