"""What trains each rule that is trained, and what the run folder keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg.errors import RunError, first_line, lacks_memory, note_file
from weakseg.masks.rules import FittedRule, TrainedState, rule_from_json
from weakseg.masks.rules.trained import TrainableRule
from weakseg.methods.trainable import affinity, hypercolumn, random_forest
from weakseg.methods.trainable.base import Context, Trainer
from weakseg.progress import say
from weakseg.runs import file_hash, inside, write_bytes

TRAINERS: dict[str, Trainer] = {
    "affinity": affinity.TRAINER,
    "hypercolumn": hypercolumn.TRAINER,
    "random-forest": random_forest.TRAINER,
}
"""Name of a rule → how it is trained."""

RERUN_HINT = "run `weakseg heatmap-segment CONFIG --force` or `weakseg compare CONFIG` again"


def fit_trainable(rule: TrainableRule, context: Context) -> TrainedState:
    """What a rule is trained to by the training images and what the context pairs them with.

    Raises
    ------
    LookupError
        If these heatmaps, or masks, are sure of too little.
    """
    trainer, teacher = TRAINERS[rule.rule], rule.teacher
    say(trainer.does.format(teacher=teacher))
    try:
        return trainer.fit(rule, context)
    except LookupError as e:
        raise LookupError(str(e).replace("heatmaps", teacher)) from None


def save_trained(path: Path, trained: TrainedState) -> dict[str, Any]:
    """Write what a rule was trained to; what ``threshold.json`` says of it."""
    from safetensors.numpy import save

    arrays = {k: np.ascontiguousarray(v) for k, v in trained.arrays.items()}
    write_bytes(path, save(arrays))
    return {"trained": {"file": path.name, "hash": file_hash(path)}}


def load_rule(entry: Mapping[str, Any], folder: Path, context: Context) -> FittedRule:
    """A fitted rule with all that it was trained to.

    Parameters
    ----------
    entry : dict
        Of ``threshold.json``.
    folder : Path
        Of the method's masks, which holds the file that the entry names.
    context : Context

    Raises
    ------
    RunError
        If what it was trained to is missing, or is not what the entry says.
    """
    fitted = rule_from_json(entry)
    if not fitted.rule.trainable:
        return fitted
    arrays = _read_trained(entry, folder)
    try:
        return replace(fitted, trained=TRAINERS[fitted.name].restore(arrays, context))
    except (KeyError, RuntimeError) as e:
        if lacks_memory(e):
            note_file(e, folder)
            raise
        raise RunError(
            "What the rule was trained to was not written by this version of weakseg.",
            where=str(folder),
            found=first_line(e),
            fix=RERUN_HINT,
        ) from None


def _read_trained(entry: Mapping[str, Any], folder: Path) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    record = entry.get("trained") or {}
    path = inside(folder, str(record.get("file", "missing")))
    if not path.is_file():
        raise RunError("What the rule was trained to is missing.", where=str(path), fix=RERUN_HINT)
    if file_hash(path) != record.get("hash"):
        raise RunError(
            "What the rule was trained to is not what its masks were made with.",
            where=str(path),
            fix=RERUN_HINT,
        )
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError, ValueError) as e:
        raise RunError(
            "What the rule was trained to is damaged.",
            where=str(path),
            found=str(e),
            fix=RERUN_HINT,
        ) from None
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise RunError(
                "What the rule was trained to holds values that are no finite numbers.",
                where=f"{path}, array {name!r}",
                fix=RERUN_HINT,
            )
    return arrays
