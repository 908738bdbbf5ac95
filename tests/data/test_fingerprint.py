"""What of a manifest counts for what sees no mask, and what for everything."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg.config import parse_config
from weakseg.data.fingerprint import file_digests, images_fingerprint, table_fingerprint
from weakseg.data.manifest import case_set, read_configured

HEADER = "image,mask,label,patient,split"
ROWS = ("a.png,a_m.png,tumor,p1,train", "b.png,,normal,p2,val", "c.png,c_m.png,tumor,p3,test")


def draw(path: Path, value: int) -> None:
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate("abc"):
        draw(tmp_path / f"{name}.png", 10 * number)
        draw(tmp_path / f"{name}_m.png", 255)
    return tmp_path


def prints(folder: Path, rows=ROWS, header=HEADER, **data) -> tuple[str, str]:
    """The fingerprint of everything, and that of the images."""
    manifest = folder / "labels.csv"
    manifest.write_text("\n".join((header, *rows)))
    config = parse_config({"name": "n", "data": {"manifest": str(manifest), **data}}).data
    table = read_configured(manifest, config)
    files = file_digests(table).of
    cases = case_set(table, config)
    return table_fingerprint(table, config, files), images_fingerprint(cases, files)


def test_a_mask_counts_for_everything_and_not_for_the_images(folder):
    whole, images = prints(folder)
    draw(folder / "c_m.png", 0)
    corrected, same = prints(folder)
    assert (corrected != whole, same == images) == (True, True)


@pytest.mark.parametrize(
    ("rows", "header"),
    [
        ((*ROWS[:2], "c.png,,tumor,p3,test"), HEADER),
        (tuple(f"{r},note" for r in ROWS), f"{HEADER},comment"),
    ],
)
def test_masks_that_go_and_columns_that_nobody_reads_leave_the_images(folder, rows, header):
    whole, images = prints(folder)
    others, same = prints(folder, rows, header)
    assert (others != whole, same == images) == (True, True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tumor,p1", "normal,p1"),
        ("p2,val", "p4,val"),
        ("p2,val", "p2,test"),
        ("b.png", "a.png"),
    ],
)
def test_labels_patients_splits_and_other_images_count(folder, old, new):
    _, images = prints(folder)
    _, others = prints(folder, tuple(r.replace(old, new) for r in ROWS))
    assert others != images


def test_a_changed_image_and_another_order_count(folder):
    _, images = prints(folder)
    assert prints(folder, ROWS[::-1])[1] != images
    draw(folder / "b.png", 77)
    assert prints(folder)[1] != images
