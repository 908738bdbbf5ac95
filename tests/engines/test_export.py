"""A run by an engine, and exported methods: the run's masks, without PyTorch too; what is refused.

Together in a file, for both stand on runs that take long to make; for CI, for the same reason.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.tiny import pixels, read_rows, weakseg
from weakseg.data.noise import noise_share
from weakseg.engines import base
from weakseg.engines.openvino import core
from weakseg.engines.registry import ENGINES
from weakseg.errors import RunError
from weakseg.exporting.about import read_about
from weakseg.heatmaps import by_engine

pytestmark = pytest.mark.thorough

BLOCKED = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "weakseg", "onnxscript", "onnx"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
try:
    import torch
except ImportError:
    pass
else:
    raise SystemExit("torch was not blocked")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def exports(runs):
    """The heatmap method with Otsu's rule, and the network, of the run by torch."""
    for method, more in (("gradcam-otsu", ("--openvino",)), ("net", ())):
        out = runs / f"export-{method}"
        assert weakseg("export", runs / "torch", "--method", method, "--out", out, *more) == 0
    return runs


def test_images(runs):
    return [r for r in read_rows(runs / "torch/splits.csv") if r["split"] == "test"]


test_images.__test__ = False


def dice(a, b):
    return 1.0 if not (a | b).any() else 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("method", ["gradcam-otsu", "net"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_predict_gives_the_masks_of_the_run(exports, tmp_path, method, engine):
    rows = test_images(exports)
    args = ("--out", tmp_path / "out", "--engine", engine, "--heatmaps")
    images = [r["image"] for r in rows]
    assert weakseg("predict", exports / f"export-{method}", *images, *args) == 0
    made = read_rows(tmp_path / "out/predictions.csv")
    assert [r["file"] for r in made] == images
    marked = 0
    for r in rows:
        ours = pixels(tmp_path / f"out/{r['case']}.png") > 0
        theirs = pixels(exports / f"torch/masks/{method}/seed-0/{r['case']}.png") > 0
        assert ours.shape == theirs.shape
        assert dice(ours, theirs) >= 0.999
        marked += int(theirs.sum())
        assert (tmp_path / f"out/heatmaps/{r['case']}.npz").exists()
    assert marked > 0
    said = {r["case"]: float(r["lesion_probability"]) for r in predictions(exports)}
    for r, row in zip(rows, made, strict=True):
        assert float(row["lesion_probability"]) == pytest.approx(said[r["case"]], abs=1e-4)


def predictions(folder):
    (path,) = (folder / "torch/classifier").rglob("predictions.csv")
    return read_rows(path)


def test_the_description_says_what_goes_in_and_out(exports):
    about = json.loads((exports / "export-gradcam-otsu/model.json").read_text())
    assert "research only" in about["use"]
    assert about["input"]["size"] == 64
    assert about["input"]["channels"] == 1
    assert about["labels"] == ["normal", "tumor"]
    assert about["lesion_labels"] == ["tumor"]
    assert about["threshold"]["rule"]["rule"] == "otsu"
    assert about["threshold"]["masks_seen"] == 0
    assert about["heatmap"] == {"method": "gradcam", "layer": "features.7", "target": "lesion"}
    net = json.loads((exports / "export-net/model.json").read_text())
    assert net["gate"] == 0.5
    assert net["threshold"]["threshold"] > 0
    assert str(exports) not in json.dumps([about, net])


@pytest.mark.parametrize("method", ["gradcam-otsu", "net"])
def test_the_script_runs_where_torch_cannot_be_imported(exports, tmp_path, method):
    rows = test_images(exports)
    images = [shutil.copy(r["image"], tmp_path) for r in rows]
    large = Image.open(rows[0]["image"]).resize((200, 171))
    large.save(tmp_path / "large.png")
    script = exports / f"export-{method}/use.py"
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, script, *images, tmp_path / "large.png"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(rows) + 1
    for r in rows:
        ours = pixels(tmp_path / f"{r['case']}.mask.png") > 0
        theirs = pixels(exports / f"torch/masks/{method}/seed-0/{r['case']}.png") > 0
        assert dice(ours, theirs) >= 0.999
    assert pixels(tmp_path / "large.mask.png").shape == (171, 200)
    if method == "net":
        return
    said = {r["case"]: float(r["lesion_probability"]) for r in predictions(exports)}
    for r, line in zip(rows, done.stdout.splitlines(), strict=False):
        assert float(line.split()[-1]) == pytest.approx(said[r["case"]], abs=1e-4)


def test_the_script_lays_images_over_black_and_writes_a_mask_of_each(exports, tmp_path):
    image = pixels(test_images(exports)[0]["image"])
    opaque = np.full(image.shape, 255, np.uint8)
    opaque[: len(image) // 2] = 0
    grey, seen = Image.fromarray(image), tmp_path / "seen.png"
    Image.fromarray(np.where(opaque, image, 0).astype(np.uint8)).save(seen)
    alpha = Image.fromarray(opaque)
    for name, bands in (("grey.png", (grey,)), ("grey.webp", (grey, grey, grey))):
        mode = "LA" if len(bands) == 1 else "RGBA"
        Image.merge(mode, (*bands, alpha)).save(tmp_path / name, lossless=True)
    files = [seen, tmp_path / "grey.png", tmp_path / "grey.webp"]
    script = [sys.executable, exports / "export-gradcam-otsu/use.py", *files]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    said = {line.partition(" ")[2] for line in done.stdout.splitlines()}
    assert len(said) == 1, done.stdout
    masks = sorted(f.name for f in tmp_path.glob("*.mask.png"))
    assert masks == ["grey.png.mask.png", "grey.webp.mask.png", "seen.mask.png"]


def test_a_noisy_image_is_smoothed_as_by_the_run_and_told_of_by_the_script(exports, tmp_path):
    images = [pixels(r["image"]) for r in test_images(exports)]
    quiet = next(i for i in images if noise_share(i / np.float32(255)))
    rng = np.random.default_rng(0)
    loud = (quiet + quiet * rng.standard_normal(quiet.shape)).clip(0, 255).astype(np.uint8)
    (tmp_path / "new").mkdir()
    for name, image in (("loud", loud), ("quiet", quiet)):
        Image.fromarray(image).save(tmp_path / f"new/{name}.png")
    export, made = exports / "export-net", {}
    for name, model, more in (
        ("run", exports / "torch", ("--method", "net", "--denoise")),
        ("export", export, ("--denoise",)),
        ("plain", export, ()),
    ):
        out = tmp_path / name
        assert weakseg("predict", model, tmp_path / "new", "--out", out, "--heatmaps", *more) == 0
        told = {r["mask"]: r["unlike_training"] for r in read_rows(out / "predictions.csv")}
        assert "noise of" in told["loud.png"]
        assert ("is smoothed before" in told["loud.png"]) == bool(more)
        maps = [np.load(out / f"heatmaps/{n}.npz")["probability"] for n in ("loud", "quiet")]
        made[name] = [pixels(out / "loud.png") > 0, *maps]
    assert dice(made["run"][0], made["export"][0]) >= 0.999
    np.testing.assert_allclose(made["run"][1], made["export"][1], atol=2e-3)
    assert np.abs(made["export"][1] - made["plain"][1]).max() > 0.01
    np.testing.assert_array_equal(made["export"][2], made["plain"][2])
    given = [export / "use.py", tmp_path / "new/loud.png", tmp_path / "new/quiet.png"]
    done = subprocess.run([sys.executable, *given], capture_output=True, text=True, check=True)
    (said,) = [x for x in done.stderr.splitlines() if "noise of" in x]
    assert "loud.png" in said
    assert "above the limit of" in said
    assert "Only weakseg predict --denoise smooths it" in said
    theirs, ours = (
        float(t.partition("noise of ")[2].partition("%")[0]) for t in (said, told["loud.png"])
    )
    assert theirs == pytest.approx(ours, rel=0.05)  # the script leaves the outermost pixels out


def test_openvinos_own_files_are_the_same_model(exports):
    import onnxruntime

    folder = exports / "export-gradcam-otsu"
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    own = core().compile_model(folder / "model.xml", "CPU", precise)
    onnx = onnxruntime.InferenceSession(folder / "model.onnx")
    images = np.random.default_rng(0).random((1, 1, 64, 64), dtype=np.float32)
    given = {"images": images, "box": np.array([0, 4, 64, 56, 90, 79])}
    found, expected = own(given), onnx.run(None, given)
    assert (found[0] != expected[0]).mean() <= 0.001
    np.testing.assert_allclose(found[1], expected[1], atol=1e-3 * expected[1].max())


def test_an_export_holds_one_method_and_knows_its_engines(exports, tmp_path, capsys, monkeypatch):
    folder, image = exports / "export-net", test_images(exports)[0]["image"]
    args = ("predict", folder, image, "--out", tmp_path)
    assert weakseg(*args, "--method", "otsu") == 2
    assert "The folder holds one method, net." in capsys.readouterr().err
    assert weakseg(*args, "--engine", "torch") == 2
    assert "runs no exported model" in capsys.readouterr().err
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "model.onnx").write_bytes(b"no model")
    assert weakseg("predict", broken, image, "--out", tmp_path) == 2
    assert "The model is damaged, or is not the one" in capsys.readouterr().err
    about = json.loads((broken / "model.json").read_text())
    assert list(about.pop("hashes")) == ["model.onnx"]
    (broken / "model.json").write_text(json.dumps(about))  # as of an earlier version
    assert weakseg("predict", broken, image, "--out", tmp_path) == 2
    assert "The model is damaged." in capsys.readouterr().err

    def full(*_):
        raise MemoryError

    for name, engine in ENGINES.items():
        monkeypatch.setitem(ENGINES, name, replace(engine, load=full))
    assert weakseg("predict", folder, image, "--out", tmp_path) == 2
    assert "There is not enough memory." in capsys.readouterr().err


NEEDED = (
    "format", "method", "kind", "seeds", "input", "input.size", "input.channels",
    "input.intensity", "input.window", "outputs", "outputs.mask", "outputs.map", "outputs.heat",
    "outputs.probability", "outputs.probabilities", "labels", "lesion_labels", "threshold",
    "threshold.chosen_on", "threshold.masks_seen", "gate", "heatmap", "heatmap.method",
    "heatmap.layer", "heatmap.target",
)  # fmt: skip
ODD = (
    ("input.size", 7), ("input.size", 10**6), ("input.window", [40.0, -1.0]), ("gate", 1.5),
    ("input.window", [1.0]), ("kind", "magic"), ("inputs.images_0", ""), ("inputs.heat", ""),
    ("inputs", 7.5), ("outputs.more", "of it"), ("seeds", [-1]), ("lesion_labels", ["cat"]),
    ("lesion_labels", []), ("threshold.masks_seen", -1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"), [*((k, v) for k in NEEDED for v in (None, 7.5, [None])), *ODD]
)
def test_a_description_that_was_changed_is_refused_with_its_key(exports, tmp_path, key, value):
    about = json.loads((exports / "export-gradcam-otsu/model.json").read_text())
    *above, last = key.split(".")
    held = about
    for name in above:
        held = held[name]
    if value is None:
        del held[last]
    else:
        held[last] = value
    (tmp_path / "model.json").write_text(json.dumps(about))
    with pytest.raises(RunError, match="damaged") as told:
        read_about(tmp_path)
    assert last in told.value.found


@pytest.mark.parametrize(
    "change",
    [
        {"outputs": dict.fromkeys(("map", "mask", "probability", "probabilities", "heat"), "")},
        {"outputs": dict.fromkeys(("mask", "map", "heat", "probabilities", "probability"), "")},
        {"labels": ["normal", "tumor", "cat"]},
    ],
)
def test_a_description_of_another_model_is_refused(exports, tmp_path, capsys, change):
    folder, image = tmp_path / "other", test_images(exports)[0]["image"]
    shutil.copytree(exports / "export-gradcam-otsu", folder)
    about = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(about | change))
    assert weakseg("predict", folder, image, "--out", tmp_path / "out") == 2
    assert "The model does not give what model.json says." in capsys.readouterr().err


def test_what_cannot_be_exported_is_refused_with_a_way_out(exports, tmp_path, capsys, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    args = ("export", exports / "torch", "--method", "net", "--out")
    assert weakseg(*args, tmp_path / "full") == 2
    assert "holds something else" in capsys.readouterr().err
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    assert weakseg(*args, tmp_path / "new") == 2
    assert "pip install 'weakseg[onnxruntime]'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def several(exports):
    """Networks as the recipe `best-weak` has them: a mean of two in three sizes, none of them that
    of the gate's classifier, and parts of their masks dropped."""
    config, run = exports / "tiny.yaml", exports / "several"
    shutil.copytree(exports / "torch", run)
    changes = (
        "image_size=48", "scales=[0.75, 1.0, 1.25]", "flips=x", "seeds=[0, 1]", "ensemble=true",
        "threshold=0.5", "min_peak=0.8", "min_area=0.002",
    )  # fmt: skip
    args = [a for c in changes for a in ("--set", f"segmenters.net.{c}")]
    args += ["--set", "segmenters.net.epochs=2", "--set", "segmenters.net.lr=0.003"]
    assert weakseg("train-segmenter", config, "--run-dir", run, "--device", "cpu", *args) == 0
    out = exports / "export-several"
    assert weakseg("export", run, "--method", "net", "--out", out, "--openvino") == 0
    return run, out


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_networks_of_several_sizes_screen_their_masks_as_by_the_run(several, tmp_path, engine):
    run, out = several
    rows = test_images(run.parent)
    args = ("--out", tmp_path, "--engine", engine, "--heatmaps")
    assert weakseg("predict", out, *[r["image"] for r in rows], *args) == 0
    dropped = marked = 0
    for r, row in zip(rows, read_rows(tmp_path / "predictions.csv"), strict=True):
        ours = pixels(tmp_path / f"{r['case']}.png") > 0
        theirs = pixels(run / f"masks/net/seed-0/{r['case']}.png") > 0
        assert dice(ours, theirs) >= 0.999
        marked += int(theirs.sum())
        if float(row["lesion_probability"]) >= 0.5:
            p = np.load(tmp_path / f"heatmaps/{r['case']}.npz")["probability"]
            dropped += int((p > 0.5).sum() - ours.sum())
    assert marked > 0
    assert dropped > 0


def test_the_script_shows_a_model_every_size_that_it_asks_for(several, tmp_path):
    run, out = several
    about = json.loads((out / "model.json").read_text())
    assert about["input"]["size"] == 48
    names = ("images_36", "images", "images_60", "images_64", "box_36", "box", "box_60")
    assert tuple(about["inputs"]) == names
    assert "(1, 1, 60, 60)" in about["inputs"]["images_60"]
    rows = test_images(run.parent)
    images = [shutil.copy(r["image"], tmp_path) for r in rows]
    args = [sys.executable, "-c", BLOCKED, out / "use.py", *images]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    both = [
        [pixels(p) > 0 for p in (tmp_path / f"{c}.mask.png", run / f"masks/net/seed-0/{c}.png")]
        for c in (r["case"] for r in rows)
    ]
    assert np.median([dice(a, b) for a, b in both]) >= 0.97  # a part at the very cut may go


@pytest.mark.parametrize("given", [(), ("--help",), (".",), ("none.png",)])
def test_the_script_says_how_it_is_called(exports, given, tmp_path):
    args = [sys.executable, exports / "export-gradcam-otsu/use.py", *given]
    done = subprocess.run(args, capture_output=True, text=True, check=False, cwd=tmp_path)
    asked = "--help" in given
    assert done.returncode == (0 if asked else 1)
    assert "use.py IMAGE..." in (done.stdout if asked else done.stderr)
    assert "Traceback" not in done.stderr


def test_a_description_of_other_inputs_is_refused(several, tmp_path, capsys):
    run, out = several
    folder, image = tmp_path / "other", test_images(run.parent)[0]["image"]
    shutil.copytree(out, folder)
    about = json.loads((out / "model.json").read_text())
    for inputs in ({"images": "", "box": ""}, dict.fromkeys(reversed(about["inputs"]), "")):
        (folder / "model.json").write_text(json.dumps(about | {"inputs": inputs}))
        assert weakseg("predict", folder, image, "--out", tmp_path / "out") == 2
        assert "The model fails on the image." in capsys.readouterr().err


def test_nothing_of_an_earlier_export_stays(exports, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(exports / "export-gradcam-otsu", out)
    (out / "model.json").unlink()  # as one that was broken off
    assert (out / "model.bin").exists()
    assert weakseg("export", exports / "torch", "--method", "net", "--out", out) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "images.json", "model.json", "model.onnx", "use.py",
    ]  # fmt: skip
    (out / "model.json").write_text('{"format": "layers-model"}')  # of somebody else
    assert weakseg("export", exports / "torch", "--method", "net", "--out", out) == 2
    assert "holds something else" in capsys.readouterr().err


def windowed(folder, out, **seen):
    """A copy of an export of a run that reads images in another way."""
    shutil.copytree(folder, out)
    about = json.loads((out / "model.json").read_text())
    about["input"] |= seen
    (out / "model.json").write_text(json.dumps(about))
    return out


@pytest.mark.parametrize(
    "seen", [{"window": [100.0, 120.0]}, {"intensity": "percentile"}, {"window": "percentiles"}]
)
def test_images_are_windowed_and_stretched_as_by_the_run(exports, tmp_path, seen):
    from weakseg.config import Config
    from weakseg.data.case_files import case_image, intensity_of
    from weakseg.data.cases import Case
    from weakseg.data.images import scale_intensity

    row = test_images(exports)[0]
    folder = windowed(exports / "export-net", tmp_path / "model", **seen)
    case = Case("a", tmp_path / "a.png", "")
    shutil.copy(row["image"], case.image)
    data = Config.model_validate({"name": "as-seen", "data": seen}).data
    ready = scale_intensity(case_image(case, data), intensity_of(case, data))
    stretched = (ready * 255).round().astype(np.uint8)
    plain = tmp_path / "plain.png"
    Image.fromarray(stretched).save(plain)
    assert np.abs(stretched.astype(int) - pixels(case.image)).max() > 10

    def mapped(folder, image, name):
        args = ("--out", tmp_path / name, "--heatmaps")
        assert weakseg("predict", folder, image, *args) == 0
        return np.load(next((tmp_path / f"{name}/heatmaps").glob("*.npz")))

    ours, theirs = (mapped(folder, case.image, "ours"), mapped(exports / "export-net", plain, "it"))
    unseen = mapped(exports / "export-net", case.image, "unseen")
    (key,) = (k for k in ours.files if ours[k].ndim == 2)
    apart = np.abs(ours[key] - theirs[key]).max()
    assert apart < 0.1 * np.abs(ours[key] - unseen[key]).max()
    deep = tmp_path / "deep.png"
    Image.fromarray(pixels(case.image).astype(np.uint16) * 200).save(deep)
    for image, expected in ((case.image, 0), (deep, 1)):
        done = subprocess.run(
            [sys.executable, folder / "use.py", image], capture_output=True, text=True, check=False
        )
        assert done.returncode == expected, done.stderr
    assert "8 bits" in done.stderr
    script = pixels(tmp_path / "a.mask.png") > 0
    assert dice(script, pixels(tmp_path / "ours/a.png") > 0) >= 0.97


# Runs whose heatmaps an engine has made


def test_masks_are_those_of_torch_and_the_record_names_the_engine(runs):
    stages = json.loads((runs / "ort/run.json").read_text())["stages"]
    (heat,) = [s for name, s in stages.items() if name.startswith("heatmaps/")]
    assert heat["engine"] == "onnxruntime"
    hot = 0
    for path in sorted((runs / "torch/masks").glob("gradcam-*/**/*.png")):
        a, b = (
            pixels(path) > 0,
            pixels(runs / "ort/masks" / path.relative_to(runs / "torch/masks")) > 0,
        )
        assert 2 * (a & b).sum() >= 0.999 * (a.sum() + b.sum())
        hot += int(a.sum())
    assert hot > 0
    for method in ("fixed", "otsu"):
        path = f"masks/gradcam-{method}/threshold.json"
        assert json.loads((runs / "ort" / path).read_text())["seed-0"]["engine"] == "onnxruntime"
        assert "engine" not in json.loads((runs / "torch" / path).read_text())["seed-0"]


def test_a_change_of_the_engine_makes_heatmaps_again(runs, capsys):
    config, copy = runs / "tiny.yaml", runs / "again"
    shutil.copytree(runs / "ort", copy)
    args = ("heatmap-segment", config, "--device", "cpu", "--run-dir", copy)
    assert weakseg(*args, "--set", "engine=onnxruntime") == 0
    assert "heatmaps gradcam, seed 0: up to date" in capsys.readouterr().err
    assert weakseg(*args) == 0
    assert "heatmaps gradcam, seed 0: up to date" not in capsys.readouterr().err


def test_predict_takes_the_engine_of_the_run_or_another(runs, tmp_path, monkeypatch):
    # Of the run's engine it takes the graph that the stage has kept.
    monkeypatch.setattr(by_engine, "graph_of", None)
    test = [r for r in read_rows(runs / "ort/splits.csv") if r["split"] == "test"]
    images = [r["image"] for r in test]
    for engine in ((), ("--engine", "torch")):
        out = tmp_path / "-".join(("out", *engine))
        args = ("--method", "otsu", "--out", out)
        assert weakseg("predict", runs / "ort", *images, *args, *engine) == 0
        for r in test:
            a = pixels(out / f"{r['case']}.png") > 0
            b = pixels(runs / f"ort/masks/gradcam-otsu/seed-0/{r['case']}.png") > 0
            if engine:
                assert 2 * (a & b).sum() >= 0.999 * (a.sum() + b.sum())
            else:
                np.testing.assert_array_equal(a, b)


def test_a_method_that_needs_torch_leaves_earlier_heatmaps_alone(runs, capsys):
    args = ("heatmap-segment", runs / "tiny.yaml", "--device", "cpu", "--run-dir", runs / "ort")
    changes = ("--set", "engine=openvino", "--set", "heatmap.method=eigencam")
    assert weakseg(*args, *changes) == 2
    assert "eigencam needs torch" in capsys.readouterr().err
    assert list((runs / "ort/heatmaps").rglob("*.npz"))
