"""Segmenters screened by the classifiers, and rules that search, by the command line."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.tiny import pixels, read_rows, tree, weakseg, write_config, write_manifest, write_set
from weakseg import layout
from weakseg.config import load_config
from weakseg.data.cases import Case
from weakseg.methods import gate as segmenter_predictor
from weakseg.methods.find import load_method
from weakseg.outputs import list_outputs
from weakseg.runs import Run, read_json
from weakseg.scores.false_alarms import cuts_for_false_alarms
from weakseg.scores.on_labels import counts
from weakseg.scores.stored import read_per_case, read_summary

pytestmark = pytest.mark.thorough

CONFIG = """
name: gated
data: {{manifest: {manifest}, image_size: 64, split: {{val: 0.08, test: 0.25}}}}
classifier: {{arch: squeezenet1_1, epochs: 6, batch_size: 8, seeds: [0, 1]}}
heatmap: {{layer: features.4}}
masks: {{rules: [fixed, {{rule: two-tone, search: {{warm: [0.2, 0.5], blur: [0.0, 0.03]}}}}],
        gate: 0.0}}
scores: {{bootstrap: 100, floors: false}}
report: {{gallery: 1}}
segmenters:
  net: {{arch: "encoder-unet:squeezenet1_1", epochs: 1, steps: 6, batch_size: 4, average: none,
        threshold: 0.1, seeds: [0, 1]}}
  pupil: {{arch: "encoder-unet:squeezenet1_1", masks: gradcam-two-tone, epochs: 1, steps: 1,
          batch_size: 4, seeds: [0]}}
"""
NET = ("--only", "net")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """One `compare`; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("gate")
    config = write_config(folder, write_set(folder / "data"), CONFIG)
    assert weakseg("compare", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    return folder, config


@pytest.fixture
def copy(job, tmp_path):
    """A copy of its run, to be changed."""
    return Path(shutil.copytree(job[0] / "run", tmp_path / "run"))


def said(run, seeds):
    """Probability of a lesion by case: the mean of what some classifiers wrote."""
    tables = [
        pd.read_csv(run / f"classifier/squeezenet1_1/seed-{s}/predictions.csv").set_index("case")
        for s in seeds
    ]
    return sum(t["lesion_probability"] for t in tables) / len(tables)


def middle(run, seeds):
    """A gate that some test images pass, and others do not."""
    p = said(run, seeds)
    test = sorted(p[r["case"]] for r in read_rows(run / "splits.csv") if r["split"] == "test")
    return (test[len(test) // 2 - 1] + test[len(test) // 2]) / 2


def weights(run):
    return {p: p.stat().st_mtime_ns for p in run.rglob("best.safetensors")}


def rows_of(run, method="net"):
    table = read_per_case(run)
    return table[table["method"] == method]


def gated(job, run, *changes, rc=0):
    sets = [w for c in changes for w in ("--set", f"segmenters.net.{c}")]
    assert weakseg("train-segmenter", job[1], "--run-dir", run, *NET, *sets) == rc


def check_rows(plain, run, rows, p, gate):
    """Every mask is empty below the gate, and as it was above."""
    assert 0 < rows["gated"].sum() < len(rows)
    for _, r in rows.iterrows():
        assert r["probability"] == pytest.approx(p[r["case"]], abs=2e-6)
        assert r["gated"] == (p[r["case"]] < gate)
        mask = pixels(run / f"masks/net/seed-{r['seed']}/{r['case']}.png")
        before = pixels(plain / f"masks/net/seed-{r['seed']}/{r['case']}.png")
        np.testing.assert_array_equal(mask, 0 * before if r["gated"] else before)
    emptied = rows[rows["gated"] & ~rows["has_lesion"].astype(bool)]
    assert not emptied["false_alarm"].astype(bool).any()


def test_each_network_is_screened_by_the_classifier_of_its_seed(job, copy):
    before, gate = weights(copy), middle(copy, [0])
    assert not rows_of(copy)["gated"].any()
    assert rows_of(copy)["probability"].isna().all()
    gated(job, copy, f"gate={gate}")
    assert weights(copy) == before
    held = read_json(copy / "masks/net/threshold.json")
    for seed in (0, 1):
        entry = held[f"seed-{seed}"]
        assert (entry["gate"], entry["gate_by"]) == (pytest.approx(gate), [seed])
        assert entry["masks_seen"] == rows_of(job[0] / "run")["masks_seen"].max()
    rows = rows_of(copy)
    check_rows(job[0] / "run", copy, rows[rows["seed"] == 0], said(copy, [0]), gate)
    told = rows[rows["seed"] == 1]
    assert (told["gated"] == (told["case"].map(said(copy, [1])) < gate)).all()
    summary = read_summary(copy).set_index("method")
    lesion = rows[rows["has_lesion"].astype(bool)]
    assert summary.loc["net", "gated_lesions"] == pytest.approx(lesion["gated"].mean(), abs=1e-5)


def test_a_mean_of_networks_is_screened_by_all_classifiers_and_so_are_new_images(
    job, copy, tmp_path, monkeypatch
):
    folder, _ = job
    gate = middle(copy, [0, 1])
    gated(job, copy, "ensemble=true", f"gate={gate}")
    entry = read_json(copy / "masks/net/threshold.json")["seed-0"]
    assert (entry["networks"], entry["gate_by"]) == ([0, 1], [0, 1])
    rows, p = rows_of(copy), said(copy, [0, 1])
    assert set(rows["seed"]) == {0}
    assert (rows["gated"] == (rows["case"].map(p) < gate)).all()
    images = [folder / f"data/images/{c}.png" for c in rows["case"]]
    out = tmp_path / "out"
    classify, asked = segmenter_predictor.predict_probabilities, []

    def counted(*args):
        asked.append(args)
        return classify(*args)

    monkeypatch.setattr(segmenter_predictor, "predict_probabilities", counted)
    assert weakseg("predict", copy, *images, "--method", "net", "--out", out) == 0
    assert len(asked) == 2 * len(images)  # each image once by each of two classifiers
    for c in rows["case"]:
        made = pixels(copy / f"masks/net/seed-0/{c}.png")
        np.testing.assert_array_equal(pixels(out / f"{c}.png"), made)
    written = {Path(r["file"]).stem: r for r in read_rows(out / "predictions.csv")}
    for c in rows["case"]:
        assert float(written[c]["lesion_probability"]) == pytest.approx(p[c], abs=1e-4)


def test_a_seed_that_no_classifier_has_is_screened_by_all(job, copy):
    gated(job, copy, "seeds=[7]", "gate=0.5")
    entry = read_json(copy / "masks/net/threshold.json")["seed-7"]
    assert entry["gate_by"] == [0, 1]
    rows = rows_of(copy)
    assert (rows["gated"] == (rows["case"].map(said(copy, [0, 1])) < 0.5)).all()


def test_as_the_run_s_gate(job, copy):
    def net(gate):
        command = ("train-segmenter", job[1], "--run-dir", copy, *NET)
        sets = ("--set", "segmenters.net.gate=run", "--set", f"masks.gate={gate}")
        assert weakseg(*command, *sets) == 0
        return read_json(copy / "masks/net/threshold.json")

    assert net("none")["seed-0"]["gate"] == 0.0
    assert net(0.25)["seed-0"]["gate"] == 0.25
    held = net("validation")
    for seed in (0, 1):
        table = pd.read_csv(copy / f"classifier/squeezenet1_1/seed-{seed}/predictions.csv")
        val = table[table["split"] == "val"]
        best = max(
            val["lesion_probability"],
            key=lambda t: (
                (val["lesion_probability"] >= t)[val["label"] == "tumor"].mean()
                - (val["lesion_probability"] >= t)[val["label"] == "normal"].mean()
            ),
        )
        youden = [
            (val["lesion_probability"] >= t)[val["label"] == "tumor"].mean()
            - (val["lesion_probability"] >= t)[val["label"] == "normal"].mean()
            for t in (best, held[f"seed-{seed}"]["gate"])
        ]
        assert youden[0] == pytest.approx(youden[1])


def test_peak_and_gate_are_chosen_on_the_validation_labels(job, copy, tmp_path):
    before = weights(copy)
    plain = read_json(copy / "masks/net/threshold.json")["seed-0"]
    gated(job, copy, "ensemble=true", "gate=run", "false_alarms=0")
    assert weights(copy) == before
    entry = read_json(copy / "masks/net/threshold.json")["seed-0"]
    assert entry["gate_by"] == [0, 1]
    assert entry["masks_seen"] == plain["masks_seen"]  # none of the validation split's
    config = load_config(job[1], ["segmenters.net.ensemble=true"])
    assert config.masks.gate == 0.0  # which is not what is taken
    rows = [r for r in read_rows(copy / "splits.csv") if r["split"] == "val"]
    method = load_method(copy, "net", device="cpu")
    found = list(method.predict_all([Case(r["case"], Path(r["image"]), "") for r in rows]))
    lesion = [r["label"] == "tumor" for r in rows]
    peaks = [float(f.map.max()) if (f.map > 0.1).any() else 0.0 for f in found]
    p = said(copy, [0, 1])
    cuts = cuts_for_false_alarms(lesion, [p[r["case"]] for r in rows], peaks, 0.0)
    assert (entry["gate"], entry["inference"]["min_peak"]) == pytest.approx(cuts)
    assert max(cuts) > 0
    assert not any(f.mask.any() for f, ill in zip(found, lesion, strict=True) if not ill)
    assert entry["on_labels"] == counts(lesion, [f.mask.any() for f in found])
    test = rows_of(copy)["case"]
    images = [job[0] / f"data/images/{c}.png" for c in test]
    assert weakseg("predict", copy, *images, "--method", "net", "--out", tmp_path) == 0
    for c in test:
        np.testing.assert_array_equal(
            pixels(tmp_path / f"{c}.png"), pixels(copy / f"masks/net/seed-0/{c}.png")
        )


def test_without_a_gate_the_peak_alone_is_chosen(job, copy):
    gated(job, copy, "false_alarms=0.0")
    for entry in read_json(copy / "masks/net/threshold.json").values():
        assert entry["gate"] == 0.0
        assert "gate_by" not in entry
        assert entry["inference"]["min_peak"] > 0


def test_another_classifier_makes_its_masks_again(job, copy, capsys):
    gated(job, copy, "gate=0.5")
    capsys.readouterr()
    gated(job, copy, "gate=0.5")
    assert "masks of net: up to date" in capsys.readouterr().err
    one, other = (copy / f"classifier/squeezenet1_1/seed-{s}/best.safetensors" for s in (0, 1))
    shutil.copy(other, one)
    image = job[0] / "data/images/p00_0.png"
    out = ("--method", "net", "--seed", "0", "--out", copy / "out")
    assert weakseg("predict", copy, image, *out) == 2
    assert "another network" in capsys.readouterr().err
    gated(job, copy, "gate=0.5", rc=2)
    told = capsys.readouterr().err
    assert "classifier/squeezenet1_1/seed-0/best.safetensors holds something else" in told
    record_as_trained(copy)
    gated(job, copy, "gate=0.5")
    assert "masks of net: up to date" not in capsys.readouterr().err


def record_as_trained(folder):
    """As if a device that does not repeat itself had trained the first classifier again."""
    run, stage = Run(folder), layout.classifier_stage("squeezenet1_1", 0)
    stages, part = run.record["stages"], layout.seed_folder(folder, "squeezenet1_1", 0)
    files = [part / name for name in (layout.BEST, layout.LAST, layout.METRICS)]
    stages[stage]["outputs"] = list_outputs(folder, stage, files)
    said = stages[layout.predictions_stage("squeezenet1_1", 0)]
    said["inputs"] = {stage: stages[stage]["outputs"]["hash"]}
    run.update(stages=stages)


def test_without_classifiers_it_is_refused_before_any_training(job, tmp_path, capsys):
    run = tmp_path / "r"
    gated(job, run, "gate=0.5", rc=2)
    told = capsys.readouterr().err
    assert "The gate of net needs the run's classifiers" in told
    assert "segmenters.net.gate" in told
    assert "weakseg train-classifier CONFIG" in told
    assert "Traceback" not in told
    assert not list(run.rglob("*.safetensors"))


@pytest.mark.parametrize("value", ["1.5", "-0.1", "validation", "yes", "[0.5]"])
def test_a_gate_that_is_none_is_refused(job, tmp_path, capsys, value):
    gated(job, tmp_path / "r", f"gate={value}", rc=2)
    assert "segmenters.net.gate" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_volumes_have_no_gate(tmp_path, capsys):
    from tests.test_segment_volumes import CONFIG as VOLUMES
    from tests.test_segment_volumes import write_volumes

    config = write_config(tmp_path, write_volumes(tmp_path / "data"), VOLUMES)
    for gate in ("0.5", "run"):
        change = ("--set", f"segmenters.unet.gate={gate}")
        assert weakseg("train-segmenter", config, "--run-dir", tmp_path / "r", *change) == 2
        told = capsys.readouterr().err
        assert "there is none of volumes" in told
        assert "segmenters.unet.gate" in told
    assert not list((tmp_path / "r").rglob("*.safetensors"))


# Rules that search


def lesions(run, split):
    return [
        r for r in read_rows(run / "splits.csv") if r["split"] == split and r["label"] == "tumor"
    ]


def test_a_search_counts_its_masks_and_teaches_with_what_it_found(job):
    run = job[0] / "run"
    seen = len(lesions(run, "val"))
    for seed in (0, 1):
        entry = read_json(run / "masks/gradcam-two-tone/threshold.json")[f"seed-{seed}"]
        found = entry["search"]["candidates"]
        assert len(found) == 4
        best = max(found, key=lambda c: c["dice"])
        assert {k: entry["rule"][k] for k in ("warm", "blur")} == {
            k: best[k] for k in ("warm", "blur")
        }
        assert entry["masks_seen"] == seen
    summary = read_summary(run).set_index("method")
    assert summary.loc["gradcam-two-tone", "masks_seen"] == seen
    assert summary.loc["pupil", "masks_seen"] == seen
    assert "masks of the validation split: warm" in (run / "report/index.html").read_text()


def test_a_second_call_makes_nothing_again(job, capsys):
    folder, config = job
    before = tree(folder / "run/masks") | tree(folder / "run/segmenter")
    assert weakseg("compare", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    assert tree(folder / "run/masks") | tree(folder / "run/segmenter") == before
    held = load_config(folder / "run/config.yaml").masks.rules[1]
    assert held.search == {"warm": [0.2, 0.5], "blur": [0.0, 0.03]}


def test_predict_takes_no_method_that_searched_by_itself(job, copy, tmp_path, capsys):
    image = job[0] / "data/images/p00_0.png"
    assert weakseg("predict", copy, image, "--out", tmp_path / "a") == 0
    assert "method gradcam-fixed" in capsys.readouterr().err
    named = ("--method", "gradcam-two-tone", "--seed", "0", "--out", tmp_path / "b")
    case = next(r for r in lesions(copy, "test"))["case"]
    assert weakseg("predict", copy, job[0] / f"data/images/{case}.png", *named) == 0
    made = pixels(copy / f"masks/gradcam-two-tone/seed-0/{case}.png")
    np.testing.assert_array_equal(pixels(tmp_path / f"b/{case}.png"), made)


def test_without_validation_masks_a_search_is_left_out(job, copy, tmp_path, capsys):
    folder, _ = job
    val = {r["case"] for r in lesions(copy, "val")}
    rows = [
        (
            folder / "data" / r["image"],
            r["label"],
            "" if Path(r["image"]).stem in val else folder / "data" / r["mask"],
            r["patient"],
        )
        for r in read_rows(folder / "data/labels.csv")
    ]
    config = write_config(tmp_path, write_manifest(tmp_path / "bare.csv", rows), CONFIG)
    run = tmp_path / "bare"
    only = ("--set", "classifier.seeds=[0]")
    for command in ("train-classifier", "heatmap-segment"):
        assert weakseg(command, config, "--run-dir", run, "--device", "cpu", *only) == 0
    told = capsys.readouterr().err
    assert "two-tone: left out, no lesion image of the validation split has a mask" in told
    assert set(read_summary(run)["method"]) == {"gradcam-fixed"}
