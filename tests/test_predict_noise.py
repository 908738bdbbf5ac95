"""``predict`` of noisier images than the run's: they are told of, and smoothed where asked to."""

import ast
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.data.helpers import save, save_volume
from tests.data.test_noise import noisy, organ
from tests.tiny import read_rows
from weakseg.api.weak_segmenter import WeakSegmenter
from weakseg.config import Config
from weakseg.data.case_files import case_image
from weakseg.data.cases import Case
from weakseg.data.familiar import remember
from weakseg.data.noise import noise_share, quieter, quieter_volume
from weakseg.data.slices import slice_image
from weakseg.data.volumes import read_volume
from weakseg.errors import RunError
from weakseg.exporting.script import USE
from weakseg.layout import images_file
from weakseg.methods.base import Method, Prediction
from weakseg.predicting import predict as predicting
from weakseg.predicting.predict import predict
from weakseg.shards import Shard


class Bright(Method):
    """Marks what is brighter than 150 of 255, as it reads the image."""

    bright = 150
    name, seeds, config = "bright", (0,), Config()
    kind, masks_seen, chosen_on, dims, at_once = "heatmap", 0, "nothing", 2, 4

    def predict_all(self, cases):
        for case in cases:
            image = case_image(case, self.config.data)
            yield Prediction(image > self.bright, image.astype(np.float32) / 255)

    def confidence(self, prediction):
        return prediction.map


class BrightVolume(Bright):
    dims, at_once = 3, 1


class BrightSlice(Bright):
    """A slice is in [0, 1] already."""

    bright = 0.8


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
        r"noise of (.+?)%.*intensity, (.+?)% is usual at most in the training images",
        told["loud.png"],
    )
    assert found is not None
    assert (round(float(found[1])), round(float(found[2]))) == (18, 2)
    assert "--denoise smooths such images" in told["loud.png"]
    assert "noise" not in told["quiet.png"]
    assert "1 of more noise" in capsys.readouterr().err
    np.testing.assert_array_equal(plain["loud.png"], picture(0.1, 20) > 150)
    again, smoothed = predicted(run, "smoothed", denoise=True)
    assert "noise of 18" in again["loud.png"]  # of the image as it is
    assert "images, and is smoothed before the network sees it" in again["loud.png"]
    assert again["quiet.png"] == told["quiet.png"]
    assert "are smoothed" in capsys.readouterr().err
    np.testing.assert_array_equal(smoothed["quiet.png"], plain["quiet.png"])
    np.testing.assert_array_equal(smoothed["loud.png"], quieter(picture(0.1, 20)) > 150)
    truth = organ(size=64) > 150 / 255
    wrong = [(m["loud.png"] != truth).sum() for m in (plain, smoothed)]
    assert wrong[1] < wrong[0] / 2


@pytest.mark.parametrize("size", [64, 300])
@pytest.mark.parametrize("sd", [0.02, 0.4])
def test_the_script_of_an_export_tells_the_same_noise_without_our_packages(size, sd):
    parts = [n for n in ast.parse(USE).body if isinstance(n, ast.FunctionDef)]
    names = {"np": np, "Image": Image, "ImageFilter": ImageFilter}
    exec(compile(ast.Module(parts, []), "use.py", "exec"), names)
    grey = np.round(255 * noisy(organ(size), sd, size).clip(0, 1)).astype(np.uint8)
    bright = np.where(np.arange(size) < size // 2, 255, grey).astype(np.uint8)
    flat = np.where(grey > 0, 204, 0).astype(np.uint8)
    for image in (grey, bright, flat, np.stack([grey, grey // 2, grey], axis=2)):
        told = names["noise"](Image.fromarray(image))
        assert told == pytest.approx(noise_share(image / np.float32(255)) or 0, rel=0.01, abs=1e-6)
    assert names["noise"](Image.fromarray(0 * grey)) == 0
    assert names["noise"](Image.fromarray(0 * grey + 255)) == 0
    assert names["noise"](Image.fromarray(grey[:1])) == 0


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


def test_that_noise_cannot_be_told_is_said_once_with_the_reason(run, capsys):
    predicted(run, "plain")
    assert "cannot be told: of" not in capsys.readouterr().err
    white = [(picture(0.01, k) > 40) * np.uint8(255) for k in range(4)]
    cases = [
        Case(f"w{k}", save(run.parent / f"white/{k}.png", i), "a", patient=f"p{k}")
        for k, i in enumerate(white)
    ]
    known = remember(cases, Bright.config.data, "key")
    images_file(run).write_text(json.dumps(known.to_json()))
    told, _ = predicted(run, "again")
    assert "noise" not in told["loud.png"]
    said = "note: whether new images are noisier than the training images cannot be told: of 4 that"
    assert capsys.readouterr().err.count(said) == 1
    held = known.to_json()
    for look in held["looks"]:
        del look["noise"]
    images_file(run).write_text(json.dumps(held))
    predicted(run, "of an earlier version")
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "cannot be told" in line]
    assert said.endswith("run any of its stages again, which writes it anew")
    assert "earlier version" in said
    assert "white" not in said


def test_an_image_whose_noise_clipping_hides_is_told_of(run, capsys):
    save(run.parent / "new/white.png", (picture(0.1, 22) > 40) * np.uint8(255))
    told, _ = predicted(run, "plain")
    assert "% of it is as bright as can be, which hides noise" in told["white.png"]
    assert "hides noise" not in told["loud.png"] + told["quiet.png"]
    assert "1 of noise that cannot be told" in capsys.readouterr().err


@pytest.mark.parametrize("changed", ["procedure", "limits"])
def test_shards_that_were_smoothed_otherwise_are_not_joined(run, monkeypatch, capsys, changed):
    first = predict(
        run, [run.parent / "new"], run.parent / "out", method=Bright(), denoise=True,
        shard=Shard(1, 2),
    )  # fmt: skip
    assert first.exists()
    if changed == "procedure":
        monkeypatch.setattr(predicting, "PROCEDURE", predicting.PROCEDURE + 1)
    else:
        held = json.loads(images_file(run).read_text())
        for look in held["looks"]:
            look["noise"] *= 2
        images_file(run).write_text(json.dumps(held))
    predicted(run, "out", denoise=True)
    assert "shard 1/2 is left out: it is of other inputs, options" in capsys.readouterr().err


def scan(folder, name, sds, seed):
    """A volume of as many slices as deviations; each as a slice stores it, (X, Y, Z)."""
    planes = [picture(sd, seed + k).T for k, sd in enumerate(sds)]
    return save_volume(folder / f"{name}.nii.gz", np.stack(planes, axis=2))


def run_of_volumes(folder, sliced):
    (folder / "run").mkdir()
    (folder / "run/run.json").write_text("{}")
    files = [scan(folder / "train", f"t{k}", [0.01] * 4, 10 * k) for k in range(4)]
    cases = [Case(f.name[:2], f, "a", patient=f.name) for f in files]
    if sliced:
        cases = [replace(c, slice=z, volume=c.id) for c in cases for z in range(4)]
    known = remember(cases, Bright.config.data, "key")
    images_file(folder / "run").write_text(json.dumps(known.to_json()))
    scan(folder / "new", "loud", [0.1, 0.01, 0.1, 0.1], 200)
    scan(folder / "new", "quiet", [0.01, 0.1, 0.01, 0.01], 300)  # one noisy slice of four
    return folder / "run"


def masks_of(run, name, method, **options):
    table = predict(run, [run.parent / "new"], run.parent / name, method=method, **options)
    told = {r["mask"].split(".")[0]: r["unlike_training"] for r in read_rows(table)}
    masks = {n: read_volume(run.parent / name / f"{n}.nii.gz").values > 0 for n in told}
    return told, masks


def test_a_noisy_volume_is_told_of_and_smoothed_where_asked_to(tmp_path, capsys):
    run, method = run_of_volumes(tmp_path, sliced=False), BrightVolume()
    told, plain = masks_of(run, "plain", method)
    assert "noise of" in told["loud"]
    assert "--denoise smooths such volumes" in told["loud"]
    assert "noise" not in told["quiet"]
    said = capsys.readouterr().err
    assert "of 2 volumes " in said
    assert "unlike the run's training volumes: " in said
    assert "1 of more noise. --denoise smooths those" in said
    again, smoothed = masks_of(run, "smoothed", method, denoise=True)
    assert "volumes, and is smoothed before the network sees it" in again["loud"]
    assert "volumes with noise above" in capsys.readouterr().err
    np.testing.assert_array_equal(smoothed["quiet"], plain["quiet"])
    values = read_volume(tmp_path / "new/loud.nii.gz").values
    np.testing.assert_array_equal(plain["loud"], values > 150)
    np.testing.assert_array_equal(smoothed["loud"], quieter_volume(values) > 150)
    truth = (organ(size=64) > 150 / 255)[..., None].transpose(1, 0, 2)
    assert (smoothed["loud"] != truth).sum() < (plain["loud"] != truth).sum() / 2


def test_of_slices_all_sentences_are_of_volumes_or_name_the_slice(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predicting, "is_sliced", lambda run: True)
    run = run_of_volumes(tmp_path, sliced=True)
    dark = np.zeros((200, 200, 4), np.uint8)
    dark[60:90, 60:90] = 200
    save_volume(tmp_path / "new/dark.nii.gz", dark)
    told, _ = masks_of(run, "plain", BrightSlice())
    reasons = "; ".join(told.values())
    assert "usual at most in the training volumes: a network may miss" in told["loud"]
    assert "longest side of its middle slice 200 pixels, training slices 64" in told["dark"]
    assert re.search("another .+ of its middle slice: .+ from the nearest training slice", reasons)
    said = capsys.readouterr().err
    assert "2 of 3 volumes are unlike the run's training volumes: " in said
    assert "image" not in reasons + said
    images_file(run).unlink()
    with pytest.raises(RunError, match="how noisy its training volumes are") as e:
        masks_of(run, "plain", BrightSlice(), denoise=True)
    assert "image" not in e.value.expected


def test_a_segmenter_of_volumes_warns_of_volumes(tmp_path, monkeypatch):
    made = WeakSegmenter()
    made.run_dir_ = run_of_volumes(tmp_path, sliced=False)
    monkeypatch.setattr(WeakSegmenter, "_method", lambda _: BrightVolume())
    with pytest.warns(UserWarning, match="2 of 2 volumes are unlike .* training volumes") as told:
        made.predict([tmp_path / "new/loud.nii.gz", tmp_path / "new/quiet.nii.gz"])
    assert "image" not in str(told[0].message)


def test_slices_of_a_volume_are_smoothed_all_or_none(tmp_path, monkeypatch):
    monkeypatch.setattr(predicting, "is_sliced", lambda run: True)
    run, method = run_of_volumes(tmp_path, sliced=True), BrightSlice()
    told, plain = masks_of(run, "plain", method)
    assert "noise of" in told["loud"]  # though the second and the third are no noisier together
    assert "noise" not in told["quiet"]
    again, smoothed = masks_of(run, "smoothed", method, denoise=True)
    assert "and is smoothed" in again["loud"]
    np.testing.assert_array_equal(smoothed["quiet"], plain["quiet"])
    path = tmp_path / "new/loud.nii.gz"
    for z in range(4):
        image = slice_image(path, z, "auto")
        np.testing.assert_array_equal(plain["loud"][:, :, z].T, image > 0.8)
        expected = quieter(image, "dtype") > 0.8
        np.testing.assert_array_equal(smoothed["loud"][:, :, z].T, expected)
