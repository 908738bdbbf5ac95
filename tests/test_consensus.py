"""What several methods agree on, from the experiment to new images, by the command line."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.layout_of_run import files_of, named_files
from tests.tiny import cases, pixels, read_rows, tree, tumours, weakseg, write_config, write_set
from weakseg.config import parse_config
from weakseg.errors import ConfigError
from weakseg.methods.base import Method, Prediction
from weakseg.methods.consensus import ConsensusMethod
from weakseg.methods.find import KINDS, kind_of, method_names
from weakseg.methods.masks_seen import MasksSeen
from weakseg.runs import read_json
from weakseg.scores import dice
from weakseg.scores.stored import read_per_case, read_summary

pytestmark = pytest.mark.thorough

CONFIG = """
name: agreed
data: {{manifest: {manifest}, image_size: 64, split: {{val: 0.2, test: 0.25}}}}
classifier: {{arch: squeezenet1_1, epochs: 2, batch_size: 8, seeds: [0, 1]}}
masks: {{gate: 0.3, rules: [otsu, fixed, {{rule: validation, max_masks: 2}}]}}
scores: {{bootstrap: 100, floors: false}}
report: {{gallery: 1, method: two}}
segmenters:
  net: {{arch: "encoder-unet:squeezenet1_1", epochs: 1, steps: 4, batch_size: 4, average: none,
        seeds: [0], keep: best}}
  pupil: {{arch: "encoder-unet:squeezenet1_1", masks: two, epochs: 1, steps: 1, batch_size: 4,
          average: none, seeds: [1]}}
consensus:
  two: {{methods: [gradcam-otsu, gradcam-fixed, gradcam-validation]}}
  sure: {{methods: [gradcam-validation, net], vote: mean, at: 0.4}}
  both: {{methods: [two, net], vote: all}}
"""
VOTERS = ("gradcam-otsu", "gradcam-fixed", "gradcam-validation")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """One whole `compare`; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("agreed")
    config = write_config(folder, write_set(folder / "data"), CONFIG)
    assert weakseg("compare", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    return folder, config


def mask(run, method, seed, case):
    return pixels(run / f"masks/{method}/seed-{seed}/{case}.png") == 255


def test_its_masks_are_the_vote_of_the_masks_that_were_written(job):
    run = job[0] / "run"
    votes = 0
    for seed in (0, 1):
        for case in cases(run, "test"):
            each = [mask(run, m, seed, case) for m in VOTERS]
            expected = np.sum(each, axis=0) >= 2
            np.testing.assert_array_equal(mask(run, "two", seed, case), expected)
            both = mask(run, "two", seed, case) & mask(run, "net", 0, case)
            np.testing.assert_array_equal(mask(run, "both", seed, case), both)
            votes += expected.sum() and any((e != expected).any() for e in each)
    assert votes  # somebody was outvoted


def test_every_file_of_its_run_has_a_name_in_the_layout(job):
    assert files_of(job[0] / "run") == named_files(job[0] / "run")


def test_it_is_scored_under_the_seeds_of_its_members_beside_all_others(job):
    run = job[0] / "run"
    table = read_per_case(run)
    rows = table[table["method"] == "two"]
    assert set(rows["seed"]) == {0, 1}
    assert sorted(rows[rows["seed"] == 0]["case"]) == sorted(cases(run, "test"))
    for row in rows.itertuples():
        truth = pixels(job[0] / f"data/masks/{row.case}.png") > 0
        assert row.dice == pytest.approx(
            dice(mask(run, "two", row.seed, row.case), truth), abs=1e-5
        )
    kinds = read_summary(run).set_index("method")["kind"]
    # A method that is made of a network on true masks is no weak one.
    assert kinds[["two", "sure", "both"]].tolist() == ["consensus", "supervised", "supervised"]
    groups = {r["method"]: r["group"] for r in read_rows(run / "report/tables/methods.csv")}
    assert (groups["two"], groups["sure"]) == ("masks", "supervised")
    page = (run / "report/index.html").read_text()
    assert "two" in page


def test_a_mask_that_several_members_saw_counts_once(job):
    run = job[0] / "run"
    seen = read_summary(run).set_index("method")["masks_seen"]
    train, val = (len(tumours(run, s)) for s in ("train", "val"))
    assert val > 2
    assert seen["two"] == seen["gradcam-validation"] == 2
    assert seen["net"] == train + val
    # The two that the rule saw are among those that chose the network's epoch.
    assert seen["sure"] == seen["both"] == train + val
    entry = read_json(run / "masks/both/threshold.json")["seed-0"]
    assert set(entry["seen"]) == {*tumours(run, "train"), *tumours(run, "val")}


def test_a_network_is_trained_on_its_masks_without_the_gate(job, tmp_path):
    folder, run = job[0], job[0] / "run"
    held = read_json(run / "segmenter/pupil/seed-1/settings.json")
    assert (held["masks_of"], held["masks_of_seed"]) == ("two", 1)
    assert held["masks_seen"] == 2
    images = [folder / f"data/images/{n}.png" for n in tumours(run, "train")]
    ungated = Path(shutil.copytree(run, tmp_path / "run"))
    config = job[1].read_text().replace("gate: 0.3", "gate: none")
    (tmp_path / "other.yaml").write_text(config)
    assert weakseg("heatmap-segment", tmp_path / "other.yaml", "--run-dir", ungated) == 0
    command = ("predict", ungated, *images, "--method", "two", "--seed", 1)
    assert weakseg(*command, "--out", tmp_path / "out") == 0
    told = {p.stem: pixels(p) == 255 for p in (run / "targets/pupil/seed-1").glob("*.png")}
    found = {p.stem: pixels(p) == 255 for p in (tmp_path / "out").glob("*.png")}
    assert set(told) == {n for n, m in found.items() if m.any()}
    for n, target in told.items():
        np.testing.assert_array_equal(target, found[n])


@pytest.mark.parametrize(("method", "seed"), [("two", 1), ("sure", 0), ("both", 1)])
def test_a_new_image_is_segmented_as_the_test_image_was(job, tmp_path, method, seed):
    folder, run = job[0], job[0] / "run"
    names = cases(run, "test")
    images = [folder / f"data/images/{n}.png" for n in names]
    command = ("predict", run, *images, "--method", method, "--seed", seed, "--out", tmp_path)
    assert weakseg(*command) == 0
    for name in names:
        new = pixels(tmp_path / f"{name}.png") == 255
        np.testing.assert_array_equal(new, mask(run, method, seed, name))
    rows = read_rows(tmp_path / "predictions.csv")
    assert all(0 <= float(r["agreement"]) <= 1 for r in rows)


def test_it_is_made_again_when_a_member_has_other_masks_and_not_before(job, tmp_path, capsys):
    run = Path(shutil.copytree(job[0] / "run", tmp_path / "run"))
    before = tree(run / "masks")
    assert weakseg("compare", job[1], "--run-dir", run) == 0
    said = capsys.readouterr().err
    for name in ("two", "sure", "both"):  # once, though every segmenter asks for them
        assert said.count(f"masks of {name}: up to date") == 1
    assert tree(run / "masks") == before
    change = (
        "--set",
        "consensus={two: {methods: [gradcam-otsu, gradcam-fixed], vote: any}}",
    )
    change = (*change, "--set", "segmenters={}")
    assert weakseg("heatmap-segment", job[1], "--run-dir", run, *change) == 0
    for case in cases(run, "test"):
        union = mask(run, "gradcam-otsu", 0, case) | mask(run, "gradcam-fixed", 0, case)
        np.testing.assert_array_equal(mask(run, "two", 0, case), union)
    rules = ("--set", "masks.rules=[otsu, {rule: fixed, at: 0.9}]")
    assert weakseg("heatmap-segment", job[1], "--run-dir", run, *change, *rules) == 0
    for case in cases(run, "test"):
        union = mask(run, "gradcam-otsu", 0, case) | mask(run, "gradcam-fixed", 0, case)
        np.testing.assert_array_equal(mask(run, "two", 0, case), union)


def test_without_a_member_s_masks_it_is_left_out_and_that_is_said(job, tmp_path, capsys):
    run = Path(shutil.copytree(job[0] / "run", tmp_path / "run"))
    bare = job[0] / "data/bare.csv"
    rows = read_rows(job[0] / "data/labels.csv")
    test = set(cases(run, "test"))
    lines = ["image,label,mask,patient"]
    for r in rows:
        kept = r["mask"] if Path(r["image"]).stem in test else ""
        lines.append(f"{r['image']},{r['label']},{kept},{r['patient']}")
    bare.write_text("\n".join(lines) + "\n")
    only = ("--set", "segmenters={}", "--set", f"data.manifest={bare}")
    only = (*only, "--set", "consensus={two: {methods: [gradcam-otsu, gradcam-validation]}}")
    assert weakseg("compare", job[1], "--run-dir", tmp_path / "bare", *only) == 0
    said = capsys.readouterr().err
    assert "two: left out, gradcam-validation has no masks\n" in said
    assert "two" not in set(read_summary(tmp_path / "bare")["method"])
    page = (tmp_path / "bare/report/index.html").read_text()
    assert "two was left out" in page


RULES = {"gate": "none", "rules": ["otsu", "fixed", "oracle-image"]}
NET = {"arch": "unet"}
TWO = ["gradcam-otsu", "gradcam-fixed"]


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"a": {"methods": ["gradcam-otsu"]}}, "consensus.a.methods"),
        ({"a": {"methods": ["gradcam-otsu", "gradcam-otsu"]}}, "each method once"),
        ({"a": {"methods": ["gradcam-otsu", "gradcam-oracle-image"]}}, "upper bound"),
        ({"a": {"methods": ["gradcam-otsu", "otsu"]}}, "there is no method 'otsu'"),
        ({"a": {"methods": ["gradcam-otsu", "a"]}}, "'a' must stand before 'a'"),
        ({"net": {"methods": TWO}}, "another method has that name"),
        ({"../a": {"methods": TWO}}, "folder"),
        (
            {"a": {"methods": ["gradcam-otsu", "gradcam-fixed"], "vot": "all"}},
            "did you mean 'vote'",
        ),
        ({"a": {"methods": TWO, "at": 1}}, "consensus.a.at"),
        ({"a": {"methods": ["gradcam-otsu", "pupil"]}}, "'pupil' must stand before 'pupil'"),
    ],
)
def test_what_cannot_be_is_refused(tree, words):
    segmenters = {"net": NET, "pupil": NET | {"masks": "a" if "a" in tree else "net"}}
    with pytest.raises(ConfigError, match=words):
        parse_config({"masks": RULES, "segmenters": segmenters, "consensus": tree})


class Says(Method):
    """A method that says what it is told."""

    name, seeds, config = "says", (0,), None
    kind, masks_seen, chosen_on, dims, at_once = "heatmap", 0, "nothing", 2, 4

    def predict_all(self, cases):
        raise NotImplementedError

    def confidence(self, prediction):
        return prediction.map


def agreed(vote, *rows, at=0.5, gated=(), probabilities=()):
    """What is made of masks of one row of places, of which each is as sure as it says."""
    settings = {"methods": [f"m{i}" for i in range(len(rows))], "vote": vote, "at": at}
    heat = {"masks": {"rules": ["otsu"]}, "heatmaps": {}}
    names = {f"h{i}": {"rules": ["otsu"]} for i in range(len(rows))}
    settings["methods"] = [f"{n}-otsu" for n in names]
    config = parse_config(heat | {"heatmaps": names, "consensus": {"c": settings}})
    method = ConsensusMethod(
        "c", (0,), config, tuple(Says() for _ in rows), config.consensus["c"], MasksSeen()
    )
    said = [
        Prediction(
            np.zeros((1, len(r)), bool) if i in gated else np.array([r]) > 0.5,
            np.array([r], np.float32),
            probabilities[i] if probabilities else None,
            gated=i in gated,
        )
        for i, r in enumerate(rows)
    ]
    return method.of_predictions(said)


@pytest.mark.parametrize(
    ("vote", "expected"),
    [
        ("majority", [True, True, False, False]),
        ("all", [True, False, False, False]),
        ("any", [True, True, True, False]),
        ("mean", [True, False, True, False]),
    ],
)
def test_votes_by_hand(vote, expected):
    rows = [1.0, 0.6, 0.2, 0.1], [0.9, 0.6, 0.4, 0.2], [0.8, 0.1, 1.0, 0.3]
    made = agreed(vote, *rows)
    assert made.mask.tolist() == [expected]
    # Dice of the pairs: both mark two and one; one, one, and two of which one is shared.
    assert made.notes["agreement"] == pytest.approx((1 + 0.5 + 0.5) / 3, abs=1e-6)


def test_half_of_the_votes_are_no_majority():
    assert agreed("majority", [1.0], [0.0]).mask.tolist() == [[False]]
    assert agreed("majority", [1.0], [1.0], [0.0], [0.0]).mask.tolist() == [[False]]


def test_whoever_has_an_empty_mask_by_the_gate_is_not_sure_of_anything():
    made = agreed("mean", [0.9, 0.9], [0.8, 0.0], gated={0}, probabilities=(0.1, 0.4))
    assert made.map == pytest.approx(np.array([[0.4, 0.0]]))
    assert (made.gated, made.probability) == (True, 0.25)
    assert not agreed("any", [0.9], [0.8], gated={0}).gated
    assert not agreed("all", [0.9], [0.2]).gated


def test_every_method_has_one_kind():
    config = parse_config({"masks": RULES, "segmenters": {"net": NET}, "consensus": {}})
    assert method_names(config) == config.methods
    for name in config.methods:
        assert [k for k in KINDS if name in k.names(config)] == [kind_of(config, name)]
