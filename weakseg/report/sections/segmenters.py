"""How every segmentation network was trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from weakseg.config import MANIFEST
from weakseg.contents import image_side
from weakseg.report.figures import segmenter_figure
from weakseg.report.read import RunTables
from weakseg.report.sections.base import Content, Section, Subject

SEGMENTER_COLUMNS = (
    "name", "arch", "weights", "masks", "seeds", "side", "patch", "sampler", "loss", "optimizer",
    "lr", "epochs", "steps", "batch", "average", "training_masks", "validation_masks",
    "sampled_prior", "true_prior", "ensemble", "seconds",
)  # fmt: skip

OF_A_KIND = ("arch", "patch", "sampler", "loss", "optimizer", "lr", "epochs", "average")
"""What may differ between networks of several kinds."""


def build(subject: Subject) -> Content:
    """The table of networks, and how their training went."""
    run = subject.run
    table = segmenter_table(run)
    trained = {
        n: {s: t.metrics for s, t in seeds.items() if len(t.metrics)}
        for n, seeds in run.segmenters.items()
    }
    drawn = (
        {"segmenters": segmenter_figure(trained, subject.colours)} if any(trained.values()) else {}
    )
    context = {
        "segmenters": table.to_dict(orient="records"),
        "sides": table["side"].notna().any(),
        "lacking": lacking(run),
    }
    shown = subject.scored and len(table) > 0
    return Content(context, {"segmenters": table}, drawn, shown=shown)


def lacking(run: RunTables) -> list[str]:
    """The experiment's segmenters that are not trained yet, of all their seeds.

    Trainings of days are done name by name, and a page made meanwhile is to say what it lacks.
    """
    wanted = {name: set(run.config.segmenter_seeds(name)) for name in run.config.segmenters}
    return [n for n, seeds in wanted.items() if seeds - set(run.segmenters.get(n, ()))]


def segmenter_table(run: RunTables) -> pd.DataFrame:
    """How every supervised network was trained.

    Seconds are the mean over its seeds, or the sum where their networks are averaged. Where these
    are of several kinds, what differs is joined by +.
    """
    rows = []
    for name, seeds in run.segmenters.items():
        settings = next(iter(seeds.values())).settings
        each = [t.settings["settings"] for t in seeds.values()]
        s = each[0] | {k: _joined([one.get(k) for one in each]) for k in OF_A_KIND}
        seen = {k: _joined([t.settings[k] for t in seeds.values()]) for k in ("steps", "batch")}
        begins = [Path(one["weights"]).name for one in each]
        spent = [run.stages.get(f"segmenter/{name}/{seed}", {}).get("seconds") for seed in seeds]
        seconds = [t for t in spent if t is not None]
        together = bool(run.averaged(name))
        rows.append(
            {c: s.get(c) for c in SEGMENTER_COLUMNS if c in s}
            | {c: settings.get(c) for c in SEGMENTER_COLUMNS if c in settings}
            | seen
            | {
                "masks": s.get("masks", MANIFEST),
                "name": name,
                # A report goes to others: what their machine calls the file is no use to them.
                "weights": _joined(begins),
                "seeds": len(seeds),
                "side": image_side(settings),
                "ensemble": together,
                "seconds": sum(seconds) / (1 if together else len(seconds)) if seconds else None,
            }
        )
    return pd.DataFrame(rows, columns=list(SEGMENTER_COLUMNS))


def _joined(values: Sequence[Any]) -> Any:
    """A value that all have; of several each once."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else " + ".join(map(str, different))


TEMPLATE = r"""
<h2>Segmentation networks</h2>
<div class="scroll"><table class="wrapped"><thead><tr><th class="text">name</th><th class="text">network</th><th class="text">weights at the start</th><th>seeds</th>{% if sides %}<th>longest side</th>{% endif %}<th>patch</th><th class="text">sampler</th><th class="text">loss</th><th class="text">optimiser</th><th>epochs × steps × batch</th><th class="text">trained on</th><th>true masks</th><th>validation masks</th><th>lesion in patches / in images</th><th>seconds a seed</th></tr></thead><tbody>
{% for s in segmenters %}<tr><td class="text">{{ s.name }}</td><td class="text">{{ s.arch }}</td><td class="text">{{ s.weights }}</td><td>{{ s.seeds }}{% if s.ensemble %}, averaged{% endif %}</td>{% if sides %}<td>{{ s.side | num(0) }}</td>{% endif %}<td>{{ s.patch }}</td><td class="text">{{ s.sampler }}</td><td class="text">{{ s.loss }}</td><td class="text">{{ s.optimizer }} {{ s.lr }}{% if s.average != "none" %}, {{ s.average }}{% endif %}</td><td>{{ s.epochs }} × {{ s.steps }} × {{ s.batch }}</td><td class="text">{{ "true masks" if s.masks in ("manifest", none) else "masks of " ~ s.masks }}</td><td>{{ s.training_masks }}</td><td>{{ s.validation_masks }}</td><td>{{ s.sampled_prior | pct }} / {{ s.true_prior | pct }}</td><td>{{ s.seconds | num(0) }}{% if s.ensemble %} in all{% endif %}</td></tr>
{% endfor %}</tbody></table></div>
<p class="note">Masks counted are those of images with a lesion; healthy images need none. Thresholds stand below, with the masks that they saw.</p>
{% if lacking %}<p class="note">Not trained yet, of the networks that the experiment names: {{ lacking | join(", ") }}. <code>weakseg train-segmenter CONFIG --only NAME</code> trains one.</p>{% endif %}
<div class="grid">
{% if figures.segmenters is defined %}{{ figure(figures.segmenters, "Training of the segmentation networks, a line a seed; losses of different kinds cannot be compared. The validation Dice is for looking, unless validation masks are counted above.") }}{% endif %}
</div>
"""

SECTION = Section("segmenters", build, TEMPLATE)
