"""Masks that know nothing of lesions, without a gate: what any method must beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weakseg.data.case_files import case_image, case_spacing
from weakseg.data.cases import Case, by_file
from weakseg.masks.floors import FLOORS
from weakseg.masks.region import plane_by_plane
from weakseg.methods.cases import case_entry, read_truth, scored_cases
from weakseg.methods.prepared import Prepared
from weakseg.methods.rows import Rows, score_volume, whole_case
from weakseg.scores import score_case


def floor_files(prepared: Prepared) -> list[list[Case]]:
    """The test images that can be scored, file by file."""
    scored = scored_cases(prepared)
    return [list(of) for of in by_file(c for c in prepared.cases.of("test") if c.id in scored)]


def floor_rows(
    prepared: Prepared, files: Sequence[Sequence[Case]], advance: Callable[..., None]
) -> Rows:
    """The scores of trivial masks of some test images.

    Parameters
    ----------
    prepared : Prepared
    files : sequence of sequence of Case
        See `floor_files`.
    advance : callable
        Told how many cases are done.
    """
    data, labels = prepared.config.data, prepared.cases.labels
    whole = {of[0].file: len(of) for of in by_file(prepared.cases.of("test"))}
    rows, flags = Rows(), {"flat": False, "gated": False}
    for cases in files:
        images = [case_image(c, data) for c in cases]
        truths = [
            read_truth(c, image.shape[: c.dims], not labels.is_lesion(c.label), data)
            for c, image in zip(cases, images, strict=True)
        ]
        for name, floor in FLOORS.items():
            masks = [
                plane_by_plane(floor, image, c.dims) for c, image in zip(cases, images, strict=True)
            ]
            for case, mask, truth in zip(cases, masks, truths, strict=True):
                scores = score_case(mask, truth, spacing=case_spacing(case))
                rows.cases.append(case_entry(case, name, "floor", None, 0) | scores | flags)
            if prepared.cases.sliced and len(cases) == whole[cases[0].file]:
                entry = case_entry(whole_case(cases, labels), name, "floor", None, 0)
                rows.volumes.append(entry | score_volume(cases, masks, truths) | flags)
        advance(len(cases))
    return rows
