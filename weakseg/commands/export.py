"""``weakseg export``: a method without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    out: Annotated[
        Path, typer.Option("--out", help="The model's folder: new, empty, or of an earlier export.")
    ],
    method: Annotated[
        str | None, typer.Option("--method", help="As in the report. [default: as of predict]")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="[default: as of predict]")] = None,
    openvino: Annotated[
        bool, typer.Option("--openvino", help="Also write OpenVINO's own files.")
    ] = False,
) -> None:
    """Export a method as an ONNX model.

    Of images with preprocessing, heatmap or network, threshold, dropping of parts and gate
    inside, a description, and a script that needs no PyTorch; `weakseg predict DIR IMAGES` runs
    it. Of slices and volumes there is no script, and of 3D segmenters the network alone is
    inside; `weakseg predict DIR VOLUMES` does the rest. For research only.
    """
    from weakseg.exporting.export import export as write

    print(write(run, out, method=method, seed=seed, openvino=openvino))
