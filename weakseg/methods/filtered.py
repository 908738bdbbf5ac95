"""What heatmap-filtered retraining needs, refused before hours of work where it is not there."""

from __future__ import annotations

from weakseg.config import Condition, FilteredConfig
from weakseg.errors import UserError
from weakseg.filtering.sources import TruthMasks
from weakseg.heatmaps.explaining import target_classes
from weakseg.methods.prepared import Prepared, require_classifier, require_images
from weakseg.methods.stored_heatmaps import PREDICTED


def check_filtered(prepared: Prepared) -> tuple[list[Condition], dict[str, str]]:
    """Refuse what cannot be, before hours of work.

    Returns
    -------
    conditions : list of Condition
    left_out : dict
        What there are no masks for → why.

    Raises
    ------
    UserError
        For volumes, where nothing can be filtered, and for a threshold rule that cannot be fitted.
    """
    require_images(prepared, "Heatmap-filtered retraining")
    require_classifier(prepared, "Heatmap-filtered retraining")
    if prepared.config.classifier.augment.heat:
        raise UserError(
            "Heatmap-filtered retraining takes classifiers that were trained on plain images: "
            "heat in training and a filter of heat would be one question.",
            where="classifier.augment: heat",
            fix="set classifier.augment.heat: 0 and classifier.heat_from: null, or leave "
            "`filtered` out",
        )
    settings = prepared.config.filtered or FilteredConfig()
    conditions, left_out = _possible(settings, true_masks(prepared))
    if len(prepared.cases.indices("test")) == 0 or len(conditions) < 2:
        raise UserError(
            "There is nothing to filter.",
            where="filtered",
            found="; ".join(left_out.values()) or "no test image",
            fix="add filters of heatmaps (filtered.filters: [hard])",
        )
    is_lesion = prepared.cases.labels.is_lesion
    needs = {"validation": "val", "train-quantile": "train"}.get(settings.rule.rule)
    needs = "val" if getattr(settings.rule, "search", None) else needs
    masked = needs == "val" or settings.rule.taught_by_masks
    needs = "train" if settings.rule.taught_by_masks else needs
    ill = [c for c in prepared.cases.of(needs or "") if is_lesion(c.label)]
    if needs and not any(c.mask is not None or not masked for c in ill):
        raise UserError(
            f"The threshold rule {settings.rule.rule} cannot be fitted.",
            where="filtered.rule",
            found=f"no lesion{' with a mask' if masked else ''} in the {needs} split",
            fix="choose a rule that needs no mask, such as fixed",
        )
    return conditions, left_out


def true_masks(prepared: Prepared) -> TruthMasks:
    """The true masks that filters may be made from."""
    return TruthMasks(prepared.cases, prepared.config.data, prepared.config.seed)


def check_target(prepared: Prepared, settings: FilteredConfig) -> str:
    """The class whose heatmaps filter the images, or ``predicted``.

    Raises
    ------
    ConfigError
        For a label that is not there.
    """
    target = prepared.config.heatmap.target if settings.target == "same" else settings.target
    if target != PREDICTED:
        target_classes(target, prepared.cases.labels, where="filtered.target")
    return target


def _possible(
    settings: FilteredConfig, truth: TruthMasks
) -> tuple[list[Condition], dict[str, str]]:
    """The conditions that there are masks for, and why others are left out."""
    conditions = settings.conditions()
    why = truth.missing()
    if why is None:
        return conditions, {}
    without = [c for c in conditions if not (c.sees_masks or c.source == "truth")]
    gone = [c.name for c in conditions if c not in without]
    return without, {"filters of true masks": f"{why} ({', '.join(gone)})"} if gone else {}
