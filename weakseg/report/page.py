"""From run folders to one page, and to the same tables for machines."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from weakseg.layout import config_file
from weakseg.masks.rules.global_thresholds import FixedRule
from weakseg.report import figures, words
from weakseg.report.filtered import (
    faithfulness_table,
    filtered_part,
    filtered_summary,
    filtered_table,
)
from weakseg.report.gallery import BLIND_ROWS, ROWS, compared_network, gallery
from weakseg.report.pictures import MASK_COLOUR, TRUTH_COLOUR
from weakseg.report.read import RunTables
from weakseg.report.steps import steps_part
from weakseg.report.supervised import (
    equivalence_part,
    pair_matrix,
    pair_table,
    segmenter_table,
)
from weakseg.report.sweep import best_of_sweep, sweep_part
from weakseg.report.tables import (
    GROUPS,
    classifier_table,
    confusion_table,
    headline,
    method_table,
    size_table,
    split_table,
    spread_table,
    stage_table,
    threshold_table,
)
from weakseg.report.together import named, side_by_side
from weakseg.scores import DISTANCE_RULE, EMPTY_RULE
from weakseg.scores.metrics import SHOWN

TEMPLATE = "page.html.jinja"


@dataclass(frozen=True)
class Report:
    """A report that is ready to be written.

    Attributes
    ----------
    html : str
        The page, with nothing outside itself.
    tables : dict
        Name → table, each with the column ``run`` first.
    summary : dict
        What ``report.json`` holds.
    """

    html: str
    tables: dict[str, pd.DataFrame]
    summary: dict[str, Any]


@dataclass(frozen=True)
class _Part:
    """What a page says of one run."""

    context: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    method: str | None


def build_report(runs: Sequence[RunTables], gallery_size: int | None = None) -> Report:
    """The page and the tables of one run or several.

    Parameters
    ----------
    runs : sequence of RunTables
    gallery_size : int, optional
        Cases a row of the galleries; default: as each run's experiment says.
    """
    if gallery_size is not None:
        runs = [_with_gallery(r, gallery_size) for r in runs]
    parts = [_part(run, f"run{i}") for i, run in enumerate(runs, 1)]
    tables = {
        name: pd.concat(
            [named(p.tables[name], r.name) for p, r in zip(parts, runs, strict=True)],
            ignore_index=True,
        )
        for name in parts[0].tables
    }
    titles = [r.config.report.title or r.name for r in runs]
    title = titles[0] if len(runs) == 1 else "Comparison of " + ", ".join(titles)
    methods = [p.tables["methods"] for p in parts]
    together = side_by_side(runs, methods, [p.method for p in parts]) if len(runs) > 1 else None
    html = _environment().get_template(TEMPLATE).render(
        title=title,
        runs=[p.context for p in parts],
        together=together,
        groups=GROUPS,
        colours=figures.COLOURS,
        metrics=SHOWN,
        empty_rule=EMPTY_RULE,
        distance_rule=DISTANCE_RULE,
        mask_colour=MASK_COLOUR,
        truth_colour=TRUTH_COLOUR,
        gallery_rows=ROWS | BLIND_ROWS,
        weakseg=runs[0].record.get("environment", {}).get("versions", {}).get("weakseg", ""),
    )  # fmt: skip
    told = ("name", "simulated", "patients_known", "answer", "note", "warnings", "headline")
    summary = {
        "title": title,
        "empty_rule": EMPTY_RULE,
        "distance_rule": DISTANCE_RULE,
        "runs": [
            {k: p.context[k] for k in told}
            | {"filtered": filtered_summary(p.context["filtered"]), "record": r.record}
            for p, r in zip(parts, runs, strict=True)
        ],
        "comparison": None
        if together is None
        else {k: together[k] for k in ("comparable", "note", "sentences")},
        "tables": {name: t.to_dict(orient="records") for name, t in tables.items()},
    }
    return Report(html, tables, summary)


def _with_gallery(run: RunTables, size: int) -> RunTables:
    report = run.config.report.model_copy(update={"gallery": size})
    return replace(run, config=run.config.model_copy(update={"report": report}))


def _part(run: RunTables, anchor: str) -> _Part:
    config, data = run.config, run.data
    draw = {"bootstrap": config.scores.bootstrap, "seed": config.seed}
    methods = method_table(run.summary, run.per_case, **draw)
    method = headline(methods, _in_order(run), config.report.method)
    groups = dict(zip(methods["method"], methods["group"], strict=True)) if len(methods) else {}
    spread = spread_table(run.per_case, list(groups))
    sizes = size_table(run.per_case, _main_methods(methods, method))
    worth = equivalence_part(run, methods, method)
    filtered = filtered_part(run)
    pairs = pair_table(run)
    steps = steps_part(run, method)
    swept = sweep_part(run.sweep)
    classifier = classifier_table({s: t.scores for s, t in run.classifiers.items()})
    labels = [*data.get("healthy_labels", []), *data.get("lesion_labels", [])]
    confusion = confusion_table(
        [t.predictions for t in run.classifiers.values()], labels, split="test"
    )
    pictured = method or _first_method(run)
    seed = next(iter(run.segmenters.get(pictured or "", run.classifiers)), None)
    shown = gallery(run, pictured, seed) if pictured is not None and seed is not None else []
    cautions = words.warnings(methods, method, run.stages, config.classifier.epochs)
    cautions = _split_warning(run) + _data_warning(run) + cautions
    context: dict[str, Any] = {
        "name": run.name,
        "anchor": anchor,
        "simulated": bool(data.get("simulated", False)),
        "patients_known": bool(data.get("patients_known", True)),
        "headline": method,
        "answer": words.answer(
            methods, method, _test_auc(classifier), worth["headline"], run.averaged(method or "")
        ),
        "note": words.choice_note(methods, method, config.report.method == method),
        "warnings": cautions,
        "methods": methods.to_dict(orient="records"),
        "averaged": {
            m: words.mean_of_networks(seeds)
            for m in (methods["method"] if len(methods) else ())
            if (seeds := run.averaged(m))
        },
        "many_seeds": len(run.classifiers) > 1,
        "sizes": sizes.to_dict(orient="records"),
        "classifier": _score_rows(classifier),
        "classifier_splits": sorted(classifier["split"].unique()),
        "seeds": [str(s) for s in run.classifiers],
        "confusion": confusion,
        "figures": {
            name: Markup(figures.in_page(svg, anchor))
            for name, svg in _figures(run, methods, spread, sizes, groups).items()
        },
        "worth": worth
        | {"figure": Markup(figures.in_page(worth["figure"], anchor)) if worth["figure"] else None},
        "filtered": filtered
        and filtered
        | {
            "figures": {
                name: Markup(figures.in_page(svg, anchor))
                for name, svg in filtered["figures"].items()
            }
        },
        "pairs": pair_matrix(pairs),
        "steps": steps,
        "sweep": swept
        and swept | {"figure": Markup(figures.in_page(str(swept["figure"]), anchor))},
        "segmenters": segmenter_table(run).to_dict(orient="records"),
        "compared": compared_network(run),
        "volumes": data.get("dims", 2) == 3,
        "distances": data.get("distances", "pixels"),
        "gallery": shown,
        "gallery_method": pictured,
        "gallery_seed": seed,
        "data": data,
        "labels": labels,
        "splits": split_table(data).to_dict(orient="records"),
        "thresholds": threshold_table(run.thresholds).to_dict(orient="records"),
        "stages": stage_table(run.stages).to_dict(orient="records"),
        "environment": run.record.get("environment", {}),
        "seed": run.record.get("seed"),
        "config": config,
        "layers": {
            n.rsplit("/", 1)[-1]: str(s["layer"]) for n, s in run.stages.items() if "layer" in s
        },
        "random_tensors": _random_tensors(run),
        "config_text": config_file(run.folder).read_text(encoding="utf-8"),
        "command": _command(run.folder),
    }
    captions = pd.DataFrame([asdict(s) for s in shown]).drop(columns="picture", errors="ignore")
    tables = {
        "methods": methods,
        "case_spread": spread,
        "lesion_size": sizes,
        "classifier": classifier,
        "confusion": confusion.rename_axis("label").reset_index(),
        "splits": split_table(data),
        "thresholds": threshold_table(run.thresholds),
        "stages": stage_table(run.stages),
        "gallery": captions,
        "segmenters": segmenter_table(run),
        "paired_tests": pairs,
        "mask_curve": worth["curve"],
        "mask_equivalence": worth["table"],
        "steps": steps["table"],
        "sweep": best_of_sweep(run.sweep),
        "shortfall": steps["shortfall_table"],
        "filtered": filtered_table(run),
        "faithfulness": faithfulness_table(run),
    }
    return _Part(context, tables, method)


def _main_methods(methods: pd.DataFrame, method: str | None) -> list[str]:
    """The method spoken of, and the first of each other group: enough lines for one figure."""
    if method is None:
        return []
    firsts = methods.drop_duplicates("group")["method"].tolist()
    return [method, *(m for m in firsts if m != method)]


def _first_method(run: RunTables) -> str | None:
    """A method to show where nothing was scored: the one that is asked for, or the first."""
    order = [run.config.report.method, *_in_order(run)]
    return next((m for m in order if m in run.thresholds), None)


def _in_order(run: RunTables) -> list[str]:
    """The run's methods in the order of its experiment file, segmenters last."""
    return [*run.config.heatmap_methods, *run.config.segmenters]


def _test_auc(classifier: pd.DataFrame) -> dict[str, Any] | None:
    rows = classifier[
        (classifier["split"] == "test")
        & (classifier["score"] == "auc_lesion")
        & (classifier["seed"] == "mean")
    ]
    return None if rows.empty else {str(k): v for k, v in rows.iloc[0].items()}


def _score_rows(classifier: pd.DataFrame) -> dict[str, dict[str, dict[str, Any]]]:
    """Score → split → seed or "mean" → value, low, high and seed_sd."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for _, row in classifier.iterrows():
        by_seed = rows.setdefault(str(row["score"]), {}).setdefault(str(row["split"]), {})
        by_seed[str(row["seed"])] = {k: row[k] for k in ("value", "low", "high", "seed_sd")}
    return rows


def _figures(
    run: RunTables,
    methods: pd.DataFrame,
    spread: pd.DataFrame,
    sizes: pd.DataFrame,
    groups: dict[str, str],
) -> dict[str, str]:
    """Every figure that there are numbers for."""
    drawn = {}
    if len(methods):
        drawn["dice"] = figures.dice_figure(methods)
        drawn["spread"] = figures.spread_figure(spread, groups)
        if len(sizes.dropna(subset=["dice"])):
            drawn["size"] = figures.size_figure(sizes, groups)
    if len(run.curves):
        kinds = {r.rule: r for r in run.config.masks.rules}
        rule = kinds.get("fixed")
        searched = isinstance(rule, FixedRule) and rule.search is not None
        fixed = rule.at if isinstance(rule, FixedRule) and not searched else None
        told = ["validation", *(["fixed"] if searched else [])]
        entries = [
            e
            for r in told
            for e in run.thresholds.get(f"{run.config.heatmap.method}-{r}", {}).values()
        ]
        drawn["curve"] = figures.curve_figure(run.curves, fixed, [e["threshold"] for e in entries])
    metrics = {s: t.metrics for s, t in run.classifiers.items() if len(t.metrics)}
    if metrics:
        drawn["training"] = figures.training_figure(metrics)
    trained = {
        n: {s: t.metrics for s, t in seeds.items() if len(t.metrics)}
        for n, seeds in run.segmenters.items()
    }
    if any(trained.values()):
        drawn["segmenters"] = figures.segmenter_figure(trained)
    lesion_labels = run.data.get("lesion_labels", [])
    truths, p = {}, {}
    for seed, t in run.classifiers.items():
        test = t.predictions[t.predictions["split"] == "test"]
        truth = test["label"].isin(lesion_labels)
        if truth.any() and not truth.all():
            truths[seed] = truth.to_numpy()
            p[seed] = test["lesion_probability"].to_numpy()
    if truths:
        drawn["roc"] = figures.roc_figure(truths, p)
        drawn["reliability"] = figures.reliability_figure(truths, p)
    return drawn


def _split_warning(run: RunTables) -> list[str]:
    """A classifier that was trained with other splits may have seen the test patients."""
    now = dict(zip(run.splits["case"], run.splits["split"], strict=True))
    for seed, t in run.classifiers.items():
        then = dict(zip(t.predictions["case"], t.predictions["split"], strict=True))
        if then != now:
            return [
                f"The classifier of seed {seed} was made with other splits than splits.csv now "
                "holds: test images may have been trained on. Make the run again with --force."
            ]
    return []


def _data_warning(run: RunTables) -> list[str]:
    """Pictures would show other images than those that were scored."""
    return [words.DATA_CHANGED] if run.data_changed else []


def _random_tensors(run: RunTables) -> str:
    """How much of the network began at random, in words."""
    held = [s["random_tensors"] for s in run.stages.values() if "random_tensors" in s]
    if not held:
        return "not recorded"
    return "all of it" if held[0] == ["all"] else ", ".join(held[0]) or "none of it"


def _command(folder: Path) -> str:
    config, again = shlex.quote(str(config_file(folder))), shlex.quote(f"{folder}-again")
    return f"weakseg compare {config} --run-dir {again}"


def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("weakseg", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "num": words.number,
        "signed": words.signed,
        "pct": words.percent,
        "given": lambda v: v is not None and not pd.isna(v),
    }
    env.globals |= {"interval": words.interval, "count": words.count}
    return env
