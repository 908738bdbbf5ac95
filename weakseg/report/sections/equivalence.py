"""How many masks a heatmap is worth: the section."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pandas as pd

from weakseg.contents import image_side
from weakseg.report import words
from weakseg.report.read import RunTables
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.sections.equivalence_figure import MOST_METHODS, equivalence_figure
from weakseg.report.sections.equivalence_words import (
    better_spent,
    cautions,
    equivalence_table,
    method_sentences,
    ratio_sentence,
)
from weakseg.report.tables import reference_of
from weakseg.scores import draw_curves, mask_curve, weak_to_full_ratio


def build(subject: Subject) -> Content:
    """The curve with every method on it; shown where it was made."""
    worth = equivalence_of(subject)
    tables = {"mask_curve": worth["curve"], "mask_equivalence": worth["table"]}
    drawn = {} if worth["figure"] is None else {"worth": worth["figure"]}
    return Content(worth, tables, drawn, shown=subject.scored and bool(drawn))


@lru_cache(maxsize=8)
def equivalence_of(subject: Subject) -> dict[str, Any]:
    """The curve, what each heatmap method is worth on it, and the words for it; computed once.

    Returns
    -------
    dict
        ``curve`` and ``table`` (data frames, empty without a curve), ``headline`` (sentences of
        the method spoken of), ``sentences`` (of the others), ``figure`` (SVG or None),
        ``network``.
    """
    run, methods, headline = subject.run, subject.methods, subject.method
    network = run.config.equivalence.segmenter
    weak = (
        methods[methods["group"].isin(["no-masks", "masks", "foundation", "oracle"])]
        if len(methods)
        else None
    )
    empty = pd.DataFrame()
    reference = reference_of(run)
    draw = subject.draw
    none = {"curve": empty, "table": empty, "rows": [], "sentences": [], "figure": None}
    is_weak = weak is not None and headline in set(weak["method"])
    if run.equivalence.empty or network is None or weak is None or weak.empty:
        said = []
        if is_weak and reference is not None and headline is not None:
            ratio = weak_to_full_ratio(run.per_case, headline, reference, **draw)
            said = [ratio_sentence(subject.spoken(headline), subject.spoken(reference), ratio)]
            full = float(methods.loc[methods["method"] == reference, "dice"].iloc[0])
            said += _no_better_than_a_floor(methods, full, reference, subject.spoken)
        return none | {"headline": said, "network": network}
    leading = headline if is_weak else weak["method"].iloc[0]
    order = [leading, *(m for m in weak["method"] if m != leading)]
    table = equivalence_table(run.per_case, run.equivalence, order, reference=reference, **draw)
    curve = mask_curve(run.equivalence, **draw)
    by_method = {row["method"]: row for row in table.to_dict(orient="records")}
    firsts = [leading, *weak.drop_duplicates("group")["method"]]
    drawn = table.set_index("method", drop=False).loc[list(dict.fromkeys(firsts))]
    say = subject.spoken
    of_leading = method_sentences(by_method[leading], network, reference=reference, spoken=say)
    caution = _no_better_than_a_floor(methods, float(curve["dice"].iloc[-1]), network, say)
    caution += _stronger(methods, curve, network, say)
    others = [row for m, row in by_method.items() if m != leading]
    return {
        "curve": curve,
        "table": table,
        "network": network,
        # Its cautions stand once, below the figure.
        "headline": [*of_leading, *caution] if is_weak else [],
        "sentences": [
            *([] if is_weak else [*of_leading, *caution]),
            *(s for row in others for s in better_spent(row, network, spoken=say)),
            *cautions(table, network, spoken=say),
            f"The curve is of {say(network)}: {_training_words(run, network)}.",
        ],
        "rows": [_worth_row(r) for r in table.to_dict(orient="records")],
        "figure": equivalence_figure(
            curve,
            drawn.head(MOST_METHODS),
            network,
            draw_curves(run.equivalence),
            subject.colours,
        ),
    }


def _no_better_than_a_floor(
    methods: pd.DataFrame, reached: float, network: str, spoken: words.Spoken
) -> list[str]:
    """A caution where the yardstick with all of its masks does not pass the best trivial floor."""
    floors = methods[methods["group"] == "floor"].dropna(subset=["dice"])
    if floors.empty or not reached <= floors["dice"].max():  # NaN says nothing
        return []
    best = floors.sort_values("dice", kind="stable").iloc[-1]
    return [
        f"{words.opening(spoken(network))}, with all the masks that were tried, reaches "
        f"{words.number(reached)}, and marking {spoken(best['method'])} {words.number(best['dice'])}: beside a "
        "network that is no better than a mask which never looks for a lesion, a share of its Dice, or "
        "a number of its masks, means little."
    ]


def _stronger(
    methods: pd.DataFrame, curve: pd.DataFrame, network: str, spoken: words.Spoken
) -> list[str]:
    """A caution where another network of the run does better than the curve's end."""
    full = methods[(methods["group"] == "supervised") & (methods["method"] != network)]
    full = full.dropna(subset=["dice"])
    if full.empty or curve.empty or not full["dice"].max() > curve["dice"].iloc[-1]:
        return []
    best = full.sort_values("dice", kind="stable").iloc[-1]
    return [
        f"{words.opening(spoken(best['method']))}, trained on all masks, reaches {words.number(best['dice'])} where "
        f"{spoken(network)} reaches {words.number(curve['dice'].iloc[-1])}: beside the stronger network "
        "a heatmap would be worth fewer masks."
    ]


def _training_words(run: RunTables, network: str) -> str:
    seeds = run.segmenters.get(network)
    if not seeds:
        return "its settings are in the experiment file"
    settings = next(iter(seeds.values())).settings
    s = settings["settings"]
    longest = image_side(settings)
    side = "" if longest is None else f" on images of {longest} pixels"
    steps = int(s["epochs"]) * int(settings["steps"])
    return (
        f"{s['arch']}, {words.count(steps, 'step')} of {settings['batch']} patches or images{side}"
    )


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
        interval = "" if words.NONE in ends else f" [{ends[0]}, {ends[1]}]"
        return number(field, "") + interval

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


TEMPLATE = r"""
<h2>How many masks is a heatmap worth?</h2>
<div class="grid">
{{ figure(figures.worth, "Green: " ~ network ~ ", trained with the masks of ever more patients (its Dice on the same test images, made monotone; dots: as measured). Lines: heatmap methods with their 95 % intervals. Where a line meets the curve, a heatmap is worth that many masks. Diamond: as many masks as the method saw.", wide=true) }}
<div>
<div class="scroll"><table class="wrapped"><thead><tr><th class="text">method</th><th>Dice</th><th>masks seen</th><th>worth masks of {{ network }}</th><th>of patients</th><th>share of the fully supervised Dice</th></tr></thead><tbody>
{% for w in rows %}<tr><td class="text"><i class="dot" style="background:{{ r.colours[w.method] }}"></i>{{ w.method }}</td><td>{{ w.dice | num }}</td><td>{{ w.masks_seen }}{% if w.group == "foundation" %} + elsewhere{% endif %}</td><td>{{ w.masks }}</td><td>{{ w.patients }}</td><td>{{ w.ratio }}</td></tr>
{% endfor %}</tbody></table></div>
{% for s in sentences %}<p class="note">{{ s }}</p>{% endfor %}
<p class="note">Within a draw the patients of a smaller number are among those of a larger. Healthy images train at every number: their labels say that their masks are empty. Every point takes equally many steps, uses no validation mask, and keeps the threshold 0.5.</p>
</div>
</div>
"""

SECTION = Section("equivalence", build, TEMPLATE)
