"""``weakseg compare``: every stage that the experiment names, then the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from weakseg.current import why_stale
from weakseg.errors import check_argument
from weakseg.layout import (
    EQUIVALENCE_STAGE,
    FILTERED_STAGE,
    FLOORS_STAGE,
    SEGMENT_STAGE,
    condition_stage,
    faithfulness_stage,
    heatmap_stage,
    masks_stage,
    point_stage,
    report_folder,
    report_page,
    segmenter_stage,
)
from weakseg.methods.cases import scored_cases
from weakseg.methods.checks import check_places
from weakseg.methods.explained import heatmap_images
from weakseg.methods.filtered import check_filtered
from weakseg.methods.find import kind_of
from weakseg.methods.mask_curve import lesion_patients
from weakseg.methods.prepared import Prepared
from weakseg.methods.segmenter_checks import (
    check_masks,
    segmenter_is_current,
    that_need_no_masks,
)
from weakseg.methods.segmenters import has_training_masks
from weakseg.methods.standing import why_not_standing
from weakseg.methods.training_heats import blends_heat
from weakseg.progress import say
from weakseg.report.terminal import say_results
from weakseg.stages.base import perform
from weakseg.stages.composed import composed_names, segment_composed
from weakseg.stages.effort import (
    of_classifier,
    of_heatmaps,
    of_masks,
    of_network_masks,
    of_segmenter,
)
from weakseg.stages.equivalence import mask_equivalence
from weakseg.stages.heatmap_segment import heatmap_segment
from weakseg.stages.heatmaps import heatmaps_of_seed
from weakseg.stages.plan import Piece, Step, follow, piece_of
from weakseg.stages.report import report_of
from weakseg.stages.retrain_filtered import retrain_filtered
from weakseg.stages.scoring import collect, floors_key
from weakseg.stages.train_classifier import predictions_of, train_classifiers, training_of
from weakseg.stages.train_segmenter import train_segmenters


def compare(prepared: Prepared, *, force: bool = False, dry_run: bool = False) -> Path | None:
    """Train, segment, score and report; what is up to date is not made again.

    Volumes have no classifier and no heatmaps: of them only the segmenters are compared. Images
    without training masks have no segmenters but those that are trained on heatmaps' masks.

    Parameters
    ----------
    prepared : Prepared
    force : bool
        Make again what is up to date.
    dry_run : bool
        Check everything and print the plan, and do nothing.

    Returns
    -------
    Path or None
        The report, ``report/index.html`` in the run folder.
    """
    check_argument(prepared, Prepared, "prepared", "what `with prepared_run(config) as p` gives")
    from weakseg.report.page import require_page

    require_page()  # hours of work would end without a page
    began = time.monotonic()
    page: Path | None = follow(
        prepared.run, steps_of(prepared, force), force=force, dry_run=dry_run
    )
    if page is not None:
        say_results(prepared.run.folder, page, time.monotonic() - began)
    return page


def steps_of(prepared: Prepared, force: bool) -> list[Step]:
    """All steps of an experiment; what cannot be is refused before hours of work."""
    segmenters = prepared.config.segmenters
    names = list(segmenters)
    classified = prepared.has_classifier
    supervised = any(not s.weak for s in segmenters.values()) or not classified
    if supervised and classified and not has_training_masks(prepared):
        names = that_need_no_masks(prepared)
        left_out = ", ".join(n for n in segmenters if n not in names)
        say(f"segmenters: left out, no training image with a lesion has a mask ({left_out})")
        supervised = False
    curve = supervised and prepared.config.equivalence.segmenter is not None
    if curve and (not classified or not scored_cases(prepared)):
        say("mask-equivalence curve: left out, there are no scores of heatmaps to hold against it")
        curve = False
    if classified:
        check_places(prepared, tell=False)
    for name in names:
        check_masks(prepared, name)
    return [
        *(_of_classifiers(prepared, force) if classified else ()),
        *([_of_filtered(prepared, force)] if prepared.config.filtered and classified else ()),
        *([_of_segmenters(prepared, names, force)] if names or not classified else ()),
        *([_of_composed(prepared)] if composed_names(prepared) else ()),
        *([_of_curve(prepared, force)] if curve else ()),
        _of_report(prepared, force),
    ]


def _of_classifiers(prepared: Prepared, force: bool) -> list[Step]:
    config, run = prepared.config, prepared.run
    trained, heats = [], []
    for seed in config.seeds:
        for make in (training_of, predictions_of):
            stage = make(prepared, seed)
            trained.append(piece_of(run, stage.name, stage.effort, partial(make, prepared, seed)))
    for name in config.all_heatmaps:
        images = heatmap_images(prepared, name)
        for seed in config.heatmap_seeds(name):
            stage_name = heatmap_stage(config.classifier.arch, seed, name)
            make_stage = partial(heatmaps_of_seed, prepared, seed, name=name)
            effort = of_heatmaps(prepared, name, len(images))
            heats.append(piece_of(run, stage_name, effort, make_stage))
    masks = Piece(SEGMENT_STAGE, of_masks(prepared), _stand(prepared, config.heatmap_methods))
    floors = Piece(
        FLOORS_STAGE,
        current=lambda: why_stale(run, FLOORS_STAGE, floors_key(prepared)) is None,
    )
    return [
        Step(
            f"classifiers: {_networks(len(config.seeds))}",
            trained,
            lambda: train_classifiers(prepared, force=force),
        ),
        Step(
            "heatmaps, their masks and scores",
            [*heats, masks, *([floors] if config.scores.floors else [])],
            lambda: heatmap_segment(prepared, force=force, goes_on=True),
        ),
    ]


def _stand(prepared: Prepared, methods: Iterable[str]) -> Callable[[], bool]:
    return lambda: all(why_not_standing(prepared, m) is None for m in methods)


def _all_current(pieces: Sequence[Piece], too: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: all(p.current() for p in pieces) and too()


def _recorded(prepared: Prepared, stage: str, of_data: str = "") -> Callable[[], bool]:
    """Whether a stage is in the record; not if ``of_data``, a stage, is there of other data."""

    def current() -> bool:
        stages = prepared.run.record.get("stages", {})
        made_of = stages.get(of_data, {}).get("data", prepared.key)
        return stage in stages and made_of == prepared.key

    return current


def _of_filtered(prepared: Prepared, force: bool) -> Step:
    conditions, _ = check_filtered(prepared)
    arch = prepared.config.classifier.arch
    # Of the others no network saw a true mask.
    masked = {c: FILTERED_STAGE if c.source in ("truth", "box") else "" for c in conditions}
    stages = [
        (condition_stage(arch, s, c.name), of)
        for s in prepared.config.seeds
        for c, of in masked.items()
    ]
    measures = [faithfulness_stage(arch, s) for s in prepared.config.seeds]
    return Step(
        "heatmap-filtered retraining",
        [
            *(Piece(s, of_classifier(prepared), _recorded(prepared, s, of)) for s, of in stages),
            *(Piece(s, None, _recorded(prepared, s)) for s in measures),
            Piece(FILTERED_STAGE, None, _recorded(prepared, FILTERED_STAGE, FILTERED_STAGE)),
        ],
        lambda: retrain_filtered(prepared, force=force),
    )


def _of_segmenters(prepared: Prepared, names: Sequence[str], force: bool) -> Step:
    config, pieces = prepared.config, list[Piece]()
    for name in names:
        alone = not (config.segmenters[name].weak or blends_heat(config.segmenters[name]))
        trained = list[Piece]()
        for seed in config.segmenter_seeds(name):
            current = partial(segmenter_is_current, prepared, name, seed)
            effort = of_segmenter(prepared, name, seed)
            trained.append(Piece(segmenter_stage(name, seed), effort, current, alone))
        masks = Piece(
            masks_stage(name),
            of_network_masks(prepared, name),
            _all_current(trained, _stand(prepared, [name])),
            alone and config.segmenter_gate(name) == "none",
        )
        pieces += [*trained, masks]
    networks = sum(len(config.segmenter_seeds(n)) for n in names)
    return Step(
        f"segmenters {', '.join(names)}: {_networks(networks)}, their masks and scores",
        pieces,
        lambda: train_segmenters(prepared, only=names, force=force, goes_on=True),
    )


def _of_composed(prepared: Prepared) -> Step:
    names, config = composed_names(prepared), prepared.config

    def run() -> None:
        # Most were made as soon as their members were, with ``force`` made again.
        segment_composed(prepared, tell=True)
        collect(prepared)

    return Step(
        f"methods made of others: {', '.join(names)}",
        [Piece(kind_of(config, n).stage(n), None, _stand(prepared, [n])) for n in names],
        run,
    )


def _of_curve(prepared: Prepared, force: bool) -> Step:
    config, name = prepared.config.equivalence, str(prepared.config.equivalence.segmenter)
    counts = config.patient_counts(len(lesion_patients(prepared)))
    stages = [point_stage(name, draw, k) for draw in range(config.draws) for k in counts]
    made = {s: _recorded(prepared, s, EQUIVALENCE_STAGE) for s in (*stages, EQUIVALENCE_STAGE)}
    effort = of_segmenter(prepared, name)
    return Step(
        "mask-equivalence curve",
        [
            *(Piece(s, effort, made[s], True) for s in stages),
            Piece(EQUIVALENCE_STAGE, None, made[EQUIVALENCE_STAGE]),
        ],
        lambda: mask_equivalence(prepared, force=force),
    )


def _of_report(prepared: Prepared, force: bool) -> Step:
    stage = report_of(prepared)

    def run() -> Path:
        perform(prepared.run, report_of(prepared), force=force)
        return report_page(report_folder(prepared.run.folder))

    make = partial(report_of, prepared)
    return Step("report", [piece_of(prepared.run, stage.name, stage.effort, make)], run)


def _networks(n: int) -> str:
    return f"{n} network{'' if n == 1 else 's'}"
