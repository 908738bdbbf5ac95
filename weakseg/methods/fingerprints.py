"""Fingerprints of the settings that masks are made with."""

from __future__ import annotations

from weakseg.config import Config, clean_up_settings, engine_settings, fingerprint
from weakseg.methods.training_heats import blends_heat


def heatmap_fingerprint(config: Config) -> str:
    """Fingerprint of the settings of masks of heatmaps; weights count by content elsewhere."""
    classifier = config.classifier.fingerprint_settings()
    heatmaps = {n: heat.fingerprint_settings() for n, heat in config.all_heatmaps.items()}
    heatmaps |= {"engine": engine_settings(config)} if engine_settings(config) else {}
    drawn = any(r.draws for name in heatmaps for r in config.rules_of(name))
    seed = [config.seed] if drawn else []
    return fingerprint(
        classifier, heatmaps, config.masks, config.seeds, seed, *clean_up_settings(config)
    )


def segmenter_fingerprint(config: Config, name: str) -> str:
    """Fingerprint of the settings of a segmenter's masks; its weights see `same_start`."""
    settings = config.segmenters[name].fingerprint_settings()
    settings = {k: v for k, v in settings.items() if k not in ("weights", "seeds")}
    gate = config.segmenter_gate(name)
    gated = [] if gate == "none" else [gate, config.classifier.fingerprint_settings(), config.seeds]
    cleaned = clean_up_settings(config)
    settings |= engine_settings(config)
    blended = blends_heat(config.segmenters[name])
    by = (config.classifier.fingerprint_settings(), config.seeds)
    of_heat = [config.heatmap.fingerprint_settings(), *by] if blended else []
    return fingerprint(settings, config.segmenter_seeds(name), *gated, *of_heat, *cleaned)
