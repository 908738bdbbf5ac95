"""The lesions of the method that is spoken of, measured one by one."""

from __future__ import annotations

import pandas as pd

from weakseg.report.sections.base import Content, Section, Subject

MOST = 1000
"""Lesions that the page's table holds, the largest; ``scores/lesions.csv`` has all."""


def build(subject: Subject) -> Content:
    """How many lesions the masks hold and how large they are, and a table of them."""
    run, method = subject.run, subject.method
    every = run.lesions
    own = every[every["method"] == method] if len(every) and method is not None else every.iloc[:0]
    if own.empty:
        return Content({}, {"lesions": pd.DataFrame()}, shown=False)
    seed = int(own["seed"].iloc[0])
    own = own[own["seed"] == seed]
    size = own["size"]
    largest = own.sort_values("size", ascending=False, kind="stable").head(MOST)
    unit = sorted(own["unit"].unique())
    power = "³" if own["key_slice"].notna().any() else "²"
    context = {
        "method": method,
        "seed": seed,
        "found": len(own),
        "cases": own["case"].nunique(),
        "unit": f"{' or '.join(unit)}{power}",
        "length": " or ".join(unit),
        "median": float(size.median()),
        "smallest": float(size.min()),
        "largest": float(size.max()),
        "diameter": float(own["diameter"].median()),
        "cut": len(own) > MOST,
        "most": MOST,
    }
    return Content(context, {"lesions": largest})


TEMPLATE = r"""
<h2>Lesions, measured</h2>
<p>The masks of {{ method }}, seed {{ seed }}, hold {{ found }} connected {{ "lesions" if found != 1 else "lesion" }} in {{ cases }} test {{ "files" if cases != 1 else "file" }}: median size {{ median | num }} {{ unit }} ({{ smallest | num }} to {{ largest | num }}), median longest diameter {{ diameter | num }} {{ length }}.</p>
<p class="note">A row a lesion, with size, diameter, centre, mean intensity, heat and the classifier's probability, is in the table below{{ " (the largest " ~ most ~ ")" if cut }}; <code>scores/lesions.csv</code> of the run has those of every method. Measurements are of these masks, as right and as wrong as they are.</p>
"""

SECTION = Section("lesions", build, TEMPLATE)
