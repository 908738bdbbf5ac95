"""What a set holds, counted: for the record of a run and its report."""

from __future__ import annotations

from collections import Counter
from typing import Any

from weakseg.data.case_files import case_frame
from weakseg.data.cases import CaseSet


def distance_unit(cases: CaseSet) -> str:
    """What distances are measured in: mm, or samples where files do not tell their spacing."""
    form = cases.formats
    if not form.further:
        return f"{form.sample}s"
    one_each = {c.image: c for c in cases.of("test")}
    if all(case_frame(c).known_spacing for c in one_each.values()):
        return "mm"
    sample = "pixel" if cases.sliced else form.sample
    return f"mm, or {sample}s where a {form.noun} does not tell its spacing"


def summarise_cases(cases: CaseSet, channels: int) -> dict[str, Any]:
    """Counts of a set, for the record and the report."""
    table = []
    for split in ("train", "val", "test"):
        chosen = cases.of(split)
        table.append(
            {
                "split": split,
                "images": len(chosen),
                **({"volumes": len({c.image for c in chosen})} if cases.sliced else {}),
                "patients": len({c.patient for c in chosen}),
                "masks": sum(c.mask is not None for c in chosen),
                "lesions_with_mask": sum(
                    c.mask is not None and cases.labels.is_lesion(c.label) for c in chosen
                ),
                "labels": dict(sorted(Counter(c.label for c in chosen).items())),
            }
        )
    return {
        "source": cases.source,
        "simulated": cases.simulated,
        "patients_known": cases.patients_known,
        "channels": channels,
        "dims": cases.dims,
        **({"sliced": True} if cases.sliced else {}),
        "distances": distance_unit(cases),
        "healthy_labels": list(cases.labels.healthy),
        "lesion_labels": list(cases.labels.lesion),
        "splits": table,
    }
