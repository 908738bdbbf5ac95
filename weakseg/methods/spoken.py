"""Methods as people say them: "Grad-CAM with Otsu's threshold" is ``gradcam-otsu`` in files."""

from __future__ import annotations

from collections.abc import Mapping

from weakseg.config import Config
from weakseg.masks.rules import RULES
from weakseg.models.segmenters import SEGMENTERS

HEATMAPS = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "hirescam": "HiResCAM",
    "xgradcam": "XGrad-CAM",
    "layercam": "LayerCAM",
    "gradcam-elementwise": "elementwise Grad-CAM",
    "eigengradcam": "Eigen-Grad-CAM",
    "eigencam": "Eigen-CAM",
    "shapleycam": "ShapleyCAM",
    "scorecam": "Score-CAM",
    "ablationcam": "Ablation-CAM",
    "fullgrad": "FullGrad",
    "occlusion": "occlusion",
    "relevance": "the relevance map",
}
"""Formula of a heatmap → its name in the literature."""
_FLOORS = {
    "floor-everything": "the whole of every image",
    "floor-ellipse": "an ellipse in the middle of every image",
    "floor-k-means-brightest": "the brightest of four k-means clusters of every image",
    "floor-k-means-darkest": "the darkest of four k-means clusters of every image",
    "floor-fuzzy-c-means-brightest": "the brightest of four fuzzy clusters of every image",
    "floor-fuzzy-c-means-darkest": "the darkest of four fuzzy clusters of every image",
    "floor-region-growing": "what grows from the brightest part of every image",
    "floor-watershed": "the watershed around the brightest part of every image",
    "floor-chan-vese": "a contour without edges around the brightest part of every image",
    "floor-snake": "a geodesic contour around the brightest part of every image",
}


def heatmap_method_name(config: Config, method: str) -> str:
    """A heatmap and a rule."""
    heatmap, rule = config.heatmap_methods[method]
    return f"{_heatmap(config, heatmap)} with {RULES[rule].spoken}"


def _heatmap(config: Config, name: str) -> str:
    formula = config.all_heatmaps[name].method
    said = HEATMAPS.get(formula, formula)
    return said if name == formula else f"{said} ({name})"


def network_name(config: Config, name: str, taught_by: str | None) -> str:
    """A network, and whose masks it was trained on where these are not the manifest's.

    Two networks of one architecture are told apart by their names in the experiment.
    """
    archs = [arch for arch, _ in config.segmenters[name].kinds]
    said = " and ".join(_network(arch) for arch in archs)
    said = said if name in (archs[0], archs[0].partition(":")[0]) else f"{said} ({name})"
    return said if taught_by is None else f"{said} trained on the masks of {taught_by}"


def _network(arch: str) -> str:
    base, _, backbone = arch.partition(":")
    said = SEGMENTERS[base].spoken if base in SEGMENTERS else base
    return said + (f" with {backbone}" if backbone else "")


def floor_name(name: str) -> str:
    """A trivial floor, to stand after "marking"; what is none stays as it is."""
    if name in _FLOORS:
        return _FLOORS[name]
    kind, _, share = name.removeprefix("floor-").partition("-")
    if name.startswith("floor-") and kind in ("brightest", "darkest") and share.isdigit():
        return f"the {kind} {share}\N{NO-BREAK SPACE}% of every image"
    return name


def why_left_out(lost: Mapping[str, Mapping[int, str]], seeds: Mapping[str, int]) -> dict[str, str]:
    """Why methods made no masks, in words.

    Parameters
    ----------
    lost : mapping
        Method → seed → why.
    seeds : mapping
        Method → how many seeds its heatmap has; seeds are named where not all came to the same.

    Returns
    -------
    dict
        Method → the reason.
    """
    words = {}
    for method, reasons in lost.items():
        parts = []
        for why in dict.fromkeys(reasons.values()):
            of = [str(s) for s, w in reasons.items() if w == why]
            named = f" (seed{'s' if len(of) > 1 else ''} {', '.join(of)})"
            parts.append(why if len(of) == seeds[method] else why + named)
        words[method] = "; ".join(parts)
    return words
