"""``weakseg adapt``: masks of another site's images, through a generator that learns their look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.data.case_files import case_image
from weakseg.data.cases import Case
from weakseg.data.splits import read_splits
from weakseg.engines.base import TORCH
from weakseg.errors import DataError, UserError
from weakseg.layout import BEST, segmenter_folder, splits_file
from weakseg.methods.adapted import adapted, features_of, load_generator, save_generator, site_of
from weakseg.methods.find import load_method
from weakseg.methods.network import NetworkMethod
from weakseg.predicting.adapted_scores import score
from weakseg.predicting.adapted_sheet import write_sheet
from weakseg.predicting.inputs import collect_inputs, readable
from weakseg.predicting.predict import predict
from weakseg.predicting.slices import is_sliced
from weakseg.progress import each_once, progress, say
from weakseg.runs import file_hash, make_folder, open_run, write_json
from weakseg.training.adaptation import (
    AdaptationSettings,
    changed_site,
    intensity_distance,
    site_moments,
    train_generator,
)

GENERATOR, ABOUT, SHEET, SCORES = (
    "generator.safetensors",
    "generator.json",
    "sheet.png",
    "scores.csv",
)
BEFORE = "before"
"""Folder of the masks without a generator."""

LOOKED_AT = 512
"""Images of each site from which a generator learns, at most; evenly from their list."""


@each_once()  # the images are collected three times, and predicted twice
def adapt(
    run: Path,
    images: Path,
    out: Path,
    *,
    method: str,
    settings: AdaptationSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    generator: Path | None = None,
) -> Path:
    """Masks of another site's images by a run's network, through a generator; no mask is opened.

    The generator is trained on these images and on the run's training images, which nobody has
    paired, without labels. Masks that a manifest names are opened when all else is written, for
    ``scores.csv`` alone.

    Parameters
    ----------
    run : Path
    images : Path
        A folder, a manifest or an image.
    out : Path
        Gets what `weakseg.predicting.predict.predict` writes, in ``before`` the same without
        generator, ``generator.safetensors``, ``generator.json``, ``sheet.png`` and, where the
        manifest has masks, ``scores.csv``.
    method : str
        One of the run's segmenters.
    settings : AdaptationSettings, optional
    seed : int, optional
        Of the generator's training.
    device : str, optional
    generator : Path, optional
        One of an earlier call for the same networks, instead of a training.

    Returns
    -------
    Path
        The table ``predictions.csv``.

    Raises
    ------
    UserError
        For a method that is no segmentation network of images, a folder without images, or images
        of other channels.
    """
    settings = settings or AdaptationSettings()
    chosen = _network(run, method, device)
    cases = readable(collect_inputs([images], out), skip=False, data=chosen.config.data)
    if out.resolve() in {c.image.resolve().parent for c in cases}:
        raise UserError(
            "The output would lie among the images.",
            where=str(out),
            fix="name another folder with --out",
        )
    _refuse_other_channels(chosen, cases)
    run_folder = open_run(run).folder
    hashes = [file_hash(segmenter_folder(run_folder, method, s) / BEST) for s in chosen.seeds]
    torch_device = chosen.networks.device
    trained = [c for c in read_splits(splits_file(run_folder)) if c.split == "train"]
    make_folder(out)
    (out / SCORES).unlink(missing_ok=True)  # of an earlier call
    predict(run, [images], out / BEFORE, method=chosen)
    old, new = (site_of(chosen, _evenly(some)) for some in (trained, cases))
    features = features_of(chosen, old)
    losses: dict[str, float] = {}
    if generator is not None:
        made = load_generator(generator, method, hashes).to(torch_device)
    else:
        with progress("training the generator", settings.steps) as advance:
            made, losses = train_generator(
                new, old, features, settings, seed=seed, device=torch_device, advance=advance
            )
    through = changed_site(made, new, settings.batch, torch_device)
    wanted = site_moments(features, old, settings.batch, torch_device)
    apart: dict[str, Any] = {}
    for when, site in (("before", new), ("after", through)):
        maps = site_moments(features, site, settings.batch, torch_device)
        apart[when] = {
            "intensities": round(intensity_distance(site, old), 6),
            "features": round(float(wanted.distance(maps)), 6),
        }
    save_generator(out / GENERATOR, made, method, hashes)
    about = {
        "method": method,
        "networks": hashes,
        "seed": seed,
        "from": None if generator is None else str(generator),
        "settings": asdict(settings) if generator is None else None,
        "losses": losses,
        "training_images": len(old.image),
        "new_images": len(new.image),
        "masks_read": 0,
        "distance_to_training_images": apart,
    }
    write_json(out / ABOUT, about)
    say(
        "distance to the training images, before and after: intensities "
        + " and ".join(f"{apart[w]['intensities']:.3f}" for w in apart)
        + ", features "
        + " and ".join(f"{apart[w]['features']:.3f}" for w in apart)
        + "; no mask was read"
    )
    through_generator = adapted(chosen, made)
    table = predict(run, [images], out, method=through_generator)
    write_sheet(out / SHEET, through_generator, cases, trained, (out / BEFORE, out))
    data = open_run(run).record.get("data", {})
    score(out / SCORES, images, cases, (out / BEFORE, out), chosen.config, data)
    return table


def _network(run: Path, name: str, device: str) -> NetworkMethod:
    """A segmenter of images, by torch: the generator learns through it."""
    chosen = load_method(run, name, device=device, engine=TORCH)
    if not isinstance(chosen, NetworkMethod):
        raise UserError(
            f"{name} is no segmentation network, through which a generator could learn.",
            where="--method",
            fix="name one of the run's `segmenters`",
        )
    if chosen.dims != 2 or is_sliced(run):
        raise UserError(
            "Adaptation is for networks of images, each in a file of its own.",
            where="--method",
            found="a network of volumes" if chosen.dims != 2 else "a run on slices of volumes",
            fix="train a segmenter on images: weakseg train-segmenter CONFIG",
        )
    return chosen


def _refuse_other_channels(method: NetworkMethod, cases: Sequence[Case]) -> None:
    """Refuse images in colour where a network learnt from grey ones, or the other way round."""
    coloured = [case_image(c, method.config.data).ndim == 3 for c in cases]
    takes = int(method.networks.settings["channels"])
    if takes == 1 and any(coloured):
        odd, found = cases[coloured.index(True)].shown, f"{sum(coloured)} of {len(cases)} in colour"
    elif takes == 3 and not any(coloured):
        odd, found = cases[0].shown, f"{len(cases)} grey images"
    else:
        return
    raise DataError(
        f"The network takes images of {takes} channel{'s' if takes > 1 else ''}.",
        where=odd,
        found=found,
        fix="convert them, or leave them out; images of another kind are nothing to adapt",
    )


def _evenly(cases: Sequence[Case]) -> list[Case]:
    if len(cases) <= LOOKED_AT:
        return list(cases)
    return [cases[k] for k in np.linspace(0, len(cases) - 1, LOOKED_AT).round().astype(int)]
