"""What a report says of supervised networks: how they were trained, and who is better than whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.config import MANIFEST
from weakseg.report import words
from weakseg.report.equivalence import (
    MOST_METHODS,
    equivalence_figure,
    equivalence_sentences,
    equivalence_table,
)
from weakseg.report.read import RunTables
from weakseg.report.tables import best_floor
from weakseg.scores import draw_curves, mask_curve, paired_tests, weak_to_full_ratio

SEGMENTER_COLUMNS = (
    "name", "arch", "weights", "masks", "seeds", "side", "patch", "sampler", "loss", "optimizer",
    "lr", "epochs", "steps", "batch", "average", "training_masks", "validation_masks",
    "sampled_prior", "true_prior", "ensemble", "seconds",
)  # fmt: skip
PAIR_COLUMNS = (
    "method", "other", "difference", "low", "high", "patients", "p", "p_holm", "better", "too_few",
)  # fmt: skip


def segmenter_table(run: RunTables) -> pd.DataFrame:
    """How every supervised network was trained.

    Seconds are the mean over its seeds, or the sum where their networks are averaged.
    """
    rows = []
    for name, seeds in run.segmenters.items():
        held = next(iter(seeds.values())).settings
        s = held["settings"]
        spent = [run.stages.get(f"segmenter/{name}/{seed}", {}).get("seconds") for seed in seeds]
        known = [t for t in spent if t is not None]
        together = bool(run.averaged(name))
        rows.append(
            {c: s.get(c) for c in SEGMENTER_COLUMNS if c in s}
            | {c: held.get(c) for c in SEGMENTER_COLUMNS if c in held}
            | {
                "masks": s.get("masks", MANIFEST),
                "name": name,
                # A report goes to others: what their machine calls the file is no use to them.
                "weights": Path(s["weights"]).name,
                "seeds": len(seeds),
                "side": held["image_size"] if held["dims"] == 2 else None,
                "ensemble": together,
                "seconds": sum(known) / (1 if together else len(known)) if known else None,
            }
        )
    return pd.DataFrame(rows, columns=list(SEGMENTER_COLUMNS))


def reference_of(run: RunTables) -> str | None:
    """The network that stands for full supervision: the first of the experiment that was scored."""
    scored = set(run.per_case["method"]) if len(run.per_case) else set()
    supervised = [n for n, s in run.config.segmenters.items() if not s.weak]
    return next((n for n in supervised if n in scored), None)


def pair_table(run: RunTables) -> pd.DataFrame:
    """Every pair of results: heatmap methods, supervised networks and the best floor."""
    table = run.per_case
    if table.empty or run.summary.empty:
        return pd.DataFrame(columns=list(PAIR_COLUMNS))
    kinds = run.summary.set_index("method")["kind"]
    floor = best_floor(run.summary)
    chosen = [m for m in kinds.index if kinds[m] in ("heatmap", "weak", "supervised") or m == floor]
    with_lesion = set(table.loc[table["has_lesion"].astype(bool), "method"])
    chosen = [m for m in chosen if m in with_lesion]
    draw = {"bootstrap": run.config.scores.bootstrap, "seed": run.config.seed}
    return paired_tests(table, chosen, **draw)


def pair_matrix(pairs: pd.DataFrame) -> dict[str, Any]:
    """The pairs as a square for the page.

    Returns
    -------
    dict
        ``methods``; ``cells``: method → other → ``difference`` (method minus other), ``p_holm``
        and ``better`` ("method", "other", "unclear"); ``too_few``: whether some pair has too few
        patients for any answer.
    """
    methods = list(dict.fromkeys([*pairs["method"], *pairs["other"]]))
    cells: dict[str, dict[str, dict[str, Any]]] = {m: {} for m in methods}
    turned = {"method": "other", "other": "method", "unclear": "unclear"}
    for _, row in pairs.iterrows():
        one, other = str(row["method"]), str(row["other"])
        cell = {"difference": row["difference"], "p_holm": row["p_holm"], "better": row["better"]}
        cells[one][other] = cell
        cells[other][one] = cell | {
            "difference": -row["difference"],
            "better": turned[str(row["better"])],
        }
    return {
        "methods": methods,
        "cells": cells,
        "too_few": bool(pairs["too_few"].any()) if len(pairs) else False,
    }


def equivalence_part(run: RunTables, methods: pd.DataFrame, headline: str | None) -> dict[str, Any]:
    """The curve, what each heatmap method is worth on it, and the words for it.

    Returns
    -------
    dict
        ``curve`` and ``table`` (data frames, empty without a curve), ``headline`` (sentences of
        the method spoken of), ``sentences`` (of the others), ``figure`` (SVG or None),
        ``network``.
    """
    network = run.config.equivalence.segmenter
    weak = methods[methods["group"].isin(["no-masks", "masks", "oracle"])] if len(methods) else None
    empty = pd.DataFrame()
    reference = reference_of(run)
    draw = {"bootstrap": run.config.scores.bootstrap, "seed": run.config.seed}
    none = {"curve": empty, "table": empty, "rows": [], "sentences": [], "figure": None}
    is_weak = weak is not None and headline in set(weak["method"])
    if run.equivalence.empty or network is None or weak is None or weak.empty:
        said = []
        if is_weak and reference is not None and headline is not None:
            ratio = weak_to_full_ratio(run.per_case, headline, reference, **draw)
            said = [_ratio_sentence(headline, reference, ratio)]
        return none | {"headline": said, "network": network}
    spoken = headline if is_weak else weak["method"].iloc[0]
    order = [spoken, *(m for m in weak["method"] if m != spoken)]
    table = equivalence_table(run.per_case, run.equivalence, order, reference=reference, **draw)
    curve = mask_curve(run.equivalence, **draw)
    first = table[table["method"] == spoken]
    firsts = [spoken, *weak.drop_duplicates("group")["method"]]
    drawn = table.set_index("method", drop=False).loc[list(dict.fromkeys(firsts))]
    sentences = equivalence_sentences(first, network, reference=reference)
    of_spoken = [s for s in sentences if str(spoken) in s]
    caution = _stronger(methods, curve, network)
    tuned = table[(table["method"] != spoken) & (table["group"] == "masks")]
    return {
        "curve": curve,
        "table": table,
        "network": network,
        # Its cautions stand once, below the figure.
        "headline": [*of_spoken, *caution] if is_weak else [],
        "sentences": [
            *([] if is_weak else [*of_spoken, *caution]),
            *(s for s in equivalence_sentences(tuned, network) if "tuned on" in s),
            *(s for s in sentences if s not in of_spoken),
            f"The curve is of {network}: {_training_words(run, network)}.",
        ],
        "rows": [_worth_row(r) for r in table.to_dict(orient="records")],
        "figure": equivalence_figure(
            curve, drawn.head(MOST_METHODS), network, draw_curves(run.equivalence)
        ),
    }


def _stronger(methods: pd.DataFrame, curve: pd.DataFrame, network: str) -> list[str]:
    """A caution where another network of the run does better than the curve's end."""
    full = methods[(methods["group"] == "supervised") & (methods["method"] != network)]
    full = full.dropna(subset=["dice"])
    if full.empty or curve.empty or full["dice"].max() <= curve["dice"].iloc[-1]:
        return []
    best = full.sort_values("dice", kind="stable").iloc[-1]
    return [
        f"{best['method']}, trained on all masks, reaches {words.number(best['dice'])} where "
        f"{network} reaches {words.number(curve['dice'].iloc[-1])}: beside the stronger network "
        "a heatmap would be worth fewer masks."
    ]


def _training_words(run: RunTables, network: str) -> str:
    seeds = run.segmenters.get(network)
    if not seeds:
        return "its settings are in the experiment file"
    held = next(iter(seeds.values())).settings
    s = held["settings"]
    side = f" on images of {held['image_size']} pixels" if held["dims"] == 2 else ""
    steps = int(s["epochs"]) * int(held["steps"])
    return f"{s['arch']}, {words.count(steps, 'step')} of {held['batch']} patches or images{side}"


def _worth_row(row: dict[Any, Any]) -> dict[str, Any]:
    """A line of the page's table: what a method is worth, open ends in words."""

    def number(field: str, prefix: str) -> str:
        if row[f"{prefix}below"]:
            return f"< {words.number(row['fewest' if field == 'masks' else 'fewest_patients'], 0)}"
        if row[f"{prefix}above"]:
            return f"> {words.number(row['most' if field == 'masks' else 'most_patients'], 0)}"
        return words.number(row[f"{field}_{prefix[:-1]}" if prefix else field], 0)

    def worth(field: str) -> str:
        ends = [number(field, "low_"), number(field, "high_")]
        known = "" if words.NONE in ends else f" [{ends[0]}, {ends[1]}]"
        return number(field, "") + known

    ratio = f"{words.percent(row['ratio'])}"
    if not pd.isna(row["ratio_low"]):
        ratio += f" {words.interval(100 * row['ratio_low'], 100 * row['ratio_high'], 0)}"
    return {
        "method": row["method"],
        "group": row["group"],
        "dice": row["dice"],
        "masks_seen": row["masks_seen"],
        "masks": worth("masks"),
        "patients": worth("patients"),
        "ratio": ratio,
    }


def _ratio_sentence(method: str, reference: str, ratio: Any) -> str:
    ends = words.interval(100 * ratio.low, 100 * ratio.high, 0)
    share = f"{words.percent(ratio.value)} {ends}".strip()
    return f"{method} reaches {share} of the Dice of the fully supervised {reference}."
