"""What is made of a probability: screened first, then outlined, behind the gate."""

import numpy as np
import pytest

from weakseg.methods.evidence import Evidence
from weakseg.methods.network_mask import of_evidence

LESION = np.zeros((40, 60), dtype=bool)
LESION[10:20, 10:22] = True
OTHER = np.zeros_like(LESION)
OTHER[10:20, 24:32] = True
BEYOND = np.roll(LESION, 1, 0) & ~LESION  # a row that the network takes for the lesion's
SURE = 0.9 * LESION + 0.35 * BEYOND + 0.4 * OTHER


def made(image=None, *, gate=0.0, **inference):
    threshold = {"threshold": 0.3, "gate": gate, "inference": inference}

    def seen(i):
        assert i == 7
        if image is None:
            pytest.fail("nobody needs the image")
        return image

    return of_evidence(threshold, Evidence(7, SURE), lambda _: 0.5, seen)


def test_without_an_outline_nobody_looks_at_the_image():
    np.testing.assert_array_equal(made().mask, SURE >= 0.3)


def test_a_part_that_the_screening_drops_does_not_come_back_by_its_edge():
    image = (LESION | OTHER) * 0.8
    both = made(image, outline="level").mask
    np.testing.assert_array_equal(both, LESION | OTHER)
    np.testing.assert_array_equal(made(image, outline="level", min_peak=0.5).mask, LESION)
    image[14:17, 22:24] = 0.8  # a bridge: what joins them is the lesion's outline no more
    screened = made(image, min_peak=0.5).mask
    followed = made(image, outline="level", min_peak=0.5).mask
    np.testing.assert_array_equal(followed, screened)


def test_behind_the_gate_there_is_nothing_to_outline():
    found = made(None, gate=0.6, outline="level")
    assert found.gated
    assert not found.mask.any()
