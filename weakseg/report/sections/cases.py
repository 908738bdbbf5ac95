"""Every test case, to filter, sort and look at, with a threshold that the reader moves."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from weakseg.data.case_files import (
    as_planes,
    case_image,
    case_truth,
    fullest_plane,
    shown_intensity,
)
from weakseg.data.cases import Case
from weakseg.errors import WeaksegError, first_line
from weakseg.heatmaps.store import load_heatmap
from weakseg.masks.thresholds import normalise
from weakseg.report.pictures import contours, data_uri
from weakseg.report.read import RunTables
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.words import mean_of_networks

STEPS = 51
"""Thresholds at which the Dice is stored: 0, 0.02, …, 1."""
MOST_CASES, MOST_METHODS = 600, 6
"""What the page holds at most, so that it can be mailed."""
_SIDES = ((100, 208), (200, 160), (MOST_CASES, 112))
_HEAT_SIDE = 64
_LARGE, _SMALL = 2 / 3, 1 / 3


@dataclass(frozen=True)
class Pictured:
    """A test case with all that the page draws of it.

    Attributes
    ----------
    image, heat, truth : str
        ``data:`` addresses; ``heat`` and ``truth`` are empty where there is none. Heat is over its
        own maximum.
    masks : dict
        Method → ``data:`` address.
    curve : str
        Dice in thousandths at each of `STEPS` thresholds, gate included; empty without heat.
    problem : str
        Why there is no picture.
    """

    image: str = ""
    heat: str = ""
    truth: str = ""
    masks: dict[str, str] | None = None
    curve: str = ""
    problem: str = ""


def dice_curve(
    heat: npt.ArrayLike, truth: npt.ArrayLike, *, gated: bool = False
) -> npt.NDArray[np.float64]:
    """The Dice of one case at `STEPS` thresholds from 0 to 1.

    Parameters
    ----------
    heat : (M, N[, P]) array_like
        Over its own maximum; a mask is what lies strictly above the threshold.
    truth : array_like of bool
    gated : bool, optional
        Whether the gate empties every mask of the case.

    Returns
    -------
    (STEPS,) ndarray
        1 where mask and truth are both empty, as in `weakseg.scores`.
    """
    values, true = np.asarray(heat).ravel(), np.asarray(truth, dtype=bool).ravel()
    at = np.linspace(0, 1, STEPS)
    if gated:
        values = np.zeros_like(values)
    marked = values.size - np.searchsorted(np.sort(values), at, side="right")
    inside = np.sort(values[true])
    both = inside.size - np.searchsorted(inside, at, side="right")
    whole = marked + inside.size
    return np.where(whole > 0, 2 * both / np.maximum(whole, 1), 1.0)


def build(subject: Subject) -> Content:
    """All test cases of the method that is spoken of."""
    run, method = subject.run, subject.method
    wanted = subject.config.report.gallery > 0
    rows = case_rows(subject)
    shown = subject.scored and method is not None and len(rows) > 0
    pictured = pictures(subject) if shown and wanted else []
    scored = len(_of_first_seed(subject, method)) if shown and method is not None else 0
    context = {
        "cases": [
            {**row, "picture": picture}
            for row, picture in zip(rows.to_dict(orient="records"), pictured, strict=True)
        ]
        if pictured
        else [],
        "all_cases": rows.to_dict(orient="records"),
        "shown_methods": _methods(subject),
        "heat_of": _heat_method(subject),
        "written_seed": _seed_words(subject, subject.method),
        "heat_seed": _seed_words(subject, _heat_method(subject)),
        "start": _threshold(subject),
        "left_out": scored - len(rows),
        "unscored": len(test_cases(run)) - scored if shown else 0,
    }
    return Content(context, {"cases": rows}, shown=shown)


def test_cases(run: RunTables) -> list[str]:
    """Every test case by name."""
    return sorted(run.splits.loc[run.splits["split"] == "test", "case"].astype(str))


def case_rows(subject: Subject) -> pd.DataFrame:
    """What is known of each test case under the method that is spoken of, its first seed's."""
    columns = ["case", "patient", "label", "dice", "missed", "false_alarm", "lesion_pixels", "size"]
    table = subject.run.per_case
    if table.empty or subject.method is None:
        return pd.DataFrame(columns=columns)
    own = _of_first_seed(subject, subject.method).head(MOST_CASES)
    lesions = own.loc[own["has_lesion"].astype(bool), "lesion_pixels"]
    low, high = lesions.quantile([_SMALL, _LARGE]) if len(lesions) else (0, 0)
    size = np.select(
        [
            ~own["has_lesion"].astype(bool),
            own["lesion_pixels"] <= low,
            own["lesion_pixels"] >= high,
        ],
        ["healthy", "small", "large"],
        "middle",
    )
    return own.assign(size=size)[columns].reset_index(drop=True)


def _of_first_seed(subject: Subject, method: str) -> pd.DataFrame:
    """The rows of a method under the seed whose masks are drawn, by name."""
    table = subject.run.per_case
    own = table[table["method"] == method]
    seeds = own["seed"].fillna(-1)
    first = _seed(subject.run, method)
    own = own[seeds == (first if (seeds == first).any() else seeds.min())]
    return own.assign(case=own["case"].astype(str)).sort_values("case")


def _methods(subject: Subject) -> list[str]:
    """Whose masks can be laid over: the one spoken of, then the best of each group."""
    methods = [m for m in subject.groups if m in subject.run.thresholds]
    firsts = {subject.groups[m]: m for m in reversed(methods)}.values()
    order = [subject.method, *(m for m in methods if m in set(firsts)), *methods]
    return list(dict.fromkeys(m for m in order if m in methods))[:MOST_METHODS]


def _heat_method(subject: Subject) -> str | None:
    """The heatmap that the slider cuts: that of the method spoken of, else the first.

    None where the run has made none, as where segmenters alone were trained.
    """
    methods = [m for m in subject.config.heatmap_methods if m in subject.run.thresholds]
    return subject.method if subject.method in methods else next(iter(methods), None)


def _threshold(subject: Subject) -> float:
    """Where the slider stands first."""
    entries = subject.run.thresholds.get(subject.method or "", {}).values()
    set_ones = [e["threshold"] for e in entries if e["scale"] == "image" and e["threshold"]]
    return round(float(set_ones[0]) * (STEPS - 1)) / (STEPS - 1) if set_ones else 0.5


@lru_cache(maxsize=4)
def pictures(subject: Subject) -> list[Pictured]:
    """One entry a row of `case_rows`; what cannot be read says why."""
    names = list(case_rows(subject)["case"])
    side = next((s for most, s in _SIDES if len(names) <= most), _SIDES[-1][1])
    cases = subject.run.cases
    drawn = []
    for name in names:
        try:
            drawn.append(_pictured(subject, cases[name], side))
        except KeyError:
            drawn.append(Pictured(problem="the case is not in splits.csv"))
        except (WeaksegError, OSError, ValueError) as e:
            drawn.append(Pictured(problem=first_line(e)))
    return drawn


def _pictured(subject: Subject, case: Case, side: int) -> Pictured:
    run, data = subject.run, subject.config.data
    masks = {m: run.mask(m, _seed(run, m), case) for m in _methods(subject)}
    truth = case_truth(case, data)
    fullest = truth if truth is not None and truth.any() else next(iter(masks.values()))
    at = fullest_plane(case, fullest)
    image = contours(
        as_planes(case, case_image(case, data))[at],
        size=side,
        intensity=shown_intensity(case, data),
    )
    shape = (image.shape[1], image.shape[0])

    def drawn(mask: npt.NDArray[np.bool_]) -> str:
        return _png(as_planes(case, mask)[at] * np.uint8(255), shape, Image.Resampling.NEAREST)

    heat, curve = "", ""
    method = _heat_method(subject)
    if method is not None:
        stored = load_heatmap(run.heatmap_path(method, _seed(run, method), case.id))
        warm = normalise(stored.full())
        entry = run.thresholds.get(method, {}).get(f"seed-{_seed(run, method)}", {})
        gated = stored.probability < float(entry.get("gate") or 0)
        if truth is not None:
            dice = dice_curve(warm, truth, gated=gated)
            curve = " ".join(str(round(1000 * d)) for d in dice)
        if not gated:
            grey = np.floor(255 * as_planes(case, warm)[at]).astype(np.uint8)
            scale = min(1.0, _HEAT_SIDE / max(shape))
            small = (max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale)))
            heat = _png(grey, small, Image.Resampling.BILINEAR)
    return Pictured(
        image=data_uri(image, quality=70),
        heat=heat,
        truth="" if truth is None else drawn(truth),
        masks={m: drawn(mask) for m, mask in masks.items()},
        curve=curve,
    )


def _seed(run: RunTables, method: str) -> int:
    """The first under which a method's masks stand; the run's first where it has none."""
    entries = run.thresholds.get(method, {})
    return next((int(s.removeprefix("seed-")) for s in entries), run.config.seeds[0])


def _seed_words(subject: Subject, method: str | None) -> str:
    """Of which networks the pictures and the written Dice of a method are."""
    run = subject.run
    if method is None or method not in run.thresholds:
        return ""
    averaged = run.averaged(method)
    if averaged:
        return mean_of_networks(averaged)
    seeds = len(run.thresholds[method])
    return f"seed {_seed(run, method)}" + (f", the first of {seeds}" if seeds > 1 else "")


def _png(grey: Any, shape: tuple[int, int], how: Image.Resampling) -> str:
    buffer = io.BytesIO()
    picture = Image.fromarray(np.asarray(grey, dtype=np.uint8)).resize(shape, how)
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


TEMPLATE = r"""
<h2>Every test case</h2>
{% if not cases %}
<p>No pictures: this report was asked to have none (<code>report.gallery: 0</code>, or <code>--gallery 0</code>). The table of all cases is below, as CSV.</p>
{% else %}
<div class="live" data-steps="51">
<div class="tools" role="group" aria-label="What is shown of the cases">
{% if heat_of %}<label>Threshold <input type="range" class="threshold" min="0" max="1" step="0.02" value="{{ start }}"> <output class="at"></output></label>{% endif %}
<label>Outline <select class="mask">{% if heat_of %}<option value="">heat above the threshold</option>{% endif %}{% for m in shown_methods %}<option value="{{ m }}"{% if m == r.method and m != heat_of %} selected{% endif %}>{{ r.spoken(m) }}</option>{% endfor %}</select></label>
<label>Layer <select class="layer"><option value="heat">heatmap</option><option value="mask">filled mask</option><option value="none">none</option></select></label>
<label>Opacity <input type="range" class="opacity" min="0" max="1" step="0.05" value="0.5"></label>
<label>Show <select class="filter"><option value="">all</option><option value="missed">missed</option><option value="false-alarm">false alarms</option><option value="small">small lesions</option><option value="large">large lesions</option><option value="healthy">healthy</option></select></label>
<label>Sort <select class="order"><option value="case">name</option><option value="dice">Dice, lowest first</option><option value="pixels">lesion, largest first</option><option value="patient">patient</option></select></label>
<label>Search <input type="search" class="search" placeholder="case or patient"></label>
</div>
<p class="sums" role="status"></p>
<div class="tiles">
{% for c in cases %}
{% set p = c.picture %}
<figure class="case" tabindex="0" data-case="{{ c.case }}" data-patient="{{ c.patient }}" data-dice="{{ c.dice }}" data-pixels="{{ c.lesion_pixels }}" data-tags="{{ c.size }}{% if c.missed %} missed{% endif %}{% if c.false_alarm %} false-alarm{% endif %}" data-curve="{{ p.curve }}" data-heat="{{ p.heat }}" data-truth="{{ p.truth }}" data-masks="{{ (p.masks or {}) | tojson | forceescape }}">
{% if p.image %}<div class="view"><img src="{{ p.image }}" alt="{{ c.case }}, {{ c.label }}"></div>{% else %}<p class="note">No picture: {{ p.problem }}</p>{% endif %}
<figcaption>{{ c.case }}, patient {{ c.patient }}, {{ c.label }}{% if c.missed %}, missed{% endif %}{% if c.false_alarm %}, false alarm{% endif %}<br>Dice {{ c.dice | num(2) }} <span class="now"></span></figcaption></figure>
{% endfor %}
</div>
</div>
<p class="note">The written Dice is that of {{ r.spoken(r.method) }}{% if written_seed %} ({{ written_seed }}){% endif %}.{% if heat_of %} The threshold cuts the heatmap of {{ r.spoken(heat_of) }}{% if heat_seed %} ({{ heat_seed }}){% endif %}, over its own maximum, with the gate of its method; the Dice that moves with it was computed at full size, and at the test masks: for looking, never for choosing.{% endif %} Outlines are drawn at the size shown: light blue the true mask, orange the mask chosen. Small and large are the lower and upper third of lesions. Enter or a click enlarges a case, Escape closes it, arrows go to the next.{% if left_out > 0 %} {{ count(left_out, "further test case") }} found no room on a page that is to be mailed.{% endif %}{% if unscored > 0 %} {{ count(unscored, "test case") }} without a true mask {{ "is" if unscored == 1 else "are" }} not here: nothing could be scored there.{% endif %}</p>
{% endif %}
"""

SECTION = Section("cases", build, TEMPLATE)
