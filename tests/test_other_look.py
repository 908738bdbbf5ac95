"""Other scanners' looks, by hand; the script on a whole run is `slow`."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import CONFIG, weakseg, write_config, write_set

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import other_look  # noqa: E402

GREY = np.full((40, 60), 0.25, dtype=np.float32)


def seen(name, image=GREY, seed=0):
    return other_look.looking(image, other_look.LOOKS[name], seed)


def test_brightness_by_hand():
    assert set(seen("as it is").ravel()) == {64}  # 63.75
    assert set(seen("darker").ravel()) == {28}  # 0.25 to the power of 1.6: 0.1088
    assert set(seen("brighter").ravel()) == {107}  # 0.4204


def test_speckle_grows_with_the_intensity_and_keeps_black():
    image = np.tile(np.float32([0, 0.2, 0.4]), (100, 20))
    noise = seen("speckle", image).astype(float) / 255
    assert not noise[image == 0].any()
    for level in (0.2, 0.4):
        assert noise[image == np.float32(level)].std() == pytest.approx(0.2 * level, rel=0.1)


def test_a_crop_blackens_whole_rows_and_columns_of_no_more_than_its_share():
    for seed in range(5):
        inside = seen("cropped", seed=seed) > 0
        rows, columns = inside.any(1), inside.any(0)
        np.testing.assert_array_equal(inside, rows[:, None] & columns)
        assert rows.sum() >= 0.7 * 40 - 1
        assert columns.sum() >= 0.7 * 60 - 1


def test_calipers_are_four_white_crosses_and_nothing_else():
    drawn = seen("calipers")
    assert set(np.unique(drawn)) == {64, 255}
    assert (drawn == 255).sum() <= 4 * 9  # arms of two pixels; crosses may lie over each other
    assert (drawn == 255).sum() > 9
    colour = np.repeat(GREY[..., None], 3, axis=2)
    np.testing.assert_array_equal(seen("calipers", colour)[..., 1], drawn)


def test_equal_seeds_give_equal_images_and_colours_are_kept():
    name = "darker, speckle, cropped, calipers"
    colour = np.repeat(GREY[..., None], 3, axis=2)
    np.testing.assert_array_equal(seen(name), seen(name))
    assert (seen(name) != seen(name, seed=1)).any()
    assert seen(name, colour).shape == colour.shape
    np.testing.assert_array_equal(seen(name, colour)[..., 2], seen(name))


@pytest.mark.slow
def test_the_script_scores_a_run_in_each_look(tmp_path):
    config = write_config(tmp_path, write_set(tmp_path / "data"), CONFIG)
    assert weakseg("compare", config, "--run-dir", tmp_path / "run") == 0
    args = ["--method", "gradcam-fixed", "--looks", "as it is", "darker"]
    out = tmp_path / "found.json"
    command = [sys.executable, ROOT / "benchmarks/other_look.py", tmp_path / "run", *args]
    done = subprocess.run(
        [*command, "--json", out], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = json.loads(out.read_text())
    assert (first["look"], second["look"]) == ("as it is", "darker")
    assert 0 <= first["dice"] <= 1
    assert first["images"] == second["images"] > 0
