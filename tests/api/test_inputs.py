"""Images and true masks as they are handed over mean what files of them mean."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image

from tests.data.helpers import save, save_volume
from weakseg.api.case_view import CaseView
from weakseg.api.inputs import listed, read_picture
from weakseg.api.training_set import write_set
from weakseg.api.true_masks import is_missing, read_masks, read_truth
from weakseg.config import DataConfig
from weakseg.data.cases import Case
from weakseg.data.images import read_image, read_mask
from weakseg.errors import ArgumentError, DataError

RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (9, 7)).astype(np.uint8)
RGB = RNG.integers(0, 256, (9, 7, 3)).astype(np.uint8)
ALPHA = RNG.integers(0, 256, (9, 7)).astype(np.uint8)
RGBA = np.dstack([RGB, ALPHA])
TURNED = Image.Exif()
TURNED[274] = 6


# --- pictures of PIL


def palette(*, clear=False):
    made = Image.fromarray(RGB).quantize(8)
    if clear:
        made.info["transparency"] = 3
    return made


PICTURES = {
    "bit.png": Image.fromarray(GREY > 99),
    "grey.png": Image.fromarray(GREY),
    "grey-alpha.png": Image.fromarray(np.dstack([GREY, ALPHA]), "LA"),
    "rgb.png": Image.fromarray(RGB),
    "rgba.png": Image.fromarray(RGBA),
    "rgba.tif": Image.fromarray(RGBA),
    "palette.png": palette(),
    "palette-clear.png": palette(clear=True),
    "palette-grey.png": Image.fromarray(GREY).convert("P"),
    "deep.png": Image.fromarray(GREY.astype(np.uint16) * 200),
    "float.tif": Image.fromarray(GREY.astype(np.float32)),
    "rgb.jpg": Image.fromarray(RGB),
    "turned.jpg": Image.fromarray(RGB),
    "turned.png": Image.fromarray(RGBA),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_pil_has_the_pixels_of_its_file(tmp_path, name):
    exif = {"exif": TURNED} if name.startswith("turned") else {}
    PICTURES[name].save(tmp_path / name, **exif)
    theirs, ours = read_picture(Image.open(tmp_path / name)), read_image(tmp_path / name)
    assert theirs.dtype == ours.dtype
    np.testing.assert_array_equal(theirs, ours)
    if exif:
        assert ours.shape[:2] == (7, 9)


def test_a_colour_that_png_declares_transparent_is_black(tmp_path):
    colours = RGB.copy()
    colours[2, 3] = 200, 100, 50
    Image.fromarray(colours).save(tmp_path / "a.png", transparency=(200, 100, 50))
    theirs, ours = read_picture(Image.open(tmp_path / "a.png")), read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(theirs, ours)
    assert not theirs[2, 3].any()


# --- arrays


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_opacity_of_an_array_is_laid_over_black_as_that_of_a_file(tmp_path, kind):
    most = np.iinfo(kind).max if kind != np.float32 else 1
    array = (RGBA / 255 * most).astype(kind)
    found = read_picture(array)
    expected = array[..., :3] * (array[..., 3:].astype(float) / most)
    np.testing.assert_allclose(found, expected, atol=0.5001 if most > 1 else 1e-6)
    if kind != np.float32:
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", extrasamples=["unassalpha"])
        np.testing.assert_array_equal(found, read_image(tmp_path / "a.tif"))
    some, single = listed(array, stacked=True)
    assert single
    assert len(some) == 1


@pytest.mark.parametrize("given", [np.zeros((4, 4, 5)), np.zeros((4, 4, 2)), np.zeros(3), "text"])
def test_what_is_no_image_is_told_in_words_that_fit_every_caller(given):
    with pytest.raises(DataError) as e:
        read_picture(given if not isinstance(given, str) else object())
    assert "explained" not in e.value.render()
    assert "(M, N, 4)" in e.value.render()


def test_opacity_without_a_range_is_refused():
    with pytest.raises(DataError, match="opacity from 0 to 255"):
        read_picture(RGBA.astype(float) * 0 + [0, 0, 0, 255] * (GREY[..., None] > 99))


@pytest.mark.parametrize("kind", [object, str])
def test_a_row_of_paths_is_a_list_of_them(tmp_path, kind):
    paths = [str(save(tmp_path / f"{k}.png", GREY)) for k in range(2)]
    assert listed(np.array(paths, dtype=kind)) == listed(paths)
    made = write_set(tmp_path / "set", np.array(paths, dtype=kind), np.array([0, 1]))
    assert [line.split(",")[0] for line in made.manifest.read_text().split()[1:]] == paths


# --- true masks

SOFT = np.zeros((6, 6), np.uint8)
SOFT[1:5, 1:5], SOFT[2:4, 2:4] = 42, 255
RULES = ["nonzero", "half", "dark", [42], [255], [0], [1]]
MASKS = {
    "soft": SOFT,
    "0 and 1": (SOFT > 99).astype(np.int64),
    "bool": SOFT > 99,
    "deep": SOFT.astype(np.uint16) * 257,
    "negative": SOFT.astype(np.int16) - 1,
    "float": (SOFT / 255).astype(np.float64),
    "large": SOFT.astype(np.int64) * 2**33,
    "turned round": np.asfortranarray(SOFT),
}


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("name", MASKS)
def test_an_array_is_read_by_the_rule_as_a_file_of_it(tmp_path, name, rule):
    mask, image = MASKS[name], np.zeros((6, 6), np.uint8)
    made = write_set(tmp_path, [image, image], [0, 1], masks=[None, mask])
    path = tmp_path / made.manifest.read_text().split()[2].split(",")[2]
    if name == "large" and rule in ("half", "dark"):  # its range is not known
        for read in (lambda: read_mask(path, rule), lambda: read_truth(mask, (6, 6), rule)):
            with pytest.raises(DataError, match="floats above 1"):
                read()
        return
    written = read_mask(path, rule)
    np.testing.assert_array_equal(written, read_truth(mask, (6, 6), rule))
    values = mask * 1  # by hand: what the rules say of numbers
    if not isinstance(rule, str):
        np.testing.assert_array_equal(written, np.isin(values, rule))
    elif rule == "nonzero":
        np.testing.assert_array_equal(written, values != 0)
    elif name in ("soft", "bool", "float", "deep", "turned round"):
        np.testing.assert_array_equal(written, (SOFT > 127) == (rule == "half"))


NONE = [None, False, "", " ", float("nan"), np.float32("nan"), pd.NA, pd.NaT]


@pytest.mark.parametrize("missing", NONE, ids=repr)
def test_what_means_no_mask_means_so_for_fit_and_score(tmp_path, missing):
    assert is_missing(missing)
    image = np.zeros((6, 6), np.uint8)
    write_set(tmp_path, [image, image], [0, 1], masks=[missing, SOFT])
    assert [f.name for f in (tmp_path / "masks").iterdir()] == ["mask-00001.png"]
    none, one = read_masks([missing, SOFT], [(6, 6)] * 2, "nonzero")
    assert none is None
    assert one.sum() == 16


def test_masks_of_other_shapes_are_refused_with_their_place(tmp_path):
    path = save(tmp_path / "m.png", SOFT)
    np.testing.assert_array_equal(read_truth(torch.tensor(SOFT)[None], (6, 6)), SOFT != 0)
    for odd in (SOFT[:3], path, np.full((5, 5), np.nan), np.zeros((5, 5), object)):
        with pytest.raises(ArgumentError, match=r"masks\[1\]"):
            read_masks([None, odd], [(5, 5)] * 2, "nonzero")


# --- cases of runs


@pytest.mark.parametrize("volume", [False, True])
def test_a_healthy_case_without_a_mask_has_an_empty_one(tmp_path, volume):
    if volume:
        image = save_volume(tmp_path / "a.nii.gz", np.ones((3, 4, 5), np.int16))
    else:
        image = save(tmp_path / "a.png", RGB)

    def view(label):
        splits = pd.DataFrame({"case": ["a"], "patient": ["p"], "split": ["test"]})
        config = SimpleNamespace(data=DataConfig())
        run = SimpleNamespace(splits=splits, config=config, data={"healthy_labels": ["normal"]})
        return CaseView(run, Case("a", image, label), None)

    truth = view("normal").truth
    assert truth.shape == ((3, 4, 5) if volume else (9, 7))
    assert truth.dtype == bool
    assert not truth.any()
    assert view("tumour").truth is None
