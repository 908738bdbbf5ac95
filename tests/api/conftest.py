"""A tiny set, and a segmenter that is fitted on it once."""

from __future__ import annotations

import csv

import pytest

import weakseg
from tests.tiny import write_set


@pytest.fixture(scope="session")
def tiny_set(tmp_path_factory):
    """Folder and rows of a set of 36 images, 18 with a bright disc."""
    folder = tmp_path_factory.mktemp("set")
    with write_set(folder).open(newline="") as f:
        return folder, list(csv.DictReader(f))


@pytest.fixture(scope="session")
def given(tiny_set):
    """The same as arrays and lists."""
    folder, rows = tiny_set
    return {
        "images": [weakseg.read_image(folder / r["image"]) for r in rows],
        "labels": [int(r["label"] == "tumor") for r in rows],
        "masks": [weakseg.read_mask(folder / r["mask"]) for r in rows],
        "patients": [r["patient"] for r in rows],
    }


@pytest.fixture(scope="session")
def fitted(given):
    settings = {"data.split": {"val": 0.08, "test": 0.25}, "classifier.epochs": 2}
    seg = weakseg.WeakSegmenter(fast=True, arch="squeezenet1_1", verbose=False, settings=settings)
    return seg.fit(
        given["images"], given["labels"], masks=given["masks"], patients=given["patients"]
    )
