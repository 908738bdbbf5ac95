"""Training a classifier: weakseg's loop beside two that one would write by hand, in turns.

Run `python benchmarks/training.py` from the root of the checkout; `--help` lists the options.

- *plain*: images and labels in memory as tensors, the same augmentation on whole batches, the same
  network, memory format, optimiser, schedule, validation by AUC after every epoch, weights saved
  at the end. No checkpoints to go on from, no progress, no choice of the best epoch.
- *loader*: a `DataLoader` that decodes every image in every epoch and augments it by itself with
  torchvision's transforms, as most tutorials have it.

With ``--compile`` the other loops are left out, and weakseg trains with ``classifier.compile`` and
without: the first epoch, in which the network is compiled, and the others.

All train on the same slices of the phantom. The script ends with an error where weakseg and
*plain*, which draw the same random numbers, change the weights differently.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import Spread, describe_machine, print_machine, spread
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from weakseg.config import ClassifierConfig, DataConfig, PhantomConfig
from weakseg.data.arrays import ImageBatches
from weakseg.data.augment import augment
from weakseg.data.cases import CaseSet
from weakseg.data.manifest import read_manifest
from weakseg.data.mapped import MappedStore
from weakseg.data.phantom import write_phantom
from weakseg.data.splits import make_splits
from weakseg.models.classifiers import Classifier, ClassifierSpec, build_classifier
from weakseg.training.classify import ClassifierTask, class_weights
from weakseg.training.loop import FitSettings, fit, make_fabric, seed_epoch
from weakseg.training.optimizers import learning_rate, make_optimizer

RATE = 1e-3
ALIKE = 0.99
"""AdamW makes a whole step of the smallest gradient, whose sign is rounding: not all are equal."""


def main() -> None:
    """Measure, print the table, and write it where it was asked for."""
    options = read_options()
    print_machine(describe_machine(["torch", "torchvision", "lightning"]) | {"precision": "fp32"})
    if options.compile:
        with tempfile.TemporaryDirectory() as folder:
            found = measure_compiled(options, Path(folder))
        print("\n| | first epoch, s | another, s | images/s |\n|---|---|---|---|")
        for row in found:
            print(f"| {row['loop']} | {row['first']:.1f} | {row['other']} | {row['speed']:.1f} |")
        if options.json is not None:
            options.json.write_text(json.dumps(found, indent=2) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options, Path(folder))
    print("\n| | images/s | ours is faster by |\n|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['speed']:.1f} | {row['ratio']:.3f} |")
    if options.json is not None:
        records = [
            {"loop": name, "images_per_second": r["speed"].median, "ratio": r["ratio"].median}
            | {"ratio_range": [r["ratio"].low, r["ratio"].high]}
            for name, r in rows.items()
        ]
        options.json.write_text(json.dumps(records, indent=2) + "\n")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="processes of the loader")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile instead")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    return options


def prepare(options: argparse.Namespace, folder: Path) -> tuple[CaseSet, DataConfig]:
    """The phantom, dealt out."""
    phantom = PhantomConfig(patients=options.patients, size=options.size)
    data = DataConfig(image_size=options.size)
    manifest = write_phantom(folder / "phantom", phantom)
    cases = read_manifest(manifest, data)
    return cases.with_cases(make_splits(cases.cases, cases.labels, data.split)), data


def measure_compiled(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Seconds of the first epoch and of the others, compiled and not."""
    cases, data = prepare(options, folder)
    epochs = max(options.epochs, 3)
    rows = []
    for loop, compiled in (("weakseg", False), ("weakseg, compiled", True)):
        config = ClassifierConfig(arch=options.arch, epochs=epochs, lr=RATE, compile=compiled)
        ends = [time.perf_counter()]

        def note(_: int, ends: list[float] = ends) -> None:
            ends.append(time.perf_counter())

        by_weakseg(cases, data, config, folder / loop, options, note)
        trained = len(of_split(cases, "train")) // config.batch_size * config.batch_size
        each = np.diff(ends)
        other = spread(each[1:].tolist())
        speed = trained / other.median
        rows.append({"loop": loop, "first": float(each[0]), "other": other, "speed": speed})
    return rows


def measure(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, Spread]]:
    """Time each loop in turns; the first round warms up and is not counted."""
    cases, data = prepare(options, folder)
    config = ClassifierConfig(arch=options.arch, epochs=options.epochs, lr=RATE)
    trained = len([c for c in cases.cases if c.split == "train"]) // config.batch_size
    images = trained * config.batch_size * options.epochs
    loops: dict[str, Callable[..., Classifier]] = {
        "weakseg": by_weakseg,
        "plain": by_hand,
        "loader": by_loader,
    }
    times: dict[str, list[float]] = {name: [] for name in loops}
    ends: dict[str, Classifier] = {}
    for turn in range(options.repeats + 1):
        for name, loop in loops.items():
            gc.collect()
            start = time.perf_counter()
            ends[name] = loop(cases, data, config, folder / f"{name}-{turn}", options)
            times[name] += [time.perf_counter() - start] if turn else []
    start = network(cases, config)
    same = alike(start, ends["weakseg"], ends["plain"])
    print(f"changes of the weights by weakseg and plain: cosine {same:.4f}")
    if same < ALIKE:
        raise SystemExit("the two loops do not do the same work")
    return {
        name: {
            "speed": spread([images / t for t in taken]),
            "ratio": spread([t / o for t, o in zip(taken, times["weakseg"], strict=True)]),
        }
        for name, taken in times.items()
    }


def alike(start: nn.Module, one: nn.Module, other: nn.Module) -> float:
    """The cosine between what two trainings did to a network."""
    with torch.no_grad():
        changes = [
            torch.cat(
                [(b - a).flatten() for a, b in zip(start.parameters(), m.parameters(), strict=True)]
            )
            for m in (one, other)
        ]
    return float(F.cosine_similarity(*changes, dim=0))


def network(cases: CaseSet, config: ClassifierConfig) -> Classifier:
    """The network at the beginning, the same for every loop."""
    torch.manual_seed(0)
    model = build_classifier(ClassifierSpec(config.arch, cases.labels.names, 1))
    return model.to(memory_format=torch.channels_last)


def of_split(cases: CaseSet, split: str) -> list[int]:
    """The numbers of a split's cases."""
    return [i for i, c in enumerate(cases.cases) if c.split == split]


def by_weakseg(
    cases: CaseSet,
    data: DataConfig,
    config: ClassifierConfig,
    folder: Path,
    options: Any,
    after_epoch: Callable[[int], None] | None = None,
) -> Classifier:
    """As `weakseg train-classifier` trains."""
    folder.mkdir(parents=True)
    images = ImageBatches(cases.cases, data, 1, MappedStore(folder))
    fabric = make_fabric("cpu", "32-true")
    train, val = of_split(cases, "train"), of_split(cases, "val")
    task = ClassifierTask(config, cases.labels, images, train, val, 0, fabric.device)
    settings = FitSettings(
        config.epochs, config.optimizer, RATE, config.weight_decay, config.warmup, 0, "val_auc",
        compile=config.compile,
    )  # fmt: skip
    model = network(cases, config)
    fit(
        model, task, settings, folder, fabric,
        key="benchmark", metadata={}, what="weakseg", after_epoch=after_epoch,
    )  # fmt: skip
    return model


def by_hand(
    cases: CaseSet, data: DataConfig, config: ClassifierConfig, folder: Path, options: Any
) -> Classifier:
    """A plain loop over tensors in memory."""
    images = torch.stack([as_tensor(c.image, data.image_size) for c in cases.cases]).half()
    labels = torch.tensor([cases.labels.index(c.label) for c in cases.cases])
    train, val = torch.tensor(of_split(cases, "train")), torch.tensor(of_split(cases, "val"))
    weights = class_weights(labels[train].numpy(), len(cases.labels.names), config.class_weights)
    model = network(cases, config)
    optimizer = make_optimizer(model, config.optimizer, RATE, config.weight_decay)
    steps = len(train) // config.batch_size
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda k: learning_rate(k, steps * config.epochs, config.warmup, "cosine"),
    )
    for epoch in range(config.epochs):
        order = torch.randperm(len(train), generator=seed_epoch(0, epoch))
        model.train()
        for k in range(steps):
            chosen = train[order[k * config.batch_size : (k + 1) * config.batch_size]]
            batch = augment(images[chosen].float(), config.augment)
            logits = model(batch.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(
                logits, labels[chosen], weight=weights, label_smoothing=config.label_smoothing
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        validate(model, images[val].float(), labels[val], config.batch_size)
    folder.mkdir()
    torch.save(model.state_dict(), folder / "weights.pt")
    return model


def as_tensor(path: Path, size: int) -> Tensor:
    """A grey image in [0, 1], centred in a square, (1, size, size)."""
    image = np.asarray(Image.open(path), dtype=np.float32) / 255
    return v2.functional.center_crop(torch.from_numpy(image)[None], [size, size])


def validate(model: nn.Module, images: Tensor, labels: Tensor, batch: int) -> float:
    """AUC of the validation images."""
    model.eval()
    with torch.no_grad():
        parts = images.contiguous(memory_format=torch.channels_last).split(2 * batch)
        p = torch.cat([model(part) for part in parts]).softmax(1)
    return float(roc_auc_score(labels.numpy(), p[:, 1].numpy()))


class Slices(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images decoded when they are asked for, each augmented by itself."""

    def __init__(
        self, cases: CaseSet, config: ClassifierConfig, chosen: list[int], size: int
    ) -> None:
        self.cases, self.chosen = cases, chosen
        a = config.augment
        self.transform = v2.Compose(
            [
                v2.ToImage(),
                v2.CenterCrop(size),  # which pads what is smaller
                v2.ToDtype(torch.float32, scale=True),
                v2.RandomHorizontalFlip(),
                v2.RandomAffine(
                    a.rotate, (a.shift, a.shift), (1 - a.zoom, 1 + a.zoom),
                    interpolation=v2.InterpolationMode.BILINEAR,
                ),
                v2.ColorJitter(a.brightness, a.contrast),
            ]
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, k: int) -> tuple[Tensor, int]:
        case = self.cases.cases[self.chosen[k]]
        return self.transform(Image.open(case.image)), self.cases.labels.index(case.label)


def by_loader(
    cases: CaseSet, data: DataConfig, config: ClassifierConfig, folder: Path, options: Any
) -> Classifier:
    """A loop with a `DataLoader`."""
    train = torch.utils.data.DataLoader(
        Slices(cases, config, of_split(cases, "train"), data.image_size),
        batch_size=config.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    val = [cases.cases[i] for i in of_split(cases, "val")]
    model = network(cases, config)
    optimizer = make_optimizer(model, config.optimizer, RATE, config.weight_decay)
    total = config.epochs * len(train)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: 0.5 * (1 + math.cos(math.pi * k / total))
    )
    for _ in range(config.epochs):
        model.train()
        for batch, labels in train:
            logits = model(batch.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        images = torch.stack([as_tensor(c.image, data.image_size) for c in val])
        truth = torch.tensor([cases.labels.index(c.label) for c in val])
        validate(model, images, truth, config.batch_size)
    folder.mkdir()
    torch.save(model.state_dict(), folder / "weights.pt")
    return model


if __name__ == "__main__":
    main()
