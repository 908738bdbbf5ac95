"""``weakseg predict``: masks of new images by a run's network; no truth is needed."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.data.case_files import (
    case_spacing,
)
from weakseg.data.cases import Case
from weakseg.data.formats.dicom.segmentation import (
    refuse_without_highdicom,
)
from weakseg.data.formats.registry import VOLUMES, formats_of_dims
from weakseg.data.noise import PROCEDURE
from weakseg.data.series import with_company
from weakseg.errors import DataError, UserError
from weakseg.exporting.exported import is_exported, load_exported
from weakseg.layout import LESIONS
from weakseg.memory import give_large_back
from weakseg.methods.base import Method, Prediction
from weakseg.methods.clean_up import clean_up
from weakseg.methods.find import load_method
from weakseg.methods.lesions import COLUMNS
from weakseg.predicting.beside import Begin, Later, Predict, Row, begun, writing_beside
from weakseg.predicting.inputs import (
    PREDICTIONS,
    cause,
    collect_inputs,
    readable,
    refuse_others_than_dicom,
    shown_inputs,
    together,
)
from weakseg.predicting.shards import (
    Told,
    asked_for,
    forget_parts,
    held,
    read_parts,
    refuse_running,
    write_part,
)
from weakseg.predicting.slices import (
    SLICES,
    is_sliced,
    predict_volume,
    slices_named,
    slices_of,
    smoothed_alike,
)
from weakseg.predicting.unlike import Unlike
from weakseg.predicting.writer import Tables, Writer, targets
from weakseg.progress import progress, say
from weakseg.runs import make_folder, write_text
from weakseg.shards import Shard, refuse_auto
from weakseg.spreadsheets import csv_text

TABLES = (PREDICTIONS, SLICES, LESIONS)


def predict(
    run: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    method: str | Method | None = None,
    seed: int | None = None,
    device: str = "auto",
    engine: str | None = None,
    heatmaps: bool = False,
    overlays: bool = False,
    dicom_seg: bool = False,
    skip_unreadable: bool = False,
    denoise: bool = False,
    shard: Shard | None = None,
) -> Path:
    """Masks of images, as PNG of each image's own size, or of volumes, as NIfTI on their grid.

    Parameters
    ----------
    run : Path
        Or a folder that `weakseg export` has written.
    inputs : sequence of Path
        Images or volumes, folders of them, or manifests.
    out : Path
        Gets ``<stem>.png`` (0 and 255) or ``<stem>.nii.gz`` (0 and 1), and ``predictions.csv``,
        whose column ``unlike_training`` says in what an image differs from the run's; where the
        run's images are slices of volumes, ``slices.csv`` as well; and ``lesions.csv``, a row a
        connected lesion.
    method, seed, device, engine
        See `weakseg.methods.find.load_method`; a method that is loaded is taken as it is.
    heatmaps, overlays : bool
        Also write ``heatmaps/<stem>.npz`` (raw heatmaps, or probabilities of a supervised
        network; volumes as ``.nii.gz``), and pictures ``overlays/<stem>.png`` (of volumes the
        slice with most of the mask).
    dicom_seg : bool
        Also write ``<stem>.seg.dcm``, a DICOM segmentation that a viewer lays over the series;
        every input has to be DICOM then.
    skip_unreadable : bool
        Leave out images that cannot be read, instead of refusing to begin.
    denoise : bool
        Smooth images that are noisier than the run's training images as they are read, see
        `weakseg.data.noise.quieter`, and whole volumes, see `weakseg.data.noise.quieter_volume`;
        of volumes that are seen slice by slice all slices with enough tissue, or none. They are
        still told of in ``unlike_training``.
    shard : Shard, optional
        Take a part of the inputs only; without, what shards of the same prediction have said is
        joined, and not predicted again.

    Returns
    -------
    Path
        The table ``predictions.csv``; of a shard the file that tells of it.
    """
    if dicom_seg:  # before anything is loaded or read
        refuse_without_highdicom()
    for given in inputs:
        if not given.exists():  # `collect_inputs` would say so, once a network is loaded
            raise DataError("The input does not exist.", where=str(given), fix="check the path")
    chosen, sliced, engine = _method(run, method, seed, device, engine)
    formats = VOLUMES if sliced else formats_of_dims(chosen.dims)
    if formats is VOLUMES:
        give_large_back()
    unlike = Unlike(run, chosen.config.data, formats.noun, smooths=denoise)
    limits = unlike.noise_limits if denoise else ()
    cases = [replace(c, smooth_above=limits) for c in collect_inputs(inputs, out, formats)]
    if sliced:  # each stands for its volume until its slices are asked for
        cases = [replace(c, slice=0, volume=c.id) for c in cases]
    names, named = [c.id for c in cases], slices_named(inputs) if sliced else {}
    options: list[Any] = [engine, heatmaps, overlays, dicom_seg, skip_unreadable]
    if denoise:
        options += ["denoise", PROCEDURE, *limits]
    key = asked_for(run, chosen, cases, named, options)
    if shard is not None and not is_exported(run):
        refuse_auto(engine or "")
    told: dict[str, Told] = {}
    if shard is None:
        refuse_running(out)
        told = read_parts(out, key, names, formats.noun)
    here = [c for c in (cases if shard is None else shard.own(cases)) if c.id not in told]
    beside = chosen.looks_beside and not sliced  # else a case has its neighbours in it
    cases, own = with_company(cases, here) if beside else here, {c.id for c in here}
    if cases:
        others = shard is not None or bool(told)
        cases = readable(cases, skip_unreadable, formats, chosen.config.data, others=others)
    if dicom_seg:
        refuse_others_than_dicom(cases)
    shown = shown_inputs([c.image for c in cases])
    read = [f for c in cases for f in (c.image, *c.more, c.roi) if f is not None]
    sources = {f.resolve() for f in [*read, *inputs]}
    for target in (*(out / name for name in TABLES), *targets(out, cases)):
        if os.path.lexists(target) and target.resolve() in sources:
            raise UserError(
                "The output would overwrite its input.",
                where=str(target),
                fix="name another folder with --out",
            )
    make_folder(out)
    seeds = ", ".join(map(str, chosen.seeds))
    which = f"mean of the seeds {seeds}" if len(chosen.seeds) > 1 else f"seed {seeds}"
    say(f"method {chosen.name} ({chosen.choice}), {which}")
    writer = Writer(out, heatmaps, overlays, chosen.name if dicom_seg else None, chosen.config.data)
    of_slices: Tables = {}
    if limits:
        above = " or ".join("unknown" if v is None else f"{v:.1%}" for v in limits)
        say(f"{formats.noun}s with noise above {above} of their tissue's intensity are smoothed")
    if shard is None:  # a table beside masks is of these: it is written last
        for name in TABLES:
            (out / name).unlink(missing_ok=True)
    ids = {str(c.image): c.id for c in cases}
    for t in told.values():
        unlike.count(t.unlike)
    with (
        held(out, shard),
        progress("predicting", sum(c.id in own for c in cases)) as advance,
        writing_beside() as begin,
    ):
        one: Predict = partial(_predicted, chosen, writer, unlike, begin, own)
        if sliced:
            one = partial(_predicted_by_slices, chosen, writer, unlike, named, of_slices)

        def take(some: Sequence[Case], rows: Callable[[], list[Row]]) -> None:
            for row in _rows(rows, one, some, skip_unreadable, writer.take_back, beside):
                if not row:  # of a neighbour
                    continue
                image = row["file"]
                file = {"file": shown[Path(image)]}
                lesions = [r | file for r in writer.lesions.pop(image, [])]
                slices = [r | file for r in of_slices.pop(image, [])]
                hashes = {} if shard is None else writer.hashes(image)
                kinds = unlike.kinds.pop(image, [])
                unlike.count(kinds)
                told[ids[image]] = Told(row | file, lesions, slices, kinds, hashes)
            advance(sum(c.id in own for c in some))

        waiting = deque[tuple[Sequence[Case], Callable[[], list[Row]]]]()
        for some in together(cases, 1 if sliced else chosen.at_once, whole_series=beside):
            waiting.append((some, begun(one, some)))
            if len(waiting) > 1:
                take(*waiting.popleft())
        while waiting:
            take(*waiting.popleft())
        if shard is not None:
            unlike.say()
            return write_part(out, shard, key, told)
    if not told:
        raise DataError(
            f"None of the {len(names)} {formats.noun}s can be read."
            if len(names) > 1
            else f"The {formats.noun} cannot be read.",
            where=str(out),
            found="what is told above of each",
            fix="mend them, and repeat the command",
        )
    unlike.say()
    of_all = [told[name] for name in names if name in told]
    lesions = [row for t in of_all for row in t.lesions]
    write_text(out / LESIONS, csv_text(pd.DataFrame(lesions, columns=list(COLUMNS))))
    if sliced:
        write_text(out / SLICES, csv_text(pd.DataFrame([row for t in of_all for row in t.slices])))
    write_text(out / PREDICTIONS, csv_text(pd.DataFrame([t.row for t in of_all])))
    forget_parts(out, key)
    return out / PREDICTIONS


def _method(
    run: Path, method: str | Method | None, seed: int | None, device: str, engine: str | None
) -> tuple[Method, bool, str | None]:
    """The method of a run, or the one that was exported; whether it takes slices; its engine."""
    if isinstance(method, Method):
        return method, is_sliced(run), engine
    if is_exported(run):
        return load_exported(run, method, seed=seed, engine=engine)
    chosen = load_method(run, method, seed=seed, device=device, engine=engine)
    return chosen, is_sliced(run), engine


def _rows(
    rows: Callable[[], list[Row]],
    one: Predict,
    cases: Sequence[Case],
    skip: bool,
    take_back: Callable[[Case], None],
    company: bool = False,
) -> list[Row]:
    """The rows of some cases that are `begun`; where that is asked for, less what breaks half-way.

    With ``company`` what is said of a case depends on those that it comes with.
    """
    try:
        return rows()
    except DataError as e:
        if not skip:
            raise
        if len(cases) == 1:
            take_back(cases[0])
            say(f"left out {cases[0].shown}: {cause(e)}")
            return []
        alone = [_rows(begun(one, [case]), one, [case], skip, take_back) for case in cases]
        whole = [case for case, made in zip(cases, alone, strict=True) if made]
        if company and 1 < len(whole) < len(cases):  # the others are still neighbours
            return _rows(begun(one, whole), one, whole, skip, take_back, company=True)
        return [row for made in alone for row in made]


def _predicted(
    method: Method,
    writer: Writer,
    unlike: Unlike,
    begin: Begin,
    own: Collection[str],
    cases: Sequence[Case],
) -> Iterator[Later]:
    """The rows of some cases, whose masks are written; empty ones of neighbours."""
    for case, said in zip(cases, method.predict_each(cases), strict=True):
        if case.id in own:
            yield begin(said.mask.size, partial(_finished, method, writer, unlike, case, said))
        else:
            yield dict


def _finished(method: Method, writer: Writer, unlike: Unlike, case: Case, said: Prediction) -> Row:
    """The row of a case, once its mask is cleaned up and written."""
    how = method.config.volumes
    prediction = clean_up([case], [said], how)[0] if how.changes else said
    return unlike.tell(case, _row(case, writer.write(case, prediction), prediction))


def _row(case: Case, mask: Path, prediction: Prediction) -> Row:
    """The row of ``predictions.csv``."""
    pixels, p = int(prediction.mask.sum()), prediction.probability
    row: dict[str, Any] = {"file": str(case.image), "mask": mask.name}
    said = {} if p is None else {"lesion_probability": p}
    row |= _volume_of(case, pixels) | {**prediction.notes} | said
    return row | {"lesion_pixels": pixels}


def _predicted_by_slices(
    method: Method,
    writer: Writer,
    unlike: Unlike,
    named: dict[Path, list[int]],
    slices: Tables,
    cases: Sequence[Case],
) -> Iterator[Later]:
    """The rows of some volumes, whose masks are written; those of their slices are added."""
    for case in cases:
        volume = replace(case, slice=None, volume="")
        maps = writer.heatmaps or writer.overlays
        some = smoothed_alike(slices_of(volume, named), method.config.data)
        prediction, rows = predict_volume(method, some, maps=maps)
        slices[str(volume.image)] = rows
        of_slice = {row["slice"]: row.get("lesion_probability") for row in rows}
        mask = writer.write(volume, prediction, of_slice.get)
        row = unlike.tell(case, _row(volume, mask, prediction))
        yield partial(dict, row)


def _volume_of(case: Case, voxels: int) -> dict[str, Any]:
    """The lesion's volume in ml where samples may have a size."""
    if not case.formats.further:
        return {}
    spacing = case_spacing(case)
    return {"lesion_ml": spacing and round(math.prod(spacing) / 1000 * voxels, 3)}
