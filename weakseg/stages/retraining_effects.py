"""What the retrained networks tell: the table of conditions, their differences, the answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.config import Condition, FilteredConfig, filtered_fingerprint, fingerprint
from weakseg.filtering.questions import questions
from weakseg.layout import (
    FILTERED,
    FILTERED_ANSWERS,
    FILTERED_STAGE,
    ORIGINAL,
    PREDICTIONS,
    condition_stage,
    faithfulness_stage,
    scores_file,
)
from weakseg.methods.classifiers import weights_of
from weakseg.methods.filtered_evidence import (
    condition_evidence,
    condition_row,
    measured_faithfulness,
)
from weakseg.methods.prepared import Prepared
from weakseg.runs import write_json, write_text
from weakseg.scores import caution
from weakseg.spreadsheets import csv_text
from weakseg.stages.base import Stage, perform

NETWORKS = {"retrained": PREDICTIONS, "original": ORIGINAL}


def write_evidence(
    prepared: Prepared,
    settings: FilteredConfig,
    target: str,
    conditions: Sequence[Condition],
    masks_used: dict[str, int],
    left_out: dict[str, str],
    keys: Sequence[str],
    *,
    elsewhere: Sequence[str] = (),
    force: bool = False,
) -> Path:
    """Score every condition over its seeds, and answer the questions.

    Parameters
    ----------
    prepared : Prepared
        With the predictions of every condition and seed in its run folder.
    settings : FilteredConfig
    target : str
    conditions : sequence of Condition
    masks_used : dict
        Condition → how many true masks made its filters.
    left_out : dict
        What was left out → why.
    keys : sequence of str
        Of the networks, see `weakseg.stages.base.Stage`.
    elsewhere : sequence of str
        Networks, trained on masks of other sets, that the threshold rule asks.
    force : bool

    Returns
    -------
    Path
        ``scores/filtered.csv``.
    """
    config, run = prepared.config, prepared.run
    out, answers = (scores_file(run.folder, n) for n in (FILTERED, FILTERED_ANSWERS))
    stage = FILTERED_STAGE
    made_of = (keys, masks_used, left_out, settings, config.scores, config.seed)
    key = fingerprint(stage, 2, *made_of, *prepared.masks_key, *elsewhere)

    def write(_: None) -> dict[str, Any]:
        evidence, rows = {}, []
        for network, name in NETWORKS.items():
            evidence[network], areas = condition_evidence(prepared, conditions, name)
            for c in conditions:
                rows.append(
                    condition_row(c, network, evidence[network], areas[c.name], masks_used[c.name])
                )
        write_text(out, csv_text(pd.DataFrame(rows), float_format="%.6g"))
        retrained = evidence["retrained"]
        patients = len({c.patient for c in prepared.cases.of("test")})
        write_json(
            answers,
            {
                "target": target,
                "rule": settings.rule.model_dump(mode="json"),
                **({"elsewhere": list(elsewhere)} if elsewhere else {}),
                "margin": settings.margin,
                "seeds": list(config.seeds),
                "cases": len(prepared.cases.of("test")),
                "patients": patients,
                "cautions": caution(len(config.seeds), patients),
                "left_out": left_out,
                "questions": questions(retrained, conditions, settings.control_sizes),
                "faithfulness": measured_faithfulness(prepared, target),
            },
        )
        return {
            "data": prepared.key,
            "conditions": len(conditions),
            "weights": weights_of(prepared, config.seeds),
            "asked": filtered_fingerprint(config),
        }

    arch = config.classifier.arch
    read = [condition_stage(arch, s, c.name) for s in config.seeds for c in conditions]
    if settings.faithfulness.images:
        read += [faithfulness_stage(arch, s) for s in config.seeds]
    what = "answers of filtered retraining"
    made = Stage(stage, key, (out, answers), write, what=what, inputs=tuple(read))
    perform(run, made, force=force)
    return out
