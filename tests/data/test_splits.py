"""Patients stay on one side, classes are everywhere, and look-alikes count as one patient."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.sparse.csgraph import connected_components

from tests.data.helpers import present
from weakseg.config import DataConfig, SplitConfig
from weakseg.data import dealing, splits
from weakseg.data.cases import Case, Labels
from weakseg.data.duplicates import group_near_duplicates, thumbnail
from weakseg.data.images import read_image
from weakseg.data.manifest import read_manifest
from weakseg.data.splits import make_splits, read_splits, split_troubles, write_splits
from weakseg.errors import DataError

TWO = Labels(("normal",), ("tumor",))


def cases_of(*patients: dict[str, int]) -> list[Case]:
    """Cases of patients, each given as label → number of images."""
    out: list[Case] = []
    for p, content in enumerate(patients):
        for label, n in content.items():
            for _ in range(n):
                i = len(out)
                out.append(
                    Case(f"c{i}", Path(f"/d/c{i}.png"), label, None, f"p{p:03d}", None, i + 2)
                )
    return out


def sides(cases: list[Case]) -> dict[str, str]:
    return {c.id: c.split or "" for c in cases}


many = st.lists(
    st.fixed_dictionaries({"normal": st.integers(1, 8), "tumor": st.integers(0, 8)}),
    min_size=30,
    max_size=80,
).filter(lambda ps: sum(p["tumor"] > 0 for p in ps) >= 3)


@settings(max_examples=20)
@given(many, st.integers(0, 9), st.floats(0.1, 0.3), st.floats(0.1, 0.3))
def test_properties_of_a_deal(patients, seed, val, test):
    cases = cases_of(*patients)
    config = SplitConfig(val=val, test=test, seed=seed)
    dealt = make_splits(cases, TWO, config)
    assert [replace(c, split=None) for c in dealt] == cases
    for patient in {c.patient for c in dealt}:
        assert len({c.split for c in dealt if c.patient == patient}) == 1
    share = Counter(c.split for c in dealt)
    for name, wanted in (("val", val), ("test", test), ("train", 1 - val - test)):
        assert abs(share[name] / len(dealt) - wanted) < 0.08
        assert {c.label for c in dealt if c.split == name} == {"normal", "tumor"}
    assert make_splits(cases, TWO, config) == dealt
    shuffled = random.Random(seed).sample(cases, len(cases))
    assert sides(make_splits(shuffled, TWO, config)) == sides(dealt)


def test_another_seed_deals_otherwise():
    cases = cases_of(*[{"normal": 3, "tumor": 2}] * 30)
    deals = {tuple(sides(make_splits(cases, TWO, SplitConfig(seed=s))).values()) for s in range(5)}
    assert len(deals) == 5


def test_class_shares_are_kept():
    cases = cases_of(*([{"normal": 10}] * 40 + [{"tumor": 10}] * 20))
    for name in ("train", "val", "test"):
        dealt = [c for c in make_splits(cases, TWO, SplitConfig()) if c.split == name]
        assert abs(np.mean([c.label == "tumor" for c in dealt]) - 1 / 3) < 0.06


@pytest.mark.parametrize("seed", range(5))
def test_three_patients_of_each_rare_class_reach_every_split(seed):
    labels = Labels(("normal",), ("a", "b", "c"))
    rare = [{name: 1, "normal": 1} for name in "abc" for _ in range(3)]
    dealt = make_splits(cases_of(*([{"normal": 4}] * 80 + rare)), labels, SplitConfig(seed=seed))
    for name in ("train", "val", "test"):
        assert {c.label for c in dealt if c.split == name} == {"normal", "a", "b", "c"}


def test_three_patients_are_enough():
    dealt = make_splits(cases_of(*[{"normal": 2, "tumor": 1}] * 3), TWO, SplitConfig())
    assert Counter(c.split for c in dealt) == {"train": 3, "val": 3, "test": 3}


def test_too_few_patients():
    with pytest.raises(DataError, match="too few patients") as e:
        make_splits(cases_of({"normal": 9, "tumor": 9}, {"normal": 5}), TWO, SplitConfig())
    assert "2 patients" in str(e.value.found)
    assert "patient" in str(e.value.fix)


def test_too_few_patients_of_a_class():
    cases = cases_of(*[{"normal": 5}] * 9, {"tumor": 9}, {"tumor": 3})
    with pytest.raises(DataError, match="'tumor' has too few patients") as e:
        make_splits(cases, TWO, SplitConfig())
    assert "2 patients" in str(e.value.found)
    assert "merge" in str(e.value.fix)


def given_split(*splits: str) -> list[Case]:
    cases = cases_of(*[{"normal": 1, "tumor": 1}] * len(splits))
    return [replace(c, split=splits[int(c.patient[1:])]) for c in cases]


def test_given_splits_are_kept():
    cases = given_split("test", "train", "val", "train")
    assert make_splits(cases, TWO, SplitConfig()) == cases


@pytest.mark.parametrize(
    ("cases", "says"),
    [
        (
            [replace(c, patient="one") for c in given_split("train", "val", "test")],
            "patient 'one' is in train (row 2), val (row 4), test (row 6)",
        ),
        (given_split("train", "val", "val"), "no row is in the split 'test'"),
        (
            [
                c
                for c in given_split("train", "val", "test")
                if (c.label, c.split) != ("tumor", "val")
            ],
            "'val' has no image of 'tumor'",
        ),
        (given_split("train", "val", "test", "holdout"), "row 8: the split 'holdout'"),
        (
            [*given_split("train", "val", "test")[:-1], cases_of({"tumor": 1})[0]],
            "Some rows name a split",
        ),
    ],
)
def test_bad_given_splits_are_refused(cases, says):
    with pytest.raises(DataError) as e:
        make_splits(cases, TWO, SplitConfig())
    assert says in str(e.value)
    assert e.value.fix


def test_good_given_splits_have_no_troubles():
    assert not list(split_troubles(given_split("train", "val", "test"), TWO))


def test_every_kind_of_trouble_has_its_name():
    cases = [
        *given_split("train", "val", "test"),
        *(replace(c, split="val", row=90) for c in given_split("train")[:1]),
        *(replace(c, split="dev", row=91, patient="x") for c in given_split("train")[:1]),
    ]
    found = list(split_troubles(cases, TWO))
    assert [kind for kind, _, _ in found] == ["split-unknown", "patient-in-two-splits"]
    assert found[0][2] == "write one of train, val, test"
    assert "(row 90)" in found[1][1]
    assert found[1][2] == "put all rows of a patient into one split"


def test_a_split_that_is_empty_hides_no_other():
    cases = [c for c in given_split("train", "val", "test") if c.split == "test"]
    found = list(split_troubles([c for c in cases if c.label == "normal"], TWO))
    assert [(kind, fix) for kind, _, fix in found] == [
        ("split-empty", "give train some patients"),
        ("split-empty", "give val some patients"),
        (
            "split-lacks-class",
            "move a patient with 'tumor' to test, or leave the split column out to have patients "
            "dealt out",
        ),
    ]


def test_splits_on_disk_come_back(tmp_path):
    cases = [
        Case("a", Path("/d/a, b.png"), 'with "quotes"', None, "pä", "train", 2),
        Case("b", Path("/d/b.png"), "x", None, "q", None, 3),
        Case("c", Path("/d/c.png"), "two\r\nlines", None, "q", "val", 4),
    ]
    write_splits(tmp_path / "splits.csv", cases)
    assert (tmp_path / "splits.csv").read_text("utf-8").startswith("case,image,label,patient,split")
    assert read_splits(tmp_path / "splits.csv") == cases


def test_splits_of_slices_say_which_slice(tmp_path):
    cases = [
        Case("a", Path("/d/v.nii"), "x", None, "p", "train", 2, slice=0),
        Case("b", Path("/d/b.png"), "x", None, "q", "val", 3),
        Case("c", Path("/d/v.nii"), "y", None, "p", "train", 4, slice=12),
    ]
    write_splits(tmp_path / "splits.csv", cases)
    rows = (tmp_path / "splits.csv").read_text("utf-8").splitlines()
    assert rows[0].split(",")[:5] == ["case", "image", "label", "patient", "split"]
    assert [r.split(",")[5] for r in rows[1:]] == ["0", "", "12"]
    again = read_splits(tmp_path / "splits.csv")
    assert again == cases
    assert [c.slice for c in again] == [0, None, 12]
    for some, columns in ((cases[1:2], 5), (cases[:1], 6)):
        write_splits(tmp_path / "splits.csv", some)
        assert (
            len((tmp_path / "splits.csv").read_text("utf-8").splitlines()[0].split(",")) == columns
        )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        ("", "empty file"),
        ("a,b\n1,2\n", "a,b"),
        ("a,b,c,d,e\n1,2,3,4,5\n", "a,b,c,d,e"),
        ("case,image,label,patient,split\n1,2,3\n", "hold splits"),
    ],
)
def test_bad_splits_on_disk(tmp_path, text, says):
    path = tmp_path / "splits.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=says) as e:
        read_splits(path)
    assert e.value.where == str(path)
    assert e.value.fix


def pictures(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 24, 24)).astype(np.float32)


def test_copies_brighter_copies_and_mirror_images_are_one_group():
    p = pictures(4)
    again = np.stack([p[0], p[1], p[0] * 0.5 + 3, p[2][:, ::-1], p[3], p[2], p[1][::-1]])
    g = group_near_duplicates(again)
    assert g[0] == g[2]
    assert g[3] == g[5]
    assert len({g[0], g[1], g[3], g[4], g[6]}) == 5  # upside down is another picture
    assert g[:2] == ["group-0001", "group-0002"]


def test_chains_are_one_group():
    a, b = pictures(2, 1)
    a, b = a - a.mean(), b - b.mean()
    b -= a * (a * b).sum() / (a * a).sum()
    b *= np.linalg.norm(a) / np.linalg.norm(b)
    turned = np.stack([np.cos(t) * a + np.sin(t) * b for t in (0, 0.12, 0.24, 0.36)])
    assert np.corrcoef(turned[0].ravel(), turned[2].ravel())[0, 1] < 0.985
    assert len(set(group_near_duplicates(turned))) == 1
    assert len(set(group_near_duplicates(turned[[0, 2]]))) == 2


def test_constant_and_unreadable_images():
    flat = np.stack([np.full((24, 24), v, dtype=np.float32) for v in (0, 5, 0, 5, np.nan, np.nan)])
    g = group_near_duplicates(np.concatenate([flat, pictures(1)]))
    assert g[0] == g[2]
    assert g[1] == g[3]
    assert len(set(g)) == 5
    assert group_near_duplicates(np.zeros((0, 24, 24))) == []
    assert len(set(group_near_duplicates(flat[4:]))) == 2


@settings(max_examples=15)
@given(st.integers(1, 7), st.integers(0, 99))
def test_groups_do_not_depend_on_blocks(block, seed):
    rng = np.random.default_rng(seed)
    base = pictures(6, seed)
    chosen = base[rng.integers(0, 6, 15)]
    mirrored = rng.random(15) < 0.5
    chosen = np.where(mirrored[:, None, None], chosen[:, :, ::-1], chosen)
    assert group_near_duplicates(chosen, block=block) == group_near_duplicates(chosen)


def every_pair(thumbnails: np.ndarray) -> list[int]:
    """Groups by a correlation of every picture with every other and its mirror image."""
    flat = thumbnails.reshape(len(thumbnails), -1)
    mirror = thumbnails[:, :, ::-1].reshape(len(thumbnails), -1)
    n = len(flat)
    same = np.maximum(np.corrcoef(flat), np.corrcoef(flat, mirror)[:n, n:]) > 0.985
    return connected_components(same, directed=False)[1].tolist()


@pytest.mark.parametrize("spread", [0.08, 0.12, 0.2, 1.0])
@pytest.mark.parametrize("block", [16, 90])
def test_the_bound_hides_no_pair(spread, block):
    """Smooth pictures around a few of them: pairs on both sides of the limit, mirrored or not."""
    rng = np.random.default_rng(5)
    base = gaussian_filter(rng.normal(size=(12, 24, 24)), (0, 3, 3)) * 20
    noise = gaussian_filter(rng.normal(size=(150, 24, 24)), (0, 2, 2)) * 12
    chosen = base[rng.integers(0, 12, 150)] + spread * noise
    chosen[::3] = chosen[::3, :, ::-1]
    groups = group_near_duplicates(chosen.astype(np.float32), block=block)
    expected = every_pair(chosen.astype(np.float32))
    assert len(set(zip(groups, expected, strict=True))) == len(set(groups)) == len(set(expected))
    assert 10 < len(set(groups)) <= 150


def test_many_equal_pictures_take_no_table_of_all_pairs():
    many = np.broadcast_to(pictures(1), (20_000, 24, 24))
    assert set(group_near_duplicates(many, block=512)) == {"group-0001"}


def test_thumbnails_average_and_lose_colour():
    image = np.zeros((48, 48, 3), dtype=np.uint16)
    image[::2, :, 0] = 6000
    np.testing.assert_allclose(thumbnail(image), np.full((24, 24), 1000.0), atol=1)
    assert thumbnail(np.zeros((7, 100), dtype=bool).astype(np.float64)).shape == (24, 24)


def test_groups_of_busi_are_those_that_its_maker_found(shared):
    """Its patient column was made by the same rule over all 780 images, by another program."""
    folder = present(shared / "data" / "busi_dev")
    known = {c.id: c.patient for c in read_manifest(folder / "labels.csv", DataConfig()).cases}
    paths = [c.image for c in read_manifest(folder / "labels.csv", DataConfig()).cases]
    groups = group_near_duplicates(np.stack([thumbnail(read_image(p)) for p in paths]))
    ours: dict[str, set[str]] = {}
    for path, group in zip(paths, groups, strict=True):
        ours.setdefault(group, set()).add(known[path.stem])
    assert len(ours) > 450
    assert sum(len(theirs) > 1 for theirs in ours.values()) <= 2
    assert abs(len(ours) - len(set(known.values()))) <= 3


def test_lgg_deals_evenly(shared):
    path = present(shared / "data" / "lgg_flair_dev" / "labels.csv")
    found = read_manifest(path, DataConfig())
    dealt = make_splits(found.cases, found.labels, SplitConfig())
    for name, wanted in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        part = [c for c in dealt if c.split == name]
        assert abs(len(part) / len(dealt) - wanted) < 0.01
        assert abs(np.mean([c.label == "tumor" for c in part]) - 1032 / 2935) < 0.02


# By hand


def volumes_of(*patients: dict[str, int]) -> list[Case]:
    return [replace(c, image=Path(f"/d/{c.id}.nii.gz")) for c in cases_of(*patients)]


@pytest.mark.parametrize(
    ("cases", "found", "hint"),
    [
        ([], "0 patients", "images that look alike count as one patient"),
        (cases_of({"normal": 2, "tumor": 1}), "1 patient", "images that look alike"),
        (volumes_of({"normal": 2}, {"tumor": 1}), "2 patients", "each volume counts as one"),
    ],
)
def test_too_few_are_counted_and_the_hint_is_of_their_kind(cases, found, hint):
    with pytest.raises(DataError, match="too few patients for training") as e:
        make_splits(cases, TWO, SplitConfig())
    assert (e.value.found, e.value.expected) == (found, "at least 3")
    assert e.value.fix.startswith("add patients; where the manifest has no `patient` column")
    assert hint in e.value.fix


@pytest.mark.parametrize(("count", "found"), [(1, "1 patient"), (2, "2 patients")])
def test_too_few_of_a_class_are_counted(count, found):
    cases = cases_of(*[{"normal": 5}] * 9, *[{"tumor": 4}] * count)
    with pytest.raises(DataError, match="'tumor' has too few patients") as e:
        make_splits(cases, TWO, SplitConfig())
    assert (e.value.found, e.value.expected) == (found, "at least 3")
    assert "merge the label with another one" in e.value.fix
    assert "images that look alike" in e.value.fix


def test_classes_that_no_deal_can_share_out_are_counted():
    """Three patients a class: b needs p3 beside p2, c needs p3 beside p1."""
    patients = [{"a": 1, "b": 2, "c": 1}, {"a": 1, "b": 1}, {"a": 1, "c": 1}, {"b": 1, "c": 1}]
    with pytest.raises(DataError, match="No way was found") as e:
        make_splits(cases_of(*patients), Labels(("a",), ("b", "c")), SplitConfig())
    assert e.value.found == "4 patients; 3 with 'a', 3 with 'b', 3 with 'c'"
    assert "add a `split` column" in e.value.fix


def dealt_by_hand(images, order, share=(0.5, 0.3, 0.2)):
    """Patient → side, of (healthy images, lesions) by patient."""
    return dealing._deal(np.array(images), np.array(share), np.array(order)).tolist()


def test_a_deal_by_hand():
    """Ten patients of an image each; those from 7 on have the lesions, which are dealt first."""
    images = [(1, 0)] * 7 + [(0, 1)] * 3
    # Lesions: 7 tests, 8 validates, 9 trains; healthy: 0, 1, 2. Two are enough to test, a third
    # one validates, and the rest trains.
    assert dealt_by_hand(images, range(10)) == [2, 1, 0, 1, 0, 0, 0, 2, 1, 0]
    backwards = [0, 0, 0, 1, 0, 1, 2, 0, 1, 2]
    assert dealt_by_hand(images, range(10)[::-1]) == backwards
    # However the classes stand in the table.
    assert dealt_by_hand([i[::-1] for i in images], range(10)) == [2, 1, 0, 1, 0, 0, 0, 2, 1, 0]


def test_a_deal_of_patients_with_both_kinds_and_of_unequal_size():
    """Of 30 images 6 are to test and 9 to validate."""
    images = [(3, 1), (0, 2), (2, 2), (1, 0), (9, 0), (2, 0), (4, 0), (4, 0)]
    # Lesions: 2 tests, 1 validates, 0 trains. Healthy: 2 tests and 0 trains already; 7 validates.
    # To test there are 4: with 6, the next, 8; with 5 as well, 10. Four are as far from 6 as
    # eight are, and the fewer are taken. To validate there are 6: with 6, 10, which is nearer.
    order = [2, 1, 0, 7, 6, 5, 4, 3]
    assert dealt_by_hand(images, order) == [0, 1, 2, 0, 0, 0, 1, 1]
    # With 5 (2 images) first: six test; of 6 + 4 = 10 and 6 + 4 + 9 the former validate.
    order = [2, 1, 0, 7, 5, 6, 4, 3]
    assert dealt_by_hand(images, order) == [0, 1, 2, 0, 0, 2, 1, 1]


def unlike(counts, side, share):
    """How far a deal is from its shares of images and of classes, in plain sums."""
    off = 0.0
    for s in range(3):
        own = [
            sum(int(c[k]) for c, at in zip(counts, side, strict=True) if at == s) for k in (0, 1)
        ]
        off += abs(sum(own) / counts.sum() - share[s])
        off += sum(abs(own[k] / sum(own) - counts[:, k].sum() / counts.sum()) for k in (0, 1))
    return off


@pytest.mark.parametrize("seed", range(6))
def test_of_all_deals_the_one_is_kept_that_is_nearest_to_its_shares(monkeypatch, seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, (12, 2))
    deals = [rng.permutation([0] * 6 + [1] * 3 + [2] * 3) for _ in range(40)]
    whole = [d for d in deals if all((counts[d == s].sum(axis=0) > 0).all() for s in range(3))]
    config = SplitConfig(val=0.2, test=0.3)
    best = min(whole, key=lambda d: unlike(counts, d, (0.5, 0.2, 0.3)))
    left = iter(deals)
    monkeypatch.setattr(dealing, "CANDIDATES", len(deals))
    monkeypatch.setattr(dealing, "_deal", lambda *_: next(left))
    np.testing.assert_array_equal(splits._sides(counts, config), best)
    assert next(left, None) is None


def test_every_candidate_is_an_order_of_all_patients_that_the_seed_says(monkeypatch):
    counts, asked = np.ones((5, 2), dtype=int), []

    def deal(table, share, order):
        assert table is counts
        np.testing.assert_allclose(share, [0.6, 0.1, 0.3])
        asked.append(order.tolist())
        return np.array([0, 0, 0, 1, 2])

    monkeypatch.setattr(dealing, "_deal", deal)
    splits._sides(counts, SplitConfig(val=0.1, test=0.3, seed=4))
    rng = np.random.default_rng(4)
    assert asked == [rng.permutation(5).tolist() for _ in range(dealing.CANDIDATES)]


def test_of_equally_good_deals_the_first_is_kept_and_none_that_lacks_a_class(monkeypatch):
    counts = np.array([[1, 1], [1, 1], [1, 1], [1, 0], [0, 1]])
    lacking, one, other = [0, 0, 0, 1, 2], [0, 1, 2, 0, 0], [1, 2, 0, 0, 0]
    for deals, kept in (([lacking, one, other], one), ([other, lacking, one], other)):
        left = iter(deals)
        monkeypatch.setattr(dealing, "CANDIDATES", 3)
        monkeypatch.setattr(dealing, "_deal", lambda *_, left=left: np.array(next(left)))
        assert splits._sides(counts, SplitConfig()).tolist() == kept
    monkeypatch.setattr(dealing, "_deal", lambda *_: np.array(lacking))
    assert splits._sides(counts, SplitConfig()) is None


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "No such file or directory"),
        (b"case,image,label,patient,split\n\xff,b,c,d,train\n", "can't decode byte 0xff"),
        (b"case,image,label,patient,split\n" + b"x" * 200_000 + b",b,c,d,e\n", "larger than"),
    ],
)
def test_why_splits_cannot_be_read(tmp_path, content, found):
    if content is not None:
        (tmp_path / "splits.csv").write_bytes(content)
    with pytest.raises(DataError, match="splits cannot be read") as e:
        read_splits(tmp_path / "splits.csv")
    assert found in e.value.found
    assert "weakseg train-classifier CONFIG" in e.value.fix


@pytest.mark.parametrize(
    ("text", "found"), [("", "an empty file"), ("a,b\n1,2\n", "the header 'a,b'")]
)
def test_what_a_file_holds_in_the_place_of_splits(tmp_path, text, found):
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(DataError, match="does not hold splits") as e:
        read_splits(tmp_path / "splits.csv")
    assert (e.value.found, e.value.expected) == (found, "case,image,label,patient,split")


def test_a_row_without_a_split_is_named_with_its_image():
    cases = given_split("train", "val", "test")
    cases[4] = replace(cases[4], split=None)
    with pytest.raises(DataError, match="Some rows name a split") as e:
        make_splits(cases, TWO, SplitConfig())
    assert e.value.where == "row 6 (c4.png)"


def test_all_troubles_are_told_at_once_with_the_way_out_of_the_first():
    cases = [
        c for c in given_split("train", "val", "test") if (c.label, c.split) != ("tumor", "val")
    ]
    cases.append(replace(cases[0], split="dev", row=50, patient="x"))
    with pytest.raises(DataError) as e:
        make_splits(cases, TWO, SplitConfig())
    assert e.value.what.splitlines() == [
        "The splits of the manifest cannot be used:",
        "  - row 50: the split 'dev' is not known",
        "  - the split 'val' has no image of 'tumor'",
    ]
    assert e.value.fix == "write one of train, val, test"


def test_of_equally_rare_classes_the_first_is_dealt_first():
    """Of forty the twenty-first, of 0, 1 and 2: a sort that is not stable begins elsewhere."""
    counts = np.zeros((5, 40), dtype=int)
    counts[[0, 1, 2, 4], :20] = 1
    counts[[0, 1, 2], 20] = 1
    counts[[0, 2, 4], 21:] = 1
    # 0 tests, 1 validates and 2 trains; what has 0, 2 and 4 lacks validation alone.
    side = dealing._deal(counts, np.array([0.6, 0.2, 0.2]), np.arange(5))
    assert side.tolist() == [2, 1, 0, 0, 1]
