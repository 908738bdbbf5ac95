"""The tables of ``predict`` are of the masks beside them, whatever broke off before."""

import json

import numpy as np
import pytest

from tests.data.helpers import noise, save
from tests.test_predict_noise import Bright
from tests.tiny import read_rows, tree
from weakseg.errors import DataError, UserError
from weakseg.predicting.predict import SLICES, TABLES, predict
from weakseg.shards import Shard


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({}))
    for k in range(3):
        save(tmp_path / f"new/{k}.png", noise(k, (60, 60)))
    return folder


def damage(path):
    """Its header is good."""
    held = bytearray(path.read_bytes())
    held[400:420] = bytes(20)
    path.write_bytes(held)


class Breaks(Bright):
    """Breaks off at the second image."""

    def predict_all(self, cases):
        for made in super().predict_all(cases):
            yield made
            raise OSError("no more")


def test_what_breaks_off_leaves_no_table_of_other_masks(run, tmp_path):
    out = tmp_path / "out"
    for _ in range(2):  # over an earlier one as well
        table = predict(run, [tmp_path / "new"], out, method=Bright())
        assert len(read_rows(table)) == 3
    with pytest.raises(DataError):  # before anything is written all stays
        predict(run, [tmp_path / "not there"], out, method=Bright())
    assert (out / "predictions.csv").exists()
    with pytest.raises(OSError, match="no more"):
        predict(run, [tmp_path / "new"], out, method=Breaks())
    assert not [name for name in TABLES if (out / name).exists()]
    assert (out / "0.png").exists()


def test_masks_among_the_images_are_refused_before_anything_is_written_or_deleted(run, tmp_path):
    folder = tmp_path / "new"
    (folder / "predictions.csv").write_text("of somebody")
    before = tree(folder)
    with pytest.raises(UserError, match="would lie among the images") as e:
        predict(run, [folder], folder, method=Bright())
    assert e.value.exit_code == 2
    assert tree(folder) == before


def test_masks_go_into_a_folder_above_the_images_again_and_again(run, tmp_path):
    for _ in range(2):
        rows = read_rows(predict(run, [tmp_path / "new"], tmp_path, method=Bright()))
        assert [r["file"] for r in rows] == [str(tmp_path / f"new/{k}.png") for k in range(3)]


def test_no_table_of_an_earlier_prediction_stays_where_shards_are_joined(run, tmp_path):
    out = tmp_path / "out"
    predict(run, [tmp_path / "new"], out, method=Bright(), shard=Shard(1, 1), engine="onnxruntime")
    (out / SLICES).write_text("of a run whose networks see slices")
    predict(run, [tmp_path / "new"], out, method=Bright(), engine="onnxruntime")
    assert not (out / SLICES).exists()
    assert len(read_rows(out / "predictions.csv")) == 3


def test_images_that_all_break_half_way_are_an_error_and_no_table_without_a_header(
    run, tmp_path, capsys
):
    for k in range(3):
        damage(tmp_path / f"new/{k}.png")
    with pytest.raises(DataError, match="None of the 3 images can be read"):
        predict(run, [tmp_path / "new"], tmp_path / "out", method=Bright(), skip_unreadable=True)
    assert capsys.readouterr().err.count("left out") == 3
    assert not (tmp_path / "out/predictions.csv").exists()
    for k in range(2):  # the third breaks when these are left out already
        (tmp_path / f"new/{k}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="None of the 3 images can be read"):
        predict(run, [tmp_path / "new"], tmp_path / "out", method=Bright(), skip_unreadable=True)
    save(tmp_path / "new/3.png", np.full((60, 60), 200, np.uint8))
    table = predict(
        run, [tmp_path / "new"], tmp_path / "out", method=Bright(), skip_unreadable=True
    )
    assert [r["mask"] for r in read_rows(table)] == ["3.png"]
