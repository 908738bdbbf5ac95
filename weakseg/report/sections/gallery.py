"""The gallery: which cases are shown, and their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

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
from weakseg.report.pictures import (
    MASK_COLOUR,
    RGB,
    TRUTH_COLOUR,
    contours,
    data_uri,
    overlay,
    strip,
)
from weakseg.report.read import RunTables
from weakseg.report.sections.base import Content, Section, Subject

ROWS = {
    "best": "Best",
    "median": "Median of those that were found",
    "worst": "Worst that were found",
    "missed": "Missed: a lesion and an empty mask, largest first",
    "false alarm": "False alarms: marks on healthy images, largest first",
}
"""Row → its heading, where true masks are known."""
BLIND_ROWS = {
    "likely": "Images with a lesion, most probable first",
    "unlikely": "Images with a lesion, least probable first",
    "healthy": "Healthy images, most probable lesion first",
}
"""Row → its heading, where nothing could be scored."""


@dataclass(frozen=True)
class Shown:
    """One case of the gallery.

    Attributes
    ----------
    row : str
        A key of `ROWS` or `BLIND_ROWS`.
    case, patient, label : str
    dice : float
        NaN where the true mask is not known.
    probability : float
        P(lesion).
    picture : str
        ``data:`` address: image, heatmap over it, outlines over it, and the outlines of a
        supervised network where there is one; of volumes a slice.
    problem : str
        Why there is no picture; else empty.
    plane : str
        Which slice of the third axis is shown; empty for images.
    """

    row: str
    case: str
    patient: str
    label: str
    dice: float
    probability: float
    picture: str
    problem: str
    plane: str = ""


def choose_cases(per_case: pd.DataFrame, count: int) -> pd.DataFrame:
    """Cases for each row of the gallery.

    Parameters
    ----------
    per_case : DataFrame
        The rows of one method and seed.
    count : int
        The most cases a row.

    Returns
    -------
    DataFrame
        The chosen rows with a column ``row``; no case stands twice. Best, median and worst are
        taken from the images with a lesion whose mask is not empty; where these are too few for
        all three rows, the best come first, then the worst.
    """
    lesion = per_case[per_case["has_lesion"].astype(bool)]
    missed = lesion[lesion["missed"].astype(bool)]
    hit = lesion[~lesion["missed"].astype(bool)].sort_values(
        ["dice", "case"], ascending=[False, True]
    )
    best = hit.head(count)
    rest = hit.iloc[len(best) :]
    worst = rest.tail(count).iloc[::-1]
    middle = rest.iloc[: len(rest) - len(worst)]
    # Neighbours of the median of all, not of what is left over.
    start = max(0, len(hit) // 2 - count // 2 - len(best))
    median = middle.iloc[min(start, max(0, len(middle) - count)) :].head(count)
    alarms = per_case[per_case["false_alarm"].astype(bool)]
    parts = {
        "best": best,
        "median": median,
        "worst": worst,
        "missed": missed.sort_values(["lesion_pixels", "case"], ascending=[False, True]),
        "false alarm": alarms.sort_values(["predicted_pixels", "case"], ascending=[False, True]),
    }
    return pd.concat([t.head(count).assign(row=name) for name, t in parts.items()])


def choose_unscored(
    predictions: pd.DataFrame, lesion_labels: list[str], count: int
) -> pd.DataFrame:
    """Cases to show where nothing could be scored: by the classifier's probability alone."""
    test = predictions[predictions["split"] == "test"]
    order = test.sort_values(["lesion_probability", "case"], ascending=[False, True])
    is_lesion = order["label"].isin(lesion_labels)
    lesion, healthy = order[is_lesion], order[~is_lesion]
    likely = lesion.head(count)
    parts = {
        "likely": likely,
        "unlikely": lesion.iloc[len(likely) :].tail(count).iloc[::-1],
        "healthy": healthy.head(count),
    }
    chosen = pd.concat([t.assign(row=name) for name, t in parts.items()])
    return chosen.rename(columns={"lesion_probability": "probability"}).assign(dice=float("nan"))


def gallery(run: RunTables, method: str, seed: int) -> list[Shown]:
    """The pictures of a method and seed, in the order of the rows.

    A case whose files are gone or damaged is shown by its caption and what is wrong: a report
    can be made where the images no longer are.
    """
    count = run.config.report.gallery
    if not count:
        return []
    if run.per_case.empty and seed not in run.classifiers:
        return []
    if run.per_case.empty:
        predictions = run.classifiers[seed].predictions
        chosen = choose_unscored(predictions, run.data.get("lesion_labels", []), count)
    else:
        of_seed = (run.per_case["method"] == method) & (run.per_case["seed"] == seed)
        chosen = choose_cases(run.per_case[of_seed], count)
    other, cases = _beside(run, method), run.cases
    return [_draw(run, method, seed, cases, other, c) for _, c in chosen.iterrows()]


def _beside(run: RunTables, method: str) -> str | None:
    other = compared_network(run)
    return None if other == method else other


def _draw(
    run: RunTables,
    method: str,
    seed: int,
    cases: Mapping[str, Case],
    other: str | None,
    chosen: pd.Series,
) -> Shown:
    """A row that `choose_cases` gave, with its picture or why there is none."""
    case = str(chosen["case"])
    picture, problem, plane = "", "", ""
    try:
        drawn, plane = case_picture(run, method, seed, cases[case], other)
        picture = data_uri(drawn)
    except KeyError:
        problem = "the case is not in splits.csv"
    except (WeaksegError, OSError, ValueError) as e:
        problem = first_line(e)
    return Shown(
        row=str(chosen["row"]),
        case=case,
        patient=str(chosen["patient"]),
        label=str(chosen["label"]),
        dice=float(chosen["dice"]),
        probability=float(chosen["probability"]),
        picture=picture,
        problem=problem,
        plane=plane,
    )


def compared_network(run: RunTables) -> str | None:
    """The supervised network whose masks stand beside those of heatmaps: the first that has any."""
    supervised = [n for n, s in run.config.segmenters.items() if not s.weak]
    return next((n for n in supervised if n in run.segmenters and n in run.thresholds), None)


def case_picture(
    run: RunTables, method: str, seed: int, case: Case, other: str | None
) -> tuple[RGB, str]:
    """Image, heat and outlines, on the plane with most of the lesion (else of the mask).

    And which plane that is, in words.
    """
    data = run.config.data
    mask, truth = run.mask(method, seed, case), case_truth(case, data)
    at = fullest_plane(case, mask if truth is None or not truth.any() else truth)
    planes, how = as_planes(case, case_image(case, data)), shown_intensity(case, data)
    image = planes[at]
    true = None if truth is None else as_planes(case, truth)[at]
    parts = [contours(image, intensity=how)]
    if method in run.config.heatmap_methods:
        heat = load_heatmap(run.heatmap_path(method, seed, case.id)).full()
        parts.append(overlay(image, as_planes(case, heat)[at], intensity=how))
    parts.append(contours(image, as_planes(case, mask)[at], true, intensity=how))
    if other is not None:
        theirs = run.mask(other, next(iter(run.segmenters[other])), case)
        parts.append(contours(image, as_planes(case, theirs)[at], true, intensity=how))
    return strip(parts), f"slice {at + 1} of {len(planes)}" if len(planes) > 1 else ""


@lru_cache(maxsize=8)
def shown_cases(subject: Subject) -> list[Shown]:
    """The cases of the method that is spoken of; of others where nothing was scored."""
    method = subject.method or _first_method(subject)
    seed = _first_seed(subject.run, method)
    if method is None or seed is None:
        return []
    return gallery(subject.run, method, seed)


def typical_case(per_case: pd.DataFrame) -> pd.DataFrame:
    """The lesion of the median Dice, missed ones among them, of the rows of a method and seed.

    Of an even number the lower of the two in the middle. One row, with a column ``row`` as
    `choose_cases` has it, or none where there is no lesion.
    """
    lesion = per_case[per_case["has_lesion"].astype(bool)].sort_values(["dice", "case"])
    middle = lesion.iloc[(len(lesion) - 1) // 2 :].head(1) if len(lesion) else lesion
    return middle.assign(row=np.where(middle["missed"].astype(bool), "missed", "median"))


def first_pictures(subject: Subject) -> dict[str, Shown]:
    """A typical case, the best and one that failed.

    Typical is `typical_case`. Failed is the largest lesion without a mask; where none was missed,
    that of the lowest Dice; another than the typical one where there is one. Empty where nothing
    was scored, or no picture is wanted.
    """
    shown = shown_cases(subject)
    typical = _typical(subject, shown)
    best = next((c for c in shown if c.row == "best"), None)
    bad = [c for row in ("missed", "worst") for c in shown if c.row == row]
    # Where most lesions were missed the typical one is among them: another where there is one.
    others = [c for c in bad if typical is None or c.case != typical.case]
    firsts = {"median": typical, "best": best, "failed": next(iter(others or bad), None)}
    return {name: c for name, c in firsts.items() if c is not None}


def _typical(subject: Subject, shown: Sequence[Shown]) -> Shown | None:
    run, method = subject.run, subject.method
    seed = _first_seed(run, method)
    if not shown or method is None or seed is None or run.per_case.empty:
        return None
    own = run.per_case[(run.per_case["method"] == method) & (run.per_case["seed"] == seed)]
    for _, c in typical_case(own).iterrows():
        drawn = next((s for s in shown if s.case == str(c["case"])), None)
        return drawn or _draw(run, method, seed, run.cases, _beside(run, method), c)
    return None


def build(subject: Subject) -> Content:
    """The pictures below one another, by how well they went."""
    run = subject.run
    method = subject.method or _first_method(subject)
    seed = _first_seed(run, method)
    shown = shown_cases(subject)
    captions = pd.DataFrame([asdict(s) for s in shown]).drop(columns="picture", errors="ignore")
    context = {
        "cases": shown,
        "method": method,
        "seed": seed,
        "compared": compared_network(run),
        "rows": ROWS | BLIND_ROWS,
        "mask_colour": MASK_COLOUR,
        "truth_colour": TRUTH_COLOUR,
    }
    return Content(context, {"gallery": captions}, shown=bool(shown))


def _first_seed(run: RunTables, method: str | None) -> int | None:
    """The first seed under which a method's masks stand."""
    entries = run.thresholds.get(method or "", {})
    return next((int(seed.removeprefix("seed-")) for seed in entries), None)


def _first_method(subject: Subject) -> str | None:
    """A method to show where nothing was scored: the one that is asked for, or the first."""
    order = [subject.config.report.method, *subject.method_order]
    return next((m for m in order if m in subject.run.thresholds), None)


TEMPLATE = r"""
<h2>Pictures</h2>
<p class="note">{{ method }}, seed {{ seed }} (the first). Each strip: the image{% if cases | selectattr("plane") | list %} (the slice of the third axis with most of the lesion){% endif %}{% if method in r.config.heatmap_methods %}; the heatmap over it, scaled to its own maximum{% endif %}; the outline of {% if r.scored %}<span class="key"><span class="swatch" style="background:{{ truth_colour }}"></span>truth</span> and {% endif %}<span class="key"><span class="swatch" style="background:{{ mask_colour }}"></span>mask</span>{% if compared and method != compared %}; the same for {{ compared }}{% endif %}.</p>
{% for row, heading in rows.items() %}
{% set of_row = cases | selectattr("row", "equalto", row) | list %}
{% if of_row %}
<h3>{{ heading }}</h3>
<div class="cases">
{% for c in of_row %}
<figure>{% if c.picture %}<img src="{{ c.picture }}" alt="{{ c.case }}: image, heatmap, outlines" loading="lazy">{% else %}<p class="note">No picture: {{ c.problem }}</p>{% endif %}
<figcaption>{{ c.case }}, patient {{ c.patient }}, {{ c.label }}{% if c.plane %}, {{ c.plane }}{% endif %}{% if c.dice | given and row != "false alarm" %}, Dice {{ c.dice | num(2) }}{% endif %}{% if c.probability | given %}, P(lesion) {{ c.probability | num(2) }}{% endif %}</figcaption></figure>
{% endfor %}
</div>
{% endif %}
{% endfor %}
"""

SECTION = Section("gallery", build, TEMPLATE)
