"""Whole volumes, where the cases are slices: their scores, their largest slices, and their worst."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import pandas as pd

from weakseg.data.cases import Case
from weakseg.errors import WeaksegError, first_line
from weakseg.report.pictures import data_uri
from weakseg.report.read import RunTables
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.sections.gallery import case_picture
from weakseg.report.tables import method_table

LARGEST, WORST = "largest", "worst"
SLICES = {LARGEST: "the slice of the largest area", WORST: "the slice of the lowest Dice"}
"""Which slice of a volume is shown → in words."""


@dataclass(frozen=True)
class ShownSlice:
    """One slice of a volume on the page.

    Attributes
    ----------
    volume, patient : str
    volume_dice : float
        Of the whole volume.
    which : str
        A key of `SLICES`.
    case : str
    dice : float
        Of the slice.
    picture, problem : str
        As of the gallery.
    """

    volume: str
    patient: str
    volume_dice: float
    which: str
    case: str
    dice: float
    picture: str
    problem: str


def build(subject: Subject) -> Content:
    """The table of methods by volume, and slices of the volumes of the method that is spoken of."""
    run = subject.run
    table = method_table(run.volumes, run.per_volume, **subject.draw)
    method = subject.method
    shown = [] if method is None or run.per_volume.empty else list(_shown(run, method))
    seed = _seed(run, method) if shown and method is not None else None
    captions = pd.DataFrame([asdict(s) for s in shown]).drop(columns="picture", errors="ignore")
    context = {
        "methods": table.to_dict(orient="records"),
        "method": method,
        "seed": seed,
        "slices": shown,
        "which": SLICES,
    }
    tables = {"volumes": table, "volume_slices": captions}
    return Content(context, tables, shown=len(table) > 0)


def _seed(run: RunTables, method: str) -> int:
    return int(run.per_volume.loc[run.per_volume["method"] == method, "seed"].iloc[0])


def _shown(run: RunTables, method: str) -> Iterator[ShownSlice]:
    """Of the volumes with the lowest Dice the two slices that tell most."""
    of_method = run.per_volume["method"] == method
    if not of_method.any():
        return
    seed = _seed(run, method)
    volumes = run.per_volume[of_method & (run.per_volume["seed"] == seed)]
    volumes = volumes[volumes["has_lesion"].astype(bool)].sort_values(["dice", "case"])
    rows = run.per_case[(run.per_case["method"] == method) & (run.per_case["seed"] == seed)]
    cases = run.cases
    file = rows["case"].map(lambda c: cases[c].file if c in cases else "")
    for _, v in volumes.head(run.config.report.gallery).iterrows():
        slices = rows[(file == v["case"]) & rows["has_lesion"].astype(bool)]
        if slices.empty:
            continue
        largest = slices.loc[slices["lesion_pixels"].idxmax()]
        for which, row in ((LARGEST, largest), (WORST, slices.loc[slices["dice"].idxmin()])):
            picture, problem = _drawn(run, method, seed, cases[str(row["case"])])
            yield ShownSlice(
                str(v["case"]),
                str(v["patient"]),
                float(v["dice"]),
                which,
                str(row["case"]),
                float(row["dice"]),
                picture,
                problem,
            )


def _drawn(run: RunTables, method: str, seed: int, case: Case) -> tuple[str, str]:
    try:
        picture, _ = case_picture(run, method, seed, case, None)
        return data_uri(picture), ""
    except (WeaksegError, OSError, ValueError) as e:
        return "", first_line(e)


TEMPLATE = r"""
<h2>Whole volumes</h2>
{{ method_table(methods, false, r.method, r.colours) }}
{% set m = methods[0] %}
<p class="note">The masks of a volume's slices taken together, over the slices that the manifest lists: {{ count(m.lesion_images, "test volume") }} with a lesion, {{ count(m.healthy_images, "healthy test volume") }}, {{ count(m.patients, "patient") }}. Distances are in {{ r.distances }}, along all three axes; lesions are connected in three dimensions. Intervals: bootstrap over patients.</p>
{% if slices %}
<p class="note">{{ method }}, seed {{ seed }}: of the volumes with the lowest Dice {{ which.values() | join(" and ") }}.</p>
<div class="cases">
{% for s in slices %}
<figure>{% if s.picture %}<img src="{{ s.picture }}" alt="{{ s.case }}: image, heatmap, outlines" loading="lazy">{% else %}<p class="note">No picture: {{ s.problem }}</p>{% endif %}
<figcaption>{{ s.volume }}, patient {{ s.patient }}, Dice {{ s.volume_dice | num(2) }}: {{ which[s.which] }}, {{ s.case }}, Dice {{ s.dice | num(2) }}</figcaption></figure>
{% endfor %}
</div>
{% endif %}
"""

SECTION = Section("volumes", build, TEMPLATE)
