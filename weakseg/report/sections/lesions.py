"""The lesions of the masks, measured one by one: how many, how large, and a table of them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from weakseg.report.sections.base import Content, Section, Subject

MOST = 1000
"""Lesions that the page's table holds, the largest; ``scores/lesions.csv`` has all."""

SPOKEN, OF_METHODS = "lesions", "lesions_of_methods"
"""Tables: the lesions of the method that is spoken of, and what each method's come to."""


def build(subject: Subject) -> Content:
    """What each method's lesions come to, and those of the method that is spoken of."""
    lesions = subject.run.lesions
    if lesions.empty:
        return Content({}, {n: pd.DataFrame() for n in (OF_METHODS, SPOKEN)}, shown=False)
    first = lesions.groupby("method", sort=False)["seed"].transform("first")
    lesions = lesions[lesions["seed"] == first]
    # mm and pixels have no common median: files that tell their spacing and others stand apart.
    apart = lesions.groupby(["method", "unit"], sort=False)
    table = pd.DataFrame([_summed(str(m), str(u), of) for (m, u), of in apart])
    own = lesions[lesions["method"] == subject.method]
    largest = own.sort_values(["unit", "size"], ascending=[True, False], kind="stable").head(MOST)
    context = {
        "rows": table.to_dict(orient="records"),
        "method": subject.method,
        "bounds": [m for m, group in subject.groups.items() if group == "oracle"],
        "units": sorted(lesions["unit"].unique()),
        "power": "³" if lesions["key_slice"].notna().any() else "²",
        "cut": len(own) > MOST,
        "most": MOST,
    }
    return Content(context, {OF_METHODS: table, SPOKEN: largest})


def _summed(method: str, unit: str, lesions: pd.DataFrame) -> dict[str, Any]:
    size = lesions["size"]
    return {
        "method": method,
        "seed": int(lesions["seed"].iloc[0]),
        "lesions": len(lesions),
        "files": int(lesions["case"].nunique()),
        "unit": unit,
        "size": float(size.median()),
        "smallest": float(size.min()),
        "largest": float(size.max()),
        "diameter": float(lesions["diameter"].median()),
    }


TEMPLATE = r"""
{%- set unit = units[0] if units|length == 1 else "unit" %}
{%- set counted = unit in ("pixels", "voxels") %}
<h2>Lesions, measured</h2>
<div class="scroll"><table><thead><tr><th class="text">method</th><th>seed</th><th>lesions</th><th>in files</th>{% if units|length > 1 %}<th class="text">unit</th>{% endif %}<th>median size, {{ unit }}{{ power if not counted }}</th><th>smallest</th><th>largest</th><th>median longest diameter, {{ unit }}</th></tr></thead><tbody>
{% for m in rows %}<tr><td class="text">{{ m.method }}{% if m.method in bounds %} (upper bound){% endif %}</td><td>{{ m.seed }}</td><td>{{ m.lesions }}</td><td>{{ m.files }}</td>{% if units|length > 1 %}<td class="text">{{ m.unit }}</td>{% endif %}<td>{{ m.size | num(1 if m.unit == 'mm' else 0) }}</td><td>{{ m.smallest | num(1 if m.unit == 'mm' else 0) }}</td><td>{{ m.largest | num(1 if m.unit == 'mm' else 0) }}</td><td>{{ m.diameter | num(1) }}</td></tr>
{% endfor %}</tbody></table></div>
<p class="note">Connected parts of the masks of the test images; methods without any are not listed. A row a lesion, with size, longest diameter, centre, slice, mean intensity, heat and the classifier's probability, is in <code>scores/lesions.csv</code> of the run, for every method and seed{% if method %}, and in a table of this page for {{ r.spoken(method) }}{{ " (the largest " ~ most ~ ")" if cut }}{% endif %}. Measurements are of these masks, as right and as wrong as they are.</p>
"""

SECTION = Section("lesions", build, TEMPLATE)
