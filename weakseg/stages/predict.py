"""``weakseg predict``: masks of new images by a run's classifier; no truth is needed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from weakseg.config import Config, load_config
from weakseg.data.cases import Labels
from weakseg.data.images import IMAGE_SUFFIXES, image_size, read_image, write_mask
from weakseg.data.manifest import safe_ids
from weakseg.data.table import read_table
from weakseg.errors import DataError, RunError, UserError, did_you_mean
from weakseg.heatmaps.compute import heatmap
from weakseg.heatmaps.store import Heatmap, save_heatmap
from weakseg.masks.rules import FittedRule, rule_from_json, segment
from weakseg.models.classifiers import Classifier
from weakseg.progress import progress, say
from weakseg.runs import Run, file_hash, inside, make_folder, open_run, read_json, write_text
from weakseg.stages.scoring import THRESHOLD
from weakseg.stages.train_classifier import (
    load_classifier,
    read_classifier_scores,
    seed_folder,
)
from weakseg.training.loop import BEST, load_weights, pick_device

PREDICTIONS = "predictions.csv"


@dataclass(frozen=True)
class Predictor:
    """A run, ready for new images.

    Attributes
    ----------
    model : Classifier
    config : Config
        The run's experiment.
    labels : Labels
    method : str
        The name of the method, as in the run's report.
    rule : FittedRule
    gate : float
        Below this probability of a lesion the mask is empty.
    seed : int
        Which of the run's networks it is.
    """

    model: Classifier
    config: Config
    labels: Labels
    method: str
    rule: FittedRule
    gate: float
    seed: int

    def predict(self, image: np.ndarray) -> tuple[np.ndarray, Heatmap, np.ndarray]:
        """Mask, heatmap and class probabilities of one image.

        Parameters
        ----------
        image : (M, N) or (M, N, 3) ndarray
            As `weakseg.data.images.read_image` gives it.

        Returns
        -------
        mask : (M, N) ndarray of bool
        heatmap : Heatmap
        probabilities : (K,) ndarray
            In the order of ``labels.names``.
        """
        data = self.config.data
        heat, p = heatmap(
            self.model,
            image,
            self.labels,
            image_size=data.image_size,
            intensity=data.intensity,
            config=self.config.heatmap,
        )
        if heat.probability < self.gate:
            return np.zeros(heat.shape, dtype=bool), heat, p
        return segment(self.rule, heat.full(), image), heat, p


def load_predictor(
    run: Path, method: str | None = None, *, seed: int | None = None, device: str = "auto"
) -> Predictor:
    """A run's network and threshold.

    Parameters
    ----------
    run : Path
        A run folder.
    method : str, optional
        One of the run's methods, by its name in the report or by its rule alone. Default: the
        first of the run that saw no mask.
    seed : int, optional
        Default: the network with the best validation AUC.
    device : str, optional

    Raises
    ------
    RunError
        If the folder is not a run, or lacks what is needed.
    UserError
        For a method or seed that it does not have, or an upper bound, which needs true masks.
    """
    folder = open_run(run).folder
    made_by = folder / "masks" / "config.yaml"
    config = load_config(made_by if made_by.exists() else folder / "config.yaml")
    methods = sorted(p.parent.name for p in (folder / "masks").glob(f"*/{THRESHOLD}"))
    if not methods:
        raise RunError(
            "The run has no masks yet, so it has no threshold either.",
            where=str(folder),
            fix="run `weakseg heatmap-segment CONFIG` or `weakseg compare CONFIG` first",
        )
    name = _pick_method(config, methods, method)
    seed = _pick_seed(config, folder, seed)
    entry = read_json(folder / "masks" / name / THRESHOLD).get(f"seed-{seed}")
    if entry is None:
        raise RunError(
            f"The run has no masks of seed {seed} by {name}.",
            where=str(folder),
            fix="run `weakseg heatmap-segment CONFIG` with that seed",
        )
    rule = rule_from_json(entry)
    if rule.oracle:
        raise UserError(
            f"{name} is an upper bound: it chooses its threshold on the true masks of the images, "
            "which new images do not have.",
            where="--method",
            fix=f"choose one of: {', '.join(m for m in methods if 'oracle' not in m)}",
        )
    model_folder = seed_folder(folder, config.classifier.arch, seed)
    model = load_classifier(model_folder).to(pick_device(device))
    check_same_network(folder, config, seed)
    _, meta = load_weights(model_folder / "best.safetensors")
    healthy = tuple(json.loads(meta["healthy"]))
    labels = Labels(healthy, tuple(n for n in model.spec.labels if n not in healthy))
    return Predictor(model, config, labels, name, rule, float(entry["gate"]), seed)


def check_same_network(folder: Path, config: Config, seed: int) -> None:
    """Refuse a run whose network was trained anew after its masks were made.

    Raises
    ------
    RunError
        With the command that brings them together again.
    """
    made_by = Run(folder).record.get("stages", {}).get("segment", {}).get("weights", {})
    best = seed_folder(folder, config.classifier.arch, seed) / BEST
    if made_by and made_by.get(str(seed)) != file_hash(best):
        raise RunError(
            "The run's masks and thresholds were made by another network than it holds now.",
            where=str(best),
            fix="run `weakseg heatmap-segment CONFIG` or `weakseg compare CONFIG` again",
        )


def _pick_method(config: Config, methods: Sequence[str], method: str | None) -> str:
    named = {m.removeprefix(f"{config.heatmap.method}-"): m for m in methods}
    if method is None:
        free = [r.rule for r in config.masks.rules if r.rule in named]
        weak = [r for r in free if r != "validation" and not r.startswith("oracle")]
        if not weak:
            raise UserError(
                "Every method of the run needs true masks to choose its threshold.",
                fix=f"name one with --method: {', '.join(methods)}",
            )
        return named[weak[0]]
    if method not in methods and method not in named:
        raise UserError(
            f"The run has no method {method!r}.",
            where="--method",
            fix=did_you_mean(method, methods),
        )
    return named.get(method, method)


def _pick_seed(config: Config, folder: Path, seed: int | None) -> int:
    if seed is not None:
        if seed not in config.seeds:
            raise UserError(
                f"The run has no network of seed {seed}.",
                where="--seed",
                fix=f"choose one of: {', '.join(map(str, config.seeds))}",
            )
        return seed
    if len(config.seeds) == 1:
        return config.seeds[0]

    def auc(s: int) -> float:
        scores = read_classifier_scores(seed_folder(folder, config.classifier.arch, s))
        return scores["val"]["auc_lesion"]["value"] or 0.0

    return max(config.seeds, key=auc)


def collect_inputs(inputs: Sequence[Path], out: Path) -> list[Path]:
    """The image files that the arguments stand for: files, folders, or manifests.

    Of a manifest only the column ``image`` is needed.

    Raises
    ------
    DataError
        For a path that is not there, or a folder without images.
    """
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inner = sorted(
                p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()
            )
            if out.resolve() != path.resolve():  # masks of an earlier call are no images
                inner = [p for p in inner if not p.resolve().is_relative_to(out.resolve())]
            if not inner:
                raise DataError(
                    "The folder holds no image.",
                    where=str(path),
                    expected=f"files ending in {', '.join(sorted(IMAGE_SUFFIXES))}",
                )
            found += inner
        elif not path.exists():
            raise DataError("The input does not exist.", where=str(path), fix="check the path")
        elif path.suffix.lower() == ".csv":
            table = read_table(path, required=("image",))
            found += [table.resolve(r.image) for r in table.rows]
        else:
            found.append(path)
    return list(dict.fromkeys(found))


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
    """Masks of images, as PNG of each image's own size.

    Parameters
    ----------
    run : Path
    inputs : sequence of Path
        Images, folders of images, or manifests.
    out : Path
        Gets ``<stem>.png`` (0 and 255) and ``predictions.csv``.
    method, seed, device
        See `load_predictor`.
    heatmaps, overlays : bool
        Also write ``heatmaps/<stem>.npz``, and pictures ``overlays/<stem>.png``.
    skip_unreadable : bool
        Leave out images that cannot be read, instead of refusing to begin.

    Returns
    -------
    Path
        The table ``predictions.csv``.
    """
    predictor = load_predictor(run, method, seed=seed, device=device)
    files = collect_inputs(inputs, out)
    files = _readable(files, skip_unreadable)
    names = safe_ids(files)
    sources = {f.resolve() for f in [*files, *inputs]}
    for target in _targets(out, names):
        if target.resolve() in sources:
            raise UserError(
                "The output would overwrite its input.",
                where=str(target),
                fix="name another folder with --out",
            )
    make_folder(out)
    say(
        f"method {predictor.method} (threshold chosen on {predictor.rule.chosen_on}; "
        f"{predictor.rule.masks_seen} masks seen), seed {predictor.seed}"
    )
    rows: list[dict[str, Any]] = []
    with progress("predicting", len(files)) as advance:
        for file, name in zip(files, names, strict=True):
            try:
                image = read_image(file)
            except DataError as e:
                if not skip_unreadable:
                    raise
                say(f"left out {file}: {e.what}")
                advance()
                continue
            mask, heat, p = predictor.predict(image)
            write_mask(inside(out, f"{name}.png"), mask)
            if heatmaps:
                save_heatmap(inside(out, "heatmaps", f"{name}.npz"), heat)
            if overlays:
                from weakseg.report.pictures import write_overlay

                write_overlay(inside(out, "overlays", f"{name}.png"), image, heat.full(), mask)
            rows.append(
                {
                    "file": str(file),
                    "mask": f"{name}.png",
                    "predicted_label": predictor.labels.names[int(p.argmax())],
                    "lesion_probability": round(heat.probability, 6),
                    "lesion_pixels": int(mask.sum()),
                    "flat_heatmap": heat.flat,
                }
            )
            advance()
    write_text(out / PREDICTIONS, pd.DataFrame(rows).to_csv(index=False))
    return out / PREDICTIONS


def _targets(out: Path, names: Sequence[str]) -> list[Path]:
    """Every file that may be written."""
    pictures = [out / part / f"{n}.png" for n in names for part in ("", "overlays")]
    return [out / PREDICTIONS, *pictures, *(out / "heatmaps" / f"{n}.npz" for n in names)]


def _readable(files: Sequence[Path], skip: bool) -> list[Path]:
    """Read everything first, so that a bad file does not end a long run half-way.

    Where bad files are skipped anyway, a look at the headers is enough.
    """
    good, bad = [], []
    for file in files:
        try:
            (image_size if skip else read_image)(file)
            good.append(file)
        except DataError as e:
            bad.append((file, e))
    if bad and not (skip and good):
        lines = "\n".join(f"  - {f}: {e.what}" for f, e in bad)
        raise DataError(
            f"{len(bad)} of {len(files)} files cannot be read as images:\n{lines}",
            fix="take them out, or leave them out with --skip-unreadable",
        )
    for file, error in bad:
        say(f"left out {file}: {error.what}")
    return good
