"""Every section, in the order of the page. A further one is a file and a line here."""

from __future__ import annotations

from weakseg.report.sections import (
    ablation,
    answer,
    attribution,
    cases,
    classifier,
    counting,
    equivalence,
    filtered,
    gallery,
    honest,
    lesions,
    methods,
    pairs,
    record,
    segmenters,
    sweep,
    threshold_and_size,
    volumes,
)
from weakseg.report.sections.base import Section

SECTIONS: tuple[Section, ...] = (
    answer.SECTION,
    methods.SECTION,
    volumes.SECTION,
    lesions.SECTION,
    ablation.SECTION,
    sweep.SECTION,
    equivalence.SECTION,
    segmenters.SECTION,
    attribution.SECTION,
    pairs.SECTION,
    threshold_and_size.SECTION,
    counting.SECTION,
    classifier.SECTION,
    filtered.SECTION,
    gallery.SECTION,
    cases.SECTION,
    honest.SECTION,
    record.SECTION,
)
