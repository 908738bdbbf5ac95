"""``threshold.json`` as it is read: what is not as weakseg wrote it is named by its key."""

import pytest

from weakseg.errors import RunError
from weakseg.masks.kept import read_thresholds
from weakseg.runs import write_json


def entry(rule="fixed", threshold=0.5, scale="image", **changes):
    held = {"rule": {"rule": rule}, "threshold": threshold, "scale": scale}
    held |= {"chosen_on": "x", "masks_seen": 0, "gate": 0.0, "split": "test"}
    return held | {"upper_bound": False, "kind": "heatmap"} | changes


def network(threshold=0.5):
    return entry(rule="", threshold=threshold, scale="probability", kind="weak") | {
        "rule": "probability"
    }


GOOD = [
    entry(),
    entry("validation", 0.0),
    entry("oracle-dataset", 1.0),
    entry("train-quantile", 37.5, "raw"),
    entry("train-quantile", 0.0, "raw"),
    entry("otsu", None, "raw"),
    entry("oracle-image", None),
    network(),
]


@pytest.fixture
def read(tmp_path):
    def call(*entries):
        path = tmp_path / "threshold.json"
        write_json(path, {f"seed-{s}": e for s, e in enumerate(entries)})
        return read_thresholds(path)

    return call


def test_entries_come_back_as_they_were_written(read):
    assert read(*GOOD) == {f"seed-{s}": e for s, e in enumerate(GOOD)}


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (network(None), "seed-8.threshold: missing, where a network needs one"),
        (entry("fixed", None), "seed-8.threshold: None for the rule fixed"),
        (entry("train-quantile", None, "raw"), "seed-8.threshold: None for the rule train-"),
        (entry("otsu", 0.5), "seed-8.threshold: 0.5 for the rule otsu"),
        (entry("oracle-image", 0.0), "seed-8.threshold: 0.0 for the rule oracle-image"),
        (entry("fixed", 1.01), "seed-8.threshold: 1.01 is no share of the maximum"),
        (entry("validation", -0.01), "seed-8.threshold: -0.01 is no share of the maximum"),
        (
            entry() | {"rule": {"rule": "fixed", "at": 1.5}},
            "seed-8.rule.fixed.at: Input should be less than 1",
        ),
        (entry("nonsense"), "seed-8.rule: Input tag 'nonsense'"),
    ],
)
def test_what_is_damaged_is_named_by_seed_and_key(read, tmp_path, wrong, found):
    """After eight entries that are whole, networks' and heatmaps' alike."""
    with pytest.raises(RunError, match="is damaged") as e:
        read(*GOOD, wrong)
    assert e.value.where == str(tmp_path / "threshold.json")
    assert e.value.found.startswith(found)


def test_a_file_that_is_missing_or_holds_other_keys_is_named(read, tmp_path):
    with pytest.raises(RunError, match="missing"):
        read_thresholds(tmp_path / "threshold.json")
    with pytest.raises(RunError, match="damaged") as e:
        read(entry() | {"gate": 2.0})
    assert "seed-0.gate" in e.value.found
