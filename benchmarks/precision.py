"""Do heatmaps in bf16 give the masks of heatmaps in fp32? Of a run's own classifiers and images.

Run `python benchmarks/precision.py runs/NAME` from the root of the checkout; `--help` lists the
options. Each heatmap of the run is made twice of lesion images of its validation split, by the
classifier of its first seed; masks by the rule `fixed` at 0.5 and by the heatmap's own rules
that choose nothing on masks are compared. No true mask is opened.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from machine import describe_machine, print_machine

from weakseg.config import load_config
from weakseg.data.images import read_image
from weakseg.heatmaps.compute import heatmaps_of
from weakseg.layout import seed_folder
from weakseg.masks.rules import Evidence, segment
from weakseg.masks.rules.global_thresholds import FixedRule
from weakseg.methods.classifiers import load_classifier
from weakseg.stages.prepare import prepared_run
from weakseg.training.loop import make_fabric

SAME = 0.99


def main() -> None:
    """Compare, print the table, and write it where it was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run folder with trained classifiers")
    parser.add_argument("--images", type=int, default=100, help="lesion images looked at")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args()
    print_machine(describe_machine(["torch"]))
    config = load_config(options.run / "config.yaml")
    rows = []
    print("\n| heatmap | rule | mean Dice, bf16 against fp32 [lowest] | bf16 is faster by |")
    print("|---|---|---|---|")
    with prepared_run(config, options.run) as prepared:
        cases, labels = prepared.cases.cases, prepared.cases.labels
        every = [i for i, c in enumerate(cases) if c.split == "val" and labels.is_lesion(c.label)]
        step = max(1, len(every) // options.images)
        chosen = every[::step][: options.images]
        folder = seed_folder(options.run, config.classifier.arch, config.seeds[0])
        model = load_classifier(folder).to(memory_format=torch.channels_last)
        images = prepared.images
        images.images(chosen)  # decoded beforehand
        pixels = {i: read_image(cases[i].image) for i in chosen}
        for name, settings in config.all_heatmaps.items():
            found, seconds = {}, {}
            for precision in ("32-true", "bf16-mixed"):
                fabric = make_fabric("cpu", precision)
                start = time.perf_counter()
                with fabric.autocast():
                    made = heatmaps_of([model], labels, images, chosen, settings)
                    found[precision] = {i: heat.full() for i, heat in made}
                seconds[precision] = time.perf_counter() - start
            rules = {r.rule: r for r in [FixedRule(), *config.rules_of(name)]}
            for rule in rules.values():
                try:
                    fitted = rule.fit(Evidence(train=list, val=list, test=list))
                except (LookupError, ValueError):  # it needs masks, or training heatmaps
                    continue
                dice = [
                    overlap(*(segment(fitted, maps[i], pixels[i]) for maps in found.values()))
                    for i in chosen
                ]
                mean = float(np.mean(dice))
                gain = seconds["32-true"] / seconds["bf16-mixed"]
                low = min(dice)
                print(f"| {name} | {rule.rule} | {mean:.4f} [{low:.4f}] | {gain:.2f} |", flush=True)
                row = {"heatmap": name, "rule": rule.rule, "dice": mean, "lowest": low}
                rows.append(row | {"images": len(chosen), "faster": gain})
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    if not min(r["dice"] for r in rows) >= SAME:
        raise SystemExit(f"masks in bf16 are not those in fp32: a mean Dice below {SAME}")


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Dice; 1 where both are empty."""
    total = one.sum() + other.sum()
    return float(2 * (one & other).sum() / total) if total else 1.0


if __name__ == "__main__":
    main()
