"""Every method in one table, with its lead over the best trivial floor."""

from __future__ import annotations

from weakseg.report import figures, words
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.tables import spread_table
from weakseg.scores import DISTANCE_RULE, EMPTY_RULE


def build(subject: Subject) -> Content:
    """The table, and the Dice of all methods drawn."""
    methods, run = subject.methods, subject.run
    spread = spread_table(run.per_case, list(subject.groups))
    drawn = {}
    if subject.scored:
        drawn["dice"] = figures.dice_figure(methods)
        drawn["spread"] = figures.spread_figure(spread, subject.groups)
    averaged = {m: run.averaged(m) for m in subject.groups}
    return Content(
        {
            "methods": methods.to_dict(orient="records"),
            "averaged": {m: words.mean_of_networks(s) for m, s in averaged.items() if s},
            "empty_rule": EMPTY_RULE,
            "distance_rule": DISTANCE_RULE,
        },
        {"methods": methods, "case_spread": spread},
        drawn,
    )


TEMPLATE = r"""
<h2>Methods</h2>
{% if methods %}
{{ method_table(methods, false, r.method, r.colours) }}
{% set m = methods[0] %}
<p class="note">{{ count(m.lesion_images, "test image") }} with a lesion, {{ count(m.healthy_images, "healthy test image") }}, {{ count(m.patients, "patient") }}. Small figures in brackets: 95&nbsp;% intervals, bootstrap over patients. <b>Dice</b>, IoU, HD95, MSD (mean surface distance) and missed: images with a lesion. <b>Dice, patients</b>: all images of a patient taken together, as one volume. <b>Lead</b>: Dice minus that of the best trivial floor, image by image. <b>NSD (2)</b>: share of both borders within 2 {{ r.distances }} of the other. <b>Missed</b>: lesions with an empty mask. <b>Lesions found</b>: share of an image's lesions of which some is marked; <b>false lesions</b>: marked parts that touch none, over all images. <b>False positives</b>: healthy images with any mark; where none has one, or all, the interval is the exact one of so many patients. Distances are in {{ r.distances }}. <b>AP, pointing, energy</b> score the heatmap before any threshold, so that they are equal under every rule. <b>Seed sd</b>: how far the mean Dice moves with the network's seed.</p>
{% for m, of in averaged.items() %}<p class="note">{{ m }} is {{ of }}: one set of masks, scored once.</p>{% endfor %}
<p class="note">{{ empty_rule }} {{ distance_rule }}</p>
<div class="grid">
{{ figure(figures.dice, "Dots: mean Dice; bars: 95\u00a0% intervals over patients; dashed line and band: the best trivial floor. A method has its colour on the whole page. Blue: saw no masks; purple: masks had a part in it; green: fully supervised; grey: floors; orange: upper bounds.") }}
{{ figure(figures.spread, "Dice over the cases: tick = median, thick bar = middle half, thin line = 5\u00a0% to 95\u00a0% of the images with a lesion.") }}
</div>
{% else %}
<p>Nothing could be scored: masks of at least one lesion in the test split are needed. {% if r.seeds %}Below are the classifier's scores, and pictures of what its heatmaps mark.{% endif %}</p>
{% endif %}
"""

SECTION = Section("methods", build, TEMPLATE)
