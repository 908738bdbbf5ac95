"""Heatmaps: weakseg's class activation maps beside other libraries', in one process, in turns.

Run `python benchmarks/heatmaps.py` from the root of the checkout, after
`uv sync --group bench`; `--help` lists the options.

Every library explains the same class of the same images at the same layer, one batch at a time,
and delivers maps of the images' own size. *Forward* is the network alone, without a graph, in the
same precision and memory format as weakseg's. weakseg is measured by torch and by every engine that
is installed and computes in the precision. The script ends with an error where a library's map
over its own maximum differs from ours by `TOLERANCE` or more (fp32).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import statistics
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import Spread, describe_machine, print_machine, spread
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from weakseg.engines.graph import onnx_of
from weakseg.engines.registry import ENGINES
from weakseg.heatmaps.cam import cams
from weakseg.heatmaps.fuse import on_grid

LAYERS = {
    "resnet18": "layer4",
    "resnet50": "layer4",
    "vgg16": "features.29",
    "densenet121": "features.denseblock4",
    "squeezenet1_1": "features.12",
    "mobilenet_v2": "features.18",
}
"""The last map of each network. Of DenseNet it is the one before `norm5`, since torchvision's
in-place ReLU behind `norm5` changes what the other libraries record there."""

CLASSES = 10
TOLERANCE = 1e-3
Explain = Callable[[Tensor], Any]


class Timing(NamedTuple):
    """One library on one network."""

    network: str
    library: str
    engine: str
    images_per_second: Spread
    ratio_to_forward: Spread
    difference: float | None


def main() -> None:
    """Measure, print the table, and write it where it was asked for."""
    options = read_options()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    packages = ("torch", "torchvision", *options.libraries)
    packages += tuple(e for e in options.engines if e in ENGINES)
    print_machine(describe_machine(packages) | {"precision": options.precision})
    print(f"{options.size}² pixels, batches of {options.batch}, {options.repeats} repeats\n")
    print(
        "| network | library | engine | images/s | of the forward pass | ours is faster by "
        "| difference |"
    )
    print("|---|---|---|---|---|---|---|")
    rows: list[Timing] = []
    for name in options.networks:
        rows += measure(name, options)
        gc.collect()
    if options.json is not None:
        options.json.write_text(json.dumps([as_record(r, options) for r in rows], indent=2) + "\n")
    apart = [d for r in rows if (d := r.difference) is not None and not d < TOLERANCE]  # or NaN
    if options.precision == "fp32" and apart:
        raise SystemExit(f"maps differ by {', '.join(f'{d:.1e}' for d in apart)}")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--method", default="gradcam", help="of ours; others always do Grad-CAM")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=16, help="images in a batch")
    parser.add_argument("--repeats", type=int, default=7, help="timed batches of each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    installed = [e.name for e in ENGINES.values() if not e.missing()]
    parser.add_argument(
        "--engines", nargs="*", default=installed, choices=list(ENGINES), help="beside torch"
    )
    parser.add_argument(
        "--libraries", nargs="*", default=list(OTHERS), choices=list(OTHERS), help="the others"
    )
    parser.add_argument("--only-ours", action="store_true", help="no other library")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    if options.only_ours:
        options.libraries = []
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    return options


def measure(name: str, options: argparse.Namespace) -> list[Timing]:
    """All libraries on one network, in turns, after a warm-up that compares their maps."""
    torch.manual_seed(0)
    model = models.get_model(name, weights=None, num_classes=CLASSES).eval()
    if name.startswith("squeezenet"):  # as weakseg builds it: see weakseg.models.classifiers
        model.classifier[2] = nn.Identity()
    images = torch.rand(options.batch, 3, options.size, options.size)
    # Each has a copy of its own: some leave hooks behind, which would slow the others down.
    fast_model = deepcopy(model).to(memory_format=torch.channels_last)
    fast = images.to(memory_format=torch.channels_last)
    k = hottest_class(fast_model, fast_model.get_submodule(LAYERS[name]), fast)
    precise = contextlib.nullcontext
    if options.precision == "bf16":
        precise = partial(torch.autocast, "cpu", dtype=torch.bfloat16)

    def forward() -> Tensor:
        with torch.inference_mode(), precise():
            return fast_model(fast)

    def ours() -> Tensor:
        target = fast_model.get_submodule(LAYERS[name])
        with precise():
            (maps,), _ = cams(fast_model, [target], fast, (k,), method=options.method)
        return on_grid(maps.clamp_min(0), images.shape[2:])

    runs: dict[str, Callable[[], Any]] = {"forward": forward, "weakseg": ours}
    for engine in options.engines:
        if options.precision in ENGINES[engine].precisions:
            explain = by_engine(model, name, k, images, engine, options)
            runs[f"weakseg/{engine}"] = partial(explain, fast)
    for lib in options.libraries:
        copy = deepcopy(model)
        runs[lib] = partial(OTHERS[lib](copy, copy.get_submodule(LAYERS[name]), k), images)
    results = {lib: run() for lib, run in runs.items()}
    times: dict[str, list[float]] = {lib: [] for lib in runs}
    for _ in range(options.repeats):
        for lib, run in runs.items():
            gc.collect()
            start = time.perf_counter()
            run()
            times[lib].append(time.perf_counter() - start)
    rows = []
    for lib, taken in times.items():
        speed = spread([options.batch / t for t in taken])
        ratio = spread([f / t for f, t in zip(times["forward"], taken, strict=True)])
        differs = None if lib == "forward" else difference(results[lib], results["weakseg"])
        library, _, engine = lib.partition("/")
        rows.append(Timing(name, library, engine or "torch", speed, ratio, differs))
        gain = statistics.median(t / o for t, o in zip(taken, times["weakseg"], strict=True))
        shown = "" if differs is None else f"{differs:.0e}"
        print(
            f"| {name} | {library} | {engine or 'torch'} | {speed:.1f} | {ratio:.2f} | {gain:.2f} "
            f"| {shown} |",
            flush=True,
        )
    return rows


def difference(found: Any, ours: Tensor) -> float:
    """The largest difference of two maps over their own ranges, as the libraries scale them."""
    other = torch.as_tensor(np.asarray(found), dtype=torch.float32).reshape(ours.shape)
    return float((over_range(ours) - over_range(other)).abs().max())


def over_range(maps: Tensor) -> Tensor:
    """Maps from 0 to 1."""
    low, top = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / torch.where(top > low, top - low, 1)


def hottest_class(model: nn.Module, layer: nn.Module, images: Tensor) -> int:
    """The class whose maps have the most heat, so that there is something to compare."""
    heat = [cams(model, [layer], images[:2], (k,))[0][0].clamp_min(0).sum() for k in range(CLASSES)]
    return int(torch.stack(heat).argmax())


def by_engine(
    model: nn.Module, name: str, k: int, images: Tensor, engine: str, options: argparse.Namespace
) -> Explain:
    """weakseg by another engine: network and heatmap in one graph."""
    copy = deepcopy(model)
    layer = copy.get_submodule(LAYERS[name])

    def explain(batch: Tensor) -> list[Tensor]:
        return cams(copy, [layer], batch, (k,), method=options.method)[0]

    explain(images[:1])  # where the map is, is looked for before anything is recorded
    graph = onnx_of(explain, [images], ["images"], ["heat"], what=name)
    run = ENGINES[engine].load(graph, options.threads, options.precision)

    def deliver(batch: Tensor) -> Tensor:
        (heat,) = run([batch.numpy()])
        return on_grid(torch.from_numpy(heat).clamp_min(0), batch.shape[2:])

    return deliver


def by_grad_cam(model: nn.Module, layer: nn.Module, k: int) -> Explain:
    """pytorch-grad-cam, as its README shows it."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = GradCAM(model, [layer])
    return lambda images: cam(images, [ClassifierOutputTarget(k)] * len(images))


def by_torchcam(model: nn.Module, layer: nn.Module, k: int) -> Explain:
    """torchcam."""
    from torchcam.methods import GradCAM

    cam = GradCAM(model, layer)

    def explain(images: Tensor) -> Tensor:
        (maps,) = cam([k] * len(images), model(images))
        return on_grid(maps.detach(), images.shape[2:])

    return explain


def by_captum(model: nn.Module, layer: nn.Module, k: int) -> Explain:
    """captum's LayerGradCam."""
    from captum.attr import LayerGradCam

    cam = LayerGradCam(model, layer)

    def explain(images: Tensor) -> Tensor:
        found = cam.attribute(images, target=k, relu_attributions=True)
        return F.interpolate(found.detach(), images.shape[2:], mode="bilinear")[:, 0]

    return explain


def by_monai(model: nn.Module, layer: nn.Module, k: int) -> Explain:
    """MONAI's GradCAM, without the inversion that its default postprocessing does."""
    from monai.visualize import GradCAM

    name = next(n for n, m in model.named_modules() if m is layer)
    cam = GradCAM(model, name, postprocessing=lambda maps: maps)
    return lambda images: cam(images, class_idx=k).detach()


OTHERS: dict[str, Callable[[nn.Module, nn.Module, int], Explain]] = {
    "grad-cam": by_grad_cam,
    "torchcam": by_torchcam,
    "captum": by_captum,
    "monai": by_monai,
}


def as_record(row: Timing, options: argparse.Namespace) -> dict[str, Any]:
    """A row as JSON holds it."""
    return {
        "network": row.network,
        "library": row.library,
        "engine": row.engine,
        "images_per_second": row.images_per_second.median,
        "ratio_to_forward": row.ratio_to_forward.median,
        "ratio_range": [row.ratio_to_forward.low, row.ratio_to_forward.high],
        "precision": options.precision,
        "difference": row.difference,
    }


if __name__ == "__main__":
    main()
