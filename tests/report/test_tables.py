"""Tables on made-up scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from weakseg.report.tables import (
    classifier_table,
    comparable,
    confusion_table,
    headline,
    method_table,
    paired_difference,
    spread_table,
)
from weakseg.scores import summarise


def per_case(dice: dict[str, list[float]], kinds: dict[str, tuple[str, int]]) -> pd.DataFrame:
    """Two images a patient, all with a lesion; one seed."""
    rows = [
        {
            "case": f"c{i}",
            "patient": f"p{i // 2}",
            "split": "test",
            "method": method,
            "kind": kinds[method][0],
            "masks_seen": kinds[method][1],
            "seed": 0,
            "has_lesion": True,
            "dice": value,
        }
        for method, values in dice.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


KINDS = {
    "weak": ("heatmap", 0),
    "weaker": ("heatmap", 0),
    "tuned": ("heatmap", 9),
    "bound": ("oracle", 9),
    "low": ("floor", 0),
    "high": ("floor", 0),
}
ORDER = list(KINDS)
DICE = {
    "bound": [0.9, 0.8, 0.9, 0.8],
    "high": [0.3, 0.1, 0.2, 0.2],
    "weak": [0.5, 0.3, 0.4, 0.5],
    "low": [0.1, 0.1, 0.1, 0.1],
    "tuned": [0.6, 0.6, 0.6, 0.6],
    "weaker": [0.1, 0.2, 0.1, 0.1],
}


def test_methods_are_grouped_sorted_and_held_against_the_best_floor():
    cases = per_case(DICE, KINDS)
    methods = method_table(summarise(cases, bootstrap=100), cases, bootstrap=100)
    assert methods["method"].tolist() == ["weak", "weaker", "tuned", "high", "low", "bound"]
    assert methods["group"].tolist() == [
        "no-masks", "no-masks", "masks", "floor", "floor", "oracle",
    ]  # fmt: skip
    assert set(methods["floor"]) == {"high"}
    lead = methods.set_index("method")["difference"]
    assert lead["weak"] == pytest.approx(0.225)
    assert lead["low"] == pytest.approx(-0.1)
    assert np.isnan(lead["high"])
    assert headline(methods, ["low", "weaker", "weak"]) == "weaker"


def test_a_method_that_saw_masks_is_spoken_of_only_where_no_other_is():
    kinds = KINDS | {"weak": ("heatmap", 1), "weaker": ("heatmap", 1)}
    cases = per_case(DICE, kinds)
    methods = method_table(summarise(cases, bootstrap=10), cases, bootstrap=10)
    assert headline(methods, ["tuned", "weak"]) == "tuned"
    assert headline(methods, ["weak", "tuned"]) == "weak"
    only = per_case({k: DICE[k] for k in ("low", "bound")}, KINDS)
    assert headline(method_table(summarise(only, bootstrap=10), only, bootstrap=10), ORDER) is None


def test_the_method_that_is_asked_for_is_spoken_of_if_it_was_scored_and_is_no_upper_bound():
    cases = per_case(DICE | {"net": [0.7] * 4}, KINDS | {"net": ("supervised", 9)})
    methods = method_table(summarise(cases, bootstrap=10), cases, bootstrap=10)
    assert headline(methods, ORDER, "tuned") == "tuned"
    assert headline(methods, ORDER, "net") == "net"
    for wanted in (None, "bound", "never-scored"):
        assert headline(methods, ORDER, wanted) == "weak"


def test_without_floors_there_is_no_difference():
    cases = per_case({"weak": DICE["weak"]}, KINDS)
    row = method_table(summarise(cases, bootstrap=10), cases, bootstrap=10).iloc[0]
    assert row["floor"] == ""
    assert np.isnan(row["difference"])


def test_an_empty_summary_gives_an_empty_table():
    methods = method_table(pd.DataFrame(), pd.DataFrame())
    assert methods.empty
    assert headline(methods, ORDER) is None


def test_pairing_sees_a_small_lead_that_separate_intervals_hide():
    rng = np.random.default_rng(0)
    hard = rng.uniform(0, 0.9, 40)
    cases = per_case({"weak": list(hard + 0.05), "high": list(hard)}, KINDS)
    lead = paired_difference(cases, "weak", "high", bootstrap=500)
    assert lead.value == pytest.approx(0.05)
    assert lead.low > 0.049
    apart = summarise(cases, bootstrap=500).set_index("method")
    assert apart.at["weak", "dice_low"] < apart.at["high", "dice_high"]


def test_seeds_are_averaged_before_cases_are_paired():
    first = per_case({"weak": [0.4, 0.4], "high": [0.1, 0.3]}, KINDS)
    second = first[first["method"] == "weak"].assign(seed=1, dice=[0.6, 0.8])
    first.loc[first["method"] == "high", "seed"] = np.nan
    lead = paired_difference(pd.concat([first, second]), "weak", "high", bootstrap=10)
    assert lead.value == pytest.approx(np.mean([0.5 - 0.1, 0.6 - 0.3]))
    assert lead.cases == 2
    assert np.isnan(lead.low)  # one patient


def test_healthy_images_do_not_enter_the_difference():
    cases = per_case({"weak": [0.5, 0.5, 1.0, 1.0], "high": [0.2, 0.2, 0.0, 0.0]}, KINDS)
    cases["has_lesion"] = cases["case"].isin(["c0", "c1"])
    assert paired_difference(cases, "weak", "high", bootstrap=10).value == pytest.approx(0.3)


def test_the_spread_is_that_of_the_cases():
    cases = per_case({"weak": list(np.linspace(0, 1, 101))}, KINDS)
    row = spread_table(cases, ["weak"]).iloc[0]
    assert row[["q05", "q25", "median", "q75", "q95"]].tolist() == pytest.approx(
        [0.05, 0.25, 0.5, 0.75, 0.95]
    )


def test_classifier_scores_get_a_mean_over_seeds_and_null_stays_missing():
    def scores(value: float | None) -> dict[str, dict[str, dict[str, float | None]]]:
        return {"test": {"auc_lesion": {"value": value, "low": 0.5, "high": 0.9}}}

    table = classifier_table({0: scores(0.7), 3: scores(0.9)}).set_index("seed")
    assert table.loc["mean", "value"] == pytest.approx(0.8)
    assert table.loc["mean", "seed_sd"] == pytest.approx(np.std([0.7, 0.9], ddof=1))
    assert table.loc["3", "value"] == 0.9
    alone = classifier_table({0: scores(None)}).set_index("seed")
    assert np.isnan(alone.loc["mean", "value"])
    assert np.isnan(alone.loc["mean", "seed_sd"])
    assert classifier_table({}).empty


def test_confusion_counts_are_averaged_over_seeds():
    def predictions(predicted: list[str]) -> pd.DataFrame:
        return pd.DataFrame(
            {"split": ["test"] * 3 + ["val"], "label": ["a", "a", "b", "b"], "predicted": predicted}
        )

    seeds = [predictions(["a", "b", "b", "a"]), predictions(["a", "a", "b", "a"])]
    table = confusion_table(seeds, ["a", "b"], "test")
    assert table.to_numpy().tolist() == [[1.5, 0.5], [0.0, 1.0]]


def test_runs_are_comparable_on_the_same_test_images_only():
    def splits(*names: str) -> pd.DataFrame:
        return pd.DataFrame({"case": ["a", "b", "c"], "split": names})

    one = splits("train", "val", "test")
    assert comparable(["x", "x"], [one, one]) == (True, None)
    assert comparable(["x", "y"], [one, one])[0] is False
    assert comparable(["x", "x"], [one, splits("train", "test", "val")])[0] is False
    same, why = comparable(["x", "x"], [one, splits("val", "train", "test")])
    assert same
    assert why is not None
    assert "training" in why
