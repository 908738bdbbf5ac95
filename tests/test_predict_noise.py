"""``predict`` of noisier images than the run's: they are told of, and smoothed where asked to."""

import json
import re

import numpy as np
import pytest

from tests.data.helpers import save
from tests.data.test_noise import noisy, organ
from tests.tiny import read_rows
from weakseg.config import Config
from weakseg.data.case_files import case_image
from weakseg.data.cases import Case
from weakseg.data.familiar import remember
from weakseg.data.noise import quieter
from weakseg.errors import RunError
from weakseg.layout import images_file
from weakseg.methods.base import Method, Prediction
from weakseg.predicting.predict import predict


class Bright(Method):
    """Marks what is brighter than 150 of 255, as it reads the image."""

    name, seeds, config = "bright", (0,), Config()
    kind, masks_seen, chosen_on, dims, at_once = "heatmap", 0, "nothing", 2, 4

    def predict_all(self, cases):
        for case in cases:
            image = case_image(case, self.config.data)
            yield Prediction(image > 150, image.astype(np.float32) / 255)

    def confidence(self, prediction):
        return prediction.map


def picture(sd, seed):
    return np.round(255 * noisy(organ(size=64), sd, seed).clip(0, 1)).astype(np.uint8)


@pytest.fixture
def run(tmp_path):
    cases = [
        Case(f"t{k}", save(tmp_path / f"train/t{k}.png", picture(0.01, k)), "a", patient=f"p{k}")
        for k in range(6)
    ]
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    known = remember(cases, Bright.config.data, "key")
    images_file(folder).write_text(json.dumps(known.to_json()))
    save(tmp_path / "new/loud.png", picture(0.1, 20))
    save(tmp_path / "new/quiet.png", picture(0.01, 21))
    return folder


def predicted(run, name, **options):
    out = run.parent / name
    table = predict(run, [run.parent / "new"], out, method=Bright(), **options)
    told = {r["mask"]: r["unlike_training"] for r in read_rows(table)}
    from weakseg.data.images import read_mask

    return told, {n: read_mask(out / n) for n in told}


def test_a_noisy_image_is_told_of_and_smoothed_where_asked_to(run, capsys):
    told, plain = predicted(run, "plain")
    found = re.search(
        r"noise of (.+?)%.*99% of the training images (.+?)% at most", told["loud.png"]
    )
    assert found is not None
    assert (round(float(found[1])), round(float(found[2]))) == (18, 2)
    assert "--denoise smooths such images" in told["loud.png"]
    assert "noise" not in told["quiet.png"]
    assert "1 of more noise" in capsys.readouterr().err
    np.testing.assert_array_equal(plain["loud.png"], picture(0.1, 20) > 150)
    again, smoothed = predicted(run, "smoothed", denoise=True)
    assert "noise of 18" in again["loud.png"]  # of the image as it is
    assert "at most, and is smoothed before the network sees it" in again["loud.png"]
    assert again["quiet.png"] == told["quiet.png"]
    assert "are smoothed" in capsys.readouterr().err
    np.testing.assert_array_equal(smoothed["quiet.png"], plain["quiet.png"])
    np.testing.assert_array_equal(smoothed["loud.png"], quieter(picture(0.1, 20)) > 150)
    truth = organ(size=64) > 150 / 255
    wrong = [(m["loud.png"] != truth).sum() for m in (plain, smoothed)]
    assert wrong[1] < wrong[0] / 2


def test_a_run_that_tells_no_noise_is_refused_with_a_way_out(run):
    held = json.loads(images_file(run).read_text())
    for look in held["looks"]:
        del look["noise"]
    images_file(run).write_text(json.dumps(held))
    assert "noise" not in predicted(run, "plain")[0]["loud.png"]
    with pytest.raises(RunError, match="how noisy its training images are") as e:
        predicted(run, "smoothed", denoise=True)
    assert "--denoise" in e.value.fix
    images_file(run).unlink()
    with pytest.raises(RunError, match="how noisy"):
        predicted(run, "smoothed", denoise=True)
