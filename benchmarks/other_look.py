"""How masks of a run's methods hold when the validation images look as from another scanner.

Run `python benchmarks/other_look.py RUN --method best-map-grown` from the root of the checkout;
`--help` lists the options. Each look of `LOOKS` is laid over the validation images, whose true
masks score the masks (and have a part in nothing else); the test split is not touched. Runs that
were trained with `classifier.augment: scanner-look` can stand beside those that were not.
`--noise 0.1 0.2` adds noise as of a magnetic resonance scanner whose ratio of signal to noise is 10
and 5; `--denoise` smooths images as that of `weakseg predict` does. "Told": share of the images
that `predict` tells to be unlike the training images. `--once` asks a segmenter's networks once an
image, at its own size and not mirrored, which takes a sixth of the time of the recipe's six.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from weakseg.config import config_of_run
from weakseg.data.cases import Case
from weakseg.data.familiar import remember
from weakseg.data.images import read_image, scale_intensity
from weakseg.data.looks import look_at_case
from weakseg.methods.cases import read_truth
from weakseg.methods.find import load_method
from weakseg.methods.network import NetworkMethod
from weakseg.scores import dice
from weakseg.stages.prepare import prepared_run

BLACK = 0.02
"""Intensity, in [0, 1], up to which a pixel is outside of the body."""

Pixels = npt.NDArray[np.float32]
Look = Callable[[Pixels, np.random.Generator], Pixels]


def gamma(power: float) -> Look:
    """Intensities to a power: above 1 darker, below it brighter."""
    return lambda image, rng: image**power


def speckle(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Noise that grows with the intensity, a fifth of it."""
    noise = rng.standard_normal(image.shape[:2])
    return image * (1 + 0.2 * noise.reshape(*noise.shape, *[1] * (image.ndim - 2)))


def rician(image: Pixels, rng: np.random.Generator, share: float) -> Pixels:
    """Noise of a magnitude image, whose sd is a share of the median of what is not black.

    What is black stays black, as where the skull was taken off.
    """
    seen = image > BLACK
    sd = share * float(np.median(image[seen])) if seen.any() else 0.0
    shape = (2, *image.shape[:2], *[1] * (image.ndim - 2))
    real, imaginary = sd * rng.standard_normal(shape)
    return np.where(seen, np.hypot(image + real, imaginary), image)


def cropped(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Up to 15 % of each side black, as a narrower field of view."""
    (top, bottom), (left, right) = (
        np.round(rng.uniform(0, 0.15, 2) * n).astype(int) for n in image.shape[:2]
    )
    out = np.zeros_like(image)
    inside = np.s_[top : image.shape[0] - bottom, left : image.shape[1] - right]
    out[inside] = image[inside]
    return out


def calipers(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Four white crosses at random places: at a lesion's ends they would tell where it is."""
    out, arm = image.copy(), max(2, min(image.shape[:2]) // 50)
    for _ in range(4):
        y, x = (int(rng.integers(arm, n - arm)) for n in image.shape[:2])
        out[y, x - arm : x + arm + 1] = 1
        out[y - arm : y + arm + 1, x] = 1
    return out


def together(*looks: Look) -> Look:
    """One after the other."""

    def look(image: Pixels, rng: np.random.Generator) -> Pixels:
        for one in looks:
            image = np.clip(one(image, rng), 0, 1)
        return image

    return look


LOOKS: dict[str, Look] = {
    "as it is": lambda image, rng: image,
    "darker": gamma(1.6),
    "brighter": gamma(1 / 1.6),
    "speckle": speckle,
    "cropped": cropped,
    "calipers": calipers,
    "darker, speckle, cropped, calipers": together(gamma(1.6), speckle, cropped, calipers),
}


def looking(image: Pixels, look: Look, seed: int) -> npt.NDArray[np.uint8]:
    """An image of intensities in [0, 1] in another look, as 8 bits; equal seeds, equal images."""
    changed = np.clip(look(image, np.random.default_rng(seed)), 0, 1)
    eight: npt.NDArray[np.uint8] = np.round(255 * changed).astype(np.uint8)
    return eight


def main() -> None:
    """Measure, print the table, and write it where it was asked for."""
    options = read_options()
    print("| run, method | look | Dice | difference | missed | false alarms | told | AUC, median |")
    print("|---|---|---|---|---|---|---|---|")
    rows = [row for run in options.runs for row in of_run(run, options)]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def read_options() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="finished run folders")
    parser.add_argument("--method", default=None, help="default: the run's own report.method")
    parser.add_argument("--looks", nargs="*", choices=list(LOOKS), default=list(LOOKS))
    parser.add_argument("--noise", nargs="+", type=float, default=[], metavar="SHARE", help="sd")
    parser.add_argument("--denoise", action="store_true", help="smooth what is noisier")
    parser.add_argument("--once", action="store_true", help="networks see an image once")
    parser.add_argument("--every", type=int, default=1, help="of the images every so many alone")
    parser.add_argument("--patients", type=int, help="all images of the first so many patients")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def of_run(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of a run, a look each, printed as they are made."""
    config = config_of_run(folder)
    method = load_method(folder, options.method)
    if options.once and isinstance(method, NetworkMethod):
        plain = method.settings.model_copy(update={"flips": "none", "scales": (1.0,)})
        method = replace(method, settings=plain)
    with prepared_run(config, folder, dry_run=True) as prepared:
        labels = prepared.cases.labels
        cases = some(prepared.cases.of("val"), options.patients)[:: options.every]
        familiar = remember(prepared.cases.of("train"), config.data, prepared.key)
    lesion = np.array([labels.is_lesion(c.label) for c in cases])
    rows: list[dict[str, Any]] = []
    looks = {name: LOOKS[name] for name in options.looks}
    looks |= {f"Rician noise {share:g}": partial(rician, share=share) for share in options.noise}
    limit = familiar.noise_limits if options.denoise else ()
    for name, look in looks.items():
        with tempfile.TemporaryDirectory() as place:
            other = [_seen(c, look, Path(place), k) for k, c in enumerate(cases)]
            told = [bool(familiar.unlike(look_at_case(c, config.data))) for c in other]
            other = [replace(c, smooth_above=limit) for c in other]
            said = [(p.mask, p.probability) for p in method.predict_each(other)]
        masks = [mask for mask, _ in said]
        found = _dice_of(cases, lesion, masks, config.data)
        marked = np.array([m.any() for m in masks])
        row = {
            "run": folder.name,
            "method": method.name,
            "look": name,
            "dice": float(np.mean(found)),
            "missed": float((~marked[lesion]).mean()),
            "false_alarms": float(marked[~lesion].mean()) if (~lesion).any() else None,
            "told": float(np.mean(told)),
            **_of_classifiers([p for _, p in said], lesion),
            "denoised": limit,
            "images": len(cases),
        }
        rows.append(row)
        alarms = "–" if row["false_alarms"] is None else f"{row['false_alarms']:.0%}"
        print(
            f"| {row['run']}, {row['method']} | {name} | {row['dice']:.3f} "
            f"| {row['dice'] - rows[0]['dice']:+.3f} | {row['missed']:.0%} | {alarms} "
            f"| {row['told']:.0%} | {row['auc']}, {row['probability']} |",
            flush=True,
        )
    return rows


def some(cases: Sequence[Case], patients: int | None) -> list[Case]:
    """All cases, or those of the first so many patients."""
    first = list(dict.fromkeys(c.patient for c in cases))[:patients]
    return [c for c in cases if c.patient in first]


def _seen(case: Case, look: Look, place: Path, number: int) -> Case:
    """A case whose image has another look; its name stays, which tells its neighbours."""
    image = scale_intensity(read_image(case.image))
    path = place / f"{case.id}.png"
    Image.fromarray(looking(image, look, number)).save(path)
    return replace(case, image=path)


def _of_classifiers(said: Sequence[float | None], lesion: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """AUC of the classifiers' mean probability, and its median of lesions; None without a gate."""
    known = [p for p in said if p is not None]
    if len(known) < len(said) or lesion.all() or not lesion.any():
        return {"auc": None, "probability": None}
    from sklearn.metrics import roc_auc_score

    auc, middle = roc_auc_score(lesion, known), np.median(np.array(known)[lesion])
    return {"auc": round(float(auc), 3), "probability": round(float(middle), 3)}


def _dice_of(
    cases: Sequence[Case], lesion: npt.NDArray[np.bool_], masks: Sequence[Any], data: Any
) -> list[float]:
    return [
        dice(mask, read_truth(case, mask.shape, False, data))
        for case, mask, is_one in zip(cases, masks, lesion, strict=True)
        if is_one and case.mask is not None
    ]


if __name__ == "__main__":
    main()
