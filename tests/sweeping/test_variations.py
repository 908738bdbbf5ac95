"""Every combination of what keys may be, under names that are folders'."""

from __future__ import annotations

import pytest

from weakseg.config import load_config
from weakseg.errors import ConfigError
from weakseg.packaged import config_file
from weakseg.sweeping.cluster import Cluster, read_cluster
from weakseg.sweeping.variations import MOST_LETTERS, variations


def test_every_combination_once_and_folds_last():
    made = variations(["classifier.seeds=0..1", "classifier.arch=resnet18, vgg11"], folds=2)
    assert [v.name for v in made] == [
        f"seeds-{s}_arch-{a}_fold-{f}"
        for s in (0, 1)
        for a in ("resnet18", "vgg11")
        for f in (0, 1)
    ]
    assert made[3].changes == [
        "classifier.seeds=[0]",
        "classifier.arch=vgg11",
        "data.split.folds=2",
        "data.split.fold=1",
    ]
    config = load_config(config_file("quickstart"), made[3].changes)
    assert (config.seeds, config.classifier.arch) == ([0], "vgg11")
    assert (config.data.split.folds, config.data.split.fold) == (2, 1)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("classifier.lr=1e-3,0.01", ["classifier.lr=0.001", "classifier.lr=0.01"]),
        ("classifier.seeds=[0, 1],[2, 3]", ["classifier.seeds=[0, 1]", "classifier.seeds=[2, 3]"]),
        ("seed=-1..1", ["seed=-1", "seed=0", "seed=1"]),
        (
            "data.healthy_labels=auto,normal",
            ["data.healthy_labels=auto", "data.healthy_labels=[normal]"],
        ),
        ("segmenters.unet.seeds=0,1", ["segmenters.unet.seeds=[0]", "segmenters.unet.seeds=[1]"]),
        (
            "data.split.leave_out.value=A,'0'",
            ["data.split.leave_out.value=" + v for v in "A"] + ["data.split.leave_out.value='0'"],
        ),
        ("no.such.key=1,2", ["no.such.key=1", "no.such.key=2"]),
    ],
)
def test_values_as_a_set_takes_them(text, changes):
    assert [v.changes for v in variations([text])] == [[c] for c in changes]


def test_names_differ_though_values_look_alike_in_a_folder():
    made = variations(["classifier.arch=timm:a,timm-a", "segmenters.u.arch=unet,fcn"])
    assert len({v.name.casefold() for v in made}) == 4
    assert all(":" not in v.name for v in made)
    long = variations(["classifier.weights=" + "x" * 80, "seed=0,1"])
    names = [v.name for v in long]
    assert len({n.casefold() for n in names}) == 2
    assert all(len(n) <= MOST_LETTERS and n.startswith("weights-xxx") for n in names)
    # A sweep that grows calls its earlier runs what they were called.
    more = variations(["classifier.weights=" + "x" * 80, "seed=2,0,1"])
    assert [v.name for v in more[1:]] == names


@pytest.mark.parametrize(
    ("over", "folds", "says"),
    [
        ([], None, "Nothing is varied"),
        (["classifier.seeds"], None, "not of the form KEY=VALUES"),
        (["=1,2"], None, "not of the form"),
        (["seed="], None, "not of the form"),
        (["seed=[1"], None, "not of the form"),
        (["seed=1,1"], None, "stands twice"),
        (["seed=1", "seed=2"], None, "two --over"),
        (["seed=3..1"], None, "smaller number to the larger"),
        (["seed=0..5000"], None, "smaller number to the larger"),
        (["seed=0..99", "classifier.epochs=1..50"], None, "too many runs"),
        (["data.split.fold=0..4"], 5, "asked for twice"),
    ],
)
def test_what_is_no_sweep(over, folds, says):
    with pytest.raises(ConfigError, match=says):
        variations(over, folds)


def test_limits_from_a_file_and_its_problems_all_at_once(tmp_path):
    assert read_cluster(None) == Cluster()
    path = tmp_path / "cluster.yaml"
    path.write_text("at_once: 8\nminutes: 90\npartition: gpu\nextra: {exclude: node7}\n")
    limits = read_cluster(path)
    assert (limits.at_once, limits.minutes, limits.partition) == (8, 90, "gpu")
    assert limits.extra == {"exclude": "node7"}
    path.write_text("at_once: 0\nminuts: 90\n")
    with pytest.raises(ConfigError) as e:
        read_cluster(path)
    assert "at_once" in str(e.value)
    assert "did you mean 'minutes'?" in str(e.value)
