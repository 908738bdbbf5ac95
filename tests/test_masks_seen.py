"""Which true masks had a part in a method, by case: several methods' are counted once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weakseg.masks.rules import RULES, Evidence
from weakseg.methods.masks_seen import MasksSeen, masks_seen

NAMES = st.frozensets(st.sampled_from("abcdefg"))
SEEN = st.builds(MasksSeen, NAMES, st.integers(0, 5))


def test_a_mask_that_two_saw_counts_once():
    one, other = MasksSeen(frozenset("abc"), 2), MasksSeen(frozenset("bcd"))
    assert (one | other).count == 4 + 2
    assert (one | one).cases == one.cases


@given(SEEN, SEEN)
def test_together_they_saw_no_fewer_than_each_and_no_more_than_the_sum(one, other):
    both = (one | other).count
    assert max(one.count, other.count) <= both <= one.count + other.count
    assert both == (other | one).count


@given(SEEN)
def test_what_is_written_is_read(seen):
    assert masks_seen(seen.to_json()) == seen


def test_masks_that_nobody_names_are_others():
    assert masks_seen({"masks_seen": 7}) == MasksSeen(others=7)


def evidence(lesions):
    """Heat that marks the right half of an image; the truth is that half, or one row of it."""
    heat = np.tile([0.0, 0.2, 0.6, 1.0], (4, 1))
    pairs = [(heat, heat > 0.5) for _ in range(lesions)]
    triples = [(h, h, t) for h, t in pairs]
    return Evidence(tuple, lambda: pairs, tuple, lambda: triples, seed=3)


def test_a_rule_says_which_validation_masks_it_looked_at():
    every = RULES["validation"]().fit(evidence(6))
    assert every.validation == tuple(range(6))
    few = RULES["validation"](max_masks=2).fit(evidence(6))
    drawn = tuple(sorted(np.random.default_rng(3).permutation(6)[:2].tolist()))
    assert (few.validation, few.masks_seen) == (drawn, 2)
    searched = RULES["fixed"](search={"at": [0.3, 0.5]}, max_masks=2).fit(evidence(6))
    assert (searched.validation, searched.masks_seen) == (drawn, 2)
    assert RULES["otsu"]().fit(evidence(6)).validation == ()
    known = RULES["area-prior"](masks_seen=4).fit(evidence(6))
    assert (known.validation, known.masks_seen) == ((), 4)
