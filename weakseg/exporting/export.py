"""``weakseg export``: a method of a run as a folder that works without PyTorch."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from weakseg.data.familiar import read_familiar
from weakseg.engines.base import EXPORTERS, TORCH
from weakseg.engines.openvino import OPENVINO as OPENVINO_ENGINE
from weakseg.engines.openvino import read
from weakseg.engines.registry import ENGINES
from weakseg.errors import ConfigError, RunError, UserError
from weakseg.exporting.about import read_about
from weakseg.exporting.description import (
    ABOUT,
    ALONE,
    ONNX,
    OPENVINO,
    OUTLINED,
    describe,
)
from weakseg.exporting.graphs import MODELS, REFUSALS
from weakseg.exporting.script import SCRIPT, USE
from weakseg.exporting.volumes import describe_volumes, file_of, refuse_volumes
from weakseg.exporting.windows import window_graphs
from weakseg.layout import images_file, masks_folder, threshold_file
from weakseg.masks.kept import read_thresholds
from weakseg.methods.find import load_method
from weakseg.methods.heatmap import HeatmapMethod
from weakseg.methods.heats import LiveHeats
from weakseg.methods.network import NetworkMethod
from weakseg.methods.network_mask import outline_of, outlines
from weakseg.progress import say
from weakseg.runs import content_hash, make_folder, open_run, write_bytes, write_json, write_text


def export(
    run: Path,
    out: Path,
    *,
    method: str | None = None,
    seed: int | None = None,
    openvino: bool = False,
) -> Path:
    """Write a method of a run as an ONNX model with all that it needs.

    Parameters
    ----------
    run : Path
    out : Path
        Gets ``model.onnx``, ``model.json``, of images ``use.py`` and, if the run knows, what its
        training images look like. Must be new or empty, or hold an earlier export.
    method, seed
        See `weakseg.methods.find.load_method`.
    openvino : bool
        Also write ``model.xml`` and ``model.bin``, OpenVINO's own files of the same model.

    Returns
    -------
    Path
        ``model.json``.

    Raises
    ------
    UserError
        For a method that is more than a network and a threshold, or without the packages that
        make graphs.
    """
    opened = open_run(run)
    sliced = bool(opened.record.get("data", {}).get("sliced", False))
    chosen = load_method(run, method, seed=seed, device="cpu", engine=TORCH)
    if isinstance(chosen, NetworkMethod) and chosen.dims == 3:
        refuse_volumes(chosen)
        _require_packages(openvino)
        _require_own(out)
        return _export_volumes(opened.folder, chosen, out, openvino)
    make = MODELS.get(type(chosen))
    if make is None:
        raise UserError(
            f"The method {chosen.name} is made of others, and is not exported.",
            where="--method",
            fix="export one that it is made of",
        )
    REFUSALS[type(chosen)](chosen)  # nobody is asked to install what would then be refused
    _require_packages(openvino)
    _require_own(out)
    model = make(chosen)
    entries = read_thresholds(threshold_file(masks_folder(opened.folder), chosen.name))
    entry: dict[str, Any] = dict(next(iter(entries.values())))
    entry = dict(entries.get(f"seed-{chosen.seeds[0]}", entry))
    heat = None
    if isinstance(chosen, HeatmapMethod) and isinstance(chosen.heats, LiveHeats):
        settings = chosen.heats.settings
        heat = {"method": settings.method, "layer": model.layer, "target": settings.target}
    limit, remembered = None, images_file(opened.folder).exists()
    if remembered:
        (limit, *_) = *read_familiar(images_file(opened.folder)).noise_limits, None
    make_folder(out)
    about = out / ABOUT
    about.unlink(missing_ok=True)  # written last: a folder with it is whole
    _clear(out)
    write_bytes(out / ONNX, model.onnx)
    if openvino:
        import openvino as ov

        ov.save_model(read(model.onnx), out / OPENVINO, compress_to_fp16=False)
    if not sliced:
        write_text(out / SCRIPT, USE)
    if remembered:
        shutil.copyfile(images_file(opened.folder), images_file(out))
    told = describe(chosen, model, entry, heat, limit, sliced=sliced)
    write_json(about, told | {"hashes": {ONNX: content_hash(model.onnx)}})
    say(f"method {chosen.name} ({chosen.choice}): {len(model.onnx) / 2**20:.1f} MiB")
    if model.alone:
        say(f"note: {ALONE}")
    if outlines(entry):
        say(f"note: {OUTLINED[outline_of(entry)]}")
    if sliced:
        say(f"note: {SCRIPT} is for images and is left out; weakseg predict takes the volumes")
    return about


def _export_volumes(run: Path, method: NetworkMethod, out: Path, openvino: bool) -> Path:
    """As `export`, of networks of whole volumes."""
    graphs = window_graphs(method)
    make_folder(out)
    about = out / ABOUT
    about.unlink(missing_ok=True)
    _clear(out)
    for k, graph in enumerate(graphs):
        write_bytes(out / file_of(k), graph)
        if openvino:
            import openvino as ov

            own = (out / file_of(k)).with_suffix(".xml")
            ov.save_model(read(graph), own, compress_to_fp16=False)
    if images_file(run).exists():
        shutil.copyfile(images_file(run), images_file(out))
    hashes = {file_of(k): content_hash(graph) for k, graph in enumerate(graphs)}
    write_json(about, describe_volumes(method) | {"hashes": hashes})
    say(f"method {method.name} ({method.choice}): {sum(map(len, graphs)) / 2**20:.1f} MiB")
    say("note: weakseg predict takes the volumes; the model itself takes a window of one")
    return about


def _require_packages(openvino: bool) -> None:
    if openvino:
        OPENVINO_ENGINE.require(where="--openvino")
    lacks = ENGINES["onnxruntime"].missing()
    if lost := [name for name in lacks if name in EXPORTERS]:
        raise ConfigError(
            "What makes ONNX models is not installed.",
            where="weakseg export",
            found=f"no package {', '.join(lost)}",
            fix=ENGINES["onnxruntime"].install,
        )


_OURS = re.compile(rf"model(-[1-9][0-9]?)?\.(onnx|xml|bin)|{SCRIPT}|{images_file(Path()).name}")
"""What an export may hold beside its description."""


def _clear(out: Path) -> None:
    """Remove an earlier export, so that nothing of it stays beside another model."""
    for path in out.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink()


def _require_own(out: Path) -> None:
    """Refuse a folder that holds anything but an export, whole or broken off."""
    if not out.is_dir():
        return
    if (out / ABOUT).exists():
        try:
            read_about(out)
            return
        except RunError:  # somebody else's, or of another version
            own = False
    else:
        own = all(_OURS.fullmatch(entry.name) for entry in out.iterdir())
    if not own:
        raise UserError(
            "The folder for the export holds something else.",
            where=str(out),
            fix="name a new folder with --out",
        )
