"""What of an image the masks of segmentation networks stand on, where that was asked."""

from __future__ import annotations

import pandas as pd

from weakseg.heatmaps.preserved import MASK, RANDOM
from weakseg.heatmaps.segmentation import KWC, SEG_GRADCAM
from weakseg.report.sections.base import Content, Section, Subject

SPOKEN = {
    SEG_GRADCAM: "Seg-Grad-CAM, bottleneck alone",
    "gradcam": "Grad-CAM, all layers behind it",
    "gradcam++": "Grad-CAM++, all layers behind it",
    "layercam": "LayerCAM, all layers behind it",
    KWC: "Kernel-Weighted Contribution",
    RANDOM: "a smooth random map",
    MASK: "the mask itself",
}
"""Attributions and controls as the page calls them."""


def build(subject: Subject) -> Content:
    """A row an attribution and a segmenter; shown where one was explained."""
    rows = [
        {"segmenter": segmenter, "attribution": name}
        | {
            f"{column}{end}": found[column][key]
            for column in found
            for key, end in (("value", ""), ("low", "_low"), ("high", "_high"))
        }
        for segmenter, about in subject.run.attribution.items()
        for name, found in about["attributions"].items()
    ]
    table = pd.DataFrame(rows)
    if table.empty:
        return Content({}, {"attribution": table}, shown=False)
    context = {
        "rows": table.to_dict(orient="records"),
        "spoken": SPOKEN,
        "several": len(subject.run.attribution) > 1,
        "images": {n: about["images"] for n, about in subject.run.attribution.items()},
    }
    return Content(context, {"attribution": table})


TEMPLATE = r"""
<h2>What the masks of networks stand on</h2>
<div class="scroll"><table><thead><tr>{% if several %}<th class="text">network</th>{% endif %}<th class="text">attribution</th><th>image preserved</th><th>prediction preserved</th><th>prediction preserved by a quarter of the image</th></tr></thead><tbody>
{% for m in rows %}<tr>{% if several %}<td class="text">{{ m.segmenter }}</td>{% endif %}<td class="text">{{ spoken[m.attribution] | default(m.attribution) }}</td><td>{{ value(m.image_preserved, m.image_preserved_low, m.image_preserved_high) }}</td><td>{{ value(m.prediction_preserved, m.prediction_preserved_low, m.prediction_preserved_high) }}</td><td>{{ value(m.quarter_preserved, m.quarter_preserved_low, m.quarter_preserved_high) }}</td></tr>
{% endfor %}</tbody></table></div>
<p class="note">Each image is multiplied by the attribution of its mask and segmented again. Image preserved: mean of the attribution, from 0 to 1. Prediction preserved: Dice between the new mask and the old one; good attributions keep much of the prediction and little of the image. In the last column all keep as much: the highest quarter, nothing else. No true mask is looked at ({% for name, n in images.items() %}{{ name }}: {{ n }} test image{{ "s" if n != 1 }} in which it marks something{{ ", " if not loop.last }}{% endfor %}). An attribution that does not beat the random map says nothing; the mask itself is no explanation, and what it preserves is what the network needs no surroundings for.</p>
"""

SECTION = Section("attribution", build, TEMPLATE)
