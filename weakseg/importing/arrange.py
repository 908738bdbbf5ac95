"""``weakseg init`` and ``weakseg import``: from files as they lie to a first experiment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from weakseg.config import SPLITS, DataConfig, load_config
from weakseg.data.check import Problem, check_manifest
from weakseg.data.formats.reading import DECODERS, read_frame
from weakseg.data.formats.registry import formats_of
from weakseg.data.labels import resolve_labels
from weakseg.data.manifest import read_configured, table_labels
from weakseg.data.truth import read_true_mask
from weakseg.errors import DataError, UserError, count, is_or_are
from weakseg.importing.answers import Answers, Question
from weakseg.importing.base import Arrangement, Item, PublishedSet
from weakseg.importing.experiment import EXPERIMENT, Kind, experiment_text, suggest_size
from weakseg.importing.layouts.registry import recognise
from weakseg.importing.layouts.table import TABLE, illegible
from weakseg.importing.manifest import LABELS, safe_text, write_items
from weakseg.importing.tree import list_tree, listed
from weakseg.importing.words import SHEET, counts, doubt, told
from weakseg.progress import progress
from weakseg.report.sheet import write_sheet
from weakseg.runs import folder_name, write_text

SOURCE = "SOURCE.txt"
ON_SHEET = 12
MOST_CHECKED = 5000
"""Images up to which every file is looked at right away."""
SIZED = 200
"""Images whose size is looked at, for a suggestion."""
NO_LESION = "none"
"""The answer where no label means that there is no lesion."""


def import_set(
    published: PublishedSet, raw: Path, out: Path, answers: Answers, *, force: bool = False
) -> str:
    """Arrange a published set; its licence and citation are kept beside the output.

    Parameters
    ----------
    published : PublishedSet
    raw : Path
        The folder in which its files lie as published.
    out : Path
    answers : Answers
    force : bool
        Whether to overwrite what is there.

    Returns
    -------
    str
        What was found, written, and what comes next.

    Raises
    ------
    UserError
        Before anything is written: for files that are there already, and for a folder that does
        not hold the set.
    """
    _refuse_existing(out, force)
    arrangement = published.read(list_tree(raw, out), answers)
    source = (
        f"{published.title}\nfrom: {published.address}\nlicence: {published.licence}\n"
        f"cite: {published.citation}\n"
    )
    text = write_arrangement(arrangement, raw, out, answers, force=force)
    write_text(out / SOURCE, source)
    return f"{source}(kept in {out / SOURCE})\n\n{text}"


def init_folder(
    folder: Path,
    out: Path,
    answers: Answers,
    *,
    layout: str | None = None,
    force: bool = False,
) -> str:
    """Recognise how the files of a folder lie, and write a first experiment of them.

    Parameters
    ----------
    folder : Path
    out : Path
    answers : Answers
    layout : str, optional
        A name of `weakseg.importing.layouts.registry.LAYOUTS`; the first that fits by default.
    force : bool
        Whether to overwrite what is there.

    Returns
    -------
    str
        What was found, written, and what comes next.

    Raises
    ------
    UserError
        Before anything is written: for files that are there already, and where no layout fits.
    """
    _refuse_existing(out, force)
    tree = list_tree(folder, out)
    chosen, others = recognise(tree, layout)
    arrangement = chosen.read(tree, answers)
    if arrangement.instead is not None:
        return "\n".join(
            ["found:", *(f"  - {f}" for f in arrangement.found), f"next: {arrangement.instead}"]
        )
    could = f"; could also be read as {listed(x.name for x in others)} (--layout)" if others else ""
    first = f"layout {chosen.name}: {chosen.title}{could}"
    aside = () if chosen is TABLE else illegible(tree)
    arrangement = replace(arrangement, found=(first, *arrangement.found, *aside))
    return write_arrangement(arrangement, folder, out, answers, force=force)


def _refuse_existing(out: Path, force: bool) -> None:
    """Refuse to overwrite what somebody may have worked on."""
    _refuse(out, [n for n in (LABELS, EXPERIMENT, SHEET, SOURCE) if (out / n).exists()], force)


def _refuse_pictures(items: Sequence[Item], out: Path, force: bool) -> None:
    """Refuse to write images over others."""
    written = [p for i in items for p in (i.image, *i.masks) if not p.is_absolute()]
    _refuse(out, [str(p) for p in written if (out / p).exists()], force)


def _refuse(out: Path, there: Sequence[str], force: bool) -> None:
    if there and not force:
        raise UserError(
            f"The folder holds {listed(there, 4)} already.",
            where=str(out),
            fix="name another folder with --out, or overwrite with --force",
        )


def write_arrangement(
    arrangement: Arrangement, source: Path, out: Path, answers: Answers, *, force: bool = False
) -> str:
    """Write the manifest, the experiment and the sheet of pictures; what is to be said of them."""
    if not arrangement.items:
        raise DataError(
            "Nothing was found of which a manifest could be made.",
            where=str(source),
            found="; ".join(arrangement.found) or None,
        )
    settings, kind = dict(arrangement.settings), None
    by_masks = arrangement.label_by_mask is not None
    if not by_masks:  # an answer that is wrong is told before images are written
        kind = _kind(arrangement, settings, answers, source)
        answers.refuse_unasked()
    if arrangement.export is not None:
        _refuse_pictures(arrangement.items, out, force)
        with progress("writing images", 0) as advance:
            arrangement.export(out, advance)
    items = _labelled(arrangement, out, settings)
    if arrangement.label_by_mask is not None:
        items, left_out = _without_few_healthy(items, arrangement.label_by_mask[0])
        arrangement = replace(arrangement, found=(*arrangement.found, *left_out))
    arrangement = replace(arrangement, items=items)
    if by_masks:
        kind = _kind(arrangement, settings, answers, source)
        answers.refuse_unasked()
    masks = any(i.masks for i in arrangement.items)
    remarks = [*arrangement.found, *counts(arrangement.items)]
    doubts = [doubt(q) for q in answers.assumed]
    write_items(out / LABELS, arrangement.items)
    if kind is None:
        data = DataConfig(manifest=str(out / LABELS))
    else:
        text = experiment_text(
            folder_name(out.resolve().name).strip(".-_") or "run",
            kind,
            settings,
            source=str(source),
            remarks=[*remarks, *(f"unsure: {d}" for d in doubts)],
            masks=masks,
            image_size=suggest_size(list(_longest(arrangement.items, out))),
        )
        write_text(out / EXPERIMENT, text)
        data = load_config(out / EXPERIMENT).data
    problems, looked = _look(out, data, len(arrangement.items))
    return told(out, kind, remarks, doubts, problems, looked, masks)


def _labelled(arrangement: Arrangement, out: Path, settings: dict[str, Any]) -> tuple[Item, ...]:
    """The items with their labels, read off the masks where nothing else tells them."""
    if arrangement.label_by_mask is None:
        return arrangement.items
    healthy, lesion = arrangement.label_by_mask
    rule = settings.get("data.mask_rule", "nonzero")
    unknown = [i for i in arrangement.items if not i.label and i.masks]

    def marked(item: Item) -> bool:
        files = tuple(out / m for m in item.masks)
        return bool(read_true_mask(files, rule, out / item.image).any())

    named: dict[int, str] = {}
    with (
        progress("reading labels off the masks", len(unknown)) as advance,
        ThreadPoolExecutor(DECODERS) as pool,
    ):
        for item, ill in zip(unknown, pool.map(marked, unknown), strict=True):
            named[id(item)] = lesion if ill else healthy
            advance()
    return tuple(replace(i, label=i.label or named.get(id(i), "")) for i in arrangement.items)


def _without_few_healthy(
    items: Sequence[Item], healthy: str
) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """Volumes without those of an empty mask where these are too few to be in every split."""
    few = [i for i in items if i.label == healthy]
    if not formats_of(items[0].image).further or not 0 < len(few) < len(SPLITS):
        return tuple(items), ()
    kept = tuple(i for i in items if i.label != healthy)
    if not kept:
        raise DataError(
            "The masks of all volumes are empty.",
            where=str(items[0].masks[0]),
            found=f"{count(len(few), 'volume')} without a lesion",
            expected="volumes with a lesion, which segmenters learn from",
            fix="look whether these are the masks, and whether another value of theirs is meant",
        )
    left = is_or_are(len(few), "volume", "with an empty mask")
    return kept, (f"{left} left out: too few for every split",)


def _kind(
    arrangement: Arrangement, settings: dict[str, Any], answers: Answers, source: Path
) -> Kind | None:
    """What can be trained; labels' roles enter settings.

    None where every image has a lesion and none has a mask.
    """
    items, tell = arrangement.items, arrangement.labels_tell
    if formats_of(items[0].image).further and not any(i.slice for i in items):
        return "volumes"
    labels = sorted({safe_text(i.label) for i in items} - {""})
    if not labels:
        raise DataError(
            "Nothing tells the images' labels: no folder a class, no table, and no masks.",
            where=str(source),
            found="; ".join((f"{count(len(items), 'image')} without a label", *arrangement.found)),
            expected="a folder a class, or masks, or a CSV with the columns image and label",
            fix="name the folder above, if its folders are the classes; or write a manifest by "
            "hand (columns image,label) and check it: weakseg validate",
        )
    separator = settings.get("data.label_separator")
    healthy = settings.get("data.healthy_labels", "auto")
    lesion = settings.get("data.lesion_labels", "auto")
    with contextlib.suppress(DataError):
        roles = resolve_labels(labels, healthy if tell else [], lesion, separator=separator)
        if not separator:
            settings["data.healthy_labels"] = list(roles.healthy)
        return "heatmaps"
    if len(labels) > 1:
        bare = _without_masks(items)
        question = Question(
            "healthy",
            "Which label means that there is no lesion?",
            bare or NO_LESION,
            (*labels, NO_LESION),
            _of_masks(items, bare)
            if bare
            else f"none of {listed(labels)} is a usual name for it"
            if tell
            else f"{listed(labels)} are numbers of classes, of which the set names none",
        )
        answer = answers.ask(question)
        if answer != NO_LESION:
            settings["data.healthy_labels"] = [answer]
            return "heatmaps"
    if any(i.masks for i in items):
        settings["data.healthy_labels"] = []
        return "supervised"
    return None


def _without_masks(items: Sequence[Item]) -> str | None:
    """The only label whose images have no mask, where all images of the others have one.

    Images without a mask by chance are few: it takes as many as there are splits.
    """
    bare = {safe_text(i.label) for i in items if not i.masks}
    masked = {safe_text(i.label) for i in items if i.masks}
    if not masked or len(bare) != 1 or bare & masked:
        return None
    return bare.pop() if sum(not i.masks for i in items) >= len(SPLITS) else None


def _of_masks(items: Sequence[Item], bare: str) -> str:
    """How many images of a label have no mask, and of all others have one."""
    without = sum(not i.masks for i in items)
    return (
        f"none of the {without} images of {bare} has a mask, and all {len(items) - without} of "
        "other labels have"
    )


def _longest(items: Sequence[Item], out: Path) -> Iterator[int]:
    step = max(1, len(items) // SIZED)
    for item in items[::step]:
        with contextlib.suppress(DataError):
            file = out / item.image
            yield max(read_frame(file, formats_of(file)).shape[:2])


def _look(out: Path, data: DataConfig, count: int) -> tuple[list[Problem], bool]:
    """Check the files, unless there are too many, and draw the sheet."""
    manifest = Path(data.manifest)
    problems: list[Problem] = []
    looked = count <= MOST_CHECKED
    if looked:
        with progress("checking images and masks", 0) as advance:
            problems = check_manifest(manifest, data, progress=lambda n, of: advance(n, of=of))
    table = read_configured(manifest, data)
    try:
        labels = table_labels(table, data)
    except DataError:  # the problems tell
        labels = None
    write_sheet(out / SHEET, table, data, problems, labels, shown=ON_SHEET)
    return problems, looked
