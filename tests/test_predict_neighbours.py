"""Shards of a method that looks at the images beside one: the same bytes as in one piece."""

import json

import numpy as np
import pytest

from tests.data.helpers import save
from weakseg.config import parse_config
from weakseg.data.case_files import case_image
from weakseg.data.series import neighbours
from weakseg.methods.base import Method, Prediction
from weakseg.methods.evidence import with_neighbours
from weakseg.predicting.predict import predict
from weakseg.shards import Shard


class Beside(Method):
    """Marks what is bright in the mean with the images beside one, and tells of how many."""

    name, seeds, config = "beside", (0,), parse_config({"data": {"manifest": "x.csv"}}, "x")
    kind, masks_seen, chosen_on, dims, at_once = "supervised", 0, "nothing", 2, 2
    looks_beside = True

    def predict_all(self, cases):
        beside = dict(enumerate(neighbours(cases)))
        images = ((i, np.float32(case_image(c, self.config.data))) for i, c in enumerate(cases))
        for e in with_neighbours(images, beside, 0.5):
            mean = e.probability if e.mean is None else e.mean
            notes = {"neighbours": len(e.neighbours)}
            yield Prediction(mean > mean.mean(), mean, 0.5, notes=notes)

    def predict_each(self, cases):
        return self.predict_all(cases)

    def confidence(self, prediction):
        return prediction.map


NAMES = ("a_1", "a_2", "a_3", "a_4", "a_5", "a_7", "b_1", "b_2", "c")


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for name in NAMES:
        save(tmp_path / f"in/{name}.png", rng.integers(0, 255, (24, 20)).astype(np.uint8))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_text("{}")
    return tmp_path / "in"


def written(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.mark.parametrize("broken", [False, True])
def test_joined_shards_are_the_whole(images, broken):
    def made(out, **how):
        run = images.parent / "run"
        return predict(run, [images], out, method=Beside(), skip_unreadable=broken, **how)

    if broken:  # its header is whole, so that it is found out half-way
        whole = (images / "a_3.png").read_bytes()
        (images / "a_3.png").write_bytes(whole[: len(whole) // 2])
    one, out = images.parent / "one", images.parent / "parts"
    table = made(one).read_text()
    told = [row.split(",")[2] for row in table.splitlines()[1:]]
    if broken:
        assert told == [*"1111", "0", *"11", "0"]
        assert not (one / "a_3.png").exists()
    else:
        assert told == [*"12221", "0", *"11", "0"]
    for part in (2, 4, 1):
        made(out, shard=Shard(part, 4))
        names = json.loads((out / f"shards/{part}-of-4.json").read_text())["told"]
        assert set(names) <= set(Shard(part, 4).own(NAMES))
    masks = {p.stem for p in out.glob("*.png")}
    lost = set(Shard(3, 4).own(NAMES))
    assert masks == set(NAMES) - lost - ({"a_3"} if broken else set())
    (out / "a_1.png").unlink()  # its neighbour is told of, and is asked again for its sake
    made(out)
    assert written(out) == written(one)
