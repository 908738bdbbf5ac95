"""Scores of masks: weakseg's beside MONAI's, in one process, in turns.

Run `OMP_NUM_THREADS=1 python benchmarks/scores.py` from the root of the checkout; `--help` lists
the options. Ours is `score_case`, a call a pair, which gives all scores of a pair. MONAI's are
`compute_dice`, `compute_iou`, `compute_hausdorff_distance(percentile=95)` and
`compute_average_surface_distance(symmetric=True)`, a call each for all pairs together.

The script ends with an error where the four differ by 1e-5 or more on a pair for which MONAI has a
value, or where ours are not what the rules for empty masks say on the others. Then it times the
bootstrap over patients, and scoring in two processes.
"""

from __future__ import annotations

import argparse
import math
import tracemalloc
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine, in_turns, print_machine, seconds, spread, table, write_json
from numpy.typing import NDArray

from weakseg.scores import cluster_mean_interval, image_diagonal, score_case

TOLERANCE = 1e-5
SCORES = ("dice", "iou", "hd95", "msd")
KINDS = {"found": 0.8, "healthy": 0.1, "missed": 0.05, "false alarm": 0.05}
"""Shares of the pairs."""

Mask = NDArray[np.bool_]
Pair = tuple[Mask, Mask]


def main() -> None:
    """Compare, measure, print, and write the figures where that was asked for."""
    options = read_options()
    # MONAI tells of an argument that it will drop, and of each empty mask.
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*is all 0, this may result in nan/inf")
    machine = describe_machine(["numpy", "scipy", "torch", "monai"])
    print_machine(machine)
    kinds, pairs = make_pairs(options.pairs, options.size)
    ours, theirs = our_scores(pairs), their_scores(pairs)
    check_same(kinds, pairs, ours, theirs)
    a, b = in_turns([lambda: our_scores(pairs), lambda: their_scores(pairs)], options.repeats)
    rows = [("all four", spread(a), spread(b), spread(y / x for x, y in zip(a, b, strict=True)))]
    print(
        f"\n{options.pairs} pairs of {options.size}², {options.repeats} repeats: "
        "median [smallest–largest]; all equal\n"
    )
    print(table(("scores", "ours, s", "MONAI, s", "times faster"), rows), flush=True)
    processes = time_processes(pairs, options.repeats)
    print(
        f"\nOurs in one process {processes['one']} s, in two that are started for it "
        f"{processes['two']} s"
    )
    bootstrap = time_bootstrap(options.cases, options.resamples)
    print(
        f"\nBootstrap, {options.cases} cases × {options.resamples} resamples: "
        f"{bootstrap['seconds']:.2f} s, {bootstrap['peak_mb']:.0f} MB at most"
    )
    write_json(
        options.json,
        {
            "machine": machine,
            "size": options.size,
            "pairs": options.pairs,
            "rows": rows,
            "processes": processes,
            "bootstrap": bootstrap,
        },
    )


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1000, help="pairs of masks")
    parser.add_argument("--size", type=int, default=256, help="side of the masks in pixels")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each")
    parser.add_argument("--cases", type=int, default=10_000, help="cases of the bootstrap")
    parser.add_argument("--resamples", type=int, default=2000, help="resamples of the bootstrap")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    if min(options.pairs, options.repeats, options.cases, options.resamples) < 1:
        parser.error("--pairs, --repeats, --cases and --resamples must be at least 1")
    if options.size < 32:
        parser.error(f"--size must be at least 32, got {options.size}")
    return options


def make_pairs(count: int, size: int) -> tuple[list[str], list[Pair]]:
    """Lesions with wavy outlines and the masks of a segmenter that sees them more or less well.

    A lesion has a radius of 2 to 25 % of the side, small ones being the more frequent. Its mask is
    moved and has waves of its own; every fifth has a second part elsewhere.
    """
    rng = np.random.default_rng(0)
    kinds = [str(k) for k in rng.choice(list(KINDS), count, p=list(KINDS.values()))]
    pairs = []
    for kind in kinds:
        radius = size * 0.02 * (0.25 / 0.02) ** rng.beta(1.5, 2)
        centre = rng.uniform(0.2, 0.8, 2) * size
        truth = wavy(rng, size, centre, radius)
        pred = wavy(rng, size, centre + rng.normal(0, 0.2 * radius, 2), radius)
        if rng.random() < 0.2:
            pred |= wavy(rng, size, rng.uniform(0.1, 0.9, 2) * size, 0.03 * size)
        if kind in ("healthy", "false alarm"):
            truth[:] = False
        if kind in ("healthy", "missed"):
            pred[:] = False
        pairs.append((pred, truth))
    return kinds, pairs


def wavy(rng: np.random.Generator, size: int, centre: NDArray[Any], radius: float) -> Mask:
    """A disc whose radius swings with the angle."""
    y, x = np.mgrid[:size, :size] - np.asarray(centre)[:, None, None]
    angle = np.arctan2(y, x)
    reach = np.full(angle.shape, radius)
    for wave in range(2, 8):
        reach += radius * rng.normal(0, 0.3 / wave) * np.sin(wave * angle + rng.uniform(0, 6.3))
    return np.asarray(np.hypot(y, x) < reach)


def our_scores(pairs: list[Pair]) -> NDArray[np.float64]:
    """(pairs, 4)."""
    found = [score_case(p, t) for p, t in pairs]
    return np.array([[f[name] for name in SCORES] for f in found], dtype=np.float64)


def their_scores(pairs: list[Pair]) -> NDArray[np.float64]:
    """(pairs, 4)."""
    # Not at the top: a process that only scores should not have to load it.
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.meaniou import compute_iou
    from monai.metrics.surface_distance import compute_average_surface_distance

    p, t = (torch.from_numpy(np.stack(masks)[:, None]) for masks in zip(*pairs, strict=True))
    columns = (
        compute_dice(p, t, ignore_empty=False),
        compute_iou(p, t, ignore_empty=False),
        compute_hausdorff_distance(p, t, include_background=True, percentile=95),
        compute_average_surface_distance(p, t, include_background=True, symmetric=True),
    )
    return np.stack([np.asarray(c, dtype=np.float64)[:, 0] for c in columns], axis=1)


def check_same(
    kinds: list[str], pairs: list[Pair], ours: NDArray[np.float64], theirs: NDArray[np.float64]
) -> None:
    """Compare where both define a score; elsewhere hold ours against our rules.

    Two empty masks: Dice and IoU 1, no distance in the table (there is no lesion). A missed lesion:
    0, 0, and the image's diagonal twice. A false alarm: 0, 0 and no distance.
    """
    diagonal = image_diagonal(pairs[0][0].shape)
    rules = {
        "healthy": (1, 1, math.nan, math.nan),
        "missed": (0, 0, diagonal, diagonal),
        "false alarm": (0, 0, math.nan, math.nan),
    }
    kind = np.array(
        [k if all(m.any() for m in p) else _empty(p) for k, p in zip(kinds, pairs, strict=True)]
    )
    found = kind == "found"
    difference = np.abs(ours - theirs)
    relative = difference[found] / np.maximum(1, theirs[found])
    if not (relative < TOLERANCE).all():
        raise SystemExit(f"the scores differ by {np.nanmax(relative):.1e}")
    if not (difference[~found, :2] < TOLERANCE).all():
        raise SystemExit("Dice or IoU of an empty mask differ from MONAI's with ignore_empty=False")
    for name, rule in rules.items():
        if not np.array_equal(ours[kind == name], np.tile(rule, ((kind == name).sum(), 1)), True):
            raise SystemExit(f"a pair of the kind {name!r} is not scored {rule}")
    parts = ", ".join(f"{(kind == k).sum()} {k}" for k in KINDS)
    left_out = int((~np.isfinite(theirs[~found, 2])).sum())
    print(
        f"\n{parts}. Largest difference {relative.max():.0e} where both masks are drawn. "
        f"Of the other {(~found).sum()}, MONAI has no HD95 for {left_out}."
    )


def _empty(pair: Pair) -> str:
    pred, truth = pair[0].any(), pair[1].any()
    return "false alarm" if pred else "missed" if truth else "healthy"


def time_processes(pairs: list[Pair], repeats: int) -> dict[str, Any]:
    """Scoring in two processes that are started for it, beside one."""
    halves = [pairs[0::2], pairs[1::2]]

    def two() -> None:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            list(pool.map(our_scores, halves))

    one, both = in_turns([lambda: our_scores(pairs), two], min(repeats, 3))
    ratio = spread(x / y for x, y in zip(one, both, strict=True))
    return {"one": spread(one), "two": spread(both), "ratio": ratio}


def time_bootstrap(cases: int, resamples: int) -> dict[str, float]:
    """An interval where every case is a patient of its own, which takes the most memory."""
    values = np.random.default_rng(0).random(cases)
    names = np.array([f"patient-{i}" for i in range(cases)])
    took = seconds(lambda: cluster_mean_interval(values, names, bootstrap=resamples))
    # numpy tells tracemalloc of its arrays.
    tracemalloc.start()
    cluster_mean_interval(values, names, bootstrap=resamples)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"seconds": took, "peak_mb": peak / 2**20}


if __name__ == "__main__":
    main()
