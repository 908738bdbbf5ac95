"""Methods as people say them: "Grad-CAM with Otsu's threshold" is ``gradcam-otsu`` in files."""

from __future__ import annotations

from weakseg.config import Config
from weakseg.config.segmenter import MANIFEST

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
}
"""Formula of a heatmap → its name in the literature."""
RULES = {
    "fixed": "a fixed threshold",
    "otsu": "Otsu's threshold",
    "quantile": "the hottest part of each image",
    "area-prior": "an assumed lesion area",
    "random-walker": "a random walk on the image",
    "two-tone": "the bright or dark part of its warm region",
    "grown": "region growing",
    "geodesic": "geodesic growing",
    "superpixel": "superpixels",
    "crf": "a conditional random field",
    "affinity": "learnt affinities",
    "hypercolumn": "a classifier of superpixels",
    "random-forest": "a random forest",
    "train-quantile": "one threshold from unmasked training images",
    "validation": "a threshold chosen on validation masks",
    "oracle-dataset": "the best threshold for all test masks (upper bound)",
    "oracle-image": "the best threshold for each test mask (upper bound)",
}
"""Rule → what follows "with"."""
NETWORKS = {
    "unet": "U-Net",
    "unet-original": "U-Net as published",
    "encoder-unet": "U-Net on a classifier",
    "fcn32s": "FCN-32s",
    "fcn16s": "FCN-16s",
    "fcn8s": "FCN-8s",
    "fcn_resnet50": "FCN on ResNet-50",
    "deeplabv3_resnet50": "DeepLabv3 on ResNet-50",
    "deepmedic": "DeepMedic",
    "deepmedic-release": "DeepMedic as first released",
    "deepmedic-latest": "DeepMedic as last released",
}
"""Architecture → its name in the literature."""
_FLOORS = {
    "floor-everything": "the whole of every image",
    "floor-ellipse": "an ellipse in the middle of every image",
}


def spoken_name(config: Config, method: str) -> str:
    """A method, or a trivial floor, as people say it.

    Parameters
    ----------
    config : Config
        The experiment that it is of.
    method : str
        As tables and folders name it. What the experiment does not know stays as it is.

    Returns
    -------
    str
        To stand as the subject of a sentence; of a floor, to stand after "marking".
    """
    if method in config.heatmap_methods:
        heatmap, rule = config.heatmap_methods[method]
        return f"{_heatmap(config, heatmap)} with {RULES.get(rule, f'the rule {rule}')}"
    if method in config.segmenters:
        return _network(config, method)
    if method in config.consensus:
        members = config.consensus[method].methods
        return f"the agreement of {len(members)} methods ({method})"
    return _floor(method)


def _heatmap(config: Config, name: str) -> str:
    formula = config.all_heatmaps[name].method
    said = HEATMAPS.get(formula, formula)
    return said if name == formula else f"{said} ({name})"


def _network(config: Config, name: str) -> str:
    """Two networks of one architecture are told apart by their names in the experiment."""
    settings = config.segmenters[name]
    arch, _, backbone = settings.arch.partition(":")
    said = NETWORKS.get(arch, arch) + (f" with {backbone}" if backbone else "")
    said = said if name in (arch, settings.arch) else f"{said} ({name})"
    if settings.masks == MANIFEST:
        return said
    taught_by = spoken_name(config, settings.masks)
    return f"{said} trained on the masks of {taught_by}"


def _floor(name: str) -> str:
    if name in _FLOORS:
        return _FLOORS[name]
    kind, _, share = name.removeprefix("floor-").partition("-")
    if name.startswith("floor-") and kind in ("brightest", "darkest") and share.isdigit():
        return f"the {kind} {share}\N{NO-BREAK SPACE}% of every image"
    return name
