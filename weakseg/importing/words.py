"""What `weakseg init` and `weakseg import` say."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from weakseg.data.check import Problem, format_problems
from weakseg.data.formats.registry import formats_of
from weakseg.errors import count
from weakseg.importing.answers import Question
from weakseg.importing.base import Item
from weakseg.importing.experiment import EXPERIMENT, Kind
from weakseg.importing.manifest import LABELS
from weakseg.importing.tree import listed

SHEET = "pictures.png"
"""The sheet's name in the output folder."""
SAID = 3
"""Problems of a kind that are told."""
ALL_LESIONS = (
    "every image has a lesion, and what a lesion is, a classifier learns from images without one; "
    "add rows of such images to {labels}, or say which label means that there is none: "
    "--answer healthy=LABEL; masks of these images are another run's to make: weakseg predict RUN "
    "{labels} --out masks/"
)
SUPERVISED = (
    "every image has a lesion, so that no classifier can learn what one is, and there are no "
    "heatmaps: {experiment} trains a network on the true masks. For masks without masks add rows "
    "of images without a lesion to {labels}, say which label means that there is none (--answer "
    "healthy=LABEL), or let another run segment these images: weakseg predict RUN {labels} --out "
    "masks/"
)


def counts(items: Sequence[Item]) -> Iterator[str]:
    """What there is, counted."""
    sliced = any(i.slice for i in items)
    noun = "slices" if sliced else f"{formats_of(items[0].image).noun}s"
    labels = Counter(i.label for i in items)
    yield f"{len(items)} {noun}: " + ", ".join(f"{n} {name}" for name, n in labels.most_common(8))
    masks = Counter(len(i.masks) for i in items)
    with_mask = len(items) - masks[0]
    several = sum(n for k, n in masks.items() if k > 1)
    if with_mask:
        yield f"{with_mask} with a mask" + (
            f"; {several} of them with several, which are joined" if several else ""
        )
    else:
        yield "no masks: heatmaps and masks can be made, but not scored"
    patients = {i.patient for i in items if i.patient}
    if patients:
        yield count(len(patients), "patient")
    elif noun == "images":
        yield (
            "no patients are known: images that look nearly alike will be kept in one split, and "
            "intervals are too narrow where a patient has several others"
        )
    else:
        yield "no patients are known: each volume counts as one"
    splits = Counter(i.split for i in items if i.split)
    if splits:
        yield "splits: " + ", ".join(f"{splits[s]} {s}" for s in ("train", "val", "test"))


def doubt(question: Question) -> str:
    """A question that nobody answered, with what was taken and how to answer it."""
    why = f" ({question.why})" if question.why else ""
    choices = f", or {listed(question.choices, 8)}" if question.choices else ""
    return (
        f"{question.text} Taken: {question.default}{why}. Another answer: "
        f"--answer {question.key}=VALUE{choices}"
    )


def told(
    out: Path,
    kind: Kind | None,
    remarks: Sequence[str],
    doubts: Sequence[str],
    problems: Sequence[Problem],
    looked: bool,
    masks: bool,
) -> str:
    """What was found, what is unsure, what was written, and the next command."""
    labels, experiment = (shlex.quote(str(out / name)) for name in (LABELS, EXPERIMENT))
    look = "whether the outlines lie on the lesions" if masks else "whether the labels are right"
    lines = ["found:", *(f"  - {r}" for r in remarks)]
    lines += ["unsure:", *(f"  - {d}" for d in doubts)] if doubts else []
    lines += [
        "written:",
        f"  {out / LABELS}",
        *([f"  {out / EXPERIMENT}"] if kind else ()),
        f"  {out / SHEET}: look {look}",
    ]
    errors = [p for p in problems if p.severity == "error"]
    if problems:
        lines += ["`weakseg validate` says:", format_problems(problems, SAID)]
    if not looked:
        lines += [
            f"not every file was looked into; this does: weakseg validate {labels}",
        ]
    if kind is None:
        return "\n".join([*lines, f"next: {ALL_LESIONS.format(labels=labels)}"])
    if kind == "supervised":
        lines += [SUPERVISED.format(labels=labels, experiment=experiment)]
    command = f"weakseg compare {experiment}"
    lines += [f"next, once the errors are mended: {command}" if errors else f"next: {command}"]
    return "\n".join(lines)
