"""The table of methods."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weakseg.scores import (
    SUMMARY_COLUMNS,
    by_lesion_size,
    case_columns,
    cluster_mean_interval,
    score_case,
    summarise,
)
from weakseg.scores.summary import patient_dice

from .blobs import blob


def row(case, method, seed, dice, *, lesion=True, patient=None, **others):
    return {
        "case": case,
        "patient": patient or case[0],
        "split": "test",
        "label": "tumour" if lesion else "normal",
        "method": method,
        "kind": others.pop("kind", "weak"),
        "seed": seed,
        "masks_seen": others.pop("masks_seen", 0),
        "has_lesion": lesion,
        "dice": dice,
        **others,
    }


def table(methods=("otsu", "fixed"), seeds=(0, 1, 2), cases=16, seed=0):
    """Real scores of random masks: four cases a patient, every fourth case healthy."""
    return scored(methods, seeds, cases, seed).copy()


@cache
def scored(methods, seeds, cases, seed):
    rng = np.random.default_rng(seed)
    rows = []
    for method in methods:
        for s in seeds:
            for c in range(cases):
                truth = blob((20, 20), c, 0.05 + 0.02 * c) & (c % 4 > 0)
                pred = blob((20, 20), int(rng.integers(1000)), 0.2) & (rng.random() > 0.5)
                scores = score_case(pred, truth, heatmap=rng.random((20, 20)))
                flags = {"flat": bool(rng.random() < 0.2), "gated": not pred.any()}
                known = row(f"{'abcdefgh'[c // 4]}{c}", method, s, 0.0)
                rows.append(known | scores | flags)
    return pd.DataFrame(rows)[list(case_columns())]


def naive(per_case, method):
    """The summary of one method with plain loops, intervals aside."""
    rows = per_case[per_case["method"] == method].to_dict("records")
    cases = {}
    for r in rows:
        cases.setdefault(r["case"], []).append(r)

    def mean(column, keep):
        chosen = [rs for rs in cases.values() if keep(rs[0])]
        return np.mean([np.mean([float(r[column]) for r in rs]) for rs in chosen])

    def lesion(r):
        return r["has_lesion"]

    seeds = sorted({r["seed"] for r in rows})
    of_seed = [
        np.mean([r["dice"] for r in rows if r["seed"] == s and r["has_lesion"]]) for s in seeds
    ]
    same = ("dice", "iou", "precision", "recall", "hd95", "msd", "missed", "no_overlap")
    found = {c: mean(c, lesion) for c in (*same, "ap", "pointing", "energy")}
    return found | {
        "dice_seed_sd": np.std(of_seed, ddof=1),
        "dice_all": mean("dice", lambda r: True),
        "false_positive_rate": mean("false_alarm", lambda r: not r["has_lesion"]),
        "flat": mean("flat", lambda r: True),
        "gated_lesions": mean("gated", lesion),
        "seeds": len(seeds),
        "masks_seen": 0,
        "lesion_images": sum(rs[0]["has_lesion"] for rs in cases.values()),
        "healthy_images": sum(not rs[0]["has_lesion"] for rs in cases.values()),
        "patients": len({r["patient"] for r in rows}),
    }


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_plain_loops(seed):
    per_case = table(seed=seed)
    found = summarise(per_case, bootstrap=50)
    assert list(found.columns) == list(SUMMARY_COLUMNS)
    assert found["method"].tolist() == ["otsu", "fixed"]
    for _, line in found.iterrows():
        expected = naive(per_case, line["method"])
        assert {k: line[k] for k in expected} == pytest.approx(expected)
        assert 0 < line["missed"] < 1, "the example must show something"
        assert 0 < line["false_positive_rate"] < 1
        assert line["dice"] != line["dice_all"]


def test_intervals_are_those_of_the_case_means():
    per_case = table(methods=("otsu",))
    found = summarise(per_case, bootstrap=80, seed=4).iloc[0]
    means = per_case.groupby("case")[["dice", "hd95", "has_lesion", "false_alarm"]].mean()
    patients = means.index.str[0].to_numpy()
    lesion = (means["has_lesion"] == 1).to_numpy()
    everything = np.ones_like(lesion)
    for name, column, keep in [
        ("dice", "dice", lesion),
        ("dice_all", "dice", everything),
        ("hd95", "hd95", lesion),
        ("false_positive_rate", "false_alarm", ~lesion),
    ]:
        values = means[column].to_numpy()[keep]
        expected = cluster_mean_interval(values, patients[keep], bootstrap=80, seed=4)
        ours = (found[name], found[f"{name}_low"], found[f"{name}_high"])
        assert ours == pytest.approx(expected[:3]), name
        assert ours[1] < ours[2]


def test_by_hand():
    per_case = pd.DataFrame(
        [
            row("a1", "weak", 0, 0.2, missed=False, masks_seen=3),
            row("a1", "weak", 1, 0.4, missed=False, masks_seen=3),
            row("b1", "weak", 0, 0.0, missed=True, masks_seen=3),
            row("b1", "weak", 1, 0.8, missed=False, masks_seen=5),
            row("b2", "weak", 0, 1.0, lesion=False, false_alarm=False, masks_seen=3),
            row("b2", "weak", 1, 0.0, lesion=False, false_alarm=True, masks_seen=3),
            row("a1", "floor", np.nan, 0.1, kind="floor"),
        ]
    )
    weak, floor = (line for _, line in summarise(per_case, bootstrap=200).iterrows())
    assert (weak["kind"], weak["seeds"], weak["masks_seen"]) == ("weak", 2, 5)
    assert weak["dice"] == pytest.approx((0.3 + 0.4) / 2)
    assert (weak["dice_low"], weak["dice_high"]) == pytest.approx((0.3, 0.4))
    assert weak["dice_seed_sd"] == pytest.approx(np.std([0.1, 0.6], ddof=1))
    assert weak["dice_all"] == pytest.approx((0.3 + 0.4 + 0.5) / 3)
    assert weak["missed"] == pytest.approx(0.25)
    assert weak["false_positive_rate"] == pytest.approx(0.5)
    assert (weak["lesion_images"], weak["healthy_images"], weak["patients"]) == (2, 1, 2)
    assert (floor["kind"], floor["seeds"], floor["masks_seen"]) == ("floor", 0, 0)
    assert floor["dice"] == 0.1
    unknown = ["dice_seed_sd", "dice_low", "dice_high", "ap", "false_positive_rate", "hd95", "flat"]
    assert floor[unknown].isna().all()


def test_every_case_weighs_the_same_whatever_its_seeds():
    per_case = pd.DataFrame(
        [row("a1", "m", 0, 1.0), row("b1", "m", 0, 0.0), row("b1", "m", 1, 0.0)]
    )
    assert summarise(per_case, bootstrap=10)["dice"].tolist() == [0.5]


@pytest.mark.parametrize("seeds", [(0, 1), (np.nan,), ("",)])
def test_the_same_after_a_csv(tmp_path, seeds):
    per_case = table(seeds=seeds)
    per_case["gated"] = per_case["gated"].astype(object)
    per_case.loc[~per_case["has_lesion"], "gated"] = None
    path = tmp_path / "per_case.csv"
    per_case.to_csv(path, index=False)
    here, back = summarise(per_case, bootstrap=20), summarise(pd.read_csv(path), bootstrap=20)
    pd.testing.assert_frame_equal(here, back)
    assert (here["seeds"] == (2 if len(seeds) == 2 else 0)).all()
    assert here["gated_lesions"].between(0, 1, inclusive="neither").all()


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_order_of_rows_matters_only_to_the_order_of_methods(random):
    per_case = table(seeds=(0, 1))
    order = list(range(len(per_case)))
    random.shuffle(order)
    found = summarise(per_case.iloc[order], bootstrap=20).set_index("method")
    expected = summarise(per_case, bootstrap=20).set_index("method")
    first = per_case["method"].iloc[order].drop_duplicates().tolist()
    assert found.index.tolist() == first
    pd.testing.assert_frame_equal(found.loc[expected.index], expected)


def test_columns_of_scores_may_be_absent():
    per_case = table()
    bare = per_case[["case", "patient", "method", "kind", "masks_seen", "has_lesion", "dice"]]
    found = summarise(bare[per_case["seed"] == 0], bootstrap=20)
    whole = summarise(per_case[per_case["seed"] == 0], bootstrap=20)
    known = ["method", "dice", "dice_low", "dice_high", "dice_all", "lesion_images", "patients"]
    pd.testing.assert_frame_equal(found[known], whole[known])
    unknown = ["iou", "hd95", "hd95_low", "missed", "ap", "flat", "gated_lesions"]
    assert found[unknown].isna().to_numpy().all()


def test_an_empty_table_has_no_methods():
    found = summarise(table().iloc[:0])
    assert found.empty
    assert list(found.columns) == list(SUMMARY_COLUMNS)


def test_by_lesion_size_by_hand():
    rows = [
        row(f"a{i}", "m", s, d, lesion_pixels=pixels)
        for s, shift in ((0, -0.1), (1, 0.1))
        for i, (pixels, d) in enumerate((p, 0.5 + shift + 0.01 * p) for p in (30, 1, 2, 20, 3, 10))
    ]
    rows.append(row("z", "m", 0, 1.0, lesion=False, lesion_pixels=0))
    rows.append(row("a0", "other", 0, 0.0, lesion_pixels=30))
    found = by_lesion_size(pd.DataFrame(rows), "m")
    expected = pd.DataFrame(
        {
            "size": [1, 2, 3],
            "pixels_low": [1.0, 3.0, 20.0],
            "pixels_high": [2.0, 10.0, 30.0],
            "dice": [0.515, 0.565, 0.75],
            "n": [2, 2, 2],
        }
    )
    pd.testing.assert_frame_equal(found, expected)


def test_lesions_of_one_size_stay_together():
    rows = [row(f"a{i}", "m", 0, 0.5, lesion_pixels=7) for i in range(6)]
    found = by_lesion_size(pd.DataFrame(rows), "m")
    assert found["n"].tolist() == [6, 0, 0]
    assert found["dice"].isna().tolist() == [False, True, True]
    healthy = pd.DataFrame([row("a", "m", 0, 1.0, lesion=False, lesion_pixels=0)])
    assert by_lesion_size(healthy, "m", bins=2)["n"].tolist() == [0, 0]


@pytest.mark.parametrize("bins", [1, 2, 3, 5])
def test_sizes_cover_all_lesion_images(bins):
    per_case = table()
    found = by_lesion_size(per_case, "otsu", bins=bins)
    line = summarise(per_case, bootstrap=10).set_index("method").loc["otsu"]
    assert found["n"].sum() == line["lesion_images"]
    assert found["n"].max() - found["n"].min() <= 1
    assert (found["dice"] * found["n"]).sum() / found["n"].sum() == pytest.approx(line["dice"])
    assert (found["pixels_low"].iloc[1:].to_numpy() > found["pixels_high"].iloc[:-1]).all()


def test_errors():
    good = table(seeds=(0,))
    cases = [
        (good.drop(columns=["dice", "kind"]), "must have the columns.*none named 'kind', 'dice'"),
        (good.assign(dice=[np.nan, *good["dice"][1:]]), "'dice' in every row, got 1 without"),
        (good.assign(patient=[None, *good["patient"][1:]]), "'patient' in every row"),
        (good.assign(split=["val", *good["split"][1:]]), "one split.*got 'val', 'test'"),
        (pd.concat([good, good.iloc[:1]]), "case 'a0' twice under method 'otsu', seed 0"),
        (good.assign(seed=np.nan).iloc[[0, 0]], "case 'a0' twice under method 'otsu', seed nan"),
        (good.assign(has_lesion=[True, *good["has_lesion"][1:]]), "one 'has_lesion'.*'a0'"),
        (good.assign(patient=["z", *good["patient"][1:]]), "one 'patient'.*'a0'"),
    ]
    for per_case, message in cases:
        with pytest.raises(ValueError, match=message):
            summarise(per_case, bootstrap=10)
        with pytest.raises(ValueError, match=message):
            by_lesion_size(per_case, "otsu")


def test_errors_of_sizes():
    with pytest.raises(ValueError, match="'otsy' is not in per_case; did you mean 'otsu'"):
        by_lesion_size(table(), "otsy")
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        by_lesion_size(table(), "otsu", bins=0)
    with pytest.raises(ValueError, match="must have the column 'lesion_pixels'"):
        by_lesion_size(table().drop(columns="lesion_pixels"), "otsu")


def test_the_images_of_a_patient_are_one_volume():
    """Two slices of one patient: 2 (4 + 0) / (6 + 6 + 2 + 2); a healthy slice adds its marks."""
    rows = [
        row("a0", "m", 0, 8 / 12, patient="a", lesion_pixels=6, predicted_pixels=6),
        row("a1", "m", 0, 0.0, patient="a", lesion_pixels=2, predicted_pixels=2),
        row("b0", "m", 0, 1.0, patient="b", lesion_pixels=5, predicted_pixels=5),
        row("b1", "m", 0, 0.0, patient="b", lesion=False, lesion_pixels=0, predicted_pixels=10),
        row("c0", "m", 0, 1.0, patient="c", lesion=False, lesion_pixels=0, predicted_pixels=0),
    ]
    found = summarise(pd.DataFrame(rows), bootstrap=50).iloc[0]
    assert found["dice_patient"] == pytest.approx(np.mean([8 / 16, 10 / 20]))
    other = [r | {"seed": 1, "dice": 0.0} for r in rows]
    two = summarise(pd.DataFrame(rows + other), bootstrap=50).iloc[0]
    assert two["dice_patient"] == pytest.approx(np.mean([8 / 16, 10 / 20]) / 2)


def test_images_of_unknown_area_are_left_out_of_their_patient():
    rows = [
        row("a0", "m", 0, 8 / 12, patient="a", lesion_pixels=6, predicted_pixels=6),
        row("a1", "m", 0, 0.5, patient="a", lesion_pixels=4, predicted_pixels=np.nan),
        row("b0", "m", 0, 0.5, patient="b", lesion_pixels=4, predicted_pixels=np.nan),
    ]
    assert patient_dice(pd.DataFrame(rows)).to_dict() == {"a": pytest.approx(8 / 12)}


def test_patients_of_methods_without_a_seed_and_those_without_a_lesion():
    """A lesion of a pixel is one; marks on healthy images alone leave a patient without a Dice."""
    rows = [
        row("a0", "m", np.nan, 2 / 3, patient="a", lesion_pixels=1, predicted_pixels=2),
        row("b0", "m", np.nan, 0.0, patient="b", lesion=False, lesion_pixels=0, predicted_pixels=5),
        row("c0", "m", np.nan, 1.0, patient="c", lesion=False, lesion_pixels=0, predicted_pixels=0),
    ]
    assert patient_dice(pd.DataFrame(rows)).to_dict() == {"a": pytest.approx(2 / 3)}
    assert summarise(pd.DataFrame(rows), bootstrap=5)["dice_patient"][0] == pytest.approx(2 / 3)
