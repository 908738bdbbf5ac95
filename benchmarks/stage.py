"""The whole stage `weakseg heatmap-segment`, from image files to masks and scores, in turns with:

- *forward*: the classifier alone on the same images, already decoded and in memory; with
  ``--engine`` by torch and by that engine, and ratios are to the faster of the two;
- *predict* (with ``--predict``): `weakseg predict` of the same files by the run, and by what
  `weakseg export` makes of it: masks, their lesions, and whether images are like the run's;
- *script*: what one would write with pytorch-grad-cam, scikit-image and MONAI: decode, explain,
  resize, threshold, write the mask, score it (Dice, IoU, HD95, surface distance).

Run `python benchmarks/stage.py --manifest labels.csv` from the root of the checkout; without a
manifest the phantom is taken. `--help` lists the options. Of the first patients all but two are
test images; the others train the classifier for an epoch, since speed does not depend on what it
has learnt (from scratch it takes some more until its maps are not flat: `--epochs`). The script
ends with an error where the masks of the two are not alike. With ``--clock cpu`` seconds are those
of the processor, of all threads together, which other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from machine import CLOCKS, Spread, describe_machine, print_machine, spread

from weakseg.config import Config, PhantomConfig
from weakseg.data.arrays import filled
from weakseg.data.images import HELD, read_mask
from weakseg.data.phantom import write_phantom
from weakseg.engines.base import precision_of
from weakseg.engines.graph import onnx_of
from weakseg.engines.registry import ENGINES
from weakseg.exporting.export import export
from weakseg.layout import seed_folder
from weakseg.methods.classifiers import load_classifier
from weakseg.methods.prepared import Prepared
from weakseg.models.layers import default_layer
from weakseg.predicting.predict import predict
from weakseg.stages.heatmap_segment import heatmap_segment
from weakseg.stages.prepare import prepared_run
from weakseg.stages.train_classifier import train_classifiers
from weakseg.training.loop import make_fabric

METHOD = "gradcam-fixed"
"""What makes the masks."""

ALIKE = 0.9
"""Mean Dice of the script's masks and ours. They differ at the edges: pytorch-grad-cam takes the
map to the network's resolution and then over its range, scikit-image from there to the image's."""


def main() -> None:
    """Measure, print the table, and write it where it was asked for."""
    options = read_options()
    print_machine(
        describe_machine(["torch", "grad-cam", "scikit-image", "monai"])
        | {"precision": options.precision, "clock": options.clock}
    )
    with tempfile.TemporaryDirectory() as folder:
        rows, images = measure(options, Path(folder))
    print(f"\n{images} images, {options.arch} at {options.size}², {options.repeats} repeats\n")
    print("| | images/s | of the forward pass | ours is faster by |\n|---|---|---|---|")
    for name, row in rows.items():
        speed, ratio, gain = row["images_per_second"], row["ratio_to_forward"], row["gain"]
        print(f"| {name} | {speed:.1f} | {ratio:.2f} | {gain:.2f} |")
    if options.json is not None:
        records = [
            {"work": name, "arch": options.arch, "precision": options.precision, "images": images}
            | {key: spread.median for key, spread in row.items()}
            for name, row in rows.items()
        ]
        options.json.write_text(json.dumps(records, indent=2) + "\n")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, help="with masks; default: the phantom")
    parser.add_argument("--healthy", nargs="+", default=["normal"], help="labels without a lesion")
    parser.add_argument("--images", type=int, default=400, help="of whole patients, about")
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--weights", default="none", help="the classifier's, as in the experiment")
    parser.add_argument("--epochs", type=int, default=1, help="more where maps would be flat")
    parser.add_argument("--size", type=int, default=224, help="side of the network's images")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument(
        "--engine", default="torch", choices=["torch", *ENGINES], help="what makes the heatmaps"
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS), help="what seconds are")
    parser.add_argument("--predict", action="store_true", help="measure `weakseg predict` as well")
    parser.add_argument("--no-script", action="store_true", help="leave the plain script out")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    return options


def measure(options: argparse.Namespace, folder: Path) -> tuple[dict[str, dict[str, Spread]], int]:
    """Time each in turns; the first round warms up and is not counted."""
    clock = CLOCKS[options.clock]
    config = experiment(options, folder)
    with prepared_run(config, folder / "run") as prepared:
        train_classifiers(prepared)
        works: dict[str, Callable[[], Any]] = {
            "forward": forward_alone(prepared, options),
            "weakseg": lambda: heatmap_segment(prepared, force=True),
        }
        if options.engine != "torch":
            works[f"forward, {options.engine}"] = engine_forward(prepared, options)
        if options.predict:
            heatmap_segment(prepared)
            works["predict"] = prediction(prepared, prepared.run.folder, folder / "predicted")
            export(prepared.run.folder, folder / "exported", method=METHOD)
            out = folder / "predicted-by-exported"
            works["predict, exported"] = prediction(prepared, folder / "exported", out)
        if not options.no_script:
            works["script"] = plain_script(prepared, options, folder / "script")
        times: dict[str, list[float]] = {name: [] for name in works}
        for turn in range(options.repeats + 1):
            for name, work in works.items():
                gc.collect()
                HELD.clear()  # a command begins without what the round before has decoded
                start = clock()
                work()
                times[name] += [clock() - start] if turn else []
        if not options.no_script:
            compare(prepared, folder / "script")
        images = len(prepared.cases.cases)
    forwards = [taken for name, taken in times.items() if name.startswith("forward")]
    quickest = min(forwards, key=statistics.median)
    rows = {
        name: {
            "images_per_second": spread([images / t for t in taken]),
            "ratio_to_forward": spread([f / t for f, t in zip(quickest, taken, strict=True)]),
            "gain": spread([t / o for t, o in zip(taken, times["weakseg"], strict=True)]),
        }
        for name, taken in times.items()
    }
    return rows, images


def experiment(options: argparse.Namespace, folder: Path) -> Config:
    """Nearly all images are test images: all get a heatmap, a mask and scores."""
    path = options.manifest or write_phantom(folder / "phantom", PhantomConfig())
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table = table.drop(columns="split", errors="ignore")
    for column in ("image", "mask"):
        table[column] = [str((path.parent / p).resolve()) if p else "" for p in table[column]]
    lesion = ~table["label"].isin(options.healthy)
    both = [p for p, held in lesion.groupby(table["patient"], sort=False) if held.nunique() == 2]
    sizes = table["patient"].value_counts()
    chosen, images = [], 0
    for patient in both:
        chosen.append(patient)
        images += int(sizes[patient])
        if images >= options.images:
            break
    table = table[table["patient"].isin(chosen)]
    splits = dict.fromkeys(chosen, "test") | {chosen[0]: "train", chosen[1]: "val"}
    table = table.assign(split=table["patient"].map(splits))
    table.to_csv(folder / "labels.csv", index=False)
    lesions = sorted(set(table["label"]) - set(options.healthy))
    return Config.model_validate(
        {
            "data": {
                "manifest": str(folder / "labels.csv"),
                "healthy_labels": options.healthy,
                "lesion_labels": lesions,
                "image_size": options.size,
            },
            "classifier": {
                "arch": options.arch,
                "weights": options.weights,
                "epochs": options.epochs,
                "batch_size": 16,
                "precision": "bf16-mixed" if options.precision == "bf16" else "32-true",
            },
            "heatmap": {"batch_size": options.batch},
            "masks": {"rules": ["fixed"], "gate": "none"},
            "scores": {"bootstrap": 100, "floors": False},
            "device": "cpu",
            "engine": options.engine,
        }
    )


def forward_alone(prepared: Prepared, options: argparse.Namespace) -> Callable[[], None]:
    """The classifier on batches that are decoded already."""
    model = classifier(prepared).to(memory_format=torch.channels_last)
    fabric = make_fabric("cpu", prepared.config.classifier.precision)
    held = prepared.images.once().images(range(len(prepared.cases.cases)))
    batches = [b.contiguous(memory_format=torch.channels_last) for b in held.split(options.batch)]

    def run() -> None:
        with torch.inference_mode(), fabric.autocast():
            for batch in batches:
                model(batch)

    return run


def engine_forward(prepared: Prepared, options: argparse.Namespace) -> Callable[[], None]:
    """The same by an engine."""
    model = classifier(prepared)
    held = prepared.images.once().images(range(len(prepared.cases.cases)))
    shape = (options.batch, *held.shape[1:])

    def logits(images: torch.Tensor) -> tuple[torch.Tensor]:
        with torch.no_grad():
            return (model(images),)

    graph = onnx_of(logits, [torch.zeros(*shape)], ["images"], ["logits"], what=options.arch)
    precision = precision_of("bf16-mixed" if options.precision == "bf16" else "32-true")
    run = ENGINES[options.engine].load(graph, torch.get_num_threads(), precision)
    batches = [filled(b, options.batch).numpy() for b in held.split(options.batch)]

    def forward() -> None:
        for batch in batches:
            run([batch])

    return forward


def prediction(prepared: Prepared, source: Path, out: Path) -> Callable[[], object]:
    """`weakseg predict` of all images by a run or an exported method."""
    images = [case.image for case in prepared.cases.cases]
    return lambda: predict(source, images, out, method=METHOD, device="cpu")


def classifier(prepared: Prepared) -> Any:
    """The network that the run has trained."""
    config = prepared.config
    return load_classifier(seed_folder(prepared.run.folder, config.classifier.arch, config.seed))


def plain_script(
    prepared: Prepared, options: argparse.Namespace, folder: Path
) -> Callable[[], None]:
    """pytorch-grad-cam, scikit-image and MONAI."""
    from monai.metrics import (
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
        compute_iou,
    )
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from skimage.io import imread, imsave
    from skimage.transform import resize

    model = classifier(prepared)
    layer = model.net.get_submodule(default_layer(model, options.size))
    target = prepared.cases.labels.lesion_indices[0]
    cases = prepared.cases.cases
    folder.mkdir()

    def decode(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
        image = imread(path, as_gray=True).astype(np.float32)
        if image.max() > 1:
            image /= 255
        height, width = image.shape
        side = max(image.shape)
        top, left = ((side - n) // 2 for n in image.shape)
        square = np.zeros((side, side), dtype=np.float32)
        square[top : top + height, left : left + width] = image
        return resize(square, (options.size, options.size), order=1), (height, width)

    def run() -> None:
        cam = GradCAM(model, [layer])
        for start in range(0, len(cases), options.batch):
            some = cases[start : start + options.batch]
            squares, shapes = zip(*(decode(c.image) for c in some), strict=True)
            batch = torch.from_numpy(np.stack(squares))[:, None].float()
            maps = cam(batch, [ClassifierOutputTarget(target)] * len(some))
            for case, heat, shape in zip(some, maps, shapes, strict=True):
                if case.split != "test":
                    continue
                truth = imread(case.mask) > 0 if case.mask is not None else None
                side = max(shape)
                top, left = ((side - n) // 2 for n in shape)
                full = resize(heat, (side, side), order=1)
                mask = full[top : top + shape[0], left : left + shape[1]] > 0.5
                imsave(folder / f"{case.id}.png", mask.astype(np.uint8) * 255, check_contrast=False)
                truth = np.zeros(shape, dtype=bool) if truth is None else truth
                pair = [torch.from_numpy(m)[None, None].float() for m in (mask, truth)]
                compute_dice(*pair)
                compute_iou(*pair)
                with contextlib.redirect_stderr(None):
                    compute_hausdorff_distance(*pair, include_background=True, percentile=95)
                    compute_average_surface_distance(*pair, include_background=True, symmetric=True)
        cam.activations_and_grads.release()

    return run


def compare(prepared: Prepared, folder: Path) -> None:
    """Refuse masks of the script that are not like ours."""
    ours = prepared.run.folder / "masks" / METHOD / f"seed-{prepared.config.seed}"
    dice = []
    for case in prepared.cases.of("test"):
        a, b = (read_mask(f / f"{case.id}.png", "nonzero") for f in (ours, folder))
        if a.any() or b.any():
            dice.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    if not dice:
        raise SystemExit("all masks are empty: train for more --epochs, or take --weights")
    print(f"\nmasks of the script and ours: mean Dice {np.mean(dice):.3f} of {len(dice)}")
    if not np.mean(dice) >= ALIKE:
        raise SystemExit("the masks are not alike")


if __name__ == "__main__":
    main()
