"""The mask-equivalence curve: of whose masks, by which seed and how each point is trained."""

from __future__ import annotations

import numpy as np

from weakseg.config import AUTO, OneNetwork, clean_up_settings, fingerprint
from weakseg.methods.prepared import Prepared
from weakseg.methods.segmenters import segmenter_key, segmenter_settings, training_cases
from weakseg.training.segment import SegmenterTask


def lesion_patients(prepared: Prepared) -> list[str]:
    """Training patients with at least one lesion mask, sorted."""
    labels = prepared.cases.labels
    cases = [prepared.cases.cases[i] for i in training_cases(prepared)]
    return sorted({c.patient for c in cases if c.mask and labels.is_lesion(c.label)})


def point_cases(prepared: Prepared, everyone: list[str], draw: int, k: int) -> list[int]:
    """The training cases of a point: masks of so many patients of a draw, and all healthy images.

    Those of a smaller number are among those of a larger.
    """
    order = np.random.default_rng([prepared.config.seed, draw]).permutation(len(everyone))
    return training_cases(prepared, [everyone[i] for i in order[:k]])


def point_settings(prepared: Prepared, name: str) -> OneNetwork:
    """How the network of a point is trained: as long as with all masks, looking at none else."""
    settings = segmenter_settings(prepared, name)
    if settings.steps == AUTO:
        whole = SegmenterTask.steps_of(settings, len(training_cases(prepared)))
        settings = settings.model_copy(update={"steps": whole})
    # What a validation mask could tell is not asked.
    quiet = {"keep": "last", "validation_cases": 0, "recalibrate": False, "crf": 0}
    quiet |= {"outline": "threshold"}
    return settings.model_copy(update=quiet)


def seeds_of_draws(seeds: list[int], draws: int) -> list[int]:
    """A seed a draw: those of the segmenter first, so that its networks need no second training."""
    more = (s for s in range(max(seeds) + 1, max(seeds) + 1 + draws))
    return [*seeds, *more][:draws]


def point_key(prepared: Prepared, name: str, draw: int, k: int, seed: int) -> str:
    """Fingerprint of all that a point of the curve depends on."""
    settings, looked = segmenter_settings(prepared, name), {"tile", "overlap", "flips"}
    # Settings that came later, where they do something.
    looked |= {"scales"} if settings.scales != [1.0] else set()
    looked |= {k for k in ("prune", "passes") if getattr(settings, k) is not None}
    after = settings.model_dump(mode="json", include={*looked, "recalibrate"})
    made_of = (segmenter_key(prepared, name, seed), after, prepared.config.seed)
    cleaned = clean_up_settings(prepared.config)
    return fingerprint("equivalence-point", 1, *made_of, draw, k, *cleaned)


def is_plain(prepared: Prepared, name: str) -> bool:
    """Whether the run's own rows are of one network, made as those of the curve.

    Without validation masks, an average over seeds, screening or a gate.
    """
    s = prepared.config.segmenters[name]
    screened = (
        s.min_peak > 0
        or s.min_area != 0
        or s.gate != "none"
        or s.false_alarms is not None
        or s.crf
        or s.outline != "threshold"
    )
    alone = len(prepared.config.mask_seeds(name)) == len(prepared.config.segmenter_seeds(name))
    return s.keep == "last" and s.threshold == 0.5 and not s.recalibrate and alone and not screened
