"""``weakseg predict``: masks of new images by a run's network; no truth is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.data.cases import Case
from weakseg.data.images import IMAGE_SUFFIXES, image_size, read_image, write_mask
from weakseg.data.manifest import safe_ids
from weakseg.data.table import read_table
from weakseg.data.volumes import (
    VOLUME_SUFFIXES,
    is_volume,
    read_case,
    read_grid,
    write_volume,
    write_volume_mask,
)
from weakseg.errors import DataError, UserError
from weakseg.heatmaps.store import save_heatmap
from weakseg.progress import progress, say
from weakseg.runs import inside, make_folder, write_text
from weakseg.stages.heatmap_predictor import Predictor
from weakseg.stages.predictors import load_predictor
from weakseg.stages.segmenter_predictor import SegmenterPredictor

__all__ = ["load_predictor", "predict"]

PREDICTIONS = "predictions.csv"


def collect_inputs(inputs: Sequence[Path], out: Path, dims: int = 2) -> list[Case]:
    """The images or volumes that the arguments stand for: files, folders, or manifests.

    Of a manifest only the column ``image`` is needed; of volumes ``image2``, … and ``roi`` count
    as well.

    Raises
    ------
    DataError
        For a path that is not there, or a folder without images.
    """
    found: list[tuple[Path, tuple[Path, ...], Path | None]] = []
    for path in inputs:
        if path.is_dir():
            found += [(p, (), None) for p in _in_folder(path, out, dims)]
        elif not path.exists():
            raise DataError("The input does not exist.", where=str(path), fix="check the path")
        elif path.suffix.lower() == ".csv":
            table = read_table(path, required=("image",))
            for r in table.rows:
                more = tuple(table.resolve(c) for c in r.more if c)
                roi = table.resolve(r.roi) if r.roi else None
                found.append((table.resolve(r.image), more, roi))
        else:
            found.append((path, (), None))
    unique = {image: (more, roi) for image, more, roi in found}
    names = safe_ids(list(unique))
    return [
        Case(id=name, image=image, label="", more=more, roi=roi)
        for name, (image, (more, roi)) in zip(names, unique.items(), strict=True)
    ]


def _in_folder(path: Path, out: Path, dims: int) -> list[Path]:
    def wanted(p: Path) -> bool:
        return is_volume(p) if dims == 3 else p.suffix.lower() in IMAGE_SUFFIXES

    inner = sorted(p for p in path.rglob("*") if wanted(p) and p.is_file())
    if out.resolve() != path.resolve():  # masks of an earlier call are no images
        inner = [p for p in inner if not p.resolve().is_relative_to(out.resolve())]
    if not inner:
        suffixes = VOLUME_SUFFIXES if dims == 3 else sorted(IMAGE_SUFFIXES)
        raise DataError(
            "The folder holds no image.",
            where=str(path),
            expected=f"files ending in {', '.join(suffixes)}",
        )
    return inner


def predict(
    run: Path,
    inputs: Sequence[Path],
    out: Path,
    *,
    method: str | None = None,
    seed: int | None = None,
    device: str = "auto",
    heatmaps: bool = False,
    overlays: bool = False,
    skip_unreadable: bool = False,
) -> Path:
    """Masks of images, as PNG of each image's own size, or of volumes, as NIfTI on their grid.

    Parameters
    ----------
    run : Path
    inputs : sequence of Path
        Images or volumes, folders of them, or manifests.
    out : Path
        Gets ``<stem>.png`` (0 and 255) or ``<stem>.nii.gz`` (0 and 1), and ``predictions.csv``.
    method, seed, device
        See `weakseg.stages.predictors.load_predictor`.
    heatmaps, overlays : bool
        Also write ``heatmaps/<stem>.npz`` (raw heatmaps, or probabilities of a supervised
        network; volumes as ``.nii.gz``), and pictures ``overlays/<stem>.png`` (images only).
    skip_unreadable : bool
        Leave out images that cannot be read, instead of refusing to begin.

    Returns
    -------
    Path
        The table ``predictions.csv``.
    """
    predictor = load_predictor(run, method, seed=seed, device=device)
    dims = predictor.dims if isinstance(predictor, SegmenterPredictor) else 2
    cases = _readable(collect_inputs(inputs, out, dims), skip_unreadable, dims)
    read = [f for c in cases for f in (c.image, *c.more, c.roi) if f is not None]
    sources = {f.resolve() for f in [*read, *inputs]}
    for target in _targets(out, [c.id for c in cases]):
        if target.resolve() in sources:
            raise UserError(
                "The output would overwrite its input.",
                where=str(target),
                fix="name another folder with --out",
            )
    make_folder(out)
    seeds = ", ".join(map(str, predictor.seeds))
    which = f"mean of the seeds {seeds}" if len(predictor.seeds) > 1 else f"seed {seeds}"
    say(f"method {predictor.method} ({predictor.chosen}), {which}")
    one: Callable[..., dict[str, Any]] = (
        _by_segmenter if isinstance(predictor, SegmenterPredictor) else _by_heatmap
    )
    rows: list[dict[str, Any]] = []
    with progress("predicting", len(cases)) as advance:
        for case in cases:
            try:
                rows.append(one(predictor, case, out, heatmaps, overlays))
            except DataError as e:
                if not skip_unreadable:
                    raise
                say(f"left out {case.image}: {e.what}")
            advance()
    write_text(out / PREDICTIONS, pd.DataFrame(rows).to_csv(index=False))
    return out / PREDICTIONS


def _by_heatmap(
    predictor: Predictor, case: Case, out: Path, heatmaps: bool, overlays: bool
) -> dict[str, Any]:
    image = read_image(case.image)
    mask, heat, p = predictor.predict(image)
    write_mask(inside(out, f"{case.id}.png"), mask)
    if heatmaps:
        save_heatmap(inside(out, "heatmaps", f"{case.id}.npz"), heat)
    if overlays:
        _overlay(out, case, image, heat.full(), mask)
    return {
        "file": str(case.image),
        "mask": f"{case.id}.png",
        "predicted_label": predictor.labels.names[int(p.argmax())],
        "lesion_probability": round(heat.probability, 6),
        "lesion_pixels": int(mask.sum()),
        "flat_heatmap": heat.flat,
    }


def _by_segmenter(
    predictor: SegmenterPredictor, case: Case, out: Path, heatmaps: bool, overlays: bool
) -> dict[str, Any]:
    mask, p, says = predictor.predict(case)
    suffix = ".nii.gz" if case.dims == 3 else ".png"
    path = inside(out, f"{case.id}{suffix}")
    row: dict[str, Any] = {"file": str(case.image), "mask": path.name}
    if case.dims == 3:
        write_volume_mask(path, mask, case.image)
        if heatmaps:
            write_volume(inside(out, "heatmaps", f"{case.id}.nii.gz"), p, case.image)
        grid = read_grid(case.image)
        ml = float(np.prod(grid.spacing)) / 1000 * int(mask.sum())
        row["lesion_ml"] = round(ml, 3) if grid.known_spacing else None
    else:
        write_mask(path, mask)
        if heatmaps:
            target = inside(out, "heatmaps", f"{case.id}.npz")
            target.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(target, probability=p.astype(np.float16))
        if overlays:
            _overlay(out, case, read_image(case.image), p, mask)
    if says is not None:
        row["lesion_probability"] = says
    return row | {
        "highest_probability": round(float(p.max()), 6),
        "lesion_pixels": int(mask.sum()),
    }


def _overlay(out: Path, case: Case, image: np.ndarray, heat: np.ndarray, mask: np.ndarray) -> None:
    from weakseg.report.pictures import write_overlay

    write_overlay(inside(out, "overlays", f"{case.id}.png"), image, heat, mask)


def _targets(out: Path, names: Sequence[str]) -> list[Path]:
    """Every file that may be written."""
    pictures = [out / part / f"{n}.png" for n in names for part in ("", "overlays")]
    volumes = [out / part / f"{n}.nii.gz" for n in names for part in ("", "heatmaps")]
    heats = [out / "heatmaps" / f"{n}.npz" for n in names]
    return [out / PREDICTIONS, *pictures, *volumes, *heats]


def _readable(cases: Sequence[Case], skip: bool, dims: int) -> list[Case]:
    """Read everything first, so that a bad file does not end a long run half-way.

    Where bad files are skipped anyway, a look at the headers is enough.
    """
    good, bad = [], []
    for case in cases:
        try:
            if dims == 3:
                (read_grid(case.image) if skip else read_case(case))
            else:
                (image_size if skip else read_image)(case.image)
            good.append(case)
        except DataError as e:
            bad.append((case.image, e))
    if bad and not (skip and good):
        lines = "\n".join(f"  - {f}: {e.what}" for f, e in bad)
        raise DataError(
            f"{len(bad)} of {len(cases)} files cannot be read as "
            f"{'volumes' if dims == 3 else 'images'}:\n{lines}",
            fix="take them out, or leave them out with --skip-unreadable",
        )
    for file, error in bad:
        say(f"left out {file}: {error.what}")
    return good
