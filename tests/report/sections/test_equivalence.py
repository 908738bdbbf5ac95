"""What a page says and draws of the masks that a heatmap is worth."""

from __future__ import annotations

import itertools
import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from weakseg.config import parse_config
from weakseg.report.figures import COLOURS
from weakseg.report.sections.base import Subject
from weakseg.report.sections.equivalence import _no_better_than_a_floor, equivalence_of
from weakseg.report.sections.equivalence_figure import equivalence_figure, spread
from weakseg.report.sections.equivalence_words import (
    EQUIVALENCE_COLUMNS,
    equivalence_sentences,
    equivalence_table,
)
from weakseg.scores import draw_curves, mask_curve
from weakseg.scores.learning_curve import CURVE_CASE_COLUMNS

PATIENTS = 8
NOISE = np.linspace(-0.05, 0.05, PATIENTS)
KINDS = {
    "cam-fixed": ("heatmap", 0, 0.5),
    "cam-validation": ("heatmap", 10, 0.55),
    "cam-oracle": ("oracle", 8, 0.58),
    "cam-otsu": ("heatmap", 0, 0.3),
    "unet": ("supervised", 64, 0.8),
}
DRAW = {"bootstrap": 100, "seed": 0}


def curve_rows(ks=(1, 4, 16), dice=(0.2, 0.4, 0.6), draws=1):
    rows = [
        (f"c{p}", f"p{p}", d, k, 4 * k + d, y + 0.02 * d + NOISE[p], True, False)
        for (k, y), d, p in itertools.product(
            list(zip(ks, dice, strict=True)), range(draws), range(PATIENTS)
        )
    ]
    return pd.DataFrame(rows, columns=list(CURVE_CASE_COLUMNS))


def method_rows(kinds=KINDS, swing=1.0):
    """Noise of ``swing`` 1 is that of the curve: pairing takes it out."""
    rows = [
        (f"c{p}", f"p{p}", name, kind, seen, dice + swing * NOISE[p], True)
        for name, (kind, seen, dice) in kinds.items()
        for p in range(PATIENTS)
    ]
    columns = ["case", "patient", "method", "kind", "masks_seen", "dice", "has_lesion"]
    return pd.DataFrame(rows, columns=columns)


def said_of(dice, swing=1.0, seen=0, kind="heatmap", curve=None, **options):
    table = equivalence_table(
        method_rows({"cam": (kind, seen, dice)}, swing),
        curve_rows() if curve is None else curve,
        ["cam"],
        **DRAW,
    )
    return equivalence_sentences(table, "unet", **options)


def test_table():
    methods = ["cam-validation", "cam-fixed", "cam-oracle"]
    found = equivalence_table(method_rows(), curve_rows(), methods, reference="unet", **DRAW)
    assert tuple(found.columns) == EQUIVALENCE_COLUMNS
    assert found["method"].tolist() == methods
    assert found["group"].tolist() == ["masks", "no-masks", "oracle"]
    assert found["masks_seen"].tolist() == [10, 0, 8]
    by = found.set_index("method")
    assert by.loc["cam-fixed", "masks"] == pytest.approx(32)
    assert by.loc["cam-fixed", "patients"] == pytest.approx(8)
    assert by.loc["cam-fixed", "ratio"] == pytest.approx(0.5 / 0.8)
    assert by.loc["cam-validation", "seen_dice"] == pytest.approx(0.2 + 0.1 * np.log2(10 / 4))
    assert by.loc[["cam-fixed", "cam-oracle"], "seen_dice"].isna().all()
    plain = equivalence_table(method_rows(), curve_rows(), methods, **DRAW)
    assert plain["ratio"].isna().all()
    assert equivalence_table(method_rows(), curve_rows(), []).empty


def test_a_network_on_other_methods_masks_stands_with_them():
    kinds = {"seg": ("weak", 0, 0.5), "tuned": ("weak", 3, 0.5)}
    found = equivalence_table(method_rows(kinds), curve_rows(), list(kinds), **DRAW)
    assert found["group"].tolist() == ["no-masks", "masks"]
    assert set(found["group"]) <= set(COLOURS)


def test_worth_in_words():
    first, caution = said_of(0.5)
    assert first == (
        "cam is worth 32 masks [32, 32] of 8 patients: unet trained on that many masks reaches "
        "the same Dice on these test images."
    )
    assert "of a single choice of training patients" in caution
    one = said_of(0.2, curve=curve_rows(ks=(1,), dice=(0.2,)).assign(masks=1))[0]
    assert one.startswith("cam is worth 1 mask [1, 1] of 1 patient: unet")
    named = said_of(0.5, spoken=lambda m: "Grad-CAM over 0.5 (cam)" if m == "cam" else m)[0]
    assert named.startswith("Grad-CAM over 0.5 (cam) is worth 32 masks")


def test_worth_of_an_upper_bound_says_so():
    assert said_of(0.5, kind="oracle", seen=8)[0].startswith(
        "cam, an upper bound whose threshold was chosen on the test masks, is worth 32 masks"
    )


def test_outside_of_what_was_tried_in_words():
    assert said_of(0.1)[0] == (
        "cam is worth fewer than 4 masks, the fewest tried: unet trained on 4 masks of 1 patient "
        "reaches a higher Dice on these test images."
    )
    assert said_of(0.7)[0] == ("cam beats unet trained on 64 masks of 16 patients, the most tried.")


def test_open_ends_in_words():
    swing = 8.0  # the method's patients differ by more than the curve's
    assert re.search(r"worth \d+ masks \[\d+, more than 64\] of", said_of(0.55, swing)[0])
    assert re.search(r"worth \d+ masks \[fewer than 4, \d+\] of", said_of(0.25, swing)[0])
    below, above = said_of(0.19, swing)[0], said_of(0.61, swing)[0]
    assert re.search(r"fewer than 4 masks.*, though the interval reaches up to \d+ masks\.$", below)
    assert re.search(
        r"^cam scores higher than unet trained on 64 masks of 16 patients, the most tried; that "
        r"it is better is not shown, for the interval begins at \d+ masks\.$",
        above,
    )
    unknown = said_of(0.4, 40.0)[0]
    assert unknown == (
        "What cam is worth in masks cannot be told: unet reaches the same Dice with 16 masks of "
        "4 patients, but the interval is [fewer than 4, more than 64]."
    )


@pytest.mark.parametrize(
    ("dice", "swing", "seen", "end"),
    [
        (0.5, 1, 16, "reaches 0.400 [0.375, 0.425]. cam is better: the difference is +0.100"),
        (0.3, 1, 16, "reaches 0.400 [0.375, 0.425]. cam is worse: the difference is −0.100"),
        (0.4, 3, 16, "Which of the two is better cannot be told: the difference is 0.000 ["),
        (0.5, 1, 2, "fewer than unet was tried with; with 4 masks of 1 patient it reaches 0.200"),
        (0.5, 1, 2, "and cam is better all the same: +0.300"),
        (0.1, 1, 2, "Whether it would be better with 2 masks cannot be told."),
        (0.5, 1, 99, "more than unet was tried with; with 64 masks of 16 patients it reaches"),
        (0.5, 1, 99, "and cam is already worse: −0.100"),
        (0.6, 9, 99, "Whether it would be better with 99 masks cannot be told."),
        (0.2, 9, 2, "Whether it would be better with 2 masks cannot be told."),
        (0.7, 1, 99, "Whether it would be better with 99 masks cannot be told."),
    ],
)
def test_masks_that_a_method_saw(dice, swing, seen, end):
    said = said_of(dice, swing, seen)[1]
    assert said.startswith(f"cam saw {seen} masks")
    # The curve's own interval moves with the draw of the test patients.
    plain = re.sub(r"0\.400 \[[^]]*\]", "0.400 [0.375, 0.425]", said)
    assert end in plain, said


def test_where_the_page_speaks_of_a_network_the_curve_is_told_of_the_others():
    tree = {"segmenters": {"unet": {}}, "equivalence": {"segmenter": "unet"}}
    config = parse_config(tree | {"scores": {"bootstrap": 100}})
    run = SimpleNamespace(
        config=config, per_case=method_rows(), equivalence=curve_rows(), segmenters={}
    )
    groups = ("no-masks", "masks", "oracle", "no-masks", "supervised")
    methods = pd.DataFrame({"method": list(KINDS), "group": groups})
    methods["dice"] = [dice for _, _, dice in KINDS.values()]
    subjects = [Subject(run, "run1") for _ in range(2)]
    for subject, method in zip(subjects, ("cam-fixed", "unet"), strict=True):
        vars(subject).update(methods=methods, method=method)
    of_heat, of_network = map(equivalence_of, subjects)
    pd.testing.assert_frame_equal(of_network["table"], of_heat["table"])
    assert of_network["figure"] is not None
    assert of_network["headline"] == []
    assert set(of_network["sentences"]) == {*of_heat["headline"], *of_heat["sentences"]}


def test_ratio_in_words():
    table = equivalence_table(method_rows(), curve_rows(), ["cam-fixed"], reference="unet", **DRAW)
    said = equivalence_sentences(table, "unet")
    assert re.fullmatch(
        r"cam-fixed reaches 6\d\s% \[6\d, 6\d\] of the Dice of the fully supervised unet\.", said[1]
    )
    names = {"cam-fixed": "a heatmap", "unet": "unet", "full": "U-Net of all masks"}
    other = equivalence_sentences(table, "unet", reference="full", spoken=names.__getitem__)[1]
    assert other.startswith("A heatmap reaches")
    assert other.endswith("fully supervised U-Net of all masks.")


def test_cautions():
    few = said_of(0.5, curve=curve_rows(draws=3))
    assert "the mean of 3 choices of training patients: too few" in few[-1]
    assert len(said_of(0.5, curve=curve_rows(draws=6))) == 1
    methods, curve = method_rows(), curve_rows(draws=6)
    table = equivalence_table(
        methods[methods["case"] == "c0"], curve[curve["case"] == "c0"],
        ["cam-fixed", "cam-validation", "cam-otsu"], reference="unet", **DRAW,
    )  # fmt: skip
    said = equivalence_sentences(table, "unet")
    assert said[-1] == "There are no intervals: the test lesions are of a single patient."
    assert not re.search(r"\[|nan|–", " ".join(said))
    assert equivalence_sentences(table.iloc[:0], "unet") == []


def figure(kinds=KINDS, curve=None, network="unet", draws=True):
    curve = curve_rows(draws=3) if curve is None else curve
    names = [n for n in kinds if n != "unet"]
    table = equivalence_table(method_rows(kinds), curve, names, **DRAW)
    drawn = draw_curves(curve) if draws else None
    return equivalence_figure(mask_curve(curve, **DRAW), table, network, drawn)


def texts(svg):
    # The page gives the namespace that the element leaves to it.
    root = ElementTree.fromstring(svg.replace("<svg", "<svg xmlns:xlink='x'", 1))
    return ["".join(t.itertext()).strip() for t in root.iter() if t.tag.endswith("text")]


def test_figure_names_what_it_shows():
    svg = figure()
    found = texts(svg)
    for name, dice in (("cam-fixed", "0.50"), ("cam-validation", "0.55"), ("cam-otsu", "0.30")):
        assert f"{name}  {dice}" in found
    assert any(t.startswith("unet  0.6") for t in found)
    assert {"5", "17", "65"} <= set(found)  # masks
    assert {"1", "4", "16"} <= set(found)  # patients
    assert "single draws of the patients" in found
    assert "masks that the method saw" in found
    assert any(re.fullmatch(r"\d+ masks", t) for t in found)
    assert not re.search(r"\bnan\b|\binf\b", svg, re.IGNORECASE)
    assert "currentColor" in svg
    assert figure() == svg


def test_figure_draws_four_methods_at_most():
    kinds = {f"m{i}": ("heatmap", 0, 0.3 + 0.03 * i) for i in range(6)}
    found = " ".join(texts(figure(kinds)))
    assert "m3  " in found
    assert "m4" not in found


def test_figure_escapes_names():
    kinds = {'a<b>&"$x_1$': ("heatmap", 0, 0.5), "<script>": ("heatmap", 3, 0.4)}
    svg = figure(kinds, network="u&<net>$y$")
    found = texts(svg)
    assert 'a<b>&"$x_1$  0.50' in found
    assert "<script>  0.40" in found
    assert any(t.startswith("u&<net>$y$") for t in found)
    assert "<script>" not in svg


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kinds", "curve"),
    [
        (KINDS, curve_rows(ks=(4,), dice=(0.5,))),
        (KINDS, curve_rows(ks=(4,), dice=(0.5,), draws=3)),
        ({"low": ("heatmap", 0, 0.1)}, curve_rows()),
        ({"high": ("heatmap", 500, 0.9)}, curve_rows()),
        ({}, curve_rows()),
        (KINDS, curve_rows(ks=range(1, 41), dice=np.linspace(0.1, 0.8, 40))),
        (KINDS, curve_rows(ks=(1, 2), dice=(0.0, 0.0)).assign(dice=0.0)),
        ({"a": ("heatmap", 0, 0.3), "b": ("heatmap", 0, 0.3), "c": ("floor", 0, 0.3)},
         curve_rows()),
    ],
    ids=["one k", "one k, draws", "below", "above", "none", "many ks", "zero", "equal"],
)  # fmt: skip
def test_figure_of_odd_experiments(kinds, curve):
    svg = figure(kinds, curve)
    assert texts(svg)
    assert not re.search(r"\bnan\b|\binf\b", svg, re.IGNORECASE)


def test_figure_of_a_single_test_patient():
    curve, methods = curve_rows(draws=2), method_rows()
    curve, methods = curve[curve["case"] == "c0"], methods[methods["case"] == "c0"]
    table = equivalence_table(methods, curve, ["cam-fixed", "cam-validation"], **DRAW)
    svg = equivalence_figure(mask_curve(curve, **DRAW), table, "unet")
    assert "cam-fixed  0.45" in texts(svg)
    assert not re.search(r"\bnan\b", svg, re.IGNORECASE)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([0.1, 0.5, 0.9], [0.1, 0.5, 0.9]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.52, 0.5, 0.1], [0.56, 0.46, 0.1]),
        ([1.0, 1.0, 1.0], [0.8, 0.9, 1.0]),
        ([0.0, 0.0], [0.0, 0.1]),
        ([], []),
    ],
)
def test_labels_are_spread(wanted, expected):
    assert spread(wanted, 0.1, 0, 1) == pytest.approx(expected)


@pytest.mark.parametrize(("floor", "warned"), [(0.9, True), (0.1, False)])
def test_a_network_below_the_best_floor_is_a_weak_yardstick(floor, warned):
    tree = {"segmenters": {"unet": {}}, "equivalence": {"segmenter": "unet"}}
    config = parse_config(tree | {"scores": {"bootstrap": 100}})
    groups = ("no-masks", "masks", "oracle", "no-masks", "supervised", "floor")
    methods = pd.DataFrame({"method": [*KINDS, "floor"], "group": groups})
    methods["dice"] = [*(dice for _, _, dice in KINDS.values()), floor]
    for curve in (curve_rows(), pd.DataFrame()):  # the share stands alone without a curve
        run = SimpleNamespace(
            config=config, per_case=method_rows(), equivalence=curve, segmenters={}
        )
        subject = Subject(run, "run1")
        vars(subject).update(methods=methods, method="cam-fixed", spoken=str)
        said = " ".join(equivalence_of(subject)["headline"])
        assert ("marking floor 0.900: beside a network that is no better" in said) == warned


@pytest.mark.parametrize(("reached", "warned"), [(0.2, True), (0.3, True), (0.4, False)])
def test_only_what_is_known_is_held_against_a_floor(reached, warned):
    methods = pd.DataFrame({"method": ["f", "g"], "group": "floor", "dice": [0.3, np.nan]})
    assert bool(_no_better_than_a_floor(methods, reached, "unet", str)) == warned
    assert _no_better_than_a_floor(methods, float("nan"), "unet", str) == []
    assert _no_better_than_a_floor(methods[1:], reached, "unet", str) == []
