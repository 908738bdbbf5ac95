"""A small run folder with every file that a report reads, made without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from weakseg.config import Config, dump_config, parse_config
from weakseg.data.formats.writing import write_mask
from weakseg.heatmaps.store import Heatmap, save_heatmap
from weakseg.masks.floors import FLOORS
from weakseg.masks.rules import Evidence, segment
from weakseg.runs import write_json, write_text
from weakseg.scores import case_columns, classification_scores, score_case, summarise
from weakseg.spreadsheets import csv_text

SHAPE = (24, 20)
SIDE = 24
RULES = ("fixed", "otsu", "validation", "oracle-image")
SHOWN_FLOORS = ("floor-everything", "floor-brightest-20")


def make_run(
    folder: Path,
    *,
    name: str = "fake",
    labels: tuple[str, str] = ("normal", "tumor"),
    seeds: Sequence[int] = (0, 1),
    patients: int = 12,
    sharp: bool = True,
    scored: bool = True,
    simulated: bool = False,
    patients_known: bool = True,
    fingerprint: str = "f" * 12,
    patient_prefix: str = "P",
    settings: dict[str, Any] | None = None,
) -> Path:
    """Write a run and its images.

    Parameters
    ----------
    folder : Path
        Of the run; the data lie beside it.
    labels : tuple of str
        Of healthy images and of images with a lesion.
    sharp : bool
        Whether heat lies on the lesion, or nearly; else it lies in a corner without one.
    scored : bool
        Whether there are true masks.
    """
    data = folder.with_name(f"{folder.name}-data")
    config = parse_config(
        {
            "name": name,
            "data": {
                "manifest": str(data / "labels.csv"),
                "healthy_labels": [labels[0]],
                "image_size": 32,
            },
            "classifier": {"epochs": 3, "seeds": list(seeds)},
            "masks": {"rules": list(RULES)},
            "scores": {"bootstrap": 200},
            "report": {"gallery": 2},
            **(settings or {}),
        }
    )
    cases = _cases(data, labels, patients, patient_prefix, scored)
    write_text(folder / "config.yaml", dump_config(config))
    write_text(
        folder / "splits.csv",
        csv_text(cases[["case", "image", "label", "patient", "split"]]),
    )
    for seed in seeds:
        _classifier(folder, cases, labels, seed)
    rows = _segment(folder, config, cases, labels, sharp)
    table = pd.DataFrame(rows if scored else [], columns=[*case_columns(), "probability"])
    write_text(folder / "scores" / "per_case.csv", csv_text(table))
    summary = summarise(table, bootstrap=200) if scored else pd.DataFrame()
    write_text(folder / "scores" / "summary.csv", csv_text(summary, float_format="%.6g"))
    at = np.linspace(0, 1, 11)
    curves = [{"seed": s, "threshold": t, "dice": t * (1 - t)} for s in seeds for t in at]
    columns = ["seed", "threshold", "dice"]
    curves_table = pd.DataFrame(curves if scored else [], columns=columns)
    write_text(folder / "scores" / "curves.csv", csv_text(curves_table))
    _record(folder, config, cases, labels, simulated, patients_known, fingerprint, scored)
    return folder


def _cases(
    data: Path, labels: tuple[str, str], patients: int, prefix: str, scored: bool
) -> pd.DataFrame:
    (data / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for p in range(patients):
        split = ("train", "val", "test", "test")[p % 4]
        for k in range(4):
            case = f"c{p:02d}_{k}"
            lesion = k < 2
            image = rng.integers(20, 90, SHAPE, dtype=np.uint8)
            truth = np.zeros(SHAPE, dtype=bool)
            if lesion:
                top, left = rng.integers(8, 12), rng.integers(6, 10)
                truth[top : top + 3 + p % 4, left : left + 4 + k] = True
                image[truth] = 200
            path = data / "images" / f"{case}.png"
            Image.fromarray(image).save(path)
            write_mask(data / "masks" / f"{case}.png", truth)
            rows.append((case, str(path), labels[int(lesion)], f"{prefix}{p:02d}", split, truth))
    cases = pd.DataFrame(rows, columns=["case", "image", "label", "patient", "split", "truth"])
    manifest = cases[["image", "label", "patient"]].assign(
        mask=[str(data / "masks" / f"{c}.png") if scored else "" for c in cases["case"]]
    )
    write_text(data / "labels.csv", manifest.to_csv(index=False))
    return cases


def _probability(cases: pd.DataFrame, seed: int) -> np.ndarray:
    """Lesions mostly above 0.5, healthy images mostly below."""
    noise = np.random.default_rng(seed).normal(0, 0.15, len(cases))
    lesion = cases["case"].str.endswith(("_0", "_1")).to_numpy()
    return np.clip(np.where(lesion, 0.72, 0.3) + noise, 0.01, 0.99)


def _classifier(folder: Path, cases: pd.DataFrame, labels: tuple[str, str], seed: int) -> None:
    out = folder / "classifier" / "resnet18" / f"seed-{seed}"
    p = _probability(cases, seed)
    table = cases[["case", "patient", "split", "label"]].assign(
        predicted=np.where(p > 0.5, labels[1], labels[0]), lesion_probability=p
    )
    write_text(out / "predictions.csv", csv_text(table))
    scores = {}
    for split in ("val", "test"):
        chosen = (cases["split"] == split).to_numpy()
        scores[split] = classification_scores(
            (cases["label"] == labels[1]).to_numpy()[chosen].astype(int),
            np.stack([1 - p, p], axis=1)[chosen],
            [1],
            cases["patient"].to_numpy()[chosen],
            bootstrap=100,
        )
    write_json(out / "scores.json", scores)
    metrics = pd.DataFrame(
        {
            "epoch": [1.0, 2.0, 3.0],
            "lr": 0.001,
            "train_loss": [0.7, 0.5, 0.4],
            "val_auc": [0.6, 0.9, 0.8],
            "val_accuracy": [0.5, 0.8, 0.7],
            "val_loss": [0.7, 0.6, 0.6],
        }
    )
    write_text(out / "metrics.csv", csv_text(metrics))


def _segment(
    folder: Path, config: Config, cases: pd.DataFrame, labels: tuple[str, str], sharp: bool
) -> list[dict[str, Any]]:
    test = cases[cases["split"] == "test"]
    thresholds: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    for seed in config.seeds:
        p = dict(zip(cases["case"], _probability(cases, seed), strict=True))
        for _, c in test.iterrows():
            raw = _heat(c["truth"], sharp, seed)
            save_heatmap(
                folder / "heatmaps/resnet18" / f"seed-{seed}" / "gradcam" / f"{c['case']}.npz",
                Heatmap(raw, SHAPE, SIDE, "layer4", "gradcam", "lesion", p[c["case"]]),
            )
        pairs = [(_full(c["truth"], sharp, seed), c["truth"]) for _, c in test.iterrows()]
        lesions = [(h, t) for h, t in pairs if t.any()]
        for rule in config.masks.rules:
            fitted = rule.fit(
                Evidence(train=list, val=lambda x=lesions: x, test=lambda x=lesions: x)
            )
            method = f"gradcam-{rule.rule}"
            kind = "oracle" if fitted.oracle else "heatmap"
            entry = fitted.to_json() | {"kind": kind, "split": "test", "gate": 0.5}
            thresholds.setdefault(method, {})[f"seed-{seed}"] = entry
            kind = "oracle" if fitted.oracle else "heatmap"
            for (_, c), (heat, truth) in zip(test.iterrows(), pairs, strict=True):
                gated = p[c["case"]] < 0.5
                mask = np.zeros(SHAPE, bool) if gated else segment(fitted, heat, None, truth)
                write_mask(folder / "masks" / method / f"seed-{seed}" / f"{c['case']}.png", mask)
                rows.append(
                    _entry(c, method, kind, seed, fitted.masks_seen)
                    | score_case(mask, truth, heatmap=heat)
                    | {"flat": False, "gated": gated, "probability": p[c["case"]]}
                )
    for method, entries in thresholds.items():
        write_json(folder / "masks" / method / "threshold.json", entries)
    for name in SHOWN_FLOORS:
        for _, c in test.iterrows():
            mask = FLOORS[name](np.asarray(Image.open(c["image"])))
            flags = {"flat": False, "gated": False}
            rows.append(_entry(c, name, "floor", None, 0) | score_case(mask, c["truth"]) | flags)
    return rows


def _entry(case: pd.Series, method: str, kind: str, seed: int | None, seen: int) -> dict[str, Any]:
    known = {k: case[k] for k in ("case", "patient", "split", "label")}
    return known | {"method": method, "kind": kind, "seed": seed, "masks_seen": seen}


def _heat(truth: np.ndarray, sharp: bool, seed: int) -> np.ndarray:
    """Heat on the network's square: the image lies in its middle."""
    left = (SIDE - SHAPE[1]) // 2
    square = np.full((SIDE, SIDE), -0.1, dtype=np.float32)
    if sharp:
        off = int(truth.sum()) % 3  # some masks fit better than others
        place = np.roll(truth, off, axis=1) if truth.any() else np.eye(*SHAPE, dtype=bool)
    else:
        place = np.zeros(SHAPE, dtype=bool)
        place[:4, :4] = True
    square[:, left : left + SHAPE[1]] += place * (1.0 + 0.1 * seed)
    return square


def _full(truth: np.ndarray, sharp: bool, seed: int) -> np.ndarray:
    return Heatmap(_heat(truth, sharp, seed), SHAPE, SIDE, "", "", "", 0.5).full()


def _record(
    folder: Path,
    config: Config,
    cases: pd.DataFrame,
    labels: tuple[str, str],
    simulated: bool,
    patients_known: bool,
    fingerprint: str,
    scored: bool,
) -> None:
    splits = [
        {
            "split": split,
            "images": len(part),
            "patients": int(part["patient"].nunique()),
            "masks": len(part) if scored else 0,
            "lesions_with_mask": int((part["label"] == labels[1]).sum()) if scored else 0,
            "labels": part["label"].value_counts().to_dict(),
        }
        for split in ("train", "val", "test")
        for part in [cases[cases["split"] == split]]
    ]
    ended = "2026-01-02T03:04:05Z"
    stages: dict[str, Any] = {}
    for seed in config.seeds:
        stages[f"classifier/resnet18/{seed}"] = {
            "key": "k", "ended": ended, "seconds": 12.5, "device": "cpu", "precision": "32-true",
            "random_tensors": ["all"], "best_epoch": 2,
        }  # fmt: skip
        stages[f"heatmaps/resnet18/seed-{seed}/gradcam"] = {
            "key": "k", "ended": ended, "seconds": 1.5, "images": 48, "flat": 3, "layer": "layer4",
        }  # fmt: skip
    left_out = {} if scored else {"validation": "no lesion image of the val split has a mask"}
    stages["segment"] = {"key": "k", "ended": ended, "seconds": 2.0, "left_out": left_out}
    record = {
        "name": config.name,
        "seed": config.seed,
        "environment": {
            "versions": {"weakseg": "0.1.0", "torch": "2.9"},
            "platform": "Linux",
            "processor": "a processor",
            "cores": 2,
        },
        "data": {
            "source": config.data.manifest,
            "simulated": simulated,
            "patients_known": patients_known,
            "channels": 1,
            "dims": 2,
            "distances": "pixels",
            "healthy_labels": [labels[0]],
            "lesion_labels": [labels[1]],
            "splits": splits,
            "key": "key",
            "fingerprint": fingerprint,
        },
        "stages": stages,
    }
    write_json(folder / "run.json", record)
