"""``weakseg adapt`` at work on a run: masks of another site, none of its masks opened."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.tiny import pixels, read_rows, weakseg, write_config, write_manifest, write_set
from weakseg.data.cases import Case
from weakseg.errors import RunError, UserError
from weakseg.methods.adapted import (
    BottleneckFeatures,
    adapted,
    features_of,
    load_generator,
    site_of,
)
from weakseg.methods.find import load_method
from weakseg.training.infer import whole_logits

pytestmark = pytest.mark.thorough

CONFIG = """
name: tiny
data: {{manifest: {manifest}, image_size: 32, split: {{val: 0.08, test: 0.25}}}}
scores: {{bootstrap: 100, floors: false}}
report: {{gallery: 0}}
segmenters:
  net: {{arch: attention-unet-small, epochs: 1, steps: 1, batch_size: 2, average: none,
        validation_cases: 0, threshold: 0.5, seeds: [3, 4], ensemble: true}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, and a site of darker images: labels.csv, and unmasked.csv without masks."""
    folder = tmp_path_factory.mktemp("adapted")
    config = write_config(folder, write_set(folder / "data", slices=2), CONFIG)
    assert weakseg("train-segmenter", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    write_set(folder / "site", patients=3, slices=2)
    for path in (folder / "site/images").glob("*.png"):
        dark = (255 * (np.asarray(Image.open(path)) / 255) ** 2).astype(np.uint8)
        Image.fromarray(dark).save(path)
    rows = read_rows(folder / "site/labels.csv")
    write_manifest(folder / "site/unmasked.csv", [[r["image"]] for r in rows], ("image",))
    return folder


@pytest.fixture(scope="module")
def call(folder):
    def call(images, out, *more, run="run", method="net"):
        where = ("--images", images, "--out", out, "--device", "cpu")
        return weakseg("adapt", folder / run, "--method", method, *where, *more)

    return call


@pytest.fixture(scope="module")
def made(folder, call):
    """Three steps on the manifest with masks."""
    assert call(folder / "site/labels.csv", folder / "made", "--steps", 3) == 0
    return folder / "made"


def masks(folder):
    return {p.name: pixels(p) for p in folder.glob("p*.png")}


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def test_no_step_gives_the_masks_of_predict_pixel_by_pixel(folder, call, tmp_path):
    images = folder / "site/images"
    assert call(images, tmp_path / "out", "--steps", 0) == 0
    plain = ("--out", tmp_path / "plain", "--method", "net", "--device", "cpu")
    assert weakseg("predict", folder / "run", images, *plain) == 0
    expected = masks(tmp_path / "plain")
    assert len(expected) == 6
    assert any(m.any() and not m.all() for m in expected.values())
    assert same(masks(tmp_path / "out"), expected)
    assert same(masks(tmp_path / "out/before"), expected)
    table = read_rows(tmp_path / "out/predictions.csv")
    assert table == read_rows(tmp_path / "plain/predictions.csv")
    about = json.loads((tmp_path / "out/generator.json").read_text())
    apart = about["distance_to_training_images"]
    assert apart["before"] == apart["after"]
    assert about["masks_read"] == 0
    assert not (tmp_path / "out/scores.csv").exists()


def test_what_is_said_of_the_images_is_said_once(folder, call, made, tmp_path, capsys):
    site = shutil.copytree(folder / "site/images", tmp_path / "site")
    shutil.copy(next(site.glob("*.png")), site / "a_mask.png")
    for path in site.glob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 8).save(path)
    capsys.readouterr()
    assert call(site, tmp_path / "out", "--generator", made / "generator.safetensors") == 0
    lines = capsys.readouterr().err.splitlines()
    assert sum("left out 1 " in x for x in lines) == 1
    assert sum("unlike the run's training images" in x for x in lines) == 1
    assert len(lines) == len(set(lines))


def test_masks_of_the_new_site_are_never_opened(folder, call, made, tmp_path, capsys):
    """Without them, and without labels, all is the same to the byte but for the score."""
    site = shutil.copytree(folder / "site", tmp_path / "site")
    shutil.rmtree(site / "masks")
    capsys.readouterr()
    assert call(site / "unmasked.csv", tmp_path / "out", "--steps", 3) == 0
    assert "no mask was read" in capsys.readouterr().err
    assert same(masks(tmp_path / "out"), masks(made))
    assert not same(masks(made), masks(made / "before"))
    for name in ("generator.safetensors", "generator.json", "sheet.png"):
        assert (tmp_path / "out" / name).read_bytes() == (made / name).read_bytes()
    assert (made / "scores.csv").exists()
    assert not (tmp_path / "out/scores.csv").exists()


def test_the_score_is_that_computed_by_hand(folder, made):
    rows = read_rows(folder / "site/labels.csv")
    found = {r["label"]: r for r in read_rows(made / "scores.csv")}
    assert set(found) == {"tumor", "normal", "all"}
    for label, line in found.items():
        of = [r for r in rows if label in ("all", r["label"])]
        assert (int(line["images"]), int(line["masks_read"])) == (len(of), len(of))
        for when, where in (("before", made / "before"), ("after", made)):
            dices, alone, missed, beside, false = [], [], 0, 0, 0
            for r in of:
                name = r["image"].removeprefix("images/")
                truth = pixels(folder / "site" / r["mask"]) > 0
                mask = pixels(where / name) > 0
                areas = mask.sum() + truth.sum()
                dices.append(2 * (mask & truth).sum() / areas if areas else 1.0)
                alone += dices[-1:] if truth.any() else []
                missed += truth.any() and not mask.any()
                beside += truth.any() and not (mask & truth).any()
                false += not truth.any() and mask.any()
            assert float(line[f"dice_all_{when}"]) == pytest.approx(np.mean(dices), abs=1e-5)
            if alone:
                assert float(line[f"dice_{when}"]) == pytest.approx(np.mean(alone), abs=1e-5)
            else:
                assert line[f"dice_{when}"] == ""
            counts = [int(line[f"{c}_{when}"]) for c in ("missed", "no_overlap", "false_alarm")]
            assert counts == [missed, beside, false]


def test_the_sheet_has_a_row_an_image_in_the_window_of_the_training_images(made):
    sheet = pixels(made / "sheet.png")
    assert sheet.shape == (6 * 220 + 5 * 4, 3 * 220 + 2 * 4, 3)
    trained, before = (sheet[:220, at : at + 180] for at in (0, 224))
    assert trained.std() > 10
    assert before.mean() < trained.mean() < 200  # the site is darker


def test_a_generator_is_taken_up_again_and_only_by_its_networks(folder, call, made, tmp_path):
    weights = made / "generator.safetensors"
    again = ("--generator", weights)
    assert call(folder / "site/images", tmp_path / "out", *again) == 0
    assert same(masks(tmp_path / "out"), masks(made))
    about = json.loads((made / "generator.json").read_text())
    with pytest.raises(UserError, match="for other networks"):
        load_generator(weights, "net", ["0" * 64])
    generator = load_generator(weights, "net", about["networks"])
    head = {"channels": "1", "width": "16", "method": "net"}
    head["networks"] = json.dumps(about["networks"])
    state = generator.state_dict()
    broken = tmp_path / "broken.safetensors"
    save_file({**state, "last.bias": torch.tensor([np.nan])}, broken, metadata=head)
    with pytest.raises(RunError, match="no finite numbers"):
        load_generator(broken, "net", about["networks"])
    save_file({"other": torch.zeros(1)}, broken, metadata=head)
    with pytest.raises(RunError, match="no generator"):
        load_generator(broken, "net", about["networks"])
    save_file(state, broken)
    with pytest.raises(RunError, match="damaged"):
        load_generator(broken, "net", about["networks"])
    torch.save(state, broken)
    with pytest.raises(UserError, match="not safetensors"):
        load_generator(broken, "net", about["networks"])


def test_features_are_the_bottlenecks_of_the_frozen_networks(folder):
    method = load_method(folder / "run", "net", device="cpu")
    path = folder / "site/images/p00_0.png"
    site = site_of(method, [Case("a", path, ""), Case("b", path, "")])
    both = features_of(method, site)
    some = site.batch([0, 1], "cpu")
    image = some.image.requires_grad_()
    found = both(image, some.fill)
    assert len(found) == 2
    assert all(len(maps) == 2 and min(maps.shape[2:]) < 32 for maps in found)
    expected = []
    for model in method.networks.models:
        one = BottleneckFeatures(model, site, "cpu")
        seen = []
        layer = model.get_submodule(one.call.name)
        handle = layer.register_forward_hook(lambda m, i, o, seen=seen: seen.append(o.clone()))
        whole_logits(model, image, some.fill)
        handle.remove()
        expected.append(seen[one.call.number])
    torch.testing.assert_close(found, expected)
    torch.cat(found, 1).sum().backward()
    assert float(image.grad.abs().sum()) > 0
    assert all(p.grad is None for m in method.networks.models for p in m.parameters())


def test_images_of_every_size_go_through_the_generator(folder, made):
    about = json.loads((made / "generator.json").read_text())
    generator = load_generator(made / "generator.safetensors", "net", about["networks"])
    plain = load_method(folder / "run", "net", device="cpu")
    cases = [Case("a", folder / "site/images/p00_0.png", "")]
    data, through = (m._as_seen(cases) for m in (plain, adapted(plain, generator)))
    for size in (32, 48):
        held, found = (d.of_size(size).arrays(0) for d in (data, through))
        with torch.no_grad():
            image = torch.from_numpy(held.image.astype(np.float32))[None]
            expected = generator(image, torch.from_numpy(held.region)[None, None])[0]
        assert found.image.shape == (1, size, size)
        assert found.image.dtype == np.float16
        np.testing.assert_array_equal(found.image, expected.numpy().astype(np.float16))
        assert not np.array_equal(found.image, held.image)


def write_colours(folder):
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    return folder


def empty(folder):
    folder.mkdir()
    return folder


def absent(folder):
    return folder


@pytest.mark.parametrize(
    ("images", "method", "words"),
    [
        (write_colours, "net", "takes images of 1 channel"),
        (empty, "net", "holds no image"),
        (absent, "net", "does not exist"),
        (write_colours, "nett", "did you mean 'net'"),
    ],
)
def test_what_cannot_be_adapted_is_said(images, method, words, call, tmp_path, capsys):
    assert call(images(tmp_path / "images"), tmp_path / "out", method=method) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_results_do_not_lie_among_the_images(folder, call, capsys):
    images = folder / "site/images"
    before = sorted(images.iterdir())
    assert call(images, images) == 2
    assert "among the images" in capsys.readouterr().err
    assert sorted(images.iterdir()) == before


def test_other_methods_than_networks_of_images_are_refused(folder, call, monkeypatch, capsys):
    from weakseg.methods.base import Method
    from weakseg.methods.network import NetworkMethod
    from weakseg.predicting import adapt

    refused = partial(call, folder / "site/images", folder / "refused")
    with monkeypatch.context() as m:
        m.setattr(NetworkMethod, "dims", 3)
        assert refused() == 2
    assert "a network of volumes" in capsys.readouterr().err

    class Other(Method):
        pass

    Other.__abstractmethods__ = frozenset()
    monkeypatch.setattr(adapt, "load_method", lambda *a, **k: Other())
    assert refused() == 2
    assert "net is no segmentation network" in capsys.readouterr().err
    assert not (folder / "refused").exists()


def test_a_gain_is_told_with_its_interval():
    from weakseg.predicting.adapted_scores import _gain

    line = {"difference": 0.02, "difference_low": -0.05, "difference_high": 0.09}
    assert _gain(line, 5) == "+0.020, 95 % interval -0.050 to +0.090"
    assert _gain(line, 2) == (
        "+0.020, 95 % interval -0.050 to +0.090, which cannot be trusted: the test lesions are of "
        "2 patients, fewer than 5"
    )
    alone = line | {"difference_low": float("nan"), "difference_high": float("nan")}
    assert _gain(alone, 1) == "+0.020, no interval of one patient"
