"""Masks that images without a lesion borrow."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.tiny import write_config, write_manifest
from weakseg.config import load_config, parse_condition
from weakseg.errors import UserError
from weakseg.filtering import sources
from weakseg.filtering.sources import TruthMasks, masks_used
from weakseg.stages.prepare import prepared_run

CONFIG = """
name: truth
data: {{manifest: {manifest}, image_size: 32}}
"""


def _prepared(tmp_path):
    """Six images a split, half with a lesion of one row each, at another height in each."""
    rng = np.random.default_rng(0)
    rows = []
    for n in range(18):
        split, lesion = ("train", "val", "test")[n // 6], n % 2 == 0
        Image.fromarray(rng.integers(0, 255, (64, 64)).astype(np.uint8)).save(tmp_path / f"{n}.png")
        mask = np.zeros((64, 64), dtype=np.uint8)
        if lesion:
            mask[2 * n + 10, 20:40] = 255
        Image.fromarray(mask).save(tmp_path / f"m{n}.png")
        rows.append((f"{n}.png", "tumor" if lesion else "normal", f"m{n}.png", f"P{n}", split))
    header = ("image", "label", "mask", "patient", "split")
    manifest = write_manifest(tmp_path / "labels.csv", rows, header)
    return prepared_run(load_config(write_config(tmp_path, manifest, CONFIG)), tmp_path / "run")


def _truth(prepared):
    return TruthMasks(prepared.cases, prepared.config.data, prepared.config.seed)


def test_thin_lesions_are_not_lost_and_healthy_images_borrow_within_their_split(tmp_path):
    with _prepared(tmp_path) as prepared:
        truth = _truth(prepared)
        assert truth.seen == {c.id for c in prepared.cases.cases[::2]}
        assert truth.missing() is None
        own = {i: truth.truth(i) for i in range(0, 18, 2)}
        for i, mask in own.items():
            assert mask.any()
            assert np.flatnonzero(mask.any(1)).tolist() == [(2 * i + 10) // 2]
        lent = set()
        for i in range(1, 18, 2):
            lenders = [j for j in own if np.array_equal(own[j], truth.truth(i))]
            assert len(lenders) == 1
            assert lenders[0] // 6 == i // 6
            lent.add(lenders[0])
        assert len(lent) > 3  # not always the same one


def test_borrowing_does_not_look_at_the_healthy_images_own_mask(tmp_path):
    with _prepared(tmp_path) as prepared:
        first = _truth(prepared).truth(1)
        np.testing.assert_array_equal(first, _truth(prepared).truth(1))


def test_where_all_masks_are_empty_there_is_nothing_to_borrow(tmp_path):
    with _prepared(tmp_path) as prepared:
        truth = _truth(prepared)
        for i in range(0, 6, 2):
            Image.fromarray(np.zeros((64, 64), dtype=np.uint8)).save(tmp_path / f"m{i}.png")
        with pytest.raises(UserError, match="empty"):
            truth.truth(1)


def test_empty_masks_are_none_of_those_that_are_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_TRIES", 1)
    with _prepared(tmp_path) as prepared:
        for i in (0, 2):
            Image.fromarray(np.zeros((64, 64), dtype=np.uint8)).save(tmp_path / f"m{i}.png")
        truth = _truth(prepared)
        for i in (1, 3, 5):
            np.testing.assert_array_equal(truth.truth(i), truth.truth(4))


def test_a_mask_that_made_the_filter_and_its_rule_counts_once(tmp_path):
    with _prepared(tmp_path) as prepared:
        truth = _truth(prepared)
        of_rule = frozenset(c.id for c in prepared.cases.of("val") if c.label == "tumor")
        for name, masks in (
            ("truth-hard-keep-mean", 9 + 2),
            ("heat-hard-keep-mean", 3 + 2),
            ("heat-soft-keep-mean", 0),
            ("truth-top10-keep-mean", 9),
            ("box-keep-mean", 9),
        ):
            assert masks_used(parse_condition(name), truth, of_rule, 2) == masks, name
