"""What each step of a chain of methods earned, and which lesions hold the last of them back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from weakseg.config import Config
from weakseg.data.case_files import case_image, case_truth
from weakseg.errors import WeaksegError
from weakseg.masks.region import brightness
from weakseg.methods.find import kind_of
from weakseg.report import words
from weakseg.report.read import RunTables
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.tables import paired_difference, reference_of, with_alarm_intervals
from weakseg.scores import weak_to_full_ratio

STEP_COLUMNS = (
    "step", "dice", "dice_low", "dice_high", "gain", "gain_low", "gain_high", "gain_patients",
    "ratio", "ratio_low", "ratio_high", "hd95", "missed", "false_positive_rate", "false_positive_rate_low",
    "false_positive_rate_high", "masks_seen", "kind", "seeds", "seconds",
)  # fmt: skip
GAP_COLUMNS = ("by", "group", "low", "high", "images", "method", "reference")

RING = 5
"""Pixels around a lesion that its contrast is measured against."""

MOST_PATIENTS = 5
"""How many patients are named: those in whom the method falls shortest of the reference."""


def steps_table(run: RunTables) -> pd.DataFrame:
    """The methods of ``report.steps`` in their order.

    Returns
    -------
    DataFrame
        `STEP_COLUMNS`. ``gain`` is the `paired_difference` in Dice to the step before; ``ratio``
        that to the fully supervised reference; ``seconds`` what a seed of the step took, with all
        that it stands on.
    """
    wanted = [s for s in run.config.report.steps or () if s in set(run.summary.get("method", ()))]
    draw = {"bootstrap": run.config.scores.bootstrap, "seed": run.config.seed}
    rows, before, reference = [], None, reference_of(run)
    methods = run.summary
    if len(methods):
        methods = with_alarm_intervals(methods, run.per_case).set_index("method")
    for step in wanted:
        row: dict[str, Any] = {"step": step} | {
            c: methods.loc[step, c] for c in STEP_COLUMNS if c in methods.columns
        }
        if before is not None:
            gain = paired_difference(run.per_case, step, before, **draw)
            row |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
            row["gain_patients"] = gain.patients
        if reference is not None:
            ratio = weak_to_full_ratio(run.per_case, step, reference, **draw)
            row |= {"ratio": ratio.value, "ratio_low": ratio.low, "ratio_high": ratio.high}
        row["seconds"] = seconds_of(run.config, run.stages, step)
        rows.append(row)
        before = step
    return pd.DataFrame(rows, columns=list(STEP_COLUMNS))


def seconds_of(config: Config, stages: Mapping[str, Mapping[str, Any]], method: str) -> float:
    """What a method took: training, heatmaps, and what it stands on; a seed, on average.

    Of masks that average several networks the training of all is counted, and nothing twice.

    NaN where the record does not tell. The making of masks and their scores is not counted.
    """
    kind = kind_of(config, method)
    needed = [kind.stands_on(config, method, s) for s in kind.seeds(config, method)]
    spent = [sum(stages[n]["seconds"] for n in of) for of in needed if of <= stages.keys()]
    return float(np.mean(spent)) if spent else float("nan")


def gap_to_reference(run: RunTables, method: str | None) -> pd.DataFrame:
    """Where a method falls short of the reference: by size and contrast of the lesion, by patient.

    Returns
    -------
    DataFrame
        `GAP_COLUMNS`: ``by`` (size, contrast, patient), the group's ``low`` and ``high`` end
        (pixels; contrast), how many images, and the mean Dice of both. Patients are those of the
        greatest difference. Empty without a reference; without contrast where the images are no
        longer there.
    """
    reference = reference_of(run)
    if method is None or reference is None or method == reference or run.per_case.empty:
        return pd.DataFrame(columns=list(GAP_COLUMNS))
    lesion = run.per_case[run.per_case["has_lesion"].astype(bool)]
    both = lesion[lesion["method"].isin([method, reference])]
    dice = both.pivot_table(index=["case", "patient"], columns="method", values="dice")
    dice = dice.dropna().reset_index()
    if dice.empty:
        return pd.DataFrame(columns=list(GAP_COLUMNS))
    pixels = lesion.drop_duplicates("case").set_index("case")["lesion_pixels"]
    dice["size"] = dice["case"].map(pixels)
    dice["contrast"] = dice["case"].map(_contrasts(run, dice["case"].tolist()))
    rows: list[dict[str, Any]] = []
    for by in ("size", "contrast"):
        values = dice[by]
        if values.notna().sum() < 3:
            continue
        third = np.searchsorted(np.nanquantile(values, [1 / 3, 2 / 3]), values, side="left")
        for k in range(3):
            part = dice[(third == k) & values.notna()]
            if len(part):
                rows.append(_row(by, str(k + 1), part, method, reference, part[by]))
    gap = (dice[reference] - dice[method]).groupby(dice["patient"]).mean()
    for patient in gap.sort_values(ascending=False, kind="stable").index[:MOST_PATIENTS]:
        part = dice[dice["patient"] == patient]
        rows.append(_row("patient", str(patient), part, method, reference, part["size"]))
    return pd.DataFrame(rows, columns=list(GAP_COLUMNS))


def _row(
    by: str, group: str, part: pd.DataFrame, method: str, reference: str, values: pd.Series
) -> dict[str, Any]:
    return {
        "by": by,
        "group": group,
        "low": values.min(),
        "high": values.max(),
        "images": len(part),
        "method": part[method].mean(),
        "reference": part[reference].mean(),
    }


def _contrasts(run: RunTables, cases: Sequence[str]) -> dict[str, float]:
    """Contrast of each case's lesion, where image and mask are still there."""
    data, read = run.config.data, run.cases
    contrasts = {}
    for case in cases:
        try:
            mask = case_truth(read[case], data)
            if mask is not None:
                contrasts[case] = lesion_contrast(case_image(read[case], data), mask)
        except (KeyError, WeaksegError, OSError, ValueError):
            continue
    return contrasts


def lesion_contrast(image: np.ndarray, mask: np.ndarray) -> float:
    """How much a lesion differs from what surrounds it.

    Parameters
    ----------
    image : (M, N[, C]) ndarray
    mask : (M, N) ndarray of bool

    Returns
    -------
    float
        The difference between the mean brightness of the lesion and that of a ring of `RING`
        pixels around it, over the standard deviation in the ring; positive for a bright lesion.
        NaN where either is empty, or the ring even.
    """
    grey, lesion = brightness(image), np.asarray(mask, dtype=bool)
    ring = ndimage.binary_dilation(lesion, iterations=RING) & ~lesion
    if not lesion.any() or not ring.any() or not grey[ring].std() > 0:
        return float("nan")
    return float((grey[lesion].mean() - grey[ring].mean()) / grey[ring].std())


def build(subject: Subject) -> Content:
    """The steps, and what is missing to full supervision."""
    run, method = subject.run, subject.method
    steps = steps_table(run)
    gap = gap_to_reference(run, method if run.config.report.steps else None)
    context = {
        "rows": steps.to_dict(orient="records"),
        "sentences": _sentences(steps),
        "gap": gap.to_dict(orient="records"),
        "reference": reference_of(run),
        "method": method,
    }
    shown = subject.scored and len(steps) > 0
    return Content(context, {"steps": steps, "shortfall": gap}, shown=shown)


def _sentences(steps: pd.DataFrame) -> list[str]:
    """Each step against the one before it."""
    compared = {"above": "better than", "below": "worse than", "unclear": "not told apart from"}
    sentences = []
    for before, row in zip(steps["step"], steps.to_dict(orient="records")[1:], strict=False):
        by = words.with_interval(row["gain"], row["gain_low"], row["gain_high"])
        verdict = compared[
            words.side_of_zero(row["gain_low"], row["gain_high"], int(row["gain_patients"]))
        ]
        sentences.append(f"{row['step']} is {verdict} {before}: {by}.")
    return sentences


TEMPLATE = r"""
<h2>What each step earned</h2>
<div class="scroll"><table class="wrapped"><thead><tr><th class="text">step</th><th>Dice</th><th>gain over the step before</th>{% if reference %}<th>share of {{ reference }}</th>{% endif %}<th>HD95</th><th>missed</th><th>false positives</th><th>masks seen</th><th>seeds</th><th>seconds a seed</th></tr></thead><tbody>
{% for s in rows %}<tr><td class="text">{{ s.step }}</td><td>{{ value(s.dice, s.dice_low, s.dice_high) }}</td><td>{% if s.gain | given %}{{ s.gain | signed }} <small>{{ interval(s.gain_low, s.gain_high) }}</small>{% endif %}</td>{% if reference %}<td>{{ share(s.ratio, s.ratio_low, s.ratio_high) }}</td>{% endif %}<td>{{ s.hd95 | num(1) }}</td><td>{{ s.missed | pct }}</td><td>{{ share(s.false_positive_rate, s.false_positive_rate_low, s.false_positive_rate_high) }}</td><td>{{ s.masks_seen }}{% if s.kind == "foundation" %} + elsewhere{% endif %}</td><td>{{ s.seeds }}</td><td>{{ s.seconds | num(0) }}</td></tr>
{% endfor %}</tbody></table></div>
{% for s in sentences %}<p class="note">{{ s }}</p>{% endfor %}
<p class="note">Gains are paired, image by image. Seconds: training, heatmaps and all that a step stands on; of a mean of several networks those of all.</p>
{% if gap %}
<h3>Which lesions hold {{ method }} back</h3>
<div class="scroll"><table class="wrapped"><thead><tr><th class="text">by</th><th class="text">group</th><th>from</th><th>to</th><th>images</th><th>Dice of {{ method }}</th><th>Dice of {{ reference }}</th></tr></thead><tbody>
{% for s in gap %}<tr><td class="text">{{ s.by }}</td><td class="text">{{ s.group }}</td><td>{{ s.low | num(0 if s.by != "contrast" else 2) }}</td><td>{{ s.high | num(0 if s.by != "contrast" else 2) }}</td><td>{{ s.images }}</td><td>{{ s.method | num }}</td><td>{{ s.reference | num }}</td></tr>
{% endfor %}</tbody></table></div>
<p class="note">Size: pixels of the lesion, in thirds of the test lesions; from and to of a patient are pixels too. Contrast: mean brightness of the lesion minus that of a ring of five pixels around it, over the ring's standard deviation. Patients: the five in whom the method falls shortest of {{ reference }}.</p>
{% endif %}
"""

SECTION = Section("ablation", build, TEMPLATE)
