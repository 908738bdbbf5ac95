"""What was done, on what, and how to repeat it."""

from __future__ import annotations

import shlex
from pathlib import Path

from weakseg.layout import config_file
from weakseg.report.read import RunTables
from weakseg.report.sections.base import Content, Section, Subject
from weakseg.report.tables import split_table, stage_table, threshold_table


def build(subject: Subject) -> Content:
    """Splits, thresholds, stages, machine and experiment."""
    run = subject.run
    tables = {
        "splits": split_table(subject.data),
        "thresholds": threshold_table(run.thresholds),
        "stages": stage_table(run.stages),
    }
    context = {name: t.to_dict(orient="records") for name, t in tables.items()} | {
        "environment": run.record.get("environment", {}),
        "seed": run.record.get("seed"),
        "layers": {
            n.rsplit("/", 1)[-1]: str(s["layer"]) for n, s in run.stages.items() if "layer" in s
        },
        "random_tensors": _random_tensors(run),
        "config_text": config_file(run.folder).read_text(encoding="utf-8"),
        "command": _command(run.folder),
    }
    return Content(context, tables)


def _random_tensors(run: RunTables) -> str:
    """How much of the network began at random, in words."""
    recorded = [s["random_tensors"] for s in run.stages.values() if "random_tensors" in s]
    if not recorded:
        return "not recorded"
    return "all of it" if recorded[0] == ["all"] else ", ".join(recorded[0]) or "none of it"


def _command(folder: Path) -> str:
    config, again = shlex.quote(str(config_file(folder))), shlex.quote(f"{folder}-again")
    return f"weakseg compare {config} --run-dir {again}"


TEMPLATE = r"""
<h2>What was done, and on what</h2>
<h3>Data</h3>
<div class="scroll"><table><thead><tr><th class="text">split</th><th>images</th><th>patients</th><th>masks</th>{% for l in r.labels %}<th>{{ l }} ({{ "healthy" if l in r.data.healthy_labels else "lesion" }})</th>{% endfor %}</tr></thead><tbody>
{% for s in splits %}<tr><td class="text">{{ s.split }}</td><td>{{ s.images }}</td><td>{{ s.patients if r.patients_known else "unknown" }}</td><td>{{ s.masks }}</td>{% for l in r.labels %}<td>{{ s["label " ~ l] }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
<dl>
<dt>Source</dt><dd>{{ r.data.source }}</dd>
<dt>Fingerprint of the data</dt><dd><code>{{ r.data.fingerprint }}</code></dd>
<dt>Channels</dt><dd>{{ r.data.channels }}</dd>
</dl>
<h3>Thresholds</h3>
{% if thresholds %}
<div class="scroll"><table><thead><tr><th class="text">method</th><th>seed</th><th>threshold</th><th class="text">of</th><th class="text">chosen on</th><th>masks seen</th><th>gate, P(lesion)</th></tr></thead><tbody>
{% for t in thresholds %}<tr><td class="text">{{ t.method }}</td><td>{{ t.seed }}</td><td>{% if t.threshold | given %}{{ t.threshold | num }}{% else %}each image its own{% endif %}</td><td class="text">{{ {"raw": "raw heat", "probability": "probability"}.get(t.scale, "heat over its maximum") }}</td><td class="text wrap">{{ t.chosen_on }}</td><td>{{ t.masks_seen }}</td><td>{{ t.gate | num(2) if t.gate else "none" }}</td></tr>
{% endfor %}</tbody></table></div>
{% else %}<p>No masks were made.</p>{% endif %}
{% if r.has_classifier %}<h3>Network and heatmap</h3>
<dl>
<dt>Network</dt><dd>{{ r.config.classifier.arch }}, weights: {{ r.config.classifier.weights }}; random at the start: {{ random_tensors }}</dd>
<dt>Seeds</dt><dd>{{ r.seeds | join(", ") or "none" }} (run: {{ seed }})</dd>
{% for name, h in r.config.all_heatmaps.items() %}<dt>Heatmap {{ name }}</dt><dd>{{ h.method }} at {{ layers[name] | default(h.layer, true) }}, of {{ h.target }} ({{ h.score }}){% if h.flips %}, averaged with its mirror image's{% endif %}{% if h.scale == "probability" %}, scaled to the probability of a lesion{% endif %}</dd>
{% endfor %}
<dt>Longest side for the network</dt><dd>{{ r.config.data.image_size }} pixels</dd>
</dl>{% endif %}
<h3>Stages</h3>
{% set long = stages | length > 30 %}
{% if long %}<details class="appendix"><summary>{{ stages | length }} stages</summary>{% endif %}
<div class="scroll"><table><thead><tr><th class="text">stage</th><th>seconds</th><th class="text">ended</th><th class="text">on</th><th>epoch kept</th><th>flat heatmaps</th></tr></thead><tbody>
{% for s in stages %}<tr><td class="text">{{ s.stage }}</td><td>{{ s.seconds | num(1) }}</td><td class="text">{{ s.ended }}</td><td class="text">{% if s.device | given %}{{ s.device }}, {{ s.precision }}{% endif %}</td><td>{% if s.best_epoch | given %}{{ s.best_epoch | num(0) }} of {{ s.epochs | num(0) if s.epochs | given else r.config.classifier.epochs }}{% endif %}</td><td>{% if s.flat | given %}{{ s.flat | num(0) }} of {{ s.images | num(0) }}{% endif %}</td></tr>
{% endfor %}</tbody></table></div>
{% if long %}</details>{% endif %}
<dl>
<dt>Machine</dt><dd>{{ environment.get("processor", "") }}, {{ environment.get("cores", "?") }} cores, {{ environment.get("platform", "") }}</dd>
<dt>Versions</dt><dd>{% for k, v in environment.get("versions", {}).items() %}{{ k }} {{ v }}{{ ", " if not loop.last }}{% endfor %}</dd>
</dl>
<h3>To repeat it</h3>
<pre>{{ command }}</pre>
<details class="appendix"><summary>The experiment file, every default written out</summary><pre>{{ config_text }}</pre></details>
"""

SECTION = Section("record", build, TEMPLATE)
