"""From images and labels to a report, through the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.data.helpers import save
from tests.layout_of_run import files_of, named_files
from tests.tiny import pixels, read_rows, tree, weakseg, write_config, write_manifest, write_set
from weakseg.config import Config
from weakseg.data.cases import Case
from weakseg.data.formats.writing import write_mask
from weakseg.errors import DataError
from weakseg.heatmaps.store import load_heatmap
from weakseg.masks.rules import ORACLES
from weakseg.methods.find import load_method
from weakseg.predicting import writer
from weakseg.runs import read_json
from weakseg.scores import dice
from weakseg.scores.stored import read_per_case, read_summary
from weakseg.training import checkpoints


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """One whole `compare`; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("job")
    manifest = write_set(folder / "data")
    config = write_config(folder, manifest)
    assert weakseg("compare", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    return folder, config


def test_everything_that_the_run_folder_promises_is_there(job):
    run = job[0] / "run"
    for name in (
        "config.yaml",
        "run.json",
        "splits.csv",
        "report/index.html",
        "report/report.json",
    ):
        assert (run / name).stat().st_size > 0, name
    for seed in (0, 1):
        model = run / f"classifier/squeezenet1_1/seed-{seed}"
        for name in ("best.safetensors", "last.safetensors", "metrics.csv", "predictions.csv"):
            assert (model / name).stat().st_size > 0, name
        assert not (model / "resume.pt").exists()
        assert len(list((run / f"heatmaps/squeezenet1_1/seed-{seed}/gradcam").glob("*.npz"))) == 36
    assert sorted(p.name for p in (run / "masks").iterdir() if p.is_dir()) == sorted(
        f"gradcam-{r.rule}" for r in Config().masks.rules
    )
    assert not list(run.rglob(".part*"))


def test_patients_stay_on_one_side(job):
    rows = read_rows(job[0] / "run/splits.csv")
    sides = {}
    for r in rows:
        sides.setdefault(r["patient"], set()).add(r["split"])
    assert len(rows) == 36
    assert all(len(s) == 1 for s in sides.values())
    assert set().union(*sides.values()) == {"train", "val", "test"}


def test_masks_have_the_images_own_size_and_the_table_their_dice(job):
    folder = job[0]
    table = read_per_case(folder / "run")
    otsu = table[(table.method == "gradcam-otsu") & (table.seed == 1)]
    assert len(otsu) == sum(r["split"] == "test" for r in read_rows(folder / "run/splits.csv"))
    for row in otsu.itertuples():
        path = folder / f"run/masks/gradcam-otsu/seed-1/{row.case}.png"
        mask = np.asarray(Image.open(path))
        assert mask.shape == (48, 40)
        assert set(np.unique(mask)) <= {0, 255}
        truth = np.asarray(Image.open(folder / f"data/masks/{row.case}.png"))
        assert row.dice == pytest.approx(dice(mask > 0, truth > 0), abs=1e-5)


def test_masks_seen_are_counted_and_oracles_labelled(job):
    run = job[0] / "run"
    summary = read_summary(run).set_index("method")
    val = [r for r in read_rows(run / "splits.csv") if r["split"] == "val"]
    lesions = sum(r["label"] == "tumor" for r in val)
    assert summary.loc["gradcam-validation", "masks_seen"] == lesions
    assert summary.loc["gradcam-otsu", "masks_seen"] == 0
    assert summary.loc["gradcam-oracle-image", "kind"] == "oracle"
    entry = read_json(run / "masks/gradcam-oracle-dataset/threshold.json")["seed-0"]
    assert entry["upper_bound"] is True
    assert entry["masks_seen"] == sum(
        r["split"] == "test" and r["label"] == "tumor" for r in read_rows(run / "splits.csv")
    )
    assert "upper bound" in entry["chosen_on"]


def test_oracle_of_each_image_bounds_every_rule(job):
    table = read_per_case(job[0] / "run")
    table = table[table.has_lesion.astype(bool) & (table.kind != "floor")]
    wide = table.pivot_table(index=["case", "seed"], columns="method", values="dice")
    thresholds = [r.rule for r in Config().masks.rules if not r.needs_image]
    assert len(thresholds) > 4
    for rule in thresholds:
        assert (wide[f"gradcam-{rule}"] <= wide["gradcam-oracle-image"] + 1e-6).all(), rule


def test_the_gate_empties_images_the_classifier_calls_healthy(job):
    table = read_per_case(job[0] / "run")
    heat = table[table.kind != "floor"]
    assert (heat.gated == (heat.probability < 0.5)).all()
    assert (heat[heat.gated.astype(bool)].predicted_pixels == 0).all()


def test_predictions_hold_every_case_and_probabilities_add_up(job):
    table = pd.read_csv(job[0] / "run/classifier/squeezenet1_1/seed-0/predictions.csv")
    assert len(table) == 36
    np.testing.assert_allclose(table["p(normal)"] + table["p(tumor)"], 1, atol=1e-5)
    np.testing.assert_allclose(table.lesion_probability, table["p(tumor)"], atol=1e-5)
    scores = read_json(job[0] / "run/classifier/squeezenet1_1/seed-0/scores.json")
    test = table[table.split == "test"]
    right = (test.predicted == test.label).mean()
    assert scores["test"]["accuracy"]["value"] == pytest.approx(right)


def test_what_is_up_to_date_is_not_made_again(job):
    folder, config = job
    before = tree(folder / "run")
    assert weakseg("compare", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    after = tree(folder / "run")
    for name in before:
        if name.split("/")[0] in ("classifier", "heatmaps", "masks", "scores"):
            assert after[name] == before[name], name


@pytest.fixture
def copy(job, tmp_path):
    """A copy of the run that a test may change."""
    shutil.copytree(job[0], tmp_path / "job")
    config = write_config(tmp_path / "job", tmp_path / "job/data/labels.csv")
    return tmp_path / "job", config


@pytest.mark.thorough
def test_a_changed_threshold_makes_masks_again_but_trains_nothing(copy):
    folder, config = copy
    before = tree(folder / "run")
    change = ["--set", "masks.rules=[{rule: fixed, at: 0.3}]"]
    assert weakseg("compare", config, "--run-dir", folder / "run", *change) == 0
    after = tree(folder / "run")
    assert [p.name for p in (folder / "run/masks").iterdir() if p.is_dir()] == ["gradcam-fixed"]
    for name in before:
        if name.split("/")[0] in ("classifier", "heatmaps"):
            assert after[name] == before[name], name


def test_changed_training_keeps_the_earlier_network(copy):
    folder, config = copy
    old = (folder / "run/classifier/squeezenet1_1/seed-0/best.safetensors").read_bytes()
    change = ["--set", "classifier.epochs=1", "--set", "classifier.seeds=[0]"]
    assert weakseg("train-classifier", config, "--run-dir", folder / "run", *change) == 0
    (kept,) = (folder / "run/superseded").glob("*/best.safetensors")
    assert kept.read_bytes() == old
    assert (folder / "run/classifier/squeezenet1_1/seed-0/best.safetensors").read_bytes() != old


def test_a_changed_image_is_noticed(copy):
    folder, config = copy
    (folder / "data/images/p03_0.png").write_bytes((folder / "data/images/p02_1.png").read_bytes())
    assert weakseg("train-classifier", config, "--run-dir", folder / "run") == 2


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("scores/summary.csv", "gradcam-otsu"),
        ("classifier/squeezenet1_1/seed-1/metrics.csv", "epoch"),
        ("masks/gradcam-otsu/threshold.json", "otsu"),
    ],
)
def test_a_report_refuses_what_no_stage_has_written(copy, tmp_path, capsys, file, text):
    path = copy[0] / "run" / file
    path.write_text(path.read_text().replace(text, text.upper(), 1))
    assert weakseg("report", copy[0] / "run", "--out", tmp_path / "r") == 2
    told = capsys.readouterr().err
    assert f"{file} holds something else than was written" in told
    assert "weakseg compare" in told
    assert not (tmp_path / "r").exists()
    path.unlink()
    assert weakseg("report", copy[0] / "run", "--out", tmp_path / "r") == 2
    assert f"{file} is missing" in capsys.readouterr().err


def test_predict_refuses_a_threshold_that_no_stage_has_chosen(copy, tmp_path, capsys):
    path = copy[0] / "run/masks/gradcam-otsu/threshold.json"
    path.write_text(path.read_text().replace('"masks_seen": 0', '"masks_seen": 1', 1))
    args = ("predict", copy[0] / "run", copy[0] / "data/images", "--out", tmp_path / "o")
    assert weakseg(*args, "--method", "otsu") == 2
    assert "threshold.json holds something else" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.thorough
def test_a_report_says_that_an_image_has_changed_and_needs_no_pictures(copy, tmp_path, capsys):
    folder, out = copy[0], tmp_path / "r"
    source = read_json(folder / "run/run.json")["data"]["source"]
    shutil.rmtree(folder / "run/heatmaps")  # large, and no table is made of them
    assert weakseg("report", folder / "run", "--out", out) == 0
    assert "has changed" not in capsys.readouterr().err
    assert "has changed since this run" not in (out / "index.html").read_text()
    image = Path(source).parent / "images/p03_0.png"
    before = image.read_bytes()
    try:
        Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
        assert weakseg("report", folder / "run", "--out", out) == 0
    finally:
        image.write_bytes(before)
    assert "has changed since this run was made" in capsys.readouterr().err
    assert "has changed since this run was made" in (out / "index.html").read_text()


def test_predict_gives_masks_of_the_images_own_sizes(job, tmp_path, capsys):
    folder = job[0]
    sizes = {"tall": (90, 31), "wide": (20, 77), "small": (16, 16)}
    for name, size in sizes.items():
        noise = np.random.default_rng(0).integers(0, 255, size).astype(np.uint8)
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(noise).save(tmp_path / "in" / f"{name}.png")
    Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(tmp_path / "in" / "rgb.jpg")
    out = tmp_path / "out"
    code = weakseg(
        "predict", folder / "run", tmp_path / "in", "--out", out, "--heatmaps", "--overlays"
    )
    assert code == 0
    assert "0 masks seen" in capsys.readouterr().err
    rows = {r["file"].rsplit("/", 1)[1]: r for r in read_rows(out / "predictions.csv")}
    assert len(rows) == 4
    for name, size in sizes.items():
        mask = np.asarray(Image.open(out / f"{name}.png"))
        assert mask.shape == size
        assert int(rows[f"{name}.png"]["lesion_pixels"]) == (mask > 0).sum()
        assert (out / "heatmaps" / f"{name}.npz").exists()
        assert (out / "overlays" / f"{name}.png").exists()
    assert np.asarray(Image.open(out / "rgb.png")).shape == (9, 12)


def test_predict_agrees_with_the_runs_own_masks_by_every_rule_to_the_pixel(job):
    run = job[0] / "run"
    test = [r for r in read_rows(run / "splits.csv") if r["split"] == "test"]
    cases = [Case(r["case"], Path(r["image"]), "") for r in test]
    rules = [r for r in Config().masks.rules if r.rule not in ORACLES]
    assert len(rules) >= 6
    for name in (f"gradcam-{r.rule}" for r in rules):
        predictor = load_method(run, name, seed=1, device="cpu")
        # In another order and, in other tests, in company of fewer.
        found = list(predictor.predict_all(cases[::-1]))[::-1]
        for r, mask in zip(test, [p.mask for p in found], strict=True):
            made = pixels(run / f"masks/{name}/seed-1/{r['case']}.png") > 0
            np.testing.assert_array_equal(mask, made, err_msg=f"{name} {r['case']}")
    np.testing.assert_array_equal(predictor.predict(test[0]["image"]).mask, found[0].mask)


def test_predict_writes_the_masks_that_the_run_has_scored(job, tmp_path):
    run = job[0] / "run"
    test = [r for r in read_rows(run / "splits.csv") if r["split"] == "test"]
    args = ["--out", tmp_path, "--method", "otsu", "--seed", "1", "--heatmaps"]
    assert weakseg("predict", run, *[r["image"] for r in test], *args) == 0
    for r in test:
        made = pixels(run / f"masks/gradcam-otsu/seed-1/{r['case']}.png")
        np.testing.assert_array_equal(pixels(tmp_path / f"{r['case']}.png"), made)
        ours = load_heatmap(tmp_path / f"heatmaps/{r['case']}.npz")
        runs = load_heatmap(run / f"heatmaps/squeezenet1_1/seed-1/gradcam/{r['case']}.npz")
        np.testing.assert_array_equal(ours.raw, runs.raw)
        assert ours.probability == runs.probability


def test_predict_gives_the_same_pixels_in_other_formats_the_same_mask(job, tmp_path):
    run, (images, out) = job[0] / "run", (tmp_path / "images", tmp_path / "out")
    test = [r for r in read_rows(run / "splits.csv") if r["split"] == "test"]
    images.mkdir()
    for k, r in enumerate(test):
        Image.open(r["image"]).save(images / f"{r['case']}{('.bmp', '.gif', '.tif')[k % 3]}")
    assert weakseg("predict", run, images, "--out", out, "--method", "otsu", "--seed", "1") == 0
    for r in test:
        made = pixels(run / f"masks/gradcam-otsu/seed-1/{r['case']}.png")
        np.testing.assert_array_equal(pixels(out / f"{r['case']}.png"), made)


def test_predict_takes_tabs_and_leaves_out_what_is_no_scan(job, tmp_path, capsys):
    images = tmp_path / "in"
    (images / ".ipynb_checkpoints").mkdir(parents=True)
    source = (job[0] / "data/images/p00_0.png").read_bytes()
    for name in ("a.png", "a_mask.png", "._a.png", ".ipynb_checkpoints/a-checkpoint.png"):
        (images / name).write_bytes(source)
    out = tmp_path / "out"
    assert weakseg("predict", job[0] / "run", images, "--out", out) == 0
    assert [r["mask"] for r in read_rows(out / "predictions.csv")] == ["a.png"]
    assert "1 named as a mask (a_mask.png)" in capsys.readouterr().err
    table = tmp_path / "new.tsv"
    table.write_text("note\timage\nx\tin/a_mask.png\n")
    assert weakseg("predict", job[0] / "run", table, "--out", tmp_path / "tabs") == 0
    assert [r["mask"] for r in read_rows(tmp_path / "tabs/predictions.csv")] == ["a_mask.png"]


def test_predict_tells_which_images_are_unlike_the_runs(job, tmp_path, capsys):
    """The same picture in 16 bits gets the same mask; another depth and another look are told."""
    picture = pixels(job[0] / "data/images/p00_0.png")
    slope = np.tile(np.linspace(120, 255, 40), (48, 1)).astype(np.uint8)
    wide = picture.astype(np.uint16) * 257
    made = {"own": picture, "wide": wide, "deep": picture.astype(np.uint16) * 20, "slope": slope}
    for name, values in made.items():
        save(tmp_path / "in" / f"{name}.png", values)
    out = tmp_path / "out"
    assert weakseg("predict", job[0] / "run", tmp_path / "in", "--out", out) == 0
    told = {r["mask"]: r["unlike_training"] for r in read_rows(out / "predictions.csv")}
    assert told["own.png"] == told["wide.png"] == ""
    np.testing.assert_array_equal(pixels(out / "wide.png"), pixels(out / "own.png"))
    assert "16 bits a sample, training images 8 bits" in told["deep.png"]
    assert "from the nearest training image" in told["slope.png"]
    said = capsys.readouterr().err
    assert "2 of 4 images are unlike the run's training images" in said
    assert "1 of another depth" in said


def test_predict_takes_a_manifest_and_needs_no_labels_in_it(job, tmp_path):
    folder = job[0]
    images = [(folder / "data" / r["image"],) for r in read_rows(folder / "data/labels.csv")]
    bare = write_manifest(tmp_path / "bare.csv", images[:5], header=("image",))
    for manifest, n in ((folder / "data/labels.csv", 36), (bare, 5)):
        out = tmp_path / str(n)
        assert weakseg("predict", folder / "run", manifest, "--out", out) == 0
        assert len(read_rows(out / "predictions.csv")) == n


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--method", "oracle-image"], "upper bound"),
        (["--method", "otsuu"], "no method 'otsuu'"),
        (["--seed", "7"], "no network of seed 7"),
        (["--device", "cuda:99"], "not there"),
    ],
)
def test_predict_refuses_what_it_cannot_do(job, tmp_path, capsys, args, message):
    folder = job[0]
    code = weakseg(
        "predict", folder / "run", folder / "data/images", "--out", tmp_path / "o", *args
    )
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_predict_never_overwrites_its_input(job, capsys):
    images = job[0] / "data/images"
    before = tree(images)
    assert weakseg("predict", job[0] / "run", images, "--out", images) == 2
    assert "among the images" in capsys.readouterr().err
    assert tree(images) == before


def test_predict_lists_every_unreadable_file_before_it_begins(job, tmp_path, capsys):
    folder = tmp_path / "in"
    shutil.copytree(job[0] / "data/images", folder)
    (folder / "bad1.png").write_bytes(b"no image")
    (folder / "bad2.png").write_bytes(b"")
    assert weakseg("predict", job[0] / "run", folder, "--out", tmp_path / "o") == 2
    err = capsys.readouterr().err
    assert "bad1.png" in err
    assert "bad2.png" in err
    assert not (tmp_path / "o").exists()
    args = ["--out", tmp_path / "o", "--skip-unreadable"]
    assert weakseg("predict", job[0] / "run", folder, *args) == 0
    assert len(read_rows(tmp_path / "o/predictions.csv")) == 36


def test_without_any_mask_there_are_masks_and_a_report_but_no_scores(tmp_path, capsys):
    manifest = write_set(tmp_path / "data")
    rows = [(r["image"], r["label"], "", r["patient"]) for r in read_rows(manifest)]
    write_manifest(manifest, rows)
    config = write_config(tmp_path, manifest)
    one = ["--set", "classifier.seeds=[0]", "--set", "classifier.epochs=1"]
    assert weakseg("compare", config, "--run-dir", tmp_path / "run", *one) == 0
    assert "no test image can be scored" in capsys.readouterr().err
    assert read_per_case(tmp_path / "run").empty
    assert list((tmp_path / "run/masks/gradcam-otsu/seed-0").glob("*.png"))
    assert not (tmp_path / "run/masks/gradcam-oracle-image").exists()
    assert (tmp_path / "run/report/index.html").exists()


@pytest.mark.thorough
def test_without_patients_near_duplicates_stay_together_and_it_is_said(tmp_path):
    manifest = write_set(tmp_path / "data")
    rows = [(r["image"], r["label"], r["mask"]) for r in read_rows(manifest)]
    twin = tmp_path / "data/images/twin.png"
    pixels = np.asarray(Image.open(tmp_path / "data/images/p00_0.png")).copy()
    pixels[0, 0] += 3
    Image.fromarray(pixels).save(twin)
    rows.append(("images/twin.png", "tumor", "masks/p00_0.png"))
    write_manifest(manifest, rows, header=("image", "label", "mask"))
    config = write_config(tmp_path, manifest)
    one = ["--set", "classifier.seeds=[0]", "--set", "classifier.epochs=1"]
    assert weakseg("compare", config, "--run-dir", tmp_path / "run", *one) == 0
    sides = {r["case"]: r["split"] for r in read_rows(tmp_path / "run/splits.csv")}
    assert sides["twin"] == sides["p00_0"]
    assert read_json(tmp_path / "run/run.json")["data"]["patients_known"] is False
    assert "patients are unknown" in (tmp_path / "run/report/index.html").read_text().lower()


def test_three_classes_and_hostile_names(tmp_path):
    """Heatmaps for all lesion labels together; nothing leaves the run folder, all is escaped."""
    manifest = write_set(tmp_path / "data")
    rows = []
    for i, r in enumerate(read_rows(manifest)):
        label = (
            r["label"]
            if r["label"] == "normal"
            else ["<script>alert(1)</script>", "b/../c"][i // 6 % 2]
        )
        rows.append((r["image"], label, r["mask"], f"../../{r['patient']}"))
    write_manifest(manifest, rows)
    config = write_config(tmp_path, manifest)
    one = ["--set", "classifier.seeds=[0]", "--set", "classifier.epochs=1"]
    before = tree(tmp_path)
    assert weakseg("compare", config, "--run-dir", tmp_path / "run", *one) == 0
    assert set(tree(tmp_path)) - set(before) == {f"run/{name}" for name in tree(tmp_path / "run")}
    assert "<script>alert" not in (tmp_path / "run/report/index.html").read_text()
    data = read_json(tmp_path / "run/run.json")["data"]
    assert data["healthy_labels"] == ["normal"]
    scores = read_json(tmp_path / "run/classifier/squeezenet1_1/seed-0/scores.json")
    assert "auc_macro" in scores["test"]


def test_a_killed_training_goes_on_and_ends_the_same(tmp_path, monkeypatch):
    manifest = write_set(tmp_path / "data")
    config = write_config(tmp_path, manifest)
    one = ["--set", "classifier.seeds=[0]", "--set", "classifier.epochs=3"]
    assert weakseg("train-classifier", config, "--run-dir", tmp_path / "whole", *one) == 0

    monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    original, calls = checkpoints.Training.save, []

    def interrupt(*args):
        original(*args)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.Training, "save", interrupt)
    assert weakseg("train-classifier", config, "--run-dir", tmp_path / "broken", *one) == 130
    monkeypatch.setattr(checkpoints.Training, "save", original)
    assert weakseg("train-classifier", config, "--run-dir", tmp_path / "broken", *one) == 0
    for name in ("metrics.csv", "predictions.csv", "scores.json"):
        whole = tmp_path / "whole/classifier/squeezenet1_1/seed-0" / name
        broken = tmp_path / "broken/classifier/squeezenet1_1/seed-0" / name
        assert whole.read_text() == broken.read_text(), name


@pytest.mark.thorough
def test_report_of_two_runs(job, tmp_path):
    run = job[0] / "run"
    shutil.copytree(run, tmp_path / "second")
    assert weakseg("report", run, tmp_path / "second", "--out", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report
    assert (tmp_path / "out/index.html").exists()


def test_heatmaps_are_refused_of_a_network_that_other_settings_made(copy, capsys):
    """Dealt out anew, test patients would be those that the network was trained on."""
    folder, config = copy
    before = tree(folder / "run/masks")
    for change in ("data.split.seed=7", "classifier.epochs=1", "data.image_size=96"):
        args = ["--run-dir", folder / "run", "--set", change]
        assert weakseg("heatmap-segment", config, *args) == 2
        assert "no classifier of these settings" in capsys.readouterr().err
    assert tree(folder / "run/masks") == before


@pytest.mark.thorough
def test_predict_keeps_to_the_network_and_settings_that_made_the_masks(copy, tmp_path, capsys):
    folder, config = copy
    image = folder / "data/images/p00_0.png"
    other = ["--set", "classifier.arch=shufflenet_v2_x0_5", "--set", "data.image_size=96"]
    args = ["--run-dir", folder / "run", "--set", "classifier.seeds=[0]"]
    assert weakseg("predict", folder / "run", image, "--out", tmp_path / "a") == 0
    assert weakseg("train-classifier", config, *args, *other) == 0
    assert weakseg("predict", folder / "run", image, "--out", tmp_path / "b") == 0
    assert (tmp_path / "a/p00_0.png").read_bytes() == (tmp_path / "b/p00_0.png").read_bytes()
    assert weakseg("train-classifier", config, *args, "--set", "classifier.epochs=1") == 0
    capsys.readouterr()
    seed = ["--seed", "0"]
    assert weakseg("predict", folder / "run", image, "--out", tmp_path / "c", *seed) == 2
    assert "another network" in capsys.readouterr().err
    assert weakseg("report", folder / "run", "--out", tmp_path / "r") == 2
    assert "another network" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
    assert not (tmp_path / "r").exists()


def test_overlays_never_overwrite_their_input(job, tmp_path, capsys):
    shutil.copytree(job[0] / "data/images", tmp_path / "imgs/overlays")
    before = tree(tmp_path)
    args = [tmp_path / "imgs/overlays", "--out", tmp_path / "imgs", "--overlays"]
    assert weakseg("predict", job[0] / "run", *args) == 2
    assert "overwrite" in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_masks_of_an_earlier_call_are_not_taken_for_images(job, tmp_path):
    shutil.copytree(job[0] / "data/images", tmp_path / "imgs")
    for _ in range(2):
        args = [tmp_path / "imgs", "--out", tmp_path / "imgs/masks"]
        assert weakseg("predict", job[0] / "run", *args) == 0
        assert len(read_rows(tmp_path / "imgs/masks/predictions.csv")) == 36


def test_a_file_cut_short_is_refused_or_skipped(job, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("p00_0", "p00_1", "p00_2"):
        whole = (job[0] / f"data/images/{name}.png").read_bytes()
        (folder / f"{name}.png").write_bytes(whole[: len(whole) // 2] if name == "p00_1" else whole)
    out = ["--out", tmp_path / "o"]
    assert weakseg("predict", job[0] / "run", folder, *out) == 2
    assert not (tmp_path / "o").exists()
    assert weakseg("predict", job[0] / "run", folder, *out, "--skip-unreadable") == 0
    rows = read_rows(tmp_path / "o/predictions.csv")
    assert [r["mask"] for r in rows] == ["p00_0.png", "p00_2.png"]


def test_of_an_image_that_breaks_half_way_no_lesion_is_told_and_of_others_each_once(
    job, tmp_path, monkeypatch
):
    images = job[0] / "data/images"

    def write(path, mask, image):
        write_mask(path, mask, image)
        if Path(image).stem == "p00_1":
            raise DataError("It breaks.")

    monkeypatch.setattr(writer, "write_mask", write)
    files = [images / f"{name}.png" for name in ("p00_0", "p00_1", "p00_2")]
    args = [*files, "--out", tmp_path / "o", "--skip-unreadable", "--method", "gradcam-quantile"]
    assert weakseg("predict", job[0] / "run", *args) == 0
    rows = read_rows(tmp_path / "o/predictions.csv")
    assert [r["mask"] for r in rows] == ["p00_0.png", "p00_2.png"]
    lesions = [(Path(r["file"]).stem, r["lesion"]) for r in read_rows(tmp_path / "o/lesions.csv")]
    assert {name for name, _ in lesions} == {"p00_0", "p00_2"}
    assert len(lesions) == len(set(lesions))
    # No file without a row either.
    written = {p.name for p in (tmp_path / "o").iterdir()}
    assert written == {"predictions.csv", "lesions.csv", "p00_0.png", "p00_2.png"}


def test_a_runs_own_weights_start_another_training(job, tmp_path):
    folder, config = job
    best = folder / "run/classifier/squeezenet1_1/seed-0/best.safetensors"
    args = ["--set", f"classifier.weights={best}", "--set", "classifier.epochs=1"]
    args += ["--set", "classifier.seeds=[0]", "--run-dir", tmp_path / "run"]
    assert weakseg("train-classifier", config, *args) == 0
    entry = read_json(tmp_path / "run/run.json")["stages"]["classifier/squeezenet1_1/0"]
    assert entry["random_tensors"] == []


def test_no_file_of_the_run_is_without_a_name_in_the_layout(job):
    assert files_of(job[0] / "run") == named_files(job[0] / "run")
