"""The same masks by the counting rules of others, so that readers can compare with papers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from weakseg.report.sections.base import Content, Section, Subject
from weakseg.scores import cluster_mean_interval
from weakseg.scores.statistics import Interval

LARGE = 0.01
"""Share of its image above which a lesion is counted by the rule ``large``."""

RULES = {
    "lesions": "images with a lesion, each alike: as above",
    "all": "all images, an empty mask on a healthy one counting 1: WeakMedSAM on BraTS",
    "large": f"lesions of more than {LARGE:.0%} of their image only: AME-CAM on BraTS",
    "pooled": "the pixels of all images taken together, as if they were one",
}
"""Counting rule → whose it is; the method's order on the page."""

COLUMNS = ("method", "rule", "dice", "low", "high", "images")


def build(subject: Subject) -> Content:
    """One row a method and rule; shown where anything was scored."""
    run = subject.run
    columns = {"has_lesion", "lesion_pixels", "predicted_pixels", "image_pixels"}
    there = subject.scored and columns <= set(run.per_case.columns)
    methods = list(subject.groups) if there else []
    rows = [
        (method, rule, counted.value, counted.low, counted.high, images)
        for method in methods
        for rule, (counted, images) in counted_dice(run.per_case, method, **subject.draw).items()
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    by_method = {
        m: {r["rule"]: r for r in of.to_dict(orient="records")}
        for m, of in table.groupby("method", sort=False)
    }
    return Content({"rows": by_method, "rules": RULES}, {"counting": table}, shown=bool(methods))


def counted_dice(
    per_case: pd.DataFrame, method: str, *, bootstrap: int = 2000, seed: int = 0
) -> dict[str, tuple[Interval, int]]:
    """The Dice of a method by every rule of `RULES`.

    Parameters
    ----------
    per_case : DataFrame
        As ``scores/per_case.csv``.
    method : str
        Its seeds are averaged within a case; for ``pooled`` over the seeds' own figures.
    bootstrap, seed : int, optional
        See `weakseg.scores.cluster_mean_interval`.

    Returns
    -------
    dict
        Rule → (Dice with a 95 % interval over patients, how many images). The interval of
        ``pooled`` is NaN: it is no mean over cases.
    """
    rows = per_case[per_case["method"] == method].copy()
    for column in ("has_lesion", "dice", "lesion_pixels", "predicted_pixels", "image_pixels"):
        rows[column] = rows[column].astype(float)
    cases = rows.groupby("case").agg(
        dict.fromkeys(("has_lesion", "dice", "lesion_pixels", "image_pixels"), "mean")
        | {"patient": "first"}
    )
    lesion = cases["has_lesion"] > 0
    large = lesion & (cases["lesion_pixels"] > LARGE * cases["image_pixels"])
    chosen = {"lesions": cases[lesion], "all": cases, "large": cases[large]}
    counted = {
        rule: (
            cluster_mean_interval(
                of["dice"].to_numpy(),
                of["patient"].astype(str).to_numpy(),
                bootstrap=bootstrap,
                seed=seed,
            ),
            len(of),
        )
        for rule, of in chosen.items()
    }
    patients = int(cases["patient"].nunique())
    whole = Interval(_pooled(rows), np.nan, np.nan, len(cases), patients)
    counted["pooled"] = (whole, len(cases))
    return {rule: counted[rule] for rule in RULES}


def _pooled(rows: pd.DataFrame) -> float:
    """Twice all intersections over the sum of all areas; the mean over seeds."""
    areas = rows["lesion_pixels"] + rows["predicted_pixels"]
    both = (rows["dice"] * areas / 2).where(rows["has_lesion"] > 0, 0.0)
    sums = pd.DataFrame({"both": both, "areas": areas}).groupby(rows["seed"].fillna(-1)).sum()
    dice = 2 * sums["both"] / sums["areas"].where(sums["areas"] > 0)
    return float(dice.mean())


TEMPLATE = r"""
<h2>By the counting rules of others</h2>
<details class="appendix"><summary>The same masks, counted as papers count them</summary>
<div class="scroll"><table class="wrapped"><thead><tr><th class="text">method</th>{% for rule in rules %}<th>{{ rule }}</th>{% endfor %}</tr></thead><tbody>
{% for method, of in rows.items() %}<tr><td class="text">{{ method }}</td>{% for rule in rules %}<td>{{ value(of[rule].dice, of[rule].low, of[rule].high) }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
<ul>{% for rule, words in rules.items() %}<li><b>{{ rule }}</b>: {{ words }}.</li>{% endfor %}</ul>
<p class="note">One set of masks, four figures: before a Dice is held against a paper's, both must be counted alike, and on the same images.</p>
</details>
"""

SECTION = Section("counting", build, TEMPLATE)
