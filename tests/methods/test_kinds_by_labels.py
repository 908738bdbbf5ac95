"""Which kinds of network count in their mean, chosen on labels."""

from __future__ import annotations

import pytest

from weakseg.methods.kinds_by_labels import preferred_kinds
from weakseg.methods.segmenter_networks import Networks


def networks(*kinds):
    return Networks(tuple(kinds), tuple({"settings": {"arch": k}} for k in kinds))


def choose(found, *kinds, healthy=10):
    """What is chosen where labels say so of each choice, by its networks that count."""

    def chosen(of):
        key = "".join(of.counting.models)
        threshold = {"chosen_on": "nothing"}
        if found[key] is None:
            return threshold
        lesions, marked = found[key]
        counts = {"found": lesions, "lesions": 10, "marked": marked, "healthy": healthy}
        return threshold | {"on_labels": counts}

    of, threshold = preferred_kinds("net", networks(*kinds), chosen)
    return "".join(of.counting.models), threshold


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"abab": (7, 1), "aa": (8, 1), "bb": (7, 0)}, "aa"),  # 0.6, 0.7, 0.7: the first kind
        ({"abab": (7, 1), "aa": (8, 2), "bb": (7, 1)}, "abab"),  # all are as good
        ({"abab": (7, 1), "aa": (8, 3), "bb": (9, 1)}, "bb"),
    ],
)
def test_the_kind_that_finds_most_less_marked_counts(found, expected, capsys):
    chosen, threshold = choose(found, *"abab")
    assert chosen == expected
    assert list(threshold["by_kind"]) == ["all kinds", "a", "b"]
    assert threshold["on_labels"]["found"] == found[expected][0]
    assert threshold["chosen_on"] == "nothing; kinds of network on validation labels"
    said = [line for line in capsys.readouterr().err.splitlines() if line.endswith(", chosen")]
    assert len(said) == 1


def test_weights_are_shared_by_the_networks_of_the_kind():
    found = {"aba": (1, 1), "aa": (9, 0), "b": (1, 1)}
    of, _ = preferred_kinds(
        "net",
        networks(*"aba"),
        lambda n: {
            "chosen_on": "",
            "on_labels": dict(
                zip(
                    ("found", "marked", "lesions", "healthy"),
                    (*found["".join(n.counting.models)], 9, 9),
                    strict=True,
                )
            ),
        },
    )
    assert of.weights == (0.5, 0.0, 0.5)
    assert of.counting.weights == ()


def test_all_count_where_labels_say_nothing():
    chosen, threshold = choose(dict.fromkeys(("ab", "a", "b")), *"ab")
    assert chosen == "ab"
    assert "by_kind" not in threshold


def test_networks_that_count_nothing_are_left_out_and_the_others_keep_their_shares():
    some = networks(*"abc")
    assert some.counting is some
    kept = some.weighed([0.25, 0.0, 0.75]).counting
    assert kept.models == ("a", "c")
    assert kept.weights == (0.25, 0.75)
