"""A GPU in one command: is it right, does it wait, how fast is it?

Run `python benchmarks/gpu_check.py` from the root of the checkout on a machine with a GPU; it ends
within 8 minutes, and with an error where something is not as it should be. `--quick` takes small
images, two networks and no compilation; `--device cpu --quick` runs the script itself where there
is no GPU.

- **Right.** The same weights give the same heatmaps and masks as on the processor, a training from
  the same seed the same losses, DeepMedic the same scores: within `TOLERANCES`.
- **Never waits.** Nothing in the loops over batches that are on the device, of heatmaps and of
  training steps, makes the processor wait for the device (`torch.cuda.set_sync_debug_mode`). Of the
  whole stage, which writes files, the waits are counted and printed.
- **Absolute figures.** Heatmaps and training images a second and peak memory of five networks in
  fp32 and bf16, compiled and not; images a second of the stage; DeepMedic on a whole volume.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from machine import describe_machine, print_machine, table, write_json
from torch import Tensor, nn

from weakseg.config import Config, HeatmapConfig
from weakseg.data.cases import Labels
from weakseg.data.images import read_mask
from weakseg.heatmaps.compute import explain_by_all
from weakseg.heatmaps.store import load_heatmap
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.deepmedic import DeepMedic
from weakseg.stages.heatmap_segment import heatmap_segment
from weakseg.stages.prepare import prepared_run
from weakseg.stages.train_classifier import train_classifiers
from weakseg.training.loop import compiled, pick_device

NETWORKS = ("resnet18", "resnet50", "densenet121", "squeezenet1_1", "mobilenet_v2")
LABELS = Labels(("normal",), ("tumour",))
TOLERANCES = {
    "heatmaps, fp32": 1e-3,
    "heatmaps, bf16": 0.15,
    "stage: heatmaps": 2e-3,
    "stage: 1 - Dice of masks": 0.01,
    "training losses": 0.02,
    "DeepMedic": 1e-3,
}
"""Largest differences from the processor: of maps over their largest value, of losses over
themselves, of scores over their largest; the stage's heatmaps are rounded to half precision."""

MINUTES = 8
LIMIT = MINUTES * 60 - 40
"""Seconds after which no further figure is begun."""


def main() -> None:
    """Check, measure, print, and end with an error where something is wrong."""
    options = read_options()
    warnings.filterwarnings("ignore", message=".*TensorFloat32.*")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    print_machine(describe_machine(["torch", "torchvision"]) | {"device": device_name(options)})
    started = time.monotonic()
    found: dict[str, Any] = {"device": device_name(options), "quick": options.quick}
    with tempfile.TemporaryDirectory() as folder:
        found["differences"] = differences(options, Path(folder))
    wrong = [k for k, v in found["differences"].items() if not v <= TOLERANCES[k]]  # or NaN
    print("\nDifferences from the processor\n")
    rows = [(k, f"{v:.1e}", f"{TOLERANCES[k]:.0e}") for k, v in found["differences"].items()]
    print(table(("what", "largest", "allowed"), rows))
    waits = waiting(options)
    found["waits"] = waits
    told = "not asked of a processor" if waits is None else waits or "none"
    print(f"\nWaits for the device inside the loops: {told}")
    found["stage"] = options.stage
    print(f"Stage: {options.stage}")
    figures, left_out = measure(options, started)
    found |= {"figures": figures, "left_out": left_out}
    print("\nFigures: images a second, MiB at most\n")
    header = ("network", "precision", "compiled", "heatmaps", "training", "memory")
    print(table(header, [tuple(row.values()) for row in figures]))
    found["volume"] = volume(options)
    print("\nDeepMedic on a whole volume\n")
    print(table(list(found["volume"][0]), [tuple(row.values()) for row in found["volume"]]))
    if left_out:
        print(f"\nLeft out after {LIMIT} s: {', '.join(left_out)}")
    found["seconds"] = round(time.monotonic() - started, 1)
    print(f"\n{found['seconds']} s")
    write_json(options.json, found)
    if wrong or waits:
        sys.exit(f"not as it should be: {', '.join([*wrong, *(waits or [])])}")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or, to try the script, cpu")
    parser.add_argument("--quick", action="store_true", help="small, and nothing is compiled")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    options.device = pick_device(options.device)
    options.networks = ("resnet18", "squeezenet1_1") if options.quick else NETWORKS
    options.side, options.batch = (64, 4) if options.quick else (224, 64)
    options.steps = 2 if options.quick else 10
    options.sides = (45, 40, 36) if options.quick else (240, 240, 155)
    options.stage = {}
    return options


def device_name(options: argparse.Namespace) -> str:
    """What the figures are of."""
    if options.device.startswith("cuda"):
        return torch.cuda.get_device_name(torch.device(options.device))
    return str(options.device)


# Right


def differences(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """What differs most between the processor and the device, by kind."""
    found = dict.fromkeys(TOLERANCES, 0.0)
    for name in options.networks:
        model, images, config = explained(name, options, 4)
        _, expected, _ = explain_by_all([model], LABELS, images, config)
        there = model.to(options.device)
        for precision in ("fp32", "bf16"):
            with in_precision(options.device, precision):
                _, maps, _ = explain_by_all([there], LABELS, images.to(options.device), config)
            key = f"heatmaps, {precision}"
            found[key] = max(found[key], apart(maps, expected))
    return found | of_the_stage(options, folder) | {"DeepMedic": of_a_volume(options)}


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest value."""
    return float((found.cpu().float() - expected).abs().max() / expected.abs().max())


def explained(
    name: str, options: argparse.Namespace, batch: int
) -> tuple[Any, Tensor, HeatmapConfig]:
    """A network whose normalisations have seen images, and images, on the processor."""
    torch.manual_seed(0)
    spec = ClassifierSpec(name, LABELS.names, 3)
    model = build_classifier(spec).to(memory_format=torch.channels_last)
    side = max(options.side, 64)
    images = torch.rand(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(images[:4])
    return model.eval(), images, HeatmapConfig(batch_size=batch)


@contextlib.contextmanager
def in_precision(device: str, precision: str) -> Iterator[None]:
    """fp32, or bf16 where it may be."""
    kind = torch.device(device).type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield


def experiment(device: str) -> Config:
    """A training and a stage on a small phantom."""
    return Config.model_validate(
        {
            "name": "gpu-check",
            "device": device,
            "data": {
                "image_size": 64,
                "phantom": {"patients": 10, "slices_per_patient": 8, "size": 64},
            },
            "classifier": {"epochs": 2, "batch_size": 8, "precision": "32-true"},
            "heatmap": {"batch_size": 16},
            "masks": {"rules": ["fixed"], "gate": "none"},
            "scores": {"bootstrap": 100, "floors": False},
        }
    )


def of_the_stage(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Losses of a training, and heatmaps and masks of one network, on both."""
    config, elsewhere = experiment("cpu"), experiment(options.device)
    with prepared_run(config, folder / "cpu") as prepared:
        train_classifiers(prepared)
    shutil.copytree(folder / "cpu", folder / "device")
    with prepared_run(config, folder / "cpu") as prepared:
        heatmap_segment(prepared)
    with prepared_run(elsewhere, folder / "device") as prepared:
        images = len(prepared.cases.cases)
        with counted_waits(options.device) as waits:
            start = time.perf_counter()
            heatmap_segment(prepared, force=True)
            seconds = time.perf_counter() - start
    options.stage = {"images": images, "images_per_second": round(images / seconds, 1)}
    options.stage |= {"waits": len(waits)}
    with prepared_run(elsewhere, folder / "trained") as prepared:
        train_classifiers(prepared)
    losses = [read_losses(folder / name) for name in ("cpu", "trained")]
    heat, dice = [], []
    for path in sorted((folder / "cpu/heatmaps").rglob("*.npz")):
        ours = load_heatmap(folder / "device" / path.relative_to(folder / "cpu")).raw
        theirs = load_heatmap(path).raw
        heat.append(float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-12)))
    for path in sorted((folder / "cpu/masks").rglob("*.png")):
        a, b = (
            read_mask(p, "nonzero")
            for p in (path, folder / "device" / path.relative_to(folder / "cpu"))
        )
        if a.any() or b.any():
            dice.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    return {
        "stage: heatmaps": max(heat),
        "stage: 1 - Dice of masks": 1 - float(np.mean(dice)),
        "training losses": float(np.max(np.abs(losses[0] - losses[1]) / losses[0])),
    }


def read_losses(run: Path) -> np.ndarray:
    """The mean loss of every epoch of a run's classifier."""
    (path,) = (run / "classifier").rglob("metrics.csv")
    return pd.read_csv(path)["train_loss"].to_numpy()


def deepmedic() -> DeepMedic:
    """The paper's variant in 3D, with random weights."""
    torch.manual_seed(0)
    return DeepMedic(1, 2, 3, "paper").eval()


def of_a_volume(options: argparse.Namespace) -> float:
    """Scores of a small volume."""
    net, image = deepmedic(), torch.rand(1, 1, 33, 30, 27)
    with torch.no_grad():
        expected = net.dense(image)
        found = net.to(options.device).dense(image.to(options.device))
    return apart(found, expected)


# Never waits


@contextlib.contextmanager
def counted_waits(device: str) -> Iterator[list[str]]:
    """Where the processor waits for the device; nothing is noted on a processor."""
    said: list[str] = []
    if not device.startswith("cuda"):
        yield said
        return
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield said
        said += [f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]
    finally:
        torch.cuda.set_sync_debug_mode("default")


def waiting(options: argparse.Namespace) -> list[str] | None:
    """Where the loops wait; None for a processor."""
    if not options.device.startswith("cuda"):
        return None
    said: dict[str, None] = {}
    for name in options.networks:
        works = loops(name, options, "fp32", False)
        for work in works.values():
            work()  # whatever is looked at once
            torch.cuda.synchronize()
            with counted_waits(options.device) as waits:
                work()
            said |= {f"{name}: {where}": None for where in waits}
    return list(said)


def loops(
    name: str, options: argparse.Namespace, precision: str, compile_: bool
) -> dict[str, Callable[[], None]]:
    """Heatmaps of a batch, and training steps on it, all on the device."""
    model, images, config = explained(name, options, options.batch)
    model, images = model.to(options.device), images.to(options.device)
    truth = (torch.arange(len(images)) % 2).to(options.device)
    trained = build_classifier(ClassifierSpec(name, LABELS.names, 3))
    trained.to(options.device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-4)
    run: nn.Module = compiled(trained, options.device, name) if compile_ else trained

    def heatmaps() -> None:
        with in_precision(options.device, precision):
            explain_by_all([model], LABELS, images, config)

    def training() -> None:
        optimizer.zero_grad(set_to_none=True)
        with in_precision(options.device, precision):
            loss = nn.functional.cross_entropy(run(images).float(), truth)
        loss.backward()
        optimizer.step()

    return {"heatmaps": heatmaps, "training": training}


# Absolute figures


def measure(options: argparse.Namespace, started: float) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of figures, and what was left out for lack of time."""
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    for compile_ in (False,) if options.quick else (False, True):
        for name in options.networks:
            for precision in ("fp32", "bf16"):
                which = f"{name} {precision}{' compiled' if compile_ else ''}"
                if time.monotonic() - started > LIMIT:
                    left_out.append(which)
                    continue
                reset_memory(options.device)
                works = loops(name, options, precision, compile_)
                rows.append(
                    {
                        "network": name,
                        "precision": precision,
                        "compiled": compile_,
                        # Heatmaps run the network with hooks, and are never compiled.
                        "heatmaps": "" if compile_ else per_second(works["heatmaps"], options),
                        "training": per_second(works["training"], options),
                        "memory": peak_memory(options.device),
                    }
                )
    return rows, left_out


def per_second(work: Callable[[], None], options: argparse.Namespace) -> float:
    """Images a second, after two rounds that warm up."""
    for _ in range(2):
        work()
    wait(options.device)
    start = time.perf_counter()
    for _ in range(options.steps):
        work()
    wait(options.device)
    return round(options.steps * options.batch / (time.perf_counter() - start), 1)


def volume(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds and memory of DeepMedic on a whole volume."""
    rows = []
    net = deepmedic().to(options.device)
    image = torch.rand(1, 1, *options.sides).to(options.device)
    for precision in ("fp32", "bf16"):
        reset_memory(options.device)
        with torch.no_grad(), in_precision(options.device, precision):
            net.dense(image[:, :, :33, :30, :27])
            wait(options.device)
            start = time.perf_counter()
            net.dense(image)
            wait(options.device)
        rows.append(
            {
                "voxels": "x".join(map(str, options.sides)),
                "precision": precision,
                "seconds": round(time.perf_counter() - start, 2),
                "memory": peak_memory(options.device),
            }
        )
    return rows


def wait(device: str) -> None:
    """Until the device has done all that it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(torch.device(device))


def reset_memory(device: str) -> None:
    """Forget how much the device held at most."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(torch.device(device))


def peak_memory(device: str) -> str:
    """MiB that the device held at most; nothing of a processor."""
    if not device.startswith("cuda"):
        return ""
    return f"{torch.cuda.max_memory_allocated(torch.device(device)) / 2**20:.0f}"


if __name__ == "__main__":
    main()
