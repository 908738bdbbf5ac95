"""What is refused before anything is made: settings and data that would fail hours later."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weakseg.config import Config, HeatmapConfig
from weakseg.config.volume_archs import flat_arch, is_deep
from weakseg.data.cases import Labels
from weakseg.data.check import Findings, check_table, format_problems
from weakseg.data.formats.registry import formats_of_dims
from weakseg.data.manifest import Table
from weakseg.errors import ConfigError, DataError, count
from weakseg.layout import classifier_stage, segmenter_stage
from weakseg.methods.classifiers import prepared_spec
from weakseg.methods.outside import needs_weights
from weakseg.methods.prepared import Prepared
from weakseg.progress import progress, say

COARSE = 4
"""Rows and columns of a heatmap below which it is said that it hardly shows where."""


def check_settings(
    config: Config,
    labels: Labels,
    channels: int,
    dims: int = 2,
    made: Mapping[str, Any] | None = None,
) -> None:
    """Refuse settings that would fail later, after hours of work.

    Only the segmenters are looked at where there is no classifier of such cases. Weights that
    networks of the run began with may have gone: ``made`` are the stages of its record.

    Raises
    ------
    ConfigError
        For an unknown network, heatmap method, layer or target, or a device that is not there.
    UserError
        For weights that cannot be read or belong to another network.
    """
    from weakseg.heatmaps.by_engine import check_engine, refuse_volumes
    from weakseg.heatmaps.cam import LAYERLESS, check_method
    from weakseg.heatmaps.explaining import target_classes
    from weakseg.models.classifiers import build_classifier
    from weakseg.models.layers import named_layers
    from weakseg.training.beginning import new_classifier, spec_of
    from weakseg.training.loop import pick_device

    made = made or {}
    _check_segmenters(config, channels, dims, made)
    c = config.classifier
    if formats_of_dims(dims).further and config.data.window != "auto":
        _check_window_of_volumes(config, labels, dims)
    if dims < c.dims:
        raise ConfigError(
            f"{c.arch} is a classifier of volumes, and these are images.",
            where="classifier.arch",
            found=f"{c.arch}, and a manifest of images or slices",
            fix=f"set classifier.arch: {flat_arch(c.arch)}, or list whole volumes",
        )
    if dims > c.dims or not labels.healthy:
        return
    device = pick_device(config.device)
    if dims == 3:
        refuse_volumes(config.engine, c.arch)
    for name, heat in config.all_heatmaps.items():
        where = "heatmap" if name not in config.heatmaps else f"heatmaps.{name}"
        check_method(heat.method, where=f"{where}.method")
        check_engine(config.engine, heat, device, config.heatmap_precision(name))
        target_classes(heat.target, labels, where=f"{where}.target")
        for rule in config.rules_of(name):
            rule.require()
    if config.filtered is not None:
        with _told_of("filtered.rule"):
            config.filtered.rule.require()
        if config.filtered.target not in ("same", "predicted"):
            target_classes(config.filtered.target, labels, where="filtered.target")
    if dims == 3:  # some ways of looking there are of flat images alone
        _check_heatmaps_of_volumes(config)
    spec = spec_of(c, labels, channels)
    model = build_classifier(spec)
    if model.spec.grey_input != c.grey_input:
        say(
            f"{c.arch} takes grey images repeated (classifier.grey_input: repeat): summed "
            "first-layer weights would be another function"
        )
    for name, heat in config.all_heatmaps.items():
        layers = list[str]()
        if heat.method not in LAYERLESS:
            layers = list(named_layers(model, heat.layer, config.data.image_size))
        _check_fusion(
            heat, layers, "heatmap" if name not in config.heatmaps else f"heatmaps.{name}"
        )
    if needs_weights(made, [classifier_stage(c.arch, s) for s in config.seeds], c.weights):
        new_classifier(c, spec, 0)


def _check_fusion(heat: HeatmapConfig, layers: list[str], where: str) -> None:
    """Refuse layers that labels weigh where there are none to weigh, and weights of other layers.

    ``layers`` is empty for methods of no layer.
    """
    if heat.fusion == "labels" and len(layers) < 2:
        one = f"the one layer {layers[0]}" if layers else f"{heat.method}, which is of no layer"
        raise ConfigError(
            "fusion: labels weighs the maps of several layers.",
            where=f"{where}.fusion",
            found=one,
            fix=f"set {where}.layer: fused, or name several; or {where}.fusion: mean"
            if layers
            else f"set {where}.fusion: mean, or {where}.method: layercam",
        )
    if heat.weights is not None and len(heat.weights) != len(layers):
        raise ConfigError(
            "There are not as many weights as layers.",
            where=f"{where}.weights",
            found=f"{len(heat.weights)} weights for {len(layers)} layers",
            expected=f"one for each of {', '.join(layers)}",
            fix="name as many, or leave weights out: they are learnt",
        )


def _check_window_of_volumes(config: Config, labels: Labels, dims: int) -> None:
    """Refuse a window that nothing sees: of whole volumes a classifier of volumes does."""
    if dims != config.classifier.dims or not labels.healthy:
        raise ConfigError(
            "A window of whole volumes is for their classifier, and there is none; segmenters "
            "normalise them by mean and sd.",
            where="data.window",
            found=str(config.data.window),
            fix="take it out, set classifier.arch to a classifier of volumes such as "
            "mil:resnet18, or list slices in a column `slice`",
        )
    if config.segmenters:
        say("data.window counts for the classifier; segmenters of whole volumes go by mean and sd")


def _check_heatmaps_of_volumes(config: Config) -> None:
    """Refuse heatmaps that there are of images alone."""
    from weakseg.heatmaps.cam import OCCLUSION, PERTURBING, no_volumes

    for name, heat in config.all_heatmaps.items():
        where = "heatmap" if name not in config.heatmaps else f"heatmaps.{name}"
        if is_deep(config.classifier.arch) and heat.method in (*PERTURBING, OCCLUSION):
            raise no_volumes(heat.method)
        if heat.learns_weights:
            raise ConfigError(
                "What layers count is learnt on images, not on whole volumes.",
                where=f"{where}.fusion",
                found="labels",
                fix=f"set {where}.fusion: mean, or name {where}.weights",
            )
        if heat.choose == "area":
            raise ConfigError(
                "Whole volumes are seen at one scale each, or at the mean of several.",
                where=f"{where}.choose",
                found="area",
                fix=f"set {where}.choose: mean",
            )


def check_places(prepared: Prepared, *, tell: bool = True) -> None:
    """Refuse heatmap layers that have no map of such images, before a classifier is trained.

    Maps of few places are said, where ``tell`` asks for it.

    Raises
    ------
    ConfigError
        With the layers that have one.
    """
    from weakseg.heatmaps.cam import LAYERLESS
    from weakseg.models.classifiers import build_classifier
    from weakseg.models.layers import grids

    config, c = prepared.config, prepared.config.classifier
    size = config.data.image_size
    model = build_classifier(prepared_spec(prepared))
    for heat in config.all_heatmaps.values():
        if heat.method not in LAYERLESS:
            maps = [grids(model, heat.layer, max(1, round(size * s))) for s in heat.scales]
            if tell:
                _say_if_coarse(c.arch, maps[0])


def _say_if_coarse(arch: str, maps: dict[str, tuple[int, ...]]) -> None:
    """Say where the finest map of a heatmap has so few places that it hardly shows where."""
    name, (*_, height, width) = max(maps.items(), key=lambda item: min(item[1][-2:]))
    if min(height, width) < COARSE:
        say(
            f"heatmaps of {name} of {arch} have {height} x {width} places at this "
            "data.image_size: they hardly show where a lesion is; a larger image_size, a "
            "heatmap.layer before it, or classifier.stride gives more"
        )


def check_names(config: Config) -> None:
    """Refuse networks and heatmaps by names that there are not, before any data are read.

    The classifier's and the heatmaps' are left aside where every image has a lesion by the
    experiment's word: none is trained then.

    Raises
    ------
    ConfigError
    """
    if config.data.healthy_labels != []:
        from weakseg.heatmaps.cam import check_method
        from weakseg.models.classifiers import check_arch

        check_arch(flat_arch(config.classifier.arch))
        for name, heat in config.all_heatmaps.items():
            where = "heatmap" if name not in config.heatmaps else f"heatmaps.{name}"
            check_method(heat.method, where=f"{where}.method")
    if not config.segmenters:
        return
    from weakseg.models.segmenters import find_segmenter

    for name in config.segmenters:
        for network in config.kinds_of(name):
            with _as_named(name):
                find_segmenter(network.arch)


@contextlib.contextmanager
def _as_named(name: str) -> Iterator[None]:
    """Within the block what is wrong with a segmenter is told of it by the name that it has."""
    try:
        yield
    except ConfigError as e:
        # The part that found it does not know the name that the user gave it.
        where = (e.where or "segmenter").replace("segmenter", f"segmenters.{name}", 1)
        raise _elsewhere(e, where) from None


@contextlib.contextmanager
def _told_of(where: str) -> Iterator[None]:
    """Within the block what is wrong is told of this key."""
    try:
        yield
    except ConfigError as e:
        raise _elsewhere(e, where) from None


def _elsewhere(e: ConfigError, where: str) -> ConfigError:
    return ConfigError(e.what, where=where, found=e.found, expected=e.expected, fix=e.fix)


def _check_segmenters(config: Config, channels: int, dims: int, made: Mapping[str, Any]) -> None:
    from weakseg.engines.registry import check_engine
    from weakseg.models.pretrained import backbone_name, load_backbone
    from weakseg.models.segmenters import Segmenter, build_segmenter
    from weakseg.models.unetpp import pruned
    from weakseg.models.without_weights import without_weights
    from weakseg.training.by_engine import refuse_deepmedic
    from weakseg.training.given import given_weights
    from weakseg.training.loop import pick_device
    from weakseg.training.recipes import resolve

    def build(arch: str) -> Segmenter:
        return build_segmenter(arch, channels, 2, dims)

    networks = [(n, s) for n in config.segmenters for s in config.kinds_of(n)]
    for name, s in networks:  # all of them before the first is built, which takes a while
        with _as_named(name):
            first, own = resolve(config.segmenter(name), dims), resolve(s, dims)
            if (own.normalise, own.patch) != (first.normalise, first.patch):
                raise ConfigError(
                    f"{first.arch} and {s.arch} are trained on different kinds of input.",
                    where="segmenter.arch",
                    fix="name networks that both take whole images, or make two segmenters and a "
                    "consensus of them",
                )
            if s.weights == "imagenet":
                backbone_name(s.arch)
    for name, s in networks:
        with _as_named(name), without_weights():
            model = build(s.arch)
            with pruned(model, s.prune):
                pass  # refused where it cannot be
        check_engine(config.engine, pick_device(config.device), s.precision)
        refuse_deepmedic(config.engine, [model])
        seeds = config.segmenter_seeds(name)
        begin_so = [one for one in seeds if config.segmenter(name, one).weights == s.weights]
        trained = [segmenter_stage(name, one) for one in begin_so]
        if needs_weights(made, trained, s.weights):
            load_backbone(build(s.arch), given_weights(Path(s.weights))[0], s.weights)


def checked_table(table: Table, config: Config) -> Findings:
    """Refuse a manifest with errors; say that there are warnings."""
    with progress("checking images and masks", 0) as advance:
        findings = check_table(table, config.data, progress=lambda n, of: advance(n, of=of))
    errors = [p for p in findings.problems if p.severity == "error"]
    listing = f"`weakseg validate {shlex.quote(str(table.path))}` lists them"
    if errors:
        raise DataError(
            f"The data have {len(errors)} problem{'s' if len(errors) > 1 else ''}:\n"
            + format_problems(errors),
            where=str(table.lines_of),
            fix=f"mend them; {listing} again",
        )
    if findings.problems:
        say(f"{table.lines_of}: {count(len(findings.problems), 'warning')}; {listing}")
    if (few := findings.few_tested) is not None:
        say(f"{table.lines_of}: {few}")
    return findings
